"""The watch after promotion: when a bound begins to break, and nothing stands beside the version to compare it with.

An e-detector (Shin, Ramdas & Rinaldo 2023), a Shiryaev-Roberts sum of e-processes that begin at every interval, on the
absolute test's increments ℓ_k (kernel.absolute_increments):

    M_k ← (M_k + 1)·exp(min(ℓ_k, cap)),    alarm when the mean of M over k ≥ A

While the rate is at most the bound, the mean time to a false alarm is at least A intervals, by theorem, however long it
runs; a rate above it is found in about ln(A)/I intervals, I the information in one. An alarm does not blame the
version: the whole world may be ill. It asks for a comparison with the version before (trial.py).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from modeldeployment.decision.kernel import Array

CAP_SHARE = 0.75
"""How much of ln A one interval may add: no interval alarms alone."""


def detect(log_m: ArrayLike, increments: Array, cap: ArrayLike, evidence: Any) -> Array:
    """One interval: log M_k before → after, shapes (..., K); without `evidence` (...) it stays."""
    log_m = np.asarray(log_m, dtype=np.float64)
    after = np.logaddexp(log_m, 0.0) + np.minimum(increments, np.asarray(cap)[..., None])
    return np.where(np.asarray(evidence)[..., None], after, log_m)


def cap(alarm: float) -> float:
    """The most that ℓ_k counts for, with alarms at A = `alarm`."""
    return CAP_SHARE * math.log(max(alarm, math.e))
