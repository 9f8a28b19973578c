"""When a model wants to be decided upon again, if nothing happens to it before: its next deadline."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.api.quantities import seconds
from modeldeployment.api.status import ModelDeploymentStatus, RolloutStatus
from modeldeployment.decision.backward import WATCH_GRACE_SECONDS
from modeldeployment.decision.memory import COMPARE_SECONDS

_COMPARED = timedelta(seconds=COMPARE_SECONDS)


class Clock(StrEnum):
    """What runs out."""

    PODS = "Pods"
    """The revision on trial has too few Ready pods: the time it may have so."""
    STEP = "Step"
    """The least time of a step."""
    ROLLOUT = "Rollout"
    """The time for a verdict."""
    COMPARISON = "Comparison"
    """A comparison in the watch."""
    NEXT_COMPARISON = "NextComparison"
    """The rest between two of them."""
    WATCH = "Watch"
    """The version before is kept warm."""


class Deadline(NamedTuple):
    """A clock, and when it runs out."""

    clock: Clock
    time: datetime


def due(spec: ModelDeploymentSpec, status: ModelDeploymentStatus, now: datetime) -> datetime | None:
    """The next moment at which the clock alone may change something; None if there is none to come."""
    return min((deadline.time for deadline in deadlines(spec, status) if deadline.time > now), default=None)


def deadlines(spec: ModelDeploymentSpec, status: ModelDeploymentStatus) -> Iterator[Deadline]:
    """All clocks that run, also those that ran out."""
    if status.rollout:
        yield from _of_rollout(spec, status.rollout, compared=status.canary is not None and status.stable is not None)
    if status.previous and status.previous.until:
        yield Deadline(Clock.WATCH, status.previous.until)


def _of_rollout(spec: ModelDeploymentSpec, rollout: RolloutStatus, *, compared: bool) -> Iterator[Deadline]:
    asked = spec.rollout
    if rollout.unavailable_since:
        most = WATCH_GRACE_SECONDS if rollout.promotion_time else seconds(asked.progress_deadline)
        left = timedelta(seconds=max(0.0, most - rollout.unavailable_seconds))
        yield Deadline(Clock.PODS, rollout.unavailable_since + left)
    if compared and rollout.suspend_time is None:
        length = timedelta(seconds=seconds(asked.deadline) + rollout.suspended_seconds)
        yield Deadline(Clock.ROLLOUT, rollout.start_time + length)
    if rollout.compare_time:
        yield Deadline(Clock.COMPARISON, (rollout.weight_time or rollout.compare_time) + _COMPARED)
    if rollout.next_compare_time:
        yield Deadline(Clock.NEXT_COMPARISON, rollout.next_compare_time)
    steps = asked.canary.plan()
    if compared and rollout.weight_time and rollout.step < len(steps):
        yield Deadline(Clock.STEP, rollout.weight_time + timedelta(seconds=steps[rollout.step][1]))
