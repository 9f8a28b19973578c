"""Restarts: known by counters that fell, else by a start of the container whose counters they are."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from modeldeployment.api.serving import Dialect, Metrics
from modeldeployment.metrics import Watched
from modeldeployment.metrics.counters import Counters
from modeldeployment.metrics.identity import Endpoint
from modeldeployment.metrics.planning import Indicator
from modeldeployment.metrics.restarts import NO_STARTS, Starts, starts_of
from modeldeployment.metrics.snapshot import Gains, Slot, Snapshot

REV = "fraud-1a2b"
POD = f"{REV}-7d9c5b8f6d-aaaaa"
MODEL: Endpoint = (POD, "10.0.0.1:8080", "pods")
SIDECAR: Endpoint = (POD, "10.0.0.1:15020", "pods")
REQUESTS, ERRORS = Indicator.REQUESTS, Indicator.ERRORS
CREATED = {POD: 5.0}
SHARED = {POD: frozenset({8080})}
ALONE: dict[str, frozenset[int]] = {POD: frozenset()}


def gained(
    scrapes: list[tuple[float, dict[Slot, float], float]],
    endpoint: Endpoint = MODEL,
    ports: dict[str, frozenset[int]] | None = None,
    created: float = 5.0,
) -> list[Gains]:
    """What each scrape adds: (time, counters, start of the container as it is told by then)."""
    counters = Counters(100.0)
    seen = []
    for at, reading, start in scrapes:
        snapshot = Snapshot(at + 1, frozenset(Indicator), {endpoint: at}, {(REV, endpoint): dict(reading)})
        found = counters.observe(snapshot, {POD: created}, Starts({POD: start}, ports or {}))
        seen.append(found.get(REV, {}))
    return seen


@pytest.mark.parametrize("ports", [None, SHARED, ALONE])
def test_a_restart_that_hides_behind_equal_counts_is_known_by_its_start(ports: dict[str, frozenset[int]]) -> None:
    """A pod that fails three requests and dies, again and again, shows 3, 3, 3: its starts tell that these are nine."""
    three: dict[Slot, float] = {REQUESTS: 3.0, ERRORS: 3.0}
    crashes = [(at, three, at - 4) for at in (109.0, 119.0, 129.0)]
    assert gained(crashes, ports=ports, created=101.0) == [{REQUESTS: 3, ERRORS: 3}] * 3


def test_a_sidecar_goes_on_when_the_model_restarts() -> None:
    """Its counters are not the container's: over an OOM kill of the model they are no more than they rose by."""
    oom = [
        (109.0, {REQUESTS: 100_100.0, ERRORS: 500.0}, 5.0),
        (119.0, {REQUESTS: 100_190.0, ERRORS: 510.0}, 114.0),
        (129.0, {REQUESTS: 100_190.0, ERRORS: 510.0}, 124.0),
    ]
    truth: list[Gains] = [{}, {REQUESTS: 90, ERRORS: 10}, {}]
    assert gained(oom, SIDECAR, SHARED) == truth  # type: ignore[arg-type]
    assert gained(oom[:2], SIDECAR) == truth[:2], "nor while its port is not known, as it rose"  # type: ignore[arg-type]


def test_the_models_own_counters_are_new_even_if_they_are_higher() -> None:
    """A process that has counted past the one before by the next scrape is known by its start alone."""
    higher: list[tuple[float, dict[Slot, float], float]] = [(109, {REQUESTS: 5.0}, 5), (119, {REQUESTS: 20.0}, 114)]
    assert gained(higher, ports=ALONE) == gained(higher, ports=SHARED) == [{}, {REQUESTS: 20}]
    assert gained(higher) == [{}, {REQUESTS: 15}], "not known to be its own: no guess"


def test_when_requests_fell_all_counters_are_new() -> None:
    """A process has one life: errors that rose meanwhile are the new one's, all of them."""
    fell: list[tuple[float, dict[Slot, float], float]] = [
        (109, {REQUESTS: 1000.0, ERRORS: 2.0}, 0),
        (119, {REQUESTS: 60.0, ERRORS: 50.0}, 0),
    ]
    assert gained(fell)[1] == {REQUESTS: 60, ERRORS: 50}


@pytest.mark.parametrize("early", [True, False])
def test_a_restart_is_counted_once_whatever_the_nodes_clock_says(early: bool) -> None:
    """Counters fell at 106; that the start is told as 108, and perhaps only later, makes no second restart of it."""
    scrapes: list[tuple[float, dict[Slot, float], float]] = [
        (96, {REQUESTS: 1000.0}, 5),
        (106, {REQUESTS: 40.0}, 108 if early else 5),
        (116, {REQUESTS: 60.0}, 108),
        (126, {REQUESTS: 70.0}, 121),
    ]
    assert [g.get(REQUESTS, 0) for g in gained(scrapes, ports=ALONE)] == [0, 40, 20, 70]


def test_a_scrape_in_the_second_of_a_start_may_be_of_the_process_before() -> None:
    """A start at 105.7 is told as 105: what was read at 105.2 is not new."""
    scrapes: list[tuple[float, dict[Slot, float], float]] = [
        (95.2, {REQUESTS: 1000.0}, 5),
        (105.2, {REQUESTS: 1000.0}, 105),
        (115.2, {REQUESTS: 7.0}, 105),
    ]
    assert [g.get(REQUESTS, 0) for g in gained(scrapes, ports=ALONE)] == [0, 0, 7]


def test_the_first_process_of_a_pod_is_no_restart() -> None:
    """A young pod counts from zero once, whether its start is told before its first scrape or after."""
    for first in (0.0, 108.0, 110.0):
        same: list[tuple[float, dict[Slot, float], float]] = [
            (109, {REQUESTS: 3.0}, first),
            (119, {REQUESTS: 3.0}, first or 108.0),
        ]
        assert gained(same, ports=ALONE, created=107.0) == [{REQUESTS: 3}, {}]


def test_a_proxys_counters_know_nothing_of_the_container() -> None:
    """Istio's and Envoy's counters are told by the mesh's labels: starts of `model` are none of theirs."""
    model = Watched(("ml", "fraud"), Metrics(), (REV,), started={POD: datetime.fromtimestamp(9, UTC)}, ports=SHARED)
    assert starts_of(model) == Starts({POD: 9.0}, SHARED)
    for dialect in (Dialect.ISTIO, Dialect.ENVOY):
        assert starts_of(replace(model, metrics=Metrics(dialect=dialect))) == NO_STARTS
