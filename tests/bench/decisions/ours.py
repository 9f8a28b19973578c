"""Our rules for many rollouts at once: the operator's own table of tests, one row a rollout.

The interface is small so that what is inside may change: `Sequential(history, past, plan, bound)`, then `update` with
one `Interval` after another, and the log e-values between. `decide` runs a batch. Rules:

- `sequential`: what ships by default. The smaller of E_rel, interval by interval and by blocks, ≥ 1/α, and E_abs ≥ 4.
- `relative`: E_rel ≥ 1/α alone, interval by interval (decision.md's "rel").
- `poisson`: the same with θ = 0, as if requests failed independently.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.decisions.scenarios import INTERVAL, Batch, Bools, Counts, Floats, Ints
from modeldeployment.decision import dispersion, eprocess, kernel
from modeldeployment.decision.hypothesis import CAP_SHARE, Bound, Plan, starting
from modeldeployment.decision.sequential import (
    ABSOLUTE_E_MIN,
    ALONE_AFTER,
    STATE,
    Facts,
    RuleState,
    advance_table,
)

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


class Sequential:
    """RuleState of many rollouts: `rows` says which of them an interval is of; the others keep their state."""

    def __init__(self, history: Counts, past: Counts, plan: Plan, bound: Bound) -> None:
        runs, pods = history.n.shape[0], history.n.shape[2]
        known = (
            dispersion.from_history(history.n[r].T, history.x[r].T, plan.block, past.n[r].T, past.x[r].T)
            for r in range(runs)
        )
        states = [RuleState.begin(bound, plan, one if past.n.size else None).numbers for one in known]
        self._plan, self._bound, self._alpha = plan, bound, np.full(runs, plan.alpha)
        self._table = np.frombuffer(bytearray().join(states), STATE)
        self._pods = np.zeros((runs, pods, *dispersion.SERIES_SHAPE))
        self._poisson = np.zeros(runs, eprocess.RESTARTED)
        eprocess.begin(self._poisson)

    def update(self, rows: Ints, interval: Interval, *, poisson: bool = True) -> None:
        """One interval. θ comes from earlier intervals only; then this one is fed to θ̂."""
        if not len(rows):
            return
        table, of = self._table[rows], self._facts(rows, interval)
        gamma = starting(table["intervals"], of.length, of.horizon)
        advance_table(table, of)
        self._feed(rows, table, interval)
        self._table[rows] = table
        if poisson:
            used = ~interval.moved & (of.n_c > 0) & (of.n_s > 0)
            independent = kernel.relative_increments(of.n_c, of.low_c, of.n_s, of.low_s, rho0=self._bound.rho0)
            process = self._poisson[rows]
            eprocess.step(process, independent, gamma, of.cap, used)
            self._poisson[rows] = process

    def restart(self, rows: Ints, alpha: Floats) -> None:
        """New tests of these rollouts, each at its own α; what is known of stable's dispersion stays."""
        fresh = np.frombuffer(RuleState(self._bound, self._plan).numbers, STATE)
        known = self._table["dispersion"][rows]
        self._table[rows] = fresh
        self._table["dispersion"][rows] = known
        self._alpha[rows] = alpha

    def _facts(self, rows: Ints, interval: Interval) -> Any:
        bound, plan = self._bound, self._plan
        n_c, x_c, n_s, x_s = (a.sum(axis=1) for a in interval[:4])
        columns: dict[str, Any] = {
            "share": bound.share,
            "rho0": bound.rho0,
            "detectable": bound.detectable,
            "alone": False,
            "cap": CAP_SHARE * np.log(1 / self._alpha[rows]),
            "horizon": plan.horizon,
            "alarm_cap": plan.alarm_cap,
            "block_gamma": plan.block_gamma,
            "block": plan.block,
            "length": interval.length,
            "evidence": ~interval.moved,
            "n_c": n_c,
            "low_c": x_c,
            "high_c": x_c,
            "n_s": n_s,
            "low_s": x_s,
            "high_s": x_s,
        }
        # By name, so that a fact added there is missed here; advance_table takes columns where one rule has floats.
        facts: Any = {name: np.full(len(rows), column, dtype=np.float64) for name, column in columns.items()}
        return Facts(**facts)

    def _feed(self, rows: Ints, table: Any, interval: Interval) -> None:
        series = self._pods[rows]
        counts = np.stack([interval.n_s, interval.x_s], axis=-1).reshape(-1, 2)
        place = np.repeat(np.arange(len(rows)), series.shape[1])
        block = np.full(len(rows), float(self._plan.block))
        flat = series.reshape(-1, *dispersion.SERIES_SHAPE)
        self._pods[rows] = dispersion.feed_table(table["dispersion"], flat, counts, place, block).reshape(series.shape)

    def begin_step(self) -> None:
        """A new step asks for a new proof of Pass."""
        self._table["passing"] = 0.0

    @property
    def thetas(self) -> tuple[Floats, Floats]:
        """θ of the canary and of stable, interval by interval, of each rollout."""
        known = self._table["dispersion"]
        pods, arm = (
            dispersion.THETA_FACTOR * dispersion.theta(known[name], known["pairs"]) for name in ("pods", "arm")
        )
        return pods, arm

    @property
    def log_e(self) -> dict[str, Floats]:
        """Log e-values of each rollout: relative, absolute, relative by blocks, and relative with θ = 0."""
        table = self._table
        found = {name: table[name]["log_e"] for name in ("relative", "absolute", "blocks")}
        return {**found, "poisson": self._poisson["log_e"]}

    @property
    def failed(self) -> dict[str, Bools]:
        """Which rollouts each of RULES would roll back now."""
        reject, log_e = np.log(1 / self._alpha), self.log_e
        gate = log_e["absolute"] >= math.log(ABSOLUTE_E_MIN)
        unmeasured = (self._table["stable"][:, 0] == 0) & (self._table["intervals"] >= ALONE_AFTER)
        return {
            "sequential": np.where(unmeasured, log_e["absolute"] >= reject, gate & self.worse),
            "relative": log_e["relative"] >= reject,
            "poisson": log_e["poisson"] >= reject,
        }

    @property
    def worse(self) -> Bools:
        """Which canaries are proven worse than stable, interval by interval and by blocks."""
        log_e = self.log_e
        return np.asarray(np.minimum(log_e["relative"], log_e["blocks"]) >= np.log(1 / self._alpha))

    @property
    def passed(self) -> Bools:
        """Which canaries are proven below detectable × bound since the step began."""
        return kernel.log_mean_exp(self._table["passing"]) >= math.log(1 / self._plan.beta)


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
    state = Sequential(batch.history, batch.past, plan, bound)
    begins = {round(start / INTERVAL) for start, _ in batch.scenario.steps} - {0}
    step, steps = np.zeros(runs, dtype=bool), np.zeros(runs, dtype=np.int64)
    running = np.ones(runs, dtype=bool)
    for t, rows, interval in intervals(batch):
        if t in begins:
            steps, step = steps + step, np.zeros(runs, dtype=bool)
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
    return Decided(looks, steps + step == len(begins) + 1)
