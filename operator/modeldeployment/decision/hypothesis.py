"""What a rule tests: the bound, the comparison, and the error bounds of the whole rollout."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from modeldeployment.decision import blocks, detector
from modeldeployment.decision.kernel import Array

FIRST_GAMMA: Final = 0.9
"""Share of the wealth that starts at the first interval; the rest starts spread evenly over the others."""

CAP_SHARE: Final = 0.75
"""How much of ln(1/α) one interval may add: no interval decides alone, and two can."""


class Compare(StrEnum):
    """What a rule's canary must be proven worse than, to fail."""

    STABLE_AND_BOUND = "StableAndBound"
    """E_rel ≥ 1/α and E_abs ≥ 4: false ≤ α for one no worse than stable, ≤ 25 % for one inside its bound."""
    STRICT = "Strict"
    """E_rel ≥ 1/α and E_abs ≥ 1/α: false ≤ α for either."""
    STABLE = "Stable"
    """E_rel ≥ 1/α alone: the bound plays no part in Fail."""
    WATCH = "Watch"
    """Never Fail by itself: after promotion there is no stable arm, and a bound that breaks alarms (detector.py)."""
    BOUND = "Bound"
    """E_abs ≥ 1/α alone: for when there is no stable arm. Blames the version for an incident."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is fixed for the whole rollout.

    `horizon`: intervals from its start to its deadline. `block`: intervals of a block of minutes (blocks.py). `day`:
    intervals of a day: how long the detector runs on average until a false alarm, at least.
    """

    horizon: int
    alpha: float = 0.04
    beta: float = 0.05
    block: int = 30
    day: int = 8640
    cap: float = field(init=False, repr=False)
    """The most that log E may rise in one interval."""
    alarm_cap: float = field(init=False, repr=False)
    """The most that an increment counts for in the detector."""
    block_gamma: float = field(init=False, repr=False)
    """Wealth that starts betting with each block after the first."""

    def __post_init__(self) -> None:
        if min(self.horizon, self.block, self.day) < 1 or not 0 < self.alpha < 1 or not 0 < self.beta < 1:
            raise ValueError(f"a plan needs horizon, block, day ≥ 1 and alpha, beta between 0 and 1: {self}")

        set_ = object.__setattr__  # asked for at every update of every rule, so made once
        set_(self, "cap", CAP_SHARE * math.log(1 / self.alpha))
        set_(self, "alarm_cap", detector.cap(self.day))
        share = min(1.0, self.block / blocks.PHASES / self.horizon)
        set_(self, "block_gamma", (1 - blocks.FIRST_SHARE) * share)

    def gamma(self, done: int, length: int) -> float:
        """`starting` of this plan."""
        return float(starting(done, length, self.horizon))


def starting(done: ArrayLike, length: ArrayLike, horizon: ArrayLike) -> Array:
    """Wealth that starts betting in the `length` intervals after the first `done` ones: shapes broadcast."""
    first = np.equal(done, 0)
    later = (np.asarray(length) - first) * (1 - FIRST_GAMMA) / np.maximum(1, np.asarray(horizon) - 1)
    share: Array = np.minimum(1.0, FIRST_GAMMA * first + later)
    return share


@dataclass(frozen=True, slots=True)
class Bound:
    """One bound on the share of bad requests. Keep it below 0.1: above, the tests are valid but slow.

    `rolls_back`: whether the rule can Fail; one that cannot must still Pass.
    """

    share: float
    rho0: float = 1.0
    detectable: float = 2.0
    compare: Compare = Compare.STABLE_AND_BOUND
    rolls_back: bool = True

    def __post_init__(self) -> None:
        if not (0 < self.share < 1 and self.rho0 >= 1 and self.detectable >= 1):
            raise ValueError(f"a bound needs 0 < share < 1, rho0 ≥ 1 and detectable ≥ 1: {self}")
