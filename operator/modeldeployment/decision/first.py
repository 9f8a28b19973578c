"""Moves of the first version: straight to all of the traffic, once Ready."""

from __future__ import annotations

from typing import Any

from modeldeployment.api.quantities import seconds
from modeldeployment.api.rollout import OverrideAction
from modeldeployment.decision.moves import Move, candidate, changed, latch, pods, suspended, trial
from modeldeployment.decision.view import FULL, View, draining


def abort_first(view: View) -> Move | None:
    """A person wants the first version gone: it is kept out, and nothing serves until the spec asks for another."""
    status = view.status
    if status.stable or not (status.canary and view.overridden(OverrideAction.ABORT, status.canary.revision)):
        return None
    message = "aborted by a person (rollout.override)"
    after = changed(
        status,
        canary=None,
        rollout=None,
        draining=draining(view, status.canary.revision),
        quarantined=latch(view, status.canary, "Aborted", message),
    )
    return Move(after, "Aborted", message, "False", view.record(status.canary, "Aborted", message), settles=False)


def start_first(view: View) -> Move | None:
    """Nothing serves and nothing is on its way."""
    status, target = view.status, view.target.name
    if status.stable or (status.canary and status.canary.revision == target):
        return None
    if view.paused or view.quarantine(target):
        return None
    gone = draining(view, status.canary.revision) if status.canary else status.draining
    update: dict[str, Any] = {
        "canary": candidate(view),
        "rollout": trial(view, steps=0),
        "draining": tuple(d for d in gone if d.revision != target),
    }
    message = f"starting {view.target.version}, the first version"
    record = view.record(view.target, "FirstVersionStarted", message)
    return Move(changed(status, **update), "Initializing", message, record=record)


def serve_first(view: View) -> Move | None:
    """The first version has a Ready pod: it gets all of the traffic."""
    status = view.status
    if status.stable or status.canary is None or view.paused:
        return None
    work = view.workload(status.canary.revision)
    if work.ready < 1:
        return None
    stable = status.canary.model_copy(update={"wanted_weight": FULL})
    message = f"{stable.version} is Ready: all of the traffic is to go to it"
    record = view.record(stable, "FirstVersionServes", message)
    after = changed(status, stable=stable, canary=None, rollout=None)
    return Move(after, "RolloutComplete", message, "False", record, settles=False)


def wait_first(view: View) -> Move | None:
    """The first version is not Ready yet; past the deadline that is said, and waiting goes on."""
    status = view.status
    if status.stable:
        return None
    if view.paused:
        return suspended(view)
    if status.canary is None:
        return None  # kept out
    why = pods(view, status.canary.revision, 1)
    if view.unavailable_for() <= seconds(view.spec.rollout.progress_deadline):
        return Move(status, "Initializing", why)
    message = f"not Ready within {view.spec.rollout.progress_deadline}: {why}; still trying, nothing else can serve"
    return Move(status, "ProgressDeadlineExceeded", message, "False")
