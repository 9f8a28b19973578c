"""ModelDeployment: the desired state, written by people or GitOps only."""

from __future__ import annotations

from enum import StrEnum

from pydantic import ConfigDict, Field

from modeldeployment.api.answerable import answerable
from modeldeployment.api.base import Model, extend
from modeldeployment.api.model import ModelSpec
from modeldeployment.api.objectives import Objective
from modeldeployment.api.rollout import Rollout
from modeldeployment.api.serving import Serving
from modeldeployment.api.status import ModelDeploymentStatus
from modeldeployment.api.traffic import Traffic

__all__ = ["ModelDeploymentSpec", "ModelDeploymentStatus", "Suspend", "SuspendMode"]


class SuspendMode(StrEnum):
    """What a person's pause stops."""

    ADVANCE = "Advance"
    """Nothing starts, no weight is raised, nothing is promoted; a bad canary is still taken back."""
    ALL = "All"
    """Nothing moves at all."""


class Suspend(Model):
    """A person's pause. `kubectl model pause` owns this field by server-side apply, so that Git need not have it."""

    mode: SuspendMode = Field(
        default=SuspendMode.ADVANCE,
        description="Advance: nothing starts, no weight is raised, nothing is promoted, but a bad canary is still "
        "taken back. All: nothing moves.",
    )
    reason: str = Field(default="", max_length=256, description="Why, and by whom: shown in the condition Progressing.")


class ModelDeploymentSpec(Model):
    """How good a model must be, and what serves it."""

    model_config = ConfigDict(json_schema_extra=extend(*answerable()))

    model: ModelSpec = Field(description="Which version to serve.")
    serving: Serving = Field(description="What runs it.")
    traffic: Traffic = Field(description="What carries requests to it.")
    objectives: list[Objective] = Field(
        default_factory=list,
        max_length=16,
        description="How good it must be. None: the defaults of the ModelPolicy.",
        json_schema_extra=extend(list_map_keys=("name",)),
    )
    rollout: Rollout = Field(
        default_factory=Rollout,
        description="How a new version comes, and what takes it back.",
        json_schema_extra={"default": {}},
    )
    suspend: Suspend | None = Field(
        default=None, description="A person's pause (kubectl model pause); leave it out of Git."
    )
