"""Moves of the watch after promotion: an alarm, the comparison with the version before that it asks for, the end.

An alarm says that a bound begins to break, and not whose fault that is. So half of the traffic goes back to the version
before, which is kept warm, and both are compared at the same time: only what is proven worse is taken back
(backward.roll_back_on_evidence). An incident that everybody has passes by.
"""

from __future__ import annotations

from datetime import timedelta

from modeldeployment.api.quantities import say_duration
from modeldeployment.api.status import Cause, RolloutStatus, RuleStatus
from modeldeployment.decision.evidence import RouteState
from modeldeployment.decision.memory import COMPARE_SECONDS
from modeldeployment.decision.moves import Move, changed, end_watch, pods, weigh_back
from modeldeployment.decision.verdict import ALARM
from modeldeployment.decision.view import View

HALF = 50
"""Percent of the traffic that the version before gets during a comparison."""
RESTS_MAX = 6
"""Doublings of the rest after a comparison that proved nothing; the first two have none."""


def end_comparison(view: View) -> Move | None:
    """It lasted long enough without a proof, or there is nothing to compare with any more."""
    status, rollout = view.status, view.status.rollout
    if not (status.stable and status.previous and rollout and rollout.compare_time):
        return None
    lasted = (view.now - rollout.compare_time).total_seconds()
    previous = view.workload(status.previous.revision)
    if previous.ready and lasted < COMPARE_SECONDS:
        return None
    after = weigh_back(view, 0)
    rest = (
        timedelta(seconds=COMPARE_SECONDS * 2.0 ** min(rollout.alarms - 2, RESTS_MAX)) if rollout.alarms > 2 else None
    )
    update = {"compare_time": None, "next_compare_time": view.now + rest if rest else None}
    after = changed(after, rollout=after.rollout and after.rollout.model_copy(update=update))
    told = (
        f"{status.stable.version} is not proven worse than {status.previous.version} within "
        f"{say_duration(COMPARE_SECONDS)}: it gets all of the traffic again"
        if previous.ready
        else f"{status.previous.version} has no Ready pod to compare with: {pods(view, status.previous.revision, 1)}"
    )
    record = view.record(
        status.stable, "ComparisonEnded", told, cause=Cause.SHARED if previous.ready else Cause.PLATFORM
    )
    return Move(after, "Watching", told, record=record)


def compare(view: View) -> Move | None:
    """A bound begins to break: half of the traffic goes to the version before, to tell whose fault it is."""
    status, rollout = view.status, view.status.rollout
    if not (status.stable and status.previous and rollout and rollout.promotion_time) or rollout.compare_time:
        return None
    if rollout.next_compare_time and rollout.next_compare_time > view.now:
        return None
    if rollout.reason != ALARM or (status.previous.until and status.previous.until <= view.now):
        return None
    if not_comparable(view):
        return None
    message = (
        f"{rollout.message}; {HALF}% of the traffic go to {status.previous.version} for up to "
        f"{say_duration(COMPARE_SECONDS)}, to tell whether {status.stable.version} is worse"
    )
    record = view.record(status.stable, ALARM, message, _alarming(rollout))
    after = weigh_back(view, HALF)
    comparing = {"compare_time": view.now, "alarms": rollout.alarms + 1}
    after = changed(after, rollout=after.rollout and after.rollout.model_copy(update=comparing))
    return Move(after, "Comparing", message, record=record)


def not_comparable(view: View) -> str:
    """Why the version before cannot get half of the traffic; "" if it can."""
    previous = view.status.previous
    assert previous is not None
    needed = view.pods_for(HALF)
    if view.workload(previous.revision).ready < needed:
        return f"{previous.version}: {pods(view, previous.revision, needed)}"
    return view.conflict or ("" if view.route.state is RouteState.PROGRAMMED else view.route.message)


def _alarming(rollout: RolloutStatus) -> str:
    """The rule that the alarm's sentence is about."""
    rules: tuple[RuleStatus, ...] = rollout.rules
    return next((rule.name for rule in rules if rule.message == rollout.message), "")


def watch(view: View) -> Move | None:
    """Promoted: the version before stays warm until the watch is over."""
    status, rollout = view.status, view.status.rollout
    if not (status.stable and status.previous):
        return None
    ended = end_watch(view)
    if ended:
        return ended
    left = (status.previous.until - view.now).total_seconds() if status.previous.until else 0.0
    if rollout and rollout.compare_time:
        message = f"{status.stable.version} is compared with {status.previous.version}, half of the traffic each"
        return Move(status, "Comparing", f"{message}: {rollout.message}"[:1024])
    if rollout and rollout.reason == ALARM and (why := not_comparable(view)):
        return Move(status, "WaitingForPrevious", f"cannot be compared ({why}): {rollout.message}"[:1024])
    message = (
        f"{status.stable.version} serves and is watched for {say_duration(left)} more; "
        f"{status.previous.version} is kept warm"
    )
    return Move(status, "Watching", message)
