"""A version on trial: its rules fed with the evidence of each interval."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TypeVar

from modeldeployment.api.quantities import seconds
from modeldeployment.api.status import QUERY_MAX, Cause, RevisionStatus, RolloutStatus
from modeldeployment.decision import arms, sequential, threshold
from modeldeployment.decision.cause import Pods, apart, healed, relieved
from modeldeployment.decision.counting import count_arm, edges_of
from modeldeployment.decision.evidence import Interval
from modeldeployment.decision.memory import Memory, State, begin, compare, recall
from modeldeployment.decision.query import QueryState
from modeldeployment.decision.rules import Rule, RuleKind, trial_rules
from modeldeployment.decision.view import View

R = TypeVar("R")

Asked = tuple[sequential.RuleState, arms.Interval]
Work = Generator[list[Asked], list[sequential.RuleState], R]
"""Work that asks for updates of sequential rules, and goes on with the updated ones: so that those of many models are
made together (sequential.update_all)."""


def together(works: Sequence[Work[R]]) -> list[R | Exception]:
    """Does all of them; each comes to what it comes to alone. One that raises hurts nobody else."""
    ends: dict[int, R | Exception] = {}

    def go_on(number: int, answer: list[sequential.RuleState] | None) -> list[Asked]:
        work = works[number]
        try:
            return next(work) if answer is None else work.send(answer)
        except StopIteration as end:
            ends[number] = end.value
        except Exception as error:
            ends[number] = error
        return []

    asked = {number: go_on(number, None) for number in range(len(works))}
    while len(ends) < len(works):
        asked = {number: of for number, of in asked.items() if number not in ends}
        try:
            answers = dict(zip(asked, _updated(list(asked.values())), strict=True))
        except Exception:  # whose numbers they are that cannot be updated shows one by one
            answers = {}
            for number, of in asked.items():
                try:
                    (answers[number],) = _updated([of])
                except Exception as error:
                    ends[number] = error
        asked = {number: go_on(number, answer) for number, answer in answers.items()}
    return [ends[number] for number in range(len(works))]


def _updated(asked: Sequence[list[Asked]]) -> list[list[sequential.RuleState]]:
    """The updates that each asks for, made together."""
    everything = [one for of in asked for one in of]
    updated = iter(sequential.update_all([state for state, _ in everything], [interval for _, interval in everything]))
    return [[next(updated) for _ in of] for of in asked]


def feed(view: View, memory: Memory) -> Work[tuple[RolloutStatus | None, Memory]]:
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
    if queries := _queries(view, rollout):
        rollout = rollout.model_copy(update=queries)
    memory = recall(view, rollout, rules, memory)
    if not memory.states and not intervals:
        return rollout, memory  # the tests begin with the first evidence, and with what stable did before it
    memory = memory if memory.states else begin(view, rollout, rules)
    for interval in intervals:
        memory = yield from _interval(view, rollout, rules, memory, interval)
        rollout = rollout.model_copy(update={"evidence_time": interval.end})
    memory = _put_right(view, rollout, memory)
    states = {
        rule.name: state.look(_value(view, rollout, rule), view.evidence.time)
        if isinstance(state, QueryState)
        else state
        for rule in rules
        for state in (memory.states[rule.name],)
    }
    if settled:
        states = {name: _next_step(view, rollout, state) for name, state in states.items()}
    return rollout, replace(memory, states=states)


def _interval(
    view: View, rollout: RolloutStatus, rules: Sequence[Rule], memory: Memory, interval: Interval
) -> Work[Memory]:
    """One interval for every rule that counts."""
    states, notes, pods = dict(memory.states), dict(memory.notes), dict(memory.pods)
    asked: dict[str, Asked] = {}
    for rule in rules:
        state = states[rule.name]
        if isinstance(state, QueryState):
            notes[rule.name] = ""
            continue
        counted, notes[rule.name] = _count(view, rollout, rule, interval)
        if isinstance(state, threshold.ThresholdState):
            states[rule.name] = state.update(counted)
            continue
        asked[rule.name] = (state, counted)
        pods[rule.name] = pods.get(rule.name, Pods()).add(counted)
    if asked:
        updated = yield [*asked.values()]
        states |= dict(zip(asked, updated, strict=True))
    return Memory(memory.key, states, pods, notes)


def _put_right(view: View, rollout: RolloutStatus, memory: Memory) -> Memory:
    """Where what was to blame is put right, the rule's tests start anew: what they saw says nothing about what is left.

    That is where the pods of a pod's or a node's fault are gone and the rest is good, or all that is known of them is
    (of who has restarted since: what is known is from then on); or where too few pods are enough now.
    """
    blamed = [rule for rule in rollout.rules if rule.cause in (Cause.POD, Cause.NODE, Cause.CAPACITY)]
    if not blamed:
        return memory
    nodes, states, pods = view.workload(rollout.revision).nodes, dict(memory.states), dict(memory.pods)
    for rule in blamed:
        state, of = states.get(rule.name), pods.get(rule.name)
        if not isinstance(state, sequential.RuleState) or of is None:
            continue
        right = rule.cause is Cause.CAPACITY and relieved(of)
        if rule.cause in (Cause.POD, Cause.NODE) and nodes:
            pods[rule.name] = there = replace(of, canary={pod: n for pod, n in of.canary.items() if pod in nodes})
            fewer = len(there.canary) < len(of.canary)
            right = (fewer or healed(state, there)) and not apart(state, there, nodes)
        if right:
            states[rule.name] = sequential.RuleState.begin(state.bound, state.plan, state.row["dispersion"])
            pods[rule.name] = Pods()
    return replace(memory, states=states, pods=pods)


def _next_step(view: View, rollout: RolloutStatus, state: State) -> State:
    """A new step. Where stable just lost all of its traffic, or has some again, the tests start anew."""
    if not isinstance(state, sequential.RuleState):
        return state.begin_step()
    bound = replace(state.bound, compare=compare(view, rollout))
    if bound == state.bound:
        return state.begin_step()
    return sequential.RuleState.begin(bound, state.plan, state.row["dispersion"])


def _usable(view: View, rollout: RolloutStatus, on_trial: RevisionStatus) -> list[Interval]:
    """The new intervals in which the revision on trial was to have traffic."""
    if on_trial.wanted_weight == 0 and rollout.evidence_time is None:
        return []  # before its first weight there is nothing to judge, and nothing to spend
    since = rollout.evidence_time or rollout.promotion_time or rollout.start_time
    return [interval for interval in view.evidence.intervals if interval.end > since]


def _count(view: View, rollout: RolloutStatus, rule: Rule, interval: Interval) -> tuple[arms.Interval, str]:
    """What a rule counts in an interval, and why not, or not sharply."""
    edges, note = None, ""
    if rule.kind is RuleKind.SLOW:
        edges, note = edges_of(rule, (*interval.trial.values(), *interval.control.values()))
    width = (interval.end - interval.start).total_seconds()
    return arms.Interval(
        canary=count_arm(rule, interval.trial, edges),
        stable=count_arm(rule, interval.control, edges),
        length=max(1, round(width / seconds(view.spec.rollout.analysis.interval))),
        weight_moved=_moved(rollout, interval),
        strain=interval.strain,
    ), note


def _moved(rollout: RolloutStatus, interval: Interval) -> bool:
    """Whether requests of another weight are in the interval.

    At the first step they are not: before it the canary had none at all, and stable's earlier ones are only more
    of the same arm (ADR 0003).
    """
    if rollout.step == 0 and rollout.promotion_time is None:
        return False
    return rollout.weight_time is None or interval.oldest_start < rollout.weight_time


def _queries(view: View, rollout: RolloutStatus) -> dict[str, str]:
    """The queries that show a person what is counted, where they changed. Half of a query is none."""
    shown = {
        "errors_query": view.evidence.sources.get(RuleKind.ERRORS.value, ""),
        "latency_query": view.evidence.sources.get(RuleKind.SLOW.value, ""),
    }
    return {k: q for k, q in shown.items() if 0 < len(q) <= QUERY_MAX and getattr(rollout, k) != q}


def _value(view: View, rollout: RolloutStatus, rule: Rule) -> float | None:
    """The query's value for the revision on trial; one for the whole model says nothing about a canary."""
    values = view.evidence.values
    own = values.get((rule.query, rollout.revision))
    return values.get((rule.query, "")) if own is None and rollout.promotion_time else own
