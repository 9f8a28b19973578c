"""Past rollouts with their counts: out of Prometheus' history, or out of recordings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from modeldeployment.api.modeldeployment import ModelDeploymentSpec, ModelDeploymentStatus
from modeldeployment.api.objectives import Objective
from modeldeployment.api.quantities import seconds
from modeldeployment.api.serving import Metrics
from modeldeployment.api.status import DecisionRecord, RevisionStatus, RolloutStatus
from modeldeployment.decision.decide import decide
from modeldeployment.decision.evidence import Evidence
from modeldeployment.decision.memory import Memory
from modeldeployment.metrics import EvidenceStore, ModelKey, PrometheusClient
from modeldeployment.metrics.wanted import watched
from modeldeployment.replaying import finding
from modeldeployment.replaying.finding import End, Found
from modeldeployment.replaying.history import instants, looked, pods_born
from modeldeployment.replaying.judging import Came, PastRollout
from modeldeployment.replaying.logbook import ENDS
from modeldeployment.replaying.ranges import INSTANTS_MAX, Fetch
from modeldeployment.replaying.recording import Header, Look, read

COARSE_SECONDS: Final = 300.0
"""Step at which a long history is searched; what was there between two instants is seen by `last_over_time`."""
_CAME: Final = {End.PROMOTED: Came.PROMOTED, End.TAKEN_BACK: Came.ROLLED_BACK, End.GOES_ON: Came.UNDECIDED}
_WHY: Final = {
    End.PROMOTED: "its requests went on and the other revision's ended",
    End.TAKEN_BACK: "its requests ended and the other revision's went on",
    End.GOES_ON: "both have requests now",
}


def search(
    key: ModelKey, spec: ModelDeploymentSpec, metrics: Metrics, since: datetime, now: datetime, fetch: Fetch
) -> list[Found]:
    """The rollouts of a model that began after `since`, by who had requests.

    Raises:
        PrometheusError: Prometheus does not answer.
    """
    fine = seconds(spec.rollout.analysis.interval)
    last, begin, plain = now.timestamp() // fine * fine, since.timestamp(), finding.query(*key, metrics)
    if (last - begin) / fine <= INSTANTS_MAX:
        return finding.rollouts(finding.rises(fetch(plain, begin // fine * fine, last, fine), key[1]), fine, last)
    coarse = max(COARSE_SECONDS, fine)
    text = finding.query(*key, metrics, f"{round(1000 * coarse)}ms")
    risen = finding.rises(fetch(text, begin // coarse * coarse, last, coarse), key[1])
    found = finding.rollouts(risen, coarse, last)
    exact = []
    for one in found:
        start, end = one.start - 2 * coarse, min(last, one.end + 2 * coarse)
        near = finding.rises(fetch(plain, start // fine * fine, end, fine), key[1])
        # Of a window that ends with the rollout, the coarse search knows better whether it went on.
        closer = [f for f in finding.rollouts(near, fine, last) if f.revision == one.revision]
        exact += [replace(f, how=one.how if f.how is End.GOES_ON else f.how) for f in closer[:1]]
    return exact


async def counted(
    key: ModelKey,
    found: Found,
    spec: ModelDeploymentSpec,
    defaults: tuple[Objective, ...],
    metrics: Metrics,
    stale_after: float,
    prometheus: PrometheusClient,
) -> PastRollout:
    """A rollout of Prometheus' history, with the counts that a policy's rules ask for.

    Raises:
        PrometheusError: Prometheus does not answer.
    """
    interval, start = seconds(spec.rollout.analysis.interval), datetime.fromtimestamp(found.start, UTC)
    on_trial = ModelDeploymentStatus(
        stable=RevisionStatus(revision=found.control, version="stable"),
        canary=RevisionStatus(revision=found.revision, version=found.revision),
        rollout=RolloutStatus(revision=found.revision, version=found.revision, start_time=start),
    )
    model = watched(
        key,
        spec,
        on_trial,
        defaults,
        metrics=metrics,
        remembered=False,
        interval=interval,
        pods={},
        started={},
        ports={},
    )
    model = replace(model, slis=frozenset(), pods=await pods_born(model, found.start, found.end, prometheus))
    store = EvidenceStore(stale_after)
    evidence = [await looked(store, model, look, prometheus) for look in instants(found.start, found.end, interval)]
    return PastRollout(
        key=key,
        revision=found.revision,
        version=found.revision,
        control=found.control,
        start=start,
        end=datetime.fromtimestamp(found.end, UTC),
        came=_CAME[found.how],
        why=_WHY[found.how],
        evidence=tuple(evidence),
    )


def recorded(lines: Iterable[str]) -> Iterator[PastRollout]:
    """The rollouts of a recording, with what was recorded of them.

    Raises:
        RecordingError: it cannot be read.
    """
    key: ModelKey = ("", "")
    status, memory = ModelDeploymentStatus(), Memory()
    under_way: list[Evidence] = []
    trial: RolloutStatus | None = None
    for look in read(lines):
        if isinstance(look, Header):
            key = (look.namespace, look.name)
            continue
        if look.memory is not None:
            status, memory = look.view.status, look.memory
        before, decision = status, decide(look.view.with_status(status), memory)
        status, memory = decision.status, decision.memory
        rollout = before.rollout if before.canary and before.stable else None
        if rollout is not None and (trial is None or rollout.start_time != trial.start_time):
            trial, under_way = rollout, []
        if rollout is not None and before.canary:
            under_way += _evidence(look, under_way, weight=before.canary.wanted_weight)
        if trial is not None and before.stable and rollout is not None and status.canary is None:
            if under_way:
                yield _past(key, trial, before.stable.revision, under_way, decision.records, look.view.now)
            trial = None
    if trial is not None and under_way and status.stable:
        yield _past(key, trial, status.stable.revision, under_way, (), under_way[-1].time)


def _evidence(look: Look, so_far: list[Evidence], *, weight: int) -> list[Evidence]:
    """What a look adds: nothing before the first weight but what stable did earlier, and nothing twice."""
    evidence = look.view.evidence
    if weight and (evidence.intervals or not so_far or evidence.time > so_far[-1].time):
        return [evidence]
    if not weight and evidence.history is not None and not so_far:
        return [replace(evidence, intervals=())]
    return []


def _past(
    key: ModelKey,
    trial: RolloutStatus,
    control: str,
    evidence: list[Evidence],
    records: tuple[DecisionRecord, ...],
    end: datetime,
) -> PastRollout:
    ended = next((r for r in records if r.effect == "Promoted" or r.effect in ENDS), None)
    came = Came.UNDECIDED
    if ended is not None:
        came = Came.PROMOTED if ended.effect == "Promoted" else Came.ROLLED_BACK
    first = next((i.start for e in evidence for i in e.intervals), trial.start_time)
    return PastRollout(
        key=key,
        revision=trial.revision,
        version=trial.version,
        control=control,
        start=max(first, trial.start_time),
        end=end,
        came=came,
        why=f"{ended.effect}: {ended.message}" if ended else "it goes on where the recording ends",
        evidence=tuple(evidence),
    )
