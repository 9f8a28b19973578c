"""Our rules for many rollouts at once: the shipping kernel and e-process, one row a rollout.

The interface is small so that what is inside may change: `Sequential(history, plan, bound)`, then `update` with one
`Interval` after another, and the log e-values between. `decide` runs a batch. Rules:

- `sequential`: what ships by default. E_rel ≥ 1/α and E_abs ≥ 4.
- `relative`: E_rel ≥ 1/α alone.
- `poisson`: the same with θ = 0, as if requests failed independently.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.decisions.dispersion import Dispersion
from bench.decisions.scenarios import INTERVAL, Batch, Bools, Counts, Floats, Ints
from modeldeployment.decision import kernel
from modeldeployment.decision.eprocess import advance
from modeldeployment.decision.sequential import ABSOLUTE_E_MIN, FIRST_GAMMA, THETA_FACTOR, Bound, Plan

NEVER: Final = -1
Looks = NDArray[np.int64]
"""Index of the look at which each rollout was rolled back, NEVER where it was not."""

RULES: Final = ("sequential", "relative", "poisson")


class Interval(NamedTuple):
    """What both arms did: n and x pod by pod (rows, pods); length in intervals, whether the weight moved (rows,)."""

    n_c: Floats
    x_c: Floats
    n_s: Floats
    x_s: Floats
    length: NDArray[np.int64]
    moved: Bools

    def of(self, keep: Bools) -> Interval:
        """Some of the rows."""
        n_c, x_c, n_s, x_s = (a[keep] for a in self[:4])
        return Interval(n_c, x_c, n_s, x_s, self.length[keep], self.moved[keep])


@dataclass
class _Processes:
    """One e-process a rollout, started anew at every interval: log S (runs, 12), u and log E (runs,)."""

    log_s: Floats
    u: Floats
    log_e: Floats

    @classmethod
    def new(cls, runs: int) -> _Processes:
        return cls(np.full((runs, len(kernel.RATIOS)), -math.inf), np.ones(runs), np.zeros(runs))

    def update(self, rows: Ints, increments: Floats, gamma: Floats, cap: float) -> None:
        self.log_s[rows], self.u[rows], self.log_e[rows] = advance(
            self.log_s[rows], self.u[rows], self.log_e[rows], increments, gamma, cap
        )


class Sequential:
    """RuleState of many rollouts: `rows` says which of them an interval is of; the others keep their state."""

    def __init__(self, history: Counts, plan: Plan, bound: Bound) -> None:
        runs = history.n.shape[0]
        self._plan, self._bound = plan, bound
        self._dispersion = Dispersion(history)
        self._relative, self._absolute, self._poisson = (_Processes.new(runs) for _ in range(3))
        self._pass = np.zeros((runs, len(kernel.PASS_TILTS)))
        self._done = np.zeros(runs, dtype=np.int64)

    def update(self, rows: Ints, interval: Interval, *, poisson: bool = True) -> None:
        """One interval. θ comes from earlier intervals only; then this one is fed to θ̂."""
        bound, cap = self._bound, self._plan.cap
        gamma = _gamma(self._plan, self._done[rows], interval.length)
        theta_c, theta_s = (theta[rows] for theta in self.thetas)
        counted = ~interval.moved
        n_c, x_c, n_s, x_s = (a.sum(axis=1) * counted for a in interval[:4])
        increments = kernel.relative_increments(n_c, x_c, n_s, x_s, rho0=bound.rho0, theta_c=theta_c, theta_s=theta_s)
        self._relative.update(rows, increments, gamma, cap)
        increments = kernel.absolute_increments(n_c, x_c, bound=bound.share, theta=theta_c)
        self._absolute.update(rows, increments, gamma, cap)
        if poisson:
            self._poisson.update(rows, kernel.relative_increments(n_c, x_c, n_s, x_s, rho0=bound.rho0), gamma, cap)
        self._pass[rows] += kernel.pass_increments(
            n_c, x_c, bound=bound.share, detectable=bound.detectable, theta=theta_c
        )
        self._done[rows] += interval.length
        self._dispersion.update(rows, interval.n_s, interval.x_s)

    def begin_step(self) -> None:
        """A new step asks for a new proof of Pass."""
        self._pass[:] = 0

    @property
    def thetas(self) -> tuple[Floats, Floats]:
        """θ of the canary and of stable, of each rollout."""
        return THETA_FACTOR * self._dispersion.pods.theta, THETA_FACTOR * self._dispersion.arm.theta

    @property
    def log_e(self) -> tuple[Floats, Floats, Floats]:
        """Log e-values: relative, absolute, and relative with θ = 0."""
        return self._relative.log_e, self._absolute.log_e, self._poisson.log_e

    @property
    def failed(self) -> dict[str, Bools]:
        """Which rollouts each of RULES would roll back now."""
        reject = math.log(1 / self._plan.alpha)
        relative, absolute, poisson = self.log_e
        over = relative >= reject
        return {
            "sequential": over & (absolute >= math.log(ABSOLUTE_E_MIN)),
            "relative": over,
            "poisson": poisson >= reject,
        }

    @property
    def passed(self) -> Bools:
        """Which canaries are proven below detectable × bound since the step began."""
        return kernel.log_mean_exp(self._pass) >= math.log(1 / self._plan.beta)


def _gamma(plan: Plan, done: NDArray[np.int64], length: NDArray[np.int64]) -> Floats:
    """Plan.gamma of many rollouts."""
    later = length - (done == 0)
    share: Floats = FIRST_GAMMA * (done == 0) + later * (1 - FIRST_GAMMA) / max(1, plan.horizon - 1)
    return np.minimum(1.0, share)


class Decided(NamedTuple):
    """When each rule rolled each rollout back, and which canaries were proven good enough in each step.

    Those of them that were not rolled back are an upper bound on what the operator promotes on this schedule: it also
    asks that the proof still stands when the step's time is over.
    """

    looks: dict[str, Looks]
    proven: Bools


def intervals(batch: Batch) -> Iterator[tuple[int, Ints, Interval]]:
    """Look by look: its index, the rollouts that got a sample, and what it holds."""
    for t in range(batch.observed.shape[1]):
        rows = np.flatnonzero(batch.observed[:, t]).astype(np.int32)
        counts = (batch.canary.n, batch.canary.x, batch.stable.n, batch.stable.x)
        n_c, x_c, n_s, x_s = (a[rows, t].astype(np.float64) for a in counts)
        yield t, rows, Interval(n_c, x_c, n_s, x_s, batch.length[rows, t], batch.moved[rows, t])


def decide(batch: Batch, plan: Plan, bound: Bound, *, poisson: bool = True, stop: bool = True) -> Decided:
    """A batch through its rollouts. `stop`: a rollout that every rule has rolled back is left alone."""
    runs = batch.runs
    rules = RULES if poisson else RULES[:2]
    looks = {rule: np.full(runs, NEVER, dtype=np.int64) for rule in rules}
    state = Sequential(batch.history, plan, bound)
    begins = {round(start / INTERVAL) for start, _ in batch.scenario.steps} - {0}
    step, before = np.zeros(runs, dtype=bool), np.ones(runs, dtype=bool)
    running = np.ones(runs, dtype=bool)
    for t, rows, interval in intervals(batch):
        if t in begins:
            before, step = before & step, np.zeros(runs, dtype=bool)
            state.begin_step()
        if not running.all():
            keep = running[rows]
            rows, interval = rows[keep], interval.of(keep)
        if not len(rows):
            continue
        state.update(rows, interval, poisson=poisson)
        failed = state.failed
        for rule in rules:
            looks[rule][(looks[rule] == NEVER) & failed[rule]] = t
        step |= state.passed
        if stop:
            running = np.logical_or.reduce([looks[rule] == NEVER for rule in rules])
            if not running.any():
                break
    return Decided(looks, before & step)
