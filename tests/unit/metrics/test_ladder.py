"""Rolling sums over windows of minutes to months: what is in them, and how long they remember."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeployment.decision.budget import WINDOWS
from modeldeployment.decision.evidence import Tally
from modeldeployment.metrics.ladder import BUCKETS, Ladder, Ring

T0 = 1_795_608_000.0
MONTH = 30 * 86_400.0
GRAIN_OF = {300: 60, 1800: 60, 3600: 60, 7200: 360, 21_600: 360, 86_400: 4320, 259_200: 4320, MONTH: MONTH / 60}
"""Window → length (s) of the buckets that it is summed of."""


@given(
    steps=st.lists(st.tuples(st.integers(1, 40_000), st.integers(0, 50), st.integers(0, 9)), max_size=120),
    window=st.sampled_from([*WINDOWS, MONTH]),
)
def test_a_window_holds_what_it_should(steps: list[tuple[int, int, int]], window: float) -> None:
    """All of its own seconds, nothing that is older by more than a bucket; whatever pauses there were."""
    ladder, now = Ladder(MONTH, T0), T0
    past: list[tuple[float, int, int]] = []
    for pause, requests, bad in steps:
        now += pause
        ladder.add(now, requests, bad)
        past.append((now, requests, bad))
        found, grain = ladder.total(now, window), GRAIN_OF[window]
        least = [sum(row[i] for row in past if row[0] > now - window) for i in (1, 2)]
        most = [sum(row[i] for row in past if row[0] > now - window - grain) for i in (1, 2)]
        assert least[0] <= found.requests <= most[0] and least[1] <= found.bad <= most[1]
        assert found.known == min(window, now - T0)


@given(st.lists(st.tuples(st.integers(0, 60 * 60), st.integers(1, 9)), max_size=40), st.integers(1, 3600))
def test_the_past_may_be_told_later(past: list[tuple[int, int]], later: int) -> None:
    """A ring that is told its past after it began to count holds the same as one that counted all along."""
    whole, heir = Ring(60.0, T0 - 3600), Ring(60.0, T0)
    for ago, requests in sorted(past, reverse=True):
        whole.add(T0 - ago, requests, 0)
    for ring in (whole, heir):
        ring.add(T0 + later, 5, 1)
    ladder = Ladder(MONTH, T0)
    ladder.missing[heir] = 0, T0
    ladder.remember(heir, [(T0 - ago, requests, 0) for ago, requests in past], T0 - 3600)
    for length in (300.0, 3600.0):
        assert heir.total(T0 + later, length) == whole.total(T0 + later, length)


def test_idle_time_empties_a_window() -> None:
    """What nobody adds to is empty after its length, and stays in the longer ones."""
    ladder = Ladder(MONTH, T0)
    ladder.add(T0 + 60, 100, 7)
    assert ladder.total(T0 + 60, 300) == Tally(100, 7, 60)
    assert ladder.total(T0 + 3600, 300) == Tally(0, 0, 300)
    assert ladder.total(T0 + 3600, MONTH) == Tally(100, 7, 3600)
    ladder.add(T0 + 2 * MONTH, 1, 0)
    assert ladder.total(T0 + 2 * MONTH, MONTH) == Tally(1, 0, MONTH)


@pytest.mark.parametrize("period", [168 * 3600.0, MONTH, 2160 * 3600.0])
def test_memory_does_not_grow(period: float) -> None:
    """After a year as many buckets as after a minute."""
    ladder = Ladder(period, T0)
    for hour in range(1, 24 * 365 + 1):
        ladder.add(T0 + hour * 3600, 1000, 1)
    assert all(len(ring._requests) == len(ring._bad) == BUCKETS + 1 for ring in ladder.rings)
    assert ladder.total(T0 + 24 * 365 * 3600, period).requests == pytest.approx(period / 3.6, rel=0.02)
