"""The e-detector of the watch: exact values, run length, delay (decision.md §5 Watch)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modeldeployment.decision import detector, kernel
from modeldeployment.decision.arms import Counts, Interval
from modeldeployment.decision.hypothesis import Bound, Compare, Plan
from modeldeployment.decision.sequential import RuleState, alarmed, judge

VECTORS = [
    v
    for v in json.loads(Path(__file__).with_name("decision_vectors.json").read_text())["vectors"]
    if v["test"] == "detector"
]
PLAN = Plan(horizon=8640)
WATCH = Bound(0.01, compare=Compare.WATCH)


@pytest.mark.parametrize("vector", VECTORS)
def test_vectors(vector: dict[str, Any]) -> None:
    """log of the mean of M_k ← (M_k + 1)·exp(min(ℓ_k, cap)); reference: mpmath, 60 digits."""
    i = vector["inputs"]
    log_m = np.full(len(kernel.RATIOS), -np.inf)
    cap = math.inf if i["cap"] is None else float(i["cap"])
    for n, x in i["intervals"]:
        increments = kernel.absolute_increments(n, x, bound=float(i["p0"]), theta=float(i["theta"]))
        log_m = detector.detect(log_m, increments, cap, n > 0)
    assert float(kernel.log_mean_exp(log_m)) == pytest.approx(float(vector["log_e"]), rel=10.0 ** -vector["digits"])


def test_false_alarms_come_once_a_day_at_most() -> None:
    """At the bound itself, independent requests: E[M_t] = t at any time, so P(alarm by T) ≤ T/A. Seeded.

    2,000 detectors over an eighth of their "day" of 400 intervals: at most 12.5 % and no more than chance allows.
    """
    rng, runs, day = np.random.default_rng(7), 2000, 400
    log_m, alarms = np.full((runs, len(kernel.RATIOS)), -np.inf), np.zeros(runs, dtype=bool)
    means = []
    for _ in range(day // 8):
        x = rng.binomial(200, 0.01, runs)
        increments = kernel.absolute_increments(200, x, bound=0.01)
        log_m = detector.detect(log_m, increments, np.full(runs, detector.cap(day)), np.full(runs, True))
        alarms |= kernel.log_mean_exp(log_m) >= math.log(day)
        means.append(float(np.mean(np.exp(kernel.log_mean_exp(log_m)))))
    assert alarms.mean() <= 1 / 8, "P(alarm by T) ≤ T/A"
    assert means[-1] <= 1.5 * day / 8, "the mean of M_t is at most t"


def test_late_fault_is_found_as_fast_as_an_early_one() -> None:
    """20 % errors at 20 rps from the start, or after six quiet hours: an alarm within two intervals more or less."""

    def alarm_after(quiet: int) -> int:
        state = RuleState(WATCH, PLAN)
        for _ in range(quiet):
            state = state.update(Interval({"c": Counts(200, 1, 1)}))
        for t in range(1, 50):
            state = state.update(Interval({"c": Counts(200, 40, 40)}))
            if alarmed({"errors": state}, PLAN):
                return t
        raise AssertionError("no alarm within 50 intervals of 20 % errors")

    assert (alarm_after(0), alarm_after(300)) == (2, 2)


def test_no_interval_alarms_alone_and_none_fails() -> None:
    """One interval adds at most 0.75·ln A; and the watch itself never says Fail."""
    state = RuleState(WATCH, PLAN).update(Interval({"c": Counts(10**6, 10**6, 10**6)}))
    assert alarmed({"errors": state}, PLAN) is None
    again = state.update(Interval({"c": Counts(10**6, 10**6, 10**6)}))
    assert alarmed({"errors": again}, PLAN) == "errors"
    assert judge({"errors": again}, PLAN).blamed is None


def test_rules_share_the_day() -> None:
    """Four rules alarm by the mean of their M; the largest is named; one that takes nothing back takes no part."""

    def with_mean(log_m: float, **more: Any) -> RuleState:
        row = RuleState(WATCH, PLAN).row.copy()
        row["detector"] = log_m
        return RuleState(Bound(0.01, compare=Compare.WATCH, **more), PLAN, row.tobytes())

    day = math.log(PLAN.day)
    quiet, loud = with_mean(0.0), with_mean(day + 0.1)
    assert alarmed({"errors": loud}, PLAN) == "errors"
    assert alarmed({"errors": loud, "latency": quiet}, PLAN) is None
    assert alarmed({"errors": with_mean(day + 0.7), "latency": quiet}, PLAN) == "errors"
    assert alarmed({"errors": loud, "latency": with_mean(99.0, rolls_back=False)}, PLAN) == "errors"
    assert alarmed({"latency": with_mean(99.0, rolls_back=False)}, PLAN) is None
