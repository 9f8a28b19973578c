"""`modeldeployment replay`: decisions taken again, from a recording or from Prometheus' history."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from modeldeployment.api.status import DecisionRecord, ModelDeploymentStatus
from modeldeployment.cli.cluster import Context, Namespace, Target, fail, on
from modeldeployment.cli.prometheus import (
    CaFile,
    Format,
    Output,
    Since,
    TenantHeader,
    TokenFile,
    Url,
    ago,
    ask,
    connection,
    read_text,
)
from modeldeployment.metrics import Connection
from modeldeployment.replaying import past
from modeldeployment.replaying.history import HistoryClient, PastError, Reading
from modeldeployment.replaying.manifests import Manifest, ManifestError, load
from modeldeployment.replaying.page import replay_page
from modeldeployment.replaying.recording import Header, Look, RecordingError, read
from modeldeployment.replaying.render import dump, replay_json, replay_text
from modeldeployment.replaying.rerun import Replayed, rerun


def replay(
    what: Annotated[
        str, typer.Argument(metavar="FILE|NAME", help="A recording; with --prometheus, a ModelDeployment.")
    ] = "",
    prometheus: Url = None,
    since: Since = "2h",
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", "-f", metavar="YAML", help="The ModelDeployment with its status, instead of a cluster's."
        ),
    ] = None,
    recording: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Takes the decision log from a recording, not from the status.")
    ] = None,
    namespace: Namespace = None,
    context: Context = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    tenant: TenantHeader = None,
    output: Format = Output.TABLE,
) -> None:
    """Decides again, and tells the first decision that comes out otherwise (exit code 1).

    FILE is a recording (modeldeployment operator --record DIR). Everything is in it, and the same decisions must come
    out byte for byte, as must the status.

    NAME --prometheus URL takes all counts and the values of queries from Prometheus, at the instants at which the
    operator looked, read by the operator's own code: so numbers, e-values and instants must be those of the decision
    log. What Prometheus does not know is taken from that log (the last ten decisions in the status, or --recording):
    when each weight was asked for, when pods were not Ready, what a person did. Objectives and rollout are taken as
    they are in the spec now. When the router was seen to apply a weight is nowhere written: it is what makes the
    decisions come out, from 0.05 to 30 seconds after it was asked for. Nodes and container starts are not known, so a
    fault is never a node's; a pause leaves no decision, and stable is taken to be Ready: what followed from that
    differs.
    """
    if prometheus is None:
        if not what or file or recording:
            fail("name a recording, or a ModelDeployment and --prometheus URL")
        done = _from_recording(Path(what))
    else:
        if bool(what) == bool(file):
            fail("name the ModelDeployment, or give it as -f YAML (with its status)")
        now = datetime.now(UTC)
        to, begin = connection(prometheus, token_file, ca_file, tenant), ago(since, now)
        model = _model(_given(file) if file else None, what, namespace, context, recording)
        done = _from_prometheus(model, to, begin, now)
    typer.echo(_shown(done, output))
    raise typer.Exit(0 if done.difference is None else 1)


def _shown(done: Replayed, output: Output) -> str:
    match output:
        case Output.TABLE:
            return replay_text(done)
        case Output.JSON:
            return dump(replay_json(done))
        case Output.HTML:
            return replay_page(done)


def _from_recording(path: Path) -> Replayed:
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            return rerun(lines)
    except OSError as error:
        hint = "" if path.exists() else "; to replay the ModelDeployment of that name, add --prometheus URL"
        fail(f"{path} cannot be read: {error.strerror or error}{hint}")
    except UnicodeDecodeError:
        fail(f"{path}: it is no recording: it is no text in UTF-8")
    except RecordingError as error:
        fail(f"{path}: {error}")


def _given(path: Path) -> Manifest:
    try:
        return load(read_text(path))
    except ManifestError as error:
        fail(f"{path}: {error}")


def _model(
    given: Manifest | None, name: str, namespace: str | None, context: str | None, recording: Path | None
) -> past.Model:
    """The model and its decision log."""
    if given is None:
        return _with_log(on(name, namespace, context, _seen), recording)
    if not given.name:
        fail("the file has no metadata.name: a replay is of one ModelDeployment")
    key = (namespace or given.namespace or "default", given.name)
    model = past.Model(key, given.spec, given.status, (), given.defaults, given.reading)
    return _with_log(model, recording)


async def _seen(target: Target) -> past.Model:
    seen, policy = await target.see(), await target.policy()
    defaults = tuple(policy.objectives) if policy else ()
    reading = Reading.of(policy) if policy else Reading()
    return past.Model((target.namespace, target.name), seen.spec, seen.status, (), defaults, reading)


def _with_log(model: past.Model, recording: Path | None) -> past.Model:
    log = _recorded(recording) if recording else _logged(model.status)
    if not log:
        fail(f"{model.key[1]} has no decision in its status: there is nothing to replay")
    return replace(model, log=log)


def _logged(status: ModelDeploymentStatus) -> tuple[DecisionRecord, ...]:
    return tuple(reversed(status.decisions))


def _recorded(path: Path) -> tuple[DecisionRecord, ...]:
    """The decisions of a recording, and those that were in its first status."""
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            parts = [one for one in read(lines) if not isinstance(one, Header)]
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror or error}")
    except RecordingError as error:
        fail(f"{path}: {error}")
    return _all_records(parts)


def _all_records(looks: list[Look]) -> tuple[DecisionRecord, ...]:
    before = _logged(looks[0].view.status) if looks else ()
    taken = [DecisionRecord.model_validate(record) for look in looks for record in look.outcome.records]
    return (*before, *taken)


def _from_prometheus(model: past.Model, to: Connection, since: datetime, now: datetime) -> Replayed:
    async def work() -> Replayed:
        async with HistoryClient(to, model.interval, now) as client:
            return await past.replay(model, since, now, client)

    try:
        return ask(work)
    except PastError as error:
        fail(f"{model.key[1]}: {error}")
