"""The rollout machine: an ordered list of moves; the first that applies is made.

The list (`MOVES`) is the documentation. A move looks at a `View` and answers None (does not apply) or a `Move`:
a new status, what is going on, and perhaps a decision. A move that `settles` ends the tick; after one that does
not, the list is run again on the new status, so that e.g. a replaced canary and the start of the next are one tick.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from modeldeployment.api.conditions import ConditionStatus
from modeldeployment.api.quantities import say_duration, seconds
from modeldeployment.api.rollout import OnInconclusive, OverrideAction
from modeldeployment.api.status import (
    DecisionRecord,
    ModelDeploymentStatus,
    Quarantined,
    RevisionStatus,
    RolloutStatus,
    Verdict,
)
from modeldeployment.decision.evidence import RouteState
from modeldeployment.decision.view import (
    FULL,
    View,
    decided,
    draining,
    not_draining,
    quarantined,
)

MOVES_MAX = 8
"""Moves in one tick; the machine needs at most four, more is a bug and is told."""

WATCH_GRACE_SECONDS = 30.0
"""How long a promoted version may be without a single Ready pod before its warm predecessor takes over."""


@dataclass(frozen=True, slots=True)
class Move:
    """What one move came to.

    Attributes:
        status: the new status.
        progressing, state, message: the condition Progressing.
        record: the decision, if one was taken.
        settles: whether the tick ends here.
    """

    status: ModelDeploymentStatus
    state: str
    message: str
    progressing: ConditionStatus = "True"
    record: DecisionRecord | None = None
    settles: bool = True


def advance(view: View) -> tuple[Move, tuple[DecisionRecord, ...]]:
    """Makes moves until one settles; returns the last and all decisions taken, oldest first.

    Raises:
        RuntimeError: the moves did not settle, which is a defect of this module.
    """
    records: list[DecisionRecord] = []
    for _ in range(MOVES_MAX):
        move = next(made for candidate in MOVES if (made := candidate(view)) is not None)
        if move.record is not None:
            records.append(move.record)
            move = Move(
                decided(move.status, move.record), move.state, move.message, move.progressing, None, move.settles
            )
        if move.settles:
            return move, tuple(records)
        view = view.with_status(move.status)
    raise RuntimeError(f"the rollout machine did not settle: {[r.effect for r in records]}")


# The first version: straight to all of the traffic, once Ready.


def start_first(view: View) -> Move | None:
    """Nothing serves and nothing is on its way."""
    status = view.status
    if status.stable or (status.canary and status.canary.revision == view.target.name):
        return None
    update: dict[str, Any] = {
        "canary": _candidate(view),
        "rollout": _trial(view, steps=0),
        "draining": not_draining(status, view.target.name),
    }
    if status.canary:
        update["draining"] = draining(status, status.canary.revision, view.now)
    message = f"starting {view.target.version}, the first version"
    record = view.record(view.target, "FirstVersionStarted", message)
    return Move(_with(status, **update), "Initializing", message, record=record)


def serve_first(view: View) -> Move | None:
    """The first version has a Ready pod: it gets all of the traffic."""
    status = view.status
    if status.stable or status.canary is None or view.frozen:
        return None
    work = view.workload(status.canary.revision)
    if work.ready < 1:
        return None
    stable = status.canary.model_copy(update={"wanted_weight": FULL})
    message = f"{stable.version} is Ready and gets all of the traffic"
    record = view.record(stable, "FirstVersionServes", message)
    changed = _with(status, stable=stable, canary=None, rollout=None)
    return Move(changed, "RolloutComplete", message, "False", record, settles=False)


def wait_first(view: View) -> Move | None:
    """The first version is not Ready yet; past the deadline that is said, and waiting goes on."""
    status = view.status
    if status.stable or status.canary is None:
        return None
    if view.frozen:
        return _suspended(view)
    why = _pods(view, status.canary.revision, 1)
    if view.unavailable_for() <= seconds(view.spec.rollout.progress_deadline):
        return Move(status, "Initializing", why)
    message = f"not Ready within {view.spec.rollout.progress_deadline}: {why}; still trying, nothing else can serve"
    return Move(status, "ProgressDeadlineExceeded", message, "False")


# What beats everything: a person's abort, a spec that goes elsewhere.


def abort(view: View) -> Move | None:
    """A person wants the revision on trial gone."""
    status = view.status
    if status.canary and view.overridden(OverrideAction.ABORT, status.canary.revision):
        return _roll_back(view, "Aborted", "aborted by a person (rollout.override)")
    if status.stable and status.previous and view.overridden(OverrideAction.ABORT, status.stable.revision):
        return _return_to_previous(view, "Aborted", "aborted by a person (rollout.override)")
    return None


def freeze(view: View) -> Move | None:
    """suspend.mode All: nothing moves."""
    return _suspended(view) if view.frozen else None


def return_by_spec(view: View) -> Move | None:
    """The spec asks for the version before, which is still warm: no canary is needed to go back."""
    status = view.status
    if not status.previous or status.previous.revision != view.target.name or status.canary:
        return None
    if view.workload(status.previous.revision).ready < 1:
        return None
    message = f"the spec went back to {status.previous.version} during the watch: it serves again, at once"
    return _swap_back(view, "Reverted", message, quarantine=None)


def cancel(view: View) -> Move | None:
    """The spec went back to stable in mid-canary."""
    status = view.status
    if not (status.canary and status.stable and status.stable.revision == view.target.name):
        return None
    message = f"the spec went back to {status.stable.version}: {status.canary.version} gets no traffic any more"
    return _end_canary(view, "RolloutCancelled", message)


def replace_canary(view: View) -> Move | None:
    """The spec asks for a third version in mid-canary: the second goes first, the third starts from nothing."""
    status = view.status
    if not (status.canary and status.stable) or status.canary.revision == view.target.name:
        return None
    message = f"the spec asks for {view.target.version} now: {status.canary.version} gets no traffic any more"
    return _end_canary(view, "RolloutReplaced", message)


# What takes a version back.


def roll_back_on_evidence(view: View) -> Move | None:
    """The evidence says Fail."""
    rollout = view.status.rollout
    if rollout is None or rollout.verdict is not Verdict.FAIL:
        return None
    blamed = next((r for r in rollout.rules if r.verdict is Verdict.FAIL), None)
    rule = blamed.name if blamed else ""
    message = blamed.message if blamed else rollout.message
    if view.status.canary:
        return _roll_back(view, "RolledBack", message, rule)
    if view.status.previous and rollout.promotion_time:
        return _return_to_previous(view, "RolledBack", message, rule)
    return None


def roll_back_at_progress_deadline(view: View) -> Move | None:
    """The canary's pods were not Ready for too long in all; a crash loop cannot reset this clock."""
    status = view.status
    if not (status.canary and status.stable):
        return None
    if view.unavailable_for() <= seconds(view.spec.rollout.progress_deadline):
        return None
    needed = view.pods_for(view.step_weight(status.rollout.step if status.rollout else 0))
    why = _pods(view, status.canary.revision, needed)
    message = f"its pods were not Ready for more than {view.spec.rollout.progress_deadline} in all: {why}"
    return _roll_back(view, "ProgressDeadlineExceeded", message)


def return_when_gone(view: View) -> Move | None:
    """During the watch, every pod of the promoted version is gone while the one before stands ready."""
    status, rollout = view.status, view.status.rollout
    if not (status.stable and status.previous and rollout and rollout.promotion_time):
        return None
    if view.workload(status.stable.revision).ready or not view.workload(status.previous.revision).ready:
        return None
    if view.unavailable_for() < WATCH_GRACE_SECONDS:
        return None
    why = _pods(view, status.stable.revision, 1)
    return _return_to_previous(view, "StableUnavailable", f"no Ready pod for {WATCH_GRACE_SECONDS:g}s: {why}")


def shield(view: View) -> Move | None:
    """The canary has traffic and not one Ready pod: the traffic goes back until it has."""
    canary = view.status.canary
    if canary is None or canary.wanted_weight == 0 or view.workload(canary.revision).ready:
        return None
    message = f"no Ready pod: its {canary.wanted_weight}% go to stable until it has ({_pods(view, canary.revision, 1)})"
    record = view.record(canary, "CanaryUnavailable", message)
    return Move(_weigh(view, 0), "CanaryUnavailable", message, record=record)


# What keeps a version out, or still.


def stay_rolled_back(view: View) -> Move | None:
    """The spec asks for a revision that was taken back: it waits for another spec, or a person's retry."""
    status = view.status
    if status.canary or status.stable is None or status.stable.revision == view.target.name:
        return None
    entry = view.quarantine(view.target.name)
    if entry is None:
        return None
    if status.previous:  # the watch of the version that serves goes on meanwhile
        ended = _end_watch(view)
        if ended:
            return ended
    message = (
        f"{entry.version} was taken back ({entry.reason}): {entry.message}; change the spec, or raise "
        f"rollout.attempt to try it again (kubectl model retry)"
    )
    return Move(status, entry.reason, message[:1024], "False")


def pause(view: View) -> Move | None:
    """suspend.mode Advance: what goes on is watched, nothing starts or rises."""
    status = view.status
    if not view.paused:
        return None
    if status.canary or (status.stable and status.stable.revision != view.target.name):
        return _suspended(view)
    return None


# How a new version comes.


def start_canary(view: View) -> Move | None:
    """The spec asks for another version than the one that serves."""
    status = view.status
    if status.canary or status.stable is None or status.stable.revision == view.target.name:
        return None
    gone = status.draining
    if status.previous:  # its watch ends with this rollout; the version that serves is the one to return to
        gone = draining(status, status.previous.revision, view.now)
    message = f"starting {view.target.version} beside {status.stable.version}, at 0%"
    record = view.record(view.target, "RolloutStarted", message)
    changed = _with(status, canary=_candidate(view), rollout=_trial(view), previous=None, draining=gone)
    changed = _with(changed, draining=not_draining(changed, view.target.name))
    return Move(changed, "CanaryStarting", message, record=record)


def promote_by_person(view: View) -> Move | None:
    """A person wants what is left skipped."""
    canary, rollout = view.status.canary, view.status.rollout
    if not (canary and rollout and view.overridden(OverrideAction.PROMOTE, canary.revision)):
        return None
    if rollout.step >= rollout.steps:
        return None
    message = "promoted by a person (rollout.override): the steps that are left are skipped"
    return _to_step(view, rollout.steps, "PromotionRequested", message)


def give_up_waiting(view: View) -> Move | None:
    """The deadline passed without a verdict: onInconclusive says what then."""
    rollout = view.status.rollout
    if not (rollout and view.status.canary) or rollout.step >= rollout.steps:
        return None
    if rollout.verdict is Verdict.PASS or not _past_deadline(view):
        return None
    message = f"no verdict within {view.spec.rollout.deadline}: {rollout.message}"
    match view.spec.rollout.on_inconclusive:
        case OnInconclusive.ROLLBACK:
            return _roll_back(view, "Inconclusive", message)
        case OnInconclusive.PROMOTE:
            return _to_step(view, rollout.steps, "PromotedInconclusive", message)
        case OnInconclusive.HOLD:
            if view.status.canary.wanted_weight < view.step_weight(rollout.step) or not rollout.weight_time:
                return None
            return Move(view.status, "Inconclusive", f"{message}; held at this weight", "Unknown")


def raise_weight(view: View) -> Move | None:
    """Enough Ready pods for the next weight, and a router that takes it."""
    canary, rollout = view.status.canary, view.status.rollout
    if not (canary and rollout) or canary.wanted_weight >= view.step_weight(rollout.step):
        return None
    weight = view.step_weight(rollout.step)
    if view.workload(canary.revision).ready < view.pods_for(weight):
        return None
    if view.conflict or view.route.state is not RouteState.PROGRAMMED:
        return None
    if rollout.step >= rollout.steps:
        return _promote(view)
    message = f"{canary.version} gets {weight}% of the traffic (step {rollout.step + 1} of {rollout.steps})"
    record = view.record(canary, "WeightRaised", message)
    return Move(_weigh(view, weight), "CanaryRunning", message, record=record)


def wait_for_pods(view: View) -> Move | None:
    """Too few Ready pods for the next weight, or no router to give it."""
    canary, rollout = view.status.canary, view.status.rollout
    if not (canary and rollout) or canary.wanted_weight >= view.step_weight(rollout.step):
        return None
    weight = view.step_weight(rollout.step)
    state = "Promoting" if rollout.step >= rollout.steps else "CanaryStarting"
    if view.workload(canary.revision).ready >= view.pods_for(weight):
        return Move(view.status, "WaitingForRouter", view.conflict or view.route.message)
    return Move(view.status, state, _pods(view, canary.revision, view.pods_for(weight)))


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
    return _to_step(view, rollout.step + 1, "StepPassed", rollout.message)


def run_canary(view: View) -> Move | None:
    """On trial, and nothing to do but to look."""
    canary, rollout = view.status.canary, view.status.rollout
    if not (canary and rollout):
        return None
    message = f"step {rollout.step + 1} of {rollout.steps}, {canary.wanted_weight}%: {rollout.message}"
    return Move(view.status, "CanaryRunning", message[:1024])


def watch(view: View) -> Move | None:
    """Promoted: the version before stays warm until the watch is over."""
    status = view.status
    if not (status.stable and status.previous):
        return None
    ended = _end_watch(view)
    if ended:
        return ended
    left = (status.previous.until - view.now).total_seconds() if status.previous.until else 0.0
    message = (
        f"{status.stable.version} serves and is watched for {say_duration(left)} more; "
        f"{status.previous.version} is kept warm"
    )
    return Move(status, "Watching", message)


def steady(view: View) -> Move | None:
    """What the spec asks for serves."""
    stable = view.status.stable
    assert stable is not None  # the moves before took every other case
    message = f"{stable.version} serves all of the traffic"
    if not view.weights_applied:
        return Move(view.status, "WaitingForRouter", f"{stable.version}: {view.conflict or view.route.message}")
    return Move(view.status, "RolloutComplete", message, "False")


MOVES: tuple[Callable[[View], Move | None], ...] = (
    start_first,
    serve_first,
    wait_first,
    abort,
    freeze,
    return_by_spec,
    cancel,
    replace_canary,
    roll_back_on_evidence,
    roll_back_at_progress_deadline,
    return_when_gone,
    shield,
    stay_rolled_back,
    pause,
    start_canary,
    promote_by_person,
    give_up_waiting,
    raise_weight,
    wait_for_pods,
    wait_for_router,
    pass_step,
    run_canary,
    watch,
    steady,
)


# What moves are made of.


def _with(status: ModelDeploymentStatus, **update: Any) -> ModelDeploymentStatus:
    return status.model_copy(update=update)


def _candidate(view: View) -> RevisionStatus:
    return RevisionStatus(revision=view.target.name, version=view.target.version)


def _trial(view: View, steps: int | None = None) -> RolloutStatus:
    return RolloutStatus(
        revision=view.target.name,
        version=view.target.version,
        attempt=view.spec.rollout.attempt,
        start_time=view.now,
        steps=len(view.steps) if steps is None else steps,
        unavailable_since=view.now,
    )


def _weigh(view: View, weight: int) -> ModelDeploymentStatus:
    """The canary's wanted weight, and stable's as what is left."""
    status = view.status
    assert status.stable and status.canary and status.rollout
    return _with(
        status,
        stable=status.stable.model_copy(update={"wanted_weight": FULL - weight}),
        canary=status.canary.model_copy(update={"wanted_weight": weight}),
        rollout=status.rollout.model_copy(update={"weight_time": None}),
    )


def _to_step(view: View, step: int, effect: str, message: str) -> Move:
    status = view.status
    assert status.rollout and status.canary
    rollout = status.rollout.model_copy(update={"step": step})
    record = view.record(status.canary, effect, message)
    return Move(_with(status, rollout=rollout), "CanaryRunning", message, record=record, settles=False)


def _end_canary(view: View, effect: str, message: str) -> Move:
    """Weight 0 at once; the pods go once the router was seen to send nothing."""
    status = view.status
    assert status.stable and status.canary
    changed = _with(
        _weigh(view, 0),
        canary=None,
        rollout=None,
        draining=draining(status, status.canary.revision, view.now),
    )
    record = view.record(status.canary, effect, message)
    return Move(changed, effect, message, record=record, settles=False)


def _quarantine(view: View, revision: RevisionStatus, reason: str, message: str) -> tuple[Quarantined, ...]:
    attempt = view.status.rollout.attempt if view.status.rollout else view.spec.rollout.attempt
    return quarantined(
        view.status,
        Quarantined(
            revision=revision.revision,
            version=revision.version,
            attempt=attempt,
            reason=reason,
            message=message[:512],
            time=view.now,
        ),
    )


def _roll_back(view: View, reason: str, message: str, rule: str = "") -> Move:
    """Canary → weight 0 at once, quarantined, drained."""
    canary = view.status.canary
    assert canary is not None
    ended = _end_canary(view, reason, message)
    changed = _with(ended.status, quarantined=_quarantine(view, canary, reason, message))
    record = view.record(canary, reason, message, rule)
    return Move(changed, reason, message, "False", record, settles=False)


def _swap_back(view: View, effect: str, message: str, *, quarantine: tuple[Quarantined, ...] | None, rule: str = "") -> Move:
    """The version before serves all of the traffic again; the promoted one drains."""
    status = view.status
    assert status.stable and status.previous
    changed = _with(
        status,
        stable=status.previous.model_copy(update={"wanted_weight": FULL, "until": None}),
        previous=None,
        canary=None,
        rollout=None,
        draining=draining(status, status.stable.revision, view.now),
        quarantined=status.quarantined if quarantine is None else quarantine,
    )
    record = view.record(status.stable, effect, message, rule)
    return Move(changed, effect, message, "False", record, settles=False)


def _return_to_previous(view: View, reason: str, message: str, rule: str = "") -> Move:
    """The watch found the promoted version bad."""
    assert view.status.stable is not None
    entry = _quarantine(view, view.status.stable, reason, message)
    return _swap_back(view, reason, message, quarantine=entry, rule=rule)


def _promote(view: View) -> Move:
    """The canary becomes stable; the version before is kept warm."""
    status, spec = view.status, view.spec.rollout
    assert status.stable and status.canary and status.rollout
    length = seconds(spec.watch)
    message = f"{status.canary.version} gets all of the traffic; {status.stable.version} is kept warm for {spec.watch}"
    old = status.stable.model_copy(
        update={"wanted_weight": 0, "until": view.now + timedelta(seconds=length)}
    )
    rollout = RolloutStatus(
        revision=status.canary.revision,
        version=status.canary.version,
        attempt=status.rollout.attempt,
        start_time=status.rollout.start_time,
        step=status.rollout.steps,
        steps=status.rollout.steps,
        promotion_time=view.now,
    )
    changed = _with(
        status,
        stable=status.canary.model_copy(update={"wanted_weight": FULL}),
        canary=None,
        previous=old,
        rollout=rollout,
    )
    record = view.record(status.canary, "Promoted", message)
    return Move(changed, "Watching", message, record=record)


def _end_watch(view: View) -> Move | None:
    """The version before goes, once its time is over."""
    status = view.status
    if not (status.stable and status.previous) or (status.previous.until and status.previous.until > view.now):
        return None
    message = f"the watch is over: {status.previous.version} is archived"
    record = view.record(status.stable, "WatchEnded", message)
    changed = _with(
        status,
        previous=None,
        rollout=None,
        draining=draining(status, status.previous.revision, view.now),
    )
    return Move(changed, "RolloutComplete", message, "False", record, settles=False)


def _past_deadline(view: View) -> bool:
    rollout = view.status.rollout
    assert rollout is not None
    return (view.now - rollout.start_time).total_seconds() > seconds(view.spec.rollout.deadline)


def _suspended(view: View) -> Move:
    suspend = view.spec.suspend
    assert suspend is not None
    why = f": {suspend.reason}" if suspend.reason else ""
    message = f"suspended by a person ({suspend.mode}){why}; remove spec.suspend to go on (kubectl model resume)"
    return Move(view.status, "Suspended", message, "Unknown")


def _pods(view: View, revision: str, needed: int) -> str:
    """Why its pods are not Ready, in their own words."""
    work = view.workload(revision)
    count = f"{work.ready} of {needed} pods Ready"
    if view.refusal:
        return f"{count}; {view.refusal}"
    return f"{count}; {work.trouble}: {work.trouble_message}" if work.trouble else count
