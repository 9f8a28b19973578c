"""Native histograms are counted like classic ones: exactly, at edges that were known before, through every change."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeldeployment.api.serving import Histogram, LatencyUnit, Metrics, MetricsSource
from modeldeployment.decision.counting import count, edges_of
from modeldeployment.decision.evidence import Delta
from modeldeployment.decision.rules import RuleKind, Sli
from modeldeployment.metrics import EvidenceStore, Watched
from modeldeployment.metrics.answer import read
from modeldeployment.metrics.histograms import slots
from modeldeployment.metrics.planning import plan, sources
from unit.metrics.looking import CANARY_POD, STABLE, STABLE_POD, T0, TRIAL, at, look, look_at
from unit.metrics.simulated import NATIVE, Endpoint, SimulatedPrometheus, counts

SOURCE = MetricsSource(
    requests="inference_requests_total", latency=Histogram(histogram=NATIVE, unit=LatencyUnit.SECONDS)
)
METRICS = Metrics(dialect="Custom", custom=SOURCE)
BOUND = 300.0
SLOW = Sli(RuleKind.SLOW, BOUND, 0.99, 30 * 86_400.0)
MODEL = replace(
    TRIAL, metrics=METRICS, bounds=frozenset({BOUND}), needs_errors=False, needs_latency=True, slis=frozenset({SLOW})
)
ALL = 100
"""Slower than any bound, and than any edge beside one of schema 0 or finer."""


@dataclass
class Client:
    """A client library's native histogram. `total` and `slow` are of all its processes.

    custom: its own bounds (s), as Prometheus makes of a classic histogram's, in place of a schema.
    """

    schema: int = 3
    custom: tuple[float, ...] = ()
    times: list[float] = field(default_factory=list)
    total: int = 0
    slow: int = 0

    def observe(self, *times: float) -> None:
        """Requests that took so many seconds."""
        self.times += times
        self.total, self.slow = self.total + len(times), self.slow + sum(1000 * t > BOUND for t in times)

    def restart(self) -> None:
        """Another process."""
        self.times = []

    def sample(self) -> dict[str, Any]:
        """As the API has it: empty buckets are left out, and `buckets` if all are."""
        rows = [
            [rule, str(low), str(up), str(n)]
            for (rule, low, up), n in sorted(
                Counter(map(self._bucket, self.times)).items(), key=lambda item: item[0][1]
            )
        ]
        of = {"count": str(len(self.times)), "sum": str(sum(self.times))}
        return {**of, "buckets": rows} if rows else of

    def _bucket(self, time: float) -> tuple[int, float, float]:
        if self.custom:
            edges = (-math.inf, *self.custom, math.inf)
            number = next(k for k, edge in enumerate(edges) if time <= edge)
            return 0 if number > 1 else 3, edges[number - 1], edges[number]
        if not time:
            return 3, -0.0, 0.0
        k = math.ceil(math.log2(time) * 2.0**self.schema)
        return 0, 2.0 ** ((k - 1) / 2.0**self.schema), 2.0 ** (k / 2.0**self.schema)

    def scraped(self, endpoint: Endpoint, seconds: float) -> None:
        """A scrape of it, with the counter of requests."""
        endpoint.scrapes.append((T0 + seconds, counts(len(self.times))))
        endpoint.natives[T0 + seconds] = self.sample()


def read_at(client: Client, *bounds: float) -> dict[float, float]:
    """Its sample as counters."""
    return slots(json.dumps(client.sample()), frozenset(bounds or {BOUND}), SOURCE)


def bad(delta: Delta) -> tuple[float, float, float]:
    """Requests, and at least and at most how many of them were slow."""
    counted = count(SLOW, delta, edges_of(SLOW, [delta])[0])
    assert counted is not None, f"nothing can be told of {delta}"
    return counted.n, counted.low, counted.high


times = st.lists(st.floats(1e-3, 10.0), max_size=12)


@given(times=times, fine=st.integers(-4, 8), coarse=st.integers(-4, 8), bound=st.floats(1.0, 9000.0))
def test_a_coarser_schema_brings_no_new_edge(times: list[float], fine: int, coarse: int, bound: float) -> None:
    """What a client shows after it coarsened was known before, and each edge counts what is true."""
    fine, coarse = max(fine, coarse), min(fine, coarse)
    before, after = read_at(Client(fine, times=times), bound), read_at(Client(coarse, times=times), bound)
    shown = Client(coarse, times=times or [1.0])
    assert read_at(shown, bound).keys() <= before.keys() or not times, "edges of the coarser schema were known"
    assert read_at(shown, bound).keys() <= read_at(Client(fine), bound).keys() | {bound}, "and before any request"
    for found in (before, after):
        for edge, requests in found.items():
            near = sum(math.isclose(1000 * t, edge, rel_tol=1e-6) for t in times)
            assert requests == pytest.approx(sum(1000 * t <= edge for t in times), abs=near), f"at {edge} ms"


def test_a_power_of_two_is_known_exactly() -> None:
    """500 ms are an edge of every schema from 0 on, in whatever unit."""
    client = Client(5, times=[0.4, 0.49, 0.51, 3.0])
    assert read_at(client, 500.0)[500.0] == 2
    in_ms = SOURCE.model_copy(update={"latency": Histogram(histogram=NATIVE, unit=LatencyUnit.MILLISECONDS)})
    sample = json.dumps(Client(2, times=[400.0, 600.0]).sample())
    assert slots(sample, frozenset({512.0}), in_ms)[512.0] == 1


def test_what_is_no_number_is_left_out() -> None:
    """A NaN observation is in `count` and in no bucket; requests of no time at all are in the zero bucket."""
    sample = {"count": "4", "sum": "NaN", "buckets": [[3, "-0", "0", "1"], [0, "0.25", "0.5", "2"]]}
    assert slots(json.dumps(sample), frozenset({500.0}), SOURCE)[math.inf] == 3
    assert slots('{"count": "1", "buckets": [[0, "2", "1", "1"]]}', frozenset({500.0}), SOURCE) == {}


def test_custom_bounds_tell_where_requests_were() -> None:
    """The bound itself as long as its bucket is empty, then both ends of the bucket, or the one that it has."""
    client = Client(custom=(0.1, 0.25, 0.5, 1.0), times=[0.05, 0.2])
    assert read_at(client) == {300.0: 2, math.inf: 2}
    assert read_at(client, 250.0) == {250.0: 2, math.inf: 2}
    client.observe(0.4)
    assert read_at(client) == {250.0: 2, 500.0: 3, math.inf: 3}
    assert read_at(client, 250.0) == {250.0: 2, math.inf: 3}
    edges, message = edges_of(replace(SLOW, edge_ms=300.0), [Delta(3, faster={250.0: 2, 500.0: 3}, timed=3)])
    assert edges is not None and "lies between the buckets 250ms and 500ms" in message
    client.observe(7.0)
    assert read_at(client, 3000.0) == {1000.0: 3, math.inf: 4}


def test_pods_that_share_no_edge_are_not_judged() -> None:
    """Were those left out that know it not exactly, it would be the slow ones."""
    fast, slow = Delta(9, faster={300.0: 9}, timed=9), Delta(9, faster={250.0: 5, 500.0: 9}, timed=9)
    edges, message = edges_of(SLOW, [fast, slow])
    assert edges is None and message == (
        "p99 bound 300ms lies inside a bucket of some pods, and their histograms have no edge in common to judge it at"
    )
    assert (fast + slow).faster == {} and (fast + slow).timed == 18
    assert (fast + Delta(faster={250.0: 0})).faster == {300.0: 9}, "who had no request says nothing against an edge"
    assert edges_of(SLOW, [fast, Delta(3, timed=3)])[0] is None


def test_answers_hold_them_beside_numbers() -> None:
    """In vectors and matrices, and a series may have both; numbers are read as ever."""
    sample = Client(times=[0.2]).sample()
    of = {"pod": "a"}
    vector = [{"metric": of, "histogram": [7, sample]}, {"metric": of, "value": [7, "3"]}]
    matrix = [{"metric": of, "values": [[7, "3"]], "histograms": [[8, sample], [9, sample]]}]
    for kind, result, instants in (("vector", vector, [7]), ("matrix", matrix, [8, 9])):
        answer = read(json.dumps({"status": "success", "data": {"resultType": kind, "result": result}}).encode())
        assert [(labels, list(samples)) for labels, samples in answer.series] == [(of, [(7, "3")])]
        assert [(labels, [(t, json.loads(text)) for t, text in samples]) for labels, samples in answer.histograms] == [
            (of, [(t, sample) for t in instants])
        ]


def test_they_are_asked_for_whole() -> None:
    """Prometheus adds native histograms up; a person is shown the same."""
    texts = {purpose: text for text, purpose in plan([MODEL]).queries().items()}
    assert texts["latency"].startswith("sum by (namespace, pod, instance, job) (inference_seconds{")
    assert sources(MODEL)["Slow"].startswith("sum by (pod) (inference_seconds{")


async def intervals(server: SimulatedPrometheus, until: int, model: Watched = MODEL) -> list[Delta]:
    """What the canary did in each interval."""
    return [i.trial[CANARY_POD] for e in await look(server, range(0, until, 10), model) for i in e.intervals]


def stable(server: SimulatedPrometheus, until: int) -> Client:
    """A stable version that is there, with 990 of 1,000 requests fast before, and one in ten slow."""
    client, endpoint = Client(), server.pod(STABLE_POD)
    client.observe(*[0.1] * 990, *[2.0] * 10)
    for k in range(-40, until // 10):
        client.observe(*[0.1] * 9, 2.0)
        client.scraped(endpoint, 10 * k - 1)
    return client


async def test_a_client_that_coarsens_counts_nothing_twice() -> None:
    """From schema 5 to 2 to 0 as it runs: n is exact, and the slow ones are between both edges at all times."""
    server = SimulatedPrometheus()
    stable(server, 80)
    client, canary = Client(schema=5), server.pod(CANARY_POD)
    for k, schema in enumerate([5, 5, 5, 2, 2, 0, 0], start=1):
        client.observe(*[0.1] * 90, *[0.29, 0.31] * 3, *[4.0] * 4)
        client.schema = schema
        client.scraped(canary, 10 * k - 1)
    found = [bad(delta) for delta in await intervals(server, 80)]
    assert [n for n, *_ in found] == [100] * 7
    assert [(low, high) for _, low, high in found] == [(7, 7)] * 3 + [(4, 7)] * 2 + [(4, 10)] * 2


async def test_a_restart_counts_what_came_since() -> None:
    """A process that begins anew, with a finer schema: all that it shows is new, at each edge that it has."""
    server = SimulatedPrometheus()
    stable(server, 60)
    client, canary = Client(schema=0), server.pod(CANARY_POD)
    for k in range(1, 6):
        if k == 3:
            client.restart()
            client.schema = 4
        client.observe(*[0.1] * (9 - k), 4.0)
        client.scraped(canary, 10 * k - 1)
    found = [bad(delta) for delta in await intervals(server, 60)]
    assert found == [(9 - k + 1, 1, 1) for k in range(1, 6)]


async def test_a_first_sample_without_a_bucket() -> None:
    """A histogram that is there before its first request: the first ones all count, at the edges of their schema."""
    server = SimulatedPrometheus()
    stable(server, 50)
    client, canary = Client(), server.pod(CANARY_POD)
    for k in range(1, 5):
        client.observe(*[0.1, 4.0] * (k > 2))
        client.scraped(canary, 10 * k - 1)
    found = await intervals(server, 50)
    assert [(d.timed, *bad(d)[1:]) for d in found] == [(0, 0, 0), (0, 0, 0), (2, 1, 1), (2, 1, 1)]


async def test_a_new_edge_counts_no_past() -> None:
    """A bound that is asked about later, and a finer schema whose reset nobody saw: one interval without the edge, then
    what came since; the others go on."""
    server = SimulatedPrometheus()
    stable(server, 80)
    client, canary = Client(schema=0), server.pod(CANARY_POD)
    for k in range(1, 8):
        client.observe(*[0.1] * 8, 0.29, 4.0)
        client.schema = 0 if k < 4 else 6
        client.scraped(canary, 10 * k - 1)
    found = await intervals(server, 80)
    assert [d.timed for d in found] == [10] * 7
    assert [bad(d)[1:] for d in found] == [(1, 2)] * 4 + [(1, 1)] * 3
    later = replace(MODEL, bounds=frozenset({BOUND, 2000.0}))
    store, sli = EvidenceStore(), replace(SLOW, edge_ms=2000.0)
    before = await look(server, [0, 10, 20, 30], MODEL, store)
    after = [i.trial[CANARY_POD] for e in await look(server, [40, 50], later, store) for i in e.intervals]
    assert before[-1].intervals and 2000.0 not in after[0].faster, "known from the next scrape on"
    assert after[1].timed - after[1].faster[2000.0] == 1 and edges_of(sli, [after[1]])[0] is not None


async def test_histograms_that_are_scraped_since_now_count_no_past() -> None:
    """Prometheus was told to scrape native histograms: what pods had counted until then is nobody's evidence."""
    server = SimulatedPrometheus()
    stable(server, 60)
    client, canary = Client(), server.pod(CANARY_POD)
    for k in range(1, 6):
        client.observe(*[4.0] * 50)
        client.scraped(canary, 10 * k - 1)
        if k < 3:
            del canary.natives[T0 + 10 * k - 1]
    found = await intervals(server, 60)
    assert [d.requests for d in found] == [50] * 5
    assert [d.timed for d in found] == [0, 0, 0, 50, 50]


async def test_pods_of_several_schemas_are_told_by_what_all_know() -> None:
    """Windows and budgets add the pods up, and over time: only at edges that counted all of it."""
    server = SimulatedPrometheus()
    clients = {name: Client(schema) for name, schema in (("aaaaa", 3), ("ccccc", 6))}
    pods = {name: server.pod(f"{STABLE}-7d9c5b8f6d-{name}") for name in clients}
    for k in range(-40, 13):
        for name, client in clients.items():
            client.observe(*[0.1] * 8, 0.29, 4.0)
            client.schema = {"aaaaa": 3 if k < 4 else 0, "ccccc": 6}[name]
            client.scraped(pods[name], 10 * k - 1)
    server.endpoints[0].gone = T0 + 60
    model = replace(MODEL, trial="", control="", windows=frozenset({30.0}), revisions=(STABLE,), pods={})
    store = EvidenceStore()
    found = await look(server, range(0, 130, 10), model, store)
    assert [bad(e.windows[30.0]) for e in found] == [
        *[(60, 6, 6)] * 4,
        *[(60, 6, 12)] * 2,
        *[(50, 5, 10), (40, 4, 8)],
        *[(30, 3, 3)] * 5,
    ]


async def test_the_past_is_read_alike() -> None:
    """Windows after a restart, what stable did before a trial, and the past of budgets come from range queries."""
    server = SimulatedPrometheus()
    client, endpoint = Client(), server.pod(STABLE_POD)
    for k in range(-8700, 4):
        client.times = []
        n = 9000 + k
        endpoint.scrapes.append((T0 + 10 * k - 1, counts(10 * n)))
        rows = [[0, "0.0625", "0.125", str(9 * n)], [0, "2", "4", str(n)]]
        endpoint.natives[T0 + 10 * k - 1] = {"count": str(10 * n), "sum": "1", "buckets": rows}
    Client(times=[0.1]).scraped(server.pod(CANARY_POD), 9)
    model = replace(MODEL, windows=frozenset({60.0, 3600.0}), wants_history=True)
    store = EvidenceStore()
    async with server.client() as prometheus:
        first = (await look_at(store, [model], at(10), prometheus))[model.key]
        await store.recall([model], at(10), prometheus)
        second = (await look_at(store, [model], at(20), prometheus))[model.key]
    assert bad(first.windows[60.0]) == (60, 6, 6)
    assert bad(first.windows[3600.0])[0] == pytest.approx(3600, abs=60)
    assert first.history is not None
    assert {bad(i.control[STABLE_POD]) for i in first.history.near} == {(10, 1, 1)}
    assert {bad(i.control[STABLE_POD]) for i in first.history.by_blocks} == {(300, 30, 30)}
    hour = second.tallies[SLOW][3600.0]
    assert hour.requests == pytest.approx(3600, abs=120) and hour.bad == pytest.approx(360, abs=12)
    assert second.tallies[SLOW][86_400.0].known > 80_000, "the budget knows its past"


async def test_without_the_series_a_person_is_told_what_to_set() -> None:
    """A Prometheus that is not told to scrape native histograms has none."""
    server = SimulatedPrometheus()
    stable(server, 30)
    server.endpoints[0].natives = {}
    (*_, last) = await look(server, [0, 10, 20], replace(MODEL, trial="", control="", revisions=(STABLE,)))
    assert "no series inference_seconds, so latency cannot be judged" in last.message
    assert "scrape_native_histograms" in last.message


STEP = st.tuples(times, st.sampled_from(["", "", "coarser", "finer", "restart", "miss"]))


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(STEP, min_size=12, max_size=12),
    custom=st.sampled_from([(), (), (0.1, 0.25, 0.5, 1.0)]),
    schema=st.integers(-1, 5),
)
async def test_the_truth_lies_between(
    steps: list[tuple[list[float], str]], custom: tuple[float, ...], schema: int
) -> None:
    """Whatever changes, n is the truth and slow requests lie between both edges, or nothing is said of them."""
    server = SimulatedPrometheus()
    stable(server, 150)
    client, canary = Client(schema, custom), server.pod(CANARY_POD)
    scraped = known = (0, 0)
    for k, (some, what) in enumerate(steps, start=1):
        if what == "restart":
            known, client = (known[0] + scraped[0], known[1] + scraped[1]), Client(schema, custom)
        else:  # a new process' first scrape shows that it is one
            client.observe(*some)
        client.schema += {"coarser": -1, "finer": client.schema < 5 or -client.schema}.get(what, 0)
        client.schema = max(-4, min(8, client.schema))
        if what == "miss":
            canary.scrapes.append((T0 + 10 * k - 1, None))
        else:
            client.scraped(canary, 10 * k - 1)
            scraped = (client.total, client.slow)
    deltas = await intervals(server, 150)
    total = sum(deltas, Delta())
    assert total.timed == known[0] + scraped[0], "each request is counted once"
    told = [counted for d in deltas if (counted := count(SLOW, d, edges_of(SLOW, [d])[0])) is not None]
    untold = total.timed - sum(c.n for c in told)
    assert sum(c.low for c in told) <= known[1] + scraped[1] <= sum(c.high for c in told) + untold
    if not custom and not any(what == "finer" for _, what in steps):
        assert not untold, "edges that stay were known before"
