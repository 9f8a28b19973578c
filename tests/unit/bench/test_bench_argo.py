"""Argo Rollouts' AnalysisRun, behaviour by behaviour, as its source has it (argo-rollouts 9f8d111)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from bench.decisions.argo import Metric, Outcome, Phase, measure, run
from bench.decisions.ours import NEVER
from bench.decisions.peers import within
from bench.decisions.scenarios import Bools, Floats
from bench.decisions.windows import Answer, Answers

OK, BAD, UNSURE, ERROR = Phase.SUCCESSFUL, Phase.FAILED, Phase.INCONCLUSIVE, Phase.ERROR
NAN = math.nan


def above(share: Floats) -> Bools:
    """A failureCondition: more than 5 %."""
    return np.asarray(share > 0.05)


def answers(*values: float | Answer) -> Answers:
    """Values, or an Answer without one, at successive looks."""
    kinds = [value if isinstance(value, Answer) else Answer.VALUE for value in values]
    numbers = [NAN if isinstance(value, Answer) else value for value in values]
    return Answers(np.array([kinds], dtype=np.int8), np.array([numbers]))


@pytest.mark.parametrize(
    ("success", "failure", "good", "between", "bad", "nan"),
    [
        (True, False, OK, BAD, BAD, BAD),
        (False, True, OK, OK, BAD, OK),
        (True, True, OK, UNSURE, BAD, UNSURE),
        (False, False, OK, OK, OK, OK),
    ],
)
def test_conditions(success: bool, failure: bool, good: Phase, between: Phase, bad: Phase, nan: Phase) -> None:
    """Success only: false fails, NaN too. Failure only: false succeeds, NaN too. Both: neither is Inconclusive."""
    found = measure(answers(0.001, 0.03, 0.2, NAN), within if success else None, above if failure else None)
    assert found.tolist() == [[good, between, bad, nan]]


def test_failure_wins() -> None:
    """Both conditions true: Failed."""
    found = measure(answers(0.2), success=lambda share: share > 0, failure=above)
    assert found.tolist() == [[BAD]]


def test_no_result_is_an_error() -> None:
    """`result[0]` of an empty vector, and a query that fails or times out."""
    assert measure(answers(Answer.EMPTY, Answer.ERROR), success=within).tolist() == [[ERROR, ERROR]]


def test_guards() -> None:
    """`len(result) == 0 || isNaN(result[0]) || …` makes no data a success; a failing query stays an Error."""
    found = measure(answers(Answer.EMPTY, NAN, Answer.ERROR, 0.5), success=within, guarded=True)
    assert found.tolist() == [[OK, OK, ERROR, BAD]]


def go(phases: Sequence[Phase], metric: Metric) -> Outcome:
    """One run over these measurements, one a look."""
    return run(np.array([phases], dtype=np.int8), metric)


def ended(phases: Sequence[Phase], **settings: object) -> tuple[Phase, int]:
    """Phase and look at the end, measured at every look unless said otherwise."""
    outcome = go(phases, Metric(**{"interval": 10.0, **settings}))  # type: ignore[arg-type]
    return Phase(int(outcome.phase[0])), int(outcome.look[0])


def test_failure_limit_is_exceeded_not_reached() -> None:
    """failureLimit 0 allows none; 2 allows two, cumulative: successes between do not reset it."""
    assert ended([OK, BAD, OK]) == (BAD, 1)
    assert ended([BAD, OK, BAD, OK, BAD, OK], failure_limit=2) == (BAD, 4)
    assert ended([BAD, OK, BAD, OK], failure_limit=2) == (OK, 3)
    assert ended([BAD] * 6, failure_limit=-1, consecutive_success_limit=1) == (OK, 5)


def test_inconclusive_limit() -> None:
    """0 by default: the first one ends the run as Inconclusive, which pauses and never rolls back."""
    assert ended([OK, UNSURE, OK]) == (UNSURE, 1)
    assert ended([UNSURE, OK, UNSURE], inconclusive_limit=1) == (UNSURE, 2)
    assert go([UNSURE], Metric(interval=10)).aborted.tolist() == [NEVER]


def test_consecutive_errors() -> None:
    """More than 4 in a row abort, as Failed does; anything else in between starts the count anew."""
    assert ended([ERROR] * 6) == (ERROR, 4)
    assert ended([*[ERROR] * 4, OK, *[ERROR] * 4]) == (OK, 8)
    assert ended([*[ERROR] * 4, OK, *[ERROR] * 5]) == (ERROR, 9)
    assert go([ERROR] * 6, Metric(interval=10)).aborted.tolist() == [4]


def test_errors_are_retried_every_10_seconds() -> None:
    """Whatever the interval: 40 s of Prometheus away abort a metric with an interval of 5 min."""
    phases = [OK, *[ERROR] * 40]
    phases[30] = ERROR
    # Measured at look 0 and look 30, then every look: the fifth error is at look 34.
    assert ended(phases, interval=300.0) == (ERROR, 34)


def test_interval() -> None:
    """What happens between measurements is not seen."""
    phases = [OK] * 13
    phases[5] = BAD
    assert ended(phases, interval=60.0) == (OK, 12)
    assert ended([*phases[:6], BAD, *phases[7:]], interval=60.0) == (BAD, 6)


def test_initial_delay() -> None:
    """Without it the first measurement is made at once, before there is traffic; look 0 is 10 s after the start."""
    phases = [BAD, BAD, BAD, *[OK] * 5]
    assert ended(phases) == (BAD, 0)
    assert ended(phases, initial_delay=40.0) == (OK, 7)
    assert ended(phases, initial_delay=30.0) == (BAD, 2)


def test_count() -> None:
    """So many measurements end the run as Successful; errors do not add to it. No interval and no count: one."""
    assert ended([OK] * 5, count=2) == (OK, 1)
    assert ended([OK, ERROR, ERROR, OK, OK], count=3) == (OK, 4)
    assert ended([OK, BAD, OK], count=2) == (BAD, 1)
    assert ended([OK, BAD], interval=None) == (OK, 0)
    assert ended([ERROR, OK, BAD], interval=None) == (OK, 1)


def test_consecutive_successes() -> None:
    """Reached in a row: Successful. At `count` without: Inconclusive if failureLimit applies too, else Failed."""
    assert ended([OK, BAD, OK, OK, BAD], consecutive_success_limit=2, failure_limit=-1) == (OK, 3)
    assert ended([OK, ERROR, OK, OK], consecutive_success_limit=2) == (OK, 3)
    assert ended([OK, BAD, OK], consecutive_success_limit=2, failure_limit=1, count=3) == (UNSURE, 2)
    assert ended([OK, BAD, OK], consecutive_success_limit=2, failure_limit=-1, count=3) == (BAD, 2)


def test_terminated() -> None:
    """An endless run that is stopped is Successful, even before it has measured anything."""
    assert ended([OK, OK]) == (OK, 1)
    assert ended([BAD] * 5, initial_delay=300.0) == (OK, 4)


def test_runs_do_not_touch_each_other() -> None:
    """Many runs at once, each with limits and times of its own."""
    phases = np.array([[OK, BAD, OK], [ERROR, OK, BAD], [OK, OK, OK]], dtype=np.int8)
    outcome = run(phases, Metric(interval=20))
    # The second is retried at look 1, next at look 3: it never sees its failure.
    assert outcome.phase.tolist() == [OK, OK, OK] and outcome.aborted.tolist() == [NEVER] * 3
    assert run(phases, Metric(interval=10)).aborted.tolist() == [1, 2, NEVER]
