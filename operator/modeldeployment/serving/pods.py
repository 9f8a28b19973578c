"""Pods as the API server shows them → how many are Ready, and the pods' own reason why others are not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from modeldeployment.api.base import JSON
from modeldeployment.decision.evidence import Workload

# The worse the earlier: of several troubles the first is told.
_WORST_FIRST = (
    "InvalidImageName",
    "ImagePullBackOff",
    "ErrImagePull",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "CrashLoopBackOff",
    "OOMKilled",
    "Error",
    "Unschedulable",
    "FailedCreate",
    "ContainersNotReady",
)


def is_ready(pod: JSON) -> bool:
    """Whether a pod is Ready and not on its way out."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def workload(deployment: JSON | None, pods: Iterable[JSON]) -> Workload:
    """One revision's pods, and the worst trouble among them."""
    live = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    troubles = [trouble for pod in live if not is_ready(pod) for trouble in _troubles(pod)]
    if deployment is not None:
        troubles.extend(_not_created(deployment))
    reason, message = min(troubles, key=_rank, default=("", ""))
    return Workload(
        replicas=None if deployment is None else deployment["spec"].get("replicas", 1),
        ready=sum(is_ready(pod) for pod in live),
        nodes={pod["metadata"]["name"]: node for pod in live if (node := pod.get("spec", {}).get("nodeName"))},
        trouble=reason,
        trouble_message=message,
    )


def _rank(trouble: tuple[str, str]) -> int:
    reason = trouble[0]
    return _WORST_FIRST.index(reason) if reason in _WORST_FIRST else len(_WORST_FIRST)


def _troubles(pod: JSON) -> Iterable[tuple[str, str]]:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = container.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            why = waiting.get("message", "")
            yield waiting["reason"], f"pod {name}: {why}{_last_exit(container)}"
        ended = container.get("state", {}).get("terminated")
        if ended and ended.get("exitCode"):
            yield ended.get("reason", "Error"), f"pod {name}: exit code {ended['exitCode']}"
        before = container.get("lastState", {}).get("terminated")
        if before and before.get("exitCode") and container.get("state", {}).get("running"):
            # A crash loop between two crashes: it runs, and what ended it last is still the reason.
            yield before.get("reason", "Error"), f"pod {name}: started again{_last_exit(container)}"
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield condition.get("reason", "Unschedulable"), f"pod {name}: {condition.get('message', '')}"
        if condition["type"] == "ContainersReady" and condition["status"] == "False":
            yield "ContainersNotReady", f"pod {name}: {condition.get('message', 'its containers are not Ready')}"


def _last_exit(container: dict[str, Any]) -> str:
    ended = container.get("lastState", {}).get("terminated")
    if not ended:
        return ""
    reason = f", {ended['reason']}" if ended.get("reason") else ""
    restarts = container.get("restartCount", 0)
    return f" (last exit code {ended.get('exitCode')}{reason}; {restarts} restarts)"


def _not_created(deployment: JSON) -> Iterable[tuple[str, str]]:
    """Pods that the API server did not even let be made: quota, Pod Security, a webhook."""
    for condition in deployment.get("status", {}).get("conditions") or ():
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            yield condition.get("reason", "FailedCreate"), str(condition.get("message", ""))
