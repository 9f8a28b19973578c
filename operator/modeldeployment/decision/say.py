"""Numbers in words: what a person reads in `kubectl describe`, in an Event, in the log."""

from __future__ import annotations

import math
from typing import Final

from modeldeployment.api.quantities import say_duration
from modeldeployment.decision.arms import Counts
from modeldeployment.decision.evidence import Delta
from modeldeployment.decision.hypothesis import Compare
from modeldeployment.decision.needed import Needed
from modeldeployment.decision.query import QueryState
from modeldeployment.decision.rules import Rule, RuleKind
from modeldeployment.decision.sequential import RuleState
from modeldeployment.decision.threshold import ThresholdState

NEVER: Final = "can never pass at its present rate"
FAILS: Final = "Fail in "
REQUESTS_MAX, SECONDS_MAX = 1e9, 3600 * 9999
"""An estimate is never said to be larger."""


def share(bad: float, requests: float) -> str:
    """A share of requests as a percentage with the digits it deserves."""
    return "no requests" if requests <= 0 else f"{100 * bad / requests:.3g}%"


def of(rule: Rule, counts: Counts) -> str:
    """`1.2% failed (5 of 412)`."""
    what = "failed" if rule.kind is RuleKind.ERRORS else f"slower than {rule.edge_ms:g}ms"
    if counts.n <= 0:
        return "no requests yet"
    return f"{share(counts.low, counts.n)} {what} ({counts.low:,.0f} of {counts.n:,.0f})"


def quantile(delta: Delta, q: float) -> str:
    """The bucket that holds the quantile: all that a histogram tells."""
    at = q * delta.timed
    edges = sorted(delta.faster)
    upper = next((e for e in edges if delta.faster[e] >= at), None)
    if upper is None:
        return f">{edges[-1]:g}ms" if edges else ""
    below = [e for e in edges if e < upper]
    return f"{below[-1]:g}-{upper:g}ms" if below else f"<={upper:g}ms"


def sequential(rule: Rule, state: RuleState, rules: int) -> str:
    """The evidence of a sequential test, with what it takes to decide alone: their mean over all `rules` does."""
    compare, plan = state.bound.compare, state.plan
    decides = f"{rules / plan.alpha:.4g} decides"
    counted = f"{rule.subject}: {of(rule, state.canary)}"
    allowed = f"allowed {100 * rule.share:g}%"
    worse, good = state.worse, f"that it is good {e_value(state.passing)}"
    good = f"{good} ({1 / plan.beta:.4g} decides)"
    if compare is Compare.WATCH:
        alarm = f"that it breaks the bound {e_value(state.alarm)} ({rules * plan.day:,} alarms)"
        return f"{counted}; {allowed}; evidence {alarm}; {good}"
    if compare is Compare.BOUND:
        broken = e_value(min(state.absolute, state.by_blocks))
        return f"{counted}; {allowed}; evidence that it is worse: against the bound {broken} ({decides}); {good}"
    other = "the version before" if compare is Compare.STABLE else "stable"
    against = f"against {other} {e_value(worse)} ({decides})"
    if compare is not Compare.STABLE:
        against += f", against the bound {e_value(state.absolute)} ({math.exp(state.log_gate):.4g} decides)"
    return f"{counted}, {other} {of(rule, state.stable)}; {allowed}; evidence that it is worse: {against}; {good}"


def windows(rule: Rule, state: ThresholdState) -> str:
    """The windows of the threshold judge."""
    return (
        f"{rule.subject}: last window {of(rule, state.last_counts)}; allowed {100 * rule.share:g}%; "
        f"{state.failures} of {state.plan.failures} failed windows, {state.passes} of {state.plan.passes} passed"
    )


def query(rule: Rule, state: QueryState) -> str:
    """The value of a query."""
    if state.value is None:
        return f"{rule.name}: the query returned no value; bound {rule.bound}"
    return f"{rule.name}: {state.value:.6g}; bound {rule.bound}"


def needs(needed: Needed | None, to_fail: Needed | None = None) -> str:
    """How much evidence a step still needs, as short as the status has it: `225 more requests, 45s`.

    Of what cannot pass, how long it takes to Fail, should it go on so: `Fail in 1m20s`.
    """
    if needed is None and (to_fail is None or not math.isfinite(to_fail.minutes)):
        return NEVER
    if needed is None:
        assert to_fail is not None  # as just seen
        return f"{FAILS}{say_duration(max(1.0, min(60 * to_fail.minutes, SECONDS_MAX)))}"
    requests = f"{math.ceil(min(needed.requests, REQUESTS_MAX)):,} more requests"
    if not math.isfinite(needed.minutes):
        return requests
    return f"{requests}, {say_duration(max(1.0, min(60 * needed.minutes, SECONDS_MAX)))}"


def waiting(short: str) -> str:
    """The same in a sentence: `needs about 225 more requests, 45s at this traffic`."""
    if short == NEVER:
        return short
    if short.startswith(FAILS):
        return f"{NEVER}, and fails in about {short.removeprefix(FAILS)}"
    return f"needs about {short}" + (" at this traffic" if ", " in short else "")


def e_value(log_e: float) -> str:
    """An e-value without false digits, from its logarithm."""
    if log_e > math.log(1e6):
        return "over a million"
    value = math.exp(log_e)
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"
