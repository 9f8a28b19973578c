"""What the spec says a good version is → the rules it is judged by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from builders import model_deployment
from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.decision.arms import Counts
from modeldeployment.decision.counting import count, edges_of
from modeldeployment.decision.evidence import Delta
from modeldeployment.decision.query import QueryState
from modeldeployment.decision.rules import Rule, RuleKind, objective_rules, trial_rules

ERRORS = {"name": "errors", "errorRate": {"max": "1%"}}
P99 = {"name": "latency", "latency": {"quantile": 0.99, "max": "800ms"}}
QUERY = {"name": "auc", "promql": {"query": "auc", "min": "0.8"}}

_OBJECTIVES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "error rate": (ERRORS, {"kind": RuleKind.ERRORS, "share": 0.01, "bound": "at most 1%"}),
    "fine error rate": ({"name": "e", "errorRate": {"max": "0.05%"}}, {"share": 0.0005, "bound": "at most 0.05%"}),
    "availability is the share that may fail": (
        {"name": "a", "availability": {"min": "99.9%"}},
        {"kind": RuleKind.ERRORS, "share": 0.001, "bound": "at least 99.9% answered"},
    ),
    "a quantile is the share that may be slower": (
        P99,
        {"kind": RuleKind.SLOW, "share": 0.01, "edge_ms": 800, "quantile": 0.99, "bound": "p99 at most 800ms"},
    ),
    "a quantile as text": (
        {"name": "l", "latency": {"quantile": "0.5", "max": "1s"}},
        {"share": 0.5, "edge_ms": 1000, "bound": "p50 at most 1000ms"},
    ),
    "a query from below": (
        QUERY,
        {"kind": RuleKind.QUERY, "lowest": 0.8, "highest": None, "sustained": 60, "bound": "at least 0.8 for 1m"},
    ),
    "a query from above": (
        {"name": "q", "promql": {"query": "drift", "max": "-0.5", "sustained": "0s"}, "window": "1h"},
        {"highest": -0.5, "lowest": None, "bound": "at most -0.5 for 0s", "window": 3600},
    ),
}


def rules(objectives: list[dict[str, Any]], rollback_on: dict[str, str] | None = None) -> tuple[Rule, ...]:
    """The rules of a trial."""
    return trial_rules(_spec(objectives, rollback_on))


def _spec(objectives: list[dict[str, Any]], rollback_on: dict[str, str] | None = None) -> ModelDeploymentSpec:
    manifest = model_deployment({"spec.objectives": objectives, "spec.rollout.rollbackOn": rollback_on})
    return ModelDeploymentSpec.model_validate(manifest["spec"])


@pytest.mark.parametrize(("objective", "expected"), _OBJECTIVES.values(), ids=_OBJECTIVES)
def test_objective(objective: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each kind of objective becomes the rule that says the same."""
    (rule,) = objective_rules(_spec([objective]))
    assert {key: getattr(rule, key) for key in expected} == expected


def test_defaults_count_only_without_own_objectives() -> None:
    """The policy's objectives are for a spec that has none."""
    defaults = _spec([{"name": "default", "errorRate": {"max": "5%"}}]).objectives
    assert [r.name for r in objective_rules(_spec([]), defaults)] == ["default"]
    assert [r.name for r in objective_rules(_spec([ERRORS]), defaults)] == ["errors"]


_MERGES: dict[str, tuple[list[dict[str, Any]], dict[str, str] | None, dict[str, bool]]] = {
    "without rollbackOn every objective takes back": ([ERRORS, P99], None, {"errors": True, "latency": True}),
    "an equal bound is one rule": ([ERRORS], {"errorRate": ">1%"}, {"errors": True}),
    "an equal bound written otherwise": ([ERRORS], {"errorRate": "> 1.0%"}, {"errors": True}),
    "an availability is the error rate it allows": (
        [{"name": "up", "availability": {"min": "99%"}}],
        {"errorRate": ">1%"},
        {"up": True},
    ),
    "another bound is another rule": (
        [ERRORS],
        {"errorRate": ">5%"},
        {"errors": False, "rollbackOn.errorRate": True},
    ),
    "an objective outside rollbackOn must only pass": (
        [ERRORS, P99],
        {"p99LatencyMs": ">800"},
        {"errors": False, "latency": True},
    ),
    "the same milliseconds of another quantile are another rule": (
        [P99],
        {"p95LatencyMs": ">800"},
        {"latency": False, "rollbackOn.p95LatencyMs": True},
    ),
    "rollbackOn alone": (
        [],
        {"errorRate": ">1%", "p50LatencyMs": ">100", "p90LatencyMs": ">200"},
        {"rollbackOn.errorRate": True, "rollbackOn.p50LatencyMs": True, "rollbackOn.p90LatencyMs": True},
    ),
    "two equal objectives both take back": (
        [ERRORS, {**ERRORS, "name": "again"}],
        {"errorRate": ">1%"},
        {"errors": True, "again": True},
    ),
    "nothing at all": ([], None, {}),
}


@pytest.mark.parametrize(("objectives", "rollback_on", "expected"), _MERGES.values(), ids=_MERGES)
def test_rollback_on(
    objectives: list[dict[str, Any]], rollback_on: dict[str, str] | None, expected: dict[str, bool]
) -> None:
    """rollbackOn says which bounds take back; equal bounds are judged once."""
    assert {r.name: r.rolls_back for r in rules(objectives, rollback_on)} == expected


def test_names_are_unique_and_fit_into_status() -> None:
    """Rule names are the keys of a list map."""
    on = dict.fromkeys(("p50LatencyMs", "p90LatencyMs", "p95LatencyMs", "p99LatencyMs"), ">800") | {"errorRate": ">2%"}
    found = [r.name for r in rules([ERRORS, P99, QUERY], on)]
    assert len(set(found)) == len(found) and all(len(name) <= 63 for name in found)


# --- what a rule counts -----------------------------------------------------------------------------------------

SLOW = objective_rules(_spec([P99]))[0]
FAILED = objective_rules(_spec([ERRORS]))[0]


def test_errors_are_counted_exactly() -> None:
    """Errors over requests, and nothing at all where the dialect has no such counter."""
    assert count(FAILED, Delta(100, 3), None) == Counts(100, 3, 3)
    assert count(FAILED, Delta(100, None), None) is None


def test_latency_between_two_edges_is_counted_from_both_sides() -> None:
    """Fail counts what is surely slower, Pass what may be."""
    delta = Delta(100, 0, {500.0: 90, 1000.0: 97}, 100)
    edges, note = edges_of(SLOW, [delta])
    assert count(SLOW, delta, edges) == Counts(100, 3, 10)
    assert "stays Inconclusive" in note


def test_latency_edges_are_those_that_every_pod_has() -> None:
    """Pods of two versions with other buckets are compared at the edges that both have."""
    edges, _ = edges_of(SLOW, [Delta(1, 0, {400.0: 1, 800.0: 1}, 1), Delta(1, 0, {400.0: 1, 1600.0: 1}, 1)])
    assert edges is None, "800 ms is above the only edge that both have, so nothing can be told"


def test_counters_that_disagree_for_a_moment_are_no_error() -> None:
    """A scrape may see the bucket a request later than the sum: never a negative count."""
    delta = Delta(10, 0, {800.0: 11}, 10)
    edges, _ = edges_of(SLOW, [delta])
    assert count(SLOW, delta, edges) == Counts(10, 0, 0)


# --- a query ----------------------------------------------------------------------------------------------------


def test_query_state_survives_its_text() -> None:
    """What a new leader reads is the run that was under way."""
    now = datetime(2026, 11, 24, tzinfo=UTC)
    (rule,) = objective_rules(_spec([QUERY]))
    state = QueryState(rule).look(0.7, now)
    assert state.verdict == "Inconclusive" and not state.kept
    read = QueryState.from_state(state.to_state(), rule).look(0.7, now + timedelta(minutes=1))
    assert read.verdict == "Fail"
    assert read.look(0.9, now + timedelta(minutes=1)).verdict == "Inconclusive", "a run on the other side begins"
    assert read.look(None, now).to_state() == "", "no value proves nothing and breaks the run"
