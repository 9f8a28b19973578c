"""What the tests of a trial come to: one verdict, one reason, one sentence on what it waits for.

A rule that fails has a cause (cause.py). Only those causes that the spec names take a version back; for any other the
version is held at its weight, and the reason says whose fault it is (SharedFault, PodFault, ...).
"""

from __future__ import annotations

import math
from typing import Final

from modeldeployment.api.quantities import seconds
from modeldeployment.api.status import Cause, Numbers, RolloutStatus, RuleStatus, Verdict
from modeldeployment.decision import needed, say, sequential, threshold
from modeldeployment.decision.cause import Blame, Pods, blame, shared
from modeldeployment.decision.evidence import DataState
from modeldeployment.decision.hypothesis import Compare
from modeldeployment.decision.memory import Memory, State, plan, text_of
from modeldeployment.decision.query import QueryState
from modeldeployment.decision.rules import Rule, RuleKind, trial_rules
from modeldeployment.decision.view import FULL, View

FAULT: Final = "Fault"
"""Ends the reason of a version that is held because a broken bound is not its own fault."""
ALARM: Final = "WatchAlarm"
"""The reason of a promoted version of which a bound begins to break."""


def verdict(view: View, rollout: RolloutStatus, memory: Memory) -> RolloutStatus:
    """The rollout status with each rule's verdict and the whole one.

    Evidence that does not flow neither promotes nor rolls back: what was proven before waits until it flows again.
    """
    rules = trial_rules(view.spec, view.default_objectives)
    if not rules:
        nothing = (
            "no objective and no rollbackOn says what good is: add spec.objectives, or have them in the ModelPolicy"
        )
        return _with(rollout, Verdict.INCONCLUSIVE, "NoObjectives", nothing, ())
    evidence = view.evidence
    if not memory.states:
        flows = evidence.state is DataState.FLOWING
        reason = "NotEnoughEvidence" if flows else evidence.state.value
        message = "waiting for the first interval of evidence" if flows else evidence.message
        return _with(rollout, Verdict.INCONCLUSIVE, reason, message, ())
    each = _each(view, rollout, memory)
    judged = tuple(_rule(view, rollout, rule, memory, each[rule.name]) for rule in rules)
    if evidence.state is not DataState.FLOWING:
        return _with(rollout, Verdict.INCONCLUSIVE, evidence.state.value, evidence.message, judged)
    failed = [r for r, rule in zip(judged, rules, strict=True) if r.verdict is Verdict.FAIL and rule.rolls_back]
    if own := [r for r in failed if r.cause in view.takes_back]:
        return _with(rollout, Verdict.FAIL, "ObjectiveBroken", own[0].message, judged)
    if failed:
        first = next((r for r in failed if r.cause is not Cause.SHARED), failed[0])
        unnamed = f"rollout.rollbackOnCauses does not name {first.cause}, so it is not taken back"
        held = f"{first.message}; {unnamed}"
        return _with(rollout, Verdict.INCONCLUSIVE, f"{first.cause}{FAULT}", held, judged)
    if alarm := _alarm(view, rollout, memory):
        message = next(r.message for r in judged if r.name == alarm)
        return _with(rollout, Verdict.INCONCLUSIVE, ALARM, message, judged)
    open_ = [r for r in judged if r.verdict is not Verdict.PASS]
    if not open_:
        kept = "; ".join(r.message for r in judged)
        return _with(rollout, Verdict.PASS, "ObjectivesKept", f"every rule passed: {kept}", judged)
    return _with(rollout, Verdict.INCONCLUSIVE, "NotEnoughEvidence", _waiting(memory, open_), judged)


def _with(
    rollout: RolloutStatus, said: Verdict, reason: str, message: str, rules: tuple[RuleStatus, ...]
) -> RolloutStatus:
    return rollout.model_copy(update={"verdict": said, "reason": reason, "message": message[:1024], "rules": rules})


def _sequential(memory: Memory) -> dict[str, sequential.RuleState]:
    return {name: state for name, state in memory.states.items() if isinstance(state, sequential.RuleState)}


def _each(view: View, rollout: RolloutStatus, memory: Memory) -> dict[str, Verdict]:
    """The verdict of every rule. The sequential ones share one error bound, so they are judged together."""
    each = dict(sequential.judge(_sequential(memory), plan(view.spec, rollout)).rules)
    for name, state in memory.states.items():
        if isinstance(state, threshold.ThresholdState | QueryState):
            each[name] = state.verdict
    return each


def _alarm(view: View, rollout: RolloutStatus, memory: Memory) -> str | None:
    """The rule whose bound begins to break in the watch."""
    watching = {name: s for name, s in _sequential(memory).items() if s.bound.compare is Compare.WATCH}
    return sequential.alarmed(watching, plan(view.spec, rollout))


def _rule(view: View, rollout: RolloutStatus, rule: Rule, memory: Memory, said: Verdict) -> RuleStatus:
    state = memory.states[rule.name]
    message, cause = _message(view, rule, memory), None
    alone = rollout.promotion_time is not None and rollout.compare_time is None
    if isinstance(state, sequential.RuleState) and rule.rolls_back and not alone:
        before = next((r.cause for r in rollout.rules if r.name == rule.name), None)
        if said is not Verdict.FAIL and shared(state, before=before is Cause.SHARED):
            said, cause = Verdict.FAIL, Cause.SHARED
            message = f"both versions break the bound now, so it is not the new one's fault: {message}"
        elif said is Verdict.FAIL:
            found = _blame(view, rollout, rule, memory, state, before)
            cause, message = found.cause, message if found.cause is Cause.CANARY else f"{found.message}; {message}"
    elif said is Verdict.FAIL:
        cause = Cause.CANARY
    return RuleStatus(
        name=rule.name,
        verdict=said,
        cause=cause,
        numbers=_numbers(rule, state),
        message=message,
        needs=_needs(view, state) if said is Verdict.INCONCLUSIVE else "",
        state=text_of(rule, state),
    )


def _blame(
    view: View, rollout: RolloutStatus, rule: Rule, memory: Memory, state: sequential.RuleState, before: Cause | None
) -> Blame:
    return blame(
        state,
        memory.pods.get(rule.name, Pods()),
        view.workload(rollout.revision).nodes,
        slow=rule.kind is RuleKind.SLOW,
        say=lambda counts: say.of(rule, counts),
        before=before,
    )


def _numbers(rule: Rule, state: State) -> Numbers:
    bound = rule.bound[:48]
    if isinstance(state, QueryState):
        return Numbers(bound=bound, value=None if state.value is None else f"{state.value:.6g}")
    if isinstance(state, threshold.ThresholdState):
        return Numbers(bound=bound, requests=int(state.last_counts.n), bad=int(state.last_counts.low))
    compared = state.bound.compare not in (Compare.BOUND, Compare.WATCH)
    return Numbers(
        bound=bound,
        requests=int(state.canary.n),
        bad=int(state.canary.low),
        stable_requests=int(state.stable.n) if compared else None,
        stable_bad=int(state.stable.low) if compared else None,
        e_worse=say.e_value(state.worse) if compared else None,
        e_broken=say.e_value(state.alarm if state.bound.compare is Compare.WATCH else state.absolute),
        e_good=say.e_value(state.passing),
    )


def _message(view: View, rule: Rule, memory: Memory) -> str:
    state, note = memory.states[rule.name], memory.notes.get(rule.name, "")
    if isinstance(state, QueryState):
        if state.value is None and (why := view.evidence.query_errors.get(rule.query)):
            return f"{rule.name}: {why}"
        words = say.query(rule, state)
        if state.value is None and (rule.query, "") in view.evidence.values:
            words += "; its series have no labels namespace and pod, so it cannot speak for a canary"
        return words
    if isinstance(state, threshold.ThresholdState):
        words = say.windows(rule, state)
    else:
        words = say.sequential(rule, state, max(1, sum(one.bound.rolls_back for one in _sequential(memory).values())))
    return f"{words}; {note}" if note else words


def _needs(view: View, state: State) -> str:
    """How much evidence a rule still needs to pass; "" where that cannot be estimated."""
    on_trial = view.status.canary or view.status.stable
    if not isinstance(state, sequential.RuleState) or on_trial is None or not state.intervals:
        return ""
    interval = seconds(view.spec.rollout.analysis.interval)
    traffic = needed.Traffic(
        rps=(state.canary.n + state.stable.n) / (state.intervals * interval),
        weight=on_trial.wanted_weight / FULL,
        interval=interval,
    )
    to_pass = needed.pass_needed(state, traffic)
    to_fail = needed.fail_needed(state, traffic) if to_pass is None and state.bound.rolls_back else None
    return say.needs(to_pass, to_fail)


def _waiting(memory: Memory, waiting_for: list[RuleStatus]) -> str:
    """What is missing, rule by rule."""
    parts = []
    for rule in waiting_for:
        state = memory.states[rule.name]
        if isinstance(state, QueryState) and state.value is None:
            parts.append(rule.message)
        elif isinstance(state, sequential.RuleState) and state.passing >= math.log(1 / state.plan.beta):
            parts.append(f"{rule.name} was good enough and seems to break its bound now")
        else:
            parts.append(f"{rule.name} {say.waiting(rule.needs) if rule.needs else 'is open'}")
    return "waiting for evidence: " + "; ".join(parts)
