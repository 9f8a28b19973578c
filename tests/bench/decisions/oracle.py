"""The best that is possible: Wald's test, told the rates that our rules have to find out. Blind to bursts."""

from __future__ import annotations

import math

import numpy as np

from bench.decisions.naive import first
from bench.decisions.ours import Looks
from bench.decisions.scenarios import BOUND, Batch, Floats

_LEAST = 1e-9
"""Stands for a rate of 0, beside which one bad request would be proof enough."""


def against_stable(batch: Batch, alpha: float) -> Looks:
    """SPRT of the canary's true rate against stable's: rejects at a likelihood ratio of 1/α."""
    return first(_log_ratio(batch, batch.scenario.stable_rate) >= math.log(1 / alpha))


def against_both(batch: Batch, alpha: float) -> Looks:
    """The same against stable's rate and, at the same look, against the bound."""
    stable, bound = (_log_ratio(batch, rate) for rate in (batch.scenario.stable_rate, BOUND))
    return first(np.minimum(stable, bound) >= math.log(1 / alpha))


def _log_ratio(batch: Batch, null: float) -> Floats:
    """ln of the likelihood ratio so far, Poisson counts: (runs, looks)."""
    rate, null = batch.scenario.rate, max(null, _LEAST)
    n, x = (np.cumsum(a, axis=1) for a in batch.canary.arm)
    return np.asarray(x * math.log(rate / null) - n * (rate - null))
