"""Differences of counters: exact through restarts, births and missed scrapes; never a guess."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeldeployment.metrics.counters import OTHER_JOB_AFTER, Counters
from modeldeployment.metrics.identity import Endpoint
from modeldeployment.metrics.planning import Indicator
from modeldeployment.metrics.restarts import Starts
from modeldeployment.metrics.snapshot import Slot, Snapshot

REV = "fraud-1a2b"
POD = f"{REV}-7d9c5b8f6d-aaaaa"
OTHER = f"{REV}-7d9c5b8f6d-bbbbb"
ALL = frozenset(Indicator)
REQUESTS, ERRORS = Indicator.REQUESTS, Indicator.ERRORS


def endpoint(pod: str = POD, job: str = "pods") -> Endpoint:
    """One scraped address."""
    return (pod, f"{pod}:8080", job)


def snapshot(
    at: float, readings: dict[Endpoint, dict[Slot, float]], *, down: tuple[Endpoint, ...] = (), lag: float = 1.0
) -> Snapshot:
    """Endpoints of one revision that were scraped `lag` seconds before an instant."""
    scrapes = dict.fromkeys(readings, at - lag) | dict.fromkeys(down, 0.0)
    return Snapshot(at, ALL, scrapes, {(REV, e): dict(reading) for e, reading in readings.items()})


def test_an_old_pod_starts_from_its_first_reading() -> None:
    """What it counted before it was first seen is nobody's evidence."""
    counters = Counters(100.0)
    assert counters.observe(snapshot(100, {endpoint(): {REQUESTS: 900.0}}), {POD: 5.0}) == {}
    assert counters.observe(snapshot(110, {endpoint(): {REQUESTS: 950.0}}), {POD: 5.0}) == {REV: {REQUESTS: 50}}


@pytest.mark.parametrize(("born", "counted"), [(101.0, 9), (99.2, 9), (98.0, 0)])
def test_a_young_pod_counts_from_zero(born: float, counted: int) -> None:
    """A pod created after the first snapshot (or in the same second) has counted nothing before it."""
    counters = Counters(100.0)
    counters.observe(snapshot(100, {}))
    gained = counters.observe(snapshot(110, {endpoint(): {REQUESTS: 9.0}}), {POD: born})
    assert gained == ({REV: {REQUESTS: counted}} if counted else {})


def test_a_counter_born_late_counts_from_zero() -> None:
    """The first error of a pod that was scraped before without any is an error, not a starting point."""
    counters = Counters(100.0)
    counters.observe(snapshot(100, {endpoint(): {REQUESTS: 900.0}}), {POD: 5.0})
    gained = counters.observe(snapshot(110, {endpoint(): {REQUESTS: 901.0, ERRORS: 3.0}}), {POD: 5.0})
    assert gained == {REV: {REQUESTS: 1, ERRORS: 3}}


def test_a_counter_nobody_asked_for_starts_from_its_first_reading() -> None:
    """Errors that are asked for from now on were there all the time."""
    counters = Counters(100.0)
    first = Snapshot(100, frozenset({REQUESTS}), {endpoint(): 99.0}, {(REV, endpoint()): {REQUESTS: 900.0}})
    counters.observe(first, {POD: 5.0})
    assert counters.observe(snapshot(110, {endpoint(): {REQUESTS: 900.0, ERRORS: 70.0}}), {POD: 5.0}) == {}
    assert counters.observe(snapshot(120, {endpoint(): {REQUESTS: 900.0, ERRORS: 71.0}}), {POD: 5.0}) == {
        REV: {ERRORS: 1}
    }


def test_a_fall_is_a_restart() -> None:
    """After a reset the counter's whole value is new."""
    counters = Counters(100.0)
    counters.observe(snapshot(100, {endpoint(): {REQUESTS: 900.0, 100.0: 5.0, math.inf: 6.0}}), {POD: 5.0})
    gained = counters.observe(snapshot(110, {endpoint(): {REQUESTS: 7.0, 100.0: 5.0, math.inf: 5.0}}))
    assert gained == {REV: {REQUESTS: 7, 100.0: 5, math.inf: 5}}


def test_a_missed_scrape_loses_nothing() -> None:
    """An endpoint that vanishes keeps what it had, and goes on from there."""
    counters = Counters(100.0)
    counters.observe(snapshot(100, {endpoint(): {REQUESTS: 900.0}}), {POD: 5.0})
    assert counters.observe(snapshot(110, {}, down=(endpoint(),)), {POD: 5.0}) == {}
    assert counters.observe(snapshot(120, {endpoint(): {REQUESTS: 960.0}}), {POD: 5.0}) == {REV: {REQUESTS: 60}}


def test_a_pod_that_is_gone_keeps_what_it_counted() -> None:
    """Its differences are handed out once, even after it vanished; nothing is taken back."""
    counters = Counters(100.0)
    counters.observe(snapshot(100, {endpoint(): {REQUESTS: 1.0}}), {POD: 5.0})
    counters.observe(snapshot(110, {endpoint(): {REQUESTS: 4.0}}), {POD: 5.0})
    counters.observe(snapshot(120, {endpoint(OTHER): {}}), {OTHER: 111.0})
    assert counters.take(REV).pods == {POD: {REQUESTS: 3}, OTHER: {}}
    assert counters.take(REV).pods == {}


def test_a_proxy_of_unknown_age_starts_from_its_first_reading() -> None:
    """An old Envoy that is scraped since now must not bring its whole past; a new cluster in a known one is all new."""
    old, new = ("gateway-a", "a:19000", "envoy"), ("gateway-b", "b:19000", "envoy")
    counters = Counters(100.0)
    counters.observe(Snapshot(100, ALL, {old: 99.0}, {("stable", old): {REQUESTS: 5000.0}}))
    readings: dict[tuple[str, Endpoint], dict[Slot, float]] = {
        ("stable", old): {REQUESTS: 5001.0},
        ("canary", old): {REQUESTS: 4.0},
        ("canary", new): {REQUESTS: 700.0},
    }
    assert counters.observe(Snapshot(110, ALL, {old: 109.0, new: 108.0}, readings)) == {
        "stable": {REQUESTS: 1},
        "canary": {REQUESTS: 4},
    }


def test_two_jobs_that_scrape_one_address_count_once() -> None:
    """A pod found by its annotations and by a PodMonitor is no two pods; when one job is gone the other goes on."""
    counters = Counters(100.0)
    a, b = endpoint(job="annotations"), endpoint(job="podmonitor")
    counters.observe(snapshot(100, {b: {REQUESTS: 10.0}, a: {REQUESTS: 10.0}}), {POD: 5.0})
    assert counters.observe(snapshot(110, {b: {REQUESTS: 15.0}, a: {REQUESTS: 15.0}})) == {REV: {REQUESTS: 5}}
    later = 110 + OTHER_JOB_AFTER + 5
    assert counters.observe(snapshot(later, {b: {REQUESTS: 40.0}})) == {}
    both: dict[Endpoint, dict[Slot, float]] = {b: {REQUESTS: 42.0}, a: {REQUESTS: 42.0}}
    assert counters.observe(snapshot(later + 10, both)) == {REV: {REQUESTS: 2}}
    assert counters.take(REV).pods == {POD: {REQUESTS: 7}}


def test_an_address_belongs_to_the_job_that_counts() -> None:
    """A prober's job without the model's counters, first by name and in time, hides nothing of the pods' own job."""
    counters = Counters(100.0)
    probe, pods = endpoint(job="blackbox"), endpoint(job="pods")
    gained = []
    for at, n in ((110.0, None), (120.0, 3.0), (130.0, 9.0)):
        readings: dict[Endpoint, dict[Slot, float]] = {probe: {}, pods: {REQUESTS: n} if n else {}}
        gained.append(counters.observe(snapshot(at, readings), {POD: 101.0}))
    assert gained == [{}, {REV: {REQUESTS: 3}}, {REV: {REQUESTS: 6}}]
    assert counters.fresh(REV)


def test_an_owner_that_counts_no_more_yields() -> None:
    """A job whose counters went away (another path since) gives the address to one that has some, without its past."""
    counters = Counters(100.0)
    old, new = endpoint(job="a"), endpoint(job="b")
    counters.observe(snapshot(110, {old: {REQUESTS: 5.0}, new: {}}), {POD: 101.0})
    gone = snapshot(120, {old: {}, new: {REQUESTS: 700.0}})
    assert counters.observe(gone, {POD: 101.0}) == {}
    later = snapshot(130, {old: {}, new: {REQUESTS: 700.0}})
    assert counters.observe(later, {POD: 101.0}) == {}
    assert counters.observe(snapshot(140, {old: {}, new: {REQUESTS: 704.0}}), {POD: 101.0}) == {REV: {REQUESTS: 4}}


def test_an_endpoint_without_counters_holds_nothing_up() -> None:
    """An exporter in the pod that is scraped once a minute by a job of its own: intervals close with the model's."""
    counters = Counters(0.0)
    model, exporter = (POD, "10.0.0.1:8080", "pods"), (POD, "10.0.0.1:9400", "gpu")
    fresh, oldest = [], []
    for at in (60.0, 70.0, 80.0, 90.0):
        scrapes = {model: at - 1, exporter: 55.0 if at < 90 else 85.0}
        counters.observe(Snapshot(at, ALL, scrapes, {(REV, model): {REQUESTS: at}, (REV, exporter): {}}), {POD: 1.0})
        fresh.append(counters.fresh(REV))
        oldest.append(counters.take(REV).oldest)
    assert fresh == [True] * 4
    assert oldest[1:] == [59.0, 69.0, 79.0]


def test_a_sidecar_that_answers_does_not_hide_a_model_that_does_not() -> None:
    """How old the data are is told by endpoints that count, or by the job that does in other pods."""
    counters = Counters(0.0)
    sidecar: Endpoint = (POD, f"{POD}:15020", "mesh")
    counters.observe(snapshot(10, {endpoint(): {REQUESTS: 5.0}, sidecar: {}}), {POD: 1.0})
    counters.observe(snapshot(100, {sidecar: {}}, down=(endpoint(),)), {POD: 1.0})
    assert counters.newest(REV) == 9.0
    mesh_alone: Endpoint = (OTHER, f"{OTHER}:15020", "mesh")
    counters.observe(snapshot(110, {mesh_alone: {}}, down=(endpoint(OTHER),)), {OTHER: 105.0})
    assert counters.newest(REV) == 9.0
    counters.observe(snapshot(120, {endpoint(OTHER): {}}), {OTHER: 105.0})
    assert counters.newest(REV) == 119.0, "scraped, and nothing to count yet"


def test_a_job_for_each_revision_hides_nobody() -> None:
    """ServiceMonitors call a job after the Service: a canary without requests is scraped, whatever stable's job is."""
    counters = Counters(0.0)
    stable: Endpoint = ("fraud-9-7d9c5b8f6d-aaaaa", "10.0.0.1:8080", "fraud-9")
    canary = endpoint(job=REV)
    readings: dict[tuple[str, Endpoint], dict[Slot, float]] = {("fraud-9", stable): {REQUESTS: 5.0}, (REV, canary): {}}
    counters.observe(Snapshot(10.0, ALL, {stable: 9.0, canary: 9.0}, readings), {POD: 1.0})
    assert counters.newest(REV) == 9.0
    assert counters.fresh(REV)


def test_a_pod_of_unknown_age_starts_from_its_first_reading() -> None:
    """One that is gone from the API server, and was found after others: what it shows may be years old."""
    counters = Counters(100.0)
    counters.observe(snapshot(100, {endpoint(): {REQUESTS: 1000.0}}), {POD: 5.0})
    both: dict[Endpoint, dict[Slot, float]] = {endpoint(): {REQUESTS: 1000.0}, endpoint(OTHER): {REQUESTS: 500_000.0}}
    assert counters.observe(snapshot(110, both), {POD: 5.0}) == {}
    both[endpoint(OTHER)] = {REQUESTS: 500_002.0, ERRORS: 1.0}
    assert counters.observe(snapshot(120, both), {POD: 5.0}) == {REV: {REQUESTS: 2, ERRORS: 1}}


def test_a_pod_without_up_is_scraped_when_it_is_read() -> None:
    """Counters that were pushed have no `up`: each reading counts as fresh."""
    counters = Counters(100.0)
    for at in (100.0, 110.0):
        counters.observe(Snapshot(at, ALL, {}, {(REV, endpoint()): {REQUESTS: at}}), {POD: 5.0})
    assert counters.newest(REV) == 110.0
    assert counters.fresh(REV)


def test_differences_start_from_the_oldest_scrape() -> None:
    """`oldest` is the scrape (or the birth) since which requests can be in the differences."""
    counters = Counters(100.0)
    counters.observe(snapshot(100, {endpoint(): {REQUESTS: 1.0}}, lag=4), {POD: 5.0})
    counters.take(REV)
    counters.observe(snapshot(110, {endpoint(): {REQUESTS: 2.0}}, lag=4), {POD: 5.0})
    assert counters.take(REV).oldest == 96.0
    readings: dict[Endpoint, dict[Slot, float]] = {endpoint(): {REQUESTS: 3.0}, endpoint(OTHER): {REQUESTS: 8.0}}
    counters.observe(snapshot(120, readings, lag=4), {POD: 5.0, OTHER: 103.0})
    assert counters.take(REV).oldest == 103.0


@dataclass
class Server:
    """A model server that knows the truth: requests, errors and slow ones, in one process after another."""

    created: float
    counts: dict[Slot, float] = field(default_factory=dict)
    life: dict[Slot, float] = field(default_factory=dict)
    truth: dict[Slot, float] = field(default_factory=dict)
    started: float = 0.0

    def serve(self, requests: int, errors: int) -> None:
        """Counters appear when there is something to count."""
        more: dict[Slot, float] = {REQUESTS: requests, ERRORS: errors, 100.0: requests - errors, math.inf: requests}
        for slot, value in more.items():
            if value:
                self.counts[slot] = self.counts.get(slot, 0) + value

    def scraped(self) -> dict[Slot, float]:
        """A scrape that succeeds: from now on this is known of the process."""
        self.life = dict(self.counts)
        return self.life

    def restart(self, at: float) -> None:
        """The process ends; what was scraped of it is true for ever."""
        for slot, value in self.life.items():
            self.truth[slot] = self.truth.get(slot, 0) + value
        self.counts, self.life, self.started = {}, {}, at

    def total(self) -> dict[Slot, float]:
        """What was counted in all processes, up to the last scrape of each."""
        slots = self.truth.keys() | self.life.keys()
        return {slot: self.truth.get(slot, 0) + self.life.get(slot, 0) for slot in slots}


EVENT = st.tuples(
    st.sampled_from(["scrape", "miss", "restart", "birth"]), st.integers(0, 2), st.integers(0, 20), st.integers(0, 20)
)


@settings(max_examples=400)
@given(st.lists(EVENT, max_size=40), st.booleans())
def test_the_sum_of_differences_is_the_truth(events: list[tuple[str, int, int, int]], old: bool) -> None:
    """Whatever restarts, is born or is missed: differences add up to what was counted up to the last scrape."""
    known_from, at = 1000.0, 1000.0
    servers = {f"{REV}-7d9c5b8f6d-0000{k}": Server(5.0 if old else 1000.5) for k in range(1)}
    counters = Counters(known_from)
    for server in servers.values():
        if old:
            server.serve(500, 3)
    began = {pod: dict(server.scraped()) for pod, server in servers.items()} if old else {}
    counters.observe(
        snapshot(at, {endpoint(p): dict(s.life) for p, s in servers.items()} if old else {}),
        {pod: server.created for pod, server in servers.items()},
    )
    counted: dict[Slot, int] = {}
    for what, which, requests, errors in events:
        at += 10.0
        pods = list(servers)
        pod = pods[which % len(pods)]
        servers[pod].serve(requests, min(errors, requests))
        if what == "restart":
            servers[pod].restart(at - 5)
        elif what == "birth" and len(servers) < 4:
            servers[f"{REV}-7d9c5b8f6d-0000{len(servers)}"] = Server(at - 2)
        missed = {pod} if what == "miss" else set()
        readings = {endpoint(p): dict(s.scraped()) for p, s in servers.items() if p not in missed}
        gained = counters.observe(
            snapshot(at, readings, down=tuple(endpoint(p) for p in missed)),
            {p: s.created for p, s in servers.items()},
            Starts({p: s.started or s.created for p, s in servers.items()}, dict.fromkeys(servers, frozenset())),
        )
        for slot, gain in gained.get(REV, {}).items():
            counted[slot] = counted.get(slot, 0) + gain
    truth: dict[Slot, float] = {}
    for pod, server in servers.items():
        for slot, value in server.total().items():
            truth[slot] = truth.get(slot, 0) + value - began.get(pod, {}).get(slot, 0)
    assert counted == {slot: value for slot, value in truth.items() if value}
    handed = counters.take(REV).pods
    assert {slot: sum(p.get(slot, 0) for p in handed.values()) for slot in counted} == counted


def test_an_interval_waits_for_every_live_pod() -> None:
    """One pod scraped anew is not enough while another live one is not; one that vanished holds nothing up."""
    counters = Counters(0.0)
    first, second = ("fraud-1-a", "a", "pods"), ("fraud-1-b", "b", "pods")

    def look(instant: float, **scrapes: float) -> None:
        endpoints = {"a": first, "b": second}
        snapshot = Snapshot(instant, frozenset({Indicator.REQUESTS}))
        for name, seen in scrapes.items():
            snapshot.scrapes[endpoints[name]] = seen
            snapshot.readings["fraud-1", endpoints[name]] = {Indicator.REQUESTS: instant}
        counters.observe(snapshot)

    look(10, a=9, b=10)
    counters.take("fraud-1")
    look(20, a=19, b=10)
    assert not counters.fresh("fraud-1"), "b was not scraped since: its counts are older than a's"
    look(22, a=19, b=20)
    assert counters.fresh("fraud-1"), "both were scraped since"
    counters.take("fraud-1")
    look(30, a=29)
    assert counters.fresh("fraud-1"), "b is gone, and holds nothing up"
