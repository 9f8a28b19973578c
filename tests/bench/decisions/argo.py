"""Argo Rollouts' AnalysisRun of one metric, for many rollouts at once.

Follows argo-rollouts at 9f8d111 (August 2026): `analysis/analysis.go`, `utils/evaluate`,
`metricproviders/prometheus`, `rollout/analysis.go`. A measurement is Successful, Failed, Inconclusive or an Error;
limits are exceeded, not reached. A Failed or Error run aborts the rollout; an Inconclusive one pauses it, and never
rolls it back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.decisions.ours import NEVER, Looks
from bench.decisions.scenarios import Bools, Floats
from bench.decisions.windows import LOOK, Answer, Answers, looks

Condition = Callable[[Floats], Bools]
"""successCondition or failureCondition on result[0]. Comparing with NaN is false."""


class Phase(IntEnum):
    """Of a measurement, and of a run."""

    RUNNING = 0
    SUCCESSFUL = 1
    FAILED = 2
    INCONCLUSIVE = 3
    ERROR = 4


ERROR_RETRY: Final = 10.0
"""Seconds until a measurement in Error is taken again, whatever the interval."""

Phases = NDArray[np.int8]


def measure(
    answers: Answers, success: Condition | None = None, failure: Condition | None = None, *, guarded: bool = False
) -> Phases:
    """The phase of each measurement.

    Success condition only: false is Failed, so NaN is. Failure condition only: false is Successful, so NaN is. Both:
    failure wins, neither is Inconclusive, so NaN is. None: Successful. `result[0]` of an empty vector, as a failing
    query, is an Error. `guarded`: the conditions begin with `len(result) == 0 || isNaN(result[0]) ||`, as the
    documentation shows, so that no data is a success.
    """
    # Conditions are true or false of any value; whether they were asked at all is decided below.
    no = np.zeros(answers.value.shape, dtype=bool)
    succeeded = success(answers.value) if success else no
    failed = failure(answers.value) if failure else no
    neither = Phase.INCONCLUSIVE if success and failure else Phase.FAILED if success else Phase.SUCCESSFUL
    phase = np.where(failed, Phase.FAILED, np.where(succeeded, Phase.SUCCESSFUL, neither))
    phase = np.where(answers.kind == Answer.VALUE, phase, Phase.ERROR)
    if guarded:
        nothing = (answers.kind == Answer.EMPTY) | ((answers.kind == Answer.VALUE) & np.isnan(answers.value))
        phase = np.where(nothing, Phase.SUCCESSFUL, phase)
    return phase.astype(np.int8)


@dataclass(frozen=True)
class Metric:
    """A metric's settings; defaults as Argo's, but for `interval`, which has none: without it, one measurement.

    Attributes:
        interval, initial_delay: seconds.
        failure_limit, inconclusive_limit, consecutive_error_limit: how many are still allowed; failure -1: any number.
        consecutive_success_limit: so many successes in a row end the run as Successful; 0: off.
        count: so many measurements, errors left out, end the run; None: endless with an interval, else one.
    """

    interval: float | None = 60.0
    initial_delay: float = 0.0
    failure_limit: int = 0
    inconclusive_limit: int = 0
    consecutive_error_limit: int = 4
    consecutive_success_limit: int = 0
    count: int | None = None


class Outcome(NamedTuple):
    """Phase of the run when it was ended or, still going at the last look, terminated; and the look it ended at."""

    phase: Phases
    look: Looks

    @property
    def aborted(self) -> Looks:
        """Look of the rollback; Inconclusive only pauses."""
        bad = (self.phase == Phase.FAILED) | (self.phase == Phase.ERROR)
        return np.where(bad, self.look, NEVER)


@dataclass
class _Tally:
    """Counters of each run."""

    failed: NDArray[np.int64]
    inconclusive: NDArray[np.int64]
    errors: NDArray[np.int64]
    successes: NDArray[np.int64]
    count: NDArray[np.int64]

    @classmethod
    def new(cls, runs: int) -> _Tally:
        return cls(*(np.zeros(runs, dtype=np.int64) for _ in range(5)))

    def add(self, due: Bools, phase: Phases) -> None:
        """One measurement of the runs that are due."""
        error = due & (phase == Phase.ERROR)
        ok = due & ~error
        success = ok & (phase == Phase.SUCCESSFUL)
        self.errors = np.where(error, self.errors + 1, np.where(ok, 0, self.errors))
        self.failed += ok & (phase == Phase.FAILED)
        self.inconclusive += ok & (phase == Phase.INCONCLUSIVE)
        self.successes = np.where(success, self.successes + 1, np.where(due, 0, self.successes))
        self.count += ok

    def assess(self, metric: Metric, count: int | None) -> Phases:
        """Phase of each run after its last measurement."""
        applies = metric.failure_limit >= 0
        phase = np.zeros(len(self.count), dtype=np.int8)
        if count is not None:
            both = applies and metric.consecutive_success_limit > 0
            end = Phase.INCONCLUSIVE if both else Phase.SUCCESSFUL if applies else Phase.FAILED
            phase[self.count >= count] = end
        if metric.consecutive_success_limit:
            phase[self.successes >= metric.consecutive_success_limit] = Phase.SUCCESSFUL
        if applies:
            phase[self.failed > metric.failure_limit] = Phase.FAILED
        phase[self.inconclusive > metric.inconclusive_limit] = Phase.INCONCLUSIVE
        phase[self.errors > metric.consecutive_error_limit] = Phase.ERROR
        return phase


def run(phases: Phases, metric: Metric) -> Outcome:
    """The run over measurements as they would be at each look: (runs, looks), LOOK seconds apart.

    One that goes on to the end is terminated, and Successful then: even if it never measured anything.
    """
    runs, end = phases.shape
    count = metric.count if metric.count is not None or metric.interval else 1
    # Look 0 is one interval after the start: a delay of that much is no further wait.
    following = np.full(runs, max(0, looks(metric.initial_delay) - 1))
    tally, phase = _Tally.new(runs), np.zeros(runs, dtype=np.int8)
    look = np.full(runs, end - 1)
    for t in range(end):
        due = (phase == Phase.RUNNING) & (following <= t)
        if not due.any():
            continue
        tally.add(due, phases[:, t])
        now = tally.assess(metric, count)
        ended = due & (now != Phase.RUNNING)
        phase[ended], look[ended] = now[ended], t
        wait = np.where(phases[:, t] == Phase.ERROR, looks(ERROR_RETRY), looks(metric.interval or LOOK))
        following = np.where(due, t + wait, following)
    phase[phase == Phase.RUNNING] = Phase.SUCCESSFUL
    return Outcome(phase, look)
