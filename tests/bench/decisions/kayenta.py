"""Kayenta's NetflixACAJudge-v1.0 on one metric, for many rollouts at once.

Follows kayenta at a69573b (April 2025): `kayenta-judge` (NetflixACAJudge, MannWhitneyClassifier, WeightedSumScorer,
IQRDetector) and `kayenta-mannwhitney` (MannWhitney). Points are shares of bad requests in percent, one each
`step` seconds; NaN where there was no request.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.decisions.scenarios import Bools, Floats

CONFIDENCE: Final = 0.98
TOLERANCE: Final = 0.25
"""Share of |E|, the Hodges-Lehmann estimate, that the confidence interval must stay away from 0."""
_NOISE: Final = 1e-5
_ROWS: Final = 50
"""Runs whose pairwise differences are held at once."""


class Label(IntEnum):
    """Classification of a metric."""

    PASS = 0
    HIGH = 1
    LOW = 2
    NODATA = 3
    NODATA_FAIL = 4
    ERROR = 5


Labels = NDArray[np.int8]


class Direction(StrEnum):
    """Which change fails."""

    EITHER = "either"
    INCREASE = "increase"
    DECREASE = "decrease"


class NaNs(StrEnum):
    """nanStrategy."""

    REMOVE = "remove"
    REPLACE = "replace"


class Measure(StrEnum):
    """effectSize.measure."""

    MEAN_RATIO = "meanRatio"
    CLES = "cles"


@dataclass(frozen=True)
class Config:
    """analysisConfigurations.canary of one metric; defaults as Kayenta's. The effects allowed default by measure."""

    direction: Direction = Direction.EITHER
    nans: NaNs = NaNs.REMOVE
    must_have_data: bool = False
    critical: bool = False
    measure: Measure = Measure.MEAN_RATIO
    allowed_increase: float | None = None
    allowed_decrease: float | None = None
    outlier_factor: float | None = None
    """None keeps outliers; 3 is the default of `strategy: remove`."""

    @property
    def allowed(self) -> tuple[float, float]:
        """Increase and decrease of the effect from which a metric fails."""
        default = 1.0 if self.measure is Measure.MEAN_RATIO else 0.5
        increase, decrease = self.allowed_increase, self.allowed_decrease
        return (default if increase is None else increase, default if decrease is None else decrease)


class Shift(NamedTuple):
    """Confidence interval of the shift experiment − control, and its Hodges-Lehmann estimate: (runs,) each."""

    lower: Floats
    upper: Floats
    estimate: Floats


def classify(experiment: Floats, control: Floats, config: Config, rng: np.random.Generator) -> Labels:
    """Labels of many rollouts; experiment (runs, points) and control (runs, points), NaN where there is none.

    No point left in an arm: Nodata under `remove` (NodataFailMetric if data must be there and the metric is not
    critical), Pass under `replace`. Identical arms, or one value in all: Pass. `rng`: the noise of constant arms.
    """
    x, y = _transform(experiment, config), _transform(control, config)
    m, n = _points(x), _points(y)
    labels = np.full(len(x), Label.PASS, dtype=np.int8)
    empty = (m == 0) | (n == 0)
    if config.nans is NaNs.REMOVE:
        labels[empty] = Label.NODATA_FAIL if config.must_have_data and not config.critical else Label.NODATA
    same = (m == n) & (np.nan_to_num(_sorted(x, x, y), nan=-1) == np.nan_to_num(_sorted(y, x, y), nan=-1)).all(axis=1)
    tested = ~empty & ~same
    # One point an arm: the first shift that is tried ties them, which Kayenta refuses.
    single = tested & (m == 1) & (n == 1)
    labels[single] = Label.ERROR
    rows = np.flatnonzero(tested & ~single)
    x, y = _with_noise(x[rows], y[rows], rng)
    labels[rows] = _compare(x, y, config)
    return labels


def score(labels: Labels) -> Floats:
    """Score of a configuration of this metric alone, in one group of weight 100.

    Pass is 100; High, Low and NodataFailMetric are 0. An Error leaves the group without data, which counts 100.
    Nodata is half of the metrics or more: 0. `critical` only makes a 0 of the 0.
    """
    return np.where((labels == Label.PASS) | (labels == Label.ERROR), 100.0, 0.0)


def shift(x: Floats, y: Floats, confidence: float = CONFIDENCE) -> Shift:
    """The two-sided Mann-Whitney test's interval and estimate, by the normal approximation, corrected for ties.

    Kayenta finds with Brent's method, to 1e-4, where z(d) = (W(d) − mn/2 ∓ ½)/σ, W(d) the pairs with x − d > y,
    crosses a quantile. It crosses at a pairwise difference, which is read off here; between the two middle
    ones the estimate is their mean, where Brent's method stops anywhere.
    """
    parts = [_shift(x[i : i + _ROWS], y[i : i + _ROWS], confidence) for i in range(0, len(x), _ROWS)]
    if not parts:
        return Shift(*(np.zeros(0) for _ in range(3)))
    return Shift(*(np.concatenate([part[k] for part in parts]) for k in range(3)))


def _compare(x: Floats, y: Floats, config: Config) -> Labels:
    labels = np.full(len(x), Label.PASS, dtype=np.int8)
    # Neither High nor Low unless the interval leaves out 0: most runs are done here, without sorting all pairs.
    rows = np.flatnonzero(_may_differ(x, y))
    x, y = x[rows], y[rows]
    lower, upper, estimate = shift(x, y)
    margin = TOLERANCE * np.abs(estimate)
    effect = _effect(x, y, config.measure)
    increase, decrease = config.allowed
    known = ~np.isnan(effect)
    high = (lower > margin) & (~known | (effect >= increase)) & (config.direction is not Direction.DECREASE)
    low = (upper < -margin) & (~known | (effect <= decrease)) & (config.direction is not Direction.INCREASE)
    labels[rows] = np.where(high, Label.HIGH, np.where(low, Label.LOW, Label.PASS))
    return labels


def _effect(x: Floats, y: Floats, measure: Measure) -> Floats:
    """Mean ratio, NaN if either mean is zero; or the chance that a point of x is above one of y."""
    if measure is Measure.MEAN_RATIO:
        mean_x, mean_y = np.nanmean(x, axis=1), np.nanmean(y, axis=1)
        zero = (mean_x == 0) | (mean_y == 0)
        return np.asarray(np.where(zero, np.nan, mean_x / np.where(zero, 1.0, mean_y)))
    above, tied = _pairs(x, y)
    return np.asarray((above + tied / 2) / (_points(x) * _points(y)))


def _pairs(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """How many pairs have x above y, and how many are equal: (runs,). NaN compares false."""
    above, tied = np.zeros(len(x)), np.zeros(len(x))
    for rows in _chunks(len(x)):
        one, other = x[rows][:, :, None], y[rows][:, None, :]
        above[rows], tied[rows] = (one > other).sum(axis=(1, 2)), (one == other).sum(axis=(1, 2))
    return above, tied


def _may_differ(x: Floats, y: Floats) -> Bools:
    """Whether the interval leaves out 0: as many pairs above, or as few, as its ends need."""
    above, tied = _pairs(x, y)
    high, low = _ranks(x, y, CONFIDENCE)
    return np.asarray((above > high) | (above + tied <= low))


def _ranks(x: Floats, y: Floats, confidence: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many pairs W must exceed at the interval's lower end, and what it must not at its upper."""
    m, n = _points(x), _points(y)
    sizes = m + n
    ties = _ties(x) + _ties(y)
    sigma = np.sqrt(np.maximum(m * n / 12 * (sizes + 1 - ties / np.maximum(sizes * (sizes - 1), 1)), 0.0))
    away = NormalDist().inv_cdf((1 + confidence) / 2) * sigma + 0.5
    high, low = (np.floor(m * n / 2 + sign * away).astype(np.int64) for sign in (1, -1))
    return high, low


def _shift(x: Floats, y: Floats, confidence: float) -> Shift:
    difference = (x[:, :, None] - y[:, None, :]).reshape(len(x), -1)
    pairs = (_points(x) * _points(y)).astype(np.int64)
    descending = -np.sort(-difference, axis=1)  # NaN last

    def at(rank: NDArray[np.int64]) -> Floats:
        """The difference with `rank` larger ones: the smallest or largest where there is no such."""
        index = np.clip(rank, 0, pairs - 1)
        return np.asarray(np.take_along_axis(descending, index[:, None], axis=1)[:, 0])

    high, low = _ranks(x, y, confidence)
    return Shift(at(high), at(low), (at((pairs - 1) // 2) + at(pairs // 2)) / 2)


def _ties(a: Floats) -> Floats:
    """Σ t³ − t over groups of t equal points."""
    ordered = np.sort(a, axis=1)
    there = ~np.isnan(ordered)
    starts = np.ones(ordered.shape, dtype=bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    group = np.cumsum(starts, axis=1) - 1 + np.arange(len(a))[:, None] * a.shape[1]
    sizes = np.bincount(group[there], minlength=a.size).reshape(a.shape).astype(np.float64)
    return np.asarray((sizes**3 - sizes).sum(axis=1))


def _with_noise(x: Floats, y: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Where both arms are constant, normal noise of 1e-5 of each one's value is added to it."""
    constant = _constant(x) & _constant(y)
    if not constant.any():
        return x, y
    noisy = [np.where(constant[:, None], a * (1 + _NOISE * rng.standard_normal(a.shape)), a) for a in (x, y)]
    return noisy[0], noisy[1]


def _constant(a: Floats) -> Bools:
    return np.asarray(np.nanmin(a, axis=1) == np.nanmax(a, axis=1)) if len(a) else np.zeros(0, dtype=bool)


def _transform(points: Floats, config: Config) -> Floats:
    if config.nans is NaNs.REPLACE:
        points = np.nan_to_num(points, nan=0.0)
    if config.outlier_factor is None:
        return points
    return np.asarray([_without_outliers(row, config.outlier_factor) for row in points])


def _without_outliers(row: Floats, factor: float) -> Floats:
    """Beyond `factor` interquartile ranges from the quartiles, and beyond the 1st and 99th percentiles."""
    if np.isnan(row).all():
        return row
    p1, p25, p75, p99 = np.nanpercentile(row, (1, 25, 75, 99))
    low, high = min(p1, p25 - factor * (p75 - p25)), max(p99, p75 + factor * (p75 - p25))
    return np.where((row < low) | (row > high), np.nan, row)


def _points(a: Floats) -> Floats:
    return np.asarray((~np.isnan(a)).sum(axis=1), dtype=np.float64)


def _sorted(a: Floats, *all_of: Floats) -> Floats:
    """Sorted, NaN last, and as wide as the widest."""
    width = max(b.shape[1] for b in all_of)
    return np.asarray(np.pad(np.sort(a, axis=1), ((0, 0), (0, width - a.shape[1])), constant_values=math.nan))


def _chunks(runs: int) -> Iterator[slice]:
    return (slice(i, i + _ROWS) for i in range(0, runs, _ROWS))
