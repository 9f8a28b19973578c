"""A model with a stable version and a canary, and looks at it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from modeldeployment.api.serving import Metrics
from modeldeployment.decision.evidence import Evidence, Interval
from modeldeployment.metrics import EvidenceStore, ModelKey, PrometheusClient, Watched
from unit.metrics.simulated import Endpoint, SimulatedPrometheus, counts

T0 = 1_795_608_000.0
STABLE, CANARY = "fraud-a", "fraud-b"
STABLE_POD, CANARY_POD = f"{STABLE}-7d9c5b8f6d-aaaaa", f"{CANARY}-7d9c5b8f6d-bbbbb"
KEY = ("ml", "fraud")


def at(seconds: float) -> datetime:
    """An instant of the test's time."""
    return datetime.fromtimestamp(T0 + seconds, UTC)


MODEL = Watched(
    KEY,
    Metrics(),
    (STABLE, CANARY),
    serving=STABLE,
    interval=10.0,
    needs_errors=True,
    pods={STABLE_POD: at(-9999), CANARY_POD: at(1)},
)
TRIAL = replace(MODEL, trial=CANARY, control=STABLE, trial_start=at(0))


def scraped(endpoint: Endpoint, *points: tuple[float, float, float]) -> None:
    """Scrapes: (seconds, requests, errors)."""
    endpoint.scrapes += [(T0 + seconds, counts(n, x)) for seconds, n, x in points]


async def look_at(
    store: EvidenceStore, models: Sequence[Watched], instant: datetime, client: PrometheusClient
) -> dict[ModelKey, Evidence]:
    """One look: the evidence of all, in whatever batches it comes."""
    return {key: one async for batch in store.look(models, instant, client) for key, one in batch.items()}


async def look(
    server: SimulatedPrometheus,
    instants: Iterable[float],
    model: Watched = TRIAL,
    store: EvidenceStore | None = None,
) -> list[Evidence]:
    """The evidence at each instant (seconds)."""
    store = store or EvidenceStore()
    async with server.client() as client:
        return [(await look_at(store, [model], at(t), client))[model.key] for t in instants]


def summary(interval: Interval) -> tuple[float, float, float, dict[str, int], dict[str, int]]:
    """Start, end, oldest start (seconds), requests by pod of trial and control."""
    times = [moment.timestamp() - T0 for moment in (interval.start, interval.end, interval.oldest_start)]
    arms = [{pod: d.requests for pod, d in arm.items()} for arm in (interval.trial, interval.control)]
    return times[0], times[1], times[2], arms[0], arms[1]
