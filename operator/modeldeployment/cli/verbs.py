"""A person's word on a rollout: pause, resume, abort, promote, retry. Each sets one field of the spec."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from modeldeployment.api.modeldeployment import SuspendMode
from modeldeployment.api.rollout import Override, OverrideAction
from modeldeployment.cli.cluster import Context, Name, Namespace, Reason, Seen, Target, fail, on
from modeldeployment.serving.children import revision_of

_AFTER_PAUSE = "once the pause ends (kubectl model resume)"


def pause(
    name: Name,
    namespace: Namespace = None,
    context: Context = None,
    reason: Reason = "",
    everything: Annotated[
        bool, typer.Option("--all", help="Nothing moves at all; without it, a bad canary is still taken back.")
    ] = False,
) -> None:
    """Nothing starts, rises or is promoted until `resume`."""
    mode = SuspendMode.ALL if everything else SuspendMode.ADVANCE

    async def do(target: Target) -> str:
        await target.see()
        await target.say("suspend", {"suspend": {"mode": mode.value, **({"reason": reason} if reason else {})}})
        return f"{name} paused ({mode.value})"

    typer.echo(on(name, namespace, context, do))


def resume(name: Name, namespace: Namespace = None, context: Context = None) -> None:
    """Ends a pause."""

    async def do(target: Target) -> str:
        if "suspend" not in (await target.see()).stored:
            return f"{name} is not paused"
        if "suspend" in await target.say("suspend", {}):
            fail(f"{name} is still suspended: spec.suspend was set by somebody else (Git?); remove it there")
        return f"{name} resumed"

    typer.echo(on(name, namespace, context, do))


def abort(name: Name, namespace: Namespace = None, context: Context = None) -> None:
    """Takes the version on trial back, at once, and keeps it out."""

    async def do(target: Target) -> str:
        seen = await target.see()
        on_trial = seen.status.canary or (seen.status.stable if seen.status.previous else None)
        if on_trial is None:
            fail(f"{name} has no version on trial, and none under watch")
        await _override(target, seen, on_trial.revision, OverrideAction.ABORT)
        return f"{name}: {on_trial.version} is taken back"

    typer.echo(on(name, namespace, context, do))


def promote(name: Name, namespace: Namespace = None, context: Context = None) -> None:
    """Skips what is left of the rollout: the canary gets all of the traffic once it has the pods for it."""

    async def do(target: Target) -> str:
        seen = await target.see()
        canary = seen.status.canary
        if canary is None:
            fail(f"{name} has no version on trial")
        if seen.status.stable is None:
            fail(f"{name}: {canary.version} is the first version, it gets all of the traffic as soon as it is Ready")
        await _override(target, seen, canary.revision, OverrideAction.PROMOTE)
        return f"{name}: {canary.version} is promoted" + (f" {_AFTER_PAUSE}" if "suspend" in seen.stored else "")

    typer.echo(on(name, namespace, context, do))


def retry(name: Name, namespace: Namespace = None, context: Context = None) -> None:
    """Tries the version that the spec asks for again, after it was taken back."""
    typer.echo(on(name, namespace, context, _retry))


async def _retry(target: Target) -> str:
    seen = await target.see()
    revision, attempt = _next_attempt(target.name, seen)
    await _withdraw(target, seen, revision)
    stored = await target.say("attempt", {"rollout": {"attempt": attempt}})
    what = f"{target.name}: {seen.spec.model.version}, attempt {attempt}"
    if "suspend" in stored:
        return f"{what}: begins {_AFTER_PAUSE}"
    if seen.status.stable is None:
        return f"{what}: begins now, and gets all of the traffic as soon as it is Ready"
    return f"{what}: begins now, as a canary from 0% beside {seen.status.stable.version}"


def _next_attempt(name: str, seen: Seen) -> tuple[str, int]:
    """The revision that the spec asks for and its next attempt, if it is kept out.

    Anywhere else a raised attempt would be a blank cheque: the next time the version is taken back, it would come
    again at once, though nobody asked for that.
    """
    spec, status = seen.spec, seen.status
    revision, version, asked = revision_of(name, spec)[0], spec.model.version, spec.rollout.attempt
    if status.canary and status.canary.revision == revision:
        fail(f"{name}: {version} is on trial just now, there is nothing to retry")
    if status.stable and status.stable.revision == revision:
        fail(f"{name}: {version} serves, there is nothing to retry")
    entry = next((q for q in status.quarantined if q.revision == revision), None)
    if entry is None:
        fail(f"{name}: {version}, which the spec asks for, was not taken back, there is nothing to retry")
    if entry.attempt < asked:
        fail(f"{name}: attempt {asked} at {version} is asked for already (attempt {entry.attempt} was taken back)")
    return revision, entry.attempt + 1


async def _withdraw(target: Target, seen: Seen, revision: str) -> None:
    """What a person said about the revision before ends here; by a fast clock it would be about the new attempt."""
    if not _about(seen.spec.rollout.override, revision):
        return
    left = Seen(await target.say("override", {}), seen.status).spec.rollout.override
    if left and _about(left, revision) and left.request_time is None:
        fail(
            f"{target.name}: spec.rollout.override, set by somebody else (Git?), says {left.action.value} of every "
            "attempt at this revision; remove it there, or give it a requestTime"
        )


def _about(override: Override | None, revision: str) -> bool:
    return override is not None and override.revision == revision


async def _override(target: Target, seen: Seen, revision: str, action: OverrideAction) -> None:
    """Names the revision and the time, so that the word ends with this rollout.

    A clock that is slow must not make it a word about the rollout before: it is never earlier than the start.
    """
    now, rollout = datetime.now(UTC), seen.status.rollout
    said = Override(revision=revision, action=action, request_time=max(now, rollout.start_time) if rollout else now)
    await target.say("override", {"rollout": {"override": said.to_json()}})
