"""Conditions as Kubernetes writes them, and the words this operator uses in them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field

from modeldeployment.api.base import StatusModel

ConditionStatus = Literal["True", "False", "Unknown"]


class ConditionType(StrEnum):
    """Types of the conditions of a ModelDeployment. The first five are always there."""

    READY = "Ready"
    PROGRESSING = "Progressing"
    HEALTHY = "Healthy"
    EVIDENCE_AVAILABLE = "EvidenceAvailable"
    ROUTE_PROGRAMMED = "RouteProgrammed"
    STALLED = "Stalled"
    ROLLED_BACK = "RolledBack"


SUMMARY: tuple[ConditionType, ...] = (
    ConditionType.READY,
    ConditionType.PROGRESSING,
    ConditionType.HEALTHY,
    ConditionType.EVIDENCE_AVAILABLE,
    ConditionType.ROUTE_PROGRAMMED,
)


class Condition(StatusModel):
    """One observation about a resource (meta/v1 Condition)."""

    type: str = Field(min_length=1, max_length=64, description="What is observed, e.g. Ready.")
    status: ConditionStatus = Field(description="Whether it is so; Unknown while undecided.")
    reason: str = Field(min_length=1, max_length=128, description="Why, in one CamelCase word.")
    message: str = Field(max_length=768, description="Why, in a sentence.")
    observed_generation: int = Field(
        ge=0, le=2**53, description="The generation of the spec that this was observed of."
    )
    last_transition_time: datetime = Field(description="When status last changed.")


def set_condition(conditions: tuple[Condition, ...], new: Condition) -> tuple[Condition, ...]:
    """The conditions with `new` in place of its type; its transition time stays unless `status` differs."""
    out, found = [], False
    for old in conditions:
        if old.type == new.type:
            found = True
            kept = old.last_transition_time if old.status == new.status else new.last_transition_time
            out.append(new.model_copy(update={"last_transition_time": kept}))
        else:
            out.append(old)
    return tuple(out) if found else (*out, new)


def without(conditions: tuple[Condition, ...], types: Iterable[str]) -> tuple[Condition, ...]:
    """The conditions but those of these types."""
    gone = set(types)
    return tuple(c for c in conditions if c.type not in gone)


def find(conditions: tuple[Condition, ...], type_: str) -> Condition | None:
    """The condition of a type, if there is one."""
    return next((c for c in conditions if c.type == type_), None)
