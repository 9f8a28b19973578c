"""The word in the column HEALTH, and each objective with its value, bound, verdict, sample size and age of data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modeldeployment.api.conditions import ConditionType
from modeldeployment.api.status import Health, ObjectiveStatus, Verdict
from modeldeployment.decision.decide import decide
from modeldeployment.decision.evidence import DataState, Delta, Evidence
from modeldeployment.decision.memory import Memory
from unit.decision.worlds import BLIND, START, Behaviour, World

KEPT = Delta(10_000, 20, {400.0: 9_900, 800.0: 9_990, 1600.0: 10_000}, 10_000)
"""0.2% failed, 0.1% slower than 800 ms."""


def judged(delta: Delta | None, overrides: dict[str, Any] | None = None, **more: Any) -> tuple[Any, ObjectiveStatus]:
    """Status and first objective of a version that serves, whose last 5 minutes were so."""
    world = World({"spec.rollout.rollbackOn": None, **(overrides or {})}).serving()
    values = {"state": DataState.FLOWING, "message": "counted", "time": world.now, "data_age": 2.4, **more}
    evidence = Evidence(**values, windows={} if delta is None else {300.0: delta})
    status = decide(replace(world.view(), evidence=evidence), Memory()).status
    return status, status.objectives[0]


_WORDS: dict[str, tuple[Delta | None, Health, str]] = {
    "proven kept": (KEPT, Health.OK, "ProvenKept"),
    "within its bound, too few to prove it": (replace(KEPT, requests=100, errors=0), Health.OK, "WithinBound"),
    "beyond its bound, too few to prove it": (replace(KEPT, requests=100, errors=2), Health.WARNING, "BeyondBound"),
    "proven broken": (replace(KEPT, errors=500), Health.CRITICAL, "ProvenBroken"),
    "no counter of errors": (replace(KEPT, errors=None), Health.WARNING, "CannotTell"),
    "no requests in the window": (Delta(0, 0, {}, 0), Health.UNKNOWN, "NoValue"),
    "no window yet": (None, Health.UNKNOWN, "NoValue"),
}


@pytest.mark.parametrize(("delta", "word", "reason"), _WORDS.values(), ids=_WORDS)
def test_health_word(delta: Delta | None, word: Health, reason: str) -> None:
    """Critical only when proven, Warning beyond a bound, OK within, Unknown when nothing can be told."""
    status, errors = judged(delta)
    assert (status.health, errors.reason) == (word, reason), errors.message


def test_objective_shows_its_numbers() -> None:
    """Value, bound, verdict, sample size, age of the data, and a sentence."""
    status, errors = judged(KEPT)
    assert (errors.value, errors.bound, errors.samples, errors.data_age_seconds) == ("0.2%", "at most 1%", 10_000, 2)
    assert errors.verdict is Verdict.PASS and errors.message == "0.2% failed (20 of 10,000)"
    latency = status.objectives[1]
    assert (latency.name, latency.value, latency.samples) == ("latency", "<=400ms", 10_000)


_LATENCIES: dict[str, tuple[Delta, str, str]] = {
    "in the first bucket": (KEPT, "<=400ms", "ProvenKept"),
    "between two buckets": (replace(KEPT, faster={400.0: 9_000, 800.0: 9_990}), "400-800ms", "ProvenKept"),
    "above the last bucket": (replace(KEPT, faster={400.0: 9_000, 800.0: 9_000}), ">800ms", "ProvenBroken"),
    "no histogram": (replace(KEPT, faster={}, timed=0), "", "CannotTell"),
}


@pytest.mark.parametrize(("delta", "value", "reason"), _LATENCIES.values(), ids=_LATENCIES)
def test_latency_value(delta: Delta, value: str, reason: str) -> None:
    """A histogram tells the bucket that holds the quantile, and nothing finer."""
    objectives = [{"name": "latency", "latency": {"quantile": 0.99, "max": "800ms"}}]
    _, latency = judged(delta, {"spec.objectives": objectives})
    assert (latency.value, latency.reason) == (value, reason), latency.message


_QUERIES: dict[str, tuple[dict[str, float], str, Verdict]] = {
    "the serving version's own value": ({"own": 0.9, "": 0.1}, "0.9", Verdict.PASS),
    "the whole model's": ({"": 0.9}, "0.9", Verdict.PASS),
    "beyond its bound": ({"": 0.7}, "0.7", Verdict.INCONCLUSIVE),
    "none": ({}, "", Verdict.INCONCLUSIVE),
}


@pytest.mark.parametrize(("given", "value", "verdict"), _QUERIES.values(), ids=_QUERIES)
def test_query_value(given: dict[str, float], value: str, verdict: Verdict) -> None:
    """A query's value is shown as it is, and proves nothing broken by itself."""
    world = World()
    name = world.target.name
    values = {("auc", name if who == "own" else who): v for who, v in given.items()}
    query = [{"name": "auc", "promql": {"query": "auc", "min": "0.8", "sustained": "1m"}}]
    _, auc = judged(None, {"spec.objectives": query}, values=values)
    assert (auc.value, auc.verdict) == (value, verdict)


def test_query_beyond_its_bound_for_long_enough_is_critical() -> None:
    """A query has no sample size: what stays beyond its bound as long as `sustained` says is broken, and says since."""
    query = [{"name": "auc", "promql": {"query": "auc", "min": "0.8", "sustained": "2m"}}]
    world = World({"spec.rollout.rollbackOn": None, "spec.objectives": query}).serving()
    world.values["auc", ""] = 0.5
    words = [world.run(length).status.health for length in (60, 120)]
    assert words == [Health.WARNING, Health.CRITICAL], "not for long enough yet, then for long enough"
    assert world.status.objectives[0].verdict is Verdict.FAIL
    world.values["auc", ""] = 0.9
    world.run(10)
    assert world.status.health is Health.OK and world.status.objectives[0].breach_time is None


def test_an_objective_without_a_value_beside_others_is_told() -> None:
    """Errors are fine and the query returns nothing: that is not OK, and the word says which."""
    query = [
        {"name": "errors", "errorRate": {"max": "1%"}},
        {"name": "auc", "promql": {"query": "auc", "min": "0.8"}},
    ]
    status, _ = judged(KEPT, {"spec.objectives": query}, query_errors={"auc": "Prometheus refuses the query: typo"})
    healthy = next(c for c in status.conditions if c.type == ConditionType.HEALTHY)
    assert (status.health, healthy.reason) == (Health.WARNING, "ObjectiveUnknown")
    assert "auc Prometheus refuses the query: typo" in healthy.message


@pytest.mark.parametrize("state", [*BLIND, DataState.NO_TRAFFIC, DataState.UNSUPPORTED])
def test_health_is_unknown_without_data(state: DataState) -> None:
    """What is not known is not OK: Unknown, with the data's own reason."""
    status, _ = judged(KEPT, state=state, message="why it is so")
    healthy = next(c for c in status.conditions if c.type == ConditionType.HEALTHY)
    assert status.health is Health.UNKNOWN
    assert (healthy.status, healthy.reason, healthy.message) == ("Unknown", state.value, "why it is so")


def test_health_is_of_the_version_that_serves() -> None:
    """During a trial a canary without traffic does not make the version that serves Unknown."""
    world = World(versions={"2": Behaviour(ready_after=None)}).serving().run(300)
    world.ask("2")
    world.run(60)
    assert world.status.health is Health.OK, "the state speaks of the canary, the counts of stable"


def test_the_end_of_a_trial_is_no_lack_of_evidence() -> None:
    """Between the end of a trial and the next look the state still speaks of the canary: that is told as such, and
    neither as data that lack nor as data that flow."""
    world = World(versions={"2": Behaviour(ready_after=None)}).serving().run(300)
    world.ask("2")
    world.run(60)
    world.ask("1")
    world.tick()
    condition = world.condition(ConditionType.EVIDENCE_AVAILABLE)
    assert (condition.status, condition.reason) == ("Unknown", "TrialEnded"), condition
    assert condition.message == "the next look at Prometheus tells about 1"
    assert world.status.health is Health.OK
    world.run(60)
    assert world.condition(ConditionType.EVIDENCE_AVAILABLE).status == "True"


def test_health_without_a_version_is_unknown() -> None:
    """Nothing serves: that is no failure of an objective."""
    world = World()
    world.tick()
    assert world.status.health is Health.UNKNOWN
    assert world.condition(ConditionType.HEALTHY).reason == "NothingServes"


def test_health_without_objectives_says_what_to_add() -> None:
    """Nothing says what good is."""
    world = World({"spec.objectives": [], "spec.rollout.rollbackOn": None}).serving().run(60)
    assert world.status.health is Health.UNKNOWN
    assert "add spec.objectives" in world.condition(ConditionType.HEALTHY).message


def test_rollback_on_is_no_objective() -> None:
    """Bounds that only take a canary back are not shown over a window."""
    world = World({"spec.objectives": [], "spec.rollout.rollbackOn": {"errorRate": ">1%"}}).serving()
    assert world.status.objectives == ()


def test_wobbling_numbers_flip_no_condition() -> None:
    """Healthy keeps its transition time while its value wobbles within the bound."""
    world = World().serving().run(300)
    since = world.condition(ConditionType.HEALTHY).last_transition_time
    assert since > START
    world.does("1").errors = 0.004
    world.run(600)
    healthy = world.condition(ConditionType.HEALTHY)
    assert healthy.status == "True" and healthy.last_transition_time == since
