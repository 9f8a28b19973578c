"""A whole latency distribution against stable: error bounds, power, state. Counts of requests in shared buckets."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeployment.decision import kernel
from modeldeployment.decision.distribution import SHRINKAGES, DistributionTest, bucket_counts

LN20 = math.log(20)
EDGES = (0.05, 0.1, 0.25, 0.5, 1.0, math.inf)

arms = st.lists(st.integers(0, 300), min_size=4, max_size=4)
rows = st.lists(st.tuples(arms, arms), max_size=6)


def shares(scale: float) -> np.ndarray:
    """Shares of log-normal latencies (median 0.15 s · scale, σ = 0.6) between EDGES."""
    cdf = [0.5 * (1 + math.erf(math.log(edge / (0.15 * scale)) / (0.6 * math.sqrt(2)))) for edge in EDGES[:-1]]
    return np.diff([0.0, *cdf, 1.0])


def _compositions(n: int, k: int) -> list[tuple[int, ...]]:
    """All ways to put n requests into k buckets."""
    return [c for c in itertools.product(range(n + 1), repeat=k) if sum(c) == n]


def _pmf(counts: tuple[int, ...], p: np.ndarray, icc: float) -> float:
    """P(counts) of a multinomial, or of a Dirichlet-multinomial with intraclass correlation icc."""
    ways = math.factorial(sum(counts)) / math.prod(math.factorial(c) for c in counts)
    if icc == 0:
        return float(ways * np.prod(p ** np.asarray(counts)))
    a = p * (1 - icc) / icc

    def rising(start: float, n: int) -> float:
        return math.prod(start + i for i in range(n))

    above = math.prod(rising(start, n) for start, n in zip(a.tolist(), counts, strict=True))
    return ways * above / rising(float(a.sum()), sum(counts))


@pytest.mark.parametrize("icc", [0.0, 0.2])
def test_false_alarms_exactly(icc: float) -> None:
    """P(ever E ≥ 1/α) ≤ α and E[E] ≤ 1, summed over every path of 3 intervals: 1 canary, 2 stable requests, 3 buckets.

    Null: both arms share p, multinomial or Dirichlet-multinomial drawn anew, θ = ICC/(1−ICC). The first interval is
    made of 30 requests, so that the ratios are far from 1; it is not evidence.
    """
    theta = icc / (1 - icc)
    arms = list(itertools.product(_compositions(1, 3), _compositions(2, 3)))
    first = DistributionTest.start(3).update([2, 3, 15], [6, 3, 1])
    assert first.log_e == 0.0
    level = [first]
    highest = np.zeros(1)
    for _ in range(3):
        level = [test.update(c, s, theta_c=theta, theta_s=theta) for test in level for c, s in arms]
        log_e = np.array([test.log_e for test in level])
        highest = np.maximum(np.repeat(highest, len(arms)), log_e)
    for p in ([0.2, 0.3, 0.5], [0.05, 0.05, 0.9], [1 / 3, 1 / 3, 1 / 3], [0.98, 0.01, 0.01]):
        one = np.array([_pmf(c, np.array(p), icc) * _pmf(s, np.array(p), icc) for c, s in arms])
        weights = np.prod(np.array(list(itertools.product(one, repeat=3))), axis=1)
        assert weights.sum() == pytest.approx(1.0)
        assert np.sum(weights * np.exp(log_e)) <= 1 + 1e-12
        for alpha in (0.5, 0.25, 0.1):
            assert weights[highest >= math.log(1 / alpha)].sum() <= alpha


def test_without_dispersion_it_is_the_safe_test() -> None:
    """θ = 0: one interval's e is Π (p_a/p_0)^c·(p_b/p_0)^s, p_0 = w·p_a + (1−w)·p_b (Turner, Ly & Grünwald 2024)."""
    p_a, p_b, w = np.array([0.2, 0.3, 0.5]), np.array([0.4, 0.4, 0.2]), 0.25
    c, s = np.array([4, 6, 10]), np.array([25, 20, 15])
    p_0 = w * p_a + (1 - w) * p_b
    expected = np.sum(c * np.log(p_a / p_0) + s * np.log(p_b / p_0))
    # Sums that make the ratios p_a/p_b: with them the shrinkage of 10 requests is worth nothing.
    test = DistributionTest(tuple(1e12 * p_a), tuple(1e12 * p_b)).update(c, s)
    assert test.log_l[0] == pytest.approx(expected, rel=1e-6)


def _false_alarms(icc: float, theta: float, runs: int = 120) -> float:
    """How often E ≥ 20 in 40 intervals of 20 and 180 requests, shares that drift, arms drawn anew with this ICC."""
    rng, false = np.random.default_rng(21), 0
    for _ in range(runs):
        test = DistributionTest.start(len(EDGES))
        for t in range(40):
            p = shares(1 + t / 40)
            p_c, p_s = (rng.dirichlet(p * (1 - icc) / icc) for _ in "cs") if icc else (p, p)
            canary, stable = rng.multinomial(20, p_c), rng.multinomial(180, p_s)
            test = test.update(canary, stable, theta_c=theta, theta_s=theta)
            if test.log_e >= LN20:
                false += 1
                break
    return false / runs


def test_false_alarms_simulated() -> None:
    """The same distribution, drifting in both arms: P(ever E ≥ 20) ≤ 5 %. Seeded."""
    assert _false_alarms(icc=0.0, theta=0.0) <= 0.05


def test_bursts_need_their_dispersion() -> None:
    """ICC 0.05 an arm and interval: ≤ 5 % with θ = ICC/(1−ICC), and above 20 % with θ = 0. Seeded."""
    assert _false_alarms(icc=0.05, theta=0.05 / 0.95) <= 0.05
    assert _false_alarms(icc=0.05, theta=0.0) > 0.2


@pytest.mark.parametrize(("scale", "intervals"), [(2.0, 8), (1.3, 40), (0.7, 40)])
def test_power(scale: float, intervals: int) -> None:
    """Latencies 2, 1.3, 0.7 times stable's, 20 rps at 10 %: different is proven in 80, 400, 400 s. Seeded."""
    rng, test = np.random.default_rng(22), DistributionTest.start(len(EDGES))
    for _ in range(intervals):
        test = test.update(rng.multinomial(20, shares(scale)), rng.multinomial(180, shares(1.0)))
    assert test.log_e >= LN20
    shift = test.shift
    assert shift is not None and (shift.canary > shift.stable) == (scale > 1)


def test_shift_names_the_edge() -> None:
    """Where the shares of slower requests differ most, at the same times: 0.25 s; None before data."""
    assert DistributionTest.start(3).shift is None
    test = DistributionTest.start(6).update([10, 20, 10, 40, 10, 10], [90, 180, 370, 80, 90, 90])
    shift = test.shift
    assert shift is not None and shift.bucket == 2
    assert (shift.canary, shift.stable) == pytest.approx((0.6, 0.26 / 0.9))


@given(intervals=rows, last=st.tuples(arms, arms))
def test_finite(intervals: list[tuple[list[int], list[int]]], last: tuple[list[int], list[int]]) -> None:
    """Any counts: finite, gains at most what the tilts allow; without requests in both arms nothing changes."""
    test = DistributionTest.start(4)
    for canary, stable in intervals:
        test = test.update(canary, stable, theta_c=0.01, theta_s=0.001)
    assert math.isfinite(test.log_e)
    assert test.update(last[0], [0] * 4) is test and test.update([0] * 4, last[1]) is test


@given(canary=arms, stable=arms, theta=st.sampled_from([0.0, 0.01, 0.5]))
def test_tilts_cancel_the_shared_shares(canary: list[int], stable: list[int], theta: float) -> None:
    """n_c·κ(r·v, b_c) + n_s·κ(v, b_s) ≤ 0 for the ratios in use, below 1 too: what makes E[e] ≤ exp(Σ p·g) ≤ 1."""
    ratios = np.concatenate(([0.01, 0.3, 0.9, 1.0, 1.1, 5.0, 100.0], 1 + np.asarray(canary) / 50))
    n_c, n_s = 1.0 + sum(canary), 1.0 + sum(stable)
    b_c, b_s = n_c * theta, n_s * theta
    v = kernel.solve_tilt(ratios, n_c, n_s, b_c, b_s, 1.0)
    terms = n_c * kernel.kappa(ratios * v, b_c), n_s * kernel.kappa(v, b_s)
    assert np.all(v > 0)
    assert np.all(terms[0] + terms[1] <= 1e-9 * np.abs(terms[1]) + 1e-12 * (n_c + n_s))


@given(intervals=rows, later=st.tuples(arms, arms))
def test_state_round_trip(intervals: list[tuple[list[int], list[int]]], later: tuple[list[int], list[int]]) -> None:
    """Bit for bit through JSON, and on to the same bits."""
    test = DistributionTest.start(4)
    for canary, stable in intervals:
        test = test.update(canary, stable)
    back = DistributionTest.from_state(json.loads(json.dumps(test.to_state())), 4)
    assert back == test
    assert back.update(*later).to_state() == test.update(*later).to_state()


def test_foreign_input_is_refused() -> None:
    """Other buckets, negative counts, states of other buckets or versions: ValueError."""
    test = DistributionTest.start(3)
    for canary, stable in (([1, 2], [1, 2]), ([1, 2, 3, 4], [1, 2, 3, 4]), ([1, 2, 3], [1, 2])):
        with pytest.raises(ValueError, match="start anew"):
            test.update(canary, stable)
    for count in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="not negative"):
            test.update([1, 2, count], [1, 2, 3])
    with pytest.raises(ValueError, match="at least 2"):
        DistributionTest.start(1)
    for damage in ("", "1:AAAA", "2:", DistributionTest.start(4).to_state()):
        with pytest.raises(ValueError):
            DistributionTest.from_state(damage, 3)
    assert len(test.log_l) == len(SHRINKAGES)


def test_bucket_counts() -> None:
    """Cumulative to plain counts at the shared edges; a scrape that disagrees with itself gives no negative count."""
    cumulative = {0.1: 5.0, 0.25: 7.0, 0.5: 7.0, math.inf: 10.0}
    assert bucket_counts(cumulative, (0.1, 0.5, math.inf)).tolist() == [5, 2, 3]
    assert bucket_counts({0.1: 5.0, 0.5: 4.0, math.inf: 6.0}, (0.1, 0.5, math.inf)).tolist() == [5, 0, 1]
