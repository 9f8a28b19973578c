"""Spec → the rules a version is judged by. Bounds become shares of requests; equal bounds become one rule."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.api.objectives import BUDGET_PERIOD, Objective
from modeldeployment.api.quantities import fraction, milliseconds, say_duration, seconds


class RuleKind(StrEnum):
    """What a rule counts."""

    ERRORS = "Errors"
    SLOW = "Slow"
    QUERY = "Query"


@dataclass(frozen=True, slots=True)
class Sli:
    """What a budget counts (a service level indicator): which requests are bad, and for how long that is remembered.

    Attributes:
        kind: ERRORS or SLOW.
        edge_ms, quantile: for SLOW, as in `Rule`.
        period: seconds that the budget lasts.
    """

    kind: RuleKind
    edge_ms: float
    quantile: float
    period: float


@dataclass(frozen=True, slots=True)
class Rule:
    """One bound.

    Attributes:
        name: the objective's name, or `rollbackOn.<key>`.
        kind: what is counted.
        share: highest allowed share of bad requests (failed, or slower than `edge_ms`).
        edge_ms: for SLOW, the bound on the duration in ms.
        quantile: for SLOW, the quantile it bounds.
        query, highest, lowest, sustained: for QUERY, the query, its bounds, and how long (s) a side must hold.
        bound: the bound as a person reads it.
        rolls_back: whether breaking it takes a canary back.
        window: length (s) of the window that health and the value in status are taken over.
        period: length (s) that its error budget lasts; 0: it has none.
    """

    name: str
    kind: RuleKind
    bound: str
    share: float = 0.0
    edge_ms: float = 0.0
    quantile: float = 0.0
    query: str = ""
    highest: float | None = None
    lowest: float | None = None
    sustained: float = 0.0
    rolls_back: bool = True
    window: float = 300.0
    period: float = 0.0

    @property
    def sli(self) -> Sli | None:
        """What its error budget counts; None if it has none."""
        return Sli(self.kind, self.edge_ms, self.quantile, self.period) if self.period else None

    @property
    def subject(self) -> str:
        """What the rule is about, as a person says it."""
        match self.kind:
            case RuleKind.ERRORS:
                return "error rate"
            case RuleKind.SLOW:
                return f"p{self.quantile * 100:g} latency"
            case RuleKind.QUERY:
                return "query"

    def same_bound(self, other: Rule) -> bool:
        """Whether both say the same."""
        return (self.kind, self.share, self.edge_ms, self.query, self.highest, self.lowest) == (
            other.kind,
            other.share,
            other.edge_ms,
            other.query,
            other.highest,
            other.lowest,
        )


_WINDOW = 300.0
"""Window (s) of a bound that is no objective, and so is never shown over one."""


def _errors(name: str, share: float, window: float = _WINDOW) -> Rule:
    return Rule(name, RuleKind.ERRORS, f"at most {share * 100:g}%", share=share, window=window)


def _slow(name: str, quantile: float, edge_ms: float, window: float = _WINDOW) -> Rule:
    share = round(1 - quantile, 9)
    bound = f"p{quantile * 100:g} at most {edge_ms:g}ms"
    return Rule(name, RuleKind.SLOW, bound, share=share, edge_ms=edge_ms, quantile=quantile, window=window)


def objective_rule(objective: Objective) -> Rule:
    """The rule of one objective."""
    name, window = objective.name, seconds(objective.window)
    period = seconds(objective.budget.period if objective.budget else BUDGET_PERIOD)
    if objective.error_rate:
        return replace(_errors(name, fraction(objective.error_rate.max), window=window), period=period)
    if objective.availability:
        rule = _errors(name, round(1 - fraction(objective.availability.min), 9), window=window)
        return replace(rule, bound=f"at least {objective.availability.min} answered", period=period)
    if objective.latency:
        latency = objective.latency
        rule = _slow(name, float(latency.quantile), seconds(latency.max) * 1000, window=window)
        return replace(rule, period=period)
    assert objective.promql is not None  # the union's rule
    promql = objective.promql
    highest = None if promql.max is None else float(promql.max)
    lowest = None if promql.min is None else float(promql.min)
    sustained = seconds(promql.sustained)
    side = f"at most {promql.max}" if promql.max is not None else f"at least {promql.min}"
    return Rule(
        name,
        RuleKind.QUERY,
        f"{side} for {say_duration(sustained)}",
        query=promql.query,
        highest=highest,
        lowest=lowest,
        sustained=sustained,
        window=window,
    )


def objective_rules(spec: ModelDeploymentSpec, defaults: Iterable[Objective] = ()) -> tuple[Rule, ...]:
    """The rules of the objectives: the spec's own, else the policy's."""
    return tuple(objective_rule(o) for o in (spec.objectives or defaults))


def trial_rules(spec: ModelDeploymentSpec, defaults: Iterable[Objective] = ()) -> tuple[Rule, ...]:
    """The rules a version on trial must keep.

    With `rollbackOn`, only its bounds take the version back, and the other objectives must still be kept before it
    advances; without, every objective does both.
    """
    rules = list(objective_rules(spec, defaults))
    on = spec.rollout.rollback_on
    if on is None:
        return tuple(rules)
    wanted = []
    if on.error_rate:
        wanted.append(_errors("rollbackOn.errorRate", fraction(on.error_rate)))
    for quantile, bound in on.latencies().items():
        wanted.append(_slow(f"rollbackOn.p{quantile * 100:g}LatencyMs", quantile, milliseconds(bound)))
    kept = [replace(rule, rolls_back=any(rule.same_bound(w) for w in wanted)) for rule in rules]
    return (*kept, *(w for w in wanted if not any(w.same_bound(rule) for rule in rules)))
