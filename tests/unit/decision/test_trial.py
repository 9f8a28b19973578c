"""A version on trial: evidence in, verdicts out, and what survives a restart."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from modeldeployment.api.quantities import seconds
from modeldeployment.api.status import RolloutStatus, RuleStatus, Verdict
from modeldeployment.decision import hypothesis, sequential
from modeldeployment.decision.decide import decide
from modeldeployment.decision.evidence import DataState, Delta, History, Interval
from modeldeployment.decision.memory import Memory, plan
from modeldeployment.decision.trial import feed, together
from modeldeployment.decision.view import View
from unit.decision.worlds import Behaviour, World

THRESHOLD = {"judge": "Threshold", "threshold": {"window": "1m", "minSamples": 50, "failures": 2, "passes": 2}}
QUERY: list[dict[str, Any]] = [{"name": "auc", "promql": {"query": "auc", "min": "0.8", "sustained": "1m"}}]


def trial(overrides: dict[str, Any] | None = None, *, two: Behaviour | None = None, **more: Any) -> World:
    """Version 2 has its first weight."""
    world = World(overrides, versions={"2": two or Behaviour()}, **more).serving()
    world.ask("2")
    return world.until(lambda: world.weight("2") == 10)


def rule(world: World, name: str) -> RuleStatus:
    """A rule of the trial, as status shows it."""
    assert world.status.rollout is not None
    return next(r for r in world.status.rollout.rules if r.name == name)


# --- error bounds -----------------------------------------------------------------------------------------------


def test_rollout_and_watch_share_the_chance_of_a_false_rollback() -> None:
    """Of 5% the rollout gets 4% and the watch 1%; each lasts to its own deadline."""
    world = trial()
    assert world.status.rollout is not None
    rollout = plan(world.spec, world.status.rollout)
    assert rollout.alpha == pytest.approx(0.04) and rollout.horizon == 720
    world.until("Watching")
    assert world.status.rollout is not None
    watch = plan(world.spec, world.status.rollout)
    assert watch.alpha == pytest.approx(0.01) and watch.horizon == 8640


def test_canary_is_compared_with_stable_and_the_promoted_version_with_its_bound() -> None:
    """Beside stable both count; alone there is only the bound."""
    world = trial(rps=1).run(30)
    assert {s.bound.compare for s in _sequential(world)} == {hypothesis.Compare.STABLE_AND_BOUND}
    world.rps = 100
    world.until("Watching").run(30)
    assert {s.bound.compare for s in _sequential(world)} == {hypothesis.Compare.WATCH}


def _fed(view: View, memory: Memory) -> tuple[RolloutStatus | None, Memory]:
    """What one look feeds to the tests."""
    fed = together([feed(view, memory)])[0]
    assert not isinstance(fed, Exception)
    return fed


def _sequential(world: World) -> list[sequential.RuleState]:
    states = [s for s in world.memory.states.values() if isinstance(s, sequential.RuleState)]
    assert states
    return states


# --- every interval, once ---------------------------------------------------------------------------------------


def test_every_interval_counts_once() -> None:
    """Evidence that is given twice (a replay after a restart) is taken once."""
    world = trial(rps=1).run(30)
    view, memory = world.view(), world.memory
    rollout, _ = _fed(view, memory)
    assert rollout is not None and rollout.evidence_time is not None
    end = rollout.evidence_time
    again = tuple(Interval(end - timedelta(seconds=10 * i), end, end, {}, {}) for i in (1, 2))
    twice, kept = _fed(replace(view, evidence=replace(view.evidence, intervals=again)), memory)
    assert twice == rollout and kept.states == memory.states


def test_gap_is_one_longer_interval() -> None:
    """After an outage the difference spans the gap; the schedule goes on as if nothing had been missed."""
    world = trial(rps=1).run(20)
    before = _sequential(world)[0].intervals
    world.data = DataState.QUERY_ERROR
    world.run(600)
    assert _sequential(world)[0].intervals == before
    world.data = None
    world.run(10)
    assert _sequential(world)[0].intervals == before + 61


def test_interval_in_which_the_weight_moved_is_no_evidence() -> None:
    """Past the first step, the requests of a moving weight are left out."""
    steps = {"spec.rollout.canary": {"steps": [{"traffic": "10%"}, {"traffic": "50%"}]}}
    world = trial(steps)
    world.until(lambda: world.wanted("2") == 50)
    counted = _sequential(world)[0].canary.n
    world.run(10)
    assert _sequential(world)[0].canary.n == counted, "the weight was moving"
    world.rps = 1
    world.run(20)
    assert _sequential(world)[0].canary.n > counted


def test_step_asks_for_its_own_proof() -> None:
    """A new step forgets that the one before passed, and keeps what speaks against the version."""
    steps = {"spec.rollout.canary": {"steps": [{"traffic": "10%"}, {"traffic": "50%"}]}}
    world = trial(steps)
    world.until(lambda: world.weight("2") == 50)
    assert world.status.rollout is not None and world.status.rollout.verdict is Verdict.INCONCLUSIVE
    assert _sequential(world)[0].canary.n > 0, "totals and evidence of failure go on over the whole rollout"


def test_history_of_stable_says_how_much_it_varies() -> None:
    """What stable did before the rollout is where the dispersion starts."""
    world = World().serving()
    world.ask("2")
    world.until(lambda: world.wanted("2") == 10)
    view = world.view()
    row = _history(world, 180)
    following = replace(row[-1], start=row[-1].end, end=row[-1].end + timedelta(seconds=10))
    fed = replace(view, evidence=replace(view.evidence, history=History(row), intervals=(following,)))
    _, with_history = _fed(fed, Memory())
    _, without = _fed(replace(fed, evidence=replace(fed.evidence, history=None)), Memory())
    known, prior = with_history.states["errors"], without.states["errors"]
    assert isinstance(known, sequential.RuleState) and isinstance(prior, sequential.RuleState)
    assert known.thetas[1] < prior.thetas[1], "a stable version that never wobbles needs less caution"
    day = replace(fed, evidence=replace(fed.evidence, history=History(row, _history(world, 288, seconds=300))))
    _, with_day = _fed(day, Memory())
    long = with_day.states["errors"]
    assert isinstance(long, sequential.RuleState)
    near, far = known.row["dispersion"], long.row["dispersion"]
    assert (near["arm"][0, :2] == far["arm"][0, :2]).all(), "what is known interval by interval is of the near past"
    assert (near["pairs"][0], far["pairs"][0]) == (5, 287)
    assert long.thetas[1] < known.thetas[1], "a longer past needs less caution"


def _history(world: World, length: int, seconds: float = 10) -> tuple[Interval, ...]:
    """A stable version whose error rate never changes."""
    stable, step = world.name("1"), timedelta(seconds=seconds)
    ends = [world.now - step * (length - 1 - i) for i in range(length)]
    delta = Delta(900, 9, {800.0: 900}, 900)
    return tuple(Interval(end - step, end, end - step, {}, {f"{stable}-pod": delta}) for end in ends)


# --- verdicts ---------------------------------------------------------------------------------------------------


def test_every_rule_is_judged_at_every_look() -> None:
    """One that fails hides no other: each has its verdict and its numbers."""
    world = trial(two=Behaviour(errors=0.2), tick=2)
    world.change({"spec.suspend": {"mode": "All"}})
    world.run(300)
    assert rule(world, "errors").verdict is Verdict.FAIL and "failed (" in rule(world, "errors").message
    assert rule(world, "latency").verdict is Verdict.PASS and "slower than 800ms" in rule(world, "latency").message
    assert world.status.rollout is not None and world.status.rollout.reason == "ObjectiveBroken"


def test_missing_evidence_is_told_in_requests_and_minutes() -> None:
    """A person reads what the step waits for."""
    world = trial(rps=1).run(30)
    assert world.status.rollout is not None
    message = world.status.rollout.message
    assert "more requests" in message and "at this traffic" in message, message


def test_latency_without_a_usable_bucket_says_so() -> None:
    """A bound above the last bucket cannot be judged: Inconclusive, with the reason."""
    world = trial(
        {
            "spec.objectives": [{"name": "latency", "latency": {"quantile": 0.99, "max": "5s"}}],
            "spec.rollout.rollbackOn": None,
        }
    ).run(120)
    assert rule(world, "latency").verdict is Verdict.INCONCLUSIVE
    assert "above the last bucket" in rule(world, "latency").message


def test_policy_objectives_judge_a_spec_without_any() -> None:
    """The ModelPolicy's objectives are the rules where the spec has none."""
    world = trial({"spec.objectives": [], "spec.rollout.rollbackOn": None})
    defaults = tuple(World().spec.objectives)
    decision = decide(replace(world.view(), default_objectives=defaults), Memory())
    assert decision.status.rollout is not None and decision.status.rollout.reason != "NoObjectives"
    assert [o.name for o in decision.status.objectives] == ["errors", "latency"]


# --- the threshold judge ----------------------------------------------------------------------------------------


def test_threshold_judge_rolls_back_after_its_windows() -> None:
    """Two failed windows of a minute: that is what was asked for."""
    world = trial({"spec.rollout.analysis": THRESHOLD}, two=Behaviour(errors=0.02))
    began = world.elapsed
    world.until("RolledBack", most=300)
    assert 110 <= world.elapsed - began <= 140
    assert "2 of 2 failed windows" in world.records[-1].message


def test_threshold_judge_promotes_after_its_windows() -> None:
    """Two passed windows in a row."""
    world = trial({"spec.rollout.analysis": THRESHOLD})
    began = world.elapsed
    world.until("Watching", most=300)
    assert 110 <= world.elapsed - began <= 140


@pytest.mark.parametrize("restarting", [False, True], ids=["lives", "dies"])
def test_evidence_begins_with_the_first_weight(restarting: bool) -> None:
    """What stable did while the canary was starting is no evidence of the trial, for no process that looks at it."""
    world = World(versions={"2": Behaviour(ready_after=120)}).serving()
    world.restarts_each_tick = restarting
    world.ask("2")
    world.until(lambda: world.wanted("2") == 10)
    world.run(20)
    assert world.status.rollout is not None
    (errors, *_) = _sequential(world)
    assert errors.intervals == 2, "intervals from before the first weight are among the evidence"


def test_threshold_window_with_too_few_requests_says_nothing() -> None:
    """Fewer than minSamples requests neither pass nor fail."""
    world = trial({"spec.rollout.analysis": THRESHOLD}, two=Behaviour(errors=0.5), rps=5).run(1800)
    assert world.effects[-1] == "WeightRaised"


def test_threshold_judge_survives_a_restart() -> None:
    """Windows under way are in the status."""
    lengths = []
    for restarting in (False, True):
        world = trial({"spec.rollout.analysis": THRESHOLD}, two=Behaviour(errors=0.02))
        world.restarts_each_tick = restarting
        world.until("RolledBack", most=300)
        lengths.append(world.elapsed)
    assert lengths[0] == lengths[1]


# --- a promql rule ----------------------------------------------------------------------------------------------


def query_world(**values: float) -> World:
    """A world whose only objective is a query; version → its value."""
    world = World({"spec.objectives": QUERY, "spec.rollout.rollbackOn": None}).serving()
    world.ask("2")
    for version, value in values.items():
        world.values["auc", world.name(version.removeprefix("v"))] = value
    return world


def test_a_query_without_a_value_keeps_no_bad_version() -> None:
    """A query that is refused, or returns nothing, hurts its own rule alone: errors still take the canary back."""
    objectives = [{"name": "errors", "errorRate": {"max": "1%"}}, *QUERY]
    world = World({"spec.objectives": objectives, "spec.rollout.rollbackOn": None}, rps=100).serving()
    world.does("2").errors = 0.5
    world.ask("2")
    world.until("RolledBack", most=300)
    assert world.records[-1].rule == "errors"


def test_query_promotes_once_it_held_long_enough() -> None:
    """The canary's own value, above its bound for a minute."""
    world = query_world(v1=0.9, v2=0.9)
    world.until(lambda: "WeightRaised" in world.effects)
    began = world.elapsed
    world.until("Watching")
    assert world.elapsed - began >= 60


def test_query_takes_back_once_it_was_broken_long_enough() -> None:
    """Below its bound for a minute."""
    world = query_world(v1=0.9, v2=0.5)
    world.until("RolledBack", most=300)
    assert world.records[-1].rule == "auc" and "0.5; bound at least 0.8" in world.records[-1].message


def test_query_about_the_whole_model_cannot_speak_for_a_canary() -> None:
    """A single series without pods neither promotes nor takes back, and says why."""
    world = query_world()
    world.values["auc", ""] = 0.5
    world.run(600)
    assert world.weight("2") == 10 and "cannot speak for a canary" in rule(world, "auc").message


def test_query_about_the_whole_model_takes_the_promoted_version_back() -> None:
    """Once it serves alone, the whole model is it."""
    world = query_world(v2=0.9).until("Watching")
    del world.values["auc", world.name("2")]
    world.values["auc", ""] = 0.5
    world.until("RolledBack", most=300)
    assert world.wanted("1") == 100


def test_query_that_flaps_proves_nothing() -> None:
    """A side must hold without a break."""
    world = query_world(v2=0.9)
    for i in range(60):
        world.values["auc", world.name("2")] = 0.9 if i % 3 else 0.5
        world.run(10)
    assert world.weight("2") == 10 and world.effects[-1] == "WeightRaised"


@pytest.mark.parametrize(("value", "state"), [(0.9, "Watching"), (0.5, "RolledBack")])
def test_query_with_another_bound_must_hold_anew(value: float, state: str) -> None:
    """What was on one side of the old bound for a while was never compared with the new one."""
    world = query_world(v2=value)
    world.until(lambda: world.weight("2") == 10).run(50)
    stricter = [{"name": "auc", "promql": {**QUERY[0]["promql"], "min": "0.85"}}]
    world.change({"spec.objectives": stricter})
    began = world.elapsed
    world.until(state)
    assert world.elapsed - began >= 60


# --- a restart --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", range(0, 400, 50))
def test_restart_at_any_instant_changes_no_decision(at: int) -> None:
    """Killed once, anywhere in a rollout of steps: the same decisions at the same times."""
    steps = {"spec.rollout.canary": {"steps": [{"traffic": "10%"}, {"traffic": "50%", "duration": "2m"}]}}
    told = []
    for killed in (False, True):
        world = World(steps, versions={"2": Behaviour(errors=0.004)}).serving()
        world.ask("2")
        world.run(at or 10)
        if killed:
            world.restart()
        world.run(600 - at)
        told.append([(r.time, r.effect, r.revision) for r in world.records])
    assert told[0] == told[1]


@pytest.mark.parametrize("at", [40, 60, 100, 140])
def test_restart_while_the_weight_moves_keeps_what_is_known_of_stable(at: int) -> None:
    """On the way to 100% the tests are about to begin anew: how much stable varies is kept all the same."""
    steps = {"spec.rollout.canary": {"steps": [{"traffic": "50%"}, {"traffic": "100%", "duration": "1h"}]}}

    def play(killed: bool) -> list[tuple[object, object]]:
        world = World(steps, versions={v: Behaviour(errors=0.004) for v in "12"}).serving()
        world.router.delay = 60
        world.ask("2")
        world.until(lambda: world.wanted("2") == 50).run(at)
        if killed:
            world.restart()
        world.run(400)
        return [(s.bound.compare, s.row["dispersion"]["arm"].tobytes()) for s in _sequential(world)]

    assert play(killed=False) == play(killed=True)


def test_state_of_another_version_of_the_operator_starts_anew() -> None:
    """A damaged or foreign state is dropped, never trusted and never a crash."""
    world = trial(rps=1).run(60)
    rollout = world.status.rollout
    assert rollout is not None
    for text in ("", "0:abc", "nonsense", rollout.rules[0].state[:-4] + "####", rollout.rules[0].state[:40]):
        rules = tuple(r.model_copy(update={"state": text}) for r in rollout.rules)
        status = world.status.model_copy(update={"rollout": rollout.model_copy(update={"rules": rules})})
        decision = decide(replace(world.view(), status=status), Memory())
        assert decision.status.rollout is not None
        assert decision.status.rollout.verdict is Verdict.INCONCLUSIVE


def test_deadline_of_the_plan_is_the_specs() -> None:
    """The schedule over which the error bound is spread follows the spec."""
    world = trial({"spec.rollout.deadline": "30m", "spec.rollout.analysis": {"interval": "30s"}}, tick=10)
    assert world.status.rollout is not None
    assert plan(world.spec, world.status.rollout).horizon == seconds("30m") / 30


def test_a_step_of_everything_has_an_error_bound_of_its_own() -> None:
    """At 100% there is a second test, of the bound alone: both together have the rollout's 4%."""
    steps = {"spec.rollout.canary": {"steps": [{"traffic": "10%"}, {"traffic": "100%", "duration": "10m"}]}}
    world = trial(steps)
    first = _sequential(world)[0]
    world.until(lambda: world.weight("2") == 100).run(60)
    alone = _sequential(world)[0]
    assert (first.bound.compare, alone.bound.compare) == (hypothesis.Compare.STABLE_AND_BOUND, hypothesis.Compare.BOUND)
    assert (first.plan.alpha, alone.plan.alpha) == pytest.approx((0.03, 0.01))
    assert world.status.rollout is not None and plan(world.spec, world.status.rollout).alpha == pytest.approx(0.01)
    usual = trial({})
    assert _sequential(usual)[0].plan.alpha == pytest.approx(0.04), "without such a step the first has all of it"
