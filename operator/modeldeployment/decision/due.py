"""When a model wants to be decided upon again, if nothing happens to it before: its next deadline."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.api.quantities import seconds
from modeldeployment.api.status import ModelDeploymentStatus, RolloutStatus
from modeldeployment.decision.backward import WATCH_GRACE_SECONDS
from modeldeployment.decision.memory import COMPARE_SECONDS


def due(spec: ModelDeploymentSpec, status: ModelDeploymentStatus, now: datetime) -> datetime | None:
    """The next moment at which the clock alone may change something; None if there is none to come."""
    moments = list(_deadlines(spec, status.rollout)) if status.rollout else []
    if status.previous and status.previous.until:
        moments.append(status.previous.until)
    return min((moment for moment in moments if moment > now), default=None)


def _deadlines(spec: ModelDeploymentSpec, rollout: RolloutStatus) -> Iterator[datetime]:
    asked = spec.rollout
    if rollout.unavailable_since:
        most = WATCH_GRACE_SECONDS if rollout.promotion_time else seconds(asked.progress_deadline)
        yield rollout.unavailable_since + timedelta(seconds=max(0.0, most - rollout.unavailable_seconds))
    if rollout.suspend_time is None:
        yield rollout.start_time + timedelta(seconds=seconds(asked.deadline) + rollout.suspended_seconds)
    if rollout.compare_time:
        yield rollout.compare_time + timedelta(seconds=COMPARE_SECONDS)
    steps = asked.canary.plan()
    if rollout.weight_time and rollout.step < len(steps):
        yield rollout.weight_time + timedelta(seconds=steps[rollout.step][1])
