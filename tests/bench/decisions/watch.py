"""The 24 h after promotion: the new version has all traffic, stable is kept; rules may split the traffic again.

A rule steers the world, so it is drawn interval by interval: `Watch.draw` takes the share that each rollout
gives to the new version, 1 while nothing is suspected.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.decisions.ours import NEVER, Interval, Looks, Sequential
from bench.decisions.scenarios import BLOCK, BOUND, HEALTHY, INTERVAL, STABLE_PODS, Counts, Floats, draw_counts
from modeldeployment.decision import detector, kernel
from modeldeployment.decision.hypothesis import Bound, Plan
from modeldeployment.decision.memory import ALARMS_MAX, COMPARE_SECONDS
from modeldeployment.decision.watching import RESTS_MAX

HOURS: Final = 24
INTERVALS: Final = round(HOURS * 3600 / INTERVAL)
_INCIDENT_INTERVALS: Final = 18


@dataclass(frozen=True)
class WatchScenario:
    """One world after promotion.

    Attributes:
        name: as the tables and the JSON say it.
        rps: requests per second.
        rate: the new version's share of bad requests from `onset` on; before it, as stable's.
        stable_rate: stable's.
        onset: seconds after promotion.
        incidents: how many times both versions fail `factor` times as much for 3 min, at random moments.
        good: whether rolling back is wrong.
        history, past: seconds of stable before the rollout that are known look by look, and in blocks; the two are
            drawn apart.
    """

    name: str
    rps: float
    rate: float = HEALTHY
    stable_rate: float = HEALTHY
    onset: float = 6 * 3600.0
    incidents: int = 4
    factor: float = 10.0
    good: bool = True
    history: float = 3 * 3600.0
    past: float = 24 * 3600.0


class Watch:
    """`runs` independent worlds of a scenario, from promotion on."""

    def __init__(self, scenario: WatchScenario, runs: int, rng: np.random.Generator) -> None:
        self.scenario, self.runs, self._rng = scenario, runs, rng
        self.incidents = rng.integers(0, INTERVALS - _INCIDENT_INTERVALS + 1, (runs, scenario.incidents))
        self._weight = np.ones(runs)
        self._per_interval = scenario.rps * INTERVAL
        before, blocks = round(scenario.history / INTERVAL), round(scenario.past / INTERVAL / BLOCK)
        self._bad: list[Floats] = []
        self.history = self._arm(np.ones((runs, before)), np.full((runs, before), scenario.stable_rate))
        self.past = self._arm(np.full((runs, blocks), BLOCK), np.full((runs, blocks), scenario.stable_rate))

    def draw(self, t: int, weight: Floats) -> Interval:
        """Interval t of all worlds: canary is the new version, stable the kept one; 10 pods each.

        Where `weight` (runs,) is not that of the interval before, it moved half way through, and `moved` says so.
        """
        moved = weight != self._weight
        share, self._weight = (weight + self._weight) / 2, weight
        since = t - self.incidents
        shared = np.where(((since >= 0) & (since < _INCIDENT_INTERVALS)).any(axis=1), self.scenario.factor, 1.0)
        rate = self.scenario.rate if t * INTERVAL >= self.scenario.onset else self.scenario.stable_rate
        new = self._arm(share[:, None], np.minimum(shared * rate, 1.0)[:, None])
        kept = self._arm(1 - share[:, None], np.minimum(shared * self.scenario.stable_rate, 1.0)[:, None])
        self._bad.append(new.x[:, 0].sum(axis=1, dtype=np.float64))
        n_c, x_c, n_s, x_s = (a[:, 0].astype(np.float64) for a in (new.n, new.x, kept.n, kept.x))
        return Interval(n_c, x_c, n_s, x_s, np.ones(self.runs, dtype=np.int64), moved)

    def bad_until(self, looks: Looks) -> Floats:
        """Bad requests of the new version up to each rollout's rollback, or as far as was drawn: (runs,)."""
        last = np.where(looks == NEVER, len(self._bad), looks + 1)
        total = np.zeros(self.runs)
        for t, bad in enumerate(self._bad):
            total += bad * (t < last)
        return total

    def _arm(self, share: Floats, rate: Floats) -> Counts:
        if not share.any():
            none = np.zeros((*share.shape, STABLE_PODS), dtype=np.int32)
            return Counts(none, none)
        pods = np.full((1, 1, STABLE_PODS), 1 / STABLE_PODS)
        return draw_counts(self._per_interval * share, pods, rate[..., None], self._rng)


Watcher = Callable[[Watch, float], Looks]
"""A rule after promotion, at this α: runs a world to its end, and says when each rollout was rolled back."""


def since_promotion(watch: Watch, alpha: float) -> Looks:
    """The absolute test begun once, at promotion: decision.md §5's "plain e-process since promotion".

    For comparison: all that went well before a version turns bad weighs against the proof.
    """
    looks = np.full(watch.runs, NEVER, dtype=np.int64)
    log_l, everything = np.zeros((watch.runs, len(kernel.RATIOS))), np.ones(watch.runs)
    for t in range(INTERVALS):
        interval = watch.draw(t, everything)
        log_l += kernel.absolute_increments(interval.n_c.sum(axis=1), interval.x_c.sum(axis=1), bound=BOUND)
        looks[(looks == NEVER) & (kernel.log_mean_exp(log_l) >= math.log(1 / alpha))] = t
    return looks


def detect_and_compare(watch: Watch, alpha: float) -> Looks:
    """What ships: a detector of a bound that begins to break; its alarm asks for a comparison, and blames nobody.

    Alarm j sends half of the traffic back to the version before, for at most 10 min, and both are compared by new tests
    at α·2^(−j): what they prove worse is rolled back. Else the version has all traffic again, under a new detector;
    after the third such comparison the next one waits, for longer and longer.
    """
    compared = round(COMPARE_SECONDS / INTERVAL)
    tests = Sequential(watch.history, watch.past, Plan(compared, alpha=alpha), Bound(BOUND))
    looks, since = np.full(watch.runs, NEVER, dtype=np.int64), np.full(watch.runs, NEVER, dtype=np.int64)
    log_m, alarms = np.full((watch.runs, len(kernel.RATIOS)), -math.inf), np.zeros(watch.runs, dtype=np.int64)
    not_before = np.zeros(watch.runs, dtype=np.int64)
    theta, cap = tests.thetas[0], np.full(watch.runs, detector.cap(INTERVALS))
    for t in range(INTERVALS):
        comparing = since != NEVER
        interval = watch.draw(t, np.where(comparing, 0.5, 1.0))
        n, x = interval.n_c.sum(axis=1), interval.x_c.sum(axis=1)
        increments = kernel.absolute_increments(n, x, bound=BOUND, theta=theta)
        log_m = detector.detect(log_m, increments, cap, (n > 0) & ~interval.moved & ~comparing)
        if comparing.any():
            tests.update(np.flatnonzero(comparing).astype(np.int32), interval.of(comparing), poisson=False)
            worse = comparing & tests.worse
            looks[worse & (looks == NEVER)] = t
            ended = comparing & (worse | (t - since >= compared))
            since[ended], log_m[ended], theta = NEVER, -math.inf, tests.thetas[0]
            rests = compared * 2 ** np.clip(alarms[ended] - 2, 0, RESTS_MAX)
            not_before[ended] = t + np.where(alarms[ended] > 2, rests, 0)
        alarmed = ~comparing & (looks == NEVER) & (kernel.log_mean_exp(log_m) >= math.log(INTERVALS))
        alarmed &= t >= not_before
        if alarmed.any():
            since[alarmed], alarms[alarmed] = t, alarms[alarmed] + 1
            rows = np.flatnonzero(alarmed).astype(np.int32)
            tests.restart(rows, alpha * 0.5 ** np.minimum(alarms[rows], ALARMS_MAX))
        if (looks != NEVER).all():
            break
    return looks
