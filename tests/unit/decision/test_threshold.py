"""The threshold judge: windows compared with a bound, as Argo Rollouts and Flagger do (decision.md's peers)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeployment.api.rollout import Counting
from modeldeployment.api.status import Verdict
from modeldeployment.decision.arms import Counts, Interval
from modeldeployment.decision.threshold import ThresholdPlan, ThresholdState

BAD = Interval({"a": Counts(60, 3, 3), "b": Counts(40, 0, 0)})
GOOD = Interval({"a": Counts(100, 1, 1)})
FEW = Interval({"a": Counts(10, 9, 9)})
BETWEEN = Interval({"a": Counts(100, 0, 5)})
NOTHING = Interval()


def after(plan: ThresholdPlan, *intervals: Interval) -> ThresholdState:
    """The state after these intervals, bound 1 %."""
    state = ThresholdState(0.01, plan)
    for interval in intervals:
        state = state.update(interval)
    return state


@pytest.mark.parametrize(
    ("counting", "failures", "intervals", "verdict"),
    [
        (Counting.CONSECUTIVE, 1, [BAD], Verdict.FAIL),
        (Counting.CONSECUTIVE, 2, [BAD, GOOD, BAD], Verdict.INCONCLUSIVE),
        (Counting.CUMULATIVE, 2, [BAD, GOOD, BAD], Verdict.FAIL),
        (Counting.CONSECUTIVE, 2, [BAD, NOTHING, BAD], Verdict.FAIL),
        (Counting.CONSECUTIVE, 2, [BAD, FEW, FEW], Verdict.INCONCLUSIVE),
        (Counting.CONSECUTIVE, 1, [NOTHING, FEW, BETWEEN], Verdict.INCONCLUSIVE),
        (Counting.CONSECUTIVE, 1, [GOOD], Verdict.PASS),
        (Counting.CONSECUTIVE, 3, [GOOD, BAD], Verdict.INCONCLUSIVE),
    ],
    ids=[
        "one is enough",
        "a passed window forgets",
        "a passed window does not forget",
        "no data does not forget",
        "too few samples do not add up",
        "no data, too few, between edges: nothing",
        "at the bound is kept",
        "a failed window ends a row of passes",
    ],
)
def test_windows(counting: Counting, failures: int, intervals: list[Interval], verdict: Verdict) -> None:
    """x/n > bound fails a window of n ≥ min_samples requests; else it passes. Shares per request.

    No validity over several looks is claimed: that is what Sequential is for.
    """
    plan = ThresholdPlan(window=1, min_samples=100, failures=failures, counting=counting)
    assert after(plan, *intervals).verdict is verdict


def test_window_adds_up_intervals() -> None:
    """A window is `window` intervals of the schedule, gaps included, and its counts add up over pods."""
    plan = ThresholdPlan(window=3, min_samples=200)
    assert after(plan, BAD, BAD).last is Verdict.INCONCLUSIVE
    state = after(plan, BAD, BAD, NOTHING)
    assert (state.last, state.last_counts, state.counts) == (Verdict.FAIL, Counts(200, 6, 6), Counts())
    assert after(plan, BAD, Interval(BAD.canary, length=2)).last is Verdict.FAIL


def test_passes_in_a_row_since_the_step_began() -> None:
    """A step passes after `passes` windows in a row; a new step starts its own row, failures go on."""
    plan = ThresholdPlan(window=1, min_samples=100, failures=2, passes=2, counting=Counting.CUMULATIVE)
    state = after(plan, BAD, GOOD, GOOD)
    assert state.verdict is Verdict.PASS
    assert state.begin_step().verdict is Verdict.INCONCLUSIVE
    assert state.begin_step().update(BAD).verdict is Verdict.FAIL
    assert after(plan, GOOD, FEW, GOOD).verdict is Verdict.PASS


@given(st.lists(st.sampled_from([BAD, GOOD, FEW, BETWEEN, NOTHING]), max_size=20), st.sampled_from(Counting))
def test_state_round_trip(intervals: list[Interval], counting: Counting) -> None:
    """The state as text comes back equal, and is small."""
    plan = ThresholdPlan(window=2, min_samples=100, failures=2, counting=counting)
    state = after(plan, *intervals)
    text = state.to_state()
    assert ThresholdState.from_state(text, 0.01, plan) == state and len(text) < 200


@given(st.lists(st.sampled_from([NOTHING, FEW, BETWEEN]), max_size=30))
def test_absence_neither_fails_nor_passes(intervals: list[Interval]) -> None:
    """Whatever is missing, nothing is decided."""
    plan = ThresholdPlan(window=1, min_samples=100)
    assert after(plan, *intervals).verdict is Verdict.INCONCLUSIVE


def test_refusals() -> None:
    """Impossible plans and foreign states are refused in words."""
    with pytest.raises(ValueError, match="at least 1"):
        ThresholdPlan(window=0)
    with pytest.raises(ValueError, match="another version"):
        ThresholdState.from_state("2:[]", 0.01, ThresholdPlan(window=1))
    for damaged in ("1:[1,2]", "1:5", "1:", '1:[1,0,0,"Pass",1,2]', '1:[1,0,0,"Maybe",1,0,0,1,0,0]'):
        with pytest.raises(ValueError):
            ThresholdState.from_state(damaged, 0.01, ThresholdPlan(window=1))
