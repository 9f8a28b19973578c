"""The one kernel of every sequential test: an exponential tilt that allows for overdispersion.

For a count x with mean n·p that is Bernoulli, Poisson, or a beta- or gamma-mixture of them with
ICC/(1−ICC) ≤ θ drawn anew each interval, and b = n·θ (the dispersion of the count),

    E[exp(x·s(v, b))] ≤ exp(n·p·κ(v, b)),    s = ln v + ln(1+b) − ln(1+b·v),
                                             κ = [ln(1+b·v) − ln(1+b)] / b

(negative-binomial moment generating function; θ = 0 is Poisson: s = ln v, κ = v − 1). A test bets on a grid
of tilts and takes the mean, because the true rate is unknown: an e-process (Ville 1939; Shafer 2021;
Ramdas, Grünwald, Vovk & Shafer 2023), for which P(ever ≥ 1/α) ≤ α under the null.

Everything broadcasts: scalars, or arrays of many intervals at once. Rates are per request, b and v
have no unit, results are natural logarithms.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

RATIOS: Final[Array] = 1.25 * 51.2 ** (np.arange(12) / 11)
"""r_k: how many times worse than the null each bet of the relative and the absolute test is, 1.25 to 64."""

BLOCK_RATIOS: Final[Array] = RATIOS[::2]
"""Every second of them: what the test of whole blocks (blocks.py) bets on."""

PASS_TILTS: Final[Array] = 0.02 * 40 ** (np.arange(8) / 7)
"""v_k: the fraction of the null's rate that each bet of the Pass test is on, 0.02 to 0.8."""

# Below this b both forms agree to the last bit, and b·(v−1)/b would only lose bits of a subnormal.
_B_POISSON: Final = 1e-18
# Measured 3 to 8 steps; the bound is for arguments nobody has thought of.
_NEWTON_STEPS_MAX: Final = 50


def s(v: ArrayLike, b: ArrayLike) -> Array:
    """Log-likelihood weight of one bad request under tilt v at dispersion b."""
    v, b = np.asarray(v, dtype=np.float64), np.asarray(b, dtype=np.float64)
    # v(1+b)/(1+bv) = 1 + (v−1)/(1+bv): no cancellation near v = 1 nor at large b.
    weight: Array = np.log1p((v - 1) / (1 + b * v))
    return weight


def kappa(v: ArrayLike, b: ArrayLike) -> Array:
    """Log cost of one expected bad request under tilt v at dispersion b."""
    v, b = np.asarray(v, dtype=np.float64), np.asarray(b, dtype=np.float64)
    poisson = b < _B_POISSON
    b = np.where(poisson, 1.0, b)
    # (1+bv)/(1+b) = 1 + b(v−1)/(1+b).
    return np.where(poisson, v - 1, np.log1p(b * (v - 1) / (1 + b)) / b)


def log_sum_exp(a: ArrayLike) -> Array:
    """ln Σ exp(a) over the last axis; −inf where all are −inf."""
    return np.asarray(np.logaddexp.reduce(a, axis=-1), dtype=np.float64)


def log_mean_exp(a: ArrayLike) -> Array:
    """ln of the mean of exp(a) over the last axis."""
    a = np.asarray(a, dtype=np.float64)
    mean: Array = log_sum_exp(a) - np.log(a.shape[-1])
    return mean


def solve_tilt(
    ratio: ArrayLike, n_c: ArrayLike, n_s: ArrayLike, b_c: ArrayLike, b_s: ArrayLike, rho0: ArrayLike
) -> Array:
    """v with g(v) = ρ0·n_c·κ(r·v, b_c) + n_s·κ(v, b_s) = 0: the tilt that makes the shared rate cancel.

    Newton from v = (e_c+e_s)/(r·e_c+e_s), e_c = ρ0·n_c/(1+b_c), e_s = n_s/(1+b_s). There g ≤ 0 because κ
    lies under its tangent, and g is concave and rising, so iterates rise towards the root from
    below: each has g ≤ 0 and is itself valid. n_c and n_s must be positive. θ = 0 has the closed form
    (ρ0·w+1−w)/(ρ0·r·w+1−w), w = n_c/(n_c+n_s) (Lindon, Sanden & Shirikian, KDD 2022), which is the start.
    """
    r, n_c, n_s, b_c, b_s, rho0 = (np.asarray(a, dtype=np.float64) for a in (ratio, n_c, n_s, b_c, b_s, rho0))
    m_c = rho0 * n_c
    e_c, e_s = m_c / (1 + b_c), n_s / (1 + b_s)
    v: Array = (e_c + e_s) / (r * e_c + e_s)
    # Each element stops for itself, so that its bits do not depend on what it is computed together with.
    going = np.broadcast_to((b_c > 0) | (b_s > 0), v.shape)
    for _ in range(_NEWTON_STEPS_MAX):
        if not np.any(going):
            break
        rv = r * v
        g = m_c * kappa(rv, b_c) + n_s * kappa(v, b_s)
        step = np.where(going, g / (m_c * r / (1 + b_c * rv) + n_s / (1 + b_s * v)), 0.0)
        v = v - step
        going = np.abs(step) > 1e-9 * v  # quadratic: the next step would be below 1e-16
    return v


def relative_increments(
    n_c: ArrayLike,
    x_c: ArrayLike,
    n_s: ArrayLike,
    x_s: ArrayLike,
    *,
    rho0: ArrayLike = 1.0,
    theta_c: ArrayLike = 0.0,
    theta_s: ArrayLike = 0.0,
    ratios: Array = RATIOS,
) -> Array:
    """Log e-values of one interval against "canary's rate ≤ ρ0 × stable's", one for each of `ratios`.

    Shape (..., K) for inputs of shape (...) and K ratios. Zero where an arm has no request: no evidence.
    """
    n_c, x_c, n_s, x_s, rho0, theta_c, theta_s = (
        np.asarray(a, dtype=np.float64)[..., None] for a in (n_c, x_c, n_s, x_s, rho0, theta_c, theta_s)
    )
    both = (n_c > 0) & (n_s > 0)
    n_c, n_s = np.where(both, n_c, 1.0), np.where(both, n_s, 1.0)
    b_c, b_s = n_c * theta_c, n_s * theta_s
    v = solve_tilt(ratios, n_c, n_s, b_c, b_s, rho0)
    return np.where(both, x_c * s(ratios * v, b_c) + x_s * s(v, b_s), 0.0)


def absolute_increments(
    n: ArrayLike, x: ArrayLike, *, bound: ArrayLike, theta: ArrayLike = 0.0, ratios: Array = RATIOS
) -> Array:
    """Log e-values of one interval against "rate ≤ bound", one for each of `ratios`: shape (..., K)."""
    return _one_arm(ratios, n, x, bound, theta)


def pass_increments(
    n: ArrayLike, x: ArrayLike, *, bound: ArrayLike, detectable: ArrayLike, theta: ArrayLike = 0.0
) -> Array:
    """Log e-values of one interval against "rate ≥ detectable·bound", one for each of PASS_TILTS: (..., 8)."""
    return _one_arm(PASS_TILTS, n, x, np.multiply(detectable, bound), theta)


def _one_arm(tilts: Array, n: ArrayLike, x: ArrayLike, rate: ArrayLike, theta: ArrayLike) -> Array:
    n, x, rate, theta = (np.asarray(a, dtype=np.float64)[..., None] for a in (n, x, rate, theta))
    b = n * theta
    return x * s(tilts, b) - n * rate * kappa(tilts, b)


def pass_requests(
    rate: float, log_e: float, *, bound: float, detectable: float, beta: float, b: float = 0.0
) -> float | None:
    """Requests of the canary until Pass, should it go on at this rate; None: not at this rate.

    N = (ln(1/β) − log E)/G, G = max over the grid of rate·s(v_k, b) − detectable·bound·κ(v_k, b).
    """
    growth = float(np.max(rate * s(PASS_TILTS, b) - detectable * bound * kappa(PASS_TILTS, b)))
    return _until(math.log(1 / beta) - log_e, growth)


def fail_requests(
    rate_c: float,
    rate_s: float,
    log_e: float,
    *,
    share: float,
    alpha: float,
    rho0: float = 1.0,
    b_c: float = 0.0,
    b_s: float = 0.0,
) -> float | None:
    """Requests of both arms until the relative test rejects (median), should both go on so; None: never.

    N = (ln(4/α) − log E)/I, I = w·p_c·s_c + (1−w)·p_s·s_s at the tilt r = p_c/(ρ0·p_s), w = canary's share.
    """
    r = _tilt(rate_c / (rho0 * rate_s) if rate_s > 0 else math.inf)
    v = solve_tilt(r, share, 1 - share, b_c, b_s, rho0)
    growth = float(share * rate_c * s(r * v, b_c) + (1 - share) * rate_s * s(v, b_s))
    return _until(math.log(4 / alpha) - log_e, growth)


def fail_requests_alone(rate: float, log_e: float, *, bound: float, alpha: float, b: float = 0.0) -> float | None:
    """The same for the absolute test: requests of the canary until it is proven above its bound."""
    r = _tilt(rate / bound)
    return _until(math.log(4 / alpha) - log_e, float(rate * s(r, b) - bound * kappa(r, b)))


def _tilt(ratio: float) -> float:
    return min(max(ratio, float(RATIOS[0])), float(RATIOS[-1]))


def _until(missing: float, growth: float) -> float | None:
    return max(0.0, missing) / growth if growth > 0 else None
