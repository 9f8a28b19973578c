"""Sequential tests of a rollout: is the canary proven worse, or proven good enough, or neither yet.

Each rule (an error rate, a latency bound) runs four e-processes on the same counts:

- relative: null "canary's rate ≤ ρ0 × stable's over the same time", whatever stable's is;
- absolute: null "canary's rate ≤ bound";
- Pass: null "canary's rate ≥ detectable × bound";
- blocks: the relative one (without a stable arm the absolute one) over blocks of minutes, for bursts (blocks.py).

All stay valid however often they are looked at (eprocess.py). States are values: `update` returns a new one. The
numbers of many rules are rows of one table, so that a fleet's rules are updated together (`update_all`).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, NamedTuple, Self

import numpy as np

from modeldeployment.api.status import Verdict
from modeldeployment.decision import blocks, detector, dispersion, eprocess, kernel
from modeldeployment.decision.arms import Counts, Interval
from modeldeployment.decision.dispersion import DISPERSION, THETA_FACTOR, Pods
from modeldeployment.decision.hypothesis import Bound, Compare, Plan, starting

ABSOLUTE_E_MIN: Final = 4.0
"""E_abs that Fail also asks for: protects a version that is worse than stable but inside its bound."""

BAD_MIN: Final = 5
"""Bad requests of the last minutes below which they say nothing against what the whole step has proven."""

ALONE_AFTER: Final = 3
"""Intervals without a single request to stable after which the bound alone counts, as where there is no stable arm."""


_VERSION: Final = "2"
STATE: Final = np.dtype(
    [
        ("relative", eprocess.RESTARTED),
        ("absolute", eprocess.RESTARTED),
        ("passing", "<f8", (len(kernel.PASS_TILTS),)),
        ("detector", "<f8", (len(kernel.RATIOS),)),
        ("blocks", blocks.BLOCKS),
        ("canary", "<f8", (3,)),
        ("stable", "<f8", (3,)),
        ("intervals", "<f8"),
        ("dispersion", DISPERSION),
    ]
)
"""All numbers of a rule. `passing`: log L_k of each bet, `detector`: log M_k. `canary`, `stable`: n, low and
high of all evidence."""


def _begin(known: Any = None) -> bytes:
    row = np.zeros(1, STATE)
    eprocess.begin(row["relative"])
    eprocess.begin(row["absolute"])
    blocks.begin(row["blocks"])
    row["detector"] = -np.inf
    if known is not None:
        row["dispersion"] = known
    return row.tobytes()


_NEW: Final = _begin()


@dataclass(frozen=True)
class RuleState:
    """All that a rule remembers: its e-processes, stable's dispersion, totals used as evidence.

    `numbers` are one row of STATE. `pods` are open blocks of stable's pods: all that a restart loses.
    """

    bound: Bound
    plan: Plan
    numbers: bytes = _NEW
    pods: Pods = field(default_factory=Pods, compare=False)

    @classmethod
    def begin(cls, bound: Bound, plan: Plan, known: Any = None) -> Self:
        """A new test, with what is known of stable's dispersion (one row of DISPERSION)."""
        return cls(bound, plan, _begin(known))

    @cached_property
    def row(self) -> Any:
        """The numbers by name, to be read."""
        return np.frombuffer(self.numbers, STATE)

    def update(self, interval: Interval) -> RuleState:
        """One interval. θ comes from earlier intervals only; then this one is fed to θ̂."""
        return update_all([self], [interval])[0]

    def begin_step(self) -> RuleState:
        """A new step asks for a new proof of Pass; Fail's evidence goes on over the whole rollout."""
        row = self.row.copy()
        row["passing"] = 0.0
        return replace(self, numbers=row.tobytes())

    @cached_property
    def relative(self) -> float:
        """log E against "canary's rate ≤ ρ0 × stable's"."""
        return float(self.row["relative"]["log_e"][0])

    @cached_property
    def absolute(self) -> float:
        """log E against "canary's rate ≤ bound"."""
        return float(self.row["absolute"]["log_e"][0])

    @cached_property
    def passing(self) -> float:
        """log E against "canary's rate ≥ detectable × bound"."""
        return float(kernel.log_mean_exp(self.row["passing"])[0])

    @cached_property
    def alarm(self) -> float:
        """log of the detector's mean M: of a bound that began to break at any time (detector.py)."""
        return float(kernel.log_mean_exp(self.row["detector"])[0])

    @cached_property
    def by_blocks(self) -> float:
        """log E of the relative test (without a stable arm of the absolute one) over blocks of minutes."""
        return float(self.row["blocks"]["log_e"][0])

    @cached_property
    def canary(self) -> Counts:
        """All evidence of the canary."""
        return Counts(*self.row["canary"][0].tolist())

    @cached_property
    def stable(self) -> Counts:
        """All evidence of stable."""
        return Counts(*self.row["stable"][0].tolist())

    @cached_property
    def intervals(self) -> int:
        """Those of the schedule since the rollout began, gaps and discarded ones included."""
        return int(self.row["intervals"][0])

    @cached_property
    def thetas(self) -> tuple[float, float]:
        """θ of the canary (2·θ̂ of stable pod by pod) and of stable (2·θ̂ of stable as one), interval by interval."""
        known = self.row["dispersion"]
        of_pods, of_arm = (dispersion.theta(known[arm], known["pairs"])[0] for arm in ("pods", "arm"))
        return THETA_FACTOR * float(of_pods), THETA_FACTOR * float(of_arm)

    @property
    def worse(self) -> float:
        """log of what is evidence that it is worse than stable: interval by interval and by blocks."""
        return min(self.relative, self.by_blocks)

    @property
    def log_gate(self) -> float:
        """log of the evidence against the bound that Fail also asks for; −inf where it asks for none."""
        match self.bound.compare:
            case Compare.STRICT:
                return math.log(1 / self.plan.alpha)
            case Compare.STABLE_AND_BOUND:
                return math.log(ABSOLUTE_E_MIN)
        return -math.inf

    @property
    def log_e_fail(self) -> float:
        """Log of what the rule adds to Fail: the evidence of its `compare`, −inf while its gate is shut."""
        if not self.bound.rolls_back or self.bound.compare is Compare.WATCH:
            return -math.inf
        if self.bound.compare is Compare.BOUND:
            return min(self.absolute, self.by_blocks)
        both = self.bound.compare is Compare.STABLE_AND_BOUND
        if both and self.row["stable"][0, 0] == 0 and self.intervals >= ALONE_AFTER:
            return self.absolute  # stable is dead or not measured: there is nothing to compare with
        return self.worse if self.absolute >= self.log_gate else -math.inf

    @cached_property
    def bad_now(self) -> tuple[bool, bool]:
        """Whether canary, and stable, were above detectable × bound in the last minutes: a look, not a proof.

        In that of the two blocks under way which began last and has requests of the canary.
        """
        counts = self.row["blocks"]["counts"][0]
        n_c, x_c, n_s, x_s = counts[np.argmin(np.where(counts[:, 0] > 0, counts[:, 0], np.inf))].tolist()
        most = self.bound.detectable * self.bound.share
        return x_c >= BAD_MIN and x_c > most * n_c, x_s >= BAD_MIN and x_s > most * n_s

    @property
    def passed(self) -> bool:
        """The canary is proven below detectable × bound since the step began, and does not look worse just now."""
        return self.passing >= math.log(1 / self.plan.beta) and not self.bad_now[0]

    def to_state(self) -> str:
        """Every number bit for bit, as "2:" and base64 of little-endian float64; open pod blocks are left out."""
        return f"{_VERSION}:{base64.b64encode(self.numbers).decode('ascii')}"

    @classmethod
    def from_state(cls, state: str, bound: Bound, plan: Plan) -> RuleState:
        """Inverse of to_state; ValueError for a state of another version or a damaged one."""
        version, _, body = state.partition(":")
        raw = base64.b64decode(body, validate=True)
        if version != _VERSION or len(raw) != STATE.itemsize:
            raise ValueError(f"state of version {version!r} and {len(raw)} bytes: written by another version")
        numbers = np.frombuffer(raw, "<f8")
        if np.any(np.isnan(numbers)) or np.any(numbers == np.inf):
            raise ValueError("state holds a number that no test has: it is damaged")
        return cls(bound, plan, raw)


class Facts(NamedTuple):
    """What one update needs beside the numbers; of many rules, a column each. n, low, high of both arms come last."""

    share: float
    rho0: float
    detectable: float
    alone: float
    cap: float
    horizon: float
    alarm_cap: float
    block_gamma: float
    block: float
    length: float
    evidence: float
    n_c: float
    low_c: float
    high_c: float
    n_s: float
    low_s: float
    high_s: float


def _facts(state: RuleState, interval: Interval) -> Facts:
    bound, plan = state.bound, state.plan
    return Facts(
        bound.share,
        bound.rho0,
        bound.detectable,
        bound.compare in (Compare.BOUND, Compare.WATCH),
        plan.cap,
        plan.horizon,
        plan.alarm_cap,
        plan.block_gamma,
        plan.block,
        interval.length,
        not interval.weight_moved,
        *_total(interval.canary.values()),
        *_total(interval.stable.values()),
    )


def _total(counts: Iterable[Counts]) -> tuple[float, float, float]:
    n = low = high = 0.0
    for one in counts:
        n, low, high = n + one.n, low + one.low, high + one.high
    return n, low, high


def update_all(states: Sequence[RuleState], intervals: Sequence[Interval]) -> list[RuleState]:
    """One interval for each of many rules, as `update` of each: the same bits, many times faster."""
    if not states:
        return []
    table = np.frombuffer(bytearray().join([state.numbers for state in states]), STATE)
    of: Any = Facts(*np.array([_facts(*one) for one in zip(states, intervals, strict=True)], dtype=np.float64).T)
    advance_table(table, of)
    stable = [interval.stable for interval in intervals]
    pods = dispersion.feed_all(table["dispersion"], [state.pods for state in states], stable, of.block)
    numbers, size = table.tobytes(), STATE.itemsize
    return [
        RuleState(state.bound, state.plan, numbers[i * size : (i + 1) * size], of_pods)
        for i, (state, of_pods) in enumerate(zip(states, pods, strict=True))
    ]


def advance_table(table: Any, of: Any) -> None:
    """One interval of the e-processes and totals of a table of STATE, in place; `of` is Facts of columns (N,).

    θ is as the table has it, of earlier intervals: the dispersion is fed afterwards.
    """
    used, known = of.evidence > 0, table["dispersion"]
    gamma = starting(table["intervals"], of.length, of.horizon)
    n_c, low_c, high_c, n_s, low_s, high_s = (np.where(used, column, 0.0) for column in of[-6:])
    theta_c, theta_s = (THETA_FACTOR * dispersion.theta(known[arm], known["pairs"]) for arm in ("pods", "arm"))
    relative = kernel.relative_increments(n_c, low_c, n_s, low_s, rho0=of.rho0, theta_c=theta_c, theta_s=theta_s)
    absolute = kernel.absolute_increments(n_c, low_c, bound=of.share, theta=theta_c)
    eprocess.step(table["relative"], relative, gamma, of.cap, (n_c > 0) & (n_s > 0))
    eprocess.step(table["absolute"], absolute, gamma, of.cap, n_c > 0)
    table["passing"] += kernel.pass_increments(n_c, high_c, bound=of.share, detectable=of.detectable, theta=theta_c)
    table["detector"] = detector.detect(table["detector"], absolute, of.alarm_cap, n_c > 0)
    blocks.step(
        table["blocks"],
        np.stack([n_c, low_c, n_s, low_s], axis=-1),
        theta=np.stack([dispersion.theta_block(known[arm], known["pairs"]) for arm in ("pods", "arm")], axis=-1),
        rho0=of.rho0,
        bound=of.share,
        alone=of.alone > 0,
        place=table["intervals"],
        length=of.length,
        block=of.block,
        gamma=of.block_gamma,
    )
    table["canary"] += np.stack([n_c, low_c, high_c], axis=-1)
    table["stable"] += np.stack([n_s, low_s, high_s], axis=-1)
    table["intervals"] += of.length


def alarmed(states: Mapping[str, RuleState], plan: Plan) -> str | None:
    """The rule that alarms, if one does: Σ M over the m rules that can fail ≥ m · a day (the mean of all of them)."""
    able = {name: state.alarm for name, state in states.items() if state.bound.rolls_back}
    if not able or float(kernel.log_mean_exp([*able.values()])) < math.log(plan.day):
        return None
    return max(able, key=able.__getitem__)


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
