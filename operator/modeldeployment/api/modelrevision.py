"""ModelRevision: one immutable version of one model. Its identity is a hash over the model and what serves it."""

from __future__ import annotations

import hashlib
import json
import re
from enum import StrEnum

from pydantic import ConfigDict, Field

from modeldeployment.api.base import Model, StatusModel, extend, rule
from modeldeployment.api.conditions import Condition
from modeldeployment.api.model import ModelSpec
from modeldeployment.api.serving import Metrics, PodTemplate

_NAME_MAX = 46
"""So that a pod's name (revision, ReplicaSet's hash, five characters) is never cut and tells its revision."""
_DIGITS = 10


class Stage(StrEnum):
    """Where a revision is in its life."""

    STAGING = "Staging"
    PRODUCTION = "Production"
    ARCHIVED = "Archived"
    QUARANTINED = "Quarantined"


class ModelRevisionSpec(Model):
    """What is served: never changes."""

    model_config = ConfigDict(
        json_schema_extra=extend(
            rule(
                "self == oldSelf",
                "a ModelRevision never changes; change the ModelDeployment's spec, which makes a new revision",
            )
        )
    )

    model: ModelSpec = Field(description="Which version of which artifact.")
    template: PodTemplate = Field(description="The pods that serve it.")
    port: int = Field(default=8080, ge=1, le=65535, description="Port on which it answers requests.")
    metrics: Metrics = Field(
        default_factory=Metrics,
        description="How its metrics are read.",
        json_schema_extra={"default": {"dialect": "Generic"}},
    )


class ModelRevisionStatus(StatusModel):
    """Where it is in its life."""

    conditions: tuple[Condition, ...] = Field(
        default=(),
        max_length=8,
        description="Observations about it.",
        json_schema_extra=extend(list_map_keys=("type",)),
    )
    stage: Stage = Field(
        default=Stage.STAGING,
        description="Staging before it serves, Production while it is stable, Archived after, Quarantined if it was "
        "taken back.",
    )


def revision_hash(owner: str, spec: ModelRevisionSpec) -> str:
    """Ten hexadecimal digits over the owner's name and everything that is served.

    Defaults are left out: a field that a newer operator adds must not make every model roll out anew.
    """
    served = spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    content = json.dumps([owner, served], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:_DIGITS]


def revision_name(owner: str, spec: ModelRevisionSpec) -> str:
    """Name of the ModelRevision, its Deployment and its Service: `<owner>-<hash>`, at most 46 characters."""
    return f"{_stem(owner)}-{revision_hash(owner, spec)}"


def revision_pattern(owner: str) -> str:
    """A regular expression (RE2) for the names of all revisions of a ModelDeployment."""
    return f"{_stem(owner)}-[0-9a-f]{{{_DIGITS}}}"


def _stem(owner: str) -> str:
    return re.sub(r"[^a-z0-9-]", "-", owner)[: _NAME_MAX - _DIGITS - 1].rstrip("-")
