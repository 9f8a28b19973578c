"""Rules that nobody publishes but everybody uses, for many rollouts at once."""

from __future__ import annotations

from statistics import NormalDist
from typing import Final

import numpy as np

from bench.decisions.ours import NEVER, Looks
from bench.decisions.scenarios import BOUND, Batch, Bools, Floats
from bench.decisions.windows import error_share, looks

LEVEL: Final = 0.05
MINUTE: Final = 60.0
FIVE_MINUTES: Final = 300.0


def first(over: Bools) -> Looks:
    """Index of the first true look of each rollout, NEVER without one."""
    return np.where(over.any(axis=1), over.argmax(axis=1), NEVER)


def windows_over(batch: Batch, failures: int, *, bound: float = BOUND) -> Looks:
    """Rolled back once more than `failures` whole minutes broke the bound; a minute without requests breaks none."""
    width = looks(MINUTE)
    share = error_share(batch, MINUTE).value[:, width - 1 :: width]
    with np.errstate(invalid="ignore"):
        broken = np.cumsum(share > bound, axis=1)
    minute = first(broken > failures)
    return np.where(minute == NEVER, NEVER, (minute + 1) * width - 1)


def peeked_z(batch: Batch, *, level: float = LEVEL) -> Looks:
    """Two proportions so far, pooled, one-sided, looked at every time as if it were the only one."""
    n_c, x_c, n_s, x_s = (np.cumsum(a, axis=1) for a in (*batch.canary.arm, *batch.stable.arm))
    with np.errstate(invalid="ignore", divide="ignore"):
        p = (x_c + x_s) / (n_c + n_s)
        z = (x_c / n_c - x_s / n_s) / np.sqrt(p * (1 - p) * (1 / n_c + 1 / n_s))
        return first(z > NormalDist().inv_cdf(1 - level))


def mann_whitney(batch: Batch, *, level: float = LEVEL) -> Looks:
    """Each 5 min: whether the canary's shares of bad requests per look are above stable's, one-sided."""
    canary, stable = (_shares(*arm) for arm in (batch.canary.arm, batch.stable.arm))
    width = looks(FIVE_MINUTES)
    z = np.stack(
        [_rank_sum_z(canary[:, i : i + width], stable[:, i : i + width]) for i in range(0, canary.shape[1], width)],
        axis=1,
    )
    window = first(z > NormalDist().inv_cdf(1 - level))
    return np.where(window == NEVER, NEVER, (window + 1) * width - 1)


def _shares(n: Floats, x: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return x / n


def _rank_sum_z(a: Floats, b: Floats) -> Floats:
    """Normal score of the rank sum of a, corrected for ties and continuity; NaN is left out. Shape (runs,)."""
    pooled = np.concatenate([a, b], axis=1)
    there = ~np.isnan(pooled)
    ordered = np.sort(pooled, axis=1)  # NaN last
    midrank = np.zeros_like(pooled)
    ties = np.zeros(len(pooled))
    for i, row in enumerate(pooled):
        first_, last = np.searchsorted(ordered[i], row, "left"), np.searchsorted(ordered[i], row, "right")
        midrank[i] = (first_ + 1 + last) / 2
        ties[i] = np.sum(((last - first_) ** 2 - 1.0)[there[i]])
    m = there[:, : a.shape[1]].sum(axis=1).astype(np.float64)
    n = there[:, a.shape[1] :].sum(axis=1).astype(np.float64)
    w = np.where(there, midrank, 0)[:, : a.shape[1]].sum(axis=1) - m * (m + 1) / 2
    both = m + n
    with np.errstate(invalid="ignore", divide="ignore"):
        sigma = np.sqrt(m * n / 12 * (both + 1 - ties / (both * (both - 1))))
        return np.asarray((w - m * n / 2 - 0.5) / sigma)
