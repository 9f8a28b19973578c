"""The other judge: each window compared with its bound, as Argo Rollouts and Flagger do.

It promises no error bound (decision.md: a good canary is rolled back in up to 100 % of rollouts); it is for who asks
for it. A window of `window` intervals fails when its rate is above the bound, and passes when it is not; with fewer
than `min_samples` requests, or a latency between two edges, it says nothing: it neither adds to failures nor
breaks a row. Missing data is never a failure.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Final

from modeldeployment.api.rollout import Counting
from modeldeployment.api.status import Verdict
from modeldeployment.decision.arms import Counts, Interval

_VERSION: Final = "1"


@dataclass(frozen=True, slots=True)
class ThresholdPlan:
    """How windows are judged.

    `window`: its length in intervals. `min_samples`: requests of the canary that a window needs. `failures`: failed
    windows that roll back. `passes`: passed windows in a row that pass a step.
    """

    window: int
    min_samples: int = 1
    failures: int = 1
    passes: int = 1
    counting: Counting = Counting.CONSECUTIVE

    def __post_init__(self) -> None:
        if min(self.window, self.min_samples, self.failures, self.passes) < 1:
            raise ValueError(f"a threshold plan's numbers must be at least 1: {self}")


@dataclass(frozen=True, slots=True)
class ThresholdState:
    """The window under way, and what the closed ones said.

    `elapsed`: intervals in the window under way. `failures`: failed windows that count. `passes`: passed windows in
    a row since the step began. `last`: what the last closed window said, and `last_counts` on which numbers.
    """

    bound: float
    plan: ThresholdPlan
    elapsed: int = 0
    counts: Counts = field(default_factory=Counts)
    failures: int = 0
    passes: int = 0
    last: Verdict = Verdict.INCONCLUSIVE
    last_counts: Counts = field(default_factory=Counts)

    def update(self, interval: Interval) -> ThresholdState:
        """One interval; the window closes when it has lasted long enough, gaps included."""
        counts = sum(interval.canary.values(), self.counts)
        elapsed = self.elapsed + interval.length
        if elapsed < self.plan.window:
            return replace(self, elapsed=elapsed, counts=counts)
        closed = replace(self, elapsed=0, counts=Counts(), last_counts=counts, last=self._window(counts))
        match closed.last:
            case Verdict.FAIL:
                return replace(closed, failures=self.failures + 1, passes=0)
            case Verdict.PASS:
                forget = self.plan.counting is Counting.CONSECUTIVE
                return replace(closed, failures=0 if forget else self.failures, passes=self.passes + 1)
            case Verdict.INCONCLUSIVE:
                return closed

    def begin_step(self) -> ThresholdState:
        """A new step: a new window, and its own passes; failures go on counting."""
        return replace(self, elapsed=0, counts=Counts(), passes=0)

    @property
    def verdict(self) -> Verdict:
        """Fail once enough windows failed; Pass once enough passed in a row since the step began."""
        if self.failures >= self.plan.failures:
            return Verdict.FAIL
        return Verdict.PASS if self.passes >= self.plan.passes else Verdict.INCONCLUSIVE

    def _window(self, counts: Counts) -> Verdict:
        if counts.n < self.plan.min_samples:
            return Verdict.INCONCLUSIVE
        if counts.low > self.bound * counts.n:
            return Verdict.FAIL
        return Verdict.PASS if counts.high <= self.bound * counts.n else Verdict.INCONCLUSIVE

    def to_state(self) -> str:
        """The state as "1:" and JSON."""
        counts = [v for c in (self.counts, self.last_counts) for v in (c.n, c.low, c.high)]
        return f"{_VERSION}:{json.dumps([self.elapsed, self.failures, self.passes, self.last.value, *counts])}"

    @classmethod
    def from_state(cls, state: str, bound: float, plan: ThresholdPlan) -> ThresholdState:
        """Inverse of to_state; ValueError for a state of another version or a damaged one."""
        version, _, body = state.partition(":")
        if version != _VERSION:
            raise ValueError(f"state of version {version!r}: written by another version")
        try:
            elapsed, failures, passes, last, *c = json.loads(body)
            counts, last_counts = Counts(*c[:3]), Counts(*c[3:])
        except TypeError as error:
            raise ValueError(f"state is damaged: {error}") from error
        return cls(bound, plan, elapsed, counts, failures, passes, Verdict(last), last_counts)
