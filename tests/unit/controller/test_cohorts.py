"""When cohorts are looked at: at multiples of their interval, late enough that every leader sees the same samples."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime

import pytest

from modeldeployment.controller.cohorts import Cohorts
from modeldeployment.decision.evidence import Interval
from modeldeployment.metrics import EvidenceStore
from unit.metrics.looking import CANARY_POD, KEY, STABLE_POD, TRIAL, at, look_at, scraped
from unit.metrics.simulated import SimulatedPrometheus

LAG = 17.0
"""Seconds that a sample takes until it is found."""


@pytest.mark.parametrize("delay", [0.0, 3.0, 25.0])
def test_looks_are_late_by_the_delay(delay: float) -> None:
    """The instant is the same multiple of the interval, whatever the delay; it comes up that much later."""
    cohorts = Cohorts()
    cohorts.delay = delay
    cohorts.assign(KEY, 10.0)
    assert [instant for _, instant, _ in cohorts.due(at(40.9 + delay))] == [at(30)]
    ((interval, instant, late),) = cohorts.due(at(41.5 + delay))
    assert (interval, instant, round(late, 3)) == (10.0, at(40), 0.5)
    cohorts.looked(interval, instant)
    assert not [*cohorts.due(at(50.9 + delay))]
    assert cohorts.wait(at(45 + delay)) == pytest.approx(6.0)


def test_nobody_is_looked_at_without_a_cohort() -> None:
    """There is nothing to wait for; a member that left is in none."""
    cohorts = Cohorts()
    assert cohorts.wait(at(0)) == math.inf
    cohorts.assign(KEY, 10.0)
    assert cohorts.members(10.0) == [KEY]
    cohorts.assign(KEY, 0.0)
    assert not [*cohorts.due(at(100))]


@pytest.mark.parametrize(("delay", "lost"), [(0.0, True), (20.0, False)])
async def test_late_samples_lose_nothing_when_looks_are_as_late(delay: float, lost: bool) -> None:
    """Samples are found 17 s after they were scraped (remote write). A leader that read too early passes on an instant
    whose samples its heir takes for counted: with a delay, both together count every request."""
    server = SimulatedPrometheus()
    scraped(server.pod(STABLE_POD), *((10 * k - 1, 1000 + 100 * k, 0) for k in range(-9, 40)))
    scraped(server.pod(CANARY_POD), *((10 * k - 1, 10 * k, 0) for k in range(1, 40)))
    cohorts = Cohorts()
    cohorts.delay = delay
    cohorts.assign(KEY, 10.0)
    closed: list[Interval] = []
    done: datetime | None = None
    async with server.client() as client:
        for leader in range(3):
            store = EvidenceStore()
            for now in range(100 * leader, 100 * leader + 100):
                server.stored = at(now).timestamp() - LAG
                for interval, instant, _ in [*cohorts.due(at(now))]:
                    cohorts.looked(interval, instant)
                    found = (await look_at(store, [replace(TRIAL, evidence_time=done)], instant, client))[KEY]
                    closed += found.intervals
            done = closed[-1].end
    counted = sum(interval.trial[CANARY_POD].requests for interval in closed)
    scraped_last = max(10 * k for k in range(40) if 10 * k - 1 <= server.stored - at(0).timestamp())
    truth = min(scraped_last, round((closed[-1].end - at(0)).total_seconds()))
    assert (counted < truth) == lost, f"counted {counted} of {truth}"
    assert counted <= truth
