"""Quality of a classifier from labelled counts: F1, precision, recall, accuracy, also when labels come late.

"metric ≥ c" is the same as "mean score ≥ 0" for these scores of an item (decision.md §5):

    F1          2·(1 − c) for a true positive, −c for a false positive or a false negative, 0 for a true negative
    precision   1 − c for a true positive, −c for a false positive, 0 else
    recall      1 − c for a true positive, −c for a false negative, 0 else
    accuracy    1 − c for a right answer, −c for a wrong one

since F1 = 2TP/(2TP + FP + FN), precision = TP/(TP + FP), recall = TP/(TP + FN). The scores are tested by betting
(scores.py; Waudby-Smith & Ramdas, JRSS-B 2024). Fail: metric ≥ c is disproven. Pass: "metric ≤ 1 − d·(1 − c)" is, where
d = `detectable` says how many times the allowed shortfall must not get through; d = 1 proves c itself.

**Late labels.** Tests are fed with labelled items in the order in which labels arrive. An item counts once, when its
label is here; until then it is neither good nor bad. Valid when, given the labels before it, the next label to arrive
is of an item with mean score on the null's side. For items of one population that holds if whether and when a label
arrives does not depend on whether the answer was right (non-informative delay), however long it takes. What breaks it:

- labels that arrive faster for errors (complaints, chargebacks): what is here is worse than what was served, and a good
  version fails. Faster for right answers: a bad one passes;
- labels that exist only for one kind of answer (an outcome only for loans granted): then the metric is that of the
  labelled kind, and recall cannot be measured at all;
- a population that drifts faster than labels arrive: it is the past that is judged.

The cure is upstream: give every label to the test at one fixed age, by which nearly all labels are here. How far the
labels speak for what was served is `coverage` = labelled/served. No test can see inside the rest.

Units: items; results are natural logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Final

import numpy as np

from modeldeployment.decision.packing import pack, unpack
from modeldeployment.decision.scores import FLOATS as SCORE_FLOATS
from modeldeployment.decision.scores import ScoreNull, ScoreTest, Side

_VERSION: Final = "1"


class Metric(StrEnum):
    """What is asked of the classifier. All lie between 0 and 1, 1 is best."""

    F1 = "F1"
    PRECISION = "Precision"
    RECALL = "Recall"
    ACCURACY = "Accuracy"


@dataclass(frozen=True, slots=True)
class Confusion:
    """Labelled items by outcome: true/false positives and negatives. ValueError for a negative or infinite count."""

    tp: float = 0.0
    fp: float = 0.0
    fn: float = 0.0
    tn: float = 0.0

    def __post_init__(self) -> None:
        if not all(0 <= count < math.inf for count in self.counts):
            raise ValueError(f"counts of labelled items must be finite and not negative: {self}")

    @property
    def counts(self) -> tuple[float, float, float, float]:
        """TP, FP, FN, TN."""
        return self.tp, self.fp, self.fn, self.tn

    @property
    def labelled(self) -> float:
        """All items."""
        return sum(self.counts)

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(*(a + b for a, b in zip(self.counts, other.counts, strict=True)))

    def since(self, earlier: Confusion) -> Confusion:
        """What came after an earlier reading of the same running totals, so that each item counts once.

        ValueError where a total fell: a reset, or a label that was taken back; neither is evidence.
        """
        fell = [f.name for f, now, then in zip(fields(self), self.counts, earlier.counts, strict=True) if now < then]
        if fell:
            raise ValueError(f"totals of labelled items fell ({', '.join(fell)}): read them anew from here")
        return Confusion(*(now - then for now, then in zip(self.counts, earlier.counts, strict=True)))

    def value(self, metric: Metric) -> float | None:
        """The metric of these items as they are; None where it has no denominator."""
        match metric:
            case Metric.F1:
                good, all_ = 2 * self.tp, 2 * self.tp + self.fp + self.fn
            case Metric.PRECISION:
                good, all_ = self.tp, self.tp + self.fp
            case Metric.RECALL:
                good, all_ = self.tp, self.tp + self.fn
            case Metric.ACCURACY:
                good, all_ = self.tp + self.tn, self.labelled
        return good / all_ if all_ > 0 else None


def item_scores(metric: Metric, c: float) -> tuple[float, float, float, float]:
    """Scores of a TP, FP, FN and TN, whose mean is ≥ 0 exactly when the metric is ≥ c."""
    match metric:
        case Metric.F1:
            return 2 * (1 - c), -c, -c, 0.0
        case Metric.PRECISION:
            return 1 - c, -c, 0.0, 0.0
        case Metric.RECALL:
            return 1 - c, 0.0, -c, 0.0
        case Metric.ACCURACY:
            return 1 - c, -c, -c, 1 - c


@dataclass(frozen=True, slots=True)
class QualityBound:
    """metric ≥ at_least. Pass proves metric > 1 − detectable·(1 − at_least)."""

    metric: Metric
    at_least: float
    detectable: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.at_least < 1 and self.detectable >= 1 and self.proven > 0):
            raise ValueError(
                f"a quality bound needs 0 < at_least < 1 and 1 ≤ detectable < 1/(1 − at_least), so that Pass has "
                f"something to prove: {self}"
            )

    @property
    def proven(self) -> float:
        """The value that Pass proves the metric to be above."""
        return 1 - self.detectable * (1 - self.at_least)

    def null(self, side: Side) -> ScoreNull:
        """The null of a side, over the scores of items."""
        scores = self.scores(side)
        return ScoreNull(0.0, min(scores), max(scores), side)

    def scores(self, side: Side) -> tuple[float, float, float, float]:
        """Scores of a TP, FP, FN and TN for a side."""
        return item_scores(self.metric, self.at_least if side is Side.FAIL else self.proven)


@dataclass(frozen=True, slots=True)
class QualityState:
    """All that a quality rule remembers: its two tests, what was labelled, and how much was served. A value."""

    bound: QualityBound
    fail: ScoreTest
    pass_: ScoreTest
    labelled: Confusion = Confusion()
    served: float = 0.0

    @classmethod
    def start(cls, bound: QualityBound) -> QualityState:
        """Nothing seen yet."""
        return cls(bound, ScoreTest(bound.null(Side.FAIL)), ScoreTest(bound.null(Side.PASS)))

    def update(self, labelled: Confusion, *, served: float = 0.0) -> QualityState:
        """Labels that arrived since the last update, each of an item not fed before; and items served since.

        Served items wait for their label without being evidence. ValueError for a negative number.
        """
        return replace(
            self._serve(served),
            fail=self.fail.update_counts(self.bound.scores(Side.FAIL), labelled.counts),
            pass_=self.pass_.update_counts(self.bound.scores(Side.PASS), labelled.counts),
            labelled=self.labelled + labelled,
        )

    def update_clusters(self, clusters: Iterable[Confusion], *, served: float = 0.0) -> QualityState:
        """The same for items that come in clusters (users, sessions, documents): one bet on each cluster's mean score.

        Valid under any dependence within a cluster. Clusters count the same, whatever their size.
        """
        known = [cluster for cluster in clusters if cluster.labelled > 0]
        means = {side: [float(np.dot(c.counts, self.bound.scores(side))) / c.labelled for c in known] for side in Side}
        return replace(
            self._serve(served),
            fail=self.fail.update(_within(means[Side.FAIL], self.fail.null)),
            pass_=self.pass_.update(_within(means[Side.PASS], self.pass_.null)),
            labelled=sum(known, self.labelled),
        )

    def _serve(self, served: float) -> QualityState:
        if not 0 <= served < math.inf:
            raise ValueError(f"items served must be finite and not negative: {served}")
        return replace(self, served=self.served + served)

    @property
    def coverage(self) -> float | None:
        """labelled/served: what share of the answers the verdict speaks for. None before anything was served.

        Above 1 where labels are of items served before counting began: then the two counts do not belong together.
        """
        return self.labelled.labelled / self.served if self.served > 0 else None

    @property
    def value(self) -> float | None:
        """The metric of the labelled items so far; None where it has no denominator."""
        return self.labelled.value(self.bound.metric)

    def to_state(self) -> str:
        """Every number bit for bit; the bound is configuration and not in it."""
        return pack(_VERSION, (*self.fail.to_floats(), *self.pass_.to_floats(), *self.labelled.counts, self.served))

    @classmethod
    def from_state(cls, state: str, bound: QualityBound) -> QualityState:
        """Inverse of to_state; ValueError for a state of another version or a damaged one."""
        f, at = unpack(state, _VERSION), 2 * SCORE_FLOATS
        if len(f) != at + 5:
            raise ValueError(f"state of {len(f)} numbers, not {at + 5}: written by another version")
        fail = ScoreTest.from_floats(f[:SCORE_FLOATS], bound.null(Side.FAIL))
        pass_ = ScoreTest.from_floats(f[SCORE_FLOATS:at], bound.null(Side.PASS))
        return cls(bound, fail, pass_, Confusion(*f[at : at + 4]))._serve(f[at + 4])


def _within(means: list[float], null: ScoreNull) -> list[float]:
    """Rounding can put a mean of equal scores beyond them."""
    return [min(max(mean, null.low), null.high) for mean in means]
