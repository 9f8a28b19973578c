"""The past of error budgets: what a store that begins now would know, had it counted for as long as they last.

For each ring of a ladder one range query per indicator and lot of models (of 100 pods together), over the ring's own
length at its own grain: at most 61 points a series, far from Prometheus' limit of 11,000. Prometheus reads every sample
of that time for it: of 30 days scraped each 15 s about 13 ms a series. Where its retention is shorter than a budget,
the budget says since when it knows.

`last_over_time` over each step sees what any pod had counted last, whether it lives or not: so the only requests that
are missing are those between a bucket's end and a restart of the same process. Of the very first bucket in which a
model is seen only the end is known, unless all its pods are known to have begun in it; where a finer ring reaches back
to before that bucket, it is the finer one that tells.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from modeldeployment.api.serving import LatencyUnit, MetricsSource, SeriesIdentity
from modeldeployment.decision.counting import edges_of
from modeldeployment.decision.evidence import Delta
from modeldeployment.decision.rules import RuleKind, Sli
from modeldeployment.metrics import histograms
from modeldeployment.metrics.answer import Labels
from modeldeployment.metrics.client import PrometheusClient
from modeldeployment.metrics.counters import Counters
from modeldeployment.metrics.dialects import edge_ms, selectors_of
from modeldeployment.metrics.errors import PrometheusError, ServerFault
from modeldeployment.metrics.identity import LABELS, endpoint_of, service_of_cluster, service_of_ingress
from modeldeployment.metrics.ladder import BUCKETS, Ladder, Ring, Spent
from modeldeployment.metrics.model import utc
from modeldeployment.metrics.planning import Indicator, narrow, quote_regex
from modeldeployment.metrics.snapshot import Slot
from modeldeployment.metrics.watched import Watched

_LOG = logging.getLogger(__name__)

PODS_MAX: Final = 100
"""Pods of the models in one query, unless one model alone has more: so its time is bounded."""
HASH: Final = "[0-9a-f]{10}"
"""A revision is called `<stem>-<hash>`; a model's revisions have one stem."""

Endpoint = tuple[str, str, str]
"""Revision, pod and instance. Not the job: one that was renamed goes on counting, and two count the same twice."""
Points = dict[int, float]
"""Step → what a counter showed at its end."""
Known = tuple[Watched, Mapping[Sli, Ladder], Counters]
"""A model, its budgets and its counters as they are now."""


@dataclass(frozen=True)
class Wanted:
    """A ring that is to be told its past. `edge`: for a latency, the bucket edge (ms) that slow requests are above."""

    model: Watched
    sli: Sli
    ladder: Ladder
    ring: Ring
    edge: float


@dataclass(frozen=True)
class Ask:
    """What one query can be about: the same counters over the same time."""

    source: MetricsSource
    grain: float
    end: float

    @property
    def start(self) -> float:
        """The first instant that is asked for."""
        return self.end - BUCKETS * self.grain


@dataclass(frozen=True)
class Past:
    """What a ring is told.

    Attributes:
        spent: what was counted, bucket by bucket.
        since: from when on that is known (unix seconds).
        first: beginning of the bucket in which the model was seen first; infinite if it never was.
        start: from when on it was looked for.
    """

    spent: list[Spent]
    since: float
    first: float
    start: float


async def recall(known: Sequence[Known], instant: float, prometheus: PrometheusClient) -> None:
    """Tells the budgets of these models their past, one query after another; instant in unix seconds.

    A ring whose queries fail stays as it is, and is asked for again later.
    """
    asks: dict[Ask, list[Wanted]] = {}
    told: dict[Ladder, Past] = {}
    for model, ladders, counters in known:
        for wanted in _wanted(model, ladders, counters, instant):
            ask = Ask(selectors_of(model.metrics), wanted.ring.grain, wanted.ladder.since)
            asks.setdefault(ask, []).append(wanted)
    for ask, rings in sorted(asks.items(), key=lambda item: item[0].grain):  # of each ladder the finest first
        for lot in _lots(rings):
            await _tell(ask, lot, told, instant, prometheus)


def _wanted(model: Watched, ladders: Mapping[Sli, Ladder], counters: Counters, instant: float) -> Iterator[Wanted]:
    """The rings of a model that do not know their past, as far as can be asked for."""
    for sli, ladder in ladders.items():
        edge = 0.0
        if sli.kind is RuleKind.SLOW:
            edges, _ = edges_of(sli, [Delta(faster=dict.fromkeys(counters.edges(model.serving), 0))])
            if edges is None:
                continue  # no request yet, or never a histogram
            edge = edges.upper
        if model.revisions:
            due = [ring for ring, (_, then) in ladder.missing.items() if then <= instant]
            yield from (Wanted(model, sli, ladder, ring, edge) for ring in due)


def _lots(rings: Sequence[Wanted]) -> list[list[Wanted]]:
    """The rings in lots of few enough pods; those of one model, which come one after another, in one lot."""
    lots: list[list[Wanted]] = []
    model, pods = ("", ""), PODS_MAX
    for wanted in rings:
        if wanted.model.key != model:
            model = wanted.model.key
            pods += max(1, len(wanted.model.pods))
            if pods > PODS_MAX or not lots:
                lots.append([])
                pods = max(1, len(wanted.model.pods))
        lots[-1].append(wanted)
    return lots


async def _tell(
    ask: Ask, rings: Sequence[Wanted], told: dict[Ladder, Past], instant: float, prometheus: PrometheusClient
) -> None:
    """Asks for one ring of some models, and fills it. `told`: what the ring before was told, which is finer."""
    for kind in dict.fromkeys(wanted.sli.kind for wanted in rings):
        of_kind = [wanted for wanted in rings if wanted.sli.kind is kind]
        try:
            seen = await _read(ask, kind, of_kind, prometheus)
        except PrometheusError as error:
            _LOG.warning("the past of budgets was not read", extra={"models": len(of_kind), "error": str(error)})
            for wanted in of_kind:
                wanted.ladder.failed(wanted.ring, instant)
            continue
        for wanted in of_kind:
            past, finer = _past(wanted, ask, seen.get(wanted.model.key, {})), told.get(wanted.ladder)
            if finer is not None and past.first >= finer.start:
                past = replace(finer, start=past.start)
            told[wanted.ladder] = past
            wanted.ladder.remember(wanted.ring, past.spent, past.since)
        await asyncio.sleep(0)


Seen = dict[tuple[str, str], dict[Endpoint, dict[Slot, Points]]]
"""Model → endpoint → counter → what it showed."""


async def _read(ask: Ask, kind: RuleKind, rings: Sequence[Wanted], prometheus: PrometheusClient) -> Seen:
    """What the counters of these models showed at each step.

    Raises:
        PrometheusError: a query has no answer.
    """
    owners = _Owners([wanted.model for wanted in rings])
    labels = LABELS[ask.source.identity]
    matchers = owners.matchers(ask.source.identity)
    edges = {wanted.edge for wanted in rings}
    selectors: dict[Indicator, tuple[str, tuple[str, ...]]] = {Indicator.REQUESTS: (ask.source.requests, labels)}
    if kind is RuleKind.SLOW:
        assert ask.source.latency is not None  # it has edges
        selectors = {Indicator.LATENCY: (ask.source.latency.selector, labels)}
        if ask.source.latency.buckets:
            le = _le(ask.source, edges)
            selectors = {Indicator.LATENCY: (narrow(ask.source.latency.buckets, (le,)), (*labels, "le"))}
    elif ask.source.errors is not None:
        selectors[Indicator.ERRORS] = (ask.source.errors, labels)
    seen: Seen = {}
    for indicator, (selector, by) in selectors.items():
        range_ = f"last_over_time({narrow(selector, matchers)}[{round(1000 * ask.grain)}ms])"
        answer = await prometheus.range(
            f"sum by ({', '.join(by)}) ({range_})",
            utc(ask.start),
            utc(ask.end),
            ask.grain,
            purpose=f"past budget {indicator.value}",
        )
        if answer.in_part:  # half of a model's pods would be half of its requests
            raise ServerFault(f"Prometheus answered in part only: {answer.in_part}")
        for series, samples in answer.series:
            whose = owners.of(ask.source.identity, series)
            if whose is None:
                continue
            (key, endpoint), slot = whose, _slot(ask.source, indicator, series)
            points = seen.setdefault(key, {}).setdefault(endpoint, {}).setdefault(slot, {})
            for at, text in samples:
                step, value = round((at - ask.start) / ask.grain), float(text)
                if math.isfinite(value):
                    points[step] = max(value, points.get(step, value))
        for series, samples in answer.histograms:
            whose = owners.of(ask.source.identity, series)
            if whose is None:
                continue
            counters = seen.setdefault(whose[0], {}).setdefault(whose[1], {})
            for at, text in samples:
                for edge, value in histograms.at(text, edges, ask.source).items():
                    counters.setdefault(edge, {})[round((at - ask.start) / ask.grain)] = value
                await asyncio.sleep(0)
    return seen


def _past(wanted: Wanted, ask: Ask, seen: Mapping[Endpoint, Mapping[Slot, Points]]) -> Past:
    """What a budget counted at each step of one ring's query."""
    slow = wanted.sli.kind is RuleKind.SLOW
    whole, part = (math.inf, wanted.edge) if slow else (Indicator.REQUESTS, Indicator.ERRORS)
    first = min((step for slots in seen.values() for step in slots.get(whole, ())), default=None)
    if first is None:
        return Past([], wanted.ladder.since, math.inf, ask.start)
    then = ask.start + first * ask.grain
    born = _born([e for e, slots in seen.items() if first in slots.get(whole, ())], wanted.model, then, ask.grain)
    requests, bad = [0] * (BUCKETS + 1), [0] * (BUCKETS + 1)
    for slots in seen.values():
        if slow and part not in slots:
            continue  # a revision with other buckets
        every, some = slots.get(whole, {}), slots.get(part, {})
        if slow and every.keys() != some.keys():  # a native histogram counted at other edges then
            unknown = dict.fromkeys(every.keys() ^ some.keys(), math.nan)
            every, some = every | unknown, some | unknown
        for step, gain in _gains(every, first, born is not None):
            requests[step] += gain
            bad[step] += gain if slow else 0
        for step, gain in _gains(some, first, born is not None):
            bad[step] += -gain if slow else gain
    middle = ask.start - ask.grain / 2
    spent = [(middle + k * ask.grain, n, max(0, bad[k])) for k, n in enumerate(requests) if n or bad[k]]
    return Past(spent, then if born is None else born, then - ask.grain, ask.start)


def _gains(points: Points, first: int, from_zero: bool) -> Iterator[tuple[int, int]]:
    """By how much a counter rose at each step. One that falls was reset; one that is new began at zero.

    Beside NaN it is not known.
    """
    last: float | None = None if from_zero else points.get(first)
    for step in sorted(points):
        if step < first or (step == first and not from_zero):
            continue
        value = points[step]
        gain = value if last is None or value < last else value - last
        if not math.isnan(gain):
            yield step, round(gain)
        last = value


def _born(endpoints: Sequence[Endpoint], model: Watched, then: float, grain: float) -> float | None:
    """When the oldest of these pods was made (unix seconds), if all were within a bucket's length before an instant."""
    times = [model.pods[pod].timestamp() if pod in model.pods else -math.inf for _, pod, _ in endpoints]
    return min(times) if then - grain < min(times) and max(times) <= then else None


def _slot(source: MetricsSource, indicator: Indicator, labels: Labels) -> Slot:
    return edge_ms(source, labels.get("le", "")) if indicator is Indicator.LATENCY else indicator


def _le(source: MetricsSource, edges: set[float]) -> str:
    """A matcher of these edges (ms) and +Inf, as clients and Prometheus spell them: 800, 800.0, 1e+06."""
    assert source.latency is not None  # as above
    scale = 1000.0 if source.latency.unit is LatencyUnit.SECONDS else 1.0
    spelled = {"[+]Inf"}
    for edge in edges:
        value = edge / scale
        for text in (f"{value:.12g}", f"{value:g}"):
            zeros = "" if "e" in text else "0*" if "." in text else "([.]0+)?"
            spelled.add(quote_regex(text) + zeros)
    return f'le=~"{"|".join(sorted(spelled))}"'


class _Owners:
    """Whose a series is, also of revisions that nobody knows any more: a model's revisions have its stem."""

    def __init__(self, models: Sequence[Watched]) -> None:
        self._models = models
        self._stems: dict[tuple[str, str], tuple[str, str]] = {}
        self._exact: dict[tuple[str, str], tuple[str, str]] = {}
        shared: set[tuple[str, str]] = set()
        for model in models:
            for revision in model.revisions:
                self._exact[model.key[0], revision] = model.key
                stem = (model.key[0], _stem(revision))
                if self._stems.setdefault(stem, model.key) != model.key:
                    shared.add(stem)  # of two long names only the beginning is in it
        for stem in shared:
            del self._stems[stem]

    def matchers(self, identity: SeriesIdentity) -> tuple[str, ...]:
        """Label matchers of all revisions that these models have or had."""
        namespaces = "|".join(sorted({quote_regex(m.key[0]) for m in self._models}))
        stems = "|".join(sorted({quote_regex(_stem(r)) for m in self._models for r in m.revisions}))
        name = f"({stems})-{HASH}"
        match identity:
            case SeriesIdentity.POD:
                return f'namespace=~"{namespaces}"', f'pod=~"{name}-.+"'
            case SeriesIdentity.WORKLOAD:
                return f'destination_workload_namespace=~"{namespaces}"', f'destination_workload=~"{name}"'
            case SeriesIdentity.CLUSTER:
                slashed, outbound = f"({namespaces})/{name}(/.*)?", f"outbound[|].*[|]{name}[.]({namespaces})[.].*"
                return (f'envoy_cluster_name=~"{slashed}|{outbound}"',)
            case SeriesIdentity.INGRESS:
                return ()  # which of its labels Prometheus renamed is not known

    def of(self, identity: SeriesIdentity, labels: Labels) -> tuple[tuple[str, str], Endpoint] | None:
        """The model of a series, and the endpoint that it was read from."""
        match identity:
            case SeriesIdentity.POD:
                service = labels.get("namespace", ""), labels.get("pod", "").rpartition("-")[0].rpartition("-")[0]
            case SeriesIdentity.WORKLOAD:
                service = labels.get("destination_workload_namespace", ""), labels.get("destination_workload", "")
            case SeriesIdentity.CLUSTER:
                service = service_of_cluster(labels.get("envoy_cluster_name", "")) or ("", "")
            case SeriesIdentity.INGRESS:
                service = service_of_ingress(labels)
        namespace, revision = service
        key = self._exact.get(service) or self._stems.get((namespace, _stem(revision)))
        pod, instance, _ = endpoint_of(labels)
        return (key, (revision, pod, instance)) if key is not None else None


def _stem(revision: str) -> str:
    """What a model's revisions have in common; the revision itself where it is called otherwise."""
    stem, _, digest = revision.rpartition("-")
    return stem if stem and re.fullmatch(HASH, digest) else revision
