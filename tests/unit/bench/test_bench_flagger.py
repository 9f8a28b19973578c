"""Flagger's metric checks, behaviour by behaviour, as its source has it (flagger 1.44.0, 15bd6ad)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.decisions.flagger import Analysis, Range, run, value_of
from bench.decisions.ours import NEVER
from bench.decisions.windows import Answer, Answers


def failing(*ticks: bool) -> np.ndarray:
    """Whether the metric fails at each tick of a minute: (1, looks); between ticks it always does."""
    looks = np.ones((1, 6 * len(ticks)), dtype=bool)
    looks[0, 5::6] = ticks
    return looks


def rolled_back(*ticks: bool, threshold: int = 1) -> tuple[int, int]:
    """Look of the rollback, and failed checks by then."""
    look, checks = run([failing(*ticks)], Analysis(threshold=threshold))
    return int(look[0]), int(checks[0])


def test_rolls_back_a_tick_after_the_check() -> None:
    """threshold 1: one failed check at minute 2, rollback at minute 3, before that tick's own check."""
    assert rolled_back(False, True, False, False) == (17, 1)
    assert rolled_back(True, True, True) == (11, 1)


def test_a_check_that_fails_at_the_last_tick_comes_too_late() -> None:
    """The rollback would be at the next tick."""
    assert rolled_back(False, False, True) == (NEVER, 1)


def test_failed_checks_add_up_and_success_resets_none() -> None:
    """threshold 3: three failures with successes between."""
    assert rolled_back(True, False, True, False, True, False, False, threshold=3) == (35, 3)
    assert rolled_back(True, False, True, False, False, threshold=3) == (NEVER, 2)


def test_the_first_tick_reads_no_metric() -> None:
    """The canary gets its weight then; the first check is a minute later: what fails in between is not seen."""
    looks = np.zeros((1, 18), dtype=bool)
    looks[0, :5] = True
    assert run([looks], Analysis())[0].tolist() == [NEVER]


def test_the_first_failing_metric_ends_the_tick() -> None:
    """Two metrics that fail at one tick add 1, not 2."""
    look, checks = run([failing(True, False, False), failing(True, False, False)], Analysis(threshold=2))
    assert (look.tolist(), checks.tolist()) == ([NEVER], [1])
    look, checks = run([failing(True, False, False), failing(False, True, False)], Analysis(threshold=2))
    assert (look.tolist(), checks.tolist()) == ([17], [2])


def test_interval_is_at_least_10_seconds() -> None:
    """1 s is 10 s."""
    looks = np.array([[False, True, False]])
    assert run([looks], Analysis(interval=1))[0].tolist() == [2]


@pytest.mark.parametrize(
    ("answer", "value", "fails"),
    [
        (Answer.VALUE, 99.5, False),
        (Answer.VALUE, 99.0, False),
        (Answer.VALUE, 98.9, True),
        (Answer.VALUE, math.nan, True),
        (Answer.EMPTY, math.nan, True),
        (Answer.ERROR, math.nan, True),
    ],
)
def test_what_fails_a_check(answer: Answer, value: float, fails: bool) -> None:
    """Below min; no value, NaN or a failing query: little traffic or an outage of Prometheus roll back."""
    answers = Answers(np.array([[answer]], dtype=np.int8), np.array([[value]]))
    assert Range(low=99).fails(answers).tolist() == [[fails]]


def test_max() -> None:
    """Above max fails, at it does not."""
    answers = Answers(np.zeros((1, 2), dtype=np.int8), np.array([[500.0, 500.1]]))
    assert Range(high=500).fails(answers).tolist() == [[False, True]]


def test_last_series_wins() -> None:
    """Of many series Flagger takes the last; of none, no value."""
    assert value_of([1.0, 2.0, 3.0]) == 3.0
    assert math.isnan(value_of([]))
