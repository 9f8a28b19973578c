"""θ̂ = ICC/(1−ICC) per request, from consecutive blocks of stable's series (decision.md §2)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeployment.decision.dispersion import Block, Dispersion, Family, Moments

VECTORS = [
    v
    for v in json.loads(Path(__file__).with_name("decision_vectors.json").read_text())["vectors"]
    if v["test"] == "dispersion"
]

block = st.integers(0, 500).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))
history = st.tuples(st.integers(1, 3), st.integers(0, 20)).flatmap(
    lambda shape: st.lists(st.lists(block, min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0])
)


def fed(rows: list[list[tuple[int, int]]], start: Dispersion | None = None) -> Dispersion:
    """A Dispersion fed interval by interval; a series with n = 0 is absent."""
    state = start or Dispersion()
    for t in range(len(rows[0])):
        state = state.update({str(i): Block(*row[t]) for i, row in enumerate(rows) if row[t][0] > 0})
    return state


@pytest.mark.parametrize("vector", VECTORS)
def test_vectors(vector: dict[str, Any]) -> None:
    """θ̂ = max_L (max(0, L·(A−B)) + 25·0.01)/(C+25), A = Σu·Δ², B = Σp, C = Σ2up; blocks of 1 and 6 intervals.

    Reference: mpmath, 60 digits. Pairs where a block has no request are left out.
    """
    family = Family()
    for t, blocks in enumerate(zip(*vector["inputs"]["series"], strict=True)):
        family = family.update({str(i): Block(*b) for i, b in enumerate(blocks)}, closes_long=t % 6 == 5)
    assert family.theta == pytest.approx(float(vector["theta"]), rel=10.0 ** -vector["digits"])


def test_pair_by_hand() -> None:
    """(100, 1), (300, 9): u = 75, p = 0.025, Δ = −0.02: A = 0.03, B = 0.025, C = 3.75; no pair without n."""
    moments = Moments().pair(Block(100, 1), Block(300, 9))
    assert moments == pytest.approx((0.03, 0.025, 3.75))
    assert moments.pair(Block(0, 0), Block(300, 9)) == moments


def test_prior_alone() -> None:
    """Without history θ̂ = 0.01: 25 errors at ICC 0.01."""
    assert Dispersion().pods.theta == Dispersion().arm.theta == pytest.approx(0.01)


@given(rows=history)
def test_history_equals_feeding(rows: list[list[tuple[int, int]]]) -> None:
    """One range query at the start gives the state that feeding its intervals gives (up to summation order)."""
    whole = Dispersion.from_history(
        [str(i) for i in range(len(rows))],
        np.array([[n for n, _ in row] for row in rows], dtype=float).reshape(len(rows), -1),
        np.array([[x for _, x in row] for row in rows], dtype=float).reshape(len(rows), -1),
    )
    one_by_one = fed(rows)
    assert whole.pods.series == one_by_one.pods.series and whole.arm.series == one_by_one.arm.series
    assert whole.phase == one_by_one.phase
    assert whole.to_floats() == pytest.approx(one_by_one.to_floats(), rel=1e-9, abs=1e-9)


@given(rows=history, after=history)
def test_restart_drops_one_pair_a_pod(rows: list[list[tuple[int, int]]], after: list[list[tuple[int, int]]]) -> None:
    """The state round-trips bit for bit; a restart costs each pod at most one pair of each length, the arm none."""
    state = fed(rows)
    back = Dispersion.from_floats(state.to_floats())
    assert back == state.without_pods()
    gone_on, restarted = fed(after, state), fed(after, back)
    assert restarted.arm == gone_on.arm
    assert gone_on.pods.short.c >= restarted.pods.short.c - 1e-9
    assert state.pods.short.c <= restarted.pods.short.c + 1e-9


def test_recovers_the_true_value() -> None:
    """Beta-binomial pods, ICC 0.01 (θ = 0.0101), 10 pods × 360 intervals of 100 requests at 2 %: θ̂ near it.

    And near 0 without bursts. Seeded; the tolerance is 4 standard errors as measured over seeds.
    """
    rng = np.random.default_rng(1)
    n = np.full((10, 360), 100.0)
    names = [str(i) for i in range(10)]
    rate = rng.beta(0.02 * 99, 0.98 * 99, n.shape)
    bursts = Dispersion.from_history(names, n, rng.binomial(100, rate))
    calm = Dispersion.from_history(names, n, rng.binomial(100, 0.02, n.shape))
    assert bursts.pods.theta == pytest.approx(0.0101, rel=0.3)
    assert calm.pods.theta < 0.003


def test_long_bursts_need_long_blocks() -> None:
    """Bursts of 6 intervals: differences of neighbours miss them, blocks of L = 6 see them (× L: per interval)."""
    rng = np.random.default_rng(2)
    rate = np.repeat(rng.beta(0.02 * 99, 0.98 * 99, (10, 120)), 6, axis=1)
    n = np.full(rate.shape, 100.0)
    pods = Dispersion.from_history([str(i) for i in range(10)], n, rng.binomial(100, rate)).pods
    assert pods.long.theta(6) > 2 * pods.short.theta(1)
    assert pods.theta == pods.long.theta(6)


def test_pods_that_left_are_forgotten() -> None:
    """Churn does not grow the memory: a pod goes once nothing can be paired with it."""
    state = Dispersion()
    for t in range(200):
        state = state.update({f"pod-{t}": Block(100, 1)})
    assert len(state.pods.series) <= 12
    assert state.pods.short == Moments()


def test_order_of_pods_does_not_matter() -> None:
    """Two leaders that list pods in another order get the same bits."""
    counts = {f"pod-{i}": Block(100 + i, i) for i in range(9)}
    turned = dict(reversed(counts.items()))
    one = Dispersion().update(counts).update(counts)
    assert one == Dispersion().update(turned).update(turned)


def test_state_of_another_version() -> None:
    """A state of another length is refused in words."""
    with pytest.raises(ValueError, match="another version"):
        Dispersion.from_floats([0.0] * 5)
