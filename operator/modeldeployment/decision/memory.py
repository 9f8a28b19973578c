"""What is remembered of a trial: the tests of its rules, alive, and written as text in the status.

A new leader reads them from there and goes on from `evidenceTime`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.api.quantities import fraction, seconds
from modeldeployment.api.rollout import Judge, Sequential, Threshold
from modeldeployment.api.status import RolloutStatus
from modeldeployment.decision import arms, blocks, dispersion, hypothesis, sequential, threshold
from modeldeployment.decision.cause import Pods
from modeldeployment.decision.counting import count_arm, edges_of
from modeldeployment.decision.evidence import History, Interval
from modeldeployment.decision.query import QueryState
from modeldeployment.decision.rules import Rule, RuleKind
from modeldeployment.decision.view import FULL, View

ROLLOUT_SHARE = 0.8
"""Of the chance of a false rollback, this goes to the rollout and the rest to the watch (decision.md §4)."""

ALONE_SHARE = 0.25
"""Of the rollout's share, this goes to the bound alone where a step of 100% leaves nothing to compare with."""

COMPARE_SECONDS = 600.0
"""How long half of the traffic goes back to the version before, after an alarm in the watch."""
DAY_SECONDS = 86_400.0
ALARMS_MAX = 20
"""Alarms after which a comparison's α gets no smaller."""
MARK = 8
"""Characters of a hash in front of a stored state."""

State = sequential.RuleState | threshold.ThresholdState | QueryState
T = TypeVar("T", sequential.RuleState, threshold.ThresholdState, QueryState)


@dataclass(frozen=True, slots=True)
class Memory:
    """The tests of one trial, alive.

    Attributes:
        key: which trial they belong to; another one starts anew.
        states: rule → test.
        pods: rule → what is kept of its pods.
        notes: rule → why it cannot be judged, or not sharply (no such counter, no such bucket).
    """

    key: tuple[object, ...] = ()
    states: Mapping[str, State] = field(default_factory=dict)
    pods: Mapping[str, Pods] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


def compare(view: View, rollout: RolloutStatus) -> hypothesis.Compare:
    """What the revision on trial is compared with, now."""
    if rollout.promotion_time:
        return hypothesis.Compare.STABLE if rollout.compare_time else hypothesis.Compare.WATCH
    alone = view.status.canary is not None and view.status.canary.wanted_weight == FULL
    return _of_canary(view, alone=alone)


def _of_canary(view: View, *, alone: bool) -> hypothesis.Compare:
    return hypothesis.Compare.BOUND if alone else hypothesis.Compare(_asked(view.spec).compare.value)


def _asked(spec: ModelDeploymentSpec) -> Sequential:
    return spec.rollout.analysis.sequential or Sequential()


def plan(spec: ModelDeploymentSpec, rollout: RolloutStatus) -> hypothesis.Plan:
    """Error bounds of the trial: the rollout's, the watch's, or those of one comparison in the watch.

    The comparisons after the first, second, third alarm share the watch's α as 1/2, 1/4, 1/8 (decision.md §5).
    """
    analysis = spec.rollout.analysis
    alpha = fraction(_asked(spec).false_rollback)
    length, alpha_ = seconds(spec.rollout.deadline), alpha * ROLLOUT_SHARE * _share(spec, rollout)
    if rollout.promotion_time is not None:
        length, alpha_ = seconds(spec.rollout.watch), alpha * (1 - ROLLOUT_SHARE)
    if rollout.compare_time is not None:
        length, alpha_ = COMPARE_SECONDS, alpha_ * 0.5 ** min(rollout.alarms, ALARMS_MAX)
    interval = seconds(analysis.interval)
    return hypothesis.Plan(
        horizon=max(1, round(length / interval)),
        alpha=alpha_,
        block=max(1, round(blocks.SECONDS / interval)),
        day=max(1, round(DAY_SECONDS / interval)),
    )


def _share(spec: ModelDeploymentSpec, rollout: RolloutStatus) -> float:
    """What the test of this step gets of the rollout's chance of a false rollback: at 100% there is one of its own."""
    alone = [weight == FULL for weight, _ in spec.rollout.canary.plan()]
    if not any(alone) or all(alone):
        return 1.0
    return ALONE_SHARE if alone[min(rollout.step, len(alone) - 1)] else 1 - ALONE_SHARE


def recall(view: View, rollout: RolloutStatus, rules: tuple[Rule, ...], memory: Memory) -> Memory:
    """The tests of this trial: those alive, else from the status; none where neither has any."""
    if memory.states and memory.key == _key(view, rollout, rules):
        return memory
    return begin(view, rollout, rules) if any(rule.state for rule in rollout.rules) else Memory()


def begin(view: View, rollout: RolloutStatus, rules: tuple[Rule, ...]) -> Memory:
    """The tests as the status has them, and new ones for the rest."""
    length = plan(view.spec, rollout)
    stored = {rule.name: rule.state for rule in rollout.rules}
    states = {rule.name: _restore(view, rollout, rule, length, stored.get(rule.name, "")) for rule in rules}
    return Memory(_key(view, rollout, rules), states)


def _key(view: View, rollout: RolloutStatus, rules: tuple[Rule, ...]) -> tuple[object, ...]:
    """What makes a trial the same one, judged the same way."""
    length = plan(view.spec, rollout)
    return (
        rollout.revision,
        rollout.start_time,
        rollout.promotion_time,
        rollout.compare_time,
        view.spec.rollout.analysis,
        length,
        *rules,
    )


def _restore(view: View, rollout: RolloutStatus, rule: Rule, length: hypothesis.Plan, stored: str) -> State:
    analysis = view.spec.rollout.analysis
    if rule.kind is RuleKind.QUERY:
        return _read(rule, stored, QueryState(rule), lambda text, _: QueryState.from_state(text, rule))
    if analysis.judge is Judge.THRESHOLD:
        asked = analysis.threshold or Threshold()
        windows = threshold.ThresholdPlan(
            window=max(1, round(seconds(asked.window) / seconds(analysis.interval))),
            min_samples=asked.min_samples,
            failures=asked.failures,
            passes=asked.passes,
            counting=asked.counting,
        )
        none_yet = threshold.ThresholdState(rule.share, windows)
        return _read(
            rule, stored, none_yet, lambda text, _: threshold.ThresholdState.from_state(text, rule.share, windows)
        )
    bound = hypothesis.Bound(
        share=rule.share,
        rho0=float(_asked(view.spec).tolerance),
        detectable=_detectable(rule, float(_asked(view.spec).detectable)),
        compare=compare(view, rollout),
        rolls_back=rule.rolls_back,
    )
    known = _known_dispersion(rule, stored)
    fresh = sequential.RuleState.begin(bound, length, _dispersion(view, rule, length) if known is None else known)
    # While the weight is on its way to 100% or back from it, the test still compares as it did.
    before = fresh
    if rollout.promotion_time is None:
        alone = bound.compare is hypothesis.Compare.BOUND
        before = replace(fresh, bound=replace(bound, compare=_of_canary(view, alone=not alone)))
    as_ = before if stored.startswith(_mark(rule, before)) else fresh
    return _read(
        rule, stored, as_, lambda text, known: sequential.RuleState.from_state(text, known.bound, length), fresh
    )


def _known_dispersion(rule: Rule, stored: str) -> Any:
    """How much stable varies, as a test of the same counts knew it, whatever bound it had."""
    counted, _, text = stored.partition("/")
    if counted[:MARK] != _hash(*_counted_facts(rule)):
        return None
    try:
        return sequential.RuleState.from_state(text, hypothesis.Bound(0.5), hypothesis.Plan(1)).row["dispersion"]
    except ValueError:
        return None


def text_of(rule: Rule, state: State) -> str:
    """A test's state as the status has it, with a mark of what is tested: evidence on one bound is none on another."""
    text = state.to_state()
    return f"{_mark(rule, state)}{text}" if text else ""


def _mark(rule: Rule, state: State) -> str:
    facts: tuple[object, ...]
    if isinstance(state, QueryState):
        facts = (rule.query, rule.highest, rule.lowest)
    elif isinstance(state, threshold.ThresholdState):
        plan_ = state.plan
        facts = (state.bound, plan_.window, plan_.min_samples, plan_.counting.value)
    else:
        bound = state.bound
        facts = (bound.share, bound.rho0, bound.detectable, bound.compare.value)
    return f"{_hash(*_counted_facts(rule))}{_hash(*facts)}/"


def _counted_facts(rule: Rule) -> tuple[object, ...]:
    """What is counted, whatever is asked of it."""
    return rule.kind.value, rule.edge_ms


def _hash(*facts: object) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:MARK]


def _detectable(rule: Rule, asked: float) -> float:
    """As asked, but for a wide bound (p50: half of the requests) never a rate that nothing could exceed."""
    return min(asked, (1 + rule.share) / (2 * rule.share))


def _read(rule: Rule, stored: str, known: T, parse: Callable[[str, T], T], fresh: T | None = None) -> T:
    """A state as stored; one of another bound or judge, or that another version wrote, starts anew."""
    mark = _mark(rule, known)
    try:
        return parse(stored.removeprefix(mark), known) if stored.startswith(mark) else fresh or known
    except (ValueError, TypeError):
        return fresh or known


def _dispersion(view: View, rule: Rule, length: hypothesis.Plan) -> Any:
    """θ̂ from what stable did before the rollout: interval by interval lately, and by blocks over a longer time."""
    history = view.evidence.history or History()
    near, far = _counted(rule, history.near), _counted(rule, history.by_blocks)
    if not near[0].size:
        return None
    return dispersion.from_history(*near, length.block, *(far if far[0].size else (None, None)))


def _counted(rule: Rule, history: Sequence[Interval]) -> tuple[dispersion.Array, dispersion.Array]:
    """Requests and bad ones of stable's pods in each interval: two arrays (pods, intervals)."""
    edges, _ = edges_of(rule, (d for i in history for d in i.control.values())) if history else (None, "")
    counted = [count_arm(rule, interval.control, edges) for interval in history]
    pods = sorted({pod for row in counted for pod in row})
    none = arms.Counts()
    n = np.array([[row.get(pod, none).n for row in counted] for pod in pods], dtype=np.float64)
    x = np.array([[row.get(pod, none).low for row in counted] for pod in pods], dtype=np.float64)
    return n, x
