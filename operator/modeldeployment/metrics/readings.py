"""Answers → snapshots of each model, instant by instant; the values of PromQL objectives by revision."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Final

from modeldeployment.api.serving import SeriesIdentity
from modeldeployment.metrics import histograms
from modeldeployment.metrics.answer import Answer, Labels, Samples, Series
from modeldeployment.metrics.dialects import edge_ms
from modeldeployment.metrics.errors import PrometheusError, ServerFault
from modeldeployment.metrics.identity import LABELS, Endpoint, Owner, Owners, endpoint_of, pod_of
from modeldeployment.metrics.planning import GAUGES, REPLICA_LABELS, Group, Indicator
from modeldeployment.metrics.snapshot import Slot, Snapshot
from modeldeployment.metrics.watched import ModelKey

IN_A_ROW: Final = 2_000
"""Samples that are sorted before others have their turn: about 5 ms."""
HISTOGRAMS_IN_A_ROW: Final = 25
"""The same of native histograms."""


def moment(unix: float) -> float:
    """An instant as a key: Prometheus knows milliseconds."""
    return round(unix, 3)


async def snapshots(
    group: Group,
    owners: Owners,
    scrapes: Answer,
    counters: Mapping[Indicator, Answer],
    instants: Sequence[float],
) -> dict[ModelKey, list[Snapshot]]:
    """What the answers say about each model of a group at each of these instants (unix seconds), in order.

    A model of which nothing was found at an instant has a snapshot without readings.
    """
    reader = _Reader(group, owners, frozenset(counters))
    await reader.scrapes(scrapes)
    for indicator, answer in counters.items():
        await (reader.gauges if indicator in GAUGES else reader.counters)(indicator, answer)
    return {model.key: [reader.snapshot(model.key, moment(at)) for at in instants] for model in group.models}


def values(answer: Answer, owners: Owners, asking: Iterable[ModelKey]) -> dict[tuple[ModelKey, str], float]:
    """(model, revision) → value of a PromQL objective; revision "" where one series speaks for the whole model.

    Series with the labels namespace and pod are averaged over the pods of a revision. NaN is no value.
    """
    asking = set(asking)
    found: dict[Owner, list[float]] = {}
    whole: list[float] = []
    for labels, samples in answer.series:
        value = float(samples[0][1])
        if "namespace" not in labels or "pod" not in labels:
            whole.append(value)
        elif not math.isnan(value):
            owner = owners.of_pod(labels["namespace"], labels["pod"])
            if owner is not None and owner[0] in asking:
                found.setdefault(owner, []).append(value)
    averages = {owner: sum(of) / len(of) for owner, of in found.items()}
    if len(whole) == 1 and not math.isnan(whole[0]):
        averages |= {(key, ""): whole[0] for key in asking}
    return averages


def _beyond(parts: dict[object, float], part: object, value: float) -> float:
    """What a series adds to those that were seen as the same part: parts of one ingress controller add up.

    Its counts of a Service are in two parts where it diverted requests there first, and has it as its own now.
    """
    before = parts.get(part, 0.0)
    parts[part] = max(before, value)
    return parts[part] - before


def doubled(snapshots: Iterable[Snapshot]) -> PrometheusError | None:
    """Why nothing can be counted, if each sample is there twice."""
    twice = next((snapshot.twice for snapshot in snapshots if snapshot.twice), "")
    if not twice:
        return None
    return ServerFault(
        f"Prometheus has two copies of what it scraped ({twice}), so that each request would count twice: let it drop "
        "one of them, as by --query.replica-label of Thanos or the HA tracker of Mimir"
    )


class _Reader:
    """Sorts series into snapshots. Buckets of one endpoint come one after another, so the last look-up is kept."""

    def __init__(self, group: Group, owners: Owners, indicators: frozenset[Indicator]) -> None:
        self._models: dict[ModelKey, dict[float, Snapshot]] = {}
        self._group, self._owners, self._indicators = group, owners, indicators
        self._keys = {model.key for model in group.models}
        self._bounds = {model.key: model.bounds for model in group.models}
        self._identity = group.source.identity
        # When whose pod soever was scraped. A gateway's scrape is news for every model, a pod's for its own, and a
        # waypoint's for those that it counts: each model remembers what it was given, of all pods that would be much.
        self._seen: dict[float, dict[Endpoint, float]] = {}
        self._edges: dict[str, float] = {}
        self._replicas: dict[tuple[str, Endpoint], tuple[str, Samples]] = {}
        self._twice: dict[Endpoint, str] = {}

    async def scrapes(self, answer: Answer) -> None:
        """When each endpoint was scraped."""
        async for labels, samples in _in_turn(answer):
            endpoint = endpoint_of(labels)
            twice = self._is_twice(endpoint, labels, samples)
            owner = None if self._identity.of_gateway else self._owners.of_pod(labels.get("namespace", ""), endpoint[0])
            if owner is not None and owner[0] not in self._keys:
                owner = None
            for at, text in samples:
                seen = float(text)
                if math.isnan(seen):
                    continue
                if owner is not None:
                    snapshot = self.snapshot(owner[0], moment(at))
                    if seen:
                        snapshot.readings.setdefault((owner[1], endpoint), {})
                    snapshot.scrapes[endpoint] = seen
                    snapshot.twice = snapshot.twice or twice
                if self._identity is not SeriesIdentity.POD:
                    self._seen.setdefault(moment(at), {})[endpoint] = seen

    def _is_twice(self, endpoint: Endpoint, labels: Labels, samples: Samples) -> str:
        """How an endpoint differs from itself, if another replica's samples of it are of the same instants."""
        replica = ", ".join(f"{name}={labels[name]}" for name in REPLICA_LABELS if labels.get(name))
        before, others = self._replicas.setdefault((labels.get("namespace", ""), endpoint), (replica, samples))
        if before == replica or not {at for at, _ in others} & {at for at, _ in samples}:
            return ""
        both = " and with ".join(sorted(which or "none" for which in (before, replica)))
        self._twice[endpoint] = f"{pod_of(endpoint)} with {both}"
        return self._twice[endpoint]

    async def gauges(self, indicator: Indicator, answer: Answer) -> None:
        """What each endpoint shows."""
        async for labels, samples in _in_turn(answer):
            whose = self._whose(labels)
            if whose is None:
                continue
            (key, revision), endpoint = whose
            for at, text in samples:
                if math.isfinite(value := float(text)):
                    self.snapshot(key, moment(at)).gauges.setdefault((revision, endpoint), {})[indicator] = value

    async def counters(self, indicator: Indicator, answer: Answer) -> None:
        """What each endpoint had counted."""
        names = LABELS[self._identity]
        found: dict[tuple[str, ...], tuple[Owner, Endpoint] | None] = {}
        parts: dict[object, float] = {}
        async for labels, samples in _in_turn(answer):
            identity = tuple([labels.get(name, "") for name in names])
            if identity not in found:
                found[identity] = self._whose(labels)
            whose = found[identity]
            if whose is None:
                continue
            (key, revision), endpoint = whose
            slot: Slot = indicator
            if indicator is Indicator.LATENCY:
                edge = self._edge(labels.get("le", ""))
                if edge is None:
                    continue
                slot = edge
            for at, text in samples:
                value = float(text)
                readings = self.snapshot(key, moment(at)).readings.get((revision, endpoint))
                if indicator is Indicator.TIMEOUTS and Indicator.REQUESTS not in (readings or ()):
                    continue  # an endpoint that counts nothing else must not hold its model's intervals up
                snapshot = self._counted(key, endpoint, at)
                if not math.isfinite(value):
                    snapshot.dropped.setdefault((revision, endpoint), set()).add(slot)
                    continue
                if readings is None:
                    readings = snapshot.readings[revision, endpoint] = {}
                # One edge may be spelled in two ways (800, 800.0) for minutes after an upgrade of Prometheus: the one
                # that is written no more stands still, and so is the smaller.
                if self._identity is not SeriesIdentity.INGRESS:
                    readings[slot] = max(value, readings.get(slot, value))
                else:
                    readings[slot] = readings.get(slot, 0.0) + _beyond(parts, (identity, slot, at), value)

        if indicator is Indicator.LATENCY:
            await self._histograms(answer)

    async def _histograms(self, answer: Answer) -> None:
        """What native histograms had counted, at the edges around the bounds of their model."""
        read = 0
        for labels, samples in answer.histograms:
            whose = self._whose(labels)
            if whose is None:
                continue
            (key, revision), endpoint = whose
            for at, text in samples:
                read += 1
                if read % HISTOGRAMS_IN_A_ROW == 0:
                    await asyncio.sleep(0)
                snapshot = self._counted(key, endpoint, at)
                slots = histograms.slots(text, self._bounds[key], self._group.source)
                if not slots:
                    snapshot.dropped.setdefault((revision, endpoint), set()).add(math.inf)
                    continue
                readings = snapshot.readings.setdefault((revision, endpoint), {})
                # Of an ingress controller's parts, which add up, what all know.
                before = {slot: readings.pop(slot) for slot in [s for s in readings if isinstance(s, float)]}
                readings |= {s: n + before.get(s, 0.0) for s, n in slots.items() if s in before or not before}

    def _counted(self, key: ModelKey, endpoint: Endpoint, at: float) -> Snapshot:
        """The snapshot of a model, as one of its endpoints counted something at an instant."""
        snapshot = self.snapshot(key, moment(at))
        snapshot.twice = snapshot.twice or self._twice.get(endpoint, "")
        if self._identity is SeriesIdentity.WORKLOAD and endpoint in (seen := self._seen.get(moment(at), {})):
            snapshot.scrapes[endpoint] = seen[endpoint]
        return snapshot

    def _whose(self, labels: Mapping[str, str]) -> tuple[Owner, Endpoint] | None:
        owner = self._owners.of(self._identity, labels)
        return (owner, endpoint_of(labels)) if owner is not None and owner[0] in self._keys else None

    def _edge(self, le: str) -> float | None:
        edge = self._edges.get(le)
        if edge is None:
            try:
                edge = self._edges[le] = edge_ms(self._group.source, le)
            except ValueError:
                return None
        return edge

    def snapshot(self, key: ModelKey, at: float) -> Snapshot:
        """The snapshot of a model at an instant, made if need be."""
        instants = self._models.setdefault(key, {})
        snapshot = instants.get(at)
        if snapshot is None:
            gateways = self._identity.of_gateway
            scrapes = self._seen.setdefault(at, {}) if gateways else {}
            latency = self._group.source.latency
            native = latency is not None and latency.histogram is not None
            snapshot = instants[at] = Snapshot(at, self._indicators, scrapes, native=native)
        return snapshot


async def _in_turn(answer: Answer) -> AsyncIterator[Series]:
    """The series of an answer, with turns for others in between."""
    samples = 0
    for one in answer.series:
        yield one
        samples += len(one[1])
        if samples >= IN_A_ROW:
            samples = 0
            await asyncio.sleep(0)
