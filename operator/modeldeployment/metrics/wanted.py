"""Spec and status → what the evidence of a model is gathered for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.api.objectives import Objective
from modeldeployment.api.rollout import Judge
from modeldeployment.api.serving import Metrics
from modeldeployment.api.status import ModelDeploymentStatus, RolloutStatus
from modeldeployment.decision.rules import Rule, RuleKind, objective_rules, trial_rules
from modeldeployment.decision.view import roles
from modeldeployment.metrics.watched import ModelKey, Watched


def watched(
    key: ModelKey,
    spec: ModelDeploymentSpec,
    status: ModelDeploymentStatus,
    defaults: tuple[Objective, ...],
    *,
    metrics: Metrics,
    remembered: bool,
    interval: float,
    pods: Mapping[str, datetime],
    started: Mapping[str, datetime],
    ports: Mapping[str, frozenset[int]],
) -> Watched:
    """What is asked for. `remembered`: the tests are alive, so they need no history; the rest as in `Watched`."""
    rollout = status.rollout
    on_trial = rollout.revision if rollout and status.stable else ""
    control = status.stable.revision if status.canary and status.stable and on_trial else ""
    if rollout and rollout.compare_time and status.previous:
        control = status.previous.revision
    wanted, of_trial = objective_rules(spec, defaults), trial_rules(spec, defaults)
    # Those of the next trial too: a native histogram counts at an edge from when it is first read there.
    bounds = frozenset(rule.edge_ms for rule in (*wanted, *of_trial) if rule.kind is RuleKind.SLOW)
    if on_trial:
        wanted = (*wanted, *of_trial)
    revisions = (*(r.revision for r in roles(status)), *(d.revision for d in status.draining))
    sequential = spec.rollout.analysis.judge is Judge.SEQUENTIAL
    return Watched(
        key=key,
        metrics=metrics,
        revisions=tuple(dict.fromkeys(revisions)),
        serving=status.stable.revision if status.stable else "",
        trial=on_trial,
        control=control,
        trial_start=_began(rollout) if rollout and on_trial else None,
        evidence_time=rollout.evidence_time if rollout and on_trial else None,
        wants_signals=bool(control) and sequential,
        wants_history=bool(status.canary and control) and sequential and not remembered,
        interval=interval,
        windows=frozenset(rule.window for rule in wanted),
        bounds=bounds,
        slis=frozenset(rule.sli for rule in wanted if rule.sli is not None),
        queries=frozenset(rule.query for rule in wanted if rule.kind is RuleKind.QUERY),
        needs_errors=_any(wanted, RuleKind.ERRORS),
        needs_latency=_any(wanted, RuleKind.SLOW),
        pods=pods,
        started=started,
        ports=ports,
    )


def _began(rollout: RolloutStatus) -> datetime:
    """When the present part of a trial began: the rollout, the watch, or a comparison in it."""
    return rollout.compare_time or rollout.promotion_time or rollout.start_time


def _any(rules: Iterable[Rule], kind: RuleKind) -> bool:
    return any(rule.kind is kind for rule in rules)
