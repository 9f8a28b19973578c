"""What `kubectl model explain` tells: the facts of a status, each with its meaning. Pure: time is a parameter."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from pydantic import Field

from modeldeployment.api.base import Model
from modeldeployment.api.conditions import find
from modeldeployment.api.modeldeployment import ModelDeploymentSpec, ModelDeploymentStatus
from modeldeployment.api.quantities import say_duration, seconds
from modeldeployment.api.rollout import Comparison, Judge, Sequential
from modeldeployment.api.status import (
    Cause,
    DecisionRecord,
    Health,
    Numbers,
    RevisionStatus,
    RolloutStatus,
    RuleStatus,
    Verdict,
)
from modeldeployment.cli import words
from modeldeployment.cli.advice import Command, commands
from modeldeployment.decision import say
from modeldeployment.decision.decide import LOOK_GRACE, LOOKS_MISSED
from modeldeployment.decision.due import Clock, deadlines
from modeldeployment.decision.memory import plan
from modeldeployment.decision.rules import trial_rules
from modeldeployment.decision.sequential import ABSOLUTE_E_MIN
from modeldeployment.decision.trail import Point, points

DECISIONS_SHOWN = 5


class Part(Model):
    """A version that has a part in serving, or in the trial that was."""

    role: str
    version: str
    revision: str
    weight: int | None = None
    wanted_weight: int = 0
    ready: int = 0
    pods: int = 0


class RuleFacts(Model):
    """One rule of the trial.

    `says`: each e-value in words, by what it speaks for. `decides`: the e-value that decides, by the same names.
    """

    name: str
    verdict: Verdict
    means: str
    cause: Cause | None = None
    blames: str = ""
    allowed: str = ""
    counted: dict[str, str] = Field(default_factory=dict)
    says: dict[str, str] = Field(default_factory=dict)
    decides: dict[str, float] = Field(default_factory=dict)
    needs: str = ""
    message: str = ""
    numbers: Numbers | None = None


class DeadlineFacts(Model):
    """A clock that runs."""

    clock: Clock
    time: datetime
    left_seconds: int
    means: str


class PointFacts(Model):
    """One point of the trail."""

    after_seconds: int
    weight: int
    worse_log10: float | None = None
    good_log10: float | None = None


class TrailFacts(Model):
    """How the evidence went."""

    version: str
    start_time: datetime
    every_seconds: int
    worse_means: str
    points: tuple[PointFacts, ...] = ()


class Explanation(Model):
    """All that is told. `says`: state and reason in plain words; `message`: the operator's own sentence."""

    namespace: str
    name: str
    state: str
    says: tuple[str, ...]
    message: str = ""
    health: Health = Health.UNKNOWN
    health_message: str = ""
    parts: tuple[Part, ...] = ()
    rules: tuple[RuleFacts, ...] = ()
    queries: dict[str, str] = Field(default_factory=dict)
    trail: TrailFacts | None = None
    deadlines: tuple[DeadlineFacts, ...] = ()
    decisions: tuple[DecisionRecord, ...] = ()
    commands: tuple[Command, ...] = ()


class _Sides(NamedTuple):
    """Names of the version on trial (or taken back), and of the one beside it."""

    new: str
    old: str
    weight: int


def explain(
    namespace: str, name: str, spec: ModelDeploymentSpec, generation: int, status: ModelDeploymentStatus, now: datetime
) -> Explanation:
    """The facts of one ModelDeployment at a moment."""
    progressing, healthy = find(status.conditions, "Progressing"), find(status.conditions, "Healthy")
    if progressing is None:
        return Explanation(namespace=namespace, name=name, state="Unknown", says=(words.NOT_SEEN,))
    state, sides = progressing.reason, _sides(spec, status)
    says = [*_says(state, spec, status, sides)]
    if late := _old(spec, status, now):
        says.append(late)
    if generation > status.observed_generation:
        says.append("The spec was changed since: the operator has not looked at its newest generation yet.")
    return Explanation(
        namespace=namespace,
        name=name,
        state=state,
        says=tuple(says),
        message=progressing.message,
        health=status.health,
        health_message=healthy.message if healthy else "",
        parts=tuple(_parts(status)),
        rules=tuple(_rules(spec, status, sides)),
        queries=dict(_queries(spec, status)),
        trail=_trail(status),
        deadlines=tuple(_deadlines(spec, status, now)),
        decisions=status.decisions[:DECISIONS_SHOWN],
        commands=commands(namespace, name, state, spec, status),
    )


def _sides(spec: ModelDeploymentSpec, status: ModelDeploymentStatus) -> _Sides:
    stable, canary, previous = status.stable, status.canary, status.previous
    if canary:
        return _Sides(canary.version, stable.version if stable else "", canary.wanted_weight)
    if stable and previous and status.rollout:
        return _Sides(stable.version, previous.version, stable.wanted_weight)
    return _Sides(spec.model.version, stable.version if stable else "", 0)


def _says(state: str, spec: ModelDeploymentSpec, status: ModelDeploymentStatus, sides: _Sides) -> Iterator[str]:
    template = words.STATES.get(state, words.UNKNOWN_STATE)
    if state == "ProgressDeadlineExceeded" and status.canary and not status.stable:
        template = words.FIRST_IS_LATE
    yield template.format(**sides._asdict())
    rollout = status.rollout
    if status.stable is None and state != "Initializing":
        yield words.NOTHING_SERVES
    elif rollout and rollout.weight_time and (why := words.REASONS.get(rollout.reason)):
        yield why
    if spec.suspend:
        yield words.SUSPENDED[spec.suspend.mode]


def _old(spec: ModelDeploymentSpec, status: ModelDeploymentStatus, now: datetime) -> str:
    """What tells that the operator is away, or cannot write."""
    rollout, flows = status.rollout, find(status.conditions, "EvidenceAvailable")
    if not (status.canary and rollout and rollout.evidence_time and flows and flows.status == "True"):
        return ""
    age = now - rollout.evidence_time
    if age <= LOOKS_MISSED * timedelta(seconds=seconds(spec.rollout.analysis.interval)) + LOOK_GRACE:
        return ""
    return f"The newest evidence here is {say_duration(age.total_seconds())} old: does the operator run?"


def _parts(status: ModelDeploymentStatus) -> Iterator[Part]:
    for role, seen in (("serves", status.stable), ("on trial", status.canary), ("kept warm", status.previous)):
        if seen:
            yield _part(role, seen)


def _part(role: str, seen: RevisionStatus) -> Part:
    return Part(
        role=role,
        version=seen.version,
        revision=seen.revision,
        weight=seen.weight,
        wanted_weight=seen.wanted_weight,
        ready=seen.ready_replicas,
        pods=seen.replicas,
    )


def _rules(spec: ModelDeploymentSpec, status: ModelDeploymentStatus, sides: _Sides) -> Iterator[RuleFacts]:
    """Those of the trial; without one, the rule that took the version back which the spec asks for."""
    if status.rollout:
        sequential = spec.rollout.analysis.judge is Judge.SEQUENTIAL
        scale = _Scale.of(spec, status.rollout) if sequential else None
        for rule in status.rollout.rules:
            yield _rule(rule, sides, scale)
    elif (record := _recorded(status, sides.new)) and record.numbers:
        verdict, numbers = record.verdict or Verdict.FAIL, record.numbers
        rule = RuleStatus(
            name=record.rule, verdict=verdict, cause=record.cause, numbers=numbers, message=record.message
        )
        yield _rule(rule, sides, _Scale())


def _recorded(status: ModelDeploymentStatus, version: str) -> DecisionRecord | None:
    """The decision that took a version back, if it is one of the last."""
    entry = next((q for q in status.quarantined if q.version == version), None)
    return next((d for d in status.decisions if entry and (d.revision, d.time) == (entry.revision, entry.time)), None)


class _Scale(NamedTuple):
    """What the e-values of a trial are held against; None: not known, or not asked for.

    `takes_back`, `gate` (against the bound), `passes`: an e-value; `alarms`: of the watch's detector.
    `detectable`: times the bound, the rate that is ruled out.
    """

    takes_back: float | None = None
    gate: float | None = None
    passes: float | None = None
    alarms: int | None = None
    detectable: float = 2.0

    @property
    def by_name(self) -> dict[str, float]:
        """Those that are known, by what they speak for."""
        every = {"worse": self.takes_back, "bound": self.gate, "good": self.passes, "alarm": self.alarms}
        return {name: value for name, value in every.items() if value is not None}

    @classmethod
    def of(cls, spec: ModelDeploymentSpec, rollout: RolloutStatus) -> _Scale:
        asked, bounds = spec.rollout.analysis.sequential or Sequential(), plan(spec, rollout)
        spared = {rule.name for rule in trial_rules(spec) if not rule.rolls_back}
        able = [r for r in rollout.rules if r.numbers and r.numbers.e_broken and r.name not in spared]
        decides = max(1, len(able)) / bounds.alpha  # the mean of all rules decides, at 1/alpha
        if rollout.compare_time:
            return cls(takes_back=decides)
        if rollout.promotion_time:
            return cls(alarms=max(1, len(able)) * bounds.day)
        gates = {Comparison.STABLE_AND_BOUND: ABSOLUTE_E_MIN, Comparison.STRICT: decides}
        return cls(decides, gates.get(asked.compare), 1 / bounds.beta, None, float(asked.detectable))


def _rule(rule: RuleStatus, sides: _Sides, scale: _Scale | None) -> RuleFacts:
    """`scale` None: the threshold judge, which has no e-values."""
    numbers = rule.numbers
    return RuleFacts(
        name=rule.name,
        verdict=rule.verdict,
        means=words.VERDICTS[rule.verdict],
        cause=rule.cause,
        blames=words.CAUSES[rule.cause] if rule.cause else "",
        allowed=numbers.bound if numbers else "",
        counted=dict(_counted(numbers, sides)) if numbers else {},
        says=dict(_evidence(numbers, sides, scale)) if numbers and scale else {},
        decides=scale.by_name if scale else {},
        needs=say.waiting(rule.needs) if rule.needs else "",
        message=rule.message,
        numbers=numbers,
    )


def _counted(numbers: Numbers, sides: _Sides) -> Iterator[tuple[str, str]]:
    if numbers.value is not None:
        yield sides.new, f"value {numbers.value}"
        return
    yield sides.new, counted(numbers.bad, numbers.requests)
    if numbers.stable_requests is not None:
        yield sides.old, counted(numbers.stable_bad or 0, numbers.stable_requests)


def counted(bad: int, requests: int) -> str:
    """`7 of 37 bad (18.9%)`."""
    return f"{bad:,} of {requests:,} bad ({say.share(bad, requests)})" if requests else "no requests yet"


def _evidence(numbers: Numbers, sides: _Sides, scale: _Scale) -> Iterator[tuple[str, str]]:
    """What each e-value means, and what it takes. Queries have none."""
    kept, back = "if it kept its bound", "takes it back"
    if numbers.e_worse:
        no_worse = f"if {sides.new} were no worse than {sides.old}"
        yield "worse", words.evidence(no_worse, numbers.e_worse, scale.takes_back, back)
        if numbers.e_broken and scale.gate:
            yield "bound", words.evidence(kept, numbers.e_broken, scale.gate, "is asked for as well")
    elif numbers.e_broken and scale.alarms:
        yield "alarm", words.alarm(numbers.e_broken, scale.alarms)
    elif numbers.e_broken:
        yield "bound", words.evidence(kept, numbers.e_broken, scale.takes_back, back)
    if numbers.e_good and scale.passes:
        bad = f"if its rate were {scale.detectable:g} times the allowed one"
        yield "good", words.evidence(bad, numbers.e_good, scale.passes, "passes the step")


def _queries(spec: ModelDeploymentSpec, status: ModelDeploymentStatus) -> Iterator[tuple[str, str]]:
    rollout = status.rollout
    if rollout and rollout.errors_query:
        yield "errors", rollout.errors_query
    if rollout and rollout.latency_query:
        yield "latency", rollout.latency_query
    if rollout:
        yield from ((o.name, o.promql.query) for o in spec.objectives if o.promql)
    elif recorded := next((d for d in status.decisions if d.query), None):
        yield f"{recorded.rule}, which decided", recorded.query


def _trail(status: ModelDeploymentStatus) -> TrailFacts | None:
    """That of the version on trial; of the last one where none is."""
    trail, rollout = status.trail, status.rollout
    if trail is None or (rollout and rollout.revision != trail.revision):
        return None
    try:
        every = tuple(_point(point) for point in points(trail))
    except ValueError:  # of another version of the operator
        return None
    watching = rollout is not None and rollout.promotion_time is not None and rollout.compare_time is None
    return TrailFacts(
        version=trail.version,
        start_time=trail.start_time,
        every_seconds=trail.every_seconds,
        worse_means="its bound breaks" if watching else "it is worse",
        points=every,
    )


def _point(point: Point) -> PointFacts:
    return PointFacts(after_seconds=point.after, weight=point.weight, worse_log10=point.worse, good_log10=point.good)


def _deadlines(spec: ModelDeploymentSpec, status: ModelDeploymentStatus, now: datetime) -> Iterator[DeadlineFacts]:
    for clock, time in sorted(deadlines(spec, status), key=lambda deadline: deadline.time):
        left = round((time - now).total_seconds())
        if left > 0:
            yield DeadlineFacts(clock=clock, time=time, left_seconds=left, means=_runs_out(clock, spec, status))


def _runs_out(clock: Clock, spec: ModelDeploymentSpec, status: ModelDeploymentStatus) -> str:
    if clock is Clock.PODS and status.stable is None:
        return words.FIRST_PODS
    if clock is Clock.PODS and status.previous:
        return words.WATCHED_PODS
    return words.CLOCKS[clock].format(inconclusive=words.INCONCLUSIVE[spec.rollout.on_inconclusive])
