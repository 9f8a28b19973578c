"""A past rollout judged by another policy, on the counts that there were. Pure.

The counts are as they were at the weights as they were: the router is taken to give each weight that the policy asks
for at once, all pods are taken to be Ready, and what the canary would have counted at another weight nobody knows. So
the e-values, and the instants at which a policy decides, are those of the traffic that really was; more traffic would
have decided sooner, less later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.api.objectives import Objective
from modeldeployment.api.status import DecisionRecord, ModelDeploymentStatus, Numbers, RevisionStatus, RolloutStatus
from modeldeployment.decision.arms import Counts
from modeldeployment.decision.counting import count_arm, edges_of
from modeldeployment.decision.decide import Decision, decide, wanted_weights
from modeldeployment.decision.evidence import Evidence, Interval, Revision, Route, RouteState, Workload
from modeldeployment.decision.memory import Memory
from modeldeployment.decision.rules import Rule, RuleKind, trial_rules
from modeldeployment.decision.view import FULL, View
from modeldeployment.metrics import ModelKey

MILLION: Final = 1e6
"""An e-value "over a million" in a chart."""


class Came(StrEnum):
    """What became of a rollout, or would have."""

    PROMOTED = "Promoted"
    ROLLED_BACK = "RolledBack"
    HELD = "Held"
    UNDECIDED = "Undecided"


_CAME: Final = {
    "Promoted": Came.PROMOTED,
    "RolledBack": Came.ROLLED_BACK,
    "RolledBackInconclusive": Came.ROLLED_BACK,
}


@dataclass(frozen=True, slots=True)
class PastRollout:
    """One past rollout with what both arms counted.

    Attributes:
        key: namespace and name of the model.
        revision, version: what came; `version` is the revision's name where only that is known.
        control: the revision that served.
        start, end: from the canary's first traffic until one arm had none, or it was decided.
        came, why: what became of it, and how that is known.
        evidence: what each look saw, oldest first.
    """

    key: ModelKey
    revision: str
    version: str
    control: str
    start: datetime
    end: datetime
    came: Came
    why: str
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """The evidence after one look, for a chart. Shares are None without a request; e-values are those of the rules
    together: the highest that says worse, the lowest that says good."""

    time: datetime
    canary: float | None
    stable: float | None
    worse: float | None
    good: float | None


@dataclass(frozen=True, slots=True)
class Judged:
    """What a policy would have done.

    Attributes:
        came: what it would have come to; `time`: when, None while undecided.
        rule, message, numbers: what decided, or what it waits for.
        bad: rule → requests that break it, more (above zero) or fewer than there were.
        requests, counted: of the canary, and rule → bad ones among them.
        points: for a chart.
    """

    rollout: PastRollout
    came: Came
    time: datetime | None
    rule: str
    message: str
    numbers: Numbers | None
    bad: dict[str, float] = field(default_factory=dict)
    requests: int = 0
    counted: dict[str, int] = field(default_factory=dict)
    points: tuple[Point, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether the policy would have come to something else: not known where either is undecided."""
        return Came.UNDECIDED not in (self.came, self.rollout.came) and self.came is not self.rollout.came

    @property
    def earlier(self) -> float | None:
        """Seconds before the rollout's end at which the policy decides; None while it does not."""
        return None if self.time is None else (self.rollout.end - self.time).total_seconds()


def judge(rollout: PastRollout, spec: ModelDeploymentSpec, defaults: tuple[Objective, ...] = ()) -> Judged:
    """One rollout by one policy. The spec must be `quiet` (history.py) and have a rule."""
    rules = [r for r in trial_rules(spec, defaults) if r.kind is not RuleKind.QUERY]
    status, memory, points = _begin(rollout, spec), Memory(), []
    history = next((e.history for e in rollout.evidence if e.history is not None), None)
    decided: DecisionRecord | None = None
    for evidence in rollout.evidence:
        view = _view(rollout, spec, defaults, status, replace(evidence, history=history))
        decision = decide(view, memory)
        points.append(_point(evidence, decision, rules))
        decided = _deciding(decision.records)
        if decided is not None:
            break
        status, memory = _settled(view, decision)
        if memory.states:
            history = None
    last = status.rollout
    held = last is not None and (last.reason.endswith("Fault") or _inconclusive(status))
    came = _CAME[decided.effect] if decided else Came.HELD if held else Came.UNDECIDED
    time = decided.time if decided else None
    proof = _proof(decided, points, decision) if rollout.evidence else None
    total = [interval for evidence in rollout.evidence for interval in evidence.intervals]
    return Judged(
        rollout=rollout,
        came=came,
        time=time,
        rule=proof.rule if proof else "",
        message=proof.message if proof else (last.message if last else ""),
        numbers=proof.numbers if proof else None,
        bad=_difference(rollout, rules, came, time),
        requests=sum(delta.requests for interval in total for delta in interval.trial.values()),
        counted={rule.name: round(_arms(rule, total)[0].low) for rule in rules},
        points=tuple(points),
    )


def _begin(rollout: PastRollout, spec: ModelDeploymentSpec) -> ModelDeploymentStatus:
    """The canary has just got its first weight."""
    (weight, _), *rest = spec.rollout.canary.plan()
    trial = RolloutStatus(
        revision=rollout.revision,
        version=rollout.version[:63],
        start_time=rollout.start,
        weight_time=rollout.start,
        steps=1 + len(rest),
    )
    return ModelDeploymentStatus(
        stable=RevisionStatus(revision=rollout.control, version="stable", wanted_weight=FULL - weight),
        canary=RevisionStatus(revision=rollout.revision, version=rollout.version[:63], wanted_weight=weight),
        rollout=trial,
    )


def _view(
    rollout: PastRollout,
    spec: ModelDeploymentSpec,
    defaults: tuple[Objective, ...],
    status: ModelDeploymentStatus,
    evidence: Evidence,
) -> View:
    ready = Workload(spec.serving.replicas, spec.serving.replicas)
    return View(
        spec=spec,
        generation=1,
        target=Revision(rollout.revision, rollout.version[:63]),
        status=status,
        workloads={rollout.control: ready, rollout.revision: ready},
        route=Route(RouteState.PROGRAMMED, wanted_weights(status), "Programmed", "taken to be"),
        evidence=evidence,
        now=evidence.time,
        default_objectives=defaults,
    )


def _settled(view: View, decision: Decision) -> tuple[ModelDeploymentStatus, Memory]:
    """The same moment once the router has applied what was decided."""
    status = decision.status
    if status.rollout is None or status.rollout.weight_time is not None:
        return status, decision.memory
    evidence = replace(view.evidence, intervals=(), history=None)
    route = replace(view.route, weights=wanted_weights(status))
    after = decide(replace(view, status=status, evidence=evidence, route=route), decision.memory)
    return after.status, after.memory


def _deciding(records: Iterable[DecisionRecord]) -> DecisionRecord | None:
    return next((record for record in records if record.effect in _CAME), None)


def _proof(decided: DecisionRecord | None, points: Sequence[Point], decision: Decision) -> DecisionRecord | None:
    """The decision with the numbers: a promotion follows from the step that passed in the same look."""
    if decided is None or decided.rule or not points:
        return decided
    passed = next((record for record in decision.records if record.effect == "StepPassed"), None)
    return passed or decided


def _inconclusive(status: ModelDeploymentStatus) -> bool:
    return any(c.type == "Progressing" and c.reason == "Inconclusive" for c in status.conditions)


def _arms(rule: Rule, intervals: Iterable[Interval]) -> tuple[Counts, Counts]:
    """What a rule counts of the canary and of stable."""
    arms = [Counts(), Counts()]
    for interval in intervals:
        edges = None
        if rule.kind is RuleKind.SLOW:
            edges, _ = edges_of(rule, (*interval.trial.values(), *interval.control.values()))
        for place, arm in enumerate((interval.trial, interval.control)):
            arms[place] = sum(count_arm(rule, arm, edges).values(), arms[place])
    return arms[0], arms[1]


def _difference(rollout: PastRollout, rules: Iterable[Rule], came: Came, time: datetime | None) -> dict[str, float]:
    """Rule → bad requests that there would have been more or fewer, from the policy's decision until the real one.

    Taken back: what the canary answered then, stable would have answered at its own rate. Promoted: what stable
    answered then, the canary would have answered at its own rate.
    """
    if time is None or came not in (Came.PROMOTED, Came.ROLLED_BACK):
        return {}
    after = [i for e in rollout.evidence for i in e.intervals if i.end > time]
    changed = {}
    for rule in rules:
        canary, stable = _arms(rule, after)
        if not (canary.n and stable.n):
            changed[rule.name] = 0.0
        elif came is Came.ROLLED_BACK:
            changed[rule.name] = canary.n * stable.low / stable.n - canary.low
        else:
            changed[rule.name] = stable.n * canary.low / canary.n - stable.low
    return changed


def _point(evidence: Evidence, decision: Decision, rules: Sequence[Rule]) -> Point:
    canary, stable = _arms(rules[0], evidence.intervals) if rules else (Counts(), Counts())
    told = [r.numbers for r in decision.status.rollout.rules if r.numbers] if decision.status.rollout else []
    told += [record.numbers for record in decision.records if record.numbers]
    worse = [e_value(n.e_worse or n.e_broken) for n in told]
    good = [e_value(n.e_good) for n in told]
    return Point(
        evidence.time,
        canary=canary.low / canary.n if canary.n else None,
        stable=stable.low / stable.n if stable.n else None,
        worse=max((v for v in worse if v is not None), default=None),
        good=min((v for v in good if v is not None), default=None),
    )


def e_value(text: str | None) -> float | None:
    """An e-value as the status has it, as a number."""
    if text is None:
        return None
    try:
        return min(MILLION, float(text))
    except ValueError:
        return MILLION
