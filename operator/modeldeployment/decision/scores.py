"""Bounded scores: is their mean below what was asked, or proven above it? By betting on each score.

A score y lies in [low, high] whatever happens (a rating, a similarity, 0/1 for a wrong/right answer). Against

- Fail side, null "mean ≥ m":   L_j ← L_j · (1 + f_j·(m − y)/(high − m))
- Pass side, null "mean ≤ m":   L_j ← L_j · (1 + f_j·(y − m)/(m − low))

with f = 1/16, 1/8, 1/4, 1/2, 7/8 of the largest bet that can never lose everything, E = mean over f (decision.md §5).
Each factor is positive and has expectation ≤ 1 under its null, so E is an e-process and P(ever E ≥ 1/α) ≤ α (Ville
1939; the capital process of Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting", JRSS-B
2024, with a grid of constant bets in place of an adaptive one: any mixture of bets is valid).

Valid when, given all earlier scores, the mean of the next one is on the null's side; its distribution may change, and
nothing is asked of its variance. So independent scores of one mean will do. What breaks it: scores that come in
clusters (sessions, users, bursts), where one bad cluster counts as many bad scores. Bet once on each cluster's mean.

The factors do not depend on the past, so scores may be fed one by one or in any grouping, and 0/1 scores as counts.
For shares of bad requests above 10 % this is the test to use (`rate_null`): the kernel of kernel.py is conservative by
about 1 − p there. Units: scores in their own unit, results natural logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from modeldeployment.decision.kernel import Array, log_mean_exp
from modeldeployment.decision.packing import pack, unpack

FRACTIONS: Final = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 7 / 8)
"""f_j: what part of the largest safe bet each path of capital stakes. The worst score leaves 1 − f_j of it."""

_VERSION: Final = "1"


class Side(StrEnum):
    """What a test of scores can prove."""

    FAIL = "Fail"
    """Null: mean ≥ m. Proves that scores are too low."""
    PASS = "Pass"
    """Null: mean ≤ m. Proves that scores are high enough."""


@dataclass(frozen=True, slots=True)
class ScoreNull:
    """What is to be disproven of scores in [low, high]; `mean` is m. ValueError where no score could disprove it."""

    mean: float
    low: float
    high: float
    side: Side

    def __post_init__(self) -> None:
        inside = self.low <= self.mean < self.high if self.side is Side.FAIL else self.low < self.mean <= self.high
        if not inside or not math.isfinite(self.high - self.low):
            raise ValueError(f"a {self.side} test needs low ≤ mean ≤ high, and room beyond the mean: {self}")

    def increments(self, y: ArrayLike) -> Array:
        """ln(1 + f·(m − y)/(high − m)), or its mirror, for each of FRACTIONS: shape (..., 5) for y of shape (...)."""
        y = np.asarray(y, dtype=np.float64)
        if not np.all((y >= self.low) & (y <= self.high)):  # NaN too
            raise ValueError(f"scores must lie in [{self.low:g}, {self.high:g}]; what is not a number is left out")
        if self.side is Side.FAIL:
            gain = (self.mean - y) / (self.high - self.mean)
        else:
            gain = (y - self.mean) / (self.mean - self.low)
        return np.log1p(np.asarray(FRACTIONS) * gain[..., None])


def rate_null(bound: float, side: Side, *, detectable: float = 1.0) -> ScoreNull:
    """The null of a share of bad requests, as scores 1 = good, 0 = bad: see ScoreTest.update_rate.

    Fail: share ≤ bound. Pass: share ≥ detectable × bound, which must be below 1 (decision.md §3). Requests must be
    independent within an interval; if they come in bursts, bet on each interval's share of good requests instead.
    """
    share = bound if side is Side.FAIL else detectable * bound
    if not 0 < share < 1:
        raise ValueError(f"a share of {share:g} bad requests cannot be tested: it must lie between 0 and 1")
    return ScoreNull(1 - share, 0.0, 1.0, side)


@dataclass(frozen=True, slots=True)
class ScoreTest:
    """ln L_j for each of FRACTIONS, and on how many scores (or clusters) they bet. Updates return a new one."""

    null: ScoreNull
    log_l: tuple[float, ...] = (0.0,) * len(FRACTIONS)
    bets: float = 0.0

    @property
    def log_e(self) -> float:
        """Log of the mean over the bets: an e-process. The null is rejected at level α when it reaches ln(1/α)."""
        return float(log_mean_exp(self.log_l))

    def update(self, scores: ArrayLike) -> ScoreTest:
        """One score, or an array of them in any shape, each a bet. ValueError for a score out of range or NaN."""
        y = np.asarray(scores, dtype=np.float64).ravel()
        return self._add(self.null.increments(y).sum(axis=0), y.size)

    def update_counts(self, values: ArrayLike, counts: ArrayLike) -> ScoreTest:
        """Scores that take few values: how often each came. As if fed one by one. ValueError for a negative count."""
        counts = np.asarray(counts, dtype=np.float64)
        if not np.all((counts >= 0) & (counts < math.inf)):
            raise ValueError(f"counts of scores must be finite and not negative: {counts.tolist()}")
        return self._add(counts @ self.null.increments(values), float(counts.sum()))

    def update_rate(self, n: float, x: float) -> ScoreTest:
        """n requests, x of them bad (all of them where x > n), under a `rate_null`."""
        bad = min(x, n)
        return self.update_counts((0.0, 1.0), (bad, n - bad))

    def update_clusters(self, clusters: Iterable[ArrayLike]) -> ScoreTest:
        """One bet for each cluster, on the mean of its scores; empty clusters are left out.

        Valid under any dependence within a cluster, when the mean of the next cluster's mean, given earlier
        clusters, is on the null's side. The mean tested is then that of clusters, each counting the same.
        """
        arrays = [y for cluster in clusters if (y := np.asarray(cluster, dtype=np.float64).ravel()).size]
        for y in arrays:
            self.null.increments(y)  # a score out of range is refused, also where the mean hides it
        # Rounding can put a mean of equal scores beyond them.
        return self.update([min(max(float(np.mean(y)), self.null.low), self.null.high) for y in arrays])

    def needed(self, values: ArrayLike, shares: ArrayLike, *, error: float) -> float | None:
        """Scores still needed until E ≥ 1/error, should `values` go on to come with these `shares`; None: never so.

        N = (ln(1/error) − log E)/G, G = max over f of Σ share·ln(factor): the growth of the best path of capital.
        """
        growth = float(np.max(np.asarray(shares, dtype=np.float64) @ self.null.increments(values)))
        missing = math.log(1 / error) - self.log_e
        return max(0.0, missing) / growth if growth > 0 else None

    def _add(self, increments: Array, bets: float) -> ScoreTest:
        log_l = np.asarray(self.log_l) + increments
        return replace(self, log_l=tuple(log_l.tolist()), bets=self.bets + bets)

    def to_state(self) -> str:
        """Every number bit for bit; the null is configuration and not in it."""
        return pack(_VERSION, self.to_floats())

    @classmethod
    def from_state(cls, state: str, null: ScoreNull) -> ScoreTest:
        """Inverse of to_state; ValueError for a state of another version or a damaged one."""
        return cls.from_floats(unpack(state, _VERSION), null)

    def to_floats(self) -> tuple[float, ...]:
        """The state as FLOATS numbers."""
        return (*self.log_l, self.bets)

    @classmethod
    def from_floats(cls, numbers: tuple[float, ...], null: ScoreNull) -> ScoreTest:
        """Inverse of to_floats."""
        if len(numbers) != FLOATS:
            raise ValueError(f"state of {len(numbers)} numbers, not {FLOATS}: written by another version")
        return cls(null, numbers[:-1], numbers[-1])


FLOATS: Final = len(FRACTIONS) + 1
"""How many numbers the state of a ScoreTest is."""
