"""Sequential tests of a rollout: is the canary proven worse, or proven good enough, or neither yet.

Each rule (an error rate, a latency bound) runs three e-processes on the same counts:

- relative: null "canary's rate ≤ ρ0 × stable's over the same time", whatever stable's is;
- absolute: null "canary's rate ≤ bound";
- Pass: null "canary's rate ≥ detectable × bound".

All stay valid however often they are looked at (eprocess.py). States are values: `update` returns a new one.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, NamedTuple

from modeldeployment.api.status import Verdict
from modeldeployment.decision import kernel
from modeldeployment.decision.dispersion import FLOATS as DISPERSION_FLOATS
from modeldeployment.decision.dispersion import Block, Dispersion
from modeldeployment.decision.eprocess import AbsoluteTest, PassTest, RelativeTest

__all__ = [
    "AbsoluteTest",
    "Bound",
    "Compare",
    "Counts",
    "Interval",
    "Judgement",
    "Needed",
    "PassTest",
    "Plan",
    "RelativeTest",
    "RuleState",
    "Traffic",
    "Verdict",
    "judge",
]

FIRST_GAMMA: Final = 0.9
"""Share of the wealth that starts at the first interval; the rest starts spread evenly over the others."""

CAP_SHARE: Final = 0.75
"""How much of ln(1/α) one interval may add: no interval decides alone, and two can."""

ABSOLUTE_E_MIN: Final = 4.0
"""E_abs that Fail also asks for: protects a version that is worse than stable but inside its bound."""

ALONE_AFTER: Final = 3
"""Intervals without a single request to stable after which the bound alone counts, as where there is no stable arm."""

THETA_FACTOR: Final = 2.0
"""θ of the tests over θ̂. Empirical: chosen on simulated bursts (decision.md §2, §5 Limits)."""


class Compare(StrEnum):
    """What a rule's canary must be proven worse than, to fail."""

    STABLE_AND_BOUND = "StableAndBound"
    """E_rel ≥ 1/α and E_abs ≥ 4: false ≤ α for one no worse than stable, ≤ 25 % for one inside its bound."""
    STRICT = "Strict"
    """E_rel ≥ 1/α and E_abs ≥ 1/α: false ≤ α for either."""
    STABLE = "Stable"
    """E_rel ≥ 1/α alone: the bound plays no part in Fail."""
    BOUND = "Bound"
    """E_abs ≥ 1/α alone: for when there is no stable arm. Blames the version for an incident."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is fixed for the whole rollout. `horizon`: intervals from its start to its deadline."""

    horizon: int
    alpha: float = 0.04
    beta: float = 0.05

    def __post_init__(self) -> None:
        if self.horizon < 1 or not 0 < self.alpha < 1 or not 0 < self.beta < 1:
            raise ValueError(f"a plan needs horizon ≥ 1 and alpha, beta between 0 and 1: {self}")

    @property
    def cap(self) -> float:
        """The most that log E may rise in one interval."""
        return CAP_SHARE * math.log(1 / self.alpha)

    def gamma(self, done: int, length: int) -> float:
        """Wealth that starts betting in the `length` intervals after the first `done` ones."""
        first = FIRST_GAMMA if done == 0 else 0.0
        later = length - 1 if done == 0 else length
        return min(1.0, first + later * (1 - FIRST_GAMMA) / max(1, self.horizon - 1))


@dataclass(frozen=True, slots=True)
class Bound:
    """One bound on the share of bad requests. Keep it below 0.1: above, the tests are valid but slow.

    `rolls_back`: whether the rule can Fail; one that cannot must still Pass.
    """

    share: float
    rho0: float = 1.0
    detectable: float = 2.0
    compare: Compare = Compare.STABLE_AND_BOUND
    rolls_back: bool = True

    def __post_init__(self) -> None:
        if not (0 < self.share < 1 and self.rho0 >= 1 and self.detectable >= 1):
            raise ValueError(f"a bound needs 0 < share < 1, rho0 ≥ 1 and detectable ≥ 1: {self}")


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests n and bad ones, between two counts that are the same but for a latency between edges.

    `low` = x(e⁺) ≤ true x ≤ `high` = x(e⁻): Fail uses low, Pass uses high. x above n is allowed: errors
    may be counted at another moment than requests.
    """

    n: float = 0
    low: float = 0
    high: float = 0

    def __post_init__(self) -> None:
        if not (self.n >= 0 and 0 <= self.low <= self.high < math.inf):
            raise ValueError(f"counts must have n ≥ 0 and 0 ≤ low ≤ high: {self}")

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.n + other.n, self.low + other.low, self.high + other.high)


@dataclass(frozen=True, slots=True)
class Interval:
    """What both arms did since the last interval, pod by pod.

    `length`: intervals of the schedule that it spans (more than 1 after a gap). `weight_moved`: the traffic
    weight changed within it, so the arms did not see the same mix of times and it is not evidence.
    """

    canary: Mapping[str, Counts] = field(default_factory=dict)
    stable: Mapping[str, Counts] = field(default_factory=dict)
    length: int = 1
    weight_moved: bool = False


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


_VERSION: Final = "1"
_GRID: Final = len(kernel.RATIOS)
_STATE_FLOATS: Final = 2 * (_GRID + 2) + len(kernel.PASS_TILTS) + 7 + DISPERSION_FLOATS
_STATE: Final = struct.Struct(f"<{_STATE_FLOATS}d")


@dataclass(frozen=True, slots=True)
class RuleState:
    """All that a rule remembers: its three e-processes, stable's dispersion, totals used as evidence.

    `intervals` counts those of the schedule since the rollout began, gaps and discarded ones included.
    """

    bound: Bound
    plan: Plan
    relative: RelativeTest = field(default_factory=RelativeTest)
    absolute: AbsoluteTest = field(default_factory=AbsoluteTest)
    pass_: PassTest = field(default_factory=PassTest)
    canary: Counts = Counts()
    stable: Counts = Counts()
    intervals: int = 0
    dispersion: Dispersion = field(default_factory=Dispersion)

    def update(self, interval: Interval) -> RuleState:
        """One interval. θ comes from earlier intervals only; then this one is fed to θ̂."""
        bound, cap, gamma = self.bound, self.plan.cap, self.plan.gamma(self.intervals, interval.length)
        canary = sum(interval.canary.values(), Counts())
        stable = sum(interval.stable.values(), Counts())
        theta_c, theta_s = self.thetas
        fed = replace(
            self,
            intervals=self.intervals + interval.length,
            dispersion=self.dispersion.update({pod: Block(c.n, c.low) for pod, c in interval.stable.items()}),
        )
        if interval.weight_moved:
            return replace(fed, relative=self.relative.spend(gamma), absolute=self.absolute.spend(gamma))
        relative = self.relative.update(
            canary.n,
            canary.low,
            stable.n,
            stable.low,
            gamma=gamma,
            cap=cap,
            rho0=bound.rho0,
            theta_c=theta_c,
            theta_s=theta_s,
        )
        absolute = self.absolute.update(canary.n, canary.low, bound=bound.share, gamma=gamma, cap=cap, theta=theta_c)
        pass_ = self.pass_.update(canary.n, canary.high, bound=bound.share, detectable=bound.detectable, theta=theta_c)
        return replace(
            fed,
            relative=relative,
            absolute=absolute,
            pass_=pass_,
            canary=self.canary + canary,
            stable=self.stable + stable,
        )

    def begin_step(self) -> RuleState:
        """A new step asks for a new proof of Pass; Fail's evidence goes on over the whole rollout."""
        return replace(self, pass_=PassTest())

    @property
    def thetas(self) -> tuple[float, float]:
        """θ of the canary (2·θ̂ of stable pod by pod) and of stable (2·θ̂ of stable as one)."""
        return THETA_FACTOR * self.dispersion.pods.theta, THETA_FACTOR * self.dispersion.arm.theta

    def pass_needed(self, traffic: Traffic) -> Needed | None:
        """Requests of the canary until Pass, should its rate so far go on; None: not at this error rate."""
        per_interval = traffic.rps * traffic.weight * traffic.interval
        rate, _ = self._rates(self.canary.high, self.stable.high)
        requests = kernel.pass_requests(
            rate,
            self.pass_.log_e,
            bound=self.bound.share,
            detectable=self.bound.detectable,
            beta=self.plan.beta,
            b=per_interval * self.thetas[0],
        )
        return traffic.needed(requests, traffic.weight)

    def fail_needed(self, traffic: Traffic) -> Needed | None:
        """Requests of both arms (without stable: of the canary) until Fail, in the median; None: never so."""
        w, (theta_c, theta_s), alpha = traffic.weight, self.thetas, self.plan.alpha
        per_interval = traffic.rps * traffic.interval
        rate, rate_s = self._rates(self.canary.low, self.stable.low)
        b_c, b_s = per_interval * w * theta_c, per_interval * (1 - w) * theta_s
        if self.bound.compare is Compare.BOUND:
            log_e, share = self.absolute.log_e, self.bound.share
            alone = kernel.fail_requests_alone(rate, log_e, bound=share, alpha=alpha, b=b_c)
            return traffic.needed(alone, w)
        log_e, rho0 = self.relative.log_e, self.bound.rho0
        both = kernel.fail_requests(rate, rate_s, log_e, share=w, alpha=alpha, rho0=rho0, b_c=b_c, b_s=b_s)
        return traffic.needed(both, 1.0)

    def _rates(self, x_c: float, x_s: float) -> tuple[float, float]:
        """Likely rates of canary and stable. The canary's starts at stable's (half the bound without one).

        With the weight of 1/(2·bound) requests: at (x+½)/(n+1) a canary of 20 clean requests would be said to
        run at 2.4 %, and never to pass.
        """
        known = self.stable.n > 0
        rate_s = (x_s + 0.5) / (self.stable.n + 1) if known else self.bound.share / 2
        prior = 1 / (2 * self.bound.share)
        return (x_c + prior * rate_s) / (self.canary.n + prior), rate_s

    @property
    def log_e_fail(self) -> float:
        """Log of what the rule adds to Fail: the evidence of its `compare`, −inf while its gate is shut."""
        if not self.bound.rolls_back:
            return -math.inf
        match self.bound.compare:
            case Compare.STABLE:
                return self.relative.log_e
            case Compare.BOUND:
                return self.absolute.log_e
            case Compare.STRICT:
                gate = 1 / self.plan.alpha
            case Compare.STABLE_AND_BOUND:
                if self.stable.n == 0 and self.intervals >= ALONE_AFTER:
                    return self.absolute.log_e  # stable is dead or not measured: there is nothing to compare with
                gate = ABSOLUTE_E_MIN
        return self.relative.log_e if self.absolute.log_e >= math.log(gate) else -math.inf

    @property
    def passed(self) -> bool:
        """The canary is proven below detectable × bound since the step began."""
        return self.pass_.log_e >= math.log(1 / self.plan.beta)

    def to_state(self) -> str:
        """Every number bit for bit, as "1:" and base64 of little-endian float64; open pod blocks are left out."""
        numbers = (
            *(*self.relative.log_s, self.relative.u, self.relative.log_e),
            *(*self.absolute.log_s, self.absolute.u, self.absolute.log_e),
            *self.pass_.log_l,
            *(self.canary.n, self.canary.low, self.canary.high),
            *(self.stable.n, self.stable.low, self.stable.high, self.intervals),
            *self.dispersion.to_floats(),
        )
        return f"{_VERSION}:{base64.b64encode(_STATE.pack(*numbers)).decode('ascii')}"

    @classmethod
    def from_state(cls, state: str, bound: Bound, plan: Plan) -> RuleState:
        """Inverse of to_state; ValueError for a state of another version or a damaged one."""
        version, _, body = state.partition(":")
        raw = base64.b64decode(body, validate=True)
        if version != _VERSION or len(raw) != _STATE.size:
            raise ValueError(f"state of version {version!r} and {len(raw)} bytes: written by another version")
        f, at = _STATE.unpack(raw), 2 * (_GRID + 2)
        if any(math.isnan(number) or number == math.inf for number in f):
            raise ValueError("state holds a number that no test has: it is damaged")
        relative = RelativeTest(f[:_GRID], f[_GRID], f[_GRID + 1])
        absolute = AbsoluteTest(f[_GRID + 2 : at - 2], f[at - 2], f[at - 1])
        rest = f[at + len(kernel.PASS_TILTS) :]
        return cls(
            bound,
            plan,
            relative,
            absolute,
            PassTest(f[at : at + len(kernel.PASS_TILTS)]),
            Counts(*rest[0:3]),
            Counts(*rest[3:6]),
            int(rest[6]),
            Dispersion.from_floats(rest[7:]),
        )


class Judgement(NamedTuple):
    """Verdict over all rules; who is to blame if it is Fail; log of the weighted E; verdict of each rule."""

    verdict: Verdict
    blamed: str | None
    log_e: float
    rules: Mapping[str, Verdict]


def judge(states: Mapping[str, RuleState], plan: Plan) -> Judgement:
    """Fail when Σ wᵢ·Eᵢ ≥ 1/α over rules whose gate is open, wᵢ = 1/m: a mean of e-processes is one.

    m counts the rules that can fail. Never later than each rule at α/m. The largest is blamed. Pass when every
    rule's Pass is proven; no rule at all proves nothing.
    """
    threshold = math.log(1 / plan.alpha)
    log_m = math.log(max(1, sum(state.bound.rolls_back for state in states.values())))
    weighted = {name: state.log_e_fail - log_m for name, state in states.items()}
    log_e = float(kernel.log_sum_exp([-math.inf, *weighted.values()]))
    failed = log_e >= threshold
    blamed = max(weighted, key=weighted.__getitem__) if failed else None

    def one(name: str) -> Verdict:
        if name == blamed or weighted[name] >= threshold:
            return Verdict.FAIL
        return Verdict.PASS if states[name].passed else Verdict.INCONCLUSIVE

    rules = {name: one(name) for name in states}
    passed = not failed and bool(states) and all(state.passed for state in states.values())
    verdict = Verdict.FAIL if failed else Verdict.PASS if passed else Verdict.INCONCLUSIVE
    return Judgement(verdict, blamed, log_e, rules)
