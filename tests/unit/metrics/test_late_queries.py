"""A query that is late: who does not need it does not wait, who needs it loses nothing, and every look has an end."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx
import pytest

from modeldeployment.decision.evidence import DataState, Delta
from modeldeployment.metrics import Connection, EvidenceStore, PrometheusClient, QueryTimeout
from unit.metrics.looking import CANARY_POD, KEY, MODEL, STABLE_POD, T0, TRIAL, at, look_at, scraped
from unit.metrics.simulated import SimulatedPrometheus, counts

OTHER = ("ml", "other")
OTHER_POD = "other-a-7d9c5b8f6d-ccccc"
PLAIN = replace(MODEL, key=OTHER, revisions=("other-a",), serving="other-a", pods={OTHER_POD: at(-9999)})


def server() -> SimulatedPrometheus:
    """Two models that are scraped every 10 s."""
    found = SimulatedPrometheus()
    scraped(found.pod(STABLE_POD), *((10 * k - 1, 1000 + 100 * k, 0) for k in range(-9, 20)))
    scraped(found.pod(CANARY_POD), *((10 * k - 1, 10 * k, 0) for k in range(20)))
    found.pod(OTHER_POD).scrapes = [
        (T0 + 10 * k - 1, counts(900 + 9 * k, 0, le_100=k + 90, le_inf=9 * k + 900)) for k in range(-9, 20)
    ]
    return found


@pytest.mark.parametrize("what", ["slow_query", "latency"])
async def test_who_does_not_need_a_late_query_does_not_wait(what: str) -> None:
    """A PromQL objective, or buckets, of one model hang: the others have their evidence, and the next look is theirs
    alone; the late answer is of the instant that was asked for, and the interval after it is longer."""
    ours, store = server(), EvidenceStore()
    ours.series["slow_query"] = [({}, 7.0)]
    slow = (
        replace(TRIAL, queries=frozenset({"slow_query"}))
        if what == "slow_query"
        else replace(TRIAL, needs_latency=True)
    )
    async with ours.client() as client:
        await look_at(store, [slow, PLAIN], at(0), client)
        ours.held[what] = asyncio.Event()
        looking = store.look([slow, PLAIN], at(10), client)
        first = await anext(looking)
        assert {key: e.state for key, e in first.items()} == {OTHER: DataState.FLOWING}
        assert await look_at(store, [PLAIN], at(20), client)
        ours.held.pop(what).set()
        (second,) = [batch async for batch in looking]
        later = await look_at(store, [slow, PLAIN], at(30), client)
    assert second.keys() == {KEY}
    assert second[KEY].time == at(10)
    found = [*second[KEY].intervals, *later[KEY].intervals]
    assert [(i.start, i.end, i.trial[CANARY_POD].requests) for i in found] == [
        (at(0), at(10), 10),
        (at(10), at(30), 20),
    ]


async def test_a_query_that_never_comes_is_an_error_of_who_needs_it() -> None:
    """Buckets are not answered within the deadline: who needs them says so, and loses nothing of what comes later."""
    ours, store = server(), EvidenceStore()
    fast = replace(PLAIN, needs_latency=True, windows=frozenset({600.0}))
    seen = []
    async with ours.client(timeout=0.1) as client:
        for t in range(0, 40, 10):
            ours.held = {"latency": asyncio.Event()} if t in (10, 20) else {}
            seen.append(await look_at(store, [MODEL, fast], at(t), client))
    assert [s[KEY].state for s in seen] == [DataState.FLOWING] * 4
    late = DataState.QUERY_ERROR
    assert [s[OTHER].state for s in seen] == [DataState.FLOWING, late, late, DataState.FLOWING]
    assert "did not answer within 0.1s" in seen[1][OTHER].message
    assert seen[3][OTHER].windows[600.0] == Delta(9 * 12, 0, {100.0: 12}, 9 * 12)


async def test_a_look_ends_though_many_queries_wait_for_each_other() -> None:
    """PromQL objectives that all hang, more than are sent at once: those that had no turn are told, too, in one look's
    time; the counters of the same model are not touched."""
    ours, store = server(), EvidenceStore()
    ours.held["hangs"] = asyncio.Event()
    asking = replace(MODEL, queries=frozenset(f"hangs_{k}" for k in range(40)))
    async with ours.client(timeout=0.1) as client:
        found = await look_at(store, [asking], at(0), client)
    assert found[KEY].state is DataState.FLOWING
    errors = found[KEY].query_errors
    assert len(errors) == 40
    told = [
        any(words in e for e in errors.values()) for words in ("did not answer", "no answer within the 0.2s of a look")
    ]
    assert told == [True, True]


async def test_the_past_of_a_new_model_delays_nobody() -> None:
    """Its range queries hang: who is known already has its evidence at once."""
    ours, store = server(), EvidenceStore()
    async with ours.client() as client:
        await look_at(store, [PLAIN], at(0), client)
        answer, held = client.range, asyncio.Event()

        async def late(*args: object, **more: object) -> object:
            await held.wait()
            return await answer(*args, **more)  # type: ignore[arg-type]

        client.range = late  # type: ignore[method-assign, assignment]
        looking = store.look([TRIAL, PLAIN], at(10), client)
        assert (await anext(looking)).keys() == {OTHER}
        held.set()
        assert [batch.keys() async for batch in looking] == [{KEY}]


async def test_kinds_of_queries_do_not_wait_for_each_other() -> None:
    """However many of anybody's PromQL hang, or of the past: what is counted now is asked; and of PromQL, one text that
    was slow the last time leaves the way free for the others."""
    hanging: set[str] = set()
    free = asyncio.Event()

    async def handler(request: httpx.Request) -> httpx.Response:
        if b"slow" in request.content:
            hanging.add(request.content.decode())
            await free.wait()
        return httpx.Response(200, json={"data": {"resultType": "vector", "result": []}})

    async with PrometheusClient(
        Connection("http://p.test", timeout=5), transport=httpx.MockTransport(handler)
    ) as client:

        async def hang(purpose: str) -> list[asyncio.Task[object]]:
            tasks: list[asyncio.Task[object]] = [
                asyncio.create_task(client.instant(f"slow_{k}", at(0), purpose=purpose)) for k in range(20)
            ]
            await asyncio.sleep(0.01)
            return tasks

        waiting = await hang("promql")
        waiting += await hang("past requests")
        assert (await client.instant("up", at(0), purpose="requests")).labels == []
        free.set()
        await asyncio.gather(*waiting)

        free.clear()
        hanging.clear()
        client._slow = {f"slow_{k}": None for k in range(20)}
        waiting = await hang("promql")
        assert (await client.instant("quick", at(0), purpose="promql")).labels == []
        assert len(hanging) == 2
        free.set()
        await asyncio.gather(*waiting)
        assert not client._slow, "they were quick this time"


async def test_a_query_that_takes_its_time_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answered late or not at all."""
    monkeypatch.setattr("modeldeployment.metrics.client.SLOW", 0.01)

    async def handler(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(10 if b"never" in request.content else 0.02)
        return httpx.Response(200, json={"data": {"resultType": "vector", "result": []}})

    async with PrometheusClient(
        Connection("http://p.test", timeout=0.1), transport=httpx.MockTransport(handler)
    ) as client:
        await client.instant("late", at(0), purpose="promql")
        with pytest.raises(QueryTimeout):
            await client.instant("never", at(0), purpose="promql")
        await client.instant("counters", at(0), purpose="requests")
    assert [*client._slow] == ["late", "never"]
