"""Pods as the API server shows them → how many are Ready, and why others are not, in their own words."""

from __future__ import annotations

from typing import Any

import pytest

from modeldeployment.decision.evidence import Workload
from modeldeployment.serving.pods import is_ready, workload


def pod(name: str = "fraud-x", *, ready: bool = False, gone: bool = False, **status: Any) -> dict[str, Any]:
    """A pod with this status."""
    conditions = [{"type": "Ready", "status": str(ready)}, *status.pop("conditions", ())]
    metadata = {"name": name, **({"deletionTimestamp": "2026-11-24T12:00:00Z"} if gone else {})}
    return {"metadata": metadata, "status": {"conditions": conditions, **status}}


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    """A container that waits."""
    return {"name": "model", "state": {"waiting": {"reason": reason, "message": message}}, **more}


def failing(*statuses: dict[str, Any]) -> dict[str, Any]:
    """A pod whose containers are so."""
    return pod(containerStatuses=list(statuses))


LAST = {"lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, "restartCount": 4}
DEPLOYMENT = {"metadata": {"name": "fraud"}, "spec": {"replicas": 3}}
NO_QUOTA = {
    **DEPLOYMENT,
    "status": {
        "conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}]
    },
}
UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes have a GPU",
}

_TROUBLES: dict[str, tuple[list[dict[str, Any]], dict[str, Any] | None, tuple[str, str]]] = {
    "none": ([pod(ready=True)], DEPLOYMENT, ("", "")),
    "image cannot be pulled": (
        [failing(waiting("ImagePullBackOff", "no such image"))],
        DEPLOYMENT,
        ("ImagePullBackOff", "pod fraud-x: no such image"),
    ),
    "crash loop, with the last exit": (
        [failing(waiting("CrashLoopBackOff", "back-off", **LAST))],
        DEPLOYMENT,
        ("CrashLoopBackOff", "pod fraud-x: back-off (last exit code 137, OOMKilled; 4 restarts)"),
    ),
    "just terminated": (
        [failing({"name": "model", "state": {"terminated": {"exitCode": 3, "reason": "Error"}}})],
        DEPLOYMENT,
        ("Error", "pod fraud-x: exit code 3"),
    ),
    "an init container that completed is no trouble": (
        [pod(initContainerStatuses=[{"name": "fetch", "state": {"terminated": {"exitCode": 0}}}])],
        DEPLOYMENT,
        ("", ""),
    ),
    "an init container that cannot start": (
        [pod(initContainerStatuses=[waiting("ErrImagePull", "denied")])],
        DEPLOYMENT,
        ("ErrImagePull", "pod fraud-x: denied"),
    ),
    "starting is no trouble": ([failing(waiting("ContainerCreating"))], DEPLOYMENT, ("", "")),
    "unschedulable": (
        [pod(conditions=[UNSCHEDULABLE])],
        DEPLOYMENT,
        ("Unschedulable", "pod fraud-x: 0/3 nodes have a GPU"),
    ),
    "never Ready": (
        [pod(conditions=[{"type": "ContainersReady", "status": "False", "message": "probe failed"}])],
        DEPLOYMENT,
        ("ContainersNotReady", "pod fraud-x: probe failed"),
    ),
    "pods that were not even made": ([], NO_QUOTA, ("FailedCreate", "quota")),
    "the worst of several": (
        [
            failing(waiting("CrashLoopBackOff", "back-off")),
            pod("b", containerStatuses=[waiting("ErrImagePull", "denied")]),
        ],
        DEPLOYMENT,
        ("ErrImagePull", "pod b: denied"),
    ),
    "a reason that nobody knows": ([failing(waiting("NewReason", "?"))], DEPLOYMENT, ("NewReason", "pod fraud-x: ?")),
    "a pod on its way out is not asked": ([pod(gone=True, containerStatuses=[waiting("Error")])], DEPLOYMENT, ("", "")),
    "no status yet": ([{"metadata": {"name": "p"}}], DEPLOYMENT, ("", "")),
}


@pytest.mark.parametrize(("pods", "deployment", "expected"), _TROUBLES.values(), ids=_TROUBLES)
def test_trouble(pods: list[dict[str, Any]], deployment: dict[str, Any] | None, expected: tuple[str, str]) -> None:
    """The pods' own reason and words, the worst first."""
    found = workload(deployment, pods)
    assert (found.trouble, found.trouble_message) == expected


def test_ready_counts_no_pod_on_its_way_out() -> None:
    """A pod that is being deleted still says Ready, and takes no requests any more."""
    pods = [pod("a", ready=True), pod("b", ready=True, gone=True), pod("c")]
    assert workload(DEPLOYMENT, pods).ready == 1
    assert [is_ready(p) for p in pods] == [True, False, False]


def test_without_a_deployment_nothing_was_asked_for() -> None:
    """None is not zero: there is no Deployment yet."""
    assert workload(None, ()) == Workload(None, 0)
    assert workload({"metadata": {}, "spec": {}}, ()).replicas == 1, "Kubernetes' default"
