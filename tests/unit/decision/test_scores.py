"""Tests of bounded scores by betting: exact values, error bounds, power, state. Results are natural logarithms."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeployment.decision.kernel import log_mean_exp
from modeldeployment.decision.scores import FRACTIONS, ScoreNull, ScoreTest, Side, rate_null

VECTORS = [
    v
    for v in json.loads(Path(__file__).with_name("decision_vectors.json").read_text())["vectors"]
    if v["test"] == "score"
]
LN20 = math.log(20)
RATING = ScoreNull(3.0, 1.0, 5.0, Side.FAIL)

nulls = st.tuples(st.floats(-5, 5), st.floats(0.1, 10), st.floats(0.05, 0.95), st.sampled_from(Side)).map(
    lambda t: ScoreNull(t[0] + t[1] * t[2], t[0], t[0] + t[1], t[3])
)
shares = st.lists(st.floats(0, 1), max_size=30)


def spread(null: ScoreNull, places: list[float]) -> list[float]:
    """Scores at these places of the range, 0 = low, 1 = high."""
    return [min(null.high, null.low + (null.high - null.low) * place) for place in places]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['inputs']['side']}:{v['log_e'][:8]}")
def test_vectors(vector: dict[str, Any]) -> None:
    """log E against mpmath (60 digits), to `digits`: L_j += ln(1 + f_j·(m−y)/(hi−m)), or the mirror."""
    i = vector["inputs"]
    null = ScoreNull(float(i["m"]), float(i["lo"]), float(i["hi"]), Side(i["side"].capitalize()))
    scores = [float(y) for y in i["scores"]]
    expected = pytest.approx(float(vector["log_e"]), rel=10.0 ** -vector["digits"], abs=1e-10)
    assert ScoreTest(null).update(scores).log_e == expected
    one_by_one = ScoreTest(null)
    for score in scores:
        one_by_one = one_by_one.update(score)
    assert one_by_one.log_e == expected and one_by_one.bets == len(scores)


def test_worked_by_hand() -> None:
    """The worst score doubles the stake and the best loses f: m = 3 of 1…5, one 1: mean of 1 + f = 1 + 31/80."""
    assert ScoreTest(RATING).update(1.0).log_e == pytest.approx(math.log(1 + sum(FRACTIONS) / 5))
    assert ScoreTest(RATING).update(5.0).log_e == pytest.approx(math.log(1 - sum(FRACTIONS) / 5))
    assert ScoreTest(RATING).update(3.0).log_e == 0.0
    mirror = ScoreNull(3.0, 1.0, 5.0, Side.PASS)
    assert ScoreTest(mirror).update([5.0, 1.0]).log_e == pytest.approx(ScoreTest(RATING).update([1.0, 5.0]).log_e)


@pytest.mark.parametrize(
    ("m", "values", "probabilities"),
    [
        (0.8, (0.0, 0.5, 1.0), (0.2, 0.0, 0.8)),
        (0.8, (0.0, 0.5, 1.0), (0.1, 0.2, 0.7)),
        (0.3, (0.0, 0.3, 1.0), (0.35, 0.5, 0.15)),
        (0.05, (0.0, 0.05, 1.0), (0.95, 0.0, 0.05)),
    ],
)
@pytest.mark.parametrize("side", Side)
def test_false_alarms_exactly(m: float, values: Any, probabilities: Any, side: Side) -> None:
    """P(ever E ≥ 1/α) ≤ α, and E[E] = 1 at the edge of the null, over all 3⁹ paths of 9 scores with mean m."""
    assert np.dot(values, probabilities) == pytest.approx(m)
    paths = np.array(list(itertools.product(range(3), repeat=9)))
    increments = ScoreNull(m, 0.0, 1.0, side).increments(values)
    log_e = log_mean_exp(np.cumsum(increments[paths], axis=1))
    weights = np.prod(np.asarray(probabilities)[paths], axis=1)
    assert np.sum(weights * np.exp(log_e[:, -1])) == pytest.approx(1.0)
    for alpha in (0.5, 0.25, 0.1, 0.05):
        assert weights[log_e.max(axis=1) >= math.log(1 / alpha)].sum() <= alpha


@given(null=nulls, y=st.floats(0, 1), more=st.floats(0, 1))
def test_lower_scores_speak_for_fail(null: ScoreNull, y: float, more: float) -> None:
    """E of Fail falls in the score and that of Pass rises, so means on the null's side have E[E] ≤ 1 too."""
    low, high = spread(null, sorted((y, more)))
    first, second = ScoreTest(null).update(low).log_e, ScoreTest(null).update(high).log_e
    assert first >= second if null.side is Side.FAIL else first <= second


@pytest.mark.parametrize("skewed", [False, True])
def test_false_alarms_simulated(skewed: bool) -> None:
    """2,000 runs of 500 scores with mean exactly 0.7: P(ever E ≥ 20) ≤ 5 % on either side. Seeded."""
    rng = np.random.default_rng(1)
    y = rng.binomial(1, 0.7, (2000, 500)) * 1.0 if skewed else rng.beta(7, 3, (2000, 500))
    for side in Side:
        log_e = log_mean_exp(np.cumsum(ScoreNull(0.7, 0.0, 1.0, side).increments(y), axis=1))
        assert (log_e.max(axis=1) >= LN20).mean() <= 0.05


def test_clusters_break_single_bets_and_not_bets_on_means() -> None:
    """Users of 20 equal answers, mean 0.7: betting on each answer is false in over 40 %, on each user in ≤ 5 %."""
    rng = np.random.default_rng(2)
    users = rng.binomial(1, 0.7, (400, 50)) * 1.0
    null = ScoreNull(0.7, 0.0, 1.0, Side.FAIL)
    each = log_mean_exp(np.cumsum(20 * null.increments(users), axis=1)).max(axis=1) >= LN20
    means = log_mean_exp(np.cumsum(null.increments(users), axis=1)).max(axis=1) >= LN20
    assert each.mean() > 0.4
    assert means.mean() <= 0.05
    clusters = [np.full(20, y) for y in users[0]]
    assert ScoreTest(null).update_clusters([*clusters, []]).log_e == pytest.approx(
        ScoreTest(null).update(users[0]).log_e
    )


def test_power() -> None:
    """Asked for 0.8: scores around 0.7 are proven too low, scores around 0.9 high enough, each in under 120."""
    rng = np.random.default_rng(3)
    worse, better = ScoreNull(0.8, 0.0, 1.0, Side.FAIL), ScoreNull(0.8, 0.0, 1.0, Side.PASS)
    for null, y in ((worse, rng.beta(7, 3, (50, 120))), (better, rng.beta(9, 1, (50, 120)))):
        final = [ScoreTest(null).update(row).log_e for row in y]
        assert np.mean(np.asarray(final) >= LN20) > 0.9


@pytest.mark.parametrize(("side", "rate"), [(Side.FAIL, 0.3), (Side.PASS, 0.1)])
def test_scores_needed(side: Side, rate: float) -> None:
    """N = (ln(1/α) − log E)/G predicts, within 40 %, the median over seeded runs; None where E shrinks."""
    null = rate_null(0.2, side)
    needed = ScoreTest(null).needed((0.0, 1.0), (rate, 1 - rate), error=0.05)
    assert needed is not None
    bad = np.random.default_rng(4).binomial(1, rate, (300, 2000))
    log_e = log_mean_exp(np.cumsum(null.increments(1.0 - bad), axis=1))
    assert np.median(np.argmax(log_e >= LN20, axis=1)) == pytest.approx(needed, rel=0.4)
    at_the_bound = ScoreTest(null).needed((0.0, 1.0), (0.2, 0.8), error=0.05)
    assert at_the_bound is None
    assert ScoreTest(null, (9.0,) * 5).needed((0.0, 1.0), (rate, 1 - rate), error=0.05) == 0.0


def test_rates() -> None:
    """Bad shares above 10 % as 0/1 scores: Fail against the bound, Pass against detectable × bound."""
    fail, passing = rate_null(0.2, Side.FAIL), rate_null(0.2, Side.PASS, detectable=2.0)
    assert (fail.mean, passing.mean) == pytest.approx((0.8, 0.6))
    assert ScoreTest(fail).update_rate(100, 40).log_e > LN20 > ScoreTest(fail).update_rate(100, 20).log_e
    assert ScoreTest(passing).update_rate(100, 20).log_e > LN20 > ScoreTest(passing).update_rate(100, 40).log_e
    ones_and_zeros = ScoreTest(fail).update([0.0] * 40 + [1.0] * 60)
    assert ScoreTest(fail).update_rate(100, 40).log_e == pytest.approx(ones_and_zeros.log_e)
    assert ScoreTest(fail).update_rate(3, 5) == ScoreTest(fail).update_rate(3, 3)  # errors counted a moment sooner
    for bound, detectable in ((0.0, 1.0), (0.6, 2.0)):
        with pytest.raises(ValueError, match="cannot be tested"):
            rate_null(bound, Side.PASS, detectable=detectable)


@given(null=nulls, groups=st.lists(shares, max_size=5))
def test_grouping_does_not_matter(null: ScoreNull, groups: list[list[float]]) -> None:
    """One by one, in arrays, or as counts of values: the same capital."""
    test, flat = ScoreTest(null), spread(null, [place for group in groups for place in group])
    for group in groups:
        test = test.update(spread(null, group))
    counted = ScoreTest(null).update_counts(flat, [1] * len(flat))
    assert test.log_e == pytest.approx(counted.log_e, rel=1e-9, abs=1e-9)
    assert test.bets == counted.bets == len(flat)


@given(null=nulls, places=shares, later=shares)
def test_state_round_trip(null: ScoreNull, places: list[float], later: list[float]) -> None:
    """Bit for bit through JSON, and on to the same bits."""
    test = ScoreTest(null).update(spread(null, places))
    back = ScoreTest.from_state(json.loads(json.dumps(test.to_state())), null)
    assert back == test
    assert back.update(spread(null, later)).to_state() == test.update(spread(null, later)).to_state()


@pytest.mark.parametrize("damage", ["", "1:", "1:AAAA", "1:*", "2:", "nonsense", "1:AAAAAAAA+H8AAAAAAAD4fw=="])
def test_foreign_state_is_refused(damage: str) -> None:
    """A state of another version, a damaged one or one with NaN raises ValueError."""
    with pytest.raises(ValueError):
        ScoreTest.from_state(damage, RATING)


@pytest.mark.parametrize("score", [0.99, 5.01, math.nan, math.inf])
def test_scores_out_of_range_are_refused(score: float) -> None:
    """A bet on them could lose everything or is none; also within a cluster whose mean is in range."""
    with pytest.raises(ValueError, match=r"must lie in \[1, 5\]"):
        ScoreTest(RATING).update(score)
    with pytest.raises(ValueError, match=r"must lie in \[1, 5\]"):
        ScoreTest(RATING).update_clusters([[3.0, 3.0, score]])


def test_impossible_inputs_are_refused() -> None:
    """Nulls that no score disproves, and counts that count nothing."""
    for mean, side in ((5.0, Side.FAIL), (0.0, Side.FAIL), (1.0, Side.PASS), (5.1, Side.PASS), (math.nan, Side.FAIL)):
        with pytest.raises(ValueError, match="room beyond the mean"):
            ScoreNull(mean, 1.0, 5.0, side)
    for count in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="finite and not negative"):
            ScoreTest(RATING).update_counts([1.0], [count])
