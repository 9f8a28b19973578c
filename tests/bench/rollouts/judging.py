"""The other judge, on the counts that the operator judged too: each minute's share of errors against the bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from modeldeployment.decision.evidence import Delta, Interval

LIMITS: Final = (0, 1, 3, 5)
"""How many broken windows are still allowed: Argo Rollouts' failureLimit; Flagger's threshold is one more."""
LEVEL: Final = 0.95


@dataclass(frozen=True)
class Counts:
    """Requests, and how many of them failed."""

    requests: int = 0
    errors: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.requests + other.requests, self.errors + other.errors)

    @classmethod
    def of(cls, pods: Iterable[Delta]) -> Counts:
        """Of an arm, in one interval."""
        return sum((cls(pod.requests, pod.errors or 0) for pod in pods), cls())

    @property
    def share(self) -> float:
        """Errors among the requests; 0 without any."""
        return self.errors / self.requests if self.requests else 0.0


@dataclass(frozen=True)
class Recorded:
    """A rollout's intervals from the canary's first request on, up to an instant."""

    intervals: tuple[Interval, ...]

    @classmethod
    def until(cls, intervals: Iterable[Interval], end: datetime) -> Recorded:
        """Without those before the canary had traffic, and those that end after `end`."""
        within = [interval for interval in intervals if interval.end <= end]
        first = next((i for i, interval in enumerate(within) if Counts.of(interval.trial.values()).requests), None)
        return cls(tuple(within[first:]) if first is not None else ())

    @property
    def canary(self) -> Counts:
        """All that the canary did."""
        return sum((Counts.of(interval.trial.values()) for interval in self.intervals), Counts())

    @property
    def stable(self) -> Counts:
        """All that the stable version did meanwhile."""
        return sum((Counts.of(interval.control.values()) for interval in self.intervals), Counts())

    def windows(self, seconds: float) -> list[Counts]:
        """The canary's counts in whole windows, one after the other from its first interval on.

        An interval belongs to the window in which it ends. A window that is under way at the end is none.
        """
        if not self.intervals:
            return []
        start = self.intervals[0].start
        whole = math.floor(_passed(start, self.intervals[-1].end) / seconds)
        windows = [Counts() for _ in range(whole)]
        for interval in self.intervals:
            number = math.ceil(_passed(start, interval.end) / seconds) - 1
            if number < whole:
                windows[number] += Counts.of(interval.trial.values())
        return windows


def _passed(start: datetime, end: datetime) -> float:
    return round((end - start).total_seconds(), 3)


def broken(windows: Sequence[Counts], bound: float) -> list[int]:
    """Numbers, from 0, of the windows whose share is above the bound; one without requests breaks nothing."""
    return [number for number, window in enumerate(windows) if window.share > bound]


def rolled_back_in(windows: Sequence[Counts], bound: float, limit: int) -> int | None:
    """Number of the window in which more than `limit` have broken the bound; None: never."""
    over = broken(windows, bound)
    return over[limit] if len(over) > limit else None


def exact_interval(hits: int, runs: int, level: float = LEVEL) -> tuple[float, float]:
    """Two-sided interval of a share (Clopper & Pearson 1934): what is in it, neither tail of the binomial refutes."""
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else _root(lambda p: 1 - _at_most(hits - 1, runs, p) - tail)
    high = 1.0 if hits == runs else _root(lambda p: tail - _at_most(hits, runs, p))
    return low, high


def _at_most(hits: int, runs: int, p: float) -> float:
    """P(X ≤ hits), X binomial."""
    return math.fsum(math.comb(runs, k) * p**k * (1 - p) ** (runs - k) for k in range(hits + 1))


def _root(rising: Callable[[float], float]) -> float:
    """Where a rising function of [0, 1] is 0, by halving."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2
