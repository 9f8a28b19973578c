"""Is a new status worth a write now? What only wobbles is written at a bounded rate."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from modeldeployment.api.status import Health, ModelDeploymentStatus

IN_TRIAL = timedelta(seconds=5)
STEADY = timedelta(minutes=5)
UNKNOWN = timedelta(minutes=1)
"""While nobody knows how it does, people read the message that says why."""

_WOBBLES: dict[str, Any] = {
    "rollout": {"errors_query", "evidence_time", "latency_query", "message", "rules", "unavailable_seconds"},
    "trail": True,
    "budget": True,
    "objectives": {
        "__all__": {
            **dict.fromkeys(("value", "samples", "data_age_seconds", "message", "reason"), True),
            "budget": {"remaining", "since", "burning"},
        }
    },
    "conditions": {"__all__": {"message", "last_transition_time"}},
}


def worth_writing(
    new: ModelDeploymentStatus, written: ModelDeploymentStatus, written_at: datetime | None, now: datetime
) -> bool:
    """Whether something changed that a person would care about, or the rest is old enough."""
    if material(new) != material(written):
        return True
    if new == written:
        return False
    compared = new.rollout and (new.canary or new.rollout.compare_time)
    every = IN_TRIAL if compared else UNKNOWN if new.health is Health.UNKNOWN else STEADY
    return written_at is None or now - written_at >= every


def material(status: ModelDeploymentStatus) -> dict[str, Any]:
    """The status without what wobbles; verdicts of the rules stay."""
    facts = status.model_dump(exclude=_WOBBLES)
    facts["rules"] = [(r.name, r.verdict) for r in status.rollout.rules] if status.rollout else []
    return facts
