"""decide(spec, status, evidence, now) → a new status and the decisions taken. No I/O, no clock, no global.

Everything the operator does follows from the status that is returned: `serving` and `traffic` render the children it
implies, and the fleet applies them. So a decision that was written and not applied is applied by whoever comes next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from modeldeployment.api import names
from modeldeployment.api.conditions import (
    Condition,
    ConditionStatus,
    ConditionType,
    set_condition,
    without,
)
from modeldeployment.api.quantities import say_duration, seconds
from modeldeployment.api.status import (
    DecisionRecord,
    Health,
    ModelDeploymentStatus,
    Quarantined,
    RevisionStatus,
    RolloutStatus,
)
from modeldeployment.decision import budget
from modeldeployment.decision import health as healthy
from modeldeployment.decision.evidence import DataState, Evidence, Route, RouteState
from modeldeployment.decision.memory import Memory
from modeldeployment.decision.moves import Move
from modeldeployment.decision.rollout import advance
from modeldeployment.decision.trail import follow
from modeldeployment.decision.trial import Work, feed, together
from modeldeployment.decision.verdict import verdict
from modeldeployment.decision.view import FULL, View, roles

REASON_MAX = 128
"""A router's own reason may be longer than a condition holds."""
LOOKS_MISSED, LOOK_GRACE = 3, timedelta(seconds=90)
"""Evidence is used until so many looks were missed, and a while longer: a look may take long, and begin late."""
DRAIN_AT_MOST = timedelta(minutes=30)
"""A revision of weight 0 that still gets requests (from somebody beside the router) is scaled down after this."""
DRAIN_BLIND_AT_MOST = timedelta(minutes=5)
"""The same while Prometheus cannot tell whether it does."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a look came to.

    Attributes:
        status: the new status.
        records: decisions taken, oldest first; each becomes an Event and a log line.
        memory: the tests of the trial, for the next look.
    """

    status: ModelDeploymentStatus
    records: tuple[DecisionRecord, ...]
    memory: Memory


def decide(view: View, memory: Memory) -> Decision:
    """One look at one model."""
    decision = decide_all([(view, memory)])[0]
    if isinstance(decision, Exception):
        raise decision
    return decision


def decide_all(looks: Sequence[tuple[View, Memory]]) -> list[Decision | Exception]:
    """One look at each of many models: what `decide` comes to for each, or the defect that it met."""
    return together([_deciding(view, memory) for view, memory in looks])


def _deciding(view: View, memory: Memory) -> Work[Decision]:
    view = replace(view, evidence=_in_time(view))
    view = view.with_status(_observe(view))
    view = view.with_status(_keep_plan(view))
    rollout, memory = yield from feed(view, memory)
    if rollout is not None:
        view = view.with_status(view.status.model_copy(update={"rollout": rollout}))
        if view.status.stable is not None:
            judged = verdict(view, rollout, memory)
            trail = follow(view, judged, memory)
            view = view.with_status(view.status.model_copy(update={"rollout": judged, "trail": trail}))
    move, records = advance(view)
    view = view.with_status(_drained(view, move.status))
    return Decision(_told(view, move), records, memory)


def _in_time(view: View) -> Evidence:
    """Evidence that is too old to act on is stale, whatever it said: looks may hang."""
    evidence, age = view.evidence, view.now - view.evidence.time
    most = LOOKS_MISSED * timedelta(seconds=seconds(view.spec.rollout.analysis.interval)) + LOOK_GRACE
    if view.status.rollout is None or evidence.state is not DataState.FLOWING or age <= most:
        return evidence
    message = f"the last look at Prometheus was {say_duration(age.total_seconds())} ago"
    return replace(evidence, state=DataState.STALE, message=message)


def _observe(view: View) -> ModelDeploymentStatus:
    """What is seen of each role: weight, pods; and how long the revision on trial has lacked Ready pods."""
    status = view.status

    def seen(role: RevisionStatus | None) -> RevisionStatus | None:
        if role is None:
            return None
        work = view.workload(role.revision)
        weight = None if view.route.state is RouteState.ABSENT else view.seen_weight(role.revision)
        return role.model_copy(update={"weight": weight, "replicas": work.replicas or 0, "ready_replicas": work.ready})

    update: dict[str, Any] = {
        "stable": seen(status.stable),
        "canary": seen(status.canary),
        "previous": _kept_until(view, seen(status.previous)),
        "quarantined": _latched(view),
        "dialect": view.dialect,
        "rollout": _suspension(view, _availability(view, status.rollout)) if status.rollout else None,
    }
    return status.model_copy(update=update)


def _kept_until(view: View, previous: RevisionStatus | None) -> RevisionStatus | None:
    """The end of the watch, by the spec as it is now."""
    rollout = view.status.rollout
    if previous is None or rollout is None or rollout.promotion_time is None:
        return previous
    until = rollout.promotion_time + timedelta(seconds=seconds(view.spec.rollout.watch))
    return previous.model_copy(update={"until": until})


def _latched(view: View) -> tuple[Quarantined, ...]:
    """A raised attempt is a retry of the revision that the spec asks for, and of no other: those stay out."""
    attempt = view.spec.rollout.attempt
    return tuple(
        q if q.revision == view.target.name or q.attempt >= attempt else q.model_copy(update={"attempt": attempt})
        for q in view.status.quarantined
    )


def _availability(view: View, rollout: RolloutStatus) -> RolloutStatus:
    """The clock of the progress deadline: it adds up, and no crash loop resets it."""
    canary, needed = view.status.canary, 1
    if rollout.promotion_time is None and canary and view.status.stable:
        # One that has its weight already is not late because an autoscaler asks for more.
        needed = 1 if view.arrived(canary, rollout) else view.pods_for(view.step_weight(rollout.step))
    work = view.workload(rollout.revision)
    enough = work.ready >= needed
    if enough and rollout.unavailable_since:
        lasted = max(0.0, (view.now - rollout.unavailable_since).total_seconds())
        total = 0 if rollout.promotion_time else rollout.unavailable_seconds + round(lasted)
        return rollout.model_copy(update={"unavailable_since": None, "unavailable_seconds": total})
    # While nobody has made its Deployment (the operator was away, or is about to), the version is not late.
    not_made = work.replicas is None and not view.refusal
    if not enough and (rollout.unavailable_since is None or not_made):
        return rollout.model_copy(update={"unavailable_since": view.now})
    return rollout


def _suspension(view: View, rollout: RolloutStatus) -> RolloutStatus:
    """The clock of the deadline stands still while a person has suspended the rollout."""
    if view.paused:
        return rollout.model_copy(update={"suspend_time": rollout.suspend_time or view.now})
    if rollout.suspend_time is None:
        return rollout
    return rollout.model_copy(update={"suspend_time": None, "suspended_seconds": view.suspended_for(rollout)})


def _keep_plan(view: View) -> ModelDeploymentStatus:
    """The steps were edited in mid-rollout: go on at the last step that is not above the present weight."""
    status, rollout = view.status, view.status.rollout
    steps = view.steps
    if not (rollout and status.canary and status.stable) or rollout.steps == len(steps):
        return status
    promoting = rollout.step >= rollout.steps
    now_at = status.canary.wanted_weight
    step = max((i for i, (weight, _) in enumerate(steps) if weight <= now_at), default=0)
    kept = rollout.model_copy(update={"steps": len(steps), "step": len(steps) if promoting else step})
    return status.model_copy(update={"rollout": kept})


def _drained(view: View, status: ModelDeploymentStatus) -> ModelDeploymentStatus:
    """Revisions of weight 0 leave the list once the router was seen to send them nothing: then they are scaled down."""
    if view.frozen:
        return status
    left = tuple(d for d in status.draining if not _is_drained(view, d.revision, d.since))
    return status.model_copy(update={"draining": left})


def _is_drained(view: View, revision: str, since: datetime) -> bool:
    work = view.workload(revision)
    if work.replicas in (None, 0) or view.status.stable is None:
        return True  # nothing serves, so no route ever sent it anything
    if view.route.state is not RouteState.PROGRAMMED or view.seen_weight(revision):
        return False
    quiet = timedelta(seconds=2 * seconds(view.spec.rollout.analysis.interval))
    recent = view.now - view.evidence.time <= quiet + LOOK_GRACE
    told = recent and view.evidence.state.measured
    last = max(view.evidence.last_traffic.get(revision, since), since)
    if told and view.evidence.time - last >= quiet:
        return True
    return view.now - since >= (DRAIN_AT_MOST if told else DRAIN_BLIND_AT_MOST)


def _told(view: View, move: Move) -> ModelDeploymentStatus:
    """Conditions, health and objectives of the new status."""
    status = view.status
    kept = healthy.objectives(view)
    word, reason, message = healthy.health(view, kept)
    stable_work = view.workload(status.stable.revision) if status.stable else None
    negative = _negative(view, move)
    over = {ConditionType.STALLED, ConditionType.ROLLED_BACK} - {c.type for c in negative}
    conditions = without(status.conditions, over)
    for condition in (
        *_ready(view),
        _condition(view, ConditionType.PROGRESSING, move.progressing, move.state, move.message),
        _condition(view, ConditionType.HEALTHY, _HEALTH_STATUS[word], reason, message),
        _evidence(view),
        _route(view, view.route),
        *negative,
    ):
        conditions = set_condition(conditions, condition)
    return status.model_copy(
        update={
            "observed_generation": view.generation,
            "conditions": conditions,
            "health": word,
            "budget": budget.lowest(kept),
            "objectives": kept,
            "replicas": (stable_work.replicas or 0) if stable_work else 0,
            "selector": f"{names.LABEL_REVISION}={status.stable.revision}" if status.stable else "",
        }
    )


_HEALTH_STATUS: dict[Health, ConditionStatus] = {
    Health.OK: "True",
    Health.WARNING: "True",
    Health.CRITICAL: "False",
    Health.UNKNOWN: "Unknown",
}


def _condition(view: View, type_: ConditionType, status: ConditionStatus, reason: str, message: str) -> Condition:
    return Condition(
        type=type_,
        status=status,
        reason=reason[:REASON_MAX],
        message=message,
        observed_generation=view.generation,
        last_transition_time=view.now,
    )


def _ready(view: View) -> tuple[Condition, ...]:
    """Ready: the model answers now."""
    stable = view.status.stable
    if stable is None:
        why = view.refusal or "no version serves yet"
        return (_condition(view, ConditionType.READY, "False", "NothingServes", why),)
    work = view.workload(stable.revision)
    if not work.ready:
        trouble = work.trouble or "NoReadyPods"
        why = work.trouble_message or f"no pod of {stable.version} is Ready"
        return (_condition(view, ConditionType.READY, "False", trouble, why),)
    if view.route.state in (RouteState.ABSENT, RouteState.REFUSED) or not any(view.route.weights.values()):
        return (_condition(view, ConditionType.READY, "False", view.route.reason, view.route.message),)
    message = f"{stable.version} answers with {work.ready} of {work.replicas or 0} pods"
    return (_condition(view, ConditionType.READY, "True", "Serving", message),)


def _evidence(view: View) -> Condition:
    state = view.evidence.state
    status: ConditionStatus = "True" if state is DataState.FLOWING else "False"
    if view.status.stable is None:
        status = "Unknown"  # nothing to measure yet
    elif view.status.rollout is None and not view.evidence_of_serving:
        # It was on trial at the last look, and is not any more.
        message = f"the next look at Prometheus tells about {view.status.stable.version}"
        return _condition(view, ConditionType.EVIDENCE_AVAILABLE, "Unknown", "TrialEnded", message)
    return _condition(view, ConditionType.EVIDENCE_AVAILABLE, status, view.evidence.word, view.evidence.message)


def _route(view: View, route: Route) -> Condition:
    if view.conflict:
        return _condition(view, ConditionType.ROUTE_PROGRAMMED, "False", "HostnameConflict", view.conflict)
    if view.refusal and route.state is RouteState.ABSENT:
        return _condition(view, ConditionType.ROUTE_PROGRAMMED, "False", "ChildRefused", view.refusal)
    status: dict[RouteState, ConditionStatus] = {
        RouteState.PROGRAMMED: "True" if view.weights_applied else "Unknown",
        RouteState.PENDING: "Unknown",
        RouteState.ABSENT: "False" if view.status.stable else "Unknown",
        RouteState.REFUSED: "False",
    }
    reason = route.reason
    if route.state is RouteState.PROGRAMMED and not view.weights_applied:
        reason = "WaitingForRouter"
    return _condition(view, ConditionType.ROUTE_PROGRAMMED, status[route.state], reason, route.message)


def _negative(view: View, move: Move) -> tuple[Condition, ...]:
    """Stalled and RolledBack: there only while true."""
    out = []
    entry = view.quarantine(view.target.name)
    serving = view.status.stable is not None and view.status.stable.revision == view.target.name
    if entry and not serving:
        message = f"{entry.version}: {entry.message}"
        out.append(_condition(view, ConditionType.ROLLED_BACK, "True", entry.reason, message))
        out.append(_condition(view, ConditionType.STALLED, "True", entry.reason, move.message))
    elif move.state == "ProgressDeadlineExceeded":
        out.append(_condition(view, ConditionType.STALLED, "True", move.state, move.message))
    return tuple(out)


def wanted_weights(status: ModelDeploymentStatus) -> dict[str, int]:
    """Revision → percent, as the route is to have it: stable first, every role there even at 0."""
    return {r.revision: r.wanted_weight for r in roles(status)} if status.stable else {}


__all__ = ["FULL", "Decision", "decide", "wanted_weights"]
