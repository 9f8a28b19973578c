"""The past of budgets: what a restart reads from Prometheus is what was counted, and it asks little."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeldeployment.api.serving import Dialect, Metrics
from modeldeployment.decision.evidence import Tally
from modeldeployment.decision.rules import RuleKind, Sli
from modeldeployment.metrics import EvidenceStore, Watched
from modeldeployment.metrics.ladder import AGAIN, TRIES
from unit.metrics.looking import T0, at, look_at
from unit.metrics.simulated import Endpoint, Name, SimulatedPrometheus, counts

HOUR, DAY = 3600.0, 86_400.0
MONTH = 30 * DAY
ERRORS = Sli(RuleKind.ERRORS, 0.0, 0.0, MONTH)
SLOW = Sli(RuleKind.SLOW, 800.0, 0.99, MONTH)
NEW, OLD, OLDEST = (f"fraud-{digit * 10}" for digit in "123")
MODEL = Watched(
    ("ml", "fraud"),
    Metrics(),
    (NEW,),
    serving=NEW,
    interval=30.0,
    needs_errors=True,
    slis=frozenset({ERRORS}),
    pods={f"{NEW}-7d9c5b8f6d-aaaaa": at(-8 * DAY)},
)


def served(
    server: SimulatedPrometheus, revision: str, start: float, end: float, *, suffix: str = "aaaaa", bad: int = 0
) -> Endpoint:
    """A pod that is scraped every 5 minutes: 10 requests a second, and `bad` in each 5 minutes; the counters of its
    last scrape stay what they were (it is gone)."""
    endpoint = server.pod(f"{revision}-7d9c5b8f6d-{suffix}")
    for k in range(round((end - start) / 300) + 1):
        endpoint.scrapes.append((T0 + start + 300 * k, counts(3000.0 * k, float(bad * k))))
    return endpoint


async def told(
    server: SimulatedPrometheus, model: Watched = MODEL, store: EvidenceStore | None = None, now: float = 0.0
) -> dict[Sli, dict[float, Tally]]:
    """What is told of the budgets, one look after the past was read."""
    store = store or EvidenceStore()
    async with server.client() as client:
        await look_at(store, [model], at(now), client)
        await store.recall([model], at(now), client)
        evidence = (await look_at(store, [model], at(now + model.interval), client))[model.key]
    return {sli: dict(windows) for sli, windows in evidence.tallies.items()}


async def test_versions_that_are_gone_are_counted() -> None:
    """The budget is the model's: what its last versions did counts, also that of one that lived for ten minutes."""
    server = SimulatedPrometheus()
    served(server, OLDEST, -20 * DAY, -8 * DAY, bad=3)
    served(server, OLD, -8 * DAY + 600, -8 * DAY + 1200, bad=1000)
    served(server, NEW, -8 * DAY, 60)
    whole = (await told(server))[ERRORS][MONTH]
    begun = 20 * DAY - whole.known + 30
    assert 0 <= begun <= MONTH / 60, "of its first half day only the end is known"
    assert whole.requests == pytest.approx(10 * (20 * DAY - begun) + 6000, abs=6000)
    assert whole.bad == pytest.approx(2000 + 3 * (12 * DAY - begun) / 300, abs=3)


async def test_windows_are_full_after_a_restart() -> None:
    """Each window holds what was counted in it, to a bucket of its ring."""
    server = SimulatedPrometheus()
    served(server, NEW, -40 * DAY, 60, bad=30)
    for window, tally in (await told(server))[ERRORS].items():
        assert tally.known == window
        assert tally.requests == pytest.approx(10 * window, rel=0.25 if window == 300 else 0.1)
        assert tally.bad / tally.requests == pytest.approx(0.01)


async def test_a_budget_says_since_when_it_knows() -> None:
    """Prometheus keeps 4 days: then 4 days are known, and nothing that was counted before is taken for new."""
    server = SimulatedPrometheus()
    served(server, NEW, -40 * DAY, 60, bad=30)
    endpoint = server.endpoints[0]
    endpoint.scrapes = [s for s in endpoint.scrapes if s[0] >= T0 - 4 * DAY]
    whole = (await told(server))[ERRORS][MONTH]
    assert 3.5 * DAY <= whole.known <= 4 * DAY
    assert whole.requests == pytest.approx(10 * whole.known, rel=0.01)


async def test_a_young_model_is_known_from_its_first_request() -> None:
    """Its pods were made 40 minutes ago: all that they counted is its budget's, in whichever bucket it lies."""
    server = SimulatedPrometheus()
    served(server, NEW, -2400, 60, bad=3)
    young = replace(MODEL, pods={f"{NEW}-7d9c5b8f6d-aaaaa": at(-2410)})
    tallies = (await told(server, young))[ERRORS]
    assert tallies[MONTH] == Tally(24_000, 24, 2440)
    assert tallies[HOUR] == Tally(24_000, 24, 2440)


async def test_a_model_of_ten_hours_is_known_from_nearly_its_first_minute() -> None:
    """It lies within one bucket of the month's ring, and its first version is gone: a finer ring tells, to 72
    minutes."""
    server = SimulatedPrometheus()
    served(server, OLD, -10 * HOUR, -5 * HOUR, bad=100)
    served(server, NEW, -5 * HOUR, 60)
    model = replace(MODEL, pods={f"{NEW}-7d9c5b8f6d-aaaaa": at(-5 * HOUR)})
    whole = (await told(server, model))[ERRORS][MONTH]
    assert 10 * HOUR - 4320 <= whole.known <= 10 * HOUR + 30
    assert whole.bad == pytest.approx((whole.known - 30 - 5 * HOUR) / 3, abs=100)


async def test_a_restart_of_the_process_is_no_loss() -> None:
    """A counter that fell has counted since; a job that was renamed, or that scrapes the same twice, counts once."""
    server = SimulatedPrometheus()
    pod = served(server, NEW, -40 * DAY, -5 * DAY)
    pod.scrapes += [(T0 - 5 * DAY + 300 * k, counts(3000.0 * k)) for k in range(1, round(5 * DAY / 300) + 1)]
    renamed = Endpoint({**pod.labels, "job": "other"}, [s for s in pod.scrapes if s[0] > T0 - 10 * DAY])
    server.endpoints.append(renamed)
    pod.scrapes = [s for s in pod.scrapes if s[0] < T0 - 9 * DAY]
    whole = (await told(server))[ERRORS][MONTH]
    assert whole.requests == pytest.approx(10 * MONTH, rel=0.02)


async def test_slow_requests_are_read_at_one_edge() -> None:
    """Of a histogram only the edge that slow requests are above is asked for, and +Inf."""
    server = SimulatedPrometheus()
    pod = server.pod(f"{NEW}-7d9c5b8f6d-aaaaa")
    for k in range(round(40 * DAY / 300) + 1):
        buckets = {"le_400": 2000.0 * k, "le_1000": 2970.0 * k, "le_inf": 3000.0 * k}
        pod.scrapes.append((T0 - 40 * DAY + 300 * k, counts(3000.0 * k, 0, **buckets)))
    model = replace(MODEL, needs_latency=True, slis=frozenset({ERRORS, SLOW}))
    tallies = await told(server, model)
    assert tallies[SLOW][MONTH].requests == pytest.approx(10 * MONTH, rel=0.02)
    assert tallies[SLOW][MONTH].bad / tallies[SLOW][MONTH].requests == pytest.approx(0.01)
    asked = {q for q in server.asked if "last_over_time" in q and "bucket" in q}
    assert len(asked) == 4 and all('le=~"1000([.]0+)?|[+]Inf"' in q for q in asked)


async def test_what_nobody_counts_has_no_budget() -> None:
    """A dialect without errors, a bound above the last bucket: no budget is told, rather than one that is unspent."""
    server, metric = SimulatedPrometheus(), "request_predict_seconds"
    pod = server.pod(f"{NEW}-7d9c5b8f6d-aaaaa")
    for k in range(100):
        names: tuple[Name, ...] = (f"{metric}_count", (f"{metric}_bucket", "0.5"), (f"{metric}_bucket", "+Inf"))
        pod.scrapes.append((T0 - 30 * (99 - k), dict.fromkeys(names, 10.0 * k)))
    metrics = Metrics(dialect=Dialect.KSERVE)
    model = replace(MODEL, metrics=metrics, needs_latency=True, slis=frozenset({ERRORS, SLOW}))
    assert not await told(server, model)
    slow = replace(SLOW, edge_ms=400.0)
    assert (await told(server, replace(model, slis=frozenset({ERRORS, slow})))).keys() == {slow}


async def test_seconds_are_spelled_as_their_clients_do() -> None:
    """0.8 or 0.80 s: an edge is found however it is written."""
    server, metric = SimulatedPrometheus(), "request_predict_seconds"
    pod = server.pod(f"{NEW}-7d9c5b8f6d-aaaaa")
    for k in range(100):
        names: tuple[Name, ...] = (f"{metric}_count", (f"{metric}_bucket", "0.8"), (f"{metric}_bucket", "+Inf"))
        pod.scrapes.append((T0 - 30 * (99 - k), dict.fromkeys(names, 10.0 * k)))
    model = replace(MODEL, metrics=Metrics(dialect=Dialect.KSERVE), needs_latency=True, slis=frozenset({SLOW}))
    assert (await told(server, model))[SLOW][HOUR].requests > 900
    asked = [q for q in server.asked if "last_over_time" in q]
    assert asked and all('le=~"0[.]80*|[+]Inf"' in q for q in asked)


async def test_a_fleet_asks_little() -> None:
    """240 pods of 120 models: three lots, four rings, requests and errors. Not again afterwards."""
    server, models = SimulatedPrometheus(), []
    for i in range(120):
        name = f"m{i:03d}"
        revision = f"{name}-{'4' * 10}"
        served(server, revision, -HOUR, 60, bad=3)
        pods = {f"{revision}-7d9c5b8f6d-{suffix}": at(-HOUR) for suffix in ("aaaaa", "bbbbb")}
        models.append(replace(MODEL, key=("ml", name), revisions=(revision,), serving=revision, pods=pods))
    store = EvidenceStore()
    async with server.client() as client:
        await look_at(store, models, at(0), client)
        server.asked.clear()
        await store.recall(models, at(0), client)
        assert len(server.asked) == 3 * 4 * 2
        await store.recall(models, at(30), client)
        assert len(server.asked) == 3 * 4 * 2
        found = await look_at(store, models, at(30), client)
    assert {e.tallies[ERRORS][MONTH].bad for e in found.values()} == {36}


async def test_a_past_that_cannot_be_read_is_asked_for_again() -> None:
    """Nothing is told before, then what is known without it; and once Prometheus answers, the whole."""
    server, store = SimulatedPrometheus(), EvidenceStore()
    served(server, NEW, -40 * DAY, 2 * HOUR, bad=30)
    server.refuses = {f"[{round(MONTH / 60 * 1000)}ms]": 422}
    now, spoken = 0.0, []
    for _ in range(TRIES):
        spoken.append(bool(await told(server, MODEL, store, now)))
        now += 600
    assert spoken == [False] * (TRIES - 1) + [True]
    asked = len(server.asked)
    async with server.client() as client:
        await store.recall([MODEL], at(now - 600 + AGAIN), client)
    assert len(server.asked) == asked, "it is left for longer each time"
    tallies = (await told(server, MODEL, store, now))[ERRORS]
    assert tallies[DAY].known == DAY, "the other rings were read"
    assert tallies[MONTH].known < HOUR
    server.refuses = {}
    tallies = (await told(server, MODEL, store, now + HOUR))[ERRORS]
    assert tallies[MONTH].known == MONTH
    assert tallies[MONTH].bad / tallies[MONTH].requests == pytest.approx(0.01)


async def test_a_ring_that_waits_changes_nobodys_order() -> None:
    """One model's coarse ring failed lately, another's rings are all to be asked for: those still come finest first."""
    server, store = SimulatedPrometheus(), EvidenceStore()
    revision, gone = f"late-{'5' * 10}", f"late-{'6' * 10}"
    served(server, NEW, -10 * HOUR, 2 * HOUR, bad=30)
    served(server, gone, -10 * HOUR, -5 * HOUR, bad=100)
    served(server, revision, -5 * HOUR, 2 * HOUR, bad=100)
    late = replace(MODEL, key=("ml", "late"), revisions=(revision,), serving=revision, pods={})
    async with server.client() as client:
        await look_at(store, [MODEL, late], at(0), client)
        server.refuses = {f"[{round(MONTH / 60 * 1000)}ms]": 422}
        await store.recall([MODEL], at(0), client)
        server.refuses = {}
        await store.recall([MODEL, late], at(60), client)
        found = await look_at(store, [MODEL, late], at(60), client)
    assert found[late.key].tallies[ERRORS][MONTH].known > 8 * HOUR


async def test_half_an_answer_is_none() -> None:
    """A store that lacks some of its shards would make a budget look unspent."""
    server, store = SimulatedPrometheus(), EvidenceStore()
    served(server, NEW, -DAY, 60)
    async with server.client() as client:
        await look_at(store, [MODEL], at(0), client)
        server.warnings = ["a store did not answer"]
        await store.recall([MODEL], at(0), client)
        server.warnings = []
        evidence = (await look_at(store, [MODEL], at(30), client))[MODEL.key]
    assert not evidence.tallies


@settings(max_examples=12, deadline=None)
@given(
    lives=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30), st.integers(0, 5)), min_size=1, max_size=6),
    handover=st.integers(40, 90),
)
async def test_an_heir_knows_what_its_predecessor_counted(lives: list[tuple[int, int, int]], handover: int) -> None:
    """However pods came and went: who reads the past counts every request that who was there all along counted."""
    server = SimulatedPrometheus()
    served(server, NEW, -DAY, 300 * 100, suffix="first")
    pods = {f"{NEW}-7d9c5b8f6d-first": at(-DAY)}
    for number, (start, length, bad) in enumerate(lives):
        name = f"{number:05d}"
        served(server, NEW, 300 * start + 10, 300 * (start + length) + 10, suffix=name, bad=bad)
        pods[f"{NEW}-7d9c5b8f6d-{name}"] = at(300 * start)
    model, there = replace(MODEL, pods=pods, interval=300.0), EvidenceStore()
    async with server.client() as client:
        for k in range(handover + 1):
            await look_at(there, [model], at(300 * k), client)
        await there.recall([model], at(300 * handover), client)
        seen = (await look_at(there, [model], at(300 * (handover + 1)), client))[model.key].tallies[ERRORS][MONTH]
    heir = (await told(server, model, now=300.0 * handover))[ERRORS][MONTH]
    assert (heir.requests, heir.bad) == (seen.requests, seen.bad)
