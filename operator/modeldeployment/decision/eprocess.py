"""The e-process of a rule that may start at any interval: a mixture over starting times.

Under its null an e-process has expectation ≤ 1 at any stopping time, so it may be looked at after every
interval and P(ever ≥ 1/α) ≤ α (Ville 1939). One that starts anew at every interval catches a version that turns bad
in the middle as fast as one that was bad from the start.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from modeldeployment.decision import kernel
from modeldeployment.decision.kernel import Array

RESTARTED: Final = np.dtype([("log_s", "<f8", (len(kernel.RATIOS),)), ("u", "<f8"), ("log_e", "<f8")])
"""The state: log S_k of each bet, the wealth u that has not started yet, log E of the whole."""


def begin(state: Any) -> None:
    """Sets a table of RESTARTED (or of another dtype with the same fields) to its start: S = 0, u = E = 1."""
    state["log_s"], state["u"], state["log_e"] = -np.inf, 1.0, 0.0


def advance(
    log_s: ArrayLike, u: ArrayLike, log_e: ArrayLike, increments: Array, gamma: ArrayLike, cap: ArrayLike
) -> tuple[Array, Array, Array]:
    """One interval of a mixture over starting times: S_k ← (S_k + γ/K)·e_k, u ← u − γ, E = ΣS_k + u.

    Takes and returns log S, u, log E. Where E would rise above e^cap·max(E, 1), S is scaled down until it does
    not: lowering an e-value is always valid. Shapes (..., K), (...), (...), (..., K), (...), (...): many
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
        # What is not over may have a ceiling of +inf, or no S at all.
        of, to = np.where(over, total, 0.0), np.where(over, ceiling, 0.0)
        scale = np.where(over, to + np.log1p(-np.where(over, wealth, 0.0) * np.exp(-to)) - of, 0.0)
        s_k, after = s_k + scale[..., None], np.where(over, ceiling, after)
    return s_k, wealth, after


def step(state: Any, increments: Array, gamma: ArrayLike, cap: ArrayLike, evidence: Any) -> None:
    """`advance` of a table of RESTARTED, in place. Without `evidence` an interval has factor 1, so E stays."""
    still = ~np.asarray(evidence)
    before = state["log_e"].copy()
    log_s, u, log_e = advance(
        state["log_s"],
        state["u"],
        before,
        np.where(still[..., None], 0.0, increments),
        gamma,
        np.where(still, np.inf, cap),
    )
    state["log_s"], state["u"], state["log_e"] = log_s, u, np.where(still, before, log_e)
