"""The evidence is the truth to the request under a real Prometheus, where increase() over the same time is not.

Servers that know what they answered are scraped by it while their pods restart, their labels are born late, their
scrapes are missed and new pods come. What was never scraped is known to nobody, so nothing is asked of a process in its
last second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from integration.counted import EDGES, SCRAPE, Pod, Prometheus
from integration.natively import HISTOGRAM, ClassicPod, NativePod
from lab.process import PATIENCE
from modeldeployment.api.serving import Histogram, LatencyUnit, Metrics, MetricsSource
from modeldeployment.decision.evidence import DataState, Delta, Evidence
from modeldeployment.metrics import Connection, EvidenceStore, ModelKey, PrometheusClient, Watched, evaluation_instant

INTERVAL, SETTLE = 1.0, 0.5
STEP = 0.5
"""Seconds between the acts of a story."""
STEPS = 32
FIGURES = ("answered", "failed", "slow")
SERIES = {
    "answered": "inference_requests_total{{{of}}}",
    "failed": "inference_errors_total{{{of}}}",
    "slow": 'inference_latency_ms_bucket{{le="+Inf", {of}}}',
}


@dataclass
class Story:
    """What happens to the canary of one model, read by `metrics`; what is slower than `bound` (ms) is slow.

    `play` is called at each step with its pods.
    """

    name: str
    play: Callable[[int, list[Pod]], None]
    metrics: Metrics = field(default_factory=Metrics)
    bound: float = EDGES[0]
    pods: list[Pod] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)

    @property
    def key(self) -> ModelKey:
        """The model."""
        return "ml", self.name.replace(" ", "-")

    def watched(self, began: datetime) -> Watched:
        """What is asked for."""
        stable, canary = (f"{self.key[1]}-{arm}" for arm in ("stable", "canary"))
        return Watched(
            self.key,
            self.metrics,
            (stable, canary),
            serving=stable,
            trial=canary,
            control=stable,
            trial_start=began,
            interval=INTERVAL,
            bounds=frozenset({self.bound}),
            needs_errors=True,
            needs_latency=True,
            pods={pod.name: pod.created for pod in self.pods if pod.created},
        )


def born_late(step: int, pods: list[Pod]) -> None:
    """A pod that is scraped for long fails for the first time, and again later: its counter of errors is new."""
    pods[0].serve(4, errors=3 if step in (8, 9, 20) else 0, slow=1 if step > 15 else 0)


def restarts(step: int, pods: list[Pod]) -> None:
    """Three lives, each with requests before its first scrape; the second counts past the first."""
    if step in (10, 20):
        pods[0].restart()
    elif step in (0, 11, 21):
        pods[0].serve(15, errors=5)
    elif step not in (8, 9, 18, 19):
        pods[0].serve(2 + step // 10 * 3, errors=1, slow=step % 2)


def missed(step: int, pods: list[Pod]) -> None:
    """The first scrapes fail, and some in the middle."""
    pods[0].refuses = step < 5 or step in (14, 15, 16)
    pods[0].serve(3, errors=2 if step < 6 else 0, slow=1)


def scaled(step: int, pods: list[Pod]) -> None:
    """One more pod every four seconds, each with requests before it is scraped."""
    for number, pod in enumerate(pods):
        if step == 8 * number:
            pod.begin()
        if step >= 8 * number:
            pod.serve(3, errors=1 if step % 8 == 0 else 0, slow=number % 2)


def everything(step: int, pods: list[Pod]) -> None:
    """All of it."""
    first, second = pods
    first.refuses = step < 3 or step in (25, 26)
    if step == 12:
        second.begin()
    if step == 18:
        first.restart()
    elif step not in (16, 17):
        first.serve(2, errors=1 if step in (1, 2, 19, 20) else 0, slow=1)
    if step >= 12:
        second.serve(5, errors=step % 2)


def coarser(step: int, pods: list[Pod]) -> None:
    """A client that coarsens its schema as it runs, from 5 to 3 to 1, and begins anew with the finest."""
    assert isinstance(pods[0], NativePod)
    pods[0].schema = {0: 5, 8: 3, 14: 1, 20: 5, 26: 0}.get(step, pods[0].schema)
    if step == 20:
        pods[0].restart()
    elif step not in (18, 19):
        pods[0].serve(4, slow=step % 3)


@pytest.fixture
async def prometheus(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Prometheus]:
    """A Prometheus with the flags that the test gives, and an end to it and to all its pods."""
    server = Prometheus(tmp_path, *getattr(request, "param", ()))
    try:
        yield server
    finally:
        server.child.stop()
        for pod in server.pods:
            pod.close()


@asynccontextmanager
async def looking(prometheus: Prometheus, stories: list[Story], began: datetime) -> AsyncIterator[EvidenceStore]:
    """Looks at every instant while the block runs, as the fleet does it."""
    store, client = EvidenceStore(), PrometheusClient(Connection(prometheus.url, timeout=5))

    async def look() -> None:
        last = None
        while True:
            instant = evaluation_instant(datetime.now(UTC), INTERVAL, SETTLE)
            if instant != last:
                last = instant
                async for batch in store.look([story.watched(began) for story in stories], instant, client):
                    for story in stories:
                        if story.key in batch:
                            story.evidence.append(batch[story.key])
            await asyncio.sleep(0.05)

    async with client:
        task = asyncio.create_task(look())
        try:
            yield store
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(check: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Until it holds, or so long: what is asserted afterwards says what was expected."""
    for _ in range(round(seconds / SCRAPE)):
        if check():
            return
        await asyncio.sleep(SCRAPE)


def counted(story: Story) -> dict[str, int]:
    """What the evidence says of the canary."""
    total = sum((d for e in story.evidence for i in e.intervals for d in i.trial.values()), Delta())
    return {
        "answered": total.requests,
        "failed": total.errors or 0,
        "slow": total.timed - total.faster.get(story.bound, 0),
    }


async def played(stories: list[Story], pods: list[Pod]) -> dict[str, dict[str, int]]:
    """All that happens to the canaries, each beside the pod of stable before it; by story what was answered, once the
    evidence has it, and a while later."""
    for step in range(STEPS):
        for story in stories:
            story.play(step, story.pods)
            pods[pods.index(story.pods[0]) - 1].serve(7, 1, 1)
        await asyncio.sleep(STEP)
    truth = {s.name: {of: sum(getattr(pod, of) for pod in s.pods) for of in FIGURES} for s in stories}
    await until(lambda: all(counted(s) == truth[s.name] for s in stories))
    await asyncio.sleep(2 * INTERVAL)  # nothing more is counted
    return truth


def increased(prometheus: Prometheus, story: Story, began: datetime) -> dict[str, float]:
    """What increase() says of it over the time of that evidence."""
    end = max(interval.end for e in story.evidence for interval in e.intervals)
    span = f"[{round((end - began).total_seconds() * 1000)}ms]"
    of = f'pod=~"{story.key[1]}-canary-.+"'
    found = {name: prometheus.value(f"sum(increase({text.format(of=of)}{span}))", end) for name, text in SERIES.items()}
    fast = f'sum(increase(inference_latency_ms_bucket{{le="{EDGES[0]:g}", {of}}}{span}))'
    return {**found, "slow": found["slow"] - prometheus.value(fast, end)}


async def test_the_evidence_is_the_truth_and_increase_is_not(
    prometheus: Prometheus, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every request, error and slow request of five canaries is counted once, whatever happens to their pods; for the
    same five, increase() is wrong each time. The table has both."""
    stories = [
        Story("born late", born_late),
        Story("restarts", restarts),
        Story("missed", missed),
        Story("scaled", scaled),
        Story("everything", everything),
    ]
    pods = []
    for story in stories:
        old = Pod(f"{story.key[1]}-stable-7d9c5b8f6d-aaaaa", created=datetime.now(UTC) - timedelta(hours=1))
        old.serve(1000, 7, 20)
        count = {"scaled": 4, "everything": 2}.get(story.name, 1)
        story.pods = [Pod(f"{story.key[1]}-canary-5f6d7c8b9c-bbbb{k}", refuses=True) for k in range(count)]
        pods += [old, *story.pods]
    prometheus.start(*pods)
    began = datetime.now(UTC)
    for story in stories:
        story.pods[0].begin()
    async with looking(prometheus, stories, began):
        truth = await played(stories, pods)
    with capsys.disabled():
        print(f"\n{'canary':12} {'requests':>9} {'truth':>7} {'evidence':>9} {'increase()':>11} {'off by':>8}")
        for story in stories:
            by_increase = increased(prometheus, story, began)
            for of in FIGURES:
                true, seen, said = truth[story.name][of], counted(story)[of], by_increase[of]
                off = f"{100 * (said - true) / true:+.1f} %" if true else f"{said:+.1f}"
                print(f"{story.name:12} {of:>9} {true:7d} {seen:9d} {said:11.2f} {off:>8}")
    for story in stories:
        assert counted(story) == truth[story.name], f"{story.name}: the evidence is not what was answered"
        by_increase = increased(prometheus, story, began)
        assert abs(by_increase["failed"] - truth[story.name]["failed"]) >= 0.5, (
            f"{story.name}: increase() counts as well"
        )
    assert any(d.requests for e in stories[0].evidence for i in e.intervals for d in i.control.values())


def crowd(count: int) -> tuple[Story, list[Pod]]:
    """A canary of many pods, each with another last character, and one of stable."""

    def play(step: int, pods: list[Pod]) -> None:
        for pod in pods:
            pod.serve(2, errors=step % 2, slow=1)

    story = Story("crowd", play)
    story.pods = [Pod(f"crowd-canary-5f6d7c8b9c-bbbb{end}") for end in "bcdfghjklmnpqrstvwxz2456789"[:count]]
    old = Pod("crowd-stable-7d9c5b8f6d-aaaaa", created=datetime.now(UTC) - timedelta(hours=1))
    old.serve(100)
    return story, [old, *story.pods]


@pytest.mark.parametrize("prometheus", [("--query.max-samples=30",)], indirect=True)
async def test_what_prometheus_refuses_at_once_it_answers_in_parts(prometheus: Prometheus) -> None:
    """`query processing would load too many samples`: the same queries in parts give the truth, from the first look."""
    story, pods = crowd(14)
    prometheus.start(*pods)
    began = datetime.now(UTC)
    for pod in story.pods:
        pod.created = began
    async with looking(prometheus, [story], began) as store:
        for step in range(8):
            story.play(step, story.pods)
            await asyncio.sleep(STEP)
        await until(lambda: counted(story)["answered"] == 14 * 16)
    assert counted(story) == {"answered": 14 * 16, "failed": 14 * 4, "slow": 14 * 8}
    assert {e.state for e in story.evidence} <= {DataState.FLOWING, DataState.NO_TRAFFIC, DataState.NO_DATA}
    assert max(store._shards._counts.values()) >= 4, "it was refused"


async def test_two_copies_of_each_sample_are_refused(prometheus: Prometheus) -> None:
    """A pair of Prometheus that send to one store: no interval counts anything twice, and the reason is told."""
    story, pods = crowd(2)
    prometheus.replicas = ("a", "b")
    prometheus.start(*pods)
    began = datetime.now(UTC)
    async with looking(prometheus, [story], began):
        story.play(0, story.pods)
        await until(lambda: bool(story.evidence) and "two copies" in story.evidence[-1].message)
        story.play(0, story.pods)
        await asyncio.sleep(3 * INTERVAL)
    assert story.evidence[-1].state is DataState.QUERY_ERROR
    assert "with prometheus_replica=a and with prometheus_replica=b" in story.evidence[-1].message
    assert not [interval for e in story.evidence for interval in e.intervals]


@pytest.mark.parametrize(
    ("kind", "scraping", "unit", "bound"),
    [
        (NativePod, "scrape_native_histograms", LatencyUnit.SECONDS, 125.0),
        (ClassicPod, "convert_classic_histograms_to_nhcb", LatencyUnit.MILLISECONDS, EDGES[0]),
    ],
    ids=["native", "custom bounds"],
)
async def test_native_histograms_tell_the_truth(
    prometheus: Prometheus, kind: type[Pod], scraping: str, unit: LatencyUnit, bound: float
) -> None:
    """Scraped as a native histogram, or made into one with custom bounds: every request and every slow one is counted
    once, over restarts, missed scrapes, a schema that becomes coarser, and pods that begin without a request."""
    latency = Histogram(histogram=HISTOGRAM, unit=unit)
    source = MetricsSource(requests="inference_requests_total", errors="inference_errors_total", latency=latency)
    metrics = Metrics(dialect="Custom", custom=source)
    stories = [Story("restarts", restarts, metrics, bound), Story("missed", missed, metrics, bound)]
    if kind is NativePod:
        stories.append(Story("coarser", coarser, metrics, bound))
    pods: list[Pod] = []
    for story in stories:
        old = kind(f"{story.key[1]}-stable-7d9c5b8f6d-aaaaa", created=datetime.now(UTC) - timedelta(hours=1))
        old.serve(1000, 7, 20)
        story.pods = [kind(f"{story.key[1]}-canary-5f6d7c8b9c-bbbb0", refuses=True)]
        pods += [old, *story.pods]
    prometheus.scraping = {scraping: True}
    prometheus.start(*pods)
    began = datetime.now(UTC)
    for story in stories:
        story.pods[0].begin()
    async with looking(prometheus, stories, began):
        truth = await played(stories, pods)
    for story in stories:
        assert counted(story) == truth[story.name], f"{story.name}: the evidence is not what was answered"
        assert truth[story.name]["slow"], f"{story.name}: none was slow"
        timed = sum(d.timed for e in story.evidence for i in e.intervals for d in i.trial.values())
        assert timed == truth[story.name]["answered"], f"{story.name}: the histogram counts all of them"
        control = [d for e in story.evidence for i in e.intervals for d in i.control.values()]
        assert 0 < sum(d.timed for d in control) <= 7 * STEPS, "what stable counted before is nobody's evidence"
