"""Flagger's analysis of a canary's metrics, for many rollouts at once.

Follows flagger at 15bd6ad (1.44.0, July 2026): `controller/scheduler.go`, `scheduler_metrics.go`,
`observers`, `providers/prometheus.go`. A failed check also holds the weight there; here weights are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.decisions.ours import NEVER, Looks
from bench.decisions.scenarios import Bools
from bench.decisions.windows import Answer, Answers, looks

INTERVAL_MIN: Final = 10.0


@dataclass(frozen=True)
class Range:
    """thresholdRange of one metric."""

    low: float | None = None
    high: float | None = None

    def fails(self, answers: Answers) -> Bools:
        """Below min, above max, no value or NaN, or the query failed: (runs, looks)."""
        with np.errstate(invalid="ignore"):
            below = answers.value < self.low if self.low is not None else np.zeros_like(answers.value, dtype=bool)
            above = answers.value > self.high if self.high is not None else np.zeros_like(answers.value, dtype=bool)
        return np.asarray(below | above | np.isnan(answers.value) | (answers.kind != Answer.VALUE))


def value_of(series: Sequence[float]) -> float:
    """What Flagger takes from a vector: the last one of many, though its comment says the first; NaN of none."""
    return series[-1] if series else float("nan")


@dataclass(frozen=True)
class Analysis:
    """Settings; defaults as Flagger's. `interval` (s) is at least 10."""

    interval: float = 60.0
    threshold: int = 1


def run(failing: Sequence[Bools], analysis: Analysis) -> tuple[Looks, NDArray[np.int64]]:
    """Look of the rollback, and failed checks by then. `failing`: each metric's at each look, in the spec's order.

    A tick an interval. The first sets the weight and reads no metric. A later one first rolls back if failed checks
    have reached the threshold; else it checks metrics in order up to the first failing one, which adds 1. A success
    never resets the count. So a rollback comes a tick after the check that caused it.
    """
    any_fails = np.logical_or.reduce(list(failing))
    runs, end = any_fails.shape
    checks, look = np.zeros(runs, dtype=np.int64), np.full(runs, NEVER)
    tick = looks(max(INTERVAL_MIN, analysis.interval))
    # The first tick is at the start, when the canary gets its weight; look 0 is one look later.
    for t in range(tick - 1, end, tick):
        running = look == NEVER
        back = running & (checks >= analysis.threshold)
        look[back] = t
        checks += running & ~back & any_fails[:, t]
    return look, checks
