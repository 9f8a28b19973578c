"""F1, precision, recall and accuracy from labelled counts, and what late labels do to them."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeployment.decision.classification import Confusion, Metric, QualityBound, QualityState, item_scores
from modeldeployment.decision.kernel import log_mean_exp
from modeldeployment.decision.scores import Side

LN20 = math.log(20)
F1 = QualityBound(Metric.F1, 0.8)

counts = st.integers(0, 500)
confusions = st.builds(Confusion, counts, counts, counts, counts)
bounds = st.builds(
    QualityBound, st.sampled_from(Metric), st.floats(0.6, 0.99), detectable=st.sampled_from([1.0, 1.5, 2.0])
)


def test_decision_vector_is_an_f1() -> None:
    """F1 ≥ 0.8 with TP, TP, FP, TN, FN, FP: decision_vectors.json, scores 0.4, 0.4, −0.8, 0, −0.8, −0.8 (mpmath)."""
    state = QualityState.start(F1).update(Confusion(tp=2, fp=2, fn=1, tn=1))
    assert state.fail.log_e == pytest.approx(0.33220047390486157, rel=1e-10)


@given(items=confusions, c=st.floats(0.01, 0.99), metric=st.sampled_from(Metric))
def test_mean_score_has_the_sign_of_the_metric(items: Confusion, c: float, metric: Metric) -> None:
    """Mean score ≥ 0 exactly when metric ≥ c; without a denominator every item scores 0."""
    total, value = float(np.dot(items.counts, item_scores(metric, c))), items.value(metric)
    if value is None:
        assert total == 0
    elif abs(value - c) > 1e-9:
        assert (total > 0) == (value > c)


def test_values() -> None:
    """F1 = 2TP/(2TP+FP+FN), precision, recall, accuracy; None where nothing was asked."""
    items = Confusion(tp=6, fp=2, fn=3, tn=9)
    assert [items.value(m) for m in Metric] == pytest.approx([12 / 17, 6 / 8, 6 / 9, 15 / 20])
    assert Confusion(tn=5).value(Metric.F1) is None and Confusion(tn=5).value(Metric.ACCURACY) == 1.0


@pytest.mark.parametrize("metric", Metric)
def test_false_alarms_simulated(metric: Metric) -> None:
    """A model exactly at its bound, 2,000 runs of 400 items: P(ever Fail) and P(ever Pass, d = 1) ≤ 5 %. Seeded."""
    rng, at = np.random.default_rng(5), np.array([0.3, 0.1, 0.05, 0.55])
    value = Confusion(*at).value(metric)
    assert value is not None
    bound, items = QualityBound(metric, value), rng.choice(4, size=(2000, 400), p=at)
    for side in Side:
        increments = bound.null(side).increments(bound.scores(side))
        log_e = log_mean_exp(np.cumsum(increments[items], axis=1))
        assert (log_e.max(axis=1) >= LN20).mean() <= 0.05


@pytest.mark.parametrize("metric", Metric)
def test_power(metric: Metric) -> None:
    """Asked for 0.8: a model at 0.6 is proven worse and one at 0.95 proven better, within 400 items. Seeded."""
    rng, bound = np.random.default_rng(6), QualityBound(metric, 0.8)
    for p, good in (((0.3, 0.2, 0.2, 0.3), False), ((0.475, 0.025, 0.025, 0.475), True)):
        items = Confusion(*rng.multinomial(400, p).astype(float))
        state = QualityState.start(bound).update(items)
        assert (state.fail.log_e >= LN20, state.pass_.log_e >= LN20) == (not good, good)


def test_detectable() -> None:
    """d = 2 asks Pass for more than 0.6 where 0.8 is the bound: the vector's null is 1 − d·(1 − c)."""
    lenient = QualityBound(Metric.ACCURACY, 0.8, detectable=2.0)
    items = Confusion(tp=78, fp=22)
    assert lenient.proven == pytest.approx(0.6)
    assert QualityState.start(lenient).update(items).pass_.log_e >= LN20
    assert QualityState.start(QualityBound(Metric.ACCURACY, 0.8)).update(items).pass_.log_e < 0


def _first_labels(late_by: np.ndarray, wrong: np.ndarray, here: int) -> np.ndarray:
    """The first `here` items in order of label arrival; one item is served per unit of time. Shapes (runs, items)."""
    arrival = np.arange(wrong.shape[1]) + late_by
    order = np.argsort(arrival, axis=1)[:, :here]
    return np.take_along_axis(wrong, order, axis=1)


def test_late_labels() -> None:
    """Accuracy exactly 0.8: delays of any length that do not depend on the answer keep P(ever Fail) ≤ 5 %.

    Labels that arrive sooner for errors break it, as the docstring says: more than half fail. 500 runs, seeded.
    """
    rng, bound = np.random.default_rng(7), QualityBound(Metric.ACCURACY, 0.8)
    wrong = rng.binomial(1, 0.2, (500, 600))
    same = rng.exponential(200, wrong.shape)
    sooner = np.where(wrong == 1, 0.1, 1.0) * same

    def failed(late_by: np.ndarray) -> float:
        outcome = _first_labels(late_by, wrong, here=300)  # 0: TP, 1: FP
        increments = bound.null(Side.FAIL).increments(bound.scores(Side.FAIL))
        log_e = log_mean_exp(np.cumsum(increments[outcome], axis=1))
        return float((log_e.max(axis=1) >= LN20).mean())

    assert failed(same) <= 0.05
    assert failed(sooner) > 0.5


def test_items_wait_for_their_label() -> None:
    """Served items are no evidence; coverage says what share the verdict speaks for; an item counts once."""
    state = QualityState.start(F1)
    assert state.coverage is None and state.value is None
    waiting = state.update(Confusion(), served=1000)
    assert (waiting.fail, waiting.pass_, waiting.coverage) == (state.fail, state.pass_, 0.0)
    earlier, now = Confusion(10, 1, 1, 50), Confusion(25, 2, 3, 95)
    arrived = waiting.update(now.since(earlier), served=0)
    assert arrived.labelled == Confusion(15, 1, 2, 45) and arrived.coverage == pytest.approx(0.063)
    assert arrived.value == pytest.approx(30 / 33)
    assert arrived.update(now.since(now)) == arrived


def test_totals_that_fell_are_refused() -> None:
    """A reset, or a label taken back: the reading is no evidence, and the message names what fell."""
    with pytest.raises(ValueError, match=r"fell \(fp, tn\)"):
        Confusion(5, 1, 1, 3).since(Confusion(4, 2, 1, 9))


def test_clusters() -> None:
    """Each cluster is one bet on its mean score; a bad cluster of a thousand items decides nothing alone."""
    bad, good = Confusion(fp=900, fn=100), Confusion(tp=1)
    state = QualityState.start(F1).update_clusters([bad, good, Confusion()], served=1001)
    assert state.fail.bets == 2 and state.labelled == bad + good and state.coverage == 1.0
    assert state.fail.log_e < 1
    assert QualityState.start(F1).update(bad).fail.log_e > 100
    singles = QualityState.start(F1).update_clusters([Confusion(tp=1), Confusion(fp=1), Confusion(tn=1)])
    assert singles.fail.log_e == pytest.approx(QualityState.start(F1).update(Confusion(1, 1, 0, 1)).fail.log_e)


@given(bound=bounds, batches=st.lists(confusions, max_size=4), later=confusions)
def test_state_round_trip(bound: QualityBound, batches: list[Confusion], later: Confusion) -> None:
    """Bit for bit through JSON, and on to the same bits."""
    state = QualityState.start(bound)
    for batch in batches:
        state = state.update(batch, served=2 * batch.labelled)
    back = QualityState.from_state(json.loads(json.dumps(state.to_state())), bound)
    assert back == state
    assert back.update(later).to_state() == state.update(later).to_state()


@pytest.mark.parametrize("damage", ["", "1:", "1:AAAA", "2:", "nonsense"])
def test_foreign_state_is_refused(damage: str) -> None:
    """A state of another version or a damaged one raises ValueError."""
    with pytest.raises(ValueError):
        QualityState.from_state(damage, F1)
    negative = replace(QualityState.start(F1), served=-1.0).to_state()
    assert QualityState.from_state(QualityState.start(F1).to_state(), F1) == QualityState.start(F1)
    with pytest.raises(ValueError):
        QualityState.from_state(negative, F1)


def test_impossible_inputs_are_refused() -> None:
    """Bounds without meaning, negative counts, negative served."""
    for at_least, detectable in ((0.0, 1.0), (1.0, 1.0), (0.8, 0.5), (0.5, 2.0)):
        with pytest.raises(ValueError, match="quality bound"):
            QualityBound(Metric.F1, at_least, detectable)
    with pytest.raises(ValueError, match="not negative"):
        Confusion(-1)
    for served in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="served"):
            QualityState.start(F1).update(Confusion(), served=served)
