"""A trial decided again on Prometheus' evidence, with the cluster as the decision log says that it was. Pure.

From the log come the moments at which weights were asked for, at which pods were missing, and what a person did; from
the evidence everything that is judged. When the router was seen to apply a weight is nowhere written: it is taken for
LAGS_SECONDS after the weight was asked for, the first of them by which the decisions come out that follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.api.objectives import Objective
from modeldeployment.api.rollout import Override, OverrideAction
from modeldeployment.api.status import DecisionRecord, ModelDeploymentStatus, RevisionStatus
from modeldeployment.decision.decide import decide, wanted_weights
from modeldeployment.decision.evidence import Evidence, History, Interval, Revision, Route, RouteState, Workload
from modeldeployment.decision.memory import Memory
from modeldeployment.decision.view import FULL, View
from modeldeployment.replaying.logbook import ENDS, MOVES, Trial

LAGS_SECONDS: Final = (0.2, 0.05, 0.4, 0.7, 1.0, 1.4, 1.8, 2.5, 3.5, 5.0, 8.0, 15.0, 30.0)
"""How long a router may take, the likeliest first."""
DEADLINE_LAG: Final = 0.05
"""Seconds after a step's end at which the operator decides by the clock (controller/fleet.py)."""
GONE_SECONDS: Final = 31.0
"""How long a promoted version is without pods before that is decided upon (backward.WATCH_GRACE_SECONDS), and a bit."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One look: when it was decided upon, and what it saw."""

    time: datetime
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Course:
    """What a trial is decided again with.

    Attributes:
        trial: its part of the decision log.
        stable: the revision that served before.
        spec, defaults: what is asked for, and the policy's objectives.
        by_pod: whether a revision is seen before its first request.
        looks: what Prometheus tells, oldest first.
    """

    trial: Trial
    stable: str
    spec: ModelDeploymentSpec
    defaults: tuple[Objective, ...]
    by_pod: bool
    looks: Sequence[Seen]


@dataclass(frozen=True, slots=True)
class _State:
    """Where a replay is. `evidence` has the intervals that no decision took in yet."""

    status: ModelDeploymentStatus
    memory: Memory = field(default_factory=Memory)
    records: tuple[DecisionRecord, ...] = ()
    as_logged: bool = True
    evidence: Evidence | None = None
    history: History | None = None
    applied: Mapping[str, int] = field(default_factory=dict)


def follow(course: Course) -> list[DecisionRecord]:
    """The decisions that come out, oldest first, up to the first that is not as in the log."""
    served = RevisionStatus(
        revision=course.stable, version=course.trial.stable_version, weight=FULL, wanted_weight=FULL
    )
    state = _State(ModelDeploymentStatus(stable=served), applied={course.stable: FULL})
    began: datetime | None = None
    for ends in (*_moves(course.trial), None):
        tried = []
        for lag in _lags(course, began, ends):
            tried.append(_part(course, state, began, ends, lag))
            if tried[-1].as_logged:
                break
        state = max(tried, key=lambda one: (one.as_logged, len(one.records)))
        if not state.as_logged:
            break
        began = ends
    return [*state.records]


def _moves(trial: Trial) -> list[datetime]:
    """The moments at which other weights were asked for."""
    return list(dict.fromkeys(r.time for r in trial.records if r.effect in MOVES))


def _lags(course: Course, began: datetime | None, ends: datetime | None) -> list[float]:
    """How long after a move the router may have been seen to have made it."""
    if began is None:
        return [0.0]
    if ends is None:
        return [*LAGS_SECONDS]
    steps = course.spec.rollout.canary.plan()
    lasted = (ends - began).total_seconds() - DEADLINE_LAG
    return [*LAGS_SECONDS, *(lasted - least for _, least in steps if 0 < least < lasted)]  # a step that the clock ended


def _part(course: Course, state: _State, began: datetime | None, ends: datetime | None, lag: float) -> _State:
    """What follows one move of the weights, up to and with the next."""

    def within(time: datetime) -> bool:
        return (began is None or time > began) and (ends is None or time <= ends)

    settles = (began or course.trial.start) + timedelta(seconds=lag)
    looks = {look.time: look.evidence for look in course.looks if within(look.time)}
    logged = course.trial.records
    for now in sorted({*looks, *(r.time for r in logged if within(r.time)), *([settles] if within(settles) else ())}):
        if now in looks:
            seen = looks[now]
            unused = (*(state.evidence.intervals if state.evidence else ()), *seen.intervals)
            state = replace(state, evidence=replace(seen, intervals=unused), history=seen.history or state.history)
        if now >= settles:
            state = replace(state, applied=wanted_weights(state.status))
        state = _decided(course, state, now)
        state = replace(state, as_logged=state.records == tuple(r for r in logged if r.time <= now))
        if not state.as_logged or (state.records and state.records[-1].effect in ENDS):
            break
    return state


def _decided(course: Course, state: _State, now: datetime) -> _State:
    """One decision, with the cluster as the log has it at that moment."""
    evidence = state.evidence or course.looks[0].evidence
    intervals: tuple[Interval, ...] = state.evidence.intervals if state.evidence else ()
    view = View(
        spec=_spec(course, now),
        generation=1,
        target=_target(course, now),
        status=state.status,
        workloads=_workloads(course, state.status, now),
        route=_route(course, state, now),
        evidence=replace(evidence, intervals=intervals, history=state.history),
        now=now,
        default_objectives=course.defaults,
        by_pod=course.by_pod,
    )
    decision = decide(view, state.memory)
    history = None if decision.memory.states else state.history
    ended = next(
        (n for n, r in enumerate(decision.records, 1) if r.effect in ENDS), None
    )  # what begins then is another
    return replace(
        state,
        status=decision.status,
        memory=decision.memory,
        records=(*state.records, *decision.records[:ended]),
        evidence=state.evidence and replace(state.evidence, intervals=()),
        history=history,
    )


def _at(course: Course, now: datetime) -> set[str]:
    """Effects that the log has at this moment."""
    return {r.effect for r in course.trial.records if r.time == now}


def _before(course: Course, effect: str, now: datetime) -> bool:
    """Whether the log has this effect by now."""
    time = course.trial.time_of(effect)
    return time is not None and time <= now


def _spec(course: Course, now: datetime) -> ModelDeploymentSpec:
    """With what a person had said by then."""
    for effect, action in (("Aborted", OverrideAction.ABORT), ("PromotionRequested", OverrideAction.PROMOTE)):
        if _before(course, effect, now):
            override = Override(revision=course.trial.revision, action=action)
            rollout = course.spec.rollout.model_copy(update={"override": override})
            return course.spec.model_copy(update={"rollout": rollout})
    return course.spec


def _target(course: Course, now: datetime) -> Revision:
    """What the spec asked for then."""
    trial = course.trial
    if _before(course, "RolloutCancelled", now) or _before(course, "Reverted", now):
        return Revision(course.stable, trial.stable_version)
    if trial.next is not None and trial.next.time <= now:
        return Revision(trial.next.revision, trial.next.version)
    return Revision(trial.revision, trial.version)


def _workloads(course: Course, status: ModelDeploymentStatus, now: datetime) -> dict[str, Workload]:
    """All pods Ready, but for what the log says: none of the new version before its first weight, and while it was
    unavailable."""
    trial, ready = course.trial, course.spec.serving.replicas
    ups = [r.time for r in trial.records if r.effect in ("WeightRaised", "Promoted", "RolledBack") and r.time <= now]
    downs = [r.time for r in trial.records if r.effect == "CanaryUnavailable" and r.time <= now]
    there = bool(ups) and (not downs or max(ups) > max(downs))
    gone = trial.time_of("StableUnavailable")
    if gone is not None and now >= gone - timedelta(seconds=GONE_SECONDS):
        there = False
    return {course.stable: Workload(ready, ready), trial.revision: Workload(ready, ready if there else 0)}


def _route(course: Course, state: _State, now: datetime) -> Route:
    """The router takes new weights at the moments at which the log has it, and is else as it was seen last."""
    moves = bool(_at(course, now) & MOVES)
    settled = dict(state.applied) == wanted_weights(state.status)
    settling = state.status.rollout is not None and state.status.rollout.weight_time is None and settled
    as_ = RouteState.PROGRAMMED if moves or settling else RouteState.PENDING
    return Route(as_, {r: w for r, w in state.applied.items() if w}, as_.value, "as the decision log has it")
