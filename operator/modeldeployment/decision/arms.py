"""What both arms did in one interval, pod by pod: requests, and bad ones among them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from modeldeployment.decision.evidence import Strain


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests n and bad ones, between two counts that are the same but for a latency between edges.

    `low` = x(e⁺) ≤ true x ≤ `high` = x(e⁻): Fail uses low, Pass uses high. x above n is allowed: errors
    may be counted at another moment than requests.
    """

    n: float = 0
    low: float = 0
    high: float = 0

    def __post_init__(self) -> None:
        if not (self.n >= 0 and 0 <= self.low <= self.high < math.inf):
            raise ValueError(f"counts must have n ≥ 0 and 0 ≤ low ≤ high: {self}")

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.n + other.n, self.low + other.low, self.high + other.high)


@dataclass(frozen=True, slots=True)
class Interval:
    """What both arms did since the last interval, pod by pod.

    `length`: intervals of the schedule that it spans (more than 1 after a gap). `weight_moved`: the traffic
    weight changed within it, so the arms did not see the same mix of times and it is not evidence. `strain`: how
    hard-pressed the canary's pods were, where that is known.
    """

    canary: Mapping[str, Counts] = field(default_factory=dict)
    stable: Mapping[str, Counts] = field(default_factory=dict)
    length: int = 1
    weight_moved: bool = False
    strain: Mapping[str, Strain] = field(default_factory=dict)
