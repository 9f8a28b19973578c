"""Worlds that rollout rules are tried in: what a scenario is, and its request counts for many rollouts at once.

A rollout sends 10, 25 and 50 % of the traffic to the canary, 10 min each, and is looked at every 10 s. Stable has
10 pods, the canary a tenth of its weight in percent of them, rounded up: 1, 3 and 5. Before the rollout stable alone
had the traffic: the last 3 h are known look by look, a day in blocks of 5 min, as the operator asks for them. Requests
arrive as a Poisson process, evenly over the pods of an arm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Bools = NDArray[np.bool_]

INTERVAL: Final = 10.0
"""Seconds between looks."""
BLOCK: Final = 30
"""Looks in a block of the past."""
STABLE_PODS: Final = 10
STEPS: Final = ((0.0, 0.10), (600.0, 0.25), (1200.0, 0.50))
"""From which second which share of the traffic is the canary's."""
DURATION: Final = 1800.0
BOUND: Final = 0.01
HEALTHY: Final = 0.005
"""Stable's rate of bad requests where a scenario does not say otherwise."""

_INCIDENT: Final = 180.0
_MINUTE: Final = 60.0
_HALF_HOUR: Final = 1800.0
_DAY: Final = 86400.0
_RESTART_INTERVALS: Final = 3
_SWING: Final = 0.5
"""How far load and shared rate swing about their means, where they do."""
_NORMAL_FROM: Final = 400.0
"""Above this mean, requests (not bad ones) are drawn as a rounded normal: Poisson draws are much slower there."""


class Unit(StrEnum):
    """What has one rate of bad requests during a burst."""

    ARM = "arm"
    POD = "pod"
    COMMON = "common"
    """Both arms, in proportion to their own rates."""


@dataclass(frozen=True)
class Burst:
    """Rates of bad requests that vary: drawn anew every `seconds` from a beta distribution with this ICC."""

    icc: float
    unit: Unit = Unit.ARM
    seconds: float = INTERVAL


class Table(StrEnum):
    """Which table a scenario belongs to."""

    GOOD = "good"
    """No worse than stable, or inside its bound: rolling it back is wrong."""
    BURSTS = "bursts"
    """The same, over a grid of bursts."""
    LIMIT = "limit"
    """What the rule is known not to do."""
    BAD = "bad"
    """Bad from the start: how soon it is rolled back."""
    CLEAN = "clean"
    """The same beside a stable version that never fails, and of which more or less is known."""
    LATE = "late"
    """Turns bad at minute 15."""
    PROMOTION = "promotion"
    """Canary and stable both at detectable × bound: it must not be promoted."""


@dataclass(frozen=True)
class Scenario:
    """One world.

    Attributes:
        name: as the tables and the JSON say it.
        rps: requests per second of both arms together.
        rate, stable_rate: share of bad requests of the canary and of stable.
        good: whether rolling the canary back is wrong.
        onset: seconds into the rollout from which the canary has `rate`; before, it is as stable.
        bursts: rates that vary, in history too.
        incident: factor on both arms' rates for 3 min at a random moment of the rollout.
        bad_minutes: factor on an arm's rate for 1 min in every 30, at moments of its own, in history too.
        alone: factor on the canary's rate for 1 min, nothing like it anywhere else.
        diurnal: load swings by half over a day, and the shared rate over an hour.
        ramp: load grows from 0.2 to 2 times over the rollout, and the shared rate doubles.
        outage: seconds from a random moment on in which Prometheus is down: no scrape, and queries fail.
        gaps: probability that a scrape is missing; the next one then holds both intervals.
        restarts: restarts per pod and hour; the requests since the last scrape are lost, the pod is away for 30 s.
        steps: weights, as STEPS.
        rho0: the rule allows the canary this many times stable's rate.
        history: seconds of stable before the rollout that are known look by look.
        past: the same that are known by blocks; a multiple of a block, and at least `history`.
    """

    name: str
    table: Table
    rps: float
    rate: float = HEALTHY
    stable_rate: float = HEALTHY
    good: bool = True
    onset: float = 0.0
    bursts: Burst | None = None
    incident: float = 1.0
    bad_minutes: float = 1.0
    alone: float = 1.0
    diurnal: bool = False
    ramp: bool = False
    outage: float = 0.0
    gaps: float = 0.0
    restarts: float = 0.0
    steps: tuple[tuple[float, float], ...] = STEPS
    rho0: float = 1.0
    history: float = 3 * 3600.0
    past: float = 24 * 3600.0

    @property
    def intervals(self) -> int:
        """Looks in the rollout."""
        return round(DURATION / INTERVAL)


@dataclass(frozen=True)
class Counts:
    """Requests n and bad ones x of one arm: int32 (runs, intervals, pods); n = 0 where a pod was not there."""

    n: Ints
    x: Ints

    @property
    def arm(self) -> tuple[Floats, Floats]:
        """n and x of the arm as one: float64 (runs, intervals)."""
        return self.n.sum(axis=2, dtype=np.float64), self.x.sum(axis=2, dtype=np.float64)


@dataclass(frozen=True)
class Batch:
    """Many rollouts of one scenario. `history`: stable before, look by look; `past`: longer, by blocks.

    `observed`, `length`, `moved`, `down` have shape (runs, intervals): whether the look found a new sample; how many
    intervals it holds (0 if none); whether the weight moved within them; whether the look's query failed. A gap's
    counts are in the next observed interval.
    """

    scenario: Scenario
    history: Counts
    past: Counts
    canary: Counts
    stable: Counts
    observed: Bools
    length: NDArray[np.int64]
    moved: Bools
    down: Bools

    @property
    def runs(self) -> int:
        """Rollouts."""
        return int(self.canary.n.shape[0])


def generator(seed: int, *key: int) -> np.random.Generator:
    """Random numbers of one part of a cell: the same for the same seed and key, whichever process asks."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, *key])))


def generate(scenario: Scenario, runs: int, rng: np.random.Generator) -> Batch:
    """`runs` independent rollouts, each with its own history."""
    before, during = round(scenario.history / INTERVAL), scenario.intervals
    far = round(scenario.past / INTERVAL) - before
    load, shared = _shared(scenario, runs, far + before, during, rng)
    rate_s = scenario.stable_rate * shared * _bad_minutes(scenario, runs, far + before + during, rng)
    per_interval = scenario.rps * INTERVAL * load
    past = _by_blocks(scenario, per_interval[:, :far], rate_s[:, :far], rng)
    shared, rate_s, per_interval = (a[:, far:] for a in (shared, rate_s, per_interval))
    own_c = _bad_minutes(scenario, runs, during, rng) * _once(runs, during, _MINUTE, scenario.alone, rng)
    weight, moved = weights(scenario.steps, during)

    onset = np.arange(during) * INTERVAL >= scenario.onset
    rate_c = np.where(onset, scenario.rate, scenario.stable_rate) * shared[:, before:] * own_c
    p_s, p_c = _burst(scenario, rate_s, rate_c, before, rng)

    canary_weight = np.concatenate([np.zeros(before), weight])
    seen_s = _present(np.full(before + during, STABLE_PODS), STABLE_PODS, scenario, runs, rng)
    pods_c = np.ceil(np.round(weight * STABLE_PODS, 9)).astype(int)
    seen_c = _present(pods_c, int(pods_c.max()), scenario, runs, rng)
    stable = draw_counts(per_interval * (1 - canary_weight), seen_s, p_s, rng)
    canary = draw_counts(per_interval[:, before:] * weight, seen_c, p_c, rng)

    observed = rng.random((runs, before + during)) >= scenario.gaps
    stable_history = Counts(stable.n[:, :before], stable.x[:, :before])
    stable_now = Counts(stable.n[:, before:], stable.x[:, before:])
    down = (
        _once(runs, during, scenario.outage, 2.0, rng) > 1 if scenario.outage else np.zeros((runs, during), dtype=bool)
    )
    now = observed[:, before:] & ~down
    length, moved_run = _merged(np.broadcast_to(moved, now.shape), now)
    return Batch(
        scenario,
        _merge(stable_history, observed[:, :before]),
        _joined(past, stable_history),
        _merge(canary, now),
        _merge(stable_now, now),
        now,
        length,
        moved_run,
        down,
    )


def weights(steps: tuple[tuple[float, float], ...], intervals: int) -> tuple[Floats, Bools]:
    """The canary's mean weight in each interval, and whether it moved in it (half way through).

    The canary's first interval is no move: it had no traffic before.
    """
    index = np.arange(intervals)
    weight = np.zeros(intervals)
    for start, share in steps:
        weight[index >= round(start / INTERVAL)] = share
    before = np.concatenate([weight[:1], weight[:-1]])
    moved = (weight != before) & (before > 0)
    mean = np.where(moved, (weight + before) / 2, weight)
    return mean, moved


def _shared(s: Scenario, runs: int, before: int, during: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Factors on the load and on both arms' rates: (runs, before + during)."""
    whole = before + during
    at = np.arange(whole) * INTERVAL
    load, shared = np.ones((runs, whole)), np.ones((runs, whole))
    if s.diurnal:
        day, hour = rng.random((2, runs, 1)) * 2 * math.pi
        load = load * (1 + _SWING * np.sin(2 * math.pi * at / _DAY + day))
        shared = shared * (1 + _SWING * np.sin(2 * math.pi * at / 3600.0 + hour))
    if s.ramp:
        along = np.clip(np.arange(whole) - before, 0, None) / during
        load = load * (0.2 + 1.8 * along)
        shared = shared * (1 + along)
    shared[:, before:] *= _once(runs, during, _INCIDENT, s.incident, rng)
    return load, shared


def _once(runs: int, intervals: int, seconds: float, factor: float, rng: np.random.Generator) -> Floats:
    """`factor` for `seconds` from a random interval on, wholly inside; else 1."""
    if factor == 1:
        return np.ones((runs, 1))
    long = round(seconds / INTERVAL)
    start = rng.integers(0, intervals - long + 1, (runs, 1))
    index = np.arange(intervals)
    return np.where((index >= start) & (index < start + long), factor, 1.0)


def _bad_minutes(s: Scenario, runs: int, intervals: int, rng: np.random.Generator) -> Floats:
    if s.bad_minutes == 1:
        return np.ones((runs, 1))
    each = round(_HALF_HOUR / INTERVAL)
    parts = [_once(runs, each, _MINUTE, s.bad_minutes, rng) for _ in range(math.ceil(intervals / each))]
    return np.concatenate(parts, axis=1)[:, -intervals:]


def _burst(s: Scenario, rate_s: Floats, rate_c: Floats, before: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Rates as drawn: (runs, intervals, 1 or pods). Bursts begin at a phase of each run's own."""
    if s.bursts is None or s.bursts.icc == 0:
        return np.minimum(rate_s, 1.0)[..., None], np.minimum(rate_c, 1.0)[..., None]
    pods = STABLE_PODS if s.bursts.unit is Unit.POD else 1
    runs, whole = rate_s.shape
    factor_s = _held(s.stable_rate, s.bursts, runs, whole, pods, rng)
    if s.bursts.unit is Unit.COMMON:
        factor_c = factor_s[:, before:]
    else:
        pods_c = math.ceil(max(w for _, w in s.steps) * pods)
        factor_c = _held(s.rate, s.bursts, runs, whole - before, pods_c, rng)
    return np.minimum(rate_s[..., None] * factor_s, 1.0), np.minimum(rate_c[..., None] * factor_c, 1.0)


def _held(mean: float, bursts: Burst, runs: int, intervals: int, pods: int, rng: np.random.Generator) -> Floats:
    """Factors of mean 1 on a rate of this mean, each held for a burst: (runs, intervals, pods)."""
    theta, long = bursts.icc / (1 - bursts.icc), round(bursts.seconds / INTERVAL)
    draws = math.ceil(intervals / long) + 1
    p = rng.beta(mean / theta, (1 - mean) / theta, (runs, draws, pods)) / mean
    burst = (np.arange(intervals) + rng.integers(0, long, (runs, 1))) // long
    return np.asarray(np.take_along_axis(p, burst[..., None], axis=1))


def _by_blocks(s: Scenario, per_interval: Floats, rate: Floats, rng: np.random.Generator) -> Counts:
    """Stable's far past in whole blocks, without gaps and restarts: (runs, blocks, pods).

    Bursts shorter than a block come as a gamma variate of their mean's mean and variance, longer ones as they are.
    """
    runs, blocks = rate.shape[0], rate.shape[1] // BLOCK
    n = per_interval.reshape(runs, blocks, BLOCK)
    bad = (per_interval * rate).reshape(runs, blocks, BLOCK)
    factor: Floats = np.ones((1, 1, 1))
    if s.bursts is not None and s.bursts.icc > 0 and blocks:
        pods, long = (STABLE_PODS if s.bursts.unit is Unit.POD else 1), round(s.bursts.seconds / INTERVAL)
        if long < BLOCK:
            variance = s.bursts.icc * (1 - s.stable_rate) / s.stable_rate * long / BLOCK
            factor = rng.gamma(1 / variance, variance, (runs, blocks, pods))
        else:
            each = _held(s.stable_rate, s.bursts, runs, blocks * BLOCK, pods, rng)
            factor = each.reshape(runs, blocks, BLOCK, pods).mean(axis=2)
    mean = n.sum(axis=2)
    p = np.minimum(bad.sum(axis=2)[..., None] / np.maximum(mean, 1e-9)[..., None] * factor, 1.0)
    return draw_counts(mean, np.full((1, 1, STABLE_PODS), 1 / STABLE_PODS), p, rng)


def _joined(far: Counts, near: Counts) -> Counts:
    """The far past, and the near one in blocks after it."""

    def by_blocks(a: Ints) -> Ints:
        whole = a.shape[1] // BLOCK * BLOCK
        sums: Ints = a[:, a.shape[1] - whole :].reshape(len(a), -1, BLOCK, a.shape[2]).sum(axis=2, dtype=np.int32)
        return sums

    return Counts(*(np.concatenate([f, by_blocks(n)], axis=1) for f, n in ((far.n, near.n), (far.x, near.x))))


def _present(pods: NDArray[np.int_], columns: int, s: Scenario, runs: int, rng: np.random.Generator) -> Floats:
    """Share of its arm's load that is seen of each pod: (runs or 1, intervals, columns), 0 for one that is away."""
    there = (np.arange(columns) < pods[:, None])[None].astype(np.float64)
    if s.restarts == 0:
        return np.asarray(there / np.maximum(there.sum(axis=2, keepdims=True), 1))
    shape = (runs, len(pods), columns)
    restart = rng.random(shape) < s.restarts * INTERVAL / 3600.0
    away = np.zeros(shape, dtype=bool)
    for later in range(1, _RESTART_INTERVALS + 1):
        away[:, later:] |= restart[:, :-later]
    serving = there * ~away
    seen = np.where(restart, rng.random(shape), 1.0)
    return np.asarray(serving / np.maximum(serving.sum(axis=2, keepdims=True), 1) * seen)


def draw_counts(per_interval: Floats, seen: Floats, p: Floats, rng: np.random.Generator) -> Counts:
    """Requests of one arm: load (runs, intervals), share of each pod and rate of bad ones (…, pods).

    Bad ones Poisson(λp), the others Poisson(λ(1−p)): together Poisson(λ), and Binomial(n, p) of them bad."""
    mean = per_interval[..., None] * seen
    x = rng.poisson(mean * p).astype(np.int32)
    mean = mean * (1 - p)
    if float(mean.max(initial=0.0)) < _NORMAL_FROM:
        rest = rng.poisson(mean)
    else:
        normal = rng.standard_normal(mean.shape, dtype=np.float32)
        rest = np.where(mean > _NORMAL_FROM, np.rint(mean + np.sqrt(mean) * normal), 0).astype(np.int32)
        few = (mean > 0) & (mean <= _NORMAL_FROM)
        rest[few] = rng.poisson(mean[few])
    return Counts((rest + x).astype(np.int32), x)


def _merged(moved: Bools, observed: Bools) -> tuple[NDArray[np.int64], Bools]:
    """Length of each observed interval, those missed before it included, and whether the weight moved in it."""
    index = np.arange(observed.shape[1])
    last = np.maximum.accumulate(np.where(observed, index, -1), axis=1)
    previous = np.concatenate([np.full((observed.shape[0], 1), -1), last[:, :-1]], axis=1)
    moves = np.cumsum(moved, axis=1)
    moves = np.concatenate([np.zeros((moves.shape[0], 1), dtype=moves.dtype), moves], axis=1)
    since = np.take_along_axis(moves, previous + 1, axis=1)
    return np.where(observed, index - previous, 0), observed & (moves[:, 1:] > since)


def _merge(counts: Counts, observed: Bools) -> Counts:
    """What is missed comes with the next sample; at the end, never."""
    if observed.all():
        return counts
    return Counts(_carry(counts.n, observed), _carry(counts.x, observed))


def _carry(a: Ints, observed: Bools) -> Ints:
    out = np.zeros_like(a)
    held = np.zeros_like(a[:, 0])
    for i in range(a.shape[1]):
        held = held + a[:, i]
        seen = observed[:, i, None]
        out[:, i] = np.where(seen, held, 0)
        held = np.where(seen, 0, held)
    return out
