"""decision/dispersion.py for many rollouts at once: the same sums, one row a rollout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.decisions.scenarios import Bools, Counts, Floats, Ints
from modeldeployment.decision.dispersion import ERRORS_PRIOR, LONG, THETA_PRIOR

_SHORT: Final = 1


@dataclass
class _Moments:
    """A, B and C of one block length: (runs,) each."""

    length: int
    a: Floats
    b: Floats
    c: Floats

    @classmethod
    def none(cls, length: int, runs: int) -> _Moments:
        return cls(length, np.zeros(runs), np.zeros(runs), np.zeros(runs))

    def pair(self, rows: Ints, n1: Floats, x1: Floats, n2: Floats, x2: Floats) -> None:
        """Add pairs (rows, …) of consecutive blocks; a block without requests makes no pair."""
        both = (n1 > 0) & (n2 > 0)
        n1, n2 = np.where(both, n1, 1.0), np.where(both, n2, 1.0)
        u, p = n1 * n2 / (n1 + n2) * both, (x1 + x2) / (n1 + n2) * both
        others = tuple(range(1, n1.ndim))
        self.a[rows] += np.sum(u * (x1 / n1 - x2 / n2) ** 2, axis=others)
        self.b[rows] += np.sum(p, axis=others)
        self.c[rows] += np.sum(2 * u * p, axis=others)

    @property
    def theta(self) -> Floats:
        """θ̂ of this block length."""
        excess = np.maximum(0.0, self.length * (self.a - self.b))
        return np.asarray((excess + ERRORS_PRIOR * THETA_PRIOR) / (self.c + ERRORS_PRIOR))


class Family:
    """Sums over the series of each rollout, and their open blocks: (runs, series, 2), the last axis n and x."""

    def __init__(self, history: Counts) -> None:
        runs, intervals, series = history.n.shape
        self._short, self._long = _Moments.none(_SHORT, runs), _Moments.none(LONG, runs)
        whole, rows = intervals // LONG * LONG, np.arange(runs, dtype=np.int32)
        self.open = np.zeros((runs, series, 2))
        self.last = np.zeros((runs, series, 2))
        self.last_long = np.zeros((runs, series, 2))
        for one in range(series if intervals else 0):
            n, x = history.n[:, :, one].astype(np.float64), history.x[:, :, one].astype(np.float64)
            long_n = n[:, :whole].reshape(runs, -1, LONG).sum(axis=2)
            long_x = x[:, :whole].reshape(runs, -1, LONG).sum(axis=2)
            self._short.pair(rows, n[:, :-1], x[:, :-1], n[:, 1:], x[:, 1:])
            self._long.pair(rows, long_n[:, :-1], long_x[:, :-1], long_n[:, 1:], long_x[:, 1:])
            self.last[:, one] = np.stack([n[:, -1], x[:, -1]], axis=-1)
            self.open[:, one] = np.stack([n[:, whole:].sum(axis=1), x[:, whole:].sum(axis=1)], axis=-1)
            if whole:
                self.last_long[:, one] = np.stack([long_n[:, -1], long_x[:, -1]], axis=-1)

    @property
    def theta(self) -> Floats:
        """θ̂ of each rollout."""
        return np.maximum(self._short.theta, self._long.theta)

    def forget(self) -> None:
        """As after a restart: the sums stay, the open blocks go."""
        for blocks in (self.open, self.last, self.last_long):
            blocks[:] = 0

    def update(self, rows: Ints, n: Floats, x: Floats, closes_long: Bools) -> None:
        """One interval of these rollouts: n and x (rows, series)."""
        block = np.stack([n, x], axis=-1)
        last, self.last[rows] = self.last[rows], block
        self._short.pair(rows, last[..., 0], last[..., 1], n, x)
        self.open[rows] += block
        if not closes_long.any():
            return
        rows = rows[closes_long]
        old, new = self.last_long[rows], self.open[rows]
        self._long.pair(rows, old[..., 0], old[..., 1], new[..., 0], new[..., 1])
        self.last_long[rows], self.open[rows] = new, 0


class Dispersion:
    """θ̂ of stable pod by pod and as one, begun from its history as a rollout begins it."""

    def __init__(self, history: Counts) -> None:
        arm = Counts(history.n.sum(axis=2, keepdims=True), history.x.sum(axis=2, keepdims=True))
        self.pods, self.arm = Family(history), Family(arm)
        self.pods.forget()
        self._phase = np.full(history.n.shape[0], history.n.shape[1] % LONG)

    def update(self, rows: Ints, n: Floats, x: Floats) -> None:
        """Feed one interval of these rollouts, after the tests have used θ̂: n and x (rows, pods)."""
        closes = self._phase[rows] == LONG - 1
        self.pods.update(rows, n, x, closes)
        self.arm.update(rows, n.sum(axis=1, keepdims=True), x.sum(axis=1, keepdims=True), closes)
        self._phase[rows] = (self._phase[rows] + 1) % LONG
