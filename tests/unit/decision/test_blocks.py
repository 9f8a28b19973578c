"""Evidence by blocks of minutes, looked at within a block."""

from __future__ import annotations

import numpy as np
import pytest

from modeldeployment.decision import kernel

LOOKS = 30
"""Intervals of a block."""
RUNS = 20_000


def stopped(n_c: float, n_s: float, p: float, theta: float, judged_by: float) -> kernel.Array:
    """E of many blocks, of both arms one gamma-drawn rate each: at the first look that reaches 25, else at the end."""
    rng = np.random.default_rng(7)
    x_c, x_s = np.zeros(RUNS), np.zeros(RUNS)
    rate_c, rate_s = rng.gamma(p / theta, theta, RUNS), rng.gamma(p / theta, theta, RUNS)
    found = np.full(RUNS, np.nan)
    for look in range(1, LOOKS + 1):
        x_c += rng.poisson(rate_c * n_c)
        x_s += rng.poisson(rate_s * n_s)
        increments = kernel.relative_increments(
            n_c * look, x_c, n_s * look, x_s, theta_c=judged_by, theta_s=judged_by, ratios=kernel.BLOCK_RATIOS
        )
        e = np.exp(kernel.log_mean_exp(increments))
        stops = np.isnan(found) & ((e >= 25) | (look == LOOKS))
        found[stops] = e[stops]
    return found


CASES = [(20, 180, 0.005, 0.01), (100, 900, 0.005, 0.01), (1000, 9000, 0.005, 0.05), (1000, 1000, 0.02, 0.05)]


@pytest.mark.parametrize(("n_c", "n_s", "p", "theta"), CASES)
def test_stopping_within_a_block(n_c: float, n_s: float, p: float, theta: float) -> None:
    """A fair bet: no more than 1 in the mean, within 3 standard errors, and 25 seldom (Markov: 4 % at most). Seeded."""
    e = stopped(n_c, n_s, p, theta, theta)
    error = float(e.std() / np.sqrt(RUNS))
    assert float(e.mean()) <= 1 + 3 * error, "stopping within a block makes evidence from nothing"
    assert float((e >= 25).mean()) <= 0.04


def test_as_if_requests_failed_independently() -> None:
    """The same blocks judged with a tenth of their θ: no fair bet, and the measurement above sees that."""
    e = stopped(*CASES[1], judged_by=0.001)
    assert float(e.mean()) > 100 and float((e >= 25).mean()) > 0.04
