"""How much more than Bernoulli noise a healthy model's bad requests vary: θ̂, from stable's own series.

For blocks of L = 1 and L = 6 intervals, each pair of consecutive blocks (n₁, x₁), (n₂, x₂) of one series,
both n > 0, gives u = n₁n₂/(n₁+n₂), p = (x₁+x₂)/(n₁+n₂) and

    A += u·(x₁/n₁ − x₂/n₂)²     B += p     C += 2·u·p
    θ̂ = max over L of (max(0, L·(A − B)) + 25·0.01) / (C + 25)

a moment estimate of ICC/(1−ICC) per request from successive differences (slow drifts cancel, von
Neumann 1941), shrunk towards a prior of 25 errors at ICC 0.01. L = 6 sees bursts that last
longer than an interval. θ̂ itself is empirical: the theorem of the tests needs θ at least the true one.

The estimate is O(1) per series: sums, and the current and the previous block. Blocks of the arm as one
series are kept in the state; blocks of pods only in memory, so a restart drops one pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

LONG: Final = 6
"""Length of a long block, in intervals; a short one is one interval."""

THETA_PRIOR: Final = 0.01
ERRORS_PRIOR: Final = 25.0


class Block(NamedTuple):
    """Requests and bad requests of one series over one block."""

    n: float = 0.0
    x: float = 0.0


class Moments(NamedTuple):
    """The sums A, B and C of one block length."""

    a: float = 0.0
    b: float = 0.0
    c: float = 0.0

    def pair(self, first: Block, second: Block) -> Moments:
        """Add one pair of consecutive blocks; a block without requests makes no pair."""
        if not (first.n > 0 and second.n > 0):
            return self
        u = first.n * second.n / (first.n + second.n)
        p = (first.x + second.x) / (first.n + second.n)
        difference = first.x / first.n - second.x / second.n
        return Moments(self.a + u * difference * difference, self.b + p, self.c + 2 * u * p)

    def theta(self, length: int) -> float:
        """θ̂ of this block length alone, prior included."""
        return (max(0.0, length * (self.a - self.b)) + ERRORS_PRIOR * THETA_PRIOR) / (self.c + ERRORS_PRIOR)


class Series(NamedTuple):
    """Open blocks of one series: the last interval, the last whole long block, the long block under way."""

    last: Block = Block()
    last_long: Block = Block()
    open_long: Block = Block()

    @property
    def empty(self) -> bool:
        """Nothing that a later interval could be paired with."""
        return self.last.n == self.last_long.n == self.open_long.n == 0


@dataclass(frozen=True, slots=True)
class Family:
    """Sums over all series of a family (the pods, or the arm as one), and each one's open blocks."""

    short: Moments = field(default_factory=Moments)
    long: Moments = field(default_factory=Moments)
    series: Mapping[str, Series] = field(default_factory=dict)

    @property
    def theta(self) -> float:
        """θ̂ = ICC/(1−ICC) per request, the larger of the two block lengths'."""
        return max(self.short.theta(1), self.long.theta(LONG))

    def update(self, counts: Mapping[str, Block], *, closes_long: bool) -> Family:
        """One interval; a series that is absent had no requests."""
        short, long = self.short, self.long
        series: dict[str, Series] = {}
        # Sorted, so that two leaders add in the same order and get the same bits.
        for name in sorted(self.series.keys() | counts.keys()):
            old, block = self.series.get(name, Series()), counts.get(name, Block())
            short = short.pair(old.last, block)
            open_long = Block(old.open_long.n + block.n, old.open_long.x + block.x)
            new = Series(block, old.last_long, open_long)
            if closes_long:
                long = long.pair(old.last_long, open_long)
                new = Series(block, open_long, Block())
            if not new.empty:
                series[name] = new
        return Family(short, long, series)


_ARM: Final = ""
FLOATS: Final = 19
"""How many numbers the state of a Dispersion is."""


@dataclass(frozen=True, slots=True)
class Dispersion:
    """θ̂ of stable pod by pod and as one. `phase`: intervals in the long block under way, 0 to 5."""

    pods: Family = Family()
    arm: Family = Family()
    phase: int = 0

    def update(self, counts: Mapping[str, Block]) -> Dispersion:
        """Feed one interval: requests and bad requests of each stable pod, after the tests have used θ̂."""
        whole = Block(sum(c.n for c in counts.values()), sum(c.x for c in counts.values()))
        closes = self.phase == LONG - 1
        return Dispersion(
            self.pods.update(counts, closes_long=closes),
            self.arm.update({_ARM: whole}, closes_long=closes),
            (self.phase + 1) % LONG,
        )

    @classmethod
    def from_history(cls, names: Sequence[str], n: ArrayLike, x: ArrayLike) -> Dispersion:
        """As if fed interval by interval: n and x of shape (series, intervals), n = 0 where a pod was absent."""
        n, x = np.asarray(n, dtype=np.float64), np.asarray(x, dtype=np.float64)
        return cls(
            _family(names, n, x),
            _family((_ARM,), n.sum(axis=0, keepdims=True), x.sum(axis=0, keepdims=True)),
            n.shape[1] % LONG,
        )

    def without_pods(self) -> Dispersion:
        """What survives a restart: the pods' sums, but none of their open blocks."""
        return replace(self, pods=replace(self.pods, series={}))

    def to_floats(self) -> tuple[float, ...]:
        """The state as FLOATS numbers, without the open blocks of pods."""
        arm = self.arm.series.get(_ARM, Series())
        blocks = (*arm.last, *arm.last_long, *arm.open_long)
        return (
            *self.pods.short,
            *self.pods.long,
            *self.arm.short,
            *self.arm.long,
            *blocks,
            float(self.phase),
        )

    @classmethod
    def from_floats(cls, f: Sequence[float]) -> Dispersion:
        """Inverse of to_floats."""
        if len(f) != FLOATS:
            raise ValueError(f"dispersion state of {len(f)} numbers, not {FLOATS}: written by another version")
        arm = Series(Block(*f[12:14]), Block(*f[14:16]), Block(*f[16:18]))
        return cls(
            Family(Moments(*f[0:3]), Moments(*f[3:6])),
            Family(Moments(*f[6:9]), Moments(*f[9:12]), {} if arm.empty else {_ARM: arm}),
            int(f[18]),
        )


def _family(names: Sequence[str], n: NDArray[np.float64], x: NDArray[np.float64]) -> Family:
    whole = n.shape[1] // LONG * LONG
    long_n = n[:, :whole].reshape(n.shape[0], -1, LONG).sum(axis=2)
    long_x = x[:, :whole].reshape(x.shape[0], -1, LONG).sum(axis=2)
    open_n, open_x = n[:, whole:].sum(axis=1), x[:, whole:].sum(axis=1)

    def last(row: NDArray[np.float64]) -> float:
        return float(row[-1]) if row.size else 0.0

    series = {
        name: Series(
            Block(last(n[i]), last(x[i])),
            Block(last(long_n[i]), last(long_x[i])),
            Block(float(open_n[i]), float(open_x[i])),
        )
        for i, name in enumerate(names)
    }
    kept = {name: one for name, one in series.items() if not one.empty}
    return Family(_moments(n, x), _moments(long_n, long_x), kept)


def _moments(n: NDArray[np.float64], x: NDArray[np.float64]) -> Moments:
    both = (n[:, :-1] > 0) & (n[:, 1:] > 0)
    n1, n2, x1, x2 = n[:, :-1][both], n[:, 1:][both], x[:, :-1][both], x[:, 1:][both]
    u, p = n1 * n2 / (n1 + n2), (x1 + x2) / (n1 + n2)
    return Moments(float(np.sum(u * (x1 / n1 - x2 / n2) ** 2)), float(np.sum(p)), float(np.sum(2 * u * p)))
