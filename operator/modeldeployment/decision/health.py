"""How the version that serves does: each objective over its window, and the word in the column HEALTH."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from modeldeployment.api.status import Alert, BudgetStatus, Health, ObjectiveStatus, Verdict
from modeldeployment.decision import budget, kernel, say
from modeldeployment.decision.arms import Counts
from modeldeployment.decision.counting import NO_ERRORS, count, edges_of
from modeldeployment.decision.evidence import DataState, Delta
from modeldeployment.decision.query import QueryState
from modeldeployment.decision.rules import Rule, RuleKind, objective_rules
from modeldeployment.decision.view import View

_BLIND = (DataState.QUERY_ERROR, DataState.NO_PROMETHEUS)
_PROOF = math.log(1 / 0.01)
"""Log e-value at which a window proves its objective broken, or kept."""


def objectives(view: View) -> tuple[ObjectiveStatus, ...]:
    """Each objective of the spec (or of the policy): value, bound, verdict, sample size, age of data, budget."""
    rules = objective_rules(view.spec, view.default_objectives)
    counted = {rule.name: _count(view, rule) for rule in rules if rule.kind is not RuleKind.QUERY}
    proofs = _proofs([(rule, counts) for rule in rules if (counts := counted.get(rule.name, (None, ""))[0])])
    told = (
        _query(view, rule, _told(view, rule))
        if rule.kind is RuleKind.QUERY
        else _judged(view, rule, *counted[rule.name], proofs.get(rule.name, (0.0, 0.0)))
        for rule in rules
    )
    return tuple(o.model_copy(update={"budget": _budget(view, r)}) for r, o in zip(rules, told, strict=True))


def _count(view: View, rule: Rule) -> tuple[Counts | None, str]:
    """What the rule counts in its window, and why not, or not sharply."""
    delta = view.evidence.windows.get(rule.window)
    if delta is None:
        return None, view.evidence.message
    edges, note = (None, "") if rule.kind is RuleKind.ERRORS else edges_of(rule, [delta])
    return count(rule, delta, edges), note


def _proofs(counted: Sequence[tuple[Rule, Counts]]) -> dict[str, tuple[float, float]]:
    """Rule → log e-values that its window breaks the bound, and that it keeps it; all at once, as numpy likes it.

    One look at one window, so neither restarts nor dispersion between intervals play a part.
    """
    if not counted:
        return {}
    n, low, high, share = np.array([(c.n, c.low, c.high, rule.share) for rule, c in counted]).T
    worse = kernel.log_mean_exp(kernel.absolute_increments(n, low, bound=share))
    good = kernel.log_mean_exp(kernel.pass_increments(n, high, bound=share, detectable=1.0))
    return dict(zip((rule.name for rule, _ in counted), zip(worse.tolist(), good.tolist(), strict=True), strict=True))


def health(view: View, kept: tuple[ObjectiveStatus, ...]) -> tuple[Health, str, str]:
    """The word, its reason and its sentence.

    Critical: an objective is proven broken, or its budget burns so fast that somebody should look now. Warning: a value
    is beyond its bound, without proof yet; a budget will not last, or is spent; an objective has no value while others
    have. Unknown: nothing can be told. OK: everything else.
    """
    if view.status.stable is None:
        return Health.UNKNOWN, "NothingServes", "no version serves yet"
    evidence = view.evidence
    # Of another version, the one on trial until lately: the one that serves is told by its own counts.
    if evidence.state in _BLIND or (evidence.state is not DataState.FLOWING and view.evidence_of_serving):
        return Health.UNKNOWN, evidence.word, evidence.message
    if not kept:
        return Health.UNKNOWN, "NoObjectives", "no objective says what good is: add spec.objectives"
    broken = [o for o in kept if o.verdict is Verdict.FAIL]
    if broken:
        return Health.CRITICAL, "ObjectiveBroken", _list(broken)
    paging = [o for o in kept if o.budget and o.budget.alert is Alert.PAGE]
    if paging:
        return Health.CRITICAL, "BudgetBurning", _budgets(view, paging)
    beyond = [o for o in kept if o.reason == "BeyondBound"]
    if beyond:
        return Health.WARNING, "BeyondBound", _list(beyond)
    burning = [o for o in kept if o.budget and o.budget.alert]
    if burning:
        return Health.WARNING, "BudgetBurning", _budgets(view, burning)
    spent = [o for o in kept if o.budget and budget.overspent(o.budget)]
    if spent:
        return Health.WARNING, "BudgetExhausted", _budgets(view, spent)
    unknown = [o for o in kept if o.reason in ("NoValue", "CannotTell")]
    if len(unknown) == len(kept):
        return Health.UNKNOWN, "NoValue", _list(unknown)
    if unknown:
        return Health.WARNING, "ObjectiveUnknown", _list(unknown)
    return Health.OK, "ObjectivesKept", _list(list(kept))


def _list(some: list[ObjectiveStatus]) -> str:
    return "; ".join(f"{o.name} {o.value or o.message} (bound {o.bound})" for o in some)


def _budgets(view: View, some: list[ObjectiveStatus]) -> str:
    now = view.evidence.time
    return "; ".join(f"{o.name}: {budget.say(o.budget, now)} (bound {o.bound})" for o in some if o.budget)


def _budget(view: View, rule: Rule) -> BudgetStatus | None:
    """The objective's budget. While its requests cannot be counted, and before its past was read, it stands still."""
    if rule.sli is None:
        return None
    told = next((o for o in view.status.objectives if o.name == rule.name and o.bound == rule.bound), None)
    before = told.budget if told else None
    evidence, tallies = view.evidence, view.evidence.tallies.get(rule.sli)
    unseen = not evidence.state.measured and view.evidence_of_serving
    if tallies is None or evidence.state in _BLIND or unseen:
        return before
    return budget.status(tallies, rule.period, rule.share, evidence.time, before)


def _told(view: View, rule: Rule) -> ObjectiveStatus:
    age = view.evidence.data_age
    return ObjectiveStatus(
        name=rule.name,
        verdict=Verdict.INCONCLUSIVE,
        reason="NoValue",
        bound=rule.bound[:48],
        data_age_seconds=None if age is None else round(age),
    )


def _judged(view: View, rule: Rule, counts: Counts | None, note: str, proofs: tuple[float, float]) -> ObjectiveStatus:
    """The window's counts against the bound: proven kept, proven broken, or neither."""
    told, delta = _told(view, rule), view.evidence.windows.get(rule.window)
    if delta is None:
        return told.model_copy(update={"message": note[:512]})
    if counts is None:
        return told.model_copy(update={"reason": "CannotTell", "message": note or NO_ERRORS})
    worse, good = proofs
    if counts.n <= 0:
        verdict, reason = Verdict.INCONCLUSIVE, "NoValue"
    elif worse >= _PROOF:
        verdict, reason = Verdict.FAIL, "ProvenBroken"
    elif counts.low > rule.share * counts.n:
        verdict, reason = Verdict.INCONCLUSIVE, "BeyondBound"
    else:
        verdict, reason = (Verdict.PASS, "ProvenKept") if good >= _PROOF else (Verdict.INCONCLUSIVE, "WithinBound")
    value = _value(rule, counts, delta)
    message = f"{say.of(rule, counts)}; {note}" if note else say.of(rule, counts)
    update = {"verdict": verdict, "reason": reason, "value": value, "samples": int(counts.n)}
    return told.model_copy(update={**update, "message": message[:512]})


def _value(rule: Rule, counts: Counts, delta: Delta) -> str:
    if counts.n <= 0:
        return ""
    if rule.kind is RuleKind.ERRORS:
        return say.share(counts.low, counts.n)
    return say.quantile(delta, rule.quantile)


def _query(view: View, rule: Rule, told: ObjectiveStatus) -> ObjectiveStatus:
    stable = view.status.stable
    values = view.evidence.values
    value = values.get((rule.query, stable.revision)) if stable else None
    if value is None:
        value = values.get((rule.query, ""))
    if value is None:
        why = view.evidence.query_errors.get(rule.query, "the query returned no value")
        return told.model_copy(update={"message": why})
    told = told.model_copy(update={"value": f"{value:.6g}"})
    if QueryState(rule).look(value, view.evidence.time).kept:
        return told.model_copy(update={"reason": "WithinBound", "verdict": Verdict.PASS})
    before = next((o.breach_time for o in view.status.objectives if o.name == rule.name), None)
    since = before or view.evidence.time
    broken = (view.evidence.time - since).total_seconds() >= rule.sustained
    return told.model_copy(
        update={
            "breach_time": since,
            "reason": "ProvenBroken" if broken else "BeyondBound",
            "verdict": Verdict.FAIL if broken else Verdict.INCONCLUSIVE,
        }
    )
