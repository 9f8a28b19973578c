"""The three e-processes of a rule: relative and absolute, started anew at every interval, and Pass.

Under its null an e-process has expectation ≤ 1 at any stopping time, so it may be looked at after every
interval and P(ever ≥ 1/α) ≤ α (Ville 1939). States are values: `update` returns a new one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from modeldeployment.decision import kernel
from modeldeployment.decision.kernel import Array


def advance(
    log_s: ArrayLike, u: ArrayLike, log_e: ArrayLike, increments: Array, gamma: ArrayLike, cap: float
) -> tuple[Array, Array, Array]:
    """One interval of a mixture over starting times: S_k ← (S_k + γ/K)·e_k, u ← u − γ, E = ΣS_k + u.

    Takes and returns log S, u, log E. Where E would rise above e^cap·max(E, 1), S is scaled down until it does
    not: lowering an e-value is always valid. Shapes (..., K), (...), (...), (..., K), (...): many
    processes at once, or one.
    """
    starting = np.minimum(gamma, u)
    wealth = np.asarray(u, dtype=np.float64) - starting
    with np.errstate(divide="ignore"):  # ln 0 = −inf is meant
        s_k: Array = np.logaddexp(log_s, np.log(starting / increments.shape[-1])[..., None]) + increments
        total = kernel.log_sum_exp(s_k)
        after = np.logaddexp(total, np.log(wealth))
    ceiling = np.maximum(log_e, 0.0) + cap
    over = after > ceiling
    if np.any(over):
        scale = np.where(over, ceiling + np.log1p(-wealth * np.exp(-ceiling)) - total, 0.0)
        s_k, after = s_k + scale[..., None], np.where(over, ceiling, after)
    return s_k, wealth, after


@dataclass(frozen=True, slots=True)
class _Restarted:
    """An e-process that starts anew at every interval: log S_k, the wealth u not yet started, log E."""

    log_s: tuple[float, ...] = (-math.inf,) * len(kernel.RATIOS)
    u: float = 1.0
    log_e: float = 0.0

    def spend(self, gamma: float) -> Self:
        """An interval without evidence: factor 1, so E stays."""
        still = np.zeros(len(self.log_s))
        log_s, u, _ = advance(self.log_s, self.u, self.log_e, still, gamma, math.inf)
        return replace(self, log_s=tuple(log_s.tolist()), u=float(u))

    def _advance(self, increments: Array, gamma: float, cap: float) -> Self:
        log_s, u, log_e = advance(self.log_s, self.u, self.log_e, increments, gamma, cap)
        return replace(self, log_s=tuple(log_s.tolist()), u=float(u), log_e=float(log_e))


@dataclass(frozen=True, slots=True)
class RelativeTest(_Restarted):
    """Null: canary's rate ≤ ρ0 × stable's at the same time (decision.md §2)."""

    def update(
        self,
        n_c: float,
        x_c: float,
        n_s: float,
        x_s: float,
        *,
        gamma: float,
        cap: float = math.inf,
        rho0: float = 1.0,
        theta_c: float = 0.0,
        theta_s: float = 0.0,
    ) -> RelativeTest:
        """One interval; an arm without requests makes it a gap."""
        if not (n_c > 0 and n_s > 0):
            return self.spend(gamma)
        inc = kernel.relative_increments(n_c, x_c, n_s, x_s, rho0=rho0, theta_c=theta_c, theta_s=theta_s)
        return self._advance(inc, gamma, cap)


@dataclass(frozen=True, slots=True)
class AbsoluteTest(_Restarted):
    """Null: canary's rate ≤ bound (decision.md §3)."""

    def update(
        self, n: float, x: float, *, bound: float, gamma: float, cap: float = math.inf, theta: float = 0.0
    ) -> AbsoluteTest:
        """One interval; without requests it is a gap."""
        if not n > 0:
            return self.spend(gamma)
        return self._advance(kernel.absolute_increments(n, x, bound=bound, theta=theta), gamma, cap)


@dataclass(frozen=True, slots=True)
class PassTest:
    """Null: canary's rate ≥ detectable × bound (decision.md §3). Starts anew with each step; no cap."""

    log_l: tuple[float, ...] = (0.0,) * len(kernel.PASS_TILTS)

    @property
    def log_e(self) -> float:
        """Log of the mean over the grid."""
        return float(kernel.log_mean_exp(self.log_l))

    def update(self, n: float, x: float, *, bound: float, detectable: float, theta: float = 0.0) -> PassTest:
        """One interval."""
        inc = kernel.pass_increments(n, x, bound=bound, detectable=detectable, theta=theta)
        return PassTest(tuple((np.asarray(self.log_l) + inc).tolist()))
