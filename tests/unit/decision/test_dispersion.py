"""θ̂ = ICC/(1−ICC) per request, from consecutive blocks of stable's series (decision.md §2; ADR 0005)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeployment.decision.arms import Counts
from modeldeployment.decision.dispersion import (
    DISPERSION,
    Pods,
    feed_all,
    from_history,
    pair,
    theta,
    theta_block,
)

VECTORS = [
    v
    for v in json.loads(Path(__file__).with_name("decision_vectors.json").read_text())["vectors"]
    if v["test"] == "dispersion"
]
BLOCK = 9
"""Intervals of a block of minutes, here."""

block = st.integers(0, 500).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))
history = st.tuples(st.integers(1, 3), st.integers(0, 40)).flatmap(
    lambda shape: st.lists(st.lists(block, min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0])
)
Rows = list[list[tuple[int, int]]]


def fed(rows: Rows, start: tuple[Any, Pods] | None = None) -> tuple[Any, Pods]:
    """A state and its pods' open blocks, fed interval by interval; a series with n = 0 is absent."""
    state, pods = (start[0].copy(), start[1]) if start else (np.zeros(1, DISPERSION), Pods())
    for t in range(len(rows[0])):
        counts = {str(i): Counts(row[t][0], row[t][1], row[t][1]) for i, row in enumerate(rows) if row[t][0] > 0}
        (pods,) = feed_all(state, [pods], [counts], np.array([BLOCK]))
    return state, pods


def arrays(rows: Rows) -> tuple[Any, Any]:
    """Requests and bad ones: (series, intervals)."""
    n, x = (np.array([[cell[i] for cell in row] for row in rows], dtype=float) for i in (0, 1))
    return n.reshape(len(rows), -1), x.reshape(len(rows), -1)


@pytest.mark.parametrize("vector", VECTORS)
def test_vectors(vector: dict[str, Any]) -> None:
    """θ̂ = max_L (max(0, L·(A−B)) + 25·0.01)/(C+25), A = Σu·Δ², B = Σp, C = Σ2up; blocks of 1 and 6 intervals.

    Reference: mpmath, 60 digits. Pairs where a block has no request are left out.
    """
    state, _ = fed([[tuple(b) for b in row] for row in vector["inputs"]["series"]])
    found = float(theta(state["pods"], state["pairs"])[0])
    assert found == pytest.approx(float(vector["theta"]), rel=10.0 ** -vector["digits"])


def test_pair_by_hand() -> None:
    """(100, 1), (300, 9): u = 75, p = 0.025, Δ = −0.02: A = 0.03, B = 0.025, C = 3.75; no pair without n."""
    assert pair(np.array([100.0, 1]), np.array([300.0, 9])) == pytest.approx([0.03, 0.025, 3.75])
    assert pair(np.array([0.0, 0]), np.array([300.0, 9])) == pytest.approx([0, 0, 0])


def test_prior_alone() -> None:
    """Without history θ̂ = 0.01 (25 errors at ICC 0.01), and the θ of blocks twice a fifth of that."""
    state = np.zeros(1, DISPERSION)
    for arm in ("pods", "arm"):
        assert float(theta(state[arm], state["pairs"])[0]) == pytest.approx(0.01)
        assert float(theta_block(state[arm], state["pairs"])[0]) == pytest.approx(0.004)


def test_blocks_by_hand() -> None:
    """θ_block = (f·(A − B) + 2·25·0.002·g)/(C + 25), f = 2 + min(1, 36/pairs), g = min(1, 3/pairs)."""
    moments = np.array([[0, 0, 0], [0, 0, 0], [11.0, 1.0, 75.0]])
    assert theta_block(moments, np.array(36.0)) == pytest.approx((3 * 10 + 0.1 / 12) / 100)
    assert theta_block(moments, np.array(144.0)) == pytest.approx((2.25 * 10 + 0.1 / 48) / 100)
    alone = moments * [[1], [1], [-1]]  # A < B
    assert theta_block(alone, np.array(36.0)) == pytest.approx(0.1 / 12 / -50), "the prior alone"


def test_the_prior_of_a_version_that_never_fails_fades() -> None:
    """C = 0 for ever: θ̂ = 0.01·min(1, 3/pairs), so that a day without a bad request counts for something."""
    lengths = [30 * blocks for blocks in (3, 4, 13, 289)]
    clean = [from_history(np.full((2, length), 100.0), np.zeros((2, length)), 30) for length in lengths]
    assert [float(state["pairs"][0]) for state in clean] == [2, 3, 12, 288]
    for state, of in zip(clean, (1, 1, 4, 96), strict=True):
        assert float(theta(state["pods"], state["pairs"])[0]) == pytest.approx(0.01 / of)
        assert float(theta_block(state["arm"], state["pairs"])[0]) == pytest.approx(0.004 / of)


@given(rows=history)
def test_history_equals_feeding(rows: Rows) -> None:
    """One range query at the start gives the state that feeding its intervals gives (up to summation order)."""
    whole, (one_by_one, _) = from_history(*arrays(rows), BLOCK), fed(rows)
    for name in DISPERSION.names or ():
        assert whole[name] == pytest.approx(one_by_one[name], rel=1e-9, abs=1e-9), name


def test_a_longer_past_in_blocks() -> None:
    """Blocks of a longer past replace those of the near one, and nothing else."""
    rng = np.random.default_rng(4)
    near_n, far_n = np.full((3, 60), 50.0), np.full((3, 200), 450.0)
    near_x, far_x = rng.binomial(50, 0.02, near_n.shape), rng.binomial(450, 0.02, far_n.shape)
    near, both = from_history(near_n, near_x, BLOCK), from_history(near_n, near_x, BLOCK, far_n, far_x)
    assert (near["pairs"][0], both["pairs"][0]) == (5, 199)
    assert np.array_equal(near["pods"][:, :2], both["pods"][:, :2]) and np.array_equal(near["series"], both["series"])
    assert both["pods"][0, 2, 2] > 20 * near["pods"][0, 2, 2]


@given(rows=history, after=history)
def test_restart_drops_one_pair_a_pod(rows: Rows, after: Rows) -> None:
    """A restart costs each pod at most one pair of intervals, the arm none.

    Of longer blocks it costs the one under way: its rest is a smaller block, whose rate may be the higher one.
    """
    state, pods = fed(rows)
    gone_on, _ = fed(after, (state, pods))
    restarted, _ = fed(after, (state, Pods()))
    assert np.array_equal(restarted["arm"], gone_on["arm"]) and np.array_equal(restarted["series"], gone_on["series"])
    c_before, c_without, c_with = (one["pods"][:, 0, 2] for one in (state, restarted, gone_on))
    assert (c_before <= c_without + 1e-9).all() and (c_without <= c_with + 1e-9).all()


def test_recovers_the_true_value() -> None:
    """Beta-binomial pods, ICC 0.01 (θ = 0.0101), 10 pods × 360 intervals of 100 requests at 2 %: θ̂ near it.

    And near 0 without bursts. Seeded; the tolerance is 4 standard errors as measured over seeds.
    """
    rng = np.random.default_rng(1)
    n = np.full((10, 360), 100.0)
    rate = rng.beta(0.02 * 99, 0.98 * 99, n.shape)
    bursts = from_history(n, rng.binomial(100, rate), BLOCK)
    calm = from_history(n, rng.binomial(100, 0.02, n.shape), BLOCK)
    assert float(theta(bursts["pods"], bursts["pairs"])[0]) == pytest.approx(0.0101, rel=0.3)
    assert float(theta(calm["pods"], calm["pairs"])[0]) < 0.003


@pytest.mark.parametrize(("length", "seen_by"), [(1, 0), (6, 1), (30, 2)])
def test_bursts_need_blocks_of_their_length(length: int, seen_by: int) -> None:
    """Bursts of some length: blocks as long see their whole variance, differences of shorter ones miss most of it."""
    rng = np.random.default_rng(2)
    rate = np.repeat(rng.beta(0.02 * 99, 0.98 * 99, (10, 2160 // length)), length, axis=1)
    n = np.full(rate.shape, 100.0)
    a, b, c = from_history(n, rng.binomial(100, rate), 30)["pods"][0].T
    found = (a - b) / c
    assert found[seen_by] == pytest.approx(0.0101, rel=0.3), f"the estimate of bursts of {length} intervals"
    assert (found[:seen_by] < found[seen_by] / 2).all()


def test_pods_that_left_are_forgotten() -> None:
    """Churn does not grow the memory: a pod goes once nothing can be paired with it."""
    rows = [[(100, 1) if i == t else (0, 0) for t in range(100)] for i in range(100)]
    state, pods = fed(rows)
    assert len(pods.names) <= 2 * BLOCK
    assert not state["pods"].any()


def test_order_of_pods_does_not_matter() -> None:
    """Two leaders that list pods in another order get the same bits."""
    counts = {f"pod-{i}": Counts(100 + i, i, i) for i in range(9)}
    states = np.zeros(2, DISPERSION)
    pods = [Pods(), Pods()]
    for _ in range(3):
        pods = feed_all(states, pods, [counts, dict(reversed(counts.items()))], np.array([BLOCK, BLOCK]))
    assert states[0].tobytes() == states[1].tobytes()
