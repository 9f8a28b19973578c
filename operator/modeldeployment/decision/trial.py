"""A version on trial: its rules fed with the evidence of each interval, and what they say together.

The states of the tests live in `Memory` while the process lives and, written as text, in the status: a new leader
reads them from there and goes on from `evidenceTime`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from modeldeployment.api.quantities import fraction, seconds
from modeldeployment.api.rollout import Judge, Sequential, Threshold
from modeldeployment.api.status import RevisionStatus, RolloutStatus
from modeldeployment.decision import arms, blocks, dispersion, hypothesis, sequential, threshold
from modeldeployment.decision.counting import count_arm, edges_of
from modeldeployment.decision.evidence import History, Interval
from modeldeployment.decision.query import QueryState
from modeldeployment.decision.rules import Rule, RuleKind, trial_rules
from modeldeployment.decision.view import FULL, View

ROLLOUT_SHARE = 0.8
"""Of the chance of a false rollback, this goes to the rollout and the rest to the watch (decision.md §4)."""

State = sequential.RuleState | threshold.ThresholdState | QueryState
T = TypeVar("T", sequential.RuleState, threshold.ThresholdState, QueryState)


@dataclass(frozen=True, slots=True)
class Memory:
    """The tests of one trial, alive.

    Attributes:
        key: which trial they belong to; another one starts anew.
        states: rule → test.
        notes: rule → why it cannot be judged, or not sharply (no such counter, no such bucket).
    """

    key: tuple[object, ...] = ()
    states: Mapping[str, State] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


def feed(view: View, memory: Memory) -> tuple[RolloutStatus | None, Memory]:
    """The trial after this look: every rule gets every new interval, whatever another rule says.

    Also notes since when the router is seen to send the weight that is wanted: from then the step counts.
    """
    rollout = view.status.rollout
    if rollout is None or view.status.stable is None:
        return rollout, Memory()
    rules = trial_rules(view.spec, view.default_objectives)
    on_trial = view.status.canary or view.status.stable
    intervals = _usable(view, rollout, on_trial)
    settled = rollout.weight_time is None and on_trial.wanted_weight > 0 and view.weights_applied
    if settled:
        rollout = rollout.model_copy(update={"weight_time": view.now})
    memory = _recall(view, rollout, rules, memory)
    if not memory.states and not intervals:
        return rollout, memory  # the tests begin with the first evidence, and with what stable did before it
    memory = memory if memory.states else _begin(view, rollout, rules)
    states, notes = dict(memory.states), dict(memory.notes)
    for interval in intervals:
        for rule in rules:
            states[rule.name], notes[rule.name] = _interval(view, rollout, rule, states[rule.name], interval)
        rollout = rollout.model_copy(update={"evidence_time": interval.end})
    for rule in rules:
        state = states[rule.name]
        if isinstance(state, QueryState):
            states[rule.name] = state.look(_value(view, rollout, rule), view.evidence.time)
    if settled:
        states = {name: _next_step(view, state) for name, state in states.items()}
    return rollout, Memory(memory.key, states, notes)


def _next_step(view: View, state: State) -> State:
    """A new step. Where stable just lost all of its traffic, or has some again, the tests start anew."""
    if not isinstance(state, sequential.RuleState):
        return state.begin_step()
    bound = replace(state.bound, compare=_compare(alone=_alone(view)))
    if bound == state.bound:
        return state.begin_step()
    return sequential.RuleState.begin(bound, state.plan, state.row["dispersion"])


def _alone(view: View) -> bool:
    """Whether there is no stable arm: after promotion, and at a step of 100%."""
    return view.status.canary is None or view.status.canary.wanted_weight == FULL


def _compare(*, alone: bool) -> hypothesis.Compare:
    return hypothesis.Compare.BOUND if alone else hypothesis.Compare.STABLE_AND_BOUND


def _usable(view: View, rollout: RolloutStatus, on_trial: RevisionStatus) -> list[Interval]:
    """The new intervals in which the revision on trial was to have traffic."""
    if on_trial.wanted_weight == 0 and rollout.evidence_time is None:
        return []  # before its first weight there is nothing to judge, and nothing to spend
    since = rollout.evidence_time or rollout.promotion_time or rollout.start_time
    return [interval for interval in view.evidence.intervals if interval.end > since]


def plan(view: View, rollout: RolloutStatus) -> hypothesis.Plan:
    """Error bounds of the trial: the rollout's, or the watch's after promotion."""
    analysis = view.spec.rollout.analysis
    alpha = fraction((analysis.sequential or Sequential()).false_rollback)
    watching = rollout.promotion_time is not None
    length = seconds(view.spec.rollout.watch if watching else view.spec.rollout.deadline)
    interval = seconds(analysis.interval)
    return hypothesis.Plan(
        horizon=max(1, round(length / interval)),
        alpha=alpha * (1 - ROLLOUT_SHARE if watching else ROLLOUT_SHARE),
        block=max(1, round(blocks.SECONDS / interval)),
    )


def _interval(view: View, rollout: RolloutStatus, rule: Rule, state: State, interval: Interval) -> tuple[State, str]:
    if isinstance(state, QueryState):
        return state, ""
    edges, note = None, ""
    if rule.kind is RuleKind.SLOW:
        edges, note = edges_of(rule, (*interval.trial.values(), *interval.control.values()))
    width = (interval.end - interval.start).total_seconds()
    counted = arms.Interval(
        canary=count_arm(rule, interval.trial, edges),
        stable=count_arm(rule, interval.control, edges),
        length=max(1, round(width / seconds(view.spec.rollout.analysis.interval))),
        weight_moved=_moved(rollout, interval),
    )
    return state.update(counted), note


def _moved(rollout: RolloutStatus, interval: Interval) -> bool:
    """Whether requests of another weight are in the interval.

    At the first step they are not: before it the canary had none at all, and stable's earlier ones are only more
    of the same arm (ADR 0003).
    """
    if rollout.step == 0 and rollout.promotion_time is None:
        return False
    return rollout.weight_time is None or interval.oldest_start < rollout.weight_time


def _value(view: View, rollout: RolloutStatus, rule: Rule) -> float | None:
    """The query's value for the revision on trial; one for the whole model says nothing about a canary."""
    values = view.evidence.values
    own = values.get((rule.query, rollout.revision))
    return values.get((rule.query, "")) if own is None and rollout.promotion_time else own


def _recall(view: View, rollout: RolloutStatus, rules: tuple[Rule, ...], memory: Memory) -> Memory:
    """The tests of this trial: those alive, else from the status; none where neither has any."""
    if memory.states and memory.key == _key(view, rollout, rules):
        return memory
    return _begin(view, rollout, rules) if any(rule.state for rule in rollout.rules) else Memory()


def _begin(view: View, rollout: RolloutStatus, rules: tuple[Rule, ...]) -> Memory:
    """The tests as the status has them, and new ones for the rest."""
    length = plan(view, rollout)
    stored = {rule.name: rule.state for rule in rollout.rules}
    states = {rule.name: _restore(view, rollout, rule, length, stored.get(rule.name, "")) for rule in rules}
    return Memory(_key(view, rollout, rules), states)


def _key(view: View, rollout: RolloutStatus, rules: tuple[Rule, ...]) -> tuple[object, ...]:
    """What makes a trial the same one, judged the same way."""
    length = plan(view, rollout)
    return (
        rollout.revision,
        rollout.start_time,
        rollout.promotion_time,
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
    share, detectable = rule.share, _detectable(rule, float((analysis.sequential or Sequential()).detectable))
    if rollout.promotion_time is not None:
        # Promotion promised to keep below this, and no less; a watch that asked for more would contradict it.
        share, detectable = share * detectable, 1.0
    bound = hypothesis.Bound(
        share=share,
        detectable=detectable,
        compare=_compare(alone=_alone(view)),
        rolls_back=rule.rolls_back,
    )
    fresh = sequential.RuleState.begin(bound, length, _dispersion(view, rule, length))
    # While the weight is on its way to 100% or back from it, the test still compares as it did.
    before = replace(fresh, bound=replace(bound, compare=_compare(alone=not _alone(view))))
    known = before if stored.startswith(_mark(rule, before)) else fresh
    kept = _read(rule, stored, known, lambda text, as_: sequential.RuleState.from_state(text, as_.bound, length))
    return fresh if kept is before else kept


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
        facts = (rule.edge_ms, state.bound, plan_.window, plan_.min_samples, plan_.counting.value)
    else:
        facts = (rule.edge_ms, state.bound.share, state.bound.detectable, state.bound.compare.value)
    return hashlib.sha256(repr((rule.kind.value, *facts)).encode()).hexdigest()[:8] + "/"


def _detectable(rule: Rule, asked: float) -> float:
    """As asked, but for a wide bound (p50: half of the requests) never a rate that nothing could exceed."""
    return min(asked, (1 + rule.share) / (2 * rule.share))


def _read(rule: Rule, stored: str, fresh: T, parse: Callable[[str, T], T]) -> T:
    """A state as stored; one of another bound or judge, or that another version wrote, starts anew."""
    mark = _mark(rule, fresh)
    if not stored.startswith(mark):
        return fresh
    try:
        return parse(stored.removeprefix(mark), fresh)
    except (ValueError, TypeError):
        return fresh


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
