"""A pod's status, computed from its containers as a kubelet computes it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lab.container import Container

Object = dict[str, Any]
_OURS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady")


def pod_status(
    pod: Object,
    containers: Sequence[Container],
    init_containers: Sequence[Container],
    *,
    initialized: bool,
    terminating: bool,
    pod_ip: str,
    host_ip: str,
    start_time: str,
    now: str,
) -> Object:
    """The status to write. Conditions that others own are carried over from `pod`."""
    unready = [container.name for container in containers if not container.ready or terminating]
    incomplete = [container.name for container in init_containers if container.finished != 0]
    finished = [container.finished for container in containers]
    if containers and all(code is not None for code in finished):
        phase = "Succeeded" if all(code == 0 for code in finished) else "Failed"
    elif any(container.running or container.status()["restartCount"] for container in containers):
        phase = "Running"
    else:
        phase = "Pending"
    containers_ready = _verdict(
        "ContainersReady", not unready, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    )
    if phase == "Succeeded":
        containers_ready |= {"reason": "PodCompleted", "message": ""}
    incomplete_message = f"containers with incomplete status: [{' '.join(incomplete)}]"
    facts = [
        {"type": "PodReadyToStartContainers", "status": "True"},
        _verdict("Initialized", initialized, "ContainersNotInitialized", incomplete_message),
        _ready(pod, containers_ready),
        containers_ready,
    ]
    status: Object = {
        "phase": phase,
        "observedGeneration": pod["metadata"].get("generation", 1),
        "conditions": conditions(pod, facts, now),
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
        "podIP": pod_ip,
        "podIPs": [{"ip": pod_ip}],
        "startTime": start_time,
        "containerStatuses": [container.status() for container in containers],
    }
    if init_containers:
        status["initContainerStatuses"] = [container.status() for container in init_containers]
    return status


def bare_status(pod: Object, pod_ip: str, host_ip: str, now: str) -> Object:
    """A running, ready pod without any process: for fleets of which only the objects matter."""
    containers = [
        {
            "name": spec["name"],
            "image": spec["image"],
            "imageID": spec["image"],
            "containerID": f"lab://{pod['metadata']['uid']}-{spec['name']}",
            "ready": True,
            "started": True,
            "restartCount": 0,
            "state": {"running": {"startedAt": now}},
            "lastState": {},
        }
        for spec in pod["spec"]["containers"]
    ]
    return {
        "phase": "Running",
        "observedGeneration": pod["metadata"].get("generation", 1),
        "conditions": conditions(pod, [{"type": kind, "status": "True"} for kind in _OURS], now),
        "hostIP": host_ip,
        "podIP": pod_ip,
        "podIPs": [{"ip": pod_ip}],
        "startTime": now,
        "containerStatuses": containers,
    }


def conditions(pod: Object, facts: list[Object], now: str) -> list[Object]:
    """The facts as conditions: lastTransitionTime moves only when a status does; others' conditions stay."""
    before = {condition["type"]: condition for condition in pod.get("status", {}).get("conditions", [])}
    merged = []
    for fact in facts:
        old = before.pop(fact["type"], None)
        same = old is not None and old["status"] == fact["status"]
        since = old["lastTransitionTime"] if old is not None and same else now
        merged.append({**fact, "lastTransitionTime": since, "lastProbeTime": None})
    return [*merged, *before.values()]


def _ready(pod: Object, containers_ready: Object) -> Object:
    have = {condition["type"]: condition["status"] for condition in pod.get("status", {}).get("conditions", [])}
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates", [])]
    missing = [gate for gate in gates if have.get(gate) != "True"]
    if containers_ready["status"] == "True" and missing:
        message = f"the status of pod readiness gate {missing[0]!r} is not True"
        return _verdict("Ready", False, "ReadinessGatesNotReady", message)
    return {**containers_ready, "type": "Ready"}


def _verdict(kind: str, good: bool, reason: str, message: str) -> Object:
    if good:
        return {"type": kind, "status": "True"}
    return {"type": kind, "status": "False", "reason": reason, "message": message}
