"""`modeldeployment backtest`: what another policy would have done in past rollouts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.api.quantities import say_duration, seconds
from modeldeployment.cli.cluster import fail
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
from modeldeployment.metrics import Connection, ModelKey, PrometheusError
from modeldeployment.replaying.backtest import Backtest, to_json, to_text
from modeldeployment.replaying.candidates import counted, recorded, search
from modeldeployment.replaying.history import HistoryClient, PastError, metrics_of, quiet
from modeldeployment.replaying.judging import PastRollout, judge
from modeldeployment.replaying.manifests import Manifest, ManifestError, load
from modeldeployment.replaying.page import backtest_page
from modeldeployment.replaying.ranges import NotInstalledError, fetcher
from modeldeployment.replaying.recording import RecordingError
from modeldeployment.replaying.render import dump


def backtest(
    file: Annotated[
        Path,
        typer.Option(
            "--file", "-f", metavar="YAML", help="The policy: a ModelDeployment, or its parts objectives and rollout."
        ),
    ],
    name: Annotated[str, typer.Argument(help="The ModelDeployment; default: the file's.")] = "",
    prometheus: Url = None,
    since: Since = "30d",
    recordings: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Takes past rollouts from the operator's recordings instead.")
    ] = None,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Its namespace; default: the file's, or default.")
    ] = "",
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    tenant: TenantHeader = None,
    output: Format = Output.TABLE,
) -> None:
    """Says of each past rollout whether another policy would have promoted it or taken it back, when, and at what cost.

    With --prometheus, a rollout is a revision's first requests while another one had some (revisions are told by the
    names of their pods, or the mesh's), and it was promoted or taken back by whose requests went on. With --recordings,
    both are as the operator decided, and the evidence is as it was recorded, at the interval of that time.

    The counts are as they were, at the weights as they were: nobody knows what a version would have counted at another
    weight. A policy that sends more traffic would have decided sooner than is said here, one that sends less later.
    Counts end with the real decision: a policy that needs more is undecided. Bad requests are those between both
    decisions: taken back, the version that served would have answered at its own rate; promoted, the new one.
    """
    if (prometheus is None) == (recordings is None):
        fail("say where past rollouts are: --prometheus URL, or --recordings DIR")
    try:
        policy = load(read_text(file))
    except ManifestError as error:
        fail(f"{file}: {error}")
    now = datetime.now(UTC)
    if prometheus is not None:
        key = (namespace or policy.namespace or "default", name or policy.name)
        if not key[1]:
            fail(f"{file} has no metadata.name: name the ModelDeployment (backtest NAME -f {file})")
        done = _from_prometheus(key, policy, connection(prometheus, token_file, ca_file, tenant), since, now)
    else:
        assert recordings is not None  # one of both is there
        done = _from_recordings(recordings, (namespace, name or policy.name), policy, ago(since, now))
    done = replace(done, policy=file.name)
    typer.echo(_shown(done, output))


def _shown(done: Backtest, output: Output) -> str:
    match output:
        case Output.TABLE:
            return to_text(done)
        case Output.JSON:
            return dump(to_json(done))
        case Output.HTML:
            return backtest_page(done)


def _from_prometheus(key: ModelKey, policy: Manifest, to: Connection, since: str, now: datetime) -> Backtest:
    spec = quiet(policy.spec)
    try:
        metrics = metrics_of(spec, policy.status, policy.reading)
        found = search(key, spec, metrics, ago(since, now), now, fetcher(to))
    except (NotInstalledError, PastError, PrometheusError) as error:
        fail(str(error))
    if not found:
        fail(
            f"Prometheus has no rollout of {key[0]}/{key[1]} in the last {since}: no revision got its first requests "
            "while another had some; look further back (--since), or check the name, --namespace and "
            "serving.metrics.dialect"
        )

    async def work() -> list[PastRollout]:
        async with HistoryClient(to, seconds(spec.rollout.analysis.interval), now) as client:
            stale = policy.reading.stale_after
            return [await counted(key, one, spec, policy.defaults, metrics, stale, client) for one in found]

    past = ask(work)
    return Backtest("", f"the last {since}, from {to.url}", tuple(judge(one, spec, policy.defaults) for one in past))


def _from_recordings(folder: Path, wanted: ModelKey, policy: Manifest, since: datetime) -> Backtest:
    spec, judged, notes = quiet(policy.spec), [], list[str]()
    if not folder.is_dir():
        fail(f"{folder} is no folder: name the one that the operator records into (--record)")
    for path in sorted(folder.rglob("*.jsonl")):
        try:
            past = [one for one in _rollouts(path) if one.end >= since and _is(one.key, wanted)]
        except RecordingError as error:
            notes.append(f"{path} is left out: {error}")
            continue
        judged += [judge(one, _at_interval(spec, one), policy.defaults) for one in past]
    if not judged:
        fail(" ".join([f"{folder} has no rollout {_of(wanted)}since {since:%Y-%m-%d %H:%M}.", *notes]))
    judged.sort(key=lambda one: one.rollout.start)
    return Backtest("", f"recordings in {folder}", tuple(judged), tuple(notes))


def _is(key: ModelKey, wanted: ModelKey) -> bool:
    return all(not want or want == has for want, has in zip(wanted, key, strict=True))


def _of(wanted: ModelKey) -> str:
    return f"of {'/'.join(part for part in wanted if part)} " if any(wanted) else ""


def _rollouts(path: Path) -> Iterator[PastRollout]:
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            yield from recorded(lines)
    except FileNotFoundError:
        raise RecordingError("it is gone: the operator made room for newer ones") from None
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror or error}")
    except UnicodeDecodeError:
        raise RecordingError("it is no recording: it is no text in UTF-8") from None


def _at_interval(spec: ModelDeploymentSpec, one: PastRollout) -> ModelDeploymentSpec:
    """The policy at the interval at which the evidence was recorded."""
    lengths = sorted((i.end - i.start).total_seconds() for e in one.evidence for i in e.intervals)
    if not lengths:
        return spec
    analysis = spec.rollout.analysis.model_copy(update={"interval": say_duration(lengths[len(lengths) // 2])})
    return spec.model_copy(update={"rollout": spec.rollout.model_copy(update={"analysis": analysis})})
