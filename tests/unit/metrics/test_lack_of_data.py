"""What a lack of data is called, and whom a query without an answer hurts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modeldeployment.api.serving import Dialect, Metrics, MetricsSource
from modeldeployment.decision.evidence import DataState, Delta
from modeldeployment.metrics import EvidenceStore
from modeldeployment.metrics.model import ModelState
from modeldeployment.metrics.planning import Indicator
from unit.metrics.looking import (
    CANARY,
    CANARY_POD,
    KEY,
    MODEL,
    STABLE,
    STABLE_POD,
    T0,
    TRIAL,
    at,
    look,
    look_at,
    scraped,
)
from unit.metrics.simulated import Endpoint, SimulatedPrometheus, counts


async def test_a_sidecar_that_answers_is_no_data_of_the_model() -> None:
    """The canary's own target is down, the proxy's in its pod is not: stale, and never "had no request"."""
    server = SimulatedPrometheus()
    canary, proxy = server.pod(CANARY_POD), server.pod(CANARY_POD, instance=f"{CANARY_POD}:15020", job="mesh")
    scraped(canary, *((10 * k - 1, 10 * k, 0) for k in range(1, 6)))
    canary.scrapes += [(T0 + 10 * k - 1, None) for k in range(6, 20)]
    proxy.scrapes = [(T0 + 10 * k - 1, {}) for k in range(1, 20)]
    evidence = await look(server, range(0, 200, 10), replace(TRIAL, control=""))
    assert evidence[5].state is DataState.FLOWING
    assert {e.state for e in evidence[12:]} == {DataState.STALE}
    assert f"(up is 0 for {CANARY_POD})" in evidence[-1].message
    assert evidence[-1].data_age == 141.0


async def test_a_failing_query_hurts_only_who_needs_it() -> None:
    """A histogram that cannot be read is no error for a model without a latency bound, and loses nothing for others."""
    server = SimulatedPrometheus()
    for pod in (STABLE_POD, "other-a-7d9c5b8f6d-ccccc"):
        server.pod(pod).scrapes = [(T0 + 10 * (k - 9) - 1, counts(9 * k, 0, le_100=k, le_inf=9 * k)) for k in range(18)]
    fast = replace(MODEL, key=("ml", "other"), revisions=("other-a",), serving="other-a", needs_latency=True)
    fast = replace(fast, windows=frozenset({600.0}))
    store = EvidenceStore()
    async with server.client() as client:
        seen = []
        for t in range(0, 40, 10):
            server.refuses = {"latency": 400} if t in (10, 20) else {}
            seen.append(await look_at(store, [MODEL, fast], at(t), client))
    assert [s[KEY].state for s in seen] == [DataState.FLOWING] * 4
    assert [s["ml", "other"].state for s in seen] == [
        DataState.FLOWING,
        *[DataState.QUERY_ERROR] * 2,
        DataState.FLOWING,
    ]
    assert seen[1]["ml", "other"].message == "Prometheus refuses the query: refused: latency"
    assert seen[3]["ml", "other"].windows[600.0] == Delta(9 * 12, 0, {100.0: 12}, 9 * 12)


async def test_an_objective_that_cannot_be_asked_leaves_the_counters_alone() -> None:
    """A typo in PromQL, a string, a range vector: each is told beside the state, which the counters give alone."""
    server = SimulatedPrometheus(refuses={"nonsense": 422})
    scraped(server.pod(STABLE_POD), *((10 * k - 1, 100 * k, 20 * k) for k in range(-9, 2)))
    server.kinds = {'"up"': ("string", [0, "up"]), "up[5m]": ("matrix", [{"metric": {}, "values": [[0, "1"]]}])}
    queries = frozenset({"nonsense(", '"up"', "up[5m]"})
    other = replace(MODEL, key=("ml", "other"), revisions=("other-a",), serving="other-a")
    async with server.client() as client:
        found = await look_at(EvidenceStore(), [replace(MODEL, queries=queries), other], at(0), client)
    assert found[KEY].state is DataState.FLOWING
    assert found[KEY].query_errors == {
        "nonsense(": "Prometheus refuses the query: refused: nonsense",
        '"up"': "the query must give an instant vector or a scalar, and gives a string",
        "up[5m]": "the query must give an instant vector or a scalar, and gives a range vector",
    }
    assert not found[KEY].values
    assert not found["ml", "other"].query_errors


async def test_an_answer_in_part_is_no_answer() -> None:
    """Half a store's series would look like endpoints that stopped counting."""
    server = SimulatedPrometheus(warnings=["store 10.0.0.7 did not answer"])
    scraped(server.pod(STABLE_POD), (-1, 1, 0))
    (evidence,) = await look(server, [0], MODEL)
    assert evidence.state is DataState.QUERY_ERROR
    assert evidence.message == "Prometheus answered in part only: store 10.0.0.7 did not answer"


async def test_a_dialect_that_cannot_tell_says_so() -> None:
    """Errors of a KServe server: not zero, but unknown."""
    server = SimulatedPrometheus()
    server.pod(STABLE_POD).scrapes = [(T0 + 10 * k, {"request_predict_seconds_count": 5.0 * k}) for k in range(-9, 2)]
    model = replace(MODEL, metrics=Metrics(dialect=Dialect.KSERVE), windows=frozenset({60.0}))
    (evidence,) = await look(server, [0], model)
    assert evidence.state is DataState.UNSUPPORTED
    assert "has no counter of errors" in evidence.message
    assert evidence.windows[60.0].errors is None
    (evidence,) = await look(server, [0], replace(model, needs_latency=True))
    assert evidence.state is DataState.FLOWING, "latency can be judged"
    assert "; dialect KServe has no counter of errors, so error rates cannot be told" in evidence.message


async def test_nan_is_absent_and_said() -> None:
    """A NaN is no count; the next number goes on from the one before."""
    server = SimulatedPrometheus()
    errors = {0: float("nan"), 1: 7.0}
    server.pod(STABLE_POD).scrapes = [(T0 + 10 * k - 1, counts(50 + k, errors.get(k, 4.0))) for k in range(-9, 2)]
    evidence = await look(server, [0, 10], replace(MODEL, windows=frozenset({30.0})))
    assert evidence[0].message.endswith("; samples that were no number (NaN) are left out: 1")
    assert [e.windows[30.0].errors for e in evidence] == [0, 3]


async def test_values_belong_to_the_revision_of_their_pods() -> None:
    """PromQL: an average over a revision's pods; one series without labels speaks for all; NaN is no value."""
    server = SimulatedPrometheus()
    scraped(server.pod(STABLE_POD), (-1, 1, 0))
    pods = [STABLE_POD, f"{STABLE}-7d9c5b8f6d-zzzzz", CANARY_POD, "else-7d9c5b8f6d-aaaaa"]
    values = zip(pods, (0.2, 0.4, float("nan"), 9.0), strict=True)
    server.series = {
        "by_pod": [({"namespace": "ml", "pod": pod}, value) for pod, value in values],
        "whole": [({}, 7.0)],
        "two": [({"a": "1"}, 7.0), ({"a": "2"}, 7.0)],
    }
    (evidence,) = await look(server, [0], replace(MODEL, queries=frozenset(server.series)))
    assert evidence.values == {("by_pod", STABLE): pytest.approx(0.3), ("whole", ""): 7.0}


async def test_a_canary_that_refuses_connections_has_traffic_and_errors() -> None:
    """What Envoy counts of a cluster nobody answers in (as 1.40 does it): all requests completed, all with 503."""
    server = SimulatedPrometheus()
    name = {"instance": "10.0.0.9:19000", "job": "envoy", "envoy_cluster_name": f"ml/{CANARY}"}
    server.endpoints.append(Endpoint(name))
    five = {"envoy_cluster_upstream_rq_completed": 5.0, "envoy_cluster_upstream_rq_xx": 5.0}
    server.endpoints[0].scrapes = [
        (T0 + 10 * k - 1, {"envoy_cluster_upstream_rq_total": 0.0, **{n: v * k for n, v in five.items()}})
        for k in range(5)
    ]
    envoy = replace(MODEL, metrics=Metrics(dialect=Dialect.ENVOY), trial=CANARY, trial_start=at(0))
    evidence = await look(server, range(0, 50, 10), envoy)
    assert evidence[-1].state is DataState.FLOWING
    assert [i.trial for e in evidence for i in e.intervals][1:] == [{"10.0.0.9:19000": Delta(5, 5)}] * 3


def test_errors_alone_are_traffic() -> None:
    """A source whose requests leave failed ones out: they were requests all the same."""
    state = ModelState(0.0)
    state.count(MODEL, STABLE, 10.0, {Indicator.ERRORS: 1})
    assert state.last_traffic == {STABLE: 10.0}


async def test_a_past_that_cannot_be_read_is_given_up() -> None:
    """Range queries that always fail do not keep a model without evidence for ever."""
    server = SimulatedPrometheus()
    scraped(server.pod(STABLE_POD), *((10 * k - 1, 100 * k, 0) for k in range(30)))
    store = EvidenceStore()
    async with server.client() as client:
        answer = client.range

        async def refuse(*_: object, **__: object) -> object:
            server.refuses = {"inference": 422}
            try:
                return await answer("inference", at(0), at(1), 1)
            finally:
                server.refuses = {}

        client.range = refuse  # type: ignore[method-assign, assignment]
        seen = [(await look_at(store, [MODEL], at(t), client))[KEY].state for t in range(0, 50, 10)]
    assert seen == [DataState.QUERY_ERROR] * 2 + [DataState.NO_TRAFFIC] + [DataState.FLOWING] * 2


async def test_what_lacks_is_said_with_its_cure() -> None:
    """No target, a target that is down, a metric of another name: three sentences."""
    server = SimulatedPrometheus()
    (absent,) = await look(server, [0], MODEL)
    server.pod(STABLE_POD).scrapes = [(T0 + 10 * k - 1, None) for k in range(-9, 1)]
    (down,) = await look(server, [0], MODEL)
    server.endpoints[0].scrapes = [(T0 + 10 * k - 1, counts(9, 0)) for k in range(-9, 1)]
    typo = Metrics(dialect=Dialect.CUSTOM, custom=MetricsSource(requests="typo_total", errors="typo_errors_total"))
    (wrong,) = await look(server, [0], replace(MODEL, metrics=typo))
    (nothing,) = await look(server, [0], replace(MODEL, serving="", revisions=()))
    (no_pods,) = await look(SimulatedPrometheus(), [0], replace(MODEL, pods={}))
    assert {e.state for e in (absent, down, wrong, nothing, no_pods)} == {DataState.NO_DATA}
    assert absent.message == (
        "Prometheus does not scrape the pods of fraud-a (no series inference_requests_total with namespace=ml, "
        "pod=~fraud-a-.*): check that it discovers pods by prometheus.io annotations or a PodMonitor"
    )
    assert "cannot scrape them (up is 0 for fraud-a-7d9c5b8f6d-aaaaa)" in down.message
    assert "no series typo_total" in wrong.message
    assert "no revision serves yet" in nothing.message
    assert "has no pods yet" in no_pods.message
