"""Moves of the watch after promotion: an alarm, the comparison with the version before that it asks for, the end.

An alarm says that a bound begins to break, and not whose fault that is. So half of the traffic goes back to the version
before, which is kept warm, and both are compared at the same time: only what is proven worse is taken back
(backward.roll_back_on_evidence). An incident that everybody has passes by.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from modeldeployment.api.quantities import say_duration
from modeldeployment.api.status import Cause, RevisionStatus, RolloutStatus, RuleStatus
from modeldeployment.decision.evidence import DataState, RouteState
from modeldeployment.decision.memory import COMPARE_SECONDS
from modeldeployment.decision.moves import Move, changed, end_watch, pods, weigh_back
from modeldeployment.decision.verdict import ALARM, FAULT
from modeldeployment.decision.view import View

HALF = 50
"""Percent of the traffic that the version before gets during a comparison."""
RESTS_MAX = 6
"""Doublings of the rest after a comparison that proved nothing; the first two have none."""
COMPARE_AT_MOST = 3 * COMPARE_SECONDS
"""A comparison for which no evidence comes ends after so many seconds."""
_OWN = frozenset(f"{cause}{FAULT}" for cause in (Cause.CANARY, Cause.POD, Cause.NODE, Cause.CAPACITY))
"""Reasons of a version that is proven worse, and that the spec does not let take back."""


def end_comparison(view: View) -> Move | None:
    """It proved something, or lasted long enough without a proof, or there is nothing to compare with any more."""
    status, rollout = view.status, view.status.rollout
    if not (status.stable and status.previous and rollout and rollout.compare_time):
        return None
    found = _found(view, rollout, status.stable, status.previous)
    if found is None:
        return None
    cause, rule, told = found
    after = weigh_back(view, 0)
    update = {"compare_time": None, "next_compare_time": _next_compare(view, rollout, status.previous, cause)}
    after = changed(after, rollout=after.rollout and after.rollout.model_copy(update=update))
    record = view.record(status.stable, "ComparisonEnded", told, rule, cause)
    return Move(after, "Watching", told, record=record)


def _found(
    view: View, rollout: RolloutStatus, stable: RevisionStatus, previous: RevisionStatus
) -> tuple[Cause | None, str, str] | None:
    """What the comparison came to: cause, rule, and a sentence; None while it goes on."""
    if not view.workload(previous.revision).ready:
        why = pods(view, previous.revision, 1)
        return Cause.PLATFORM, "", f"{previous.version} has no Ready pod to compare with: {why}"
    failed = next((r for r in rollout.rules if f"{r.cause}{FAULT}" == rollout.reason in _OWN), None)
    if failed is not None:
        return failed.cause, failed.name, f"{stable.version} is proven worse than {previous.version}: {rollout.message}"
    if compared_for(rollout) >= COMPARE_SECONDS:
        within = f"within {say_duration(COMPARE_SECONDS)}: it gets all of the traffic again"
        return Cause.SHARED, "", f"{stable.version} is not proven worse than {previous.version} {within}"
    assert rollout.compare_time is not None
    if (view.now - rollout.compare_time).total_seconds() >= COMPARE_AT_MOST:
        blind = view.evidence.state is not DataState.FLOWING
        why = view.evidence.message if blind else view.conflict or view.route.message
        within = f"within {say_duration(COMPARE_AT_MOST)} ({why}): it gets all of the traffic again"
        return None, "", f"{stable.version} could not be compared with {previous.version} {within}"
    return None


def compared_for(rollout: RolloutStatus) -> float:
    """Seconds of evidence since both versions were seen to have their halves; none without a request of both."""
    numbers = [rule.numbers for rule in rollout.rules if rule.numbers]
    if rollout.weight_time is None or rollout.evidence_time is None:
        return 0.0
    if not any(of.requests and of.stable_requests for of in numbers):
        return 0.0
    return max(0.0, (rollout.evidence_time - rollout.weight_time).total_seconds())


def _next_compare(view: View, rollout: RolloutStatus, previous: RevisionStatus, cause: Cause | None) -> datetime | None:
    """When an alarm may move traffic again: at once twice, then later each time; never where all is known."""
    if cause is Cause.CANARY:
        return previous.until  # it is worse, and the spec says that it stays
    if cause in (Cause.POD, Cause.NODE, Cause.CAPACITY) or rollout.alarms > 2:
        return view.now + timedelta(seconds=COMPARE_SECONDS * 2.0 ** min(max(rollout.alarms - 2, 0), RESTS_MAX))
    return None


def compare(view: View) -> Move | None:
    """A bound begins to break: half of the traffic goes to the version before, to tell whose fault it is."""
    status, rollout = view.status, view.status.rollout
    if not (status.stable and status.previous and rollout and rollout.promotion_time) or rollout.compare_time:
        return None
    if rollout.next_compare_time and rollout.next_compare_time > view.now and not _may_take_back_now(view):
        return None
    if rollout.reason != ALARM or (status.previous.until and status.previous.until <= view.now):
        return None
    if not_comparable(view):
        return None
    message = (
        f"{rollout.message}; {HALF}% of the traffic go to {status.previous.version} for up to "
        f"{say_duration(COMPARE_SECONDS)} of evidence, to tell whether {status.stable.version} is worse"
    )
    record = view.record(status.stable, ALARM, message, _alarming(rollout))
    after = weigh_back(view, HALF)
    comparing = {"compare_time": view.now, "alarms": rollout.alarms + 1}
    after = changed(after, rollout=after.rollout and after.rollout.model_copy(update=comparing))
    return Move(after, "Comparing", message, record=record)


def _may_take_back_now(view: View) -> bool:
    """Whether the last comparison proved it worse, and the spec has been changed so that this takes it back."""
    last = next((d for d in view.status.decisions if d.effect == "ComparisonEnded"), None)
    return last is not None and last.cause is Cause.CANARY and Cause.CANARY in view.takes_back


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
    if rollout and rollout.compare_time:
        message = f"{status.stable.version} is compared with {status.previous.version}, half of the traffic each"
        return Move(status, "Comparing", f"{message}: {rollout.message}"[:1024])
    if rollout and rollout.reason == ALARM and (why := not_comparable(view)):
        return Move(status, "WaitingForPrevious", f"cannot be compared ({why}): {rollout.message}"[:1024])
    until = f" until {status.previous.until:%Y-%m-%d %H:%M:%SZ}" if status.previous.until else ""
    paused = f"; suspended by a person ({view.spec.suspend.mode}): nothing starts" if view.spec.suspend else ""
    message = f"{status.stable.version} serves and is watched{until}; {status.previous.version} is kept warm{paused}"
    return Move(status, "Watching", message)
