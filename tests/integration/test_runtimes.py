"""Dialects against real servers of other projects: what each of them counts of requests that were really sent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest

from lab import LabUnavailable
from lab.runtime import BENTOML, KSERVE, MLSERVER, RAY_SERVE, Runtime, RuntimeServer
from lab.runtimes.answering import FAILS, REFUSED
from modeldeployment.api.dialects import presets
from modeldeployment.api.serving import Dialect
from unit.metrics.exposition import Counted, counted, series_of

GOOD, FAILED, FAULTS = 8, 3, 2
SLOW_MS = 700
EDGE_MS = 500  # every one of their histograms has it

RUNTIMES = {
    Dialect.BENTOML: (BENTOML, FAILED),
    Dialect.KSERVE: (KSERVE, None),
    Dialect.MLSERVER: (MLSERVER, FAILED + FAULTS),  # its own counters know no status
    Dialect.RAY_SERVE: (RAY_SERVE, FAILED),
}


@pytest.mark.parametrize("dialect", RUNTIMES, ids=str)
def test_a_dialect_counts_what_was_sent(dialect: Dialect) -> None:
    """All requests of the model and no probe; its failures; and a slow one over the edge, so in the right unit."""
    runtime, errors = RUNTIMES[dialect]
    with started(runtime) as server:
        for status, number, times in ((200, 1.5, GOOD), (500, FAILS, FAILED), (400, REFUSED, FAULTS)):
            assert [server.ask(number) for _ in range(times)] == [status] * times
        assert server.probe() == 200
        sent = GOOD + FAILED + FAULTS
        told = settled(lambda: counts(server, dialect), sent)
        assert (told.requests, told.errors) == (sent, errors)

        assert server.ask(SLOW_MS) == 200
        later = settled(lambda: counts(server, dialect), sent + 1)
        assert (later.requests, later.errors) == (sent + 1, errors)
        assert EDGE_MS in later.faster, f"no such edge, so the unit is another one: {sorted(later.faster)}"
        assert over(later) == over(told) + 1


def started(runtime: Runtime) -> RuntimeServer:
    """The server, not yet entered; without Python 3.11 the test is skipped, as MLServer's are."""
    try:
        return RuntimeServer(runtime)
    except LabUnavailable as error:
        pytest.skip(str(error))


def counts(server: RuntimeServer, dialect: Dialect) -> Counted:
    """What the dialect makes of the server's metrics now."""
    return counted(series_of(server.metrics()), presets()[dialect])


def over(told: Counted) -> float:
    """Requests that took longer than EDGE_MS."""
    return told.faster[math.inf] - told.faster[EDGE_MS]


def settled(read: Callable[[], Counted], requests: int) -> Counted:
    """What is read in the end: some servers tell an exporter of their counts every ten seconds only."""
    deadline = time.monotonic() + 120
    while (told := read()).requests != requests and time.monotonic() < deadline:
        time.sleep(0.2)
    return told
