"""Moves that take a version back, or keep it out: a person's abort, a spec that goes elsewhere, evidence, dead pods."""

from __future__ import annotations

from modeldeployment.api.quantities import seconds
from modeldeployment.api.rollout import OverrideAction
from modeldeployment.api.status import Cause, Verdict
from modeldeployment.decision.moves import (
    Move,
    changed,
    end_canary,
    end_watch,
    no_way_back,
    pods,
    return_to_previous,
    roll_back,
    suspended,
    swap_back,
    weigh,
)
from modeldeployment.decision.rules import trial_rules
from modeldeployment.decision.view import FULL, View

WATCH_GRACE_SECONDS = 30.0
"""How long a promoted version may be without a single Ready pod before its warm predecessor takes over."""


def abort(view: View) -> Move | None:
    """A person wants the revision on trial gone."""
    status = view.status
    if status.canary and view.overridden(OverrideAction.ABORT, status.canary.revision):
        return roll_back(view, "Aborted", "aborted by a person (rollout.override)")
    if status.stable and status.previous and view.overridden(OverrideAction.ABORT, status.stable.revision):
        return return_to_previous(view, "Aborted", "aborted by a person (rollout.override)")
    return None


def freeze(view: View) -> Move | None:
    """suspend.mode All: nothing moves."""
    return suspended(view) if view.frozen else None


def return_by_spec(view: View) -> Move | None:
    """The spec asks for the version before, which is still warm: no canary is needed to go back."""
    status = view.status
    if not status.previous or status.previous.revision != view.target.name or status.canary:
        return None
    # The one that serves is not said to be bad: what takes its place must be able to.
    serving = view.workload(status.stable.revision).ready if status.stable else 0
    if view.workload(status.previous.revision).ready < max(1, min(view.pods_for(FULL), serving)):
        return None
    message = f"the spec went back to {status.previous.version} during the watch: it serves again, at once"
    return swap_back(view, "Reverted", message, quarantine=None)


def cancel(view: View) -> Move | None:
    """The spec went back to stable in mid-canary."""
    status = view.status
    if not (status.canary and status.stable and status.stable.revision == view.target.name):
        return None
    message = f"the spec went back to {status.stable.version}: {status.canary.version} gets no traffic any more"
    return end_canary(view, "RolloutCancelled", message)


def replace_canary(view: View) -> Move | None:
    """The spec asks for a third version in mid-canary: the second goes first, the third starts from nothing."""
    status = view.status
    if not (status.canary and status.stable) or status.canary.revision == view.target.name:
        return None
    message = f"the spec asks for {view.target.version} now: {status.canary.version} gets no traffic any more"
    return end_canary(view, "RolloutReplaced", message)


def roll_back_on_evidence(view: View) -> Move | None:
    """The evidence says Fail."""
    rollout = view.status.rollout
    if rollout is None or rollout.verdict is not Verdict.FAIL:
        return None
    takes_back = {r.name for r in trial_rules(view.spec, view.default_objectives) if r.rolls_back}
    failed = [r for r in rollout.rules if r.verdict is Verdict.FAIL and r.name in takes_back]
    blamed = next((r for r in failed if r.cause in view.takes_back), failed[0] if failed else None)
    rule = blamed.name if blamed else ""
    message = blamed.message if blamed else rollout.message
    if view.status.canary:
        if waits := no_way_back(view, message):
            promoted = view.overridden(OverrideAction.PROMOTE, view.status.canary.revision)
            return None if promoted else waits  # a person may want what answers to serve
        return roll_back(view, "RolledBack", message, rule)
    if view.status.previous and rollout.promotion_time:
        return return_to_previous(view, "RolledBack", message, rule)
    return None


def roll_back_at_progress_deadline(view: View) -> Move | None:
    """The canary's pods were not Ready for too long in all; a crash loop cannot reset this clock."""
    status = view.status
    rollout = status.rollout
    if not (status.canary and status.stable and rollout and rollout.unavailable_since):
        return None  # Ready just now: if it is a crash loop, the next crash is the time, and has the reason
    if view.unavailable_for() <= seconds(view.spec.rollout.progress_deadline):
        return None
    needed = view.pods_for(view.step_weight(rollout.step))
    why = pods(view, status.canary.revision, needed)
    message = f"its pods were not Ready for more than {view.spec.rollout.progress_deadline} in all: {why}"
    waits = no_way_back(view, message)
    return waits or roll_back(view, "ProgressDeadlineExceeded", message, cause=Cause.PLATFORM)


def return_when_gone(view: View) -> Move | None:
    """During the watch, every pod of the promoted version is gone while the one before stands ready."""
    status, rollout = view.status, view.status.rollout
    if not (status.stable and status.previous and rollout and rollout.promotion_time):
        return None
    if view.workload(status.stable.revision).ready or not view.workload(status.previous.revision).ready:
        return None
    if view.unavailable_for() < WATCH_GRACE_SECONDS:
        return None
    why = pods(view, status.stable.revision, 1)
    message = f"no Ready pod for {WATCH_GRACE_SECONDS:g}s: {why}"
    return return_to_previous(view, "StableUnavailable", message, cause=Cause.PLATFORM)


def shield(view: View) -> Move | None:
    """The canary has traffic and not one Ready pod: the traffic goes back until it has.

    One that was about to be promoted comes back at its last step, never from nothing to everything.
    """
    canary, rollout = view.status.canary, view.status.rollout
    if not (canary and rollout) or canary.wanted_weight == 0 or view.workload(canary.revision).ready:
        return None
    message = f"no Ready pod: its {canary.wanted_weight}% go to stable until it has ({pods(view, canary.revision, 1)})"
    record = view.record(canary, "CanaryUnavailable", message, cause=Cause.PLATFORM)
    after = weigh(view, 0)
    step = min(rollout.step, max(0, rollout.steps - 1))
    after = changed(after, rollout=after.rollout and after.rollout.model_copy(update={"step": step}))
    return Move(after, "CanaryUnavailable", message, record=record)


def lower_weight(view: View) -> Move | None:
    """The plan was edited below the present weight: the weight follows at once."""
    canary, rollout = view.status.canary, view.status.rollout
    if not (canary and rollout) or canary.wanted_weight <= view.step_weight(rollout.step):
        return None
    weight = view.step_weight(rollout.step)
    message = f"the plan was changed: {canary.version} gets {weight}% instead of {canary.wanted_weight}%"
    record = view.record(canary, "WeightLowered", message)
    return Move(weigh(view, weight), "CanaryRunning", message, record=record)


def stay_rolled_back(view: View) -> Move | None:
    """The spec asks for a revision that was taken back: it waits for another spec, or a person's retry."""
    status = view.status
    if status.canary or (status.stable and status.stable.revision == view.target.name):
        return None
    entry = view.quarantine(view.target.name)
    if entry is None:
        return None
    if status.previous:  # the watch of the version that serves goes on meanwhile
        ended = end_watch(view)
        if ended:
            return ended
    message = (
        f"{entry.version} was taken back ({entry.reason}): {entry.message}; change the spec, or raise "
        f"rollout.attempt above {entry.attempt} to try it again (kubectl model retry)"
    )
    return Move(status, entry.reason, message[:1024], "False")


def pause(view: View) -> Move | None:
    """suspend.mode Advance: what goes on is watched, nothing starts or rises."""
    status = view.status
    if not view.paused:
        return None
    if status.previous:  # the watch of the version that serves goes on meanwhile
        ended = end_watch(view)
        if ended:
            return ended
    if status.canary or (status.stable and status.stable.revision != view.target.name):
        return suspended(view)
    return None
