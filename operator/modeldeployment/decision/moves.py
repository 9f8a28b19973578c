"""What moves are made of: the `Move` itself, and the changes of status that several moves share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from modeldeployment.api.conditions import ConditionStatus, ConditionType, find
from modeldeployment.api.quantities import seconds
from modeldeployment.api.status import (
    Cause,
    DecisionRecord,
    ModelDeploymentStatus,
    Quarantined,
    RevisionStatus,
    RolloutStatus,
)
from modeldeployment.decision.view import FULL, View, draining, quarantined, roles


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


def changed(status: ModelDeploymentStatus, **update: Any) -> ModelDeploymentStatus:
    return status.model_copy(update=update)


def candidate(view: View) -> RevisionStatus:
    return RevisionStatus(revision=view.target.name, version=view.target.version)


def trial(view: View, steps: int | None = None) -> RolloutStatus:
    return RolloutStatus(
        revision=view.target.name,
        version=view.target.version,
        attempt=view.spec.rollout.attempt,
        start_time=view.now,
        steps=len(view.steps) if steps is None else steps,
        unavailable_since=view.now,
    )


def weigh(view: View, weight: int) -> ModelDeploymentStatus:
    """The canary's wanted weight, and stable's as what is left."""
    status = view.status
    assert status.stable and status.canary and status.rollout
    return changed(
        status,
        stable=status.stable.model_copy(update={"wanted_weight": FULL - weight}),
        canary=status.canary.model_copy(update={"wanted_weight": weight}),
        rollout=status.rollout.model_copy(update={"weight_time": None}),
    )


def weigh_back(view: View, previous: int) -> ModelDeploymentStatus:
    """The wanted weight of the version before, during the watch, and the promoted one's as what is left."""
    status = view.status
    assert status.stable and status.previous and status.rollout
    return changed(
        status,
        stable=status.stable.model_copy(update={"wanted_weight": FULL - previous}),
        previous=status.previous.model_copy(update={"wanted_weight": previous}),
        rollout=status.rollout.model_copy(update={"weight_time": None}),
    )


def without_previous(view: View) -> ModelDeploymentStatus:
    """The watch is over, and with it a comparison that was going on: the version before drains."""
    status = view.status
    assert status.stable and status.previous
    return changed(
        status,
        stable=status.stable.model_copy(update={"wanted_weight": FULL}),
        previous=None,
        rollout=None,
        draining=draining(view, status.previous.revision),
    )


def to_step(view: View, step: int, effect: str, message: str, rule: str = "") -> Move:
    status = view.status
    assert status.rollout and status.canary
    # Each step asks for more pods, so the clock of the progress deadline starts anew: only evidence gets here.
    rollout = status.rollout.model_copy(update={"step": step, "unavailable_since": None, "unavailable_seconds": 0})
    record = view.record(status.canary, effect, message, rule)
    return Move(changed(status, rollout=rollout), "CanaryRunning", message, record=record, settles=False)


def end_canary(view: View, effect: str, message: str) -> Move:
    """Weight 0 at once; the pods go once the router was seen to send nothing."""
    status = view.status
    assert status.stable and status.canary
    after = changed(
        weigh(view, 0),
        canary=None,
        rollout=None,
        draining=draining(view, status.canary.revision),
    )
    record = view.record(status.canary, effect, message)
    return Move(after, effect, message, record=record, settles=False)


def latch(view: View, revision: RevisionStatus, reason: str, message: str) -> tuple[Quarantined, ...]:
    """The quarantined revisions and one more, at the attempt that failed."""
    # An attempt that was raised in mid-rollout is this one's: it asks for no second.
    began = view.status.rollout.attempt if view.status.rollout else 1
    attempt = max(began, view.spec.rollout.attempt)
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


def roll_back(view: View, reason: str, message: str, rule: str = "", cause: Cause | None = None) -> Move:
    """Canary → weight 0 at once, quarantined, drained."""
    canary = view.status.canary
    assert canary is not None
    ended = end_canary(view, reason, message)
    after = changed(ended.status, quarantined=latch(view, canary, reason, message))
    record = view.record(canary, reason, message, rule, cause)
    return Move(after, reason, message, "False", record, settles=False)


def no_way_back(view: View, message: str) -> Move | None:
    """Nothing serves but the canary: taking it back would lose what it answers, so a person is told, once."""
    stable, canary = view.status.stable, view.status.canary
    assert stable is not None and canary is not None
    if view.workload(stable.revision).ready or not view.workload(canary.revision).ready:
        return None
    state = "WaitingForStable"
    waits = f"{stable.version} has no Ready pod to return to ({pods(view, stable.revision, 1)}): {message}"[:1024]
    return Move(view.status, state, waits, "Unknown", once(view, canary, state, waits))


def once(view: View, revision: RevisionStatus, effect: str, message: str, rule: str = "") -> DecisionRecord | None:
    """The decision to stay in a state, told when it begins; None while it goes on."""
    known = find(view.status.conditions, ConditionType.PROGRESSING)
    return None if known and known.reason == effect else view.record(revision, effect, message, rule)


def swap_back(
    view: View,
    effect: str,
    message: str,
    *,
    quarantine: tuple[Quarantined, ...] | None,
    rule: str = "",
    cause: Cause | None = None,
) -> Move:
    """The version before serves all of the traffic again; the promoted one drains."""
    status = view.status
    assert status.stable and status.previous
    after = changed(
        status,
        stable=status.previous.model_copy(update={"wanted_weight": FULL, "until": None}),
        previous=None,
        canary=None,
        rollout=None,
        draining=draining(view, status.stable.revision),
        quarantined=status.quarantined if quarantine is None else quarantine,
    )
    record = view.record(status.stable, effect, message, rule, cause)
    return Move(after, effect, message, "False", record, settles=False)


def return_to_previous(
    view: View, reason: str, message: str, rule: str = "", cause: Cause | None = None
) -> Move | None:
    """The promoted version is taken back. Without a Ready pod to return to, its traffic stays until there is one.

    None: there is none, and the spec asks for a third version, which may come meanwhile.
    """
    stable, previous = view.status.stable, view.status.previous
    assert stable is not None and previous is not None
    if not view.workload(previous.revision).ready:
        if ended := end_watch(view):
            return ended
        if view.target.name not in (stable.revision, previous.revision):
            return None
        waits = f"{previous.version} has no Ready pod to return to ({pods(view, previous.revision, 1)}): {message}"
        return Move(view.status, "WaitingForPrevious", waits[:1024])
    entry = latch(view, stable, reason, message)
    return swap_back(view, reason, message, quarantine=entry, rule=rule, cause=cause)


def promote(view: View) -> Move:
    """The canary becomes stable; the version before is kept warm."""
    status, spec = view.status, view.spec.rollout
    assert status.stable and status.canary and status.rollout
    length = seconds(spec.watch)
    message = f"{status.canary.version} gets all of the traffic; {status.stable.version} is kept warm for {spec.watch}"
    old = status.stable.model_copy(update={"wanted_weight": 0, "until": view.now + timedelta(seconds=length)})
    rollout = RolloutStatus(
        revision=status.canary.revision,
        version=status.canary.version,
        attempt=status.rollout.attempt,
        start_time=status.rollout.start_time,
        step=status.rollout.steps,
        steps=status.rollout.steps,
        promotion_time=view.now,
        rules=status.rollout.rules,  # how much stable varies is known from them
    )
    after = changed(
        status,
        stable=status.canary.model_copy(update={"wanted_weight": FULL}),
        canary=None,
        previous=old,
        rollout=rollout,
    )
    record = view.record(status.canary, "Promoted", message)
    return Move(after, "Watching", message, record=record)


def end_watch(view: View) -> Move | None:
    """The version before goes, once its time is over."""
    status = view.status
    if not (status.stable and status.previous) or (status.previous.until and status.previous.until > view.now):
        return None
    message = f"the watch is over: {status.previous.version} is archived"
    record = view.record(status.stable, "WatchEnded", message)
    return Move(without_previous(view), "RolloutComplete", message, "False", record, settles=False)


def past_deadline(view: View) -> bool:
    rollout = view.status.rollout
    assert rollout is not None
    lasted = (view.now - rollout.start_time).total_seconds() - view.suspended_for(rollout)
    return lasted > seconds(view.spec.rollout.deadline)


def suspended(view: View) -> Move:
    suspend = view.spec.suspend
    assert suspend is not None
    why = f": {suspend.reason}" if suspend.reason else ""
    stable = view.status.stable
    coming = stable is not None and view.target.name not in {r.revision for r in roles(view.status)}
    waits = f"; {view.target.version} waits" if coming else ""
    message = f"suspended by a person ({suspend.mode}){why}{waits}; remove spec.suspend to go on (kubectl model resume)"
    return Move(view.status, "Suspended", message, "Unknown")


def pods(view: View, revision: str, needed: int) -> str:
    """Why its pods are not Ready, in their own words."""
    work = view.workload(revision)
    count = f"{work.ready} of {needed} pods Ready"
    if view.refusal:
        return f"{count}; {view.refusal}"
    return f"{count}; {work.trouble}: {work.trouble_message}" if work.trouble else count
