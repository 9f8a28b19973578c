"""The store: which intervals close and when, and a restart that changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeldeployment.api.serving import Dialect, Metrics, MetricsSource
from modeldeployment.decision.evidence import DataState, Delta
from modeldeployment.metrics import EvidenceStore, evaluation_instant
from unit.metrics.looking import (
    CANARY,
    CANARY_POD,
    MODEL,
    STABLE,
    STABLE_POD,
    T0,
    TRIAL,
    at,
    look,
    scraped,
    summary,
)
from unit.metrics.simulated import Endpoint, Name, SimulatedPrometheus, counts


async def test_an_interval_closes_when_both_arms_were_scraped() -> None:
    """Scrapes every 15 s at other phases, looks every 10 s: an interval lasts until both arms are new."""
    server = SimulatedPrometheus()
    scraped(server.pod(STABLE_POD), *((-3 + 15 * k, 1000 + 30 * k, 0) for k in range(6)))
    scraped(server.pod(CANARY_POD), *((4 + 15 * k, 5 * k + 2, 1) for k in range(5)))
    closed = [summary(i) for e in await look(server, range(0, 70, 10)) for i in e.intervals]
    assert closed == [
        (0.0, 20.0, -3.0, {CANARY_POD: 7}, {STABLE_POD: 30}),
        (20.0, 40.0, 12.0, {CANARY_POD: 5}, {STABLE_POD: 30}),
        (40.0, 50.0, 27.0, {CANARY_POD: 5}, {STABLE_POD: 30}),
    ]


async def test_without_a_control_the_trial_is_enough() -> None:
    """The watch after promotion has one arm."""
    server = SimulatedPrometheus()
    scraped(server.pod(CANARY_POD), *((10 * k - 1, 5 * k, 0) for k in range(5)))
    watch = replace(TRIAL, control="", revisions=(CANARY,), pods={CANARY_POD: at(-99)})
    closed = [summary(i) for e in await look(server, range(0, 50, 10), watch) for i in e.intervals]
    assert [c[3:] for c in closed] == [({CANARY_POD: 5}, {})] * 4


@pytest.mark.parametrize("once", [True, False])
async def test_a_control_that_is_not_scraped_holds_nothing_up(once: bool) -> None:
    """Stable is down for good, or always was: after STUCK_AFTER the canary's intervals close without a control."""
    server = SimulatedPrometheus()
    if once:
        scraped(server.pod(STABLE_POD), *((10 * k - 1, 100 * k, 0) for k in range(-9, 3)))
        server.endpoints[0].scrapes += [(T0 + 10 * k - 1, None) for k in range(3, 40)]
    scraped(server.pod(CANARY_POD), *((10 * k - 1, 10 * k, 10 * k) for k in range(1, 40)))
    closed = [summary(i) for e in await look(server, range(0, 200, 10)) for i in e.intervals]
    waited = 100.0 if once else 80.0  # nobody was seen since 19, or since the trial began
    with_control = [c for c in closed if c[4]]
    assert [c[1] for c in with_control] == ([10.0, 20.0] if once else [])
    alone = [c for c in closed if not c[4]]
    assert [c[1] for c in alone] == [waited + 10 * k for k in range(len(alone))]
    assert alone[-1][1] == 190.0
    assert sum(c[3][CANARY_POD] for c in closed) == 190


async def test_a_control_that_is_back_is_compared_from_then_on() -> None:
    """What it did while it was not scraped is not held against what the canary did in the last interval."""
    server = SimulatedPrometheus()
    stable = server.pod(STABLE_POD)
    scraped(stable, *((10 * k - 1, 100 * k, 0) for k in range(3)))
    stable.scrapes += [(T0 + 10 * k - 1, None) for k in range(3, 20)]
    scraped(stable, *((10 * k - 1, 100 * k, 0) for k in range(20, 25)))
    scraped(server.pod(CANARY_POD), *((10 * k - 1, 10 * k, 0) for k in range(1, 25)))
    evidence = await look(server, range(0, 240, 10))
    after = [summary(i) for e in evidence for i in e.intervals if i.end >= at(190)]
    assert [(c[1], c[4]) for c in after] == [
        (190.0, {}),
        (210.0, {}),
        *((t, {STABLE_POD: 100}) for t in (220.0, 230.0)),
    ]
    for handover, done in ((10, 20), (12, 110), (19, 180), (20, 190), (21, 190), (22, 210)):
        heir = await look(server, [10.0 * k for k in range(handover, 24)], replace(TRIAL, evidence_time=at(done)))
        intervals = [i for e in evidence for i in e.intervals if i.end > at(done)]
        assert [i for e in heir for i in e.intervals] == intervals


async def test_a_controls_pods_come_back_one_by_one() -> None:
    """What each did until it was read again is in no interval, even if others of its revision were back before."""
    server = SimulatedPrometheus()
    other = f"{STABLE}-7d9c5b8f6d-zzzzz"
    for pod, back in ((STABLE_POD, 20), (other, 23)):
        endpoint = server.pod(pod)
        scraped(endpoint, *((10 * k - 1, 100 * k, 0) for k in range(3)))
        endpoint.scrapes += [(T0 + 10 * k - 1, None) for k in range(3, back)]
        scraped(endpoint, *((10 * k - 1, 100 * k, 0) for k in range(back, 30)))
    scraped(server.pod(CANARY_POD), *((10 * k - 1, 10 * k, 0) for k in range(1, 30)))
    model = replace(TRIAL, pods={**TRIAL.pods, other: at(-9999)})
    evidence = await look(server, range(0, 260, 10), model)
    after = [summary(i) for e in evidence for i in e.intervals if i.end > at(210)]
    assert [(c[1], c[4]) for c in after] == [
        (220.0, {STABLE_POD: 100}),
        (240.0, {STABLE_POD: 200, other: 100}),
        (250.0, {STABLE_POD: 100, other: 100}),
    ]


async def test_after_a_gap_comes_one_longer_interval() -> None:
    """Nothing closes while the canary is not scraped; what was counted meanwhile comes at once, and the state tells."""
    server = SimulatedPrometheus()
    scraped(server.pod(STABLE_POD), *((10 * k - 1, 100 * k, 0) for k in range(25)))
    canary = server.pod(CANARY_POD)
    scraped(canary, *((10 * k - 1, 10 * k, 0) for k in range(3)))
    canary.scrapes += [(T0 + 10 * k - 1, None) for k in range(3, 20)]
    scraped(canary, *((10 * k - 1, 10 * k, 0) for k in range(20, 25)))
    evidence = await look(server, range(0, 250, 10))
    assert [e.state for e in evidence].count(DataState.STALE) == 12
    assert "newest sample of fraud-b is" in evidence[15].message
    closed = [summary(i) for e in evidence for i in e.intervals]
    assert (20.0, 200.0, 19.0, {CANARY_POD: 180}, {STABLE_POD: 1800}) in closed
    assert sum(c[3][CANARY_POD] for c in closed) == 240


async def test_a_scraped_arm_without_requests_is_information() -> None:
    """No request is a Delta of zero; an arm that was never scraped closes nothing."""
    server = SimulatedPrometheus()
    scraped(server.pod(STABLE_POD), *((10 * k - 1, 100 * k, 0) for k in range(4)))
    canary = server.pod(CANARY_POD)
    assert not [i for e in await look(server, range(0, 40, 10)) for i in e.intervals]
    canary.scrapes = [(T0 + 10 * k - 1, {}) for k in range(1, 4)]
    evidence = await look(server, range(0, 40, 10))
    closed = [i for e in evidence for i in e.intervals]
    assert [dict(i.trial) for i in closed] == [{CANARY_POD: Delta(0, 0)}] * 3
    assert evidence[-1].state is DataState.NO_TRAFFIC


async def test_a_new_trial_starts_anew() -> None:
    """Differences of before a trial are not its evidence."""
    server = SimulatedPrometheus()
    scraped(server.pod(STABLE_POD), *((10 * k - 1, 100 * k, 0) for k in range(8)))
    scraped(server.pod(CANARY_POD), *((10 * k - 1, 7 * k, 0) for k in range(4, 8)))
    store = EvidenceStore()
    assert not [i for e in await look(server, range(0, 40, 10), MODEL, store) for i in e.intervals]
    trial = replace(TRIAL, trial_start=at(32), pods={STABLE_POD: at(-9999), CANARY_POD: at(33)})
    closed = [summary(i) for e in await look(server, range(40, 80, 10), trial, store) for i in e.intervals]
    assert closed[0] == (30.0, 40.0, 29.0, {CANARY_POD: 28}, {STABLE_POD: 100})


async def test_windows_and_traffic_are_known_at_the_first_look() -> None:
    """After a restart the past is read by a range query: windows are full, and draining revisions have their times."""
    server = SimulatedPrometheus()
    scraped(server.pod(STABLE_POD), *((10 * k - 1, 1000 + 10 * k, 0.0) for k in range(-400, 1)))
    scraped(server.pod(CANARY_POD), *((10 * k - 1, min(100, 300 + 10 * k), 0) for k in range(-40, 1)))
    model = replace(MODEL, windows=frozenset({60.0, 3600.0}), pods={})
    store = EvidenceStore(stale_after=300)
    (evidence,) = await look(server, [0], model, store)
    assert evidence.windows[60.0] == Delta(60, 0)
    assert abs(evidence.windows[3600.0].requests - 3600) <= 60
    assert evidence.last_traffic == {STABLE: at(0), CANARY: at(-200)}
    assert evidence.data_age == 1.0
    assert len([q for q in server.asked if "errors" in q]) == 3


async def test_history_is_given_once() -> None:
    """A trial gets its control's past, and not again: three hours interval by interval, a day in blocks of minutes."""
    server = SimulatedPrometheus()
    scraped(server.pod(STABLE_POD), *((10 * k - 1, 5 * (9000 + k), 9000 + k) for k in range(-8700, 4)))
    scraped(server.pod(CANARY_POD), (9, 1, 0), (19, 2, 0))
    first, second = await look(server, [0, 10], replace(TRIAL, wants_history=True))
    assert first.history is not None and second.history is None
    near, blocks = first.history.near, first.history.by_blocks
    assert (len(near), len(blocks)) == (1080, 288)
    assert all(i.control == {STABLE_POD: Delta(5, 1)} and not i.trial for i in near)
    assert all(i.control == {STABLE_POD: Delta(150, 30)} and not i.trial for i in blocks)
    assert near[-1].end == blocks[-1].end == at(0)


@pytest.mark.parametrize("order", [("800", "800.0"), ("800.0", "800")])
async def test_two_spellings_of_an_edge_are_one(order: tuple[str, str]) -> None:
    """After an upgrade of Prometheus the old spelling stands still for minutes: the new one goes on from it."""
    server = SimulatedPrometheus()
    pod, metric = server.pod(STABLE_POD), "inference_latency_ms_bucket"
    for k in range(-9, 3):
        new = {name: 1000.0 + (10 * k if name == "800.0" else 0) for name in order}
        buckets: dict[Name, float] = {(metric, name): value for name, value in new.items()}
        pod.scrapes.append((T0 + 10 * k - 1, {**counts(2000 + 10 * k), **buckets, (metric, "+Inf"): 2000.0 + 10 * k}))
    model = replace(MODEL, needs_latency=True, windows=frozenset({30.0}))
    *_, last = await look(server, [0, 10, 20], model)
    assert last.windows[30.0].faster == {800.0: 20}
    assert last.windows[30.0].timed == 30


async def test_envoy_clusters_are_told_by_their_service() -> None:
    """A gateway that knew the stable cluster before shows all that the canary's got; a restart of it is a reset."""
    server = SimulatedPrometheus()

    def gateway(cluster: str, *points: tuple[float, float]) -> None:
        name = {"instance": "10.0.0.9:19000", "job": "envoy", "envoy_cluster_name": cluster}
        server.endpoints.append(Endpoint(name))
        server.endpoints[-1].scrapes = [
            (T0 + t, {"envoy_cluster_upstream_rq_completed": n} if n >= 0 else {}) for t, n in points
        ]

    gateway(f"ml/{STABLE}", *((10 * k - 1, 1000 + 10 * k) for k in range(-9, 3)), (29, 4), (39, 14))
    gateway(f"ml/{CANARY}/8080", *((10 * k - 1, -1) for k in range(-9, 2)), (19, 3), (29, 2), (39, 5))
    model = replace(TRIAL, metrics=Metrics(dialect=Dialect.ENVOY), needs_errors=False)
    closed = [summary(i) for e in await look(server, range(0, 50, 10), model) for i in e.intervals]
    proxy = "10.0.0.9:19000"
    assert [(c[3][proxy], c[4][proxy]) for c in closed] == [(3, 20), (2, 4), (3, 10)]


async def test_other_counters_begin_anew() -> None:
    """Another dialect (Auto chose, the policy was edited): totals of its counters are not taken for new requests."""
    server = SimulatedPrometheus()
    for pod, faster in ((STABLE_POD, 10), (CANARY_POD, 1)):
        server.pod(pod).scrapes = [
            (T0 + 10 * k - 1, {**counts(faster * k, 0), "other_total": 5000.0 + 7 * faster * k}) for k in range(60)
        ]
    store, other = EvidenceStore(), MetricsSource(requests="other_total", errors="other_errors_total")
    changed = replace(TRIAL, metrics=Metrics(dialect="acme", custom=other))
    before = [summary(i) for e in await look(server, [400, 410, 420], TRIAL, store) for i in e.intervals]
    after = [
        summary(i)
        for t in (430, 440, 450)
        for e in await look(server, [t], replace(changed, evidence_time=at(t - 10)), store)
        for i in e.intervals
    ]
    assert [i[:2] for i in (before[-1], *after)] == [(410, 420), (420, 430), (430, 440), (440, 450)]
    assert [i[4][STABLE_POD] for i in after] == [70, 70, 70], "and not 5000 more"


async def test_a_store_that_lost_the_lead_catches_up() -> None:
    """When the status is ahead of what was seen here, another leader went on: the store starts from the status."""
    server = SimulatedPrometheus()
    scraped(server.pod(STABLE_POD), *((10 * k - 1, 100 * k, 0) for k in range(30)))
    scraped(server.pod(CANARY_POD), *((10 * k - 1, 10 * k, 0) for k in range(30)))
    store = EvidenceStore()
    await look(server, [0, 10, 20], TRIAL, store)
    (late,) = await look(server, [200], replace(TRIAL, evidence_time=at(150)), store)
    assert [summary(i)[:2] for i in late.intervals] == [(150 + 10.0 * k, 160 + 10.0 * k) for k in range(5)]


def test_instants_are_multiples_of_the_interval() -> None:
    """Every leader asks at the same instants, old enough that scrapes are stored."""
    assert evaluation_instant(at(30.5), 10, settle=1) == at(20)
    assert evaluation_instant(at(31), 10, settle=1) == at(30)
    assert evaluation_instant(at(0.6), 0.5, settle=0) == at(0.5)


STEP = st.tuples(st.integers(0, 30), st.integers(0, 5), st.sampled_from(["ok", "ok", "ok", "miss", "restart"]))


@settings(max_examples=60)
@given(
    stable=st.lists(STEP, min_size=30, max_size=30),
    canary=st.lists(STEP, min_size=26, max_size=26),
    scrape=st.sampled_from([4.0, 7.0, 10.0, 15.0]),
    handover=st.integers(3, 18),
    down=st.tuples(st.integers(0, 10), st.integers(0, 25)),
)
async def test_a_restart_changes_no_interval(
    stable: list[tuple[int, int, str]],
    canary: list[tuple[int, int, str]],
    scrape: float,
    handover: int,
    down: tuple[int, int],
) -> None:
    """Whatever was missed or restarted, or long down: an heir closes the same intervals as who saw it all."""
    server = SimulatedPrometheus()
    for pod, steps, first in ((STABLE_POD, stable, -40.0), (CANARY_POD, canary, 3.0)):
        endpoint, n, x = server.pod(pod), 0, 0
        for k, (requests, errors, what) in enumerate(steps):
            if what == "restart":
                n = x = 0
            n, x = n + requests, x + min(errors, requests)
            missed = what == "miss" or (pod == STABLE_POD and down[0] <= k < sum(down))
            endpoint.scrapes.append((T0 + first + scrape * k, None if missed else counts(n, x)))
    instants = [10.0 * k for k in range(20)]
    whole = await look(server, instants)
    done = next((i.end for e in reversed(whole[:handover]) for i in e.intervals), None)
    intervals = [i for e in whole for i in e.intervals]
    heir = await look(server, instants[handover:], replace(TRIAL, evidence_time=done))
    assert [i for e in heir for i in e.intervals] == [i for i in intervals if done is None or i.end > done]
