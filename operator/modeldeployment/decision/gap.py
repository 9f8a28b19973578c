"""Gap of two groups: does an event (a wrong answer, a refusal, a loan granted) befall one group more than another?

**Difference** (`DifferenceGap`): |p_A − p_B| ≤ d. The two rates are unknown, so the null "p_A ≤ p_B + d" is cut into
cells t_j ≤ p_B ≤ t_{j+1}. In each, p_A ≤ t_{j+1} + d and p_B ≥ t_j hold together, and

    E = min over j of E(p_A ≤ t_{j+1} + d) · E(p_B ≥ t_j)

is at most the e-process of the cell that the truth is in, so itself an e-process (decision.md §5). Each factor is the
betting test of scores.py on 0/1 scores, with three smaller bets and no bet added: in the cells that matter one group
often agrees with its half of the null, and no bet keeps that half from losing more than ln 9. Cells are of equal width
in arcsin √t, at most 0.004. That and the smallest bet leave gaps within about 0.008 of d undecided, however many items.

- Fail, null |p_A − p_B| ≤ d: both signs at α/2, as the mean of the two E (under the null each is one).
- Pass, null |p_A − p_B| ≥ d: the smaller of the two E, each sign proven at β; nothing to split, both must be.

**Ratio** (`RatioGap`): p_A ≤ ρ·p_B and p_B ≤ ρ·p_A. The relative test of decision.md §2 with the groups as arms, both
signs. For the four-fifths rule ρ = 1.25, on the event that is good for the person.

Valid when items are independent given the past, each group with one rate over the whole test (difference) or in each
interval (ratio; bursts as in §2). What breaks it: clusters of one person's items, and, with late labels, delays that
depend on the outcome (classification.py). The groups may be seen at any two paces; Fail needs items of both.

Sources: Waudby-Smith & Ramdas, JRSS-B 2024; products of e-processes on independent streams: Vovk & Wang, Annals of
Statistics 2021; the tighter test of Turner & Grünwald (Statistics & Probability Letters 2023) needs a projection per
block. Units: rates per item, results natural logarithms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from modeldeployment.decision.eprocess import RESTARTED, begin, step
from modeldeployment.decision.kernel import Array, log_mean_exp, relative_increments
from modeldeployment.decision.packing import pack, unpack
from modeldeployment.decision.scores import FRACTIONS

_BETS: Final[Array] = np.array([0, 1 / 128, 1 / 64, 1 / 32, *FRACTIONS])
_CELLS: Final = 400
_EDGES: Final[Array] = np.sin(np.linspace(0, math.pi / 2, _CELLS + 1)) ** 2
"""t_0 = 0 … t_400 = 1, equally far apart in standard errors of a rate."""

_VERSION: Final = "1"
_NUMBERS: Final = 4


def _begin() -> bytes:
    table = np.zeros(2, RESTARTED)
    begin(table)
    return table.tobytes()


_NEW: Final = _begin()


@dataclass(frozen=True, slots=True)
class Group:
    """Items of one group, and those with the event among them. ValueError where 0 ≤ events ≤ items is not so."""

    items: float = 0.0
    events: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.events <= self.items < math.inf:
            raise ValueError(f"a group needs 0 ≤ events ≤ items: {self}")

    def __add__(self, other: Group) -> Group:
        return Group(self.items + other.items, self.events + other.events)


@dataclass(frozen=True, slots=True)
class DifferenceGap:
    """Both tests of |p_A − p_B| ≤ d. With constant bets the four counts are all there is to remember. A value."""

    difference: float
    a: Group = field(default_factory=Group)
    b: Group = field(default_factory=Group)

    def __post_init__(self) -> None:
        if not 0 < self.difference < 1:
            raise ValueError(f"a bound on a gap must lie between 0 and 1, not {self.difference:g}")

    def update(self, a: Group, b: Group) -> DifferenceGap:
        """What was seen since the last update."""
        return replace(self, a=self.a + a, b=self.b + b)

    @property
    def log_e_fail(self) -> float:
        """Log E against "the gap is within d"."""
        return float(log_mean_exp([_above(self.a, self.b, self.difference), _above(self.b, self.a, self.difference)]))

    @property
    def log_e_pass(self) -> float:
        """Log E against "the gap is d or more", one way or the other."""
        return min(_below(self.a, self.b, self.difference), _below(self.b, self.a, self.difference))

    @property
    def gap(self) -> float | None:
        """p_A − p_B as seen; None before both groups were."""
        both = self.a.items > 0 and self.b.items > 0
        return self.a.events / self.a.items - self.b.events / self.b.items if both else None

    def to_state(self) -> str:
        """The four counts, bit for bit."""
        return pack(_VERSION, (self.a.items, self.a.events, self.b.items, self.b.events))

    @classmethod
    def from_state(cls, state: str, difference: float) -> DifferenceGap:
        """Inverse of to_state; ValueError for a state of another version or a damaged one."""
        f = unpack(state, _VERSION)
        if len(f) != _NUMBERS:
            raise ValueError(f"state of {len(f)} numbers, not {_NUMBERS}: written by another version")
        return cls(difference, Group(f[0], f[1]), Group(f[2], f[3]))


@dataclass(frozen=True, slots=True)
class RatioGap:
    """p_A against ρ·p_B and p_B against ρ·p_A: two relative tests that each start anew at every interval. A value.

    `numbers`: two rows of eprocess.RESTARTED, A over B and B over A.
    """

    ratio: float
    numbers: bytes = _NEW

    def __post_init__(self) -> None:
        if not 1 <= self.ratio < math.inf:
            raise ValueError(f"a bound on a ratio must be at least 1, not {self.ratio:g}")

    def update(
        self,
        a: Group,
        b: Group,
        *,
        gamma: float,
        cap: float = math.inf,
        theta_a: float = 0.0,
        theta_b: float = 0.0,
    ) -> RatioGap:
        """One interval, as eprocess.step has it; a group without items makes it one without evidence."""
        table: Any = np.frombuffer(self.numbers, RESTARTED).copy()
        items, events = np.array([a.items, b.items]), np.array([a.events, b.events])
        theta = np.array([theta_a, theta_b])
        increments = relative_increments(
            items, events, items[::-1], events[::-1], rho0=self.ratio, theta_c=theta, theta_s=theta[::-1]
        )
        step(table, increments, gamma, cap, (items > 0) & (items[::-1] > 0))
        return replace(self, numbers=table.tobytes())

    @property
    def log_e(self) -> float:
        """Log E against "the rates are within a factor ρ": the mean of both signs, never later than each at α/2."""
        return float(log_mean_exp(np.frombuffer(self.numbers, RESTARTED)["log_e"]))

    def to_state(self) -> str:
        """Every number bit for bit."""
        return pack(_VERSION, np.frombuffer(self.numbers, "<f8").tolist())

    @classmethod
    def from_state(cls, state: str, ratio: float) -> RatioGap:
        """Inverse of to_state; ValueError for a state of another version or a damaged one."""
        numbers = np.array(unpack(state, _VERSION), "<f8").tobytes()
        if len(numbers) != len(_NEW):
            raise ValueError(f"state of {len(numbers)} bytes, not {len(_NEW)}: written by another version")
        return cls(ratio, numbers)


def _above(a: Group, b: Group, d: float) -> float:
    """Log E against p_A ≤ p_B + d."""
    return float(np.min(_over(a, np.minimum(_EDGES[1:] + d, 1.0)) + _under(b, _EDGES[:-1])))


def _below(a: Group, b: Group, d: float) -> float:
    """Log E against p_A ≥ p_B + d, which asks p_B ≤ 1 − d: cells that begin there or above are not needed."""
    low = _EDGES[:-1]
    cells = low + d < 1
    return float(np.min(_under(a, low[cells] + d) + _over(b, _EDGES[1:][cells])))


def _over(group: Group, rate: Array) -> Array:
    """Log E against "the group's rate is at most `rate`"; 0 where that is at most 1. Same shape as `rate`."""
    possible = rate < 1
    m = np.where(possible, rate, 0.5)[:, None]
    log_l = group.events * np.log1p(_BETS * (1 - m) / m) + (group.items - group.events) * np.log1p(-_BETS)
    return np.where(possible, log_mean_exp(log_l), 0.0)


def _under(group: Group, rate: Array) -> Array:
    """Log E against "the group's rate is at least `rate`"; 0 where that is at least 0."""
    return _over(Group(group.items, group.items - group.events), 1 - rate)
