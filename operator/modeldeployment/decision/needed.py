"""How much evidence is still needed, and how long that takes at the present traffic."""

from __future__ import annotations

import math
from typing import NamedTuple

from modeldeployment.decision import kernel
from modeldeployment.decision.hypothesis import Compare
from modeldeployment.decision.sequential import RuleState


class Needed(NamedTuple):
    """Evidence still needed."""

    requests: float
    minutes: float


class Traffic(NamedTuple):
    """Requests per second of both arms together, the canary's share of them (0 to 1), seconds per interval."""

    rps: float
    weight: float
    interval: float

    def needed(self, requests: float | None, share: float) -> Needed | None:
        """In minutes, when `share` of the traffic counts."""
        if requests is None:
            return None
        rate = 60 * self.rps * share
        return Needed(requests, requests / rate if rate > 0 else math.inf)


def pass_needed(state: RuleState, traffic: Traffic) -> Needed | None:
    """Requests of the canary until Pass, should its rate so far go on; None: not at this error rate."""
    per_interval = traffic.rps * traffic.weight * traffic.interval
    rate, _ = _rates(state, state.canary.high, state.stable.high)
    requests = kernel.pass_requests(
        rate,
        state.passing,
        bound=state.bound.share,
        detectable=state.bound.detectable,
        beta=state.plan.beta,
        b=per_interval * state.thetas[0],
    )
    return traffic.needed(requests, traffic.weight)


def fail_needed(state: RuleState, traffic: Traffic) -> Needed | None:
    """Requests of both arms (without stable: of the canary) until Fail, in the median; None: never so."""
    w, (theta_c, theta_s), alpha = traffic.weight, state.thetas, state.plan.alpha
    per_interval = traffic.rps * traffic.interval
    rate, rate_s = _rates(state, state.canary.low, state.stable.low)
    b_c, b_s = per_interval * w * theta_c, per_interval * (1 - w) * theta_s
    if state.bound.compare is Compare.WATCH:
        return None  # it alarms first, and what a comparison will show is not known
    if state.bound.compare is Compare.BOUND:
        log_e, share = state.absolute, state.bound.share
        alone = kernel.fail_requests_alone(rate, log_e, bound=share, alpha=alpha, b=b_c)
        return traffic.needed(alone, w)
    log_e, rho0 = state.worse, state.bound.rho0
    both = kernel.fail_requests(rate, rate_s, log_e, share=w, alpha=alpha, rho0=rho0, b_c=b_c, b_s=b_s)
    return traffic.needed(both, 1.0)


def _rates(state: RuleState, x_c: float, x_s: float) -> tuple[float, float]:
    """Likely rates of canary and stable. The canary's starts at stable's (half the bound without one).

    With the weight of 1/(2·bound) requests: at (x+½)/(n+1) a canary of 20 clean requests would be said to
    run at 2.4 %, and never to pass.
    """
    known = state.stable.n > 0
    rate_s = (x_s + 0.5) / (state.stable.n + 1) if known else state.bound.share / 2
    prior = 1 / (2 * state.bound.share)
    return (x_c + prior * rate_s) / (state.canary.n + prior), rate_s
