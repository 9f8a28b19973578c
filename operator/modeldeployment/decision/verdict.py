"""What the tests of a trial come to: one verdict, one reason, one sentence on what it waits for."""

from __future__ import annotations

from modeldeployment.api.quantities import seconds
from modeldeployment.api.status import RolloutStatus, RuleStatus, Verdict
from modeldeployment.decision import needed, say, sequential, threshold
from modeldeployment.decision.evidence import DataState
from modeldeployment.decision.query import QueryState
from modeldeployment.decision.rules import Rule, trial_rules
from modeldeployment.decision.trial import Memory, plan, text_of
from modeldeployment.decision.view import FULL, View


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
    judged = tuple(
        RuleStatus(
            name=rule.name,
            verdict=each[rule.name],
            message=_message(view, rollout, rule, memory)[:512],
            state=text_of(rule, memory.states[rule.name]),
        )
        for rule in rules
    )
    if evidence.state is not DataState.FLOWING:
        return _with(rollout, Verdict.INCONCLUSIVE, evidence.state.value, evidence.message, judged)
    failed = [r for r, rule in zip(judged, rules, strict=True) if r.verdict is Verdict.FAIL and rule.rolls_back]
    if failed:
        return _with(rollout, Verdict.FAIL, "ObjectiveBroken", failed[0].message, judged)
    open_ = [r for r in judged if r.verdict is not Verdict.PASS]
    if not open_:
        kept = "; ".join(r.message for r in judged)
        return _with(rollout, Verdict.PASS, "ObjectivesKept", f"every rule passed: {kept}", judged)
    return _with(rollout, Verdict.INCONCLUSIVE, "NotEnoughEvidence", _waiting(view, memory, open_), judged)


def _with(
    rollout: RolloutStatus, said: Verdict, reason: str, message: str, rules: tuple[RuleStatus, ...]
) -> RolloutStatus:
    return rollout.model_copy(update={"verdict": said, "reason": reason, "message": message[:1024], "rules": rules})


def _each(view: View, rollout: RolloutStatus, memory: Memory) -> dict[str, Verdict]:
    """The verdict of every rule. The sequential ones share one error bound, so they are judged together."""
    together = {n: s for n, s in memory.states.items() if isinstance(s, sequential.RuleState)}
    judged = sequential.judge(together, plan(view, rollout)).rules
    each = dict(judged)
    for name, state in memory.states.items():
        if isinstance(state, threshold.ThresholdState | QueryState):
            each[name] = state.verdict
    return each


def _message(view: View, rollout: RolloutStatus, rule: Rule, memory: Memory) -> str:
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
        words = say.sequential(rule, state)
    return f"{words}; {note}" if note else words


def _waiting(view: View, memory: Memory, waiting_for: list[RuleStatus]) -> str:
    """What is missing, for the rule that misses most."""
    on_trial = view.status.canary or view.status.stable
    interval = seconds(view.spec.rollout.analysis.interval)
    parts = []
    for rule in waiting_for:
        state = memory.states[rule.name]
        if isinstance(state, sequential.RuleState) and on_trial is not None and state.intervals:
            elapsed = state.intervals * interval
            traffic = needed.Traffic(
                rps=(state.canary.n + state.stable.n) / elapsed,
                weight=on_trial.wanted_weight / FULL,
                interval=interval,
            )
            parts.append(f"{rule.name} {say.waiting(needed.pass_needed(state, traffic))}")
        else:
            parts.append(
                rule.message if isinstance(state, QueryState) and state.value is None else f"{rule.name} is open"
            )
    return "waiting for evidence: " + "; ".join(parts)
