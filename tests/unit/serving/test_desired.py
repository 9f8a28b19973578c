"""Status → how many pods each revision should have."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from builders import model_deployment
from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.api.status import Draining, ModelDeploymentStatus, RevisionStatus, RolloutStatus
from modeldeployment.serving.desired import pods_wanted

NOW = datetime(2026, 11, 24, tzinfo=UTC)
STEPS = {"steps": [{"traffic": "10%"}, {"traffic": "50%"}]}


def role(name: str, **more: Any) -> RevisionStatus:
    """A revision with a part in serving."""
    return RevisionStatus(revision=name, version="1", **more)


def at(step: int, steps: int = 2) -> RolloutStatus:
    """A rollout at a step."""
    return RolloutStatus(revision="c", version="2", start_time=NOW, step=step, steps=steps)


_CASES: dict[str, tuple[dict[str, Any], dict[str, int | None]]] = {
    "nothing": ({}, {}),
    "the first version": ({"canary": role("c"), "rollout": at(0, 0)}, {"c": 10}),
    "stable": ({"stable": role("s")}, {"s": 10}),
    "first step": ({"stable": role("s"), "canary": role("c"), "rollout": at(0)}, {"s": 10, "c": 1}),
    "second step": ({"stable": role("s"), "canary": role("c"), "rollout": at(1)}, {"s": 10, "c": 5}),
    "to be promoted": ({"stable": role("s"), "canary": role("c"), "rollout": at(2)}, {"s": 10, "c": 10}),
    "a plan that was cut, while the router still sends the old share": (
        {"stable": role("s"), "canary": role("c", weight=50), "rollout": at(0)},
        {"s": 10, "c": 5},
    ),
    "a step of a plan that is gone": (
        {"stable": role("s"), "canary": role("c"), "rollout": at(7, 8)},
        {"s": 10, "c": 5},
    ),
    "watched": ({"stable": role("c"), "previous": role("s"), "rollout": at(2)}, {"c": 10, "s": 10}),
    "draining": ({"stable": role("s"), "draining": (Draining(revision="d", since=NOW),)}, {"s": 10, "d": None}),
}


@pytest.mark.parametrize(("given", "expected"), _CASES.values(), ids=_CASES)
def test_pods_wanted(given: dict[str, Any], expected: dict[str, int | None]) -> None:
    """Stable has all, a canary its step's share, the warm and the draining what they have, others none."""
    manifest = model_deployment({"spec.serving.replicas": 10, "spec.rollout.canary": STEPS})
    spec = ModelDeploymentSpec.model_validate(manifest["spec"])
    assert pods_wanted(spec, ModelDeploymentStatus(**given)) == expected


@pytest.mark.parametrize(
    ("replicas", "weight", "pods"), [(1, 1, 1), (3, 10, 1), (3, 34, 2), (3, 100, 3), (1000, 1, 10)]
)
def test_share_of_pods_is_rounded_up(replicas: int, weight: int, pods: int) -> None:
    """Never fewer pods than the share of the traffic needs, and never none."""
    plan = {"traffic": f"{weight}%"}
    manifest = model_deployment({"spec.serving.replicas": replicas, "spec.rollout.canary": plan})
    spec = ModelDeploymentSpec.model_validate(manifest["spec"])
    status = ModelDeploymentStatus(stable=role("s"), canary=role("c"), rollout=at(0, 1))
    assert pods_wanted(spec, status)["c"] == pods
