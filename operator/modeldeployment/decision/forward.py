"""Moves by which a new version comes: start, weights, steps, promotion, the watch."""

from __future__ import annotations

from modeldeployment.api.quantities import say_duration
from modeldeployment.api.rollout import OnInconclusive, OverrideAction
from modeldeployment.api.status import ModelDeploymentStatus, RevisionStatus, RolloutStatus, Verdict
from modeldeployment.decision.evidence import DataState, RouteState
from modeldeployment.decision.moves import (
    Move,
    candidate,
    changed,
    no_way_back,
    once,
    past_deadline,
    pods,
    promote,
    roll_back,
    to_step,
    trial,
    weigh,
    without_previous,
)
from modeldeployment.decision.verdict import FAULT
from modeldeployment.decision.view import View, not_draining


def start_canary(view: View) -> Move | None:
    """The spec asks for another version than the one that serves."""
    status = view.status
    if status.canary or status.stable is None or status.stable.revision == view.target.name:
        return None
    if status.previous:  # its watch ends with this rollout; the version that serves is the one to return to
        status = without_previous(view)
    assert status.stable is not None  # as before
    message = f"starting {view.target.version} beside {status.stable.version}, at 0%"
    record = view.record(view.target, "RolloutStarted", message)
    after = changed(status, canary=candidate(view), rollout=trial(view))
    after = changed(after, draining=not_draining(after, view.target.name))
    return Move(after, "CanaryStarting", message, record=record)


def promote_by_person(view: View) -> Move | None:
    """A person wants what is left skipped."""
    canary, rollout = view.status.canary, view.status.rollout
    if not (canary and rollout and view.overridden(OverrideAction.PROMOTE, canary.revision)):
        return None
    if rollout.step >= rollout.steps:
        return None
    message = "promoted by a person (rollout.override): the steps that are left are skipped"
    return to_step(view, rollout.steps, "PromotionRequested", message)


def give_up_waiting(view: View) -> Move | None:
    """The deadline passed without a verdict: onInconclusive says what then."""
    rollout = view.status.rollout
    if not (rollout and view.status.canary) or rollout.step >= rollout.steps:
        return None
    if rollout.verdict is Verdict.PASS or not past_deadline(view):
        return None
    message = f"no verdict within {view.spec.rollout.deadline}: {rollout.message}"
    arrived = view.arrived(view.status.canary, rollout) and rollout.weight_time
    match view.spec.rollout.on_inconclusive:
        case OnInconclusive.ROLLBACK:
            return no_way_back(view, message) or roll_back(view, "RolledBackInconclusive", message)
        case _ if not arrived:
            return None
        case OnInconclusive.PROMOTE if _measured(view, rollout):
            return to_step(view, rollout.steps, "PromotedInconclusive", message)
        case _:
            return _hold(view, view.status.canary, message)


def _hold(view: View, canary: RevisionStatus, message: str) -> Move:
    """A person is asked, once by an Event."""
    message = (
        f"{message}; held at {canary.wanted_weight}%: send it more traffic, or promote or abort it (kubectl model)"
    )
    return Move(view.status, "Inconclusive", message, "Unknown", once(view, canary, "Inconclusive", message))


def _measured(view: View, rollout: RolloutStatus) -> bool:
    """Whether only evidence is missing: an outage of the metrics promotes nothing, and neither does a broken rule."""
    return view.evidence.state is DataState.FLOWING and all(rule.verdict is not Verdict.FAIL for rule in rollout.rules)


def wait_for_metrics(view: View) -> Move | None:
    """Ready, but nobody sees it yet: the first traffic waits until Prometheus scrapes the canary's pods."""
    canary, rollout = view.status.canary, view.status.rollout
    if not (canary and rollout) or rollout.step > 0 or canary.wanted_weight > 0 or view.trial_is_seen:
        return None
    if view.workload(canary.revision).ready < view.pods_for(view.step_weight(0)):
        return None
    told = view.evidence.subject == canary.revision and not view.evidence.state.measured
    why = view.evidence.message if told else f"Prometheus has not scraped the pods of {canary.revision} yet"
    return Move(view.status, "WaitingForMetrics", f"Ready, no traffic before it can be judged: {why}")


def raise_weight(view: View) -> Move | None:
    """Enough Ready pods for the next weight, and a router that takes it."""
    canary, rollout = view.status.canary, view.status.rollout
    if not (canary and rollout) or view.arrived(canary, rollout):
        return None
    weight = view.step_weight(rollout.step)
    if view.workload(canary.revision).ready < view.pods_for(weight):
        return None
    if view.conflict or view.route.state is not RouteState.PROGRAMMED:
        return None
    if rollout.step >= rollout.steps:
        return promote(view)
    message = f"{canary.version} gets {weight}% of the traffic (step {rollout.step + 1} of {rollout.steps})"
    record = view.record(canary, "WeightRaised", message)
    return Move(_evidence_begins(view, weigh(view, weight)), "CanaryRunning", message, record=record)


def _evidence_begins(view: View, status: ModelDeploymentStatus) -> ModelDeploymentStatus:
    """What was seen before the first weight is no evidence, and after a crash nobody must take it for any."""
    rollout, seen = status.rollout, view.evidence.time
    if rollout is None or rollout.evidence_time or seen <= rollout.start_time:
        return status
    return changed(status, rollout=rollout.model_copy(update={"evidence_time": seen}))


def wait_for_pods(view: View) -> Move | None:
    """Too few Ready pods for the next weight, or no router to give it."""
    canary, rollout = view.status.canary, view.status.rollout
    if not (canary and rollout) or view.arrived(canary, rollout):
        return None
    weight = view.step_weight(rollout.step)
    state = "Promoting" if rollout.step >= rollout.steps else "CanaryStarting"
    if view.workload(canary.revision).ready >= view.pods_for(weight):
        return Move(view.status, "WaitingForRouter", view.conflict or view.route.message)
    return Move(view.status, state, pods(view, canary.revision, view.pods_for(weight)))


def wait_for_router(view: View) -> Move | None:
    """The weight was asked for, and is not seen yet."""
    canary, rollout = view.status.canary, view.status.rollout
    if not (canary and rollout) or rollout.weight_time is not None:
        return None
    message = f"the router does not send {canary.wanted_weight}% yet: {view.route.message}"
    return Move(view.status, "WaitingForRouter", message)


def pass_step(view: View) -> Move | None:
    """The evidence is enough and the step's time is over."""
    rollout = view.status.rollout
    if not (rollout and view.status.canary and rollout.weight_time) or rollout.verdict is not Verdict.PASS:
        return None
    if rollout.step >= rollout.steps:
        return None
    least = view.steps[rollout.step][1]
    stayed = (view.now - rollout.weight_time).total_seconds()
    if stayed < least:
        message = f"evidence is enough; this step lasts {say_duration(least - stayed)} more"
        return Move(view.status, "CanaryRunning", message)
    return to_step(view, rollout.step + 1, "StepPassed", rollout.message, rollout.rules[0].name)


def hold_for_cause(view: View) -> Move | None:
    """A bound is broken, and it is not the canary's fault: it stays at its weight, and a person is told, once.

    Also where its last step has passed and its pods are still to come; but not against a person's own word.
    """
    canary, rollout = view.status.canary, view.status.rollout
    if not (canary and rollout and rollout.reason.endswith(FAULT)):
        return None
    if view.overridden(OverrideAction.PROMOTE, canary.revision):
        return None
    blamed = next((rule.name for rule in rollout.rules if rule.verdict is Verdict.FAIL), "")
    record = once(view, canary, rollout.reason, rollout.message, blamed)
    return Move(view.status, rollout.reason, rollout.message, "Unknown", record)


def run_canary(view: View) -> Move | None:
    """On trial, and nothing to do but to look."""
    canary, rollout = view.status.canary, view.status.rollout
    if not (canary and rollout):
        return None
    stable, message = view.status.stable, rollout.message
    if stable and not view.workload(stable.revision).ready:
        message = f"{stable.version} has no Ready pod to compare with ({pods(view, stable.revision, 1)}): {message}"
    message = f"step {rollout.step + 1} of {rollout.steps}, {canary.wanted_weight}%: {message}"
    return Move(view.status, "CanaryRunning", message[:1024])


def steady(view: View) -> Move | None:
    """What the spec asks for serves."""
    stable = view.status.stable
    assert stable is not None  # the moves before took every other case
    message = f"{stable.version} serves all of the traffic"
    if not view.weights_applied:
        return Move(view.status, "WaitingForRouter", f"{stable.version}: {view.conflict or view.route.message}")
    return Move(view.status, "RolloutComplete", message, "False")
