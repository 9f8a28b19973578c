"""A person's word on a rollout: pause, resume, abort, promote, retry. Each sets one field of the spec."""

from __future__ import annotations

from typing import Annotated

import typer

from modeldeployment.api.modeldeployment import SuspendMode
from modeldeployment.api.rollout import OverrideAction
from modeldeployment.cli.cluster import Context, Name, Namespace, Reason, Target, fail, on


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
    on(name, namespace, context, lambda target: target.say("suspend", {"suspend": _suspend(mode, reason)}))
    typer.echo(f"{name} paused ({mode.value})")


def resume(name: Name, namespace: Namespace = None, context: Context = None) -> None:
    """Ends a pause."""

    async def do(target: Target) -> bool:
        await target.say("suspend", {})
        return "suspend" in (await target.read())["spec"]

    if on(name, namespace, context, do):
        fail(f"{name} is still suspended: spec.suspend was set by somebody else (Git?); remove it there")
    typer.echo(f"{name} resumed")


def abort(name: Name, namespace: Namespace = None, context: Context = None) -> None:
    """Takes the version on trial back, at once, and keeps it out."""
    revision = on(name, namespace, context, lambda target: _override(target, OverrideAction.ABORT))
    typer.echo(f"{name}: {revision} is taken back")


def promote(name: Name, namespace: Namespace = None, context: Context = None) -> None:
    """Skips what is left of the rollout: the canary gets all of the traffic once it has the pods for it."""
    revision = on(name, namespace, context, lambda target: _override(target, OverrideAction.PROMOTE))
    typer.echo(f"{name}: {revision} is promoted")


def retry(name: Name, namespace: Namespace = None, context: Context = None) -> None:
    """Tries a version again that was taken back."""

    async def do(target: Target) -> int:
        obj = await target.read()
        attempt = int(obj["spec"].get("rollout", {}).get("attempt", 1)) + 1
        await target.say("attempt", {"rollout": {"attempt": attempt}})
        return attempt

    typer.echo(f"{name}: attempt {on(name, namespace, context, do)}")


def _suspend(mode: SuspendMode, reason: str) -> dict[str, str]:
    return {"mode": mode.value, **({"reason": reason} if reason else {})}


async def _override(target: Target, action: OverrideAction) -> str:
    """Names the revision on trial, so that the word ends with it."""
    status = await target.status()
    if status.canary is None and action is OverrideAction.PROMOTE:
        fail(f"{target.name} has no version on trial")
    on_trial = status.canary or (status.stable if status.previous else None)
    if on_trial is None:
        fail(f"{target.name} has no version on trial, and none under watch")
    override = {"revision": on_trial.revision, "action": action.value}
    await target.say("override", {"rollout": {"override": override}})
    return on_trial.version
