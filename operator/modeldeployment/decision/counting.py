"""A pod's counter differences → what one rule counts: requests, and bad ones among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from modeldeployment.decision.arms import Counts
from modeldeployment.decision.evidence import Delta
from modeldeployment.decision.latency import Edges, choose_edges, shared_edges
from modeldeployment.decision.rules import Rule, RuleKind, Sli

NO_ERRORS = "this dialect has no counter of errors"
NO_HISTOGRAM = "this dialect has no latency histogram, or it had no request yet"
NO_SHARED_EDGE = "lies inside a bucket of some pods, and their histograms have no edge in common to judge it at"


def edges_of(rule: Rule | Sli, deltas: Iterable[Delta]) -> tuple[Edges | None, str]:
    """The bucket edges (ms) that every pod has and that a latency rule is judged by; or why there are none."""
    timed = [delta.faster for delta in deltas if delta.faster or delta.timed]
    if not timed:
        return None, NO_HISTOGRAM
    shared = shared_edges(*timed)
    if not shared:
        return None, f"p{rule.quantile * 100:g} bound {rule.edge_ms:g}ms {NO_SHARED_EDGE}"
    choice = choose_edges(shared, rule.edge_ms, quantile=rule.quantile, seconds_per_unit=1e-3)
    return choice.edges, choice.message


def count(rule: Rule | Sli, delta: Delta, edges: Edges | None) -> Counts | None:
    """What the rule counts of one pod; None when its counters cannot tell."""
    if rule.kind is RuleKind.ERRORS:
        return None if delta.errors is None else Counts(delta.requests, delta.errors, delta.errors)
    if edges is None or not delta.faster:
        return None
    low = max(0, delta.timed - delta.faster[edges.upper])
    high = delta.timed - (delta.faster[edges.lower] if edges.lower > 0 else 0)
    return Counts(delta.timed, low, max(low, high))


def count_arm(rule: Rule, arm: Mapping[str, Delta], edges: Edges | None) -> dict[str, Counts]:
    """The same for each pod of an arm; pods that cannot tell are left out."""
    counted = {pod: count(rule, delta, edges) for pod, delta in arm.items()}
    return {pod: counts for pod, counts in counted.items() if counts is not None}
