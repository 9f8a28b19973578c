"""Our rules on many rollouts at once say what the shipping RuleState says of each."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.decisions.ours import NEVER, Sequential, decide, intervals
from bench.decisions.scenarios import BOUND, Burst, Floats, Scenario, Table, Unit, generate, generator
from modeldeployment.api.status import Verdict
from modeldeployment.decision import dispersion, kernel
from modeldeployment.decision.arms import Counts, Interval
from modeldeployment.decision.hypothesis import Bound, Plan
from modeldeployment.decision.sequential import RuleState, judge

WORLDS = [
    Scenario("bursts and gaps", Table.GOOD, 20, gaps=0.2, restarts=6, bursts=Burst(0.05, Unit.POD, 30)),
    Scenario(
        "no history, moving weight",
        Table.GOOD,
        200,
        history=0,
        past=0,
        steps=tuple((60.0 * i, 0.1 + i / 60) for i in range(20)),
    ),
    Scenario("bad, ρ0 2", Table.BAD, 20, rate=0.05, rho0=2, good=False),
]


def arm(n: Floats, x: Floats) -> dict[str, Counts]:
    """One arm's pods that had requests."""
    return {f"pod-{i}": Counts(n[i], x[i], x[i]) for i in range(len(n)) if n[i] > 0}


@pytest.mark.parametrize("scenario", WORLDS, ids=lambda s: s.name)
def test_as_rule_state_has_it(scenario: Scenario) -> None:
    """Every log e-value, θ and verdict at every look, to 1e-9, through gaps, restarts and moves of the weight."""
    batch = generate(scenario, 3, generator(5))
    plan, bound = Plan(scenario.intervals), Bound(BOUND, rho0=scenario.rho0)
    history, past = batch.history, batch.past
    known = [
        dispersion.from_history(history.n[r].T, history.x[r].T, plan.block, past.n[r].T, past.x[r].T) for r in range(3)
    ]
    each = [RuleState.begin(bound, plan, one if past.n.size else None) for one in known]
    together = Sequential(history, past, plan, bound)
    for t, rows, interval in intervals(batch):
        together.update(rows, interval)
        for i, r in enumerate(rows):
            canary, stable = arm(interval.n_c[i], interval.x_c[i]), arm(interval.n_s[i], interval.x_s[i])
            each[r] = each[r].update(
                Interval(canary, stable, length=int(interval.length[i]), weight_moved=bool(interval.moved[i]))
            )
        if t % 60 == 0 and t:
            together.begin_step()
            each = [one.begin_step() for one in each]
        log_e = together.log_e
        found = np.array([log_e["relative"], log_e["absolute"], log_e["blocks"], *together.thetas])
        expected = np.array([[one.relative, one.absolute, one.by_blocks, *one.thetas] for one in each]).T
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9), f"look {t}"
        assert together.passed.tolist() == [one.passed for one in each], f"look {t}"
        failed = [judge({"errors": one}, plan).verdict is Verdict.FAIL for one in each]
        assert together.failed["sequential"].tolist() == failed, f"look {t}"


def test_poisson_is_the_relative_test_without_dispersion() -> None:
    """θ = 0 and no history: relative and poisson are one."""
    batch = generate(Scenario("plain", Table.GOOD, 20, history=0, past=0), 4, generator(1))
    state = Sequential(batch.history, batch.past, Plan(180), Bound(BOUND))
    _, rows, interval = next(intervals(batch))
    state.update(rows, interval)
    n_c, x_c, n_s, x_s = (a.sum(axis=1) for a in interval[:4])
    inc = kernel.relative_increments(n_c, x_c, n_s, x_s)
    # 0.9 of the wealth is at stake in the first interval.
    expected = np.log(0.9 * np.exp(kernel.log_mean_exp(inc)) + 0.1)
    assert state.log_e["poisson"] == pytest.approx(np.minimum(expected, Plan(180).cap))


def test_first_look_of_each_rule() -> None:
    """A version that fails a fifth is caught at the second look at 200 rps, no sooner: no interval decides alone."""
    scenario = Scenario("bad", Table.BAD, 200, rate=0.2, good=False)
    decided = decide(generate(scenario, 50, generator(1)), Plan(180), Bound(BOUND))
    assert {rule: set(looks.tolist()) for rule, looks in decided.looks.items()} == {
        "sequential": {1},
        "relative": {1},
        "poisson": {1},
    }
    assert not decided.proven.any()


def test_a_version_rolled_back_in_its_second_step_is_not_proven_in_the_third() -> None:
    """Good until minute 15: proven in two steps of three, whether or not the rest is looked at."""
    scenario = Scenario("late", Table.LATE, 200, rate=0.5, stable_rate=0.001, good=False, onset=900)
    batch = generate(scenario, 20, generator(1))
    for stop in (True, False):
        decided = decide(batch, Plan(180), Bound(BOUND), stop=stop)
        assert (decided.looks["sequential"] >= 90).all() and not decided.proven.any()


def test_a_good_version_is_proven_in_each_step() -> None:
    """No errors at 200 rps: Pass is proven in all three steps, nothing is rolled back; nor does stopping matter."""
    scenario = Scenario("clean", Table.GOOD, 200, rate=0.0, stable_rate=0.001)
    batch = generate(scenario, 20, generator(1))
    for stop in (True, False):
        decided = decide(batch, Plan(180), Bound(BOUND), stop=stop)
        assert decided.proven.all() and (decided.looks["sequential"] == NEVER).all()


def test_alpha_is_a_parameter() -> None:
    """A smaller α never rolls back sooner."""
    scenario = Scenario("bad", Table.BAD, 20, rate=0.02, good=False)
    batch = generate(scenario, 40, generator(2))
    strict, lax = (
        np.where(looks == NEVER, math.inf, looks)
        for looks in (decide(batch, Plan(180, alpha=a), Bound(BOUND)).looks["relative"] for a in (0.01, 0.1))
    )
    assert (strict >= lax).all() and (strict > lax).any()
