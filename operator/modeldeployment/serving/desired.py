"""Status → how many pods each revision should have. None: as many as it has."""

from __future__ import annotations

import math

from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.api.status import ModelDeploymentStatus
from modeldeployment.decision.view import FULL


def pods_wanted(spec: ModelDeploymentSpec, status: ModelDeploymentStatus) -> dict[str, int | None]:
    """Revision → pods. Revisions that are not named have no part any more: 0.

    Those that drain keep what they have. The version kept warm has what all of the traffic needs, so that going back
    needs no start.
    """
    wanted: dict[str, int | None] = {d.revision: None for d in status.draining}
    if status.previous:
        wanted[status.previous.revision] = spec.serving.replicas
    if status.canary:
        wanted[status.canary.revision] = _canary(spec, status)
    if status.stable:
        wanted[status.stable.revision] = spec.serving.replicas
    return wanted


def _canary(spec: ModelDeploymentSpec, status: ModelDeploymentStatus) -> int:
    rollout, full = status.rollout, spec.serving.replicas
    if status.stable is None or rollout is None or rollout.step >= rollout.steps:
        return full
    steps = spec.rollout.canary.plan()
    weight = steps[min(rollout.step, len(steps) - 1)][0]
    if status.canary and status.canary.weight:  # pods go after their traffic, not before
        weight = max(weight, status.canary.weight)
    return max(1, math.ceil(full * min(weight, FULL) / FULL))
