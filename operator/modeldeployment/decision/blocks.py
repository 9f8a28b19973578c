"""The same evidence taken by blocks of minutes: what bursts of several minutes cannot fake.

Within a block the rates of both arms are one draw each, so its counts are judged as one: with n, x summed since the
block began and b = n·θ of the whole block (kernel.py). Over whole blocks the e-values are multiplied. Blocks begin at
two phases, half a block apart, each time with a little of the wealth (a mixture over starting times), so that a version
that turns bad in mid-block waits for half a block at most.

    E = Σ_phases Σ_k S_k·e_k(block so far) + u,    u ← u − γ and S_k ← S_k + γ/K where a block begins

It is looked at within a block, too. For a gamma-mixed rate and a fixed tilt v, exp(x·s(v, b) − n·p·κ(v, b)) is the
likelihood ratio of the sums so far, a martingale while the block grows: the absolute test may stop there by theorem. In
the relative test v is solved anew as the sums grow, so there only whole blocks have a theorem; stopping within one was
measured (tests/unit/decision/test_blocks.py): the mean of E at the first look that reaches 25 stays 1.

A rule fails when the smaller of this and the interval-by-interval E reaches 1/α: the smaller of two e-processes is one
if either is (it lies below both), so P(ever ≥ 1/α) ≤ α if bad requests vary from interval to interval (by theorem), or
from block to block (as measured), by at most what θ says of that scale. θ is that of the blocks before
(dispersion.theta_block), fixed when a block begins. ADR 0005 has the figures.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modeldeployment.decision import kernel
from modeldeployment.decision.kernel import Array

SECONDS: Final = 300.0
"""Length of a block. Bursts that last longer look like a bad version."""
PHASES: Final = 2
FIRST_SHARE: Final = 0.9
"""Share of the wealth that the first block gets; the rest goes evenly to those that begin later."""

_K: Final = len(kernel.BLOCK_RATIOS)
BLOCKS: Final = np.dtype(
    [
        ("log_s", "<f8", (PHASES, _K)),
        ("counts", "<f8", (PHASES, 4)),
        ("theta", "<f8", (PHASES, 2)),
        ("u", "<f8"),
        ("log_e", "<f8"),
    ]
)
"""The state: log S at the beginning of the block under way; its n and x of canary and stable; its θ of both; the
wealth that has not started; log E."""


def begin(state: Any) -> None:
    """Sets a table of BLOCKS to its start: the first block of phase 0 has begun."""
    for name in ("counts", "theta", "log_e"):
        state[name] = 0.0
    state["log_s"], state["u"] = -np.inf, 1 - FIRST_SHARE
    state["log_s"][:, 0] = np.log(FIRST_SHARE / _K)


def step(
    state: Any,
    counts: Array,
    *,
    theta: Array,
    rho0: Array,
    bound: Array,
    alone: NDArray[np.bool_],
    place: Array,
    length: Array,
    block: Array,
    gamma: Array,
) -> None:
    """One interval of many processes, in place.

    `counts`: (N, 4), n and x of canary and stable, zero where the interval is no evidence. `theta`: (N, 2). `alone`:
    whether the null is "rate ≤ bound" instead of "≤ ρ0 × stable's". `place`: intervals before this one, `length`: those
    that it spans, `block`: those of a block. `gamma`: wealth that starts with each block.
    """
    empty = ~state["counts"].any(axis=-1)
    state["theta"] = np.where(empty[..., None], theta[:, None, :], state["theta"])
    state["counts"] += counts[:, None, :]
    increments = _increments(state["counts"], state["theta"], rho0[:, None], bound[:, None], alone[:, None])
    so_far = state["log_s"] + increments
    offset = np.arange(PHASES) * (block[:, None] // PHASES)
    ends = (place[:, None] + offset) // block[:, None] != (place[:, None] + length[:, None] + offset) // block[:, None]
    state["log_s"] = np.where(ends[..., None], so_far, state["log_s"])
    state["counts"] = np.where(ends[..., None], 0.0, state["counts"])
    evidence = counts.any(axis=-1)
    whole = kernel.log_sum_exp(so_far.reshape(len(so_far), -1))
    with np.errstate(divide="ignore"):  # ln 0 = −inf is meant
        state["log_e"] = np.where(evidence, np.logaddexp(whole, np.log(state["u"])), state["log_e"])
        for phase in range(PHASES):
            starting = np.where(ends[:, phase], np.minimum(gamma, state["u"]), 0.0)
            state["u"] = state["u"] - starting
            state["log_s"][:, phase] = np.logaddexp(state["log_s"][:, phase], np.log(starting / _K)[:, None])


def _increments(counts: Array, theta: Array, rho0: Array, bound: Array, alone: NDArray[np.bool_]) -> Array:
    n_c, x_c, n_s, x_s = np.moveaxis(counts, -1, 0)
    theta_c, theta_s = np.moveaxis(theta, -1, 0)
    ratios = kernel.BLOCK_RATIOS
    relative = kernel.relative_increments(
        n_c, x_c, n_s, x_s, rho0=rho0, theta_c=theta_c, theta_s=theta_s, ratios=ratios
    )
    if not alone.any():
        return relative
    absolute = kernel.absolute_increments(n_c, x_c, bound=bound, theta=theta_c, ratios=ratios)
    return np.where(alone[..., None], absolute, relative)
