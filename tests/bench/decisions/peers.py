"""The peers' rules as they are tried: their defaults, and the settings that their documentation shows.

All are given the bound of our rules on the canary's share of bad requests, and the weights of the scenario.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.decisions import argo, flagger, kayenta, naive
from bench.decisions.ours import NEVER, Looks
from bench.decisions.scenarios import BOUND, INTERVAL, STABLE_PODS, Batch, Bools, Floats, weights
from bench.decisions.windows import error_share, looks

Rule = Callable[[Batch, np.random.Generator], Looks]
"""Rollouts and random numbers, in → the look at which each was rolled back."""


@dataclass(frozen=True)
class Peer:
    """A rule, and in one sentence what it follows."""

    rule: Rule
    follows: str


def within(share: Floats) -> Bools:
    """The condition that a canary keeps its bound; of NaN, false."""
    with np.errstate(invalid="ignore"):
        return np.asarray(share <= BOUND)


def argo_rollouts(batch: Batch, metric: argo.Metric, window: float, *, guarded: bool) -> Looks:
    """Background analysis with a successCondition on the share of bad requests in `window` seconds."""
    phases = argo.measure(error_share(batch, window), success=within, guarded=guarded)
    return argo.run(phases, metric).aborted


def flagger_canary(batch: Batch, threshold: int) -> Looks:
    """One metric, the share of good requests in a minute at least 99 %, looked at every minute."""
    failing = flagger.Range(high=BOUND).fails(error_share(batch, naive.MINUTE))
    return flagger.run([failing], flagger.Analysis(threshold=threshold))[0]


def kayenta_judge(
    batch: Batch,
    rng: np.random.Generator,
    config: kayenta.Config,
    *,
    step: float,
    every: float,
    baseline: bool,
) -> Looks:
    """A judgement each `every` seconds, over all since the start; a score below marginal rolls back.

    With one metric a score is 0 or 100, so marginal and pass, which have no default, may be anything between.
    `baseline`: the canary is compared with as many pods of stable as it has itself, else with all of production.
    """
    stable_n, stable_x = batch.stable.n, batch.stable.x
    if baseline:
        weight, _ = weights(batch.scenario.steps, batch.observed.shape[1])
        taken = np.arange(STABLE_PODS) < np.ceil(np.round(weight * STABLE_PODS, 9))[:, None]
        stable_n, stable_x = stable_n * taken, stable_x * taken
    experiment = _points(*batch.canary.arm, step)
    control = _points(stable_n.sum(axis=2, dtype=np.float64), stable_x.sum(axis=2, dtype=np.float64), step)
    look = np.full(batch.runs, NEVER)
    for end in range(looks(every), batch.observed.shape[1] + 1, looks(every)):
        rows, points = np.flatnonzero(look == NEVER), round(end * INTERVAL / step)
        labels = kayenta.classify(experiment[rows, :points], control[rows, :points], config, rng)
        look[rows[kayenta.score(labels) < 100]] = end - 1
    return look


def _points(n: Floats, x: Floats, step: float) -> Floats:
    """Percent of bad requests in each step; NaN where there was none."""
    width = looks(step)
    n, x = (a.reshape(len(a), -1, width).sum(axis=2) for a in (n, x))
    with np.errstate(invalid="ignore"):
        return np.asarray(100 * x / n)


_ARGO: Final = argo.Metric(interval=60, initial_delay=60)
_ARGO_DOCS: Final = argo.Metric(interval=300, initial_delay=300, failure_limit=3)
_KAYENTA_DOCS: Final = kayenta.Config(direction=kayenta.Direction.INCREASE, critical=True)


def _windows(failures: int) -> Rule:
    return lambda batch, _: naive.windows_over(batch, failures)


PEERS: Final[dict[str, Peer]] = {
    **{
        f"thr {failures}": Peer(_windows(failures), f"more than {failures} whole minutes over the bound")
        for failures in (0, 1, 3, 5)
    },
    "z peeked": Peer(lambda b, _: naive.peeked_z(b), "z-test of two proportions at 5 %, at every look"),
    "M-W": Peer(lambda b, _: naive.mann_whitney(b), "Mann-Whitney test at 5 % of each 5 min"),
    "argo": Peer(
        lambda b, _: argo_rollouts(b, _ARGO, 60, guarded=False),
        "Argo Rollouts 9f8d111, defaults (failureLimit 0, consecutiveErrorLimit 4); each minute over 1 min, from 1 min "
        "on: without initialDelay it would measure before the canary has traffic",
    ),
    "argo documented": Peer(
        lambda b, _: argo_rollouts(b, _ARGO_DOCS, 300, guarded=True),
        "Argo Rollouts, as analysis.md shows: interval and window 5m, failureLimit 3, initialDelay 5m, isNaN guard; "
        "rate, where its example has irate",
    ),
    "flagger": Peer(lambda b, _: flagger_canary(b, 1), "Flagger 1.44.0, defaults: interval 60s, threshold 1"),
    "flagger documented 5": Peer(lambda b, _: flagger_canary(b, 5), "Flagger, threshold 5 as in its tutorials"),
    "flagger documented 10": Peer(lambda b, _: flagger_canary(b, 10), "Flagger, threshold 10 as in how-it-works.md"),
    "kayenta": Peer(
        lambda b, rng: kayenta_judge(b, rng, kayenta.Config(), step=60, every=1800, baseline=False),
        "Kayenta a69573b, defaults: one judgement at the end (analysisIntervalMins = lifetime) of 1-min points, either "
        "direction, against production",
    ),
    "kayenta documented": Peer(
        lambda b, rng: kayenta_judge(b, rng, _KAYENTA_DOCS, step=30, every=1800, baseline=True),
        "Kayenta, as its guides ask: at least 50 points (30-s ones, one judgement at the end), a baseline of the "
        "canary's size, direction increase, critical; but not their 3 h",
    ),
    "kayenta each 10 min": Peer(
        lambda b, rng: kayenta_judge(b, rng, _KAYENTA_DOCS, step=10, every=600, baseline=True),
        "the same with 10-s points, so that each 10 min have 50 and can be judged",
    ),
}
"""Each rule by the name it has in tables and JSON."""
