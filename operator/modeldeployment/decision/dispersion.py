"""How much more than Bernoulli noise a healthy model's bad requests vary: θ̂, from stable's own series.

For blocks of L intervals, each pair of consecutive blocks (n₁, x₁), (n₂, x₂) of one series, both n > 0, gives
u = n₁n₂/(n₁+n₂), p = (x₁+x₂)/(n₁+n₂) and

    A += u·(x₁/n₁ − x₂/n₂)²     B += p     C += 2·u·p

A − B over C is a moment estimate of ICC/(1−ICC) per request from successive differences (slow drifts cancel, von
Neumann 1941), shrunk towards a prior of 25 errors at ICC 0.01 (bursts of a minute, so in a block of five a fifth of
it). Two estimates come of it:

    θ̂       = max over L = 1, 6 of (max(0, L·(A − B)) + 25·0.01·g) / (C + 25)     drawn anew each interval
    θ̂_block = (f·max(0, A − B) + 2·25·0.002·g) / (C + 25), f = 2 + min(1, 36/pairs)  drawn anew each block of minutes

The first speaks of intervals: L = 6 sees bursts that last longer than one, and L· makes up for taking them as new
draws. The second speaks of whole blocks (blocks.py) and has its factor in it: few blocks say little about so skewed
a thing. Both are empirical: the theorem of the tests needs θ at least the true one.

g = min(1, 3/pairs) lets the prior fade. Of a version that never fails C stays 0, and the prior would stay, however
long it has run: yet of N + k blocks that are alike, that only the last k have a burst has a chance of k/(N + k) at
most. `pairs` are those of blocks of minutes, both with requests.

The estimate is O(1) per series: sums, and the current and the previous block of each length. Those of the arm as one
series are kept in the state; those of pods only in memory, so a restart drops one pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modeldeployment.decision.arms import Counts

Array = NDArray[np.float64]

LONG: Final = 6
"""Length of a long block, in intervals; a short one is one interval."""

THETA_FACTOR: Final = 2.0
"""θ of the tests over θ̂. Empirical: chosen on simulated bursts (decision.md §2, §5 Limits)."""
PAIRS_FEW: Final = 36.0
"""Three hours of blocks of five minutes: so few leave θ̂_block a third too small too often (ADR 0005)."""
PAIRS_PRIOR: Final = 3.0
"""Pairs of blocks of minutes after which the prior fades: a quarter of an hour (ADR 0005)."""

THETA_PRIOR: Final = 0.01
THETA_PRIOR_BLOCK: Final = THETA_PRIOR / 5
"""Of a block of five minutes, in which bursts of a minute average out."""
ERRORS_PRIOR: Final = 25.0

SERIES_SHAPE: Final = (5, 2)
"""Open blocks of one series, each requests and bad ones: the last interval; of long blocks the last whole one and the
one under way; the same of the blocks of minutes."""
_LAST, _LONG_LAST, _LONG_OPEN, _BLOCK_LAST, _BLOCK_OPEN = range(5)

DISPERSION: Final = np.dtype(
    [
        ("pods", "<f8", (3, 3)),
        ("arm", "<f8", (3, 3)),
        ("series", "<f8", SERIES_SHAPE),
        ("fed", "<f8"),
        ("pairs", "<f8"),
    ]
)
"""The state: A, B, C for each of the three lengths, over the pods and over the arm as one; the arm's open blocks;
intervals fed; pairs of blocks of minutes that the arm has closed."""


@dataclass(frozen=True, slots=True, eq=False)
class Pods:
    """Open blocks of the pods of one arm: names in order, and SERIES_SHAPE for each."""

    names: tuple[str, ...] = ()
    series: Array = field(default_factory=lambda: np.zeros((0, *SERIES_SHAPE)))

    def joined_by(self, counts: Mapping[str, Counts]) -> Pods:
        """With the pods that counted something, and without those that nothing can be paired with any more."""
        if len(counts) == len(self.names) and all(name in counts for name in self.names):
            return self
        known = dict(zip(self.names, self.series, strict=True))
        kept = {name for name, blocks in known.items() if blocks[:, 0].any()}
        # Sorted, so that two leaders add in the same order and get the same bits.
        names = tuple(sorted(kept | counts.keys()))
        none = np.zeros(SERIES_SHAPE)
        return Pods(names, np.array([known.get(name, none) for name in names]).reshape(-1, *SERIES_SHAPE))


def pair(first: Array, second: Array) -> Array:
    """A, B and C of pairs of blocks, shapes (..., 2) → (..., 3); zero where a block has no request."""
    n1, x1, n2, x2 = first[..., 0], first[..., 1], second[..., 0], second[..., 1]
    both = (n1 > 0) & (n2 > 0)
    n1, n2 = np.where(both, n1, 1.0), np.where(both, n2, 1.0)
    u, p, difference = n1 * n2 / (n1 + n2), (x1 + x2) / (n1 + n2), x1 / n1 - x2 / n2
    made: Array = np.where(both[..., None], np.stack([u * difference * difference, p, 2 * u * p], axis=-1), 0.0)
    return made


def feed(series: Array, counts: Array, closes: NDArray[np.bool_]) -> tuple[Array, Array]:
    """One interval of many series.

    `series`: (S, *SERIES_SHAPE); `counts`: (S, 2); `closes`: (S, 2), whether a long block and a block of minutes end
    with this interval. Returns the new series, and A, B, C that each adds for the three lengths: (S, 3, 3).
    """
    new, added = series.copy(), np.zeros((len(series), 3, 3))
    added[:, 0] = pair(series[:, _LAST], counts)
    new[:, _LAST] = counts
    for length, (last, open_) in enumerate(((_LONG_LAST, _LONG_OPEN), (_BLOCK_LAST, _BLOCK_OPEN))):
        whole, ends = series[:, open_] + counts, closes[:, length, None]
        added[:, length + 1] = np.where(ends, pair(series[:, last], whole), 0.0)
        new[:, last] = np.where(ends, whole, series[:, last])
        new[:, open_] = np.where(ends, 0.0, whole)
    return new, added


def feed_table(state: Any, series: Array, counts: Array, row: NDArray[np.intp], block: Array) -> Array:
    """One interval of many estimates: `state` is a table of DISPERSION, changed in place.

    `series`: (S, *SERIES_SHAPE), open blocks of the pods of all arms; `counts`: (S, 2); `row`: (S,), which estimate
    each pod belongs to; `block`: intervals of a block of minutes. Returns the pods' new blocks.
    """
    state["fed"] += 1
    closes = np.stack([state["fed"] % LONG == 0, state["fed"] % block == 0], axis=-1)
    series, added = feed(series, counts, closes[row])
    state["pods"] += _by_row(added.reshape(-1, 9), row, len(state)).reshape(-1, 3, 3)
    arm = _by_row(counts, row, len(state))
    before = state["series"]
    state["pairs"] += closes[:, 1] & (before[:, _BLOCK_LAST, 0] > 0) & (before[:, _BLOCK_OPEN, 0] + arm[:, 0] > 0)
    state["series"], added = feed(before, arm, closes)
    state["arm"] += added
    return series


def _by_row(values: Array, row: NDArray[np.intp], rows: int) -> Array:
    """Sums over the pods of each row, one after the other: the same bits whatever else is in the table."""
    return np.stack([np.bincount(row, column, minlength=rows) for column in values.T], axis=-1).astype(np.float64)


def feed_all(state: Any, pods: Sequence[Pods], counts: Sequence[Mapping[str, Counts]], block: Array) -> list[Pods]:
    """`feed_table` for arms given pod by pod (n and low); an absent pod had no requests. Returns their blocks."""
    joined = [one.joined_by(of) for one, of in zip(pods, counts, strict=True)]
    sizes = [len(one.names) for one in joined]
    rows = [
        (of[name].n, of[name].low) if name in of else (0.0, 0.0)
        for one, of in zip(joined, counts, strict=True)
        for name in one.names
    ]
    series = feed_table(
        state,
        np.concatenate([one.series for one in joined]),
        np.array(rows, dtype=np.float64).reshape(-1, 2),
        np.repeat(np.arange(len(joined)), sizes),
        block,
    )
    ends = np.cumsum(sizes)
    return [
        Pods(one.names, series[end - size : end].copy()) for one, end, size in zip(joined, ends, sizes, strict=True)
    ]


def theta(moments: Array, pairs: ArrayLike) -> Array:
    """θ̂ = ICC/(1−ICC) per request, the larger of the two short lengths': (..., 3, 3) and (...) → (...)."""
    a, b, c = moments[..., :2, 0], moments[..., :2, 1], moments[..., :2, 2]
    prior = np.asarray(THETA_PRIOR * _errors(pairs))[..., None]
    each = (np.maximum(0.0, (1.0, LONG) * (a - b)) + prior) / (c + ERRORS_PRIOR)
    largest: Array = np.max(each, axis=-1)
    return largest


def theta_block(moments: Array, pairs: ArrayLike) -> Array:
    """θ of blocks of minutes, with its factor: (..., 3, 3) and (...) → (...)."""
    a, b, c = moments[..., 2, 0], moments[..., 2, 1], moments[..., 2, 2]
    factor = THETA_FACTOR + np.minimum(1.0, PAIRS_FEW / np.maximum(pairs, 1.0))
    prior = THETA_FACTOR * THETA_PRIOR_BLOCK * _errors(pairs)
    together: Array = (factor * np.maximum(0.0, a - b) + prior) / (c + ERRORS_PRIOR)
    return together


def _errors(pairs: ArrayLike) -> Array:
    """Errors that the prior stands for: it fades once more pairs were seen than it is worth."""
    errors: Array = ERRORS_PRIOR * np.minimum(1.0, PAIRS_PRIOR / np.maximum(pairs, 1.0))
    return errors


def from_history(
    n: ArrayLike, x: ArrayLike, block: int, long_n: ArrayLike | None = None, long_x: ArrayLike | None = None
) -> Any:
    """The state (one row of DISPERSION) as if fed interval by interval, pods' open blocks left out.

    `n`, `x`: (pods, intervals), n = 0 where a pod was absent. `long_n`, `long_x`: (pods, blocks) over a longer past, in
    blocks of minutes; without them those of the intervals themselves count.
    """
    n, x = np.asarray(n, dtype=np.float64), np.asarray(x, dtype=np.float64)
    state = np.zeros(1, DISPERSION)
    arm_n, arm_x = n.sum(axis=0, keepdims=True), x.sum(axis=0, keepdims=True)
    state["fed"] = n.shape[1]
    for name, of_n, of_x in (("pods", n, x), ("arm", arm_n, arm_x)):
        for i, length in enumerate((1, LONG, block)):
            state[name][0, i] = _moments(_sums(of_n, length), _sums(of_x, length))
    if n.shape[1]:
        state["series"][0, _LAST] = arm_n[0, -1], arm_x[0, -1]
    for last, open_, length in ((_LONG_LAST, _LONG_OPEN, LONG), (_BLOCK_LAST, _BLOCK_OPEN, block)):
        whole = n.shape[1] // length * length
        if whole:
            state["series"][0, last] = arm_n[0, whole - length : whole].sum(), arm_x[0, whole - length : whole].sum()
        state["series"][0, open_] = arm_n[0, whole:].sum(), arm_x[0, whole:].sum()
    blocks_n = _sums(n, block) if long_n is None else np.asarray(long_n, dtype=np.float64)
    blocks_x = _sums(x, block) if long_x is None else np.asarray(long_x, dtype=np.float64)
    arm_n, arm_x = blocks_n.sum(axis=0, keepdims=True), blocks_x.sum(axis=0, keepdims=True)
    state["pods"][0, 2], state["arm"][0, 2] = _moments(blocks_n, blocks_x), _moments(arm_n, arm_x)
    state["pairs"] = np.count_nonzero((arm_n[:, :-1] > 0) & (arm_n[:, 1:] > 0))
    return state


def _sums(values: Array, length: int) -> Array:
    """Sums over whole blocks: (series, intervals) → (series, blocks)."""
    whole = values.shape[1] // length * length
    sums: Array = values[:, :whole].reshape(values.shape[0], -1, length).sum(axis=2)
    return sums


def _moments(n: Array, x: Array) -> Array:
    """A, B, C over all consecutive blocks of all series."""
    blocks = np.stack([n, x], axis=-1)
    sums: Array = pair(blocks[:, :-1], blocks[:, 1:]).sum(axis=(0, 1))
    return sums
