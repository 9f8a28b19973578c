"""All that a decision may look at, and the few questions every move asks of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from modeldeployment.api.modeldeployment import ModelDeploymentSpec, SuspendMode
from modeldeployment.api.objectives import Objective
from modeldeployment.api.rollout import OverrideAction
from modeldeployment.api.status import (
    DECISIONS_MAX,
    QUARANTINED_MAX,
    Cause,
    ChosenDialect,
    DecisionRecord,
    Draining,
    ModelDeploymentStatus,
    Quarantined,
    RevisionStatus,
    RolloutStatus,
)
from modeldeployment.decision.evidence import Evidence, Revision, Route, RouteState, Workload
from modeldeployment.decision.rules import objective_rules, trial_rules

DRAINING_MAX = 8
FULL = 100


@dataclass(frozen=True, slots=True)
class View:
    """One model at one moment.

    Attributes:
        spec, generation: what is asked for.
        target: the revision that the spec asks for.
        status: what was decided before.
        workloads: revision → its pods.
        route: what the router does.
        evidence: what Prometheus said.
        now: the time.
        conflict: why the route may not be written (another ModelDeployment has the host name); "" if it may.
        refusal: why children could not be written (the API server's own words); "" if they could.
        default_objectives: the policy's objectives, for a spec without any.
        dialect: the metrics dialect that Auto chose; None if it did not, or was not asked to.
        by_pod: whether a revision is told by its pods, and so seen before its first request.
    """

    spec: ModelDeploymentSpec
    generation: int
    target: Revision
    status: ModelDeploymentStatus
    workloads: Mapping[str, Workload]
    route: Route
    evidence: Evidence
    now: datetime
    conflict: str = ""
    refusal: str = ""
    default_objectives: tuple[Objective, ...] = field(default=())
    dialect: ChosenDialect | None = None
    by_pod: bool = True

    def with_status(self, status: ModelDeploymentStatus) -> View:
        """The same moment after a decision."""
        return replace(self, status=status)

    @property
    def steps(self) -> list[tuple[int, float]]:
        """The canary's steps: (percent, least seconds there)."""
        return self.spec.rollout.canary.plan()

    def step_weight(self, step: int) -> int:
        """Percent of the traffic at a step; past the last one it is all."""
        steps = self.steps
        return steps[step][0] if step < len(steps) else FULL

    def arrived(self, canary: RevisionStatus, rollout: RolloutStatus) -> bool:
        """Whether the canary is asked to have its step's weight. Promotion is more than a weight of 100%."""
        return rollout.step < rollout.steps and canary.wanted_weight >= self.step_weight(rollout.step)

    def pods_for(self, weight: int) -> int:
        """Pods that a share of the traffic needs."""
        return max(1, math.ceil(self.spec.serving.replicas * weight / FULL))

    def workload(self, revision: str) -> Workload:
        """The pods of a revision; none while it has no Deployment."""
        return self.workloads.get(revision, Workload())

    def seen_weight(self, revision: str) -> int:
        """Percent that the router was last seen to send it."""
        return self.route.weights.get(revision, 0)

    @property
    def weights_applied(self) -> bool:
        """Whether the router was seen to apply what is wanted now."""
        wanted = {r.revision: r.wanted_weight for r in roles(self.status) if r.wanted_weight}
        seen = {revision: weight for revision, weight in self.route.weights.items() if weight}
        return self.route.state is RouteState.PROGRAMMED and wanted == seen

    @property
    def trial_is_seen(self) -> bool:
        """Whether the evidence can tell of the revision on trial: its pods were scraped since the trial began.

        A mesh or a proxy has no series of it before its first request, so there nothing can be asked for.
        """
        rollout = self.status.rollout
        if not self.by_pod or rollout is None:
            return True
        return self.evidence.data_age is not None and self.evidence.time > rollout.start_time

    @property
    def evidence_of_serving(self) -> bool:
        """Whether the state of the evidence speaks of the revision that serves, not of one on trial until lately."""
        stable = self.status.stable
        return stable is None or self.evidence.subject in ("", stable.revision)

    @property
    def frozen(self) -> bool:
        """A person asked that nothing moves at all."""
        return self.spec.suspend is not None and self.spec.suspend.mode is SuspendMode.ALL

    @property
    def paused(self) -> bool:
        """A person asked that nothing starts, rises or is promoted."""
        return self.spec.suspend is not None

    def overridden(self, action: OverrideAction, revision: str) -> bool:
        """Whether a person asked for this action on this revision, and not before its rollout began."""
        override, rollout = self.spec.rollout.override, self.status.rollout
        if override is None or override.action is not action or override.revision != revision:
            return False
        return override.request_time is None or rollout is None or rollout.start_time <= override.request_time

    @property
    def takes_back(self) -> frozenset[Cause]:
        """Causes of a broken bound for which a version is taken back."""
        return frozenset(Cause(cause.value) for cause in self.spec.rollout.rollback_on_causes)

    def quarantine(self, revision: str) -> Quarantined | None:
        """The entry that keeps a revision out at the spec's attempt: only a higher one than failed is a retry."""
        attempt = self.spec.rollout.attempt
        return next((q for q in self.status.quarantined if q.revision == revision and q.attempt >= attempt), None)

    def unavailable_for(self) -> float:
        """Seconds in all that the revision on trial had too few Ready pods."""
        rollout = self.status.rollout
        if rollout is None:
            return 0.0
        running = (self.now - rollout.unavailable_since).total_seconds() if rollout.unavailable_since else 0.0
        return rollout.unavailable_seconds + max(0.0, running)

    def suspended_for(self, rollout: RolloutStatus) -> int:
        """Seconds in all that a person has suspended the rollout."""
        since = rollout.suspend_time
        running = (self.now - since).total_seconds() if since else 0.0
        return rollout.suspended_seconds + max(0, round(running))

    def record(
        self,
        revision: Revision | RevisionStatus | RolloutStatus,
        effect: str,
        message: str,
        rule: str = "",
        cause: Cause | None = None,
    ) -> DecisionRecord:
        """A decision about a revision, now; with the rule that decided, on its numbers."""
        rules = self.status.rollout.rules if self.status.rollout else ()
        by = next((one for one in rules if one.name == rule), None)
        return DecisionRecord(
            time=self.now,
            revision=revision.name if isinstance(revision, Revision) else revision.revision,
            version=revision.version,
            effect=effect,
            rule=rule,
            verdict=by.verdict if by else None,
            cause=(by.cause if by else None) or cause,
            numbers=by.numbers if by else None,
            query=self._query(rule) if by else "",
            message=message[:512],
        )

    def _query(self, rule: str) -> str:
        """The query that shows a rule's numbers to a person."""
        rules = (*trial_rules(self.spec, self.default_objectives), *objective_rules(self.spec, self.default_objectives))
        by = next((one for one in rules if one.name == rule), None)
        return ((by.query or self.evidence.sources.get(by.kind.value, "")) if by else "")[:512]


def roles(status: ModelDeploymentStatus) -> tuple[RevisionStatus, ...]:
    """The revisions that have a part in serving."""
    return tuple(r for r in (status.stable, status.canary, status.previous) if r is not None)


def decided(status: ModelDeploymentStatus, record: DecisionRecord) -> ModelDeploymentStatus:
    """The status with one more decision."""
    return status.model_copy(update={"decisions": (record, *status.decisions)[:DECISIONS_MAX]})


def draining(view: View, revision: str) -> tuple[Draining, ...]:
    """The draining revisions and one more. Of too many, the oldest go that the router sends nothing to."""
    others = tuple(d for d in view.status.draining if d.revision != revision)
    every = (Draining(revision=revision, since=view.now), *others)
    if len(every) > DRAINING_MAX:
        every = tuple(sorted(every, key=lambda d: not view.seen_weight(d.revision)))
    return every[:DRAINING_MAX]


def not_draining(status: ModelDeploymentStatus, revision: str) -> tuple[Draining, ...]:
    """The draining revisions but one that serves again."""
    return tuple(d for d in status.draining if d.revision != revision)


def quarantined(status: ModelDeploymentStatus, entry: Quarantined) -> tuple[Quarantined, ...]:
    """The quarantined revisions and one more, the newest first."""
    others = tuple(q for q in status.quarantined if q.revision != entry.revision)
    return (entry, *others)[:QUARANTINED_MAX]
