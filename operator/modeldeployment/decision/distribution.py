"""A whole latency distribution of the canary against stable's: are the shares of the buckets the same?

Informs, never fails: it rejects improvements too. Null: within each interval, both arms draw from the same shares
p_1…p_K of K shared buckets, whatever these are; they may change from interval to interval. With ratios r_k of the
canary's share to stable's, chosen from EARLIER intervals, one interval with counts c_k (canary) and s_k (stable) gives

    log e = Σ_k c_k·s(r_k·v_k, b_c) + s_k·s(v_k, b_s),   n_c·κ(r_k·v_k, b_c) + n_s·κ(v_k, b_s) = 0,   b = n·θ

one relative kernel a bucket (kernel.py), and log E is the sum over intervals. At θ = 0, v_k = 1/(w·r_k + 1 − w), w =
n_c/(n_c + n_s), and e is the e-variable of Turner, Ly & Grünwald ("Generic E-variables for exact sequential k-sample
tests that allow for optional stopping", JSPI 2024), Π (p_a/p_0)^c·(p_b/p_0)^s with p_0 = w·p_a + (1 − w)·p_b.

Why E[e] ≤ 1: a multinomial's E[Π a_k^{x_k}] = (Σ p_k·a_k)^n is at most exp(n·Σ p_k·(a_k − 1)), that of independent
Poisson counts. With shares drawn anew each interval from a Dirichlet of mean p and ICC/(1−ICC) ≤ θ it is at most that
of independent gamma-Poisson counts, since a Dirichlet is independent gammas over their sum, which is independent of
it and has mean 1 (Jensen). So E[e] ≤ exp(Σ_k p_k·g_k(v_k)) = 1, for any p and any positive ratios.

Ratios: the Mantel-Haenszel ratio of each bucket over earlier intervals, which compares like times with like whatever
the weights and the drift, shrunk towards 1 with the weight of A requests:

    r_k = (R_k + A·q_k)/(Q_k + A·q_k),  R_k = Σ c_k·n_s/(n_c+n_s),  Q_k = Σ s_k·n_c/(n_c+n_s),  q_k ∝ R_k + Q_k + ½

A = 10, 100, 1000, 10000, and E is the mean over A: small A finds large shifts soon, large A small ones later.
The first interval is never evidence.

Valid when, given the shared shares, arms and intervals are independent, and requests within an arm and interval are so
(θ = 0) or vary together as above; latencies that come in bursts within one arm need a θ. Counts must be of the same
edges in both arms. Units: requests; results are natural logarithms. Memory: 2K + 4 numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from modeldeployment.decision import kernel
from modeldeployment.decision.kernel import Array
from modeldeployment.decision.packing import pack, unpack

SHRINKAGES: Final = (10.0, 100.0, 1000.0, 10000.0)
"""A: requests' worth of belief that both arms are the same."""

_PRIOR: Final = 0.5
"""What an empty bucket counts (Krichevsky & Trofimov 1981), so that no ratio is 0 or infinite."""

_VERSION: Final = "1"


class Shift(NamedTuple):
    """Where the distributions differ most: shares of requests slower than bucket `bucket`'s upper edge (from 0)."""

    bucket: int
    canary: float
    stable: float


@dataclass(frozen=True, slots=True)
class DistributionTest:
    """log E of each shrinkage, and the Mantel-Haenszel sums R_k and Q_k of each bucket. A value."""

    canary: tuple[float, ...]
    stable: tuple[float, ...]
    log_l: tuple[float, ...] = (0.0,) * len(SHRINKAGES)

    @classmethod
    def start(cls, buckets: int) -> DistributionTest:
        """Nothing seen, for this number of buckets. ValueError below 2: one bucket holds everything."""
        if buckets < 2:
            raise ValueError(f"a distribution needs at least 2 buckets, not {buckets}")
        return cls((0.0,) * buckets, (0.0,) * buckets)

    def update(
        self, canary: ArrayLike, stable: ArrayLike, *, theta_c: float = 0.0, theta_s: float = 0.0
    ) -> DistributionTest:
        """One interval: counts of each bucket, not cumulative, shape (K,). An arm without requests: unchanged.

        ValueError for another number of buckets or a negative count.
        """
        c, s = (np.asarray(counts, dtype=np.float64) for counts in (canary, stable))
        if not (c.shape == s.shape == (len(self.canary),)):
            raise ValueError(f"{c.shape} and {s.shape} buckets, where {len(self.canary)} are tested: start anew")
        if not np.all((c >= 0) & (s >= 0) & np.isfinite(c + s)):
            raise ValueError("counts of buckets must be finite and not negative")
        n_c, n_s = float(c.sum()), float(s.sum())
        if not (n_c > 0 and n_s > 0):
            return self
        b_c, b_s = n_c * theta_c, n_s * theta_s
        r = self._ratios()
        v = kernel.solve_tilt(r, n_c, n_s, b_c, b_s, 1.0)
        increments = (c * kernel.s(r * v, b_c) + s * kernel.s(v, b_s)).sum(axis=-1)
        return DistributionTest(
            tuple((np.asarray(self.canary) + c * n_s / (n_c + n_s)).tolist()),
            tuple((np.asarray(self.stable) + s * n_c / (n_c + n_s)).tolist()),
            tuple((np.asarray(self.log_l) + increments).tolist()),
        )

    def _ratios(self) -> Array:
        """r_k of each shrinkage: shape (4, K)."""
        canary, stable = np.asarray(self.canary), np.asarray(self.stable)
        shares = canary + stable + _PRIOR
        belief = np.asarray(SHRINKAGES)[:, None] * shares / shares.sum()
        ratios: Array = (canary + belief) / (stable + belief)
        return ratios

    @property
    def log_e(self) -> float:
        """Log of the mean over shrinkages: an e-process. Equality is rejected at level α when it reaches ln(1/α)."""
        return float(kernel.log_mean_exp(self.log_l))

    @property
    def shift(self) -> Shift | None:
        """The edge at which the shares of slower requests differ most (Kolmogorov-Smirnov); None before any data.

        Shares are of the same times in both arms, as the Mantel-Haenszel sums weigh them.
        """
        canary, stable = np.asarray(self.canary), np.asarray(self.stable)
        if not canary.sum() > 0:
            return None
        slower = [1 - np.cumsum(sums)[:-1] / sums.sum() for sums in (canary, stable)]
        at = int(np.argmax(np.abs(slower[0] - slower[1])))
        return Shift(at, float(slower[0][at]), float(slower[1][at]))

    def to_state(self) -> str:
        """Every number bit for bit."""
        return pack(_VERSION, (*self.log_l, *self.canary, *self.stable))

    @classmethod
    def from_state(cls, state: str, buckets: int) -> DistributionTest:
        """Inverse of to_state; ValueError for a state of another version, of other buckets, or a damaged one."""
        f, at, new = unpack(state, _VERSION), len(SHRINKAGES), cls.start(buckets)
        if len(f) != at + 2 * buckets:
            raise ValueError(f"state of {len(f)} numbers, not {at + 2 * buckets}: of other buckets or another version")
        return replace(new, canary=f[at : at + buckets], stable=f[at + buckets :], log_l=f[:at])


def bucket_counts(cumulative: Mapping[float, float], edges: Sequence[float]) -> Array:
    """Counts between neighbouring edges, from cumulative counts at least at these edges: shape (len(edges),).

    `edges` rise and end with +Inf (latency.shared_edges, sorted). Never negative: where scrapes of one histogram
    disagree, a falling cumulative count is held at the largest before it.
    """
    counts = np.diff(np.maximum.accumulate([cumulative[edge] for edge in edges]), prepend=0.0)
    return np.asarray(counts, dtype=np.float64)
