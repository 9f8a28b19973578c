"""Gap of two groups, as a difference and as a ratio: error bounds, power, state. Results are natural logarithms."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modeldeployment.decision.gap import DifferenceGap, Group, RatioGap
from modeldeployment.decision.kernel import log_mean_exp, relative_increments

LN20 = math.log(20)

groups = st.integers(0, 500).flatmap(lambda n: st.builds(Group, st.just(n), st.integers(0, n)))
pairs = st.lists(st.tuples(groups, groups), max_size=4)


def _tree(d: float, p_a: float, p_b: float, *, passing: bool, rounds: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """One item of each group a round, all paths: log E after each round (4⁷ × 7), probability of each path."""
    outcomes = np.array(list(itertools.product((0, 1), (0, 1))))
    paths = outcomes[np.array(list(itertools.product(range(4), repeat=rounds)))]
    events = np.cumsum(paths, axis=1)
    log_e = np.zeros(events.shape[:2])
    for t in range(rounds):
        table = np.zeros((t + 2, t + 2))
        for x_a, x_b in itertools.product(range(t + 2), repeat=2):
            gap = DifferenceGap(d, Group(t + 1, x_a), Group(t + 1, x_b))
            table[x_a, x_b] = gap.log_e_pass if passing else gap.log_e_fail
        log_e[:, t] = table[events[:, t, 0], events[:, t, 1]]
    chance = np.where(paths == 1, (p_a, p_b), (1 - p_a, 1 - p_b))
    return log_e, np.prod(chance, axis=(1, 2))


@pytest.mark.parametrize(
    ("d", "p_a", "p_b", "passing"),
    [
        (0.1, 0.5, 0.4, False),
        (0.1, 0.05, 0.15, False),
        (0.1, 0.3, 0.3, False),
        (0.02, 1.0, 0.98, False),
        (0.6, 0.8, 0.2, True),
        (0.6, 0.0, 0.6, True),
        (0.9, 0.95, 0.05, True),
    ],
)
def test_false_alarms_exactly(d: float, p_a: float, p_b: float, passing: bool) -> None:
    """P(ever E ≥ 1/α) ≤ α and E[E] ≤ 1 over every path, at the edge of the null and within it."""
    log_e, weights = _tree(d, p_a, p_b, passing=passing)
    assert weights.sum() == pytest.approx(1.0)
    for t in range(log_e.shape[1]):
        assert np.sum(weights * np.exp(log_e[:, t])) <= 1 + 1e-12
    for alpha in (0.5, 0.25, 0.1):
        assert weights[log_e.max(axis=1) >= math.log(1 / alpha)].sum() <= alpha


@pytest.mark.parametrize(
    ("p_a", "p_b", "passing"), [(0.3, 0.2, False), (0.2, 0.3, False), (0.95, 0.85, False), (0.35, 0.25, True)]
)
def test_false_alarms_simulated(p_a: float, p_b: float, passing: bool) -> None:
    """A gap of exactly 0.1, unequal groups, 20 looks: P(ever E ≥ 20) ≤ 5 %. 100 runs, seeded."""
    rng = np.random.default_rng(11)
    false = 0
    for _ in range(100):
        gap = DifferenceGap(0.1)
        for _ in range(20):
            gap = gap.update(Group(60, rng.binomial(60, p_a)), Group(20, rng.binomial(20, p_b)))
            if (gap.log_e_pass if passing else gap.log_e_fail) >= LN20:
                false += 1
                break
    assert false <= 5


@example(p_a=0.9983939698, p_b=0.0983939698, items=(1e9, 1e9))
@given(p_a=st.floats(0.0, 1.0), p_b=st.floats(0.0, 1.0), items=st.tuples(*[st.sampled_from([10.0, 1e4, 1e9])] * 2))
def test_expected_counts_under_the_null_are_no_evidence(p_a: float, p_b: float, items: tuple[float, float]) -> None:
    """At the expected counts, log E is the mean of log factors, ≤ 0 under the null (Jensen), however many items.

    Also where the rates lie within a cell of the grid: cells are rounded towards the null.
    """
    gap = abs(p_a - p_b)
    a, b = Group(items[0], items[0] * p_a), Group(items[1], items[1] * p_b)
    if 0 < gap < 1:
        edge = DifferenceGap(gap, a, b)
        assert edge.log_e_fail <= 1e-6 * max(items) ** 0.5 and edge.log_e_pass <= 1e-6 * max(items) ** 0.5
    assert DifferenceGap(min(0.999, gap + 0.01), a, b).log_e_fail <= 1e-6 * max(items) ** 0.5 or gap >= 0.999


@pytest.mark.parametrize(("p_a", "p_b", "items"), [(0.3, 0.1, 1000), (0.6, 0.9, 400), (0.13, 0.05, 5000)])
def test_power(p_a: float, p_b: float, items: int) -> None:
    """A gap 0.03 to 0.2 above the bound is proven, whichever group has it; the counts are what was expected."""
    d = 0.1 if p_a != 0.13 else 0.05
    first, second = Group(items, round(items * p_a)), Group(items, round(items * p_b))
    assert DifferenceGap(d).update(first, second).log_e_fail >= LN20
    assert DifferenceGap(d).update(second, first).log_e_fail >= LN20
    assert DifferenceGap(d).update(first, second).log_e_pass < 0


def test_pass() -> None:
    """No gap: that it is below 0.1 is proven by 2,000 items each, not by 100, and never by one group alone."""
    few, many = Group(100, 20), Group(2000, 400)
    assert DifferenceGap(0.1).update(few, few).log_e_pass < LN20
    assert DifferenceGap(0.1).update(many, many).log_e_pass >= LN20
    assert DifferenceGap(0.1).update(many, Group()).log_e_pass <= 0
    assert DifferenceGap(0.1).update(Group(), many).log_e_fail <= 0
    assert DifferenceGap(0.1).update(many, many).log_e_fail < 0


@given(pairs=pairs, d=st.floats(0.01, 0.9))
def test_groups_may_be_named_either_way(pairs: list[tuple[Group, Group]], d: float) -> None:
    """Both signs are tested: swapping the groups changes the sign of the gap and no evidence."""
    gap, swapped = DifferenceGap(d), DifferenceGap(d)
    for a, b in pairs:
        gap, swapped = gap.update(a, b), swapped.update(b, a)
    assert gap.log_e_fail == pytest.approx(swapped.log_e_fail, rel=1e-9, abs=1e-9)
    assert gap.log_e_pass == pytest.approx(swapped.log_e_pass, rel=1e-9, abs=1e-9)
    assert gap.gap is None or gap.gap == pytest.approx(-(swapped.gap or 0))


def test_gap_as_seen() -> None:
    """p_A − p_B; None before both groups were seen."""
    assert DifferenceGap(0.1).update(Group(10, 5), Group()).gap is None
    assert DifferenceGap(0.1).update(Group(10, 5), Group(20, 2)).gap == pytest.approx(0.4)


def test_ratio_is_the_relative_test_both_ways() -> None:
    """log E = ln of the mean of two relative tests with the groups as arms (decision.md §2, §5)."""
    gap = RatioGap(1.25).update(Group(300, 60), Group(500, 40), gamma=0.9, theta_a=0.01)
    over = relative_increments(300, 60, 500, 40, rho0=1.25, theta_c=0.01)
    under = relative_increments(500, 40, 300, 60, rho0=1.25, theta_s=0.01)
    both = [math.log(0.9 * math.exp(float(log_mean_exp(one))) + 0.1) for one in (over, under)]
    assert gap.log_e == pytest.approx(np.logaddexp(both[0], both[1]) - math.log(2))
    assert gap.update(Group(), Group(500, 500), gamma=0.05).log_e == gap.log_e, "no items, no evidence"
    free = RatioGap(1.25).update(Group(300, 60), Group(500, 40), gamma=0.9)
    capped = RatioGap(1.25).update(Group(300, 60), Group(500, 40), gamma=0.9, cap=1.0)
    assert capped.log_e < 1.0 < free.log_e


def test_four_fifths_rule() -> None:
    """Selection rates 0.30 and 0.15 differ by more than 1.25 either way; 0.30 and 0.25 do not. Expected counts."""
    third, half, near = Group(1000, 300), Group(1000, 150), Group(1000, 250)
    for a, b in ((third, half), (half, third)):
        assert RatioGap(1.25).update(a, b, gamma=1.0).log_e >= LN20
    assert RatioGap(1.25).update(third, near, gamma=1.0).log_e < 0


def test_ratio_false_alarms_simulated() -> None:
    """Rates exactly a factor 1.25 apart, 30 intervals: P(ever E ≥ 20) ≤ 5 %. 150 runs, seeded."""
    rng = np.random.default_rng(12)
    false = 0
    for _ in range(150):
        gap = RatioGap(1.25)
        for t in range(30):
            rate = 0.1 * rng.gamma(5, 0.2)
            a, b = (Group(n, rng.binomial(n, p)) for n, p in ((40, min(1.0, 1.25 * rate)), (80, min(1.0, rate))))
            gap = gap.update(a, b, gamma=0.9 if t == 0 else 0.1 / 29)
        false += gap.log_e >= LN20
    assert false <= 0.05 * 150


@given(pairs=pairs, later=st.tuples(groups, groups))
def test_state_round_trip(pairs: list[tuple[Group, Group]], later: tuple[Group, Group]) -> None:
    """Bit for bit through JSON, and on to the same bits."""
    difference, ratio = DifferenceGap(0.1), RatioGap(1.25)
    for a, b in pairs:
        difference, ratio = difference.update(a, b), ratio.update(a, b, gamma=0.2, theta_b=0.01)
    first = DifferenceGap.from_state(json.loads(json.dumps(difference.to_state())), 0.1)
    second = RatioGap.from_state(json.loads(json.dumps(ratio.to_state())), 1.25)
    assert (first, second) == (difference, ratio)
    assert first.update(*later).to_state() == difference.update(*later).to_state()
    assert second.update(*later, gamma=0.1).to_state() == ratio.update(*later, gamma=0.1).to_state()


@pytest.mark.parametrize("damage", ["", "1:", "1:AAAA", "2:", "nonsense", "1:AAAAAAAA+H8AAAAAAAD4fw=="])
def test_foreign_state_is_refused(damage: str) -> None:
    """A state of another version or a damaged one raises ValueError."""
    with pytest.raises(ValueError):
        DifferenceGap.from_state(damage, 0.1)
    with pytest.raises(ValueError):
        RatioGap.from_state(damage, 1.25)


def test_impossible_inputs_are_refused() -> None:
    """Bounds without meaning, more events than items."""
    for d in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            DifferenceGap(d)
    for ratio in (0.8, math.inf, math.nan):
        with pytest.raises(ValueError, match="at least 1"):
            RatioGap(ratio)
    for items, events in ((1, 2), (-1, -1), (math.inf, 1), (1, math.nan)):
        with pytest.raises(ValueError, match="0 ≤ events ≤ items"):
            Group(items, events)
