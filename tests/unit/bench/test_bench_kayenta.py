"""Kayenta's NetflixACAJudge on one metric, behaviour by behaviour, as its source has it (kayenta a69573b)."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from bench.decisions.kayenta import Config, Direction, Label, Measure, NaNs, classify, score, shift

NAN = math.nan
LOW = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
HIGH = [11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0]


def label(experiment: list[float], control: list[float], **settings: object) -> Label:
    """The label of one metric."""
    config = Config(**settings)  # type: ignore[arg-type]
    found = classify(np.array([experiment]), np.array([control]), config, np.random.default_rng(1))
    return Label(int(found[0]))


def wilcoxon_diff(d: float, quantile: float, x: np.ndarray, y: np.ndarray) -> float:
    """MannWhitney.wilcoxonDiff, line by line."""
    pooled = np.concatenate([x - d, y])
    ranks = np.array([(pooled < v).sum() + ((pooled == v).sum() + 1) / 2 for v in pooled])
    m, n = len(x), len(y)
    dz = ranks[:m].sum() - m * (m + 1) / 2 - m * n / 2
    ties = sum(t**3 - t for t in np.unique(ranks, return_counts=True)[1])
    sigma = math.sqrt(m * n / 12 * ((m + n + 1) - ties / ((m + n) * (m + n - 1))))
    return float((dz - np.sign(dz) * 0.5) / sigma - quantile)


def root(quantile: float, x: np.ndarray, y: np.ndarray) -> float:
    """MannWhitney.findRoot; bisection for Brent's method: the function falls."""
    low, high = float(x.min() - y.max()), float(x.max() - y.min())
    if wilcoxon_diff(low, quantile, x, y) <= 0:
        return low
    if wilcoxon_diff(high, quantile, x, y) >= 0:
        return high
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if wilcoxon_diff(middle, quantile, x, y) > 0 else (low, middle)
    return (low + high) / 2


@pytest.mark.parametrize("points", [5, 12, 30])
@pytest.mark.parametrize("grain", [1000, 5])
def test_interval_is_that_of_its_source(points: int, grain: int) -> None:
    """98 % interval of the shift, read off the pairwise differences, against Kayenta's root search; with ties too."""
    rng = np.random.default_rng(points * grain)
    z = NormalDist().inv_cdf(0.99)
    for _ in range(10):
        x, y = rng.integers(0, grain, points) / grain + 0.2, rng.integers(0, grain, points + 3) / grain
        found = shift(x[None], y[None])
        assert found.lower[0] == pytest.approx(root(z, x, y), abs=1e-6)
        assert found.upper[0] == pytest.approx(root(-z, x, y), abs=1e-6)


def test_estimate_is_the_median_difference() -> None:
    """Hodges and Lehmann's: between the middle two of an even number of differences."""
    assert shift(np.array([[1.0, 5.0]]), np.array([[0.0]])).estimate.tolist() == [3.0]
    assert shift(np.array([[1.0, 2.0, 9.0]]), np.array([[0.0]])).estimate.tolist() == [2.0]


def test_high_and_low() -> None:
    """Either direction fails by default: an improvement too. Direction increase lets it pass."""
    assert label(HIGH, LOW) is Label.HIGH
    assert label(LOW, HIGH) is Label.LOW
    assert label(LOW, HIGH, direction=Direction.INCREASE) is Label.PASS
    assert label(HIGH, LOW, direction=Direction.DECREASE) is Label.PASS
    assert label(HIGH, LOW, direction=Direction.INCREASE) is Label.HIGH


def test_tolerance() -> None:
    """An interval that leaves out 0 passes if it comes within a quarter of the estimate to it."""
    x = [18.0, 19.0, 20.0, 21.0, 22.0, 23.0, 24.0, 38.0, 39.0, 40.0]
    y = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 19.0, 20.0, 21.0]
    found = shift(np.array([x]), np.array([y]))
    assert 0 < found.lower[0] < 0.25 * found.estimate[0], f"not a case of it: {found}"
    assert label(x, y) is Label.PASS
    assert label([v + 20 for v in x], y) is Label.HIGH


def test_effect_size() -> None:
    """meanRatio below allowedIncrease passes; so does an allowedDecrease that is not reached."""
    assert label(HIGH, LOW, allowed_increase=3.0) is Label.HIGH
    assert label(HIGH, LOW, allowed_increase=4.0) is Label.PASS
    assert label(LOW, HIGH, allowed_decrease=0.4) is Label.LOW
    assert label(LOW, HIGH, allowed_decrease=0.2) is Label.PASS


def test_zero_mean_skips_the_effect_test() -> None:
    """No ratio to a mean of 0: the shift alone decides."""
    assert label(HIGH, [0.0] * 8, allowed_increase=1e9) is Label.HIGH


def test_cles() -> None:
    """The chance that a point of the canary is higher, from 0.5 on; here it is 1."""
    assert label(HIGH, LOW, measure=Measure.CLES) is Label.HIGH
    assert label(HIGH, LOW, measure=Measure.CLES, allowed_increase=1.01) is Label.PASS
    assert Config(measure=Measure.CLES).allowed == (0.5, 0.5) and Config().allowed == (1.0, 1.0)


def test_nan() -> None:
    """Removed by default, so two arms of different length; replaced by 0 on request."""
    assert label([*HIGH, NAN], [*LOW, NAN, NAN]) is Label.HIGH
    # With five of six of its points gone, nothing can be shown; as zeros they pull it down.
    gone = [NAN] * 40
    assert label([*HIGH[:2], *gone], [*HIGH, *HIGH]) is Label.PASS
    assert label([*HIGH[:2], *gone], [*HIGH, *HIGH], nans=NaNs.REPLACE) is Label.LOW


def test_no_data() -> None:
    """Nodata under remove, NodataFailMetric where data must be there and it is not critical, Pass under replace."""
    nothing = [NAN, NAN]
    assert label(nothing, LOW) is Label.NODATA
    assert label(LOW, nothing) is Label.NODATA
    assert label(nothing, LOW, must_have_data=True) is Label.NODATA_FAIL
    assert label(nothing, LOW, must_have_data=True, critical=True) is Label.NODATA
    assert label([], LOW, nans=NaNs.REPLACE) is Label.PASS


def test_identical_arms_pass() -> None:
    """The same points in another order, and one value everywhere."""
    assert label(LOW[::-1], LOW) is Label.PASS
    assert label([2.0] * 9, [2.0] * 4) is Label.PASS


def test_constant_arms_get_noise() -> None:
    """Two constants that differ are compared; without noise there would be one tied difference."""
    assert label([3.0] * 9, [2.0] * 9) is Label.HIGH
    assert label([0.0] * 9, [2.0] * 9) is Label.LOW


def test_one_point_an_arm_is_an_error() -> None:
    """All observations are tied at the first shift that is tried: Kayenta refuses, and the metric does not count."""
    assert label([1.0], [2.0]) is Label.ERROR


def test_outliers() -> None:
    """Kept by default; one beyond three interquartile ranges and the 99th percentile is removed on request."""
    assert label([*HIGH, 10_000.0], LOW, allowed_increase=4.0) is Label.HIGH
    assert label([*HIGH, 10_000.0], LOW, allowed_increase=4.0, outlier_factor=3.0) is Label.PASS
    # 27 is within three ranges (of 4) of the upper quartile (17).
    assert label([*HIGH, 27.0], LOW, allowed_increase=3.4, outlier_factor=3.0) is Label.HIGH


def test_score() -> None:
    """Pass 100, a failure 0, no data 0 (half of the metrics or more), an Error no data in its group: 100."""
    labels = np.array([Label.PASS, Label.HIGH, Label.LOW, Label.NODATA, Label.NODATA_FAIL, Label.ERROR], dtype=np.int8)
    assert score(labels).tolist() == [100, 0, 0, 0, 0, 100]


def test_many_at_once_are_as_one_by_one() -> None:
    """More runs than are held at once, with gaps of their own."""
    rng = np.random.default_rng(4)
    x, y = rng.gamma(1.0, 2.0, (120, 20)), rng.gamma(1.0, 1.0, (120, 20))
    x[rng.random(x.shape) < 0.1] = NAN
    together = classify(x, y, Config(), rng)
    alone = [int(classify(x[i : i + 1], y[i : i + 1], Config(), rng)[0]) for i in range(120)]
    assert together.tolist() == alone and {Label.PASS, Label.HIGH} <= set(alone)
