"""Prometheus' past, asked for in long ranges and answered instant by instant: so the evidence store looks at it as it
did when it was the present, with the same queries at the same instants."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from modeldeployment.api.modeldeployment import ModelDeploymentSpec, ModelDeploymentStatus
from modeldeployment.api.modelpolicy import ModelPolicySpec
from modeldeployment.api.quantities import seconds
from modeldeployment.api.serving import Dialect, Metrics, OwnDialect
from modeldeployment.decision.evidence import DataState, Evidence
from modeldeployment.metrics import (
    Connection,
    EvidenceStore,
    NoDialect,
    PrometheusClient,
    PrometheusError,
    Watched,
    named,
)
from modeldeployment.metrics.answer import Answer, Series
from modeldeployment.metrics.planning import plan
from modeldeployment.metrics.readings import moment

CHUNK: Final = 240
"""Instants of one range query."""
CHUNKS_MAX: Final = 12
"""Answers that are kept: those of one look, and of the looks before a trial changed."""
POD_SECONDS: Final = 900.0
"""How long before a trial its pods are looked for: one that was there already is older than it."""

At = dict[float, tuple[list[Series], list[Series]]]
"""Instant (unix seconds) → what a query had then, and what of it are native histograms."""


class PastError(Exception):
    """A past that cannot be read. `str()` is a sentence for people."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a ModelPolicy says of how metrics are read.

    `stale_after`: age (s) above which samples are stale. `delay`: by how much (s) looks are late. `own`: its dialects.
    """

    stale_after: float = 60.0
    delay: float = 0.0
    own: tuple[OwnDialect, ...] = ()

    @classmethod
    def of(cls, policy: ModelPolicySpec) -> Reading:
        """As a policy has it."""
        prometheus = policy.prometheus
        return cls(seconds(prometheus.stale_after), seconds(prometheus.delay), tuple(policy.dialects))


def metrics_of(spec: ModelDeploymentSpec, status: ModelDeploymentStatus, policy: Reading) -> Metrics:
    """How a model's metrics are read, by a dialect that names their counters.

    Raises:
        PastError: there is none; says what to do.
    """
    asked = spec.serving.metrics
    name = asked.dialect
    if name == Dialect.AUTO:
        if status.dialect is None:
            raise PastError(
                "serving.metrics.dialect is Auto, and no status says which one that was: name it in the file's "
                "serving.metrics.dialect"
            )
        name = status.dialect.name
    try:
        return named(asked, name, policy.own)
    except NoDialect as error:
        raise PastError(str(error)) from None


class HistoryClient(PrometheusClient):
    """A client whose instants are cut out of ranges.

    `step`: seconds between them; others are asked one by one. `now`: later ones are none yet.
    """

    def __init__(self, to: Connection, step: float, now: datetime, **more: Any) -> None:
        super().__init__(to, **more)
        self._step, self._last = step, math.floor(now.timestamp() / step)
        self._chunks: OrderedDict[tuple[str, int], asyncio.Task[tuple[At, tuple[str, ...]]]] = OrderedDict()

    async def instant(self, query: str, time: datetime, *, purpose: str = "") -> Answer:
        """The query's value at one instant.

        Raises:
            PrometheusError: there is no answer.
        """
        number = time.timestamp() / self._step
        if abs(number - round(number)) > 1e-6 or round(number) > self._last:
            return await super().instant(query, time, purpose=purpose)
        key = (query, round(number) // CHUNK)
        if key not in self._chunks:
            self._chunks[key] = asyncio.create_task(self._chunk(*key))
            while len(self._chunks) > CHUNKS_MAX:
                self._chunks.popitem(last=False)
        by_instant, warnings = await self._chunks[key]
        found, native = by_instant.get(moment(time.timestamp()), ([], []))
        labels, samples = [of for of, _ in found], [of for _, of in found]
        return Answer("vector", labels, samples, warnings, histograms=native)

    async def _chunk(self, query: str, number: int) -> tuple[At, tuple[str, ...]]:
        first = number * CHUNK
        last = min(first + CHUNK - 1, self._last)
        answer = await self.range(query, _utc(first * self._step), _utc(last * self._step), self._step, purpose="past")
        found: At = {}
        for place, series in enumerate((answer.series, answer.histograms)):
            for labels, samples in series:
                for at, value in samples:
                    found.setdefault(moment(at), ([], []))[place].append((labels, [(at, value)]))
        return found, answer.warnings


async def pods_born(model: Watched, start: float, end: float, prometheus: PrometheusClient) -> dict[str, datetime]:
    """Pod → a moment at which it was not there yet, shortly before its first scrape; older ones are left out.

    Who could ask the API server would know it to the second; the counts are the same.

    Raises:
        PrometheusError: Prometheus does not tell.
    """
    (group,) = plan([replace(model, queries=frozenset())]).groups
    born: dict[str, float] = {}
    since, step = math.floor((start - POD_SECONDS) / model.interval) * model.interval, model.interval
    at = since
    while at <= end:
        upto = min(at + (20 * CHUNK - 1) * step, math.floor(end / step) * step)
        answer = await prometheus.range(group.scrapes, _utc(at), _utc(max(at, upto)), step, purpose="past")
        for labels, samples in answer.series:
            pod = labels.get("pod", "")
            born[pod] = min(samples[0][0], born.get(pod, math.inf))
        at += 20 * CHUNK * step
    return {pod: _utc(seen - step) for pod, seen in born.items() if pod and seen > since}


async def looked(store: EvidenceStore, model: Watched, instant: datetime, prometheus: PrometheusClient) -> Evidence:
    """One look at the past.

    Raises:
        PrometheusError: a query failed: what Prometheus cannot tell now is no reason for another decision then.
    """
    async for found in store.look([model], instant, prometheus):
        evidence = found[model.key]
    if evidence.state is DataState.QUERY_ERROR:
        raise PrometheusError(evidence.message)
    return evidence


def instants(first_after: float, last: float, interval: float) -> list[datetime]:
    """The multiples of the interval after one moment and up to another (unix seconds)."""
    first, end = math.floor(first_after / interval) + 1, math.floor(last / interval)
    return [_utc(number * interval) for number in range(first, end + 1)]


def quiet(spec: ModelDeploymentSpec) -> ModelDeploymentSpec:
    """The spec without what a person said of one moment: a pause, an override, an attempt."""
    update: Mapping[str, Any] = {"override": None, "attempt": 1}
    return spec.model_copy(update={"suspend": None, "rollout": spec.rollout.model_copy(update=update)})


def _utc(unix: float) -> datetime:
    return datetime.fromtimestamp(unix, UTC)
