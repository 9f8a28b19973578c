"""The tilt that allows for overdispersion: its closed forms, its inequality, its numerics.

Units: rates and θ per request, b = n·θ and v without unit, results natural logarithms.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeployment.decision import kernel

tilts = st.floats(0.01, 100.0)
dispersions = st.one_of(st.just(0.0), st.floats(1e-12, 1e6))
ratios = st.floats(1.25, 64.0)
requests = st.integers(1, 10**7)
thetas = st.one_of(st.just(0.0), st.floats(1e-9, 1.0))


def beta_binomial(n: int, p: float, icc: float) -> np.ndarray:
    """P(x), x = 0…n: Bernoulli requests whose rate is Beta with mean p and intraclass correlation icc."""
    if icc == 0:
        return np.array([math.comb(n, x) * p**x * (1 - p) ** (n - x) for x in range(n + 1)])
    a, b = p * (1 - icc) / icc, (1 - p) * (1 - icc) / icc

    def log_beta(y: float, z: float) -> float:
        return math.lgamma(y) + math.lgamma(z) - math.lgamma(y + z)

    return np.array([math.comb(n, x) * math.exp(log_beta(x + a, n - x + b) - log_beta(a, b)) for x in range(n + 1)])


@given(v=tilts, b=dispersions)
def test_forms(v: float, b: float) -> None:
    """s = ln v + ln(1+b) − ln(1+bv), κ = [ln(1+bv) − ln(1+b)]/b, and s + b·κ = ln v.

    Valid for v > 0, b ≥ 0; b → 0 is ln v and v − 1. Negative-binomial MGF (decision.md §1).
    """
    s, kappa = float(kernel.s(v, b)), float(kernel.kappa(v, b))
    assert s == pytest.approx(math.log(v) + math.log1p(b) - math.log1p(b * v), rel=1e-9, abs=1e-9)
    assert s + b * kappa == pytest.approx(math.log(v), rel=1e-9, abs=1e-9)


@given(v=tilts)
def test_poisson_limit(v: float) -> None:
    """b → 0: s → ln v, κ → v − 1, without a step where the branch is; Poisson MGF."""
    for b in (0.0, 1e-320, 1e-19, 1e-17, 1e-12):
        assert float(kernel.s(v, b)) == pytest.approx(math.log(v), rel=1e-9, abs=1e-9)
        assert float(kernel.kappa(v, b)) == pytest.approx(v - 1, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("icc", [0.0, 0.01, 0.2, 0.6])
@pytest.mark.parametrize("p", [0.005, 0.1, 0.5, 0.95])
def test_moment_inequality(icc: float, p: float) -> None:
    """E[exp(s·x)] ≤ exp(n·p·κ), exactly summed over beta-binomial x: ICC/(1−ICC) ≤ θ, any tilt.

    Binomial ≤ Poisson and beta- ≤ gamma-mixture in convex order (decision.md §1). θ too large stays valid.
    """
    n = 12
    weights, x = beta_binomial(n, p, icc), np.arange(n + 1)
    assert weights.sum() == pytest.approx(1.0)
    for v in (*kernel.RATIOS, *kernel.PASS_TILTS):
        for theta in (icc / (1 - icc), 2 * icc / (1 - icc) + 0.05):
            log_mean = kernel.log_sum_exp(np.log(weights) + x * kernel.s(v, n * theta))
            assert log_mean <= n * p * kernel.kappa(v, n * theta) + 1e-12


@given(r=ratios, n_c=requests, n_s=requests, theta_c=thetas, theta_s=thetas, rho0=st.floats(1.0, 4.0))
def test_solved_tilt_cancels_the_shared_rate(
    r: float, n_c: int, n_s: int, theta_c: float, theta_s: float, rho0: float
) -> None:
    """g(v) = ρ0·n_c·κ(rv, b_c) + n_s·κ(v, b_s) = 0 up to rounding, v < 1 < ρ0-free r·v.

    Then the mean of the e-value is ≤ exp(p·g) = 1 whatever the shared rate p (decision.md §2). Valid for n > 0.
    """
    b_c, b_s = n_c * theta_c, n_s * theta_s
    v = float(kernel.solve_tilt(r, n_c, n_s, b_c, b_s, rho0))
    terms = rho0 * n_c * float(kernel.kappa(r * v, b_c)), n_s * float(kernel.kappa(v, b_s))
    assert 0 < v < 1 < r * v
    assert sum(terms) <= 1e-9 * abs(terms[1]) + 1e-12 * (n_c + n_s)
    assert sum(terms) == pytest.approx(0.0, abs=1e-9 * abs(terms[1]) + 1e-9 * (n_c + n_s) / (1 + b_c + b_s))


def test_poisson_ratio_closed_form() -> None:
    """θ = 0: v = (ρ0·w+1−w)/(ρ0·r·w+1−w), w = n_c/(n_c+n_s) (Lindon, Sanden & Shirikian, KDD 2022)."""
    w, rho0 = 0.1, 1.5
    v = kernel.solve_tilt(kernel.RATIOS, 20, 180, 0.0, 0.0, rho0)
    assert v == pytest.approx((rho0 * w + 1 - w) / (rho0 * kernel.RATIOS * w + 1 - w), rel=1e-14)


def test_grids() -> None:
    """r_k = 1.25·51.2^(k/11), k = 0…11, and v_k = 0.02·40^(k/7), k = 0…7 (decision.md §1, §3)."""
    assert kernel.RATIOS[[0, -1]] == pytest.approx([1.25, 64.0])
    assert kernel.PASS_TILTS[[0, -1]] == pytest.approx([0.02, 0.8])
    assert (kernel.RATIOS.shape, kernel.PASS_TILTS.shape) == ((12,), (8,))


def test_log_mean_exp() -> None:
    """ln mean exp(a), also where exp(a) overflows or is 0."""
    assert kernel.log_mean_exp([1e6, 1e6]) == pytest.approx(1e6)
    assert kernel.log_mean_exp([0.0, -math.inf]) == pytest.approx(-math.log(2))
    assert kernel.log_mean_exp([-math.inf, -math.inf]) == -math.inf


counts = requests.flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


@given(canary=counts, stable=counts, theta=thetas)
def test_finite(canary: tuple[int, int], stable: tuple[int, int], theta: float) -> None:
    """Increments are finite for n up to 1e7 and any x ≤ n; no evidence without requests in both arms."""
    relative = kernel.relative_increments(*canary, *stable, theta_c=theta, theta_s=theta)
    absolute = kernel.absolute_increments(*canary, bound=0.01, theta=theta)
    passing = kernel.pass_increments(*canary, bound=0.01, detectable=2.0, theta=theta)
    assert np.isfinite(relative).all() and np.isfinite(absolute).all() and np.isfinite(passing).all()
    assert not kernel.relative_increments(*canary, 0, 0).any()
    assert not kernel.relative_increments(0, 0, *stable).any()


@given(canary=counts, stable=counts, theta=thetas)
def test_monotone_in_bad_requests(canary: tuple[int, int], stable: tuple[int, int], theta: float) -> None:
    """Fail's e-values rise in the canary's x and fall in stable's; Pass's fall in x: s(v > 1) > 0 > s(v < 1).

    This is what makes x(e⁺) for Fail and x(e⁻) for Pass valid (decision.md §5 Latency).
    """
    (n_c, x_c), (n_s, x_s) = canary, stable

    def relative(more_c: int, more_s: int) -> np.ndarray:
        return kernel.relative_increments(n_c, x_c + more_c, n_s, x_s + more_s, theta_c=theta, theta_s=theta / 2)

    assert (relative(1, 0) >= relative(0, 0)).all() and (relative(0, 1) <= relative(0, 0)).all()
    absolute = [kernel.absolute_increments(n_c, x_c + i, bound=0.01, theta=theta) for i in (0, 1)]
    passing = [kernel.pass_increments(n_c, x_c + i, bound=0.01, detectable=2.0, theta=theta) for i in (0, 1)]
    assert (absolute[1] >= absolute[0]).all() and (passing[1] <= passing[0]).all()


@given(n=st.integers(1, 10**6), theta=st.floats(1e-6, 0.5), more=st.floats(1.01, 100.0))
def test_more_dispersion_says_less(n: int, theta: float, more: float) -> None:
    """θ larger: all requests bad rejects less, no request bad speaks less for Pass (bound ≤ 3 %).

    |∂s/∂b| = (v−1)/((1+bv)(1+b)) outweighs p0·|∂κ/∂b| there. Not so for every x: near the null it may rise.
    """
    bad = [kernel.absolute_increments(n, n, bound=0.01, theta=t) for t in (theta, theta * more)]
    good = [kernel.pass_increments(n, 0, bound=0.01, detectable=2.0, theta=t) for t in (theta, theta * more)]
    slack = 1e-12 * n
    assert (bad[1] <= bad[0] + slack).all() and (good[1] <= good[0] + slack).all()


def test_batch_equals_one_by_one() -> None:
    """Arrays of intervals give what single intervals give; gaps among them stay zero."""
    n_c, x_c, n_s, x_s = np.array([[20, 4, 180, 1], [0, 0, 180, 1], [22, 2, 170, 0]]).T
    theta_c = np.array([0.01, 0.02, 0.0])
    batch = kernel.relative_increments(n_c, x_c, n_s, x_s, rho0=1.5, theta_c=theta_c, theta_s=0.001)
    for i, row in enumerate(batch):
        one = kernel.relative_increments(n_c[i], x_c[i], n_s[i], x_s[i], rho0=1.5, theta_c=theta_c[i], theta_s=0.001)
        assert row == pytest.approx(one, rel=1e-9)  # Newton may take a step more in company


def test_pass_requests_worked_figure() -> None:
    """N = ln(1/β)/max_k[p·s − d·p0·κ]: bound 1 %, d = 2, β = 5 %, at 0.5 % 371 requests, 186 s at 2 rps.

    decision.md §4 (371.3 at the best tilt, 372.7 on the grid, which is what the test bets on). Valid where the
    rate is below d·p0 by what the grid can tell; else never.
    """
    needed = kernel.pass_requests(0.005, 0.0, bound=0.01, detectable=2.0, beta=0.05)
    assert needed is not None
    assert needed == pytest.approx(371, rel=0.005) and needed / 2 == pytest.approx(186, abs=0.5)
    assert kernel.pass_requests(0.02, 0.0, bound=0.01, detectable=2.0, beta=0.05) is None
    assert kernel.pass_requests(0.005, 5.0, bound=0.01, detectable=2.0, beta=0.05) == 0.0


def test_fail_requests_worked_figure() -> None:
    """N = ln(4/α)/I, I = w·p_c·s_c + (1−w)·p_s·s_s: 2 % against 0.5 %, w = 10 %, α = 5 %, 20 rps: 205 s.

    decision.md §4. Valid where p_c is above ρ0·p_s; else never.
    """
    needed = kernel.fail_requests(0.02, 0.005, 0.0, share=0.1, alpha=0.05)
    assert needed is not None and needed / 20 == pytest.approx(205, abs=0.5)
    assert kernel.fail_requests(0.005, 0.005, 0.0, share=0.1, alpha=0.05) is None
    assert kernel.fail_requests(0.02, 0.005, 0.0, share=0.1, alpha=0.05, rho0=4.0) is None
    assert kernel.fail_requests(0.02, 0.0, 0.0, share=0.1, alpha=0.05) is not None


def test_fail_requests_alone() -> None:
    """N = ln(4/α)/[p·s(r, b) − p0·κ(r, b)], r = p/p0, without a stable arm; never at the bound."""
    needed = kernel.fail_requests_alone(0.05, 0.0, bound=0.01, alpha=0.05)
    assert needed == pytest.approx(math.log(80) / (0.05 * math.log(5) - 0.04))
    assert kernel.fail_requests_alone(0.01, 0.0, bound=0.01, alpha=0.05) is None
