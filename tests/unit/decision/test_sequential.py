"""The e-processes of a rule and their verdicts: exact values, error bounds, worked figures, state.

Units: requests and bad requests per interval, θ per request, log E natural. "decision.md" is the project's
derivation; papers: Ville 1939; Lindon, Sanden & Shirikian, KDD 2022; Waudby-Smith & Ramdas, JRSS-B 2024.
"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeployment.api.status import Verdict
from modeldeployment.decision import dispersion, eprocess, kernel
from modeldeployment.decision.arms import Counts, Interval
from modeldeployment.decision.eprocess import RESTARTED, advance
from modeldeployment.decision.hypothesis import Bound, Compare, Plan
from modeldeployment.decision.needed import Traffic, fail_needed, pass_needed
from modeldeployment.decision.sequential import RuleState, judge, update_all

# The other vectors: test_dispersion.py, test_latency.py, test_scores.py, test_detector.py.
VECTORS = [
    v
    for v in json.loads(Path(__file__).with_name("decision_vectors.json").read_text())["vectors"]
    if v["test"] in ("relative", "absolute", "pass", "process")
]
BOUND = Bound(0.01)
PLAN = Plan(horizon=180)
LN20 = math.log(20)


def interval(n_c: float, x_c: float, n_s: float, x_s: float, **more: Any) -> Interval:
    """An interval of one canary pod and ten stable pods, errors on the first ones."""
    share = x_s // 10
    stable = {f"s{i}": Counts(n_s / 10, x, x) for i, x in enumerate([share + (i < x_s % 10) for i in range(10)])}
    return Interval({"c": Counts(n_c, x_c, x_c)}, stable, **more)


def after(state: RuleState, *intervals: Interval) -> RuleState:
    """The state after these intervals."""
    for one in intervals:
        state = state.update(one)
    return state


# --- exact values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['test']}:{v['log_e'][:8]}")
def test_vectors(vector: dict[str, Any]) -> None:
    """log E of each test against mpmath (60 digits, exponents by bisection on the MGF), to `digits`.

    `relative` and `absolute`: the mean over the grid alone, so all wealth starts at once (γ = 1, then 0). `process`:
    S_k ← (S_k + γ/12)·e_k, u ← u − γ, E = ΣS + u, rise capped.
    """
    i = vector["inputs"]
    cap = math.inf if i.get("cap") is None else float(i["cap"])
    gammas = [float(g) for g in i.get("gammas", ["1"] + ["0"] * 9)]
    state, passing = np.zeros(1, RESTARTED), np.zeros(len(kernel.PASS_TILTS))
    eprocess.begin(state)
    for counts, gamma in zip(i["intervals"], gammas, strict=False):
        match vector["test"]:
            case "relative" | "process":
                rates: Any = {key: float(i[key]) for key in ("rho0", "theta_c", "theta_s")}
                increments, evidence = kernel.relative_increments(*counts, **rates), counts[0] > 0 and counts[2] > 0
                eprocess.step(state, increments[None], gamma, cap, [evidence])
            case "absolute":
                increments = kernel.absolute_increments(*counts, bound=float(i["p0"]), theta=float(i["theta"]))
                eprocess.step(state, increments[None], gamma, cap, [counts[0] > 0])
            case "pass":
                null = {"bound": float(i["p0"]), "theta": float(i["theta"]), "detectable": float(i["detectable"])}
                passing = passing + kernel.pass_increments(*counts, **null)
    log_e = kernel.log_mean_exp(passing) if vector["test"] == "pass" else state["log_e"][0]
    assert float(log_e) == pytest.approx(float(vector["log_e"]), rel=10.0 ** -vector["digits"], abs=1e-10)


# --- error bounds -----------------------------------------------------------------------------------------------


def _pmf(n: int, p: float, icc: float) -> np.ndarray:
    """P(x), x = 0…n, of beta-binomial requests with mean p and intraclass correlation icc."""
    rising = 1.0 if icc == 0 else (1 - icc) / icc
    step = 0.0 if icc == 0 else 1.0
    a, b = p * rising, (1 - p) * rising

    def product(start: float, count: int) -> float:
        return math.prod(start + step * i for i in range(count))

    return np.array([math.comb(n, x) * product(a, x) * product(b, n - x) / product(rising, n) for x in range(n + 1)])


def _tree(
    outcomes: list[np.ndarray], weights: list[np.ndarray], gammas: list[float], cap: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All paths of independent intervals: max over time of log E, last log E, probability of each path."""
    k = outcomes[0].shape[-1]
    log_s, u, log_e = np.full((1, k), -math.inf), np.ones(1), np.zeros(1)
    probability, highest = np.ones(1), np.zeros(1)
    for increments, weight, gamma in zip(outcomes, weights, gammas, strict=True):
        m = len(weight)
        log_s, u, log_e = (np.repeat(a, m, axis=0) for a in (log_s, u, log_e))
        repeated = np.tile(increments, (len(probability), 1))
        log_s, u, log_e = advance(log_s, u, log_e, repeated, np.full(len(u), gamma), cap)
        probability = np.outer(probability, weight).ravel()
        highest = np.maximum(np.repeat(highest, m), log_e)
    return highest, log_e, probability


@pytest.mark.parametrize("icc", [0.0, 0.1])
@pytest.mark.parametrize("rho0", [1.0, 1.5])
def test_relative_false_alarms_exactly(icc: float, rho0: float) -> None:
    """P(ever E ≥ 1/α) ≤ α and E[E] ≤ 1, summed over every path of 4 intervals, 3 canary and 4 stable requests.

    Null: canary's rate = ρ0 × stable's, any shared rate p; arms beta-binomial, independent given p, θ = ICC/(1−ICC).
    Ville's inequality on a mixture over starting times (decision.md §2).
    """
    n_c, n_s, theta = 3, 4, icc / (1 - icc)
    x_c, x_s = (a.ravel() for a in np.meshgrid(range(n_c + 1), range(n_s + 1), indexing="ij"))
    increments = kernel.relative_increments(n_c, x_c, n_s, x_s, rho0=rho0, theta_c=theta, theta_s=theta)
    for p in (0.02, 0.1, 0.3, 0.6):
        weight = np.outer(_pmf(n_c, rho0 * p, icc), _pmf(n_s, p, icc)).ravel()
        for cap in (math.inf, 0.75 * math.log(4)):
            highest, last, probability = _tree([increments] * 4, [weight] * 4, [0.9, 0.04, 0.03, 0.03], cap)
            assert probability.sum() == pytest.approx(1.0)
            assert np.sum(probability * np.exp(last)) <= 1 + 1e-12
            for alpha in (0.5, 0.25, 0.1):
                assert probability[highest >= math.log(1 / alpha)].sum() <= alpha


@pytest.mark.parametrize("icc", [0.0, 0.1])
def test_absolute_and_pass_false_alarms_exactly(icc: float) -> None:
    """The same for p = bound (absolute) and p = detectable × bound (Pass), 4 intervals of 6 requests."""
    n, theta, x = 6, icc / (1 - icc), np.arange(7)
    for bound in (0.02, 0.1, 0.2):
        absolute = kernel.absolute_increments(n, x, bound=bound, theta=theta)
        passing = kernel.pass_increments(n, x, bound=bound, detectable=2.0, theta=theta)
        paths = (
            _tree([absolute] * 4, [_pmf(n, bound, icc)] * 4, [0.9, 0.04, 0.03, 0.03], 0.75 * math.log(4)),
            _tree([passing] * 4, [_pmf(n, 2 * bound, icc)] * 4, [1.0, 0.0, 0.0, 0.0], math.inf),
        )
        for highest, last, probability in paths:
            assert np.sum(probability * np.exp(last)) <= 1 + 1e-12
            for alpha in (0.5, 0.25, 0.1):
                assert probability[highest >= math.log(1 / alpha)].sum() <= alpha


@pytest.mark.parametrize(("rate", "rps"), [(0.005, 20), (0.05, 20), (0.005, 200)])
def test_relative_false_alarms_simulated(rate: float, rps: int) -> None:
    """A canary no worse than stable, 180 intervals of 10 s at 10 %: P(ever E ≥ 25) ≤ 4 %. Seeded, 1,000 runs.

    Poisson arms with a shared rate that wanders by a factor; θ = 0.002. By theorem ≤ α; 3 standard errors above it
    would be 5.9 %.
    """
    runs, rng = 1000, np.random.default_rng(7)
    log_s, u, log_e = np.full((runs, 12), -math.inf), np.ones(runs), np.zeros(runs)
    ever = np.zeros(runs, bool)
    for t in range(180):
        n_c, n_s = rng.poisson(rps, runs), rng.poisson(9 * rps, runs)
        shared = rate * rng.gamma(5, 0.2, runs)
        inc = kernel.relative_increments(
            n_c, rng.poisson(n_c * shared), n_s, rng.poisson(n_s * shared), theta_c=0.002, theta_s=0.002
        )
        log_s, u, log_e = advance(log_s, u, log_e, inc, np.full(runs, PLAN.gamma(t, 1)), PLAN.cap)
        ever |= log_e >= math.log(1 / PLAN.alpha)
    assert ever.mean() <= PLAN.alpha


# --- properties -------------------------------------------------------------------------------------------------

counts = st.integers(0, 2000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))
rows = st.lists(
    st.tuples(counts, counts, st.integers(1, 5), st.booleans()).map(
        lambda t: interval(*t[0], *t[1], length=t[2], weight_moved=t[3])
    ),
    max_size=12,
)
huge = st.integers(0, 10**7).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


@given(intervals=st.lists(st.tuples(huge, huge), min_size=1, max_size=6))
def test_wealth_stays_in_bounds(intervals: list[tuple[tuple[int, int], tuple[int, int]]]) -> None:
    """u ≤ E (wealth not yet started is never lost), E rises by at most e^cap over max(E, 1); finite to n = 1e7."""
    state = RuleState(BOUND, Plan(horizon=4))
    for canary, stable in intervals:
        before, state = state, state.update(interval(*canary, *stable))
        for name in ("relative", "absolute"):
            old, new = before.row[name][0], state.row[name][0]
            log_u = math.log(new["u"]) if new["u"] else -math.inf
            assert new["u"] >= 0 and not math.isnan(new["log_e"])
            assert new["log_e"] <= max(0.0, old["log_e"]) + state.plan.cap + 1e-12
            assert new["log_e"] >= log_u - 1e-12
            whole = float(np.logaddexp.reduce([*new["log_s"], log_u]))
            assert whole == pytest.approx(new["log_e"], rel=1e-9, abs=1e-9)
        assert math.isfinite(state.passing) and not math.isnan(state.by_blocks)


@given(before=rows, last=st.tuples(counts, counts))
def test_monotone_in_the_last_interval(before: list[Interval], last: tuple[tuple[int, int], tuple[int, int]]) -> None:
    """One more canary error: both Fail tests rise, Pass falls; one more of stable's: the relative one falls.

    In an earlier interval that need not hold for Fail: the cap scales S, so later growth may differ.
    """
    state = after(RuleState(BOUND, PLAN), *before)
    (n_c, x_c), (n_s, x_s) = last
    base, worse = state.update(interval(n_c, x_c, n_s, x_s)), state.update(interval(n_c, x_c + 1, n_s, x_s))
    shared = state.update(interval(n_c, x_c, n_s, x_s + 1))
    assert worse.relative >= base.relative - 1e-9
    assert worse.absolute >= base.absolute - 1e-9
    assert worse.passing <= base.passing + 1e-9
    assert shared.relative <= base.relative + 1e-9


@given(n=st.integers(40, 10**6))
def test_no_single_interval_decides(n: int) -> None:
    """The total rises by at most 0.75·ln(1/α) in an interval: one never fails a version, two can (decision.md §1)."""
    one = RuleState(BOUND, PLAN).update(interval(n, n, 9 * n, 0))
    assert judge({"errors": one}, PLAN).verdict is Verdict.INCONCLUSIVE
    assert one.relative == one.absolute == pytest.approx(0.75 * math.log(25))
    assert judge({"errors": one.update(interval(n, n, 9 * n, 0))}, PLAN).verdict is Verdict.FAIL


@given(before=rows, length=st.integers(1, 50))
def test_gaps(before: list[Interval], length: int) -> None:
    """No requests, or a weight that moved: every E stays, γ of the intervals is spent at factor 1 (u falls by it)."""
    state = after(RuleState(BOUND, PLAN), *before)
    for nothing in (Interval(length=length), interval(50, 50, 450, 0, length=length, weight_moved=True)):
        gap = state.update(nothing)
        assert (gap.relative, gap.absolute) == (state.relative, state.absolute)
        assert (gap.passing, gap.by_blocks) == (state.passing, state.by_blocks)
        assert (gap.canary, gap.stable) == (state.canary, state.stable)
        had, left = float(state.row["relative"]["u"][0]), float(gap.row["relative"]["u"][0])
        spent = min(had, PLAN.gamma(state.intervals, length))
        assert left == float(gap.row["absolute"]["u"][0]) == pytest.approx(had - spent)
        assert gap.intervals == state.intervals + length


@pytest.mark.parametrize("horizon", [1, 2, 180, 720])
def test_wealth_starts_over_the_horizon(horizon: int) -> None:
    """γ = 0.9 at the first interval, 0.1 spread evenly over the rest; the same whether gaps split it or not."""
    plan = Plan(horizon=horizon)
    total = sum(plan.gamma(t, 1) for t in range(horizon))
    assert plan.gamma(0, 1) == 0.9
    assert total == pytest.approx(1.0 if horizon > 1 else 0.9)
    assert plan.gamma(0, horizon) == pytest.approx(min(1.0, total))


def test_arms_may_be_scraped_apart() -> None:
    """Canary alone: absolute and Pass learn, relative does not. Stable alone: only θ̂ learns."""
    state = RuleState(BOUND, PLAN)
    canary = state.update(Interval({"c": Counts(100, 5, 5)}))
    assert canary.relative == 0.0 and canary.absolute > 0 and canary.passing < 0
    stable = state.update(interval(0, 0, 900, 9))
    assert (stable.relative, stable.absolute, stable.passing) == (0.0, 0.0, 0.0)
    assert stable.row["dispersion"] != state.row["dispersion"] and stable.stable.n == 900


def test_theta_comes_from_earlier_intervals() -> None:
    """An interval is not judged by a θ̂ that has seen it: E is that of the θ before (predictable)."""
    state = after(RuleState(BOUND, PLAN), interval(20, 0, 180, 1), interval(20, 0, 180, 2))
    theta_c, theta_s = state.thetas
    burst = state.update(interval(20, 2, 180, 60))
    increments = kernel.relative_increments(20, 2, 180, 60, theta_c=theta_c, theta_s=theta_s)
    expected = state.row["relative"].copy()
    eprocess.step(expected, increments[None], PLAN.gamma(2, 1), PLAN.cap, [True])
    assert burst.row["relative"].tobytes() == expected.tobytes()
    assert burst.thetas[1] > theta_s
    known = state.row["dispersion"]
    assert state.thetas == tuple(2 * float(dispersion.theta(known[arm], known["pairs"])[0]) for arm in ("pods", "arm"))


def test_latency_between_edges() -> None:
    """Fail uses x(e⁺) = low, Pass uses x(e⁻) = high, the relative test e⁺ for both arms (decision.md §5)."""
    state = RuleState(BOUND, PLAN)
    wide = state.update(Interval({"c": Counts(100, 1, 30)}, {"s": Counts(900, 9, 400)}))
    fail = state.update(Interval({"c": Counts(100, 1, 1)}, {"s": Counts(900, 9, 9)}))
    passing = state.update(Interval({"c": Counts(100, 30, 30)}, {"s": Counts(900, 9, 9)}))
    assert (wide.relative, wide.absolute, wide.thetas) == (fail.relative, fail.absolute, fail.thetas)
    assert wide.by_blocks == fail.by_blocks
    assert wide.passing == passing.passing


# --- verdicts ---------------------------------------------------------------------------------------------------


def calm(seconds: int = 10800, rps: float = 20.0) -> Any:
    """Three hours of a stable arm at 0.5 %, ten pods, intervals of 10 s, no bursts. Seeded."""
    rng = np.random.default_rng(3)
    n = rng.poisson(rps, (10, seconds // 10))
    return dispersion.from_history(n, rng.binomial(n, 0.005), PLAN.block)


def test_worked_figure_no_errors() -> None:
    """Bound 1 %, d = 2, β = 5 %: 179 requests without an error prove Pass, 178 do not (decision.md §4, θ = 0)."""
    at = {n: kernel.log_mean_exp(kernel.pass_increments(n, 0, bound=0.01, detectable=2.0)) for n in (178, 179)}
    assert at[178] < LN20 <= at[179]


def test_worked_figure_half_the_bound() -> None:
    """At 0.5 %, before any data: 371 requests, 186 s at 2 rps of the canary (decision.md §4; θ ≈ 0)."""
    row = RuleState(BOUND, PLAN).row.copy()
    row["stable"] = 10**6, 5000, 5000
    row["dispersion"]["pods"][..., 2] = row["dispersion"]["arm"][..., 2] = 1e9
    needed = pass_needed(RuleState(BOUND, PLAN, row.tobytes()), Traffic(20, 0.1, 10))
    assert needed is not None and needed.requests == pytest.approx(371, rel=0.01)
    assert needed.minutes * 60 == pytest.approx(186, rel=0.01)


def test_evidence_needed_by_a_clean_start() -> None:
    """20 clean requests do not read as "not at this error rate"; a rate above detectable × bound does."""
    state = RuleState.begin(BOUND, PLAN, calm()).update(interval(20, 0, 180, 1))
    needed = pass_needed(state, Traffic(20, 0.1, 10))
    assert needed is not None and 100 < needed.requests < 500
    assert fail_needed(state, Traffic(20, 0.1, 10)) is None
    bad = state.update(interval(200, 10, 1800, 9))
    assert pass_needed(bad, Traffic(20, 0.1, 10)) is None
    fail = fail_needed(bad, Traffic(20, 0.1, 10))
    assert fail is not None and fail.minutes * 60 * 20 == pytest.approx(fail.requests)
    alone = fail_needed(replace(bad, bound=Bound(0.01, compare=Compare.BOUND)), Traffic(20, 1.0, 10))
    assert alone is not None and alone.requests >= 0
    no_traffic = pass_needed(state, Traffic(0, 0.1, 10))
    assert no_traffic is not None and no_traffic.minutes == math.inf


def test_bad_canary_is_caught_in_two_or_three_intervals() -> None:
    """20 % errors at 20 rps, 10 %, intervals of 10 s, 3 h of history: median 20 s, p90 30 s (decision.md). Seeded."""
    rng, known = np.random.default_rng(5), calm()
    taken = []
    for _ in range(60):
        state = RuleState.begin(BOUND, PLAN, known)
        for t in itertools.count(1):
            n_c, n_s = rng.poisson(20), rng.poisson(180)
            state = state.update(interval(n_c, rng.binomial(n_c, 0.2), n_s, rng.binomial(n_s, 0.005)))
            if judge({"errors": state}, PLAN).verdict is Verdict.FAIL:
                taken.append(t)
                break
    assert np.median(taken) == 2
    assert np.quantile(taken, 0.9) <= 3


def test_good_canary_passes_and_worse_inside_the_bound_does_not_fail() -> None:
    """0.5 % passes; 0.8 % against 0.2 % is worse than stable, proven, and still not failed: E_abs < 4."""
    good = after(RuleState.begin(BOUND, PLAN, calm()), *[interval(200, 1, 1800, 9)] * 5)
    assert judge({"errors": good}, PLAN).verdict is Verdict.PASS
    inside = after(RuleState.begin(BOUND, PLAN, calm()), *[interval(1000, 8, 9000, 18)] * 20)
    assert inside.relative >= math.log(1 / PLAN.alpha) and inside.log_e_fail == -math.inf
    assert judge({"errors": inside}, PLAN).verdict is not Verdict.FAIL


@pytest.mark.parametrize(
    ("compare", "log_rel", "log_abs", "verdict"),
    [
        (Compare.STABLE_AND_BOUND, 3.3, 1.4, Verdict.FAIL),
        (Compare.STABLE_AND_BOUND, 3.3, 1.3, Verdict.INCONCLUSIVE),
        (Compare.STABLE_AND_BOUND, 3.1, 9.0, Verdict.INCONCLUSIVE),
        (Compare.STRICT, 3.3, 3.3, Verdict.FAIL),
        (Compare.STRICT, 3.3, 3.1, Verdict.INCONCLUSIVE),
        (Compare.STABLE, 3.3, -9.0, Verdict.FAIL),
        (Compare.STABLE, 3.1, 9.0, Verdict.INCONCLUSIVE),
        (Compare.BOUND, -9.0, 3.3, Verdict.FAIL),
        (Compare.BOUND, 9.0, 3.1, Verdict.INCONCLUSIVE),
    ],
)
def test_what_fails(compare: Compare, log_rel: float, log_abs: float, verdict: Verdict) -> None:
    """α = 4 %, ln 25 = 3.22, ln 4 = 1.39: E_rel ≥ 1/α and E_abs ≥ 4; strict, both 1/α; or one test alone."""
    assert judge({"errors": proven(log_rel, log_abs, compare=compare)}, PLAN).verdict is verdict


def proven(
    log_rel: float, log_abs: float = 9.0, log_pass: float = 0.0, log_blocks: float = 99.0, **more: Any
) -> RuleState:
    """A state with these log e-values."""
    row = RuleState(BOUND, PLAN).row.copy()
    row["relative"]["log_e"], row["absolute"]["log_e"], row["blocks"]["log_e"] = log_rel, log_abs, log_blocks
    row["passing"] = log_pass
    return RuleState(Bound(0.01, **more), PLAN, row.tobytes())


def test_rules_share_alpha() -> None:
    """Σ wᵢ·E_i·1{gate} ≥ 1/α with wᵢ = 1/m: two rules at ln 25 together fail, one alone needs ln 50."""
    just, above = proven(math.log(25.01)), proven(math.log(50.01))
    both = judge({"errors": just, "latency": just}, PLAN)
    assert both.verdict is Verdict.FAIL and both.log_e == pytest.approx(math.log(25.01))
    assert judge({"errors": just, "latency": proven(-1.0)}, PLAN).verdict is Verdict.INCONCLUSIVE
    one = judge({"errors": proven(-1.0), "latency": above}, PLAN)
    assert (one.verdict, one.blamed) == (Verdict.FAIL, "latency")
    assert one.rules == {"errors": Verdict.INCONCLUSIVE, "latency": Verdict.FAIL}
    shut = judge({"errors": just, "latency": proven(9.0, log_abs=1.0)}, PLAN)
    assert (shut.verdict, shut.blamed) == (Verdict.INCONCLUSIVE, None)


def test_rules_that_cannot_fail() -> None:
    """A rule that does not roll back takes no share of α and never fails, but must pass."""
    lenient = proven(99.0, rolls_back=False)
    assert judge({"errors": proven(math.log(25.01)), "latency": lenient}, PLAN).blamed == "errors"
    alone = judge({"latency": lenient}, PLAN)
    assert (alone.verdict, alone.log_e) == (Verdict.INCONCLUSIVE, -math.inf)
    assert judge({"latency": proven(99.0, log_pass=3.0, rolls_back=False)}, PLAN).verdict is Verdict.PASS


def test_every_rule_must_pass() -> None:
    """Pass: log E_pass ≥ ln(1/β) = 3.00 for each rule, nothing failed; no rule proves nothing."""
    good, open_ = proven(-1.0, log_pass=3.0), proven(-1.0, log_pass=2.9)
    assert judge({"errors": good, "latency": good}, PLAN).verdict is Verdict.PASS
    mixed = judge({"errors": good, "latency": open_}, PLAN)
    assert mixed.verdict is Verdict.INCONCLUSIVE
    assert mixed.rules == {"errors": Verdict.PASS, "latency": Verdict.INCONCLUSIVE}
    assert judge({}, PLAN).verdict is Verdict.INCONCLUSIVE
    assert judge({"errors": proven(9.0, log_pass=9.0)}, PLAN).verdict is Verdict.FAIL


def test_step_asks_for_a_new_pass() -> None:
    """A step begins with a new Pass process; what speaks for Fail is kept (decision.md §4)."""
    state = after(RuleState(BOUND, PLAN), *[interval(200, 1, 1800, 9)] * 5)
    new = state.begin_step()
    assert new.passing == 0.0 and state.passing > 0
    assert (new.relative, new.absolute, new.by_blocks) == (state.relative, state.absolute, state.by_blocks)


# --- bursts of minutes ------------------------------------------------------------------------------------------


def test_blocks_have_their_say() -> None:
    """Fail asks for both: E interval by interval, and E by blocks of minutes (ADR 0005)."""
    assert judge({"errors": proven(9.0, log_blocks=3.3)}, PLAN).verdict is Verdict.FAIL
    assert judge({"errors": proven(9.0, log_blocks=3.1)}, PLAN).verdict is Verdict.INCONCLUSIVE
    assert judge({"errors": proven(-9.0, log_blocks=3.1, compare=Compare.BOUND)}, PLAN).verdict is Verdict.INCONCLUSIVE


def test_a_burst_of_five_minutes_is_no_proof() -> None:
    """Stable's rate wanders from 0 to 2.5 % from block to block; a canary at 2.5 % for a block is not failed.

    Interval by interval it is "proven" worse within the block; by blocks it is not.
    """
    rng = np.random.default_rng(8)
    rate = np.repeat(rng.choice([0.0, 0.001, 0.002, 0.025], size=36, p=[0.4, 0.2, 0.2, 0.2]), 30)
    n = np.full((10, len(rate)), 180.0)
    known = dispersion.from_history(n, rng.binomial(180, rate, n.shape), PLAN.block)
    state = after(RuleState.begin(BOUND, PLAN, known), *[interval(200, 5, 1800, 2)] * 30)
    assert state.relative >= math.log(1 / PLAN.alpha) and state.absolute >= math.log(4)
    assert judge({"errors": state}, PLAN).verdict is Verdict.INCONCLUSIVE
    worse = after(state, *[interval(200, 40, 1800, 2)] * 60)
    assert judge({"errors": worse}, PLAN).verdict is Verdict.FAIL


@given(before=rows, together=st.lists(rows, min_size=1, max_size=4))
def test_a_fleet_is_updated_together(before: list[Interval], together: list[list[Interval]]) -> None:
    """Bit for bit what each rule alone comes to, whatever it is computed together with."""
    state, others = RuleState(BOUND, PLAN), [RuleState(Bound(0.02, rho0=1.5), Plan(90, block=7)) for _ in together]
    alone = after(state, *before)
    for i, one in enumerate(before):
        fed = [other[i] if i < len(other) else Interval(length=2) for other in together]
        state, *others = update_all([state, *others], [one, *fed])
    assert state.to_state() == alone.to_state()


# --- state ------------------------------------------------------------------------------------------------------


@given(before=rows, later=rows)
def test_state_round_trip(before: list[Interval], later: list[Interval]) -> None:
    """Bit for bit through JSON, ≤ 1,200 characters; a new leader goes on to the same bits but for one pair a pod."""
    state = after(RuleState(BOUND, PLAN), *before)
    text = json.loads(json.dumps(state.to_state()))
    assert text.startswith("2:") and len(text) <= 1200
    back = RuleState.from_state(text, BOUND, PLAN)
    dropped = RuleState(state.bound, state.plan, state.numbers)
    assert back == dropped and back.to_state() == text
    assert after(back, *later).to_state() == after(dropped, *later).to_state()


def test_update_leaves_the_old_state_alone() -> None:
    """States are values."""
    state = after(RuleState(BOUND, PLAN), interval(20, 1, 180, 1))
    text, series = state.to_state(), state.pods.series.copy()
    state.update(interval(20, 9, 180, 1))
    assert state.to_state() == text and np.array_equal(state.pods.series, series)


@pytest.mark.parametrize("damage", ["", "1:", "1:AAAA", "1:*", "2:", "nonsense"])
def test_foreign_state_is_refused(damage: str) -> None:
    """A state of another version or a damaged one raises ValueError, in words."""
    with pytest.raises(ValueError):
        RuleState.from_state(damage, BOUND, PLAN)
    good = RuleState(BOUND, PLAN).to_state()
    with pytest.raises(ValueError, match="another version"):
        RuleState.from_state("1" + good[1:], BOUND, PLAN)


def test_state_with_nan_is_refused() -> None:
    """NaN or +inf is no state of a test."""
    for number in (math.nan, math.inf):
        bad = proven(number).to_state()
        with pytest.raises(ValueError, match="damaged"):
            RuleState.from_state(bad, BOUND, PLAN)


def test_impossible_inputs_are_refused() -> None:
    """Bounds, plans and counts that mean nothing raise ValueError."""
    for make in (
        lambda: Bound(0.0),
        lambda: Bound(1.0),
        lambda: Bound(0.01, rho0=0.5),
        lambda: Bound(0.01, detectable=0.5),
        lambda: Plan(horizon=0),
        lambda: Plan(horizon=1, block=0),
        lambda: Plan(horizon=1, alpha=0.0),
        lambda: Plan(horizon=1, beta=1.0),
        lambda: Counts(-1, 0, 0),
        lambda: Counts(10, 2, 1),
        lambda: Counts(math.nan, 0, 0),
        lambda: Counts(10, 0, math.inf),
    ):
        with pytest.raises(ValueError):
            make()
