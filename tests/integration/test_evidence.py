"""Evidence from a real Prometheus equals what model servers counted, through restarts, births and missed scrapes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from integration.counted import SCRAPE, Pod, Prometheus
from lab.process import PATIENCE
from modeldeployment.api.serving import Dialect, Metrics, MetricsSource, OwnDialect, SeriesIdentity
from modeldeployment.decision.evidence import DataState, Delta, Evidence, Interval, Strain
from modeldeployment.decision.rules import RuleKind, Sli
from modeldeployment.metrics import (
    Connection,
    EvidenceStore,
    PrometheusClient,
    Watched,
    evaluation_instant,
    known,
    probe,
)
from modeldeployment.metrics.auto import queries
from modeldeployment.metrics.planning import plan

INTERVAL = 1.0
SETTLE = 0.5
WINDOW = 60.0
"""Seconds of the window that is asked for: longer than a test, also on a slow machine."""
STALE_AFTER = 3.5
KEY = ("ml", "fraud")
STABLE, CANARY = "fraud-stable", "fraud-canary"


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Prometheus]:
    """A Prometheus, and an end to it and to all its pods."""
    server = Prometheus(tmp_path)
    try:
        yield server
    finally:
        server.child.stop()
        for pod in server.pods:
            pod.close()


class Looks:
    """A store that is asked at every instant, as the fleet does it."""

    def __init__(self, prometheus: Prometheus, model: Watched, stale_after: float = STALE_AFTER) -> None:
        self.prometheus, self.model = prometheus, model
        self.store = EvidenceStore(stale_after)
        self.evidence: list[Evidence] = []
        self.last: datetime | None = None

    @property
    def intervals(self) -> list[Interval]:
        """All that were closed."""
        return [interval for evidence in self.evidence for interval in evidence.intervals]

    async def look(self, instant: datetime) -> Evidence:
        """One look."""
        pods = {p.name: p.created for p in self.prometheus.pods if p.created}
        model = replace(self.model, pods={**self.model.pods, **pods})
        async with PrometheusClient(Connection(self.prometheus.url, timeout=2)) as client:
            (found,) = [batch async for batch in self.store.look([model], instant, client)]
        return found[model.key]

    async def during(self, length: float) -> Evidence:
        """Looks at each instant for some seconds; returns the last evidence."""
        end = time.time() + length
        while time.time() < end:
            instant = evaluation_instant(datetime.now(UTC), INTERVAL, SETTLE)
            if instant != self.last:
                self.last = instant
                self.evidence.append(await self.look(instant))
            await asyncio.sleep(0.05)
        return self.evidence[-1]

    async def seen(self) -> Evidence:
        """Looks on until all that was counted so far is in the evidence; returns the last."""
        scraped = asyncio.create_task(self.prometheus.scraped())
        while not scraped.done() or self.last is None or self.last < scraped.result():
            await self.during(SCRAPE)
        return self.evidence[-1]


async def instant_after(counted: datetime) -> datetime:
    """The first instant that can be looked at from then on."""
    for _ in range(round(PATIENCE / SCRAPE)):
        instant = evaluation_instant(datetime.now(UTC), INTERVAL, SETTLE)
        if instant >= counted:
            return instant
        await asyncio.sleep(SCRAPE)
    raise AssertionError(f"{counted} is far ahead")


def watched(**more: Any) -> Watched:
    """The model of these tests."""
    return replace(
        Watched(
            KEY,
            Metrics(),
            (STABLE, CANARY),
            serving=STABLE,
            interval=INTERVAL,
            windows=frozenset({WINDOW}),
            needs_errors=True,
            needs_latency=True,
        ),
        **more,
    )


def total(intervals: list[Interval], arm: str) -> Delta:
    """What an arm did in all."""
    return sum((d for i in intervals for d in getattr(i, arm).values()), Delta())


def all_of(*pods: Pod) -> Delta:
    """The truth of several pods."""
    return sum((p.truth() for p in pods), Delta())


async def test_counts_equal_the_truth_and_increase_does_not(
    prometheus: Prometheus, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every request, error and slow request up to the last scrape is counted once; increase() loses and invents."""
    old = Pod(f"{STABLE}-7d9c5b8f6d-aaaaa", created=datetime.now(UTC) - timedelta(hours=1))
    first, second = (Pod(f"{CANARY}-5f6d7c8b9c-{suffix}", refuses=True) for suffix in ("bbbbb", "ccccc"))
    old.serve(1000, 7, 20)
    prometheus.start(old, first, second)
    looks = Looks(prometheus, watched())
    await looks.during(2.2)
    before = old.truth()
    looks.model = watched(trial=CANARY, control=STABLE, trial_start=datetime.now(UTC))

    first.serve(9, 9)  # all that it answers before its first scrape fails
    first.begin()
    for _ in range(6):
        old.serve(20, 1, 2)
        first.serve(4, 0, 1)
        await looks.during(0.5)
    await looks.seen()
    first.restart()
    second.begin()
    old.refuses = True  # a missed scrape, or three
    for _ in range(4):
        old.serve(25, 2)
        first.serve(2, 1)
        second.serve(3)
        await looks.during(0.4)
    old.refuses = False
    evidence_time = looks.intervals[-1].end
    for _ in range(5):
        old.serve(10)
        second.serve(2, 1, 1)
        await looks.during(0.4)
    await looks.seen()
    second.restart()
    for _ in range(4):
        old.serve(10)
        second.serve(1, 1)
        await looks.during(0.4)
    await looks.seen()

    trial, control = total(looks.intervals, "trial"), total(looks.intervals, "control")
    truth = all_of(first, second)
    end = looks.intervals[-1].end
    span = f"{(end - looks.model.trial_start).total_seconds():.0f}s"  # type: ignore[operator]
    increase = prometheus.value(f'sum(increase(inference_errors_total{{pod=~"{CANARY}-.+"}}[{span}]))', end)
    with capsys.disabled():
        print(f"\nerrors of the canary: true {truth.errors}, counted {trial.errors}, increase() {increase:.1f}")
    assert trial == truth
    assert control.requests == old.truth().requests - before.requests
    assert control.errors == (old.truth().errors or 0) - (before.errors or 0)
    assert control.timed - control.faster[100.0] == 12
    assert abs(increase - (truth.errors or 0)) > 1
    assert looks.evidence[-1].windows[WINDOW].requests > 0

    after = [interval for interval in looks.intervals if interval.end > evidence_time]
    heir = Looks(prometheus, replace(looks.model, evidence_time=evidence_time))
    evidence = await heir.look(looks.evidence[-1].time)
    assert list(evidence.intervals) == after
    assert evidence.state is DataState.FLOWING


async def test_a_new_operator_reads_what_was_spent(prometheus: Prometheus) -> None:
    """What a store that begins now reads of a budget's past is what was counted, to the request, in every window."""
    stem = "fraud"
    pods = [Pod(f"{stem}-{digit * 10}-7d9c5b8f6d-aaaaa", created=datetime.now(UTC)) for digit in "12"]
    prometheus.start(*pods)
    for pod in pods:
        pod.serve(500, 20, 5)
    await prometheus.scraped()
    for pod in pods:
        pod.serve(100, 3, 2)
    counted = await prometheus.scraped()
    slis = {kind: Sli(kind, 100.0 if kind is RuleKind.SLOW else 0.0, 0.99, 30 * 86_400.0) for kind in RuleKind}
    del slis[RuleKind.QUERY]
    name = f"{stem}-{'2' * 10}"  # of the other revision nobody knows any more
    created = {pod.name: pod.created for pod in pods if pod.created}
    model = replace(watched(revisions=(name,), serving=name, pods=created), slis=frozenset(slis.values()))
    # A store begins one interval early, and counts only revisions that it knows: all was counted before that.
    looks, instant = Looks(prometheus, model), await instant_after(counted + timedelta(seconds=INTERVAL))
    await looks.look(instant)
    async with PrometheusClient(Connection(prometheus.url, timeout=5)) as client:
        await looks.store.recall([model], instant, client)
    evidence = await looks.look(instant + timedelta(seconds=INTERVAL))
    truth = all_of(*pods)
    for window, tally in evidence.tallies[slis[RuleKind.ERRORS]].items():
        assert (tally.requests, tally.bad) == (truth.requests, truth.errors), f"over {window:g} s"
    for window, tally in evidence.tallies[slis[RuleKind.SLOW]].items():
        assert (tally.requests, tally.bad) == (truth.timed, 14), f"over {window:g} s"


async def test_each_lack_of_data_has_its_state_and_reason(prometheus: Prometheus) -> None:
    """No traffic, no data, a wrong metric, a failed scrape, stale data and a lost Prometheus are told apart."""
    idle, busy, down, gone = (Pod(f"{name}-5f6d7c8b9c-aaaaa") for name in ("idle", "busy", "down", "gone"))
    down.refuses = True
    for pod in (idle, busy, gone):
        pod.serve(10)
    prometheus.start(idle, busy, down, gone)

    def model(name: str, **more: Any) -> Watched:
        key, pods = ("ml", name), {f"{name}-5f6d7c8b9c-aaaaa": datetime.now(UTC) - timedelta(hours=1)}
        return replace(watched(revisions=(name,), serving=name, needs_latency=False), key=key, pods=pods, **more)

    typo = MetricsSource(requests="inference_request_total", errors="inference_errors_total")
    other = Metrics(dialect=Dialect.CUSTOM, custom=typo)
    bad = frozenset({"nonsense(", '"up"', "up[1m]"})
    value = frozenset({"avg by (namespace, pod) (inference_requests_total)"})
    models = [
        *(model(name) for name in ("idle", "down", "gone", "absent")),
        model("busy", queries=value),
        replace(model("busy", metrics=other), key=("ml", "typo")),
        replace(model("busy", queries=bad), key=("ml", "asking")),
        replace(model("busy", metrics=Metrics(dialect=Dialect.KSERVE)), key=("ml", "kserve")),
    ]
    # One model owns a revision: those that share the pods of `busy` are looked at one by one.
    looks = {m.key: Looks(prometheus, m, stale_after=STALE_AFTER) for m in models}

    async def all_look(counted: datetime) -> dict[str, Evidence]:
        instant = await instant_after(counted)
        return {key[1]: await look.look(instant) for key, look in looks.items()}

    await all_look(await prometheus.scraped())
    gone.refuses = True
    for _ in range(2):
        busy.serve(5)
        await all_look(await prometheus.scraped())
    await all_look(datetime.now(UTC) + timedelta(seconds=STALE_AFTER))
    busy.serve(5)
    seen = await all_look(await prometheus.scraped())
    told = {name: evidence.state for name, evidence in seen.items()}
    assert told == {
        "busy": DataState.FLOWING,
        "idle": DataState.NO_TRAFFIC,
        "down": DataState.NO_DATA,
        "absent": DataState.NO_DATA,
        "typo": DataState.NO_DATA,
        "gone": DataState.STALE,
        "asking": DataState.FLOWING,
        "kserve": DataState.NO_DATA,
    }
    assert "up is 0 for down-5f6d7c8b9c-aaaaa" in seen["down"].message
    assert "no series inference_requests_total with namespace=ml, pod=~absent-.*" in seen["absent"].message
    assert "no series inference_request_total" in seen["typo"].message
    assert "Prometheus still scrapes its pods" in seen["gone"].message
    assert "parse error" in seen["asking"].query_errors["nonsense("]
    assert "gives a string" in seen["asking"].query_errors['"up"']
    assert "gives a range vector" in seen["asking"].query_errors["up[1m]"]
    assert seen["busy"].values == {(*value, "busy"): float(busy.truth().requests)}
    assert seen["busy"].windows[WINDOW].requests == 15

    every = [replace(models[0], metrics=Metrics(dialect=name)) for name in known(())]
    for identity in SeriesIdentity:
        both = MetricsSource(requests='{__name__=~"up|scrape_samples_scraped"}', identity=identity)
        every.append(replace(models[0], metrics=Metrics(dialect=Dialect.CUSTOM, custom=both)))
    async with PrometheusClient(Connection(prometheus.url)) as client:
        asked = plan([replace(m, needs_latency=True) for m in every])
        parts = [part for group in asked.groups for split in group.parts.values() for part in split(4)]
        for query in (*asked.queries(), *parts):
            await client.instant(query, datetime.now(UTC))  # raises if Prometheus cannot parse it
        own = (OwnDialect(name="mine", requests='{__name__=~"inference_(requests|errors)_total"}'),)
        for query in queries(models[:5], own).values():
            await client.instant(query, datetime.now(UTC))  # a probe takes a refusal for nothing found
        found = await probe(models[:5], own, datetime.now(UTC), client)
    there = ("mine", "Generic")
    assert {key[1]: one.names for key, one in found.items()} == {
        **dict.fromkeys(("busy", "idle"), there),
        **dict.fromkeys(("down", "gone", "absent"), ()),
    }

    prometheus.child.kill()
    lost = (await all_look(datetime.now(UTC)))["busy"]
    assert lost.state is DataState.QUERY_ERROR
    assert "cannot reach Prometheus" in lost.message
    assert not lost.intervals


async def test_a_canary_tells_how_hard_pressed_it_is(prometheus: Prometheus) -> None:
    """vLLM with two engines: what waits in both, how full they are on average, and every request that was shed."""
    old = Pod(f"{STABLE}-7d9c5b8f6d-aaaaa", created=datetime.now(UTC) - timedelta(hours=1))
    new = Pod(f"{CANARY}-5f6d7c8b9c-bbbbb", created=datetime.now(UTC))

    def shows(pod: Pod, requests: int, shed: int, waiting: tuple[int, int], full: tuple[int, int]) -> None:
        pod.counts = {'http_requests_total{handler="/v1/completions",method="POST",status="2xx"}': requests}
        if shed:
            pod.counts['http_requests_total{handler="/v1/completions",method="POST",status="5xx"}'] = shed
            pod.counts['vllm:admission_rejections_total{engine="0"}'] = shed
        for engine in (0, 1):
            pod.counts[f'vllm:num_requests_waiting{{engine="{engine}"}}'] = waiting[engine]
            pod.counts[f'vllm:kv_cache_usage_perc{{engine="{engine}"}}'] = full[engine]
            pod.counts[f'vllm:e2e_request_latency_seconds_bucket{{engine="{engine}",le="+Inf"}}'] = requests

    shows(old, 1000, 90, (50, 50), (1, 1))
    shows(new, 10, 0, (0, 0), (0, 0))
    prometheus.start(old, new)
    trial = watched(metrics=Metrics(dialect=Dialect.VLLM), trial=CANARY, control=STABLE, trial_start=datetime.now(UTC))
    looks = Looks(prometheus, replace(trial, wants_signals=True))
    await looks.seen()
    for k in range(1, 5):
        shows(old, 1000 + 100 * k, 90, (50, 50), (1, 1))
        shows(new, 10 + 20 * k, 7 * k, (3, 2), (1, 0))
        await looks.during(0.4)
    await looks.seen()
    strain = [one for interval in looks.intervals for one in interval.strain.values()]
    assert sum(one.timeouts or 0 for one in strain) == 28, strain
    assert total(looks.intervals, "trial").errors == 28
    assert replace(strain[-1], timeouts=None) == Strain(queue=5.0, saturation=0.5), strain
    assert not any(pod.startswith(STABLE) for interval in looks.intervals for pod in interval.strain)
