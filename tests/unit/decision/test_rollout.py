"""The rollout machine, scenario by scenario: each is a promise to the person who runs it.

`worlds.World` also checks, at every tick of all of these, what must hold always.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from modeldeployment.api.conditions import ConditionType, find
from modeldeployment.api.status import QUARANTINED_MAX, Cause, ChosenDialect, Verdict
from modeldeployment.decision.decide import decide
from modeldeployment.decision.evidence import DataState
from modeldeployment.decision.view import DRAINING_MAX
from unit.decision.worlds import BLIND, Behaviour, World

BAD = Behaviour(errors=0.2)
SLOW = Behaviour(slow=0.2)
CRASHING = Behaviour(crash=(20.0, 40.0), trouble=("CrashLoopBackOff", "pod fraud-x: back-off (last exit code 3)"))
NEVER = Behaviour(ready_after=None, trouble=("ImagePullBackOff", "pod fraud-x: no such image"))
STEPS = {"spec.rollout.canary": {"steps": [{"traffic": "10%"}, {"traffic": "50%", "duration": "5m"}]}}


def canary(overrides: dict[str, Any] | None = None, *, two: Behaviour | None = None, **more: Any) -> World:
    """Version 1 serves; version 2 was just asked for."""
    world = World(overrides, versions={"2": two or Behaviour()}, **more).serving()
    world.ask("2")
    return world


def at_weight(overrides: dict[str, Any] | None = None, weight: int = 10, **more: Any) -> World:
    """Version 2 is a canary and gets so much; it has too little evidence to go on."""
    world = canary(overrides, **{"rps": 0.5, **more})
    return world.until(lambda: world.weight("2") == weight)


def watched(overrides: dict[str, Any] | None = None, **more: Any) -> World:
    """Version 2 was promoted and is watched."""
    return canary(overrides, **more).until("Watching")


# --- the first version ------------------------------------------------------------------------------------------


def test_first_version_goes_straight_to_all_of_the_traffic_once_ready() -> None:
    """The first version gets 100% once Ready, without a canary: there is nothing to compare it with."""
    world = World(versions={"1": Behaviour(ready_after=60)})
    world.run(50)
    assert world.wanted("1") == 0 and world.state == "Initializing", "it gets nothing before it is Ready"
    world.serving()
    assert world.effects == ["FirstVersionStarted", "FirstVersionServes"]
    assert world.condition(ConditionType.READY).status == "True"


def test_first_version_that_is_never_ready_says_why_and_goes_on_trying() -> None:
    """Past the progress deadline the pods' own reason is told; nothing else can serve, so it goes on trying."""
    world = World(versions={"1": NEVER}).run(700)
    assert world.state == "ProgressDeadlineExceeded" and "ImagePullBackOff" in world.message
    assert world.condition(ConditionType.STALLED).status == "True"
    world.behaviours["1"] = Behaviour()
    world.serving()
    assert find(world.status.conditions, ConditionType.STALLED) is None, "Stalled goes once it is not true any more"


def test_first_version_replaced_before_it_was_ready_makes_room_at_once() -> None:
    """A first version that never served is scaled down at once: its pods may hold what the next one needs."""
    world = World(versions={"1": NEVER}).run(60)
    world.ask("2")
    world.run(10)
    assert world.replicas("1") == 0, "no route ever sent it anything, so there is nothing to wait for"
    world.serving("2")


def test_first_version_asked_for_again_does_not_drain_what_it_starts() -> None:
    """Version 1, then 2, then 1 again before anything served: 1 starts, and only 2 goes."""
    world = World(versions={"1": NEVER, "2": NEVER}).run(20)
    world.ask("2")
    world.run(10)
    world.ask("1")
    world.run(10)
    assert world.replicas("1") == 1 and world.replicas("2") == 0


def test_first_version_aborted_during_a_pause_can_be_retried() -> None:
    """Taken back while nothing moves, so it still drains; the retry after it starts what drained."""
    world = World(versions={"1": NEVER}).run(20)
    override = {"revision": world.name("1"), "action": "Abort"}
    world.change({"spec.suspend": {"mode": "All"}, "spec.rollout.override": override})
    world.run(20)
    assert world.state == "Suspended" and world.status.draining
    world.change({"spec.suspend": None, "spec.rollout.override": None, "spec.rollout.attempt": 2})
    world.behaviours["1"] = Behaviour()
    world.serving()


@pytest.mark.parametrize("mode", ["Advance", "All"])
def test_first_version_waits_while_suspended(mode: str) -> None:
    """suspend says that nothing starts and no weight rises: that holds for the first version too."""
    world = World({"spec.suspend": {"mode": mode, "reason": "freeze"}}).run(60)
    assert world.status.canary is None and world.state == "Suspended" and "freeze" in world.message
    world.change({"spec.suspend": None})
    world.serving()


@pytest.mark.parametrize("mode", ["Advance", "All"])
def test_first_version_suspended_while_it_starts_gets_no_weight(mode: str) -> None:
    """A pause that comes before the first version is Ready holds it at nothing."""
    world = World().run(10)
    world.change({"spec.suspend": {"mode": mode}})
    world.run(60)
    assert world.wanted("1") == 0 and world.state == "Suspended"


def test_first_version_can_be_aborted() -> None:
    """Abort beats everything: a first version that a person takes back never serves, until a retry."""
    world = World(versions={"1": Behaviour(ready_after=60)}).run(10)
    world.change({"spec.rollout.override": {"revision": world.name("1"), "action": "Abort"}})
    world.run(120)
    assert world.status.stable is None and world.state == "Aborted" and world.replicas("1") == 0
    assert world.effects == ["FirstVersionStarted", "Aborted"], "once, and not at every look"
    world.change({"spec.rollout.override": None, "spec.rollout.attempt": 2})
    world.serving()


# --- a good canary ----------------------------------------------------------------------------------------------


def test_good_canary_is_promoted_by_evidence() -> None:
    """A good canary goes from 0 to its weight to everything, and the version before is kept warm."""
    world = watched()
    assert world.weights_of("2") == [0, 10, 100]
    assert world.effects[2:] == ["RolloutStarted", "WeightRaised", "StepPassed", "Promoted"]
    assert world.replicas("1") == 1, "the version before stays warm"


def test_good_canary_is_never_promoted_before_its_evidence() -> None:
    """At 0.5 requests/s and 10% the 179 clean requests that a bound of 1% asks for take an hour: it waits for them."""
    world = canary(rps=0.5).until("Watching", most=7200)
    assert world.answered("2") >= 179
    assert world.elapsed > 3000


def test_steps_come_in_order_and_each_lasts_its_time() -> None:
    """Each step asks for its own evidence and lasts at least its duration."""
    world = canary(STEPS)
    world.until(lambda: world.weight("2") == 50)
    began = world.elapsed
    world.until("Watching")
    assert world.weights_of("2") == [0, 10, 50, 100]
    assert world.elapsed - began >= 300, "the step of 5m was cut short"


def test_replicas_come_before_weight() -> None:
    """A step's pods are Ready before its weight is asked for: 1 of 8 for 10%, 4 for 50%, 8 for everything."""
    world = canary({**STEPS, "spec.serving.replicas": 8})
    seen = dict[int, int]()
    while world.state != "Watching":
        world.tick()
        seen.setdefault(world.wanted("2"), world.replicas("2"))
    assert {w: seen[w] for w in (10, 50, 100)} == {10: 1, 50: 4, 100: 8}


@pytest.mark.parametrize("restarting", [False, True])
def test_canary_at_everything_is_judged_alone(restarting: bool) -> None:
    """A plan that ends in 100% leaves no stable arm: the canary is then judged by the bound alone, and taken back."""
    world = canary({"spec.rollout.canary": {"traffic": "100%"}}, two=BAD)
    world.restarts_each_tick = restarting
    world.until(lambda: "RolledBack" in world.effects, most=600)
    assert world.wanted("1") == 100


def test_last_step_at_everything_begins_anew() -> None:
    """A version that turns bad only at the step of 100% is taken back, though no stable arm is left to compare with."""
    world = canary({"spec.rollout.canary": {"steps": [{"traffic": "50%"}, {"traffic": "100%", "duration": "10m"}]}})
    world.until(lambda: world.weight("2") == 100)
    world.does("2").errors = 0.2
    world.until(lambda: "RolledBack" in world.effects, most=300)
    assert world.wanted("1") == 100


def test_canary_plan_of_everything_promotes_a_good_version() -> None:
    """A plan of one step at 100% still asks for evidence before the version before may go."""
    world = canary({"spec.rollout.canary": {"traffic": "100%"}}).until("Watching")
    assert world.weights_of("2") == [0, 100]
    assert "StepPassed" in world.effects


def test_canary_gets_no_traffic_before_its_pods_are_scraped() -> None:
    """Nobody's requests go to a version that nobody could judge."""
    world = canary()
    world.data = DataState.NO_PROMETHEUS
    world.run(600)
    assert world.wanted("2") == 0 and world.state == "WaitingForMetrics"


def test_a_proxy_cannot_show_a_canary_before_its_first_request() -> None:
    """Where a proxy counts, the first traffic waits for no series: there would never be one."""
    world = canary()
    world.data = DataState.NO_PROMETHEUS
    world.run(600)
    assert not world.view().trial_is_seen
    assert replace(world.view(), by_pod=False).trial_is_seen


def test_what_auto_chose_is_in_the_status() -> None:
    """The next leader goes on with it; without Auto there is nothing."""
    world, chosen = canary(), ChosenDialect(name="MLServer", revision="fraud-1", message="it has series")
    told = decide(replace(world.view(), dialect=chosen), world.memory).status
    assert told.dialect == chosen
    assert decide(replace(world.view(), status=told), world.memory).status.dialect is None


def test_nothing_says_what_good_is() -> None:
    """Without objectives and rollbackOn a canary waits, and says what to add."""
    world = canary({"spec.objectives": [], "spec.rollout.rollbackOn": None})
    world.run(600)
    assert world.weight("2") == 10 and "add spec.objectives" in world.message


# --- a bad canary -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bad", "rule"), [(BAD, "errors"), (SLOW, "latency")], ids=["errors", "slow"])
def test_bad_canary_is_taken_back_and_kept_out(bad: Behaviour, rule: str) -> None:
    """A bad canary gets weight 0 within three looks, is quarantined, and stays out."""
    world = canary(two=bad)
    world.until(lambda: world.weight("2") == 10)
    world.run(30)
    assert world.effects[-1] == "RolledBack" and world.wanted("2") == 0
    assert world.records[-1].rule == rule and world.records[-1].verdict is Verdict.FAIL
    world.run(900)
    assert world.effects[-1] == "RolledBack", "it is not tried again by itself"
    assert world.state == "RolledBack" and world.replicas("2") == 0
    assert [world.condition(t).status for t in (ConditionType.ROLLED_BACK, ConditionType.STALLED)] == ["True", "True"]


def test_bad_canary_is_tried_again_by_a_higher_attempt_only() -> None:
    """Raising rollout.attempt is the retry; going back to an attempt that failed is none."""
    world = canary(two=BAD).until("RolledBack")
    world.change({"spec.rollout.attempt": 2})
    world.until(lambda: world.effects.count("RolledBack") == 2)
    world.change({"spec.rollout.attempt": 1})  # Git goes back
    world.run(300)
    assert world.effects.count("RolloutStarted") == 2, "attempt 1 failed already"
    world.does("2").errors = 0
    world.change({"spec.rollout.attempt": 3})
    world.until("Watching")


def test_bad_canary_makes_way_for_a_changed_spec() -> None:
    """Another version is tried at once; the bad one stays out when the spec comes back to it."""
    world = canary(two=BAD).until("RolledBack")
    world.ask("3")
    world.until("Watching")
    world.ask("2")
    world.run(120)
    assert world.effects.count("RolledBack") == 1 and world.wanted("3") == 100, "2 was taken back before"


def test_both_arms_bad_is_not_the_canarys_fault() -> None:
    """When both versions fail alike nothing is taken back and nothing promoted."""
    world = at_weight(rps=100)
    world.does("1").errors = world.does("2").errors = 0.2
    world.run(1800)
    assert world.weight("2") == 10 and world.effects[-2:] == ["WeightRaised", "SharedFault"]
    assert world.state == "SharedFault" and world.records[-1].cause is Cause.SHARED
    world.does("1").errors = world.does("2").errors = 0
    world.run(600)
    assert world.state == "CanaryRunning", "the incident is over"


def test_canary_may_replace_a_bad_stable_version() -> None:
    """A broken stable version does not keep a good one from being promoted."""
    world = World(versions={"1": Behaviour(errors=0.2)}).serving()
    world.ask("2")
    world.until("Watching")


def test_rollback_names_a_rule_that_takes_back() -> None:
    """With rollbackOn, a broken objective outside of it must not be blamed for the rollback of another."""
    world = canary(
        {
            "spec.rollout.rollbackOn": {"errorRate": ">1%"},
            "spec.objectives": [
                {"name": "latency", "latency": {"quantile": 0.99, "max": "800ms"}},
                {"name": "errors", "errorRate": {"max": "1%"}},
            ],
            "spec.rollout.analysis": {"judge": "Threshold", "threshold": {"minSamples": 10, "failures": 1}},
        },
        two=Behaviour(errors=0.2, slow=0.2),
    ).until("RolledBack")
    assert world.records[-1].rule == "errors" and "error rate" in world.records[-1].message


def test_objective_outside_rollback_on_must_pass_but_takes_nothing_back() -> None:
    """Too slow, and latency is not in rollbackOn: the canary is neither promoted nor taken back."""
    world = canary({"spec.rollout.rollbackOn": {"errorRate": ">1%"}}, two=SLOW).run(1200)
    assert world.weight("2") == 10 and world.effects[-1] == "WeightRaised"


def test_rollback_works_whatever_the_restart() -> None:
    """An operator that is killed after every tick takes the bad version back just as soon."""
    lengths = []
    for restarting in (False, True):
        world = canary(two=BAD)
        world.restarts_each_tick = restarting
        world.until("RolledBack")
        lengths.append(world.elapsed)
    assert lengths[0] == lengths[1]


# --- the spec changes meanwhile ---------------------------------------------------------------------------------


def test_spec_back_to_stable_ends_the_rollout_at_once() -> None:
    """The very next look sends everything to stable, and nobody is quarantined for it."""
    world = at_weight()
    world.ask("1")
    world.tick()
    assert world.wanted("2") == 0 and world.effects[-1] == "RolloutCancelled"
    world.run(60)
    assert world.weight("2") == 0 and world.state == "RolloutComplete" and not world.status.quarantined
    world.ask("2")
    world.rps = 100
    world.until("Watching")


def test_third_version_replaces_the_second_without_a_jump() -> None:
    """The second goes to 0 and the third begins at 0 in one look; stable has everything meanwhile."""
    world = at_weight(STEPS, weight=50, rps=100)
    world.ask("3")
    world.tick()
    assert (world.wanted("1"), world.wanted("2"), world.wanted("3")) == (100, 0, 0)
    assert world.effects[-2:] == ["RolloutReplaced", "RolloutStarted"]
    assert world.replicas("2") > 0, "the router still sends it requests until it has applied the change"
    world.until("Watching")
    assert world.weights_of("3") == [0, 10, 50, 100] and not world.lost, f"requests were lost: {world.lost}"


def test_slow_router_keeps_the_second_version_alive() -> None:
    """A revision is scaled down only after the router was seen to send it nothing, however long that takes."""
    world = at_weight(rps=100)
    world.router.delay = 400
    world.ask("3")
    world.run(380)
    assert world.weight("2") == 10 and world.replicas("2") == 1
    world.until(lambda: world.replicas("2") == 0)
    assert world.weight("2") == 0


def test_many_versions_in_a_row_never_scale_down_what_has_traffic() -> None:
    """More versions than the list of draining ones holds, and a router that takes nothing: the busy one stays up."""
    world = at_weight(rps=100)
    world.router.refusal = ("GatewayNotFound", "no such Gateway")
    for version in range(3, 3 + DRAINING_MAX + 3):
        world.ask(str(version))
        world.run(20)
    assert world.weight("2") == 10 and world.replicas("2") == 1 and not world.lost
    assert len(world.status.draining) <= DRAINING_MAX


def test_version_changed_during_the_watch() -> None:
    """A third version during the watch: the promoted one is what it is compared with; the first goes."""
    world = watched()
    world.ask("3")
    world.until("Watching")
    assert world.status.previous is not None and world.status.previous.version == "2"
    world.run(120)
    assert world.replicas("1") == 0


def test_previous_version_asked_for_during_the_watch_serves_at_once() -> None:
    """Going back to the version that is still warm needs no canary."""
    world = watched()
    world.ask("1")
    world.tick()
    assert world.wanted("1") == 100 and world.effects[-1] == "Reverted" and not world.status.quarantined


def test_previous_version_without_pods_comes_by_canary() -> None:
    """The warm version lost its pods: going back to it is a rollout like any other."""
    world = watched()
    world.does("1").dead = True
    world.ask("1")
    world.run(60)
    assert world.wanted("1") == 0 and world.status.canary is not None
    world.does("1").dead = False
    world.until("Watching")


# --- the watch --------------------------------------------------------------------------------------------------


def test_watch_takes_a_version_back_that_turns_bad() -> None:
    """An hour after its promotion it fails: the version before gets everything, and it is quarantined."""
    world = watched({"spec.rollout.analysis": {"interval": "30s"}}, tick=30)
    world.run(3600)
    world.does("2").errors = 0.2
    world.until("RolledBack", most=600)
    assert world.wanted("1") == 100 and world.status.quarantined[0].version == "2"
    assert world.status.previous is None


def test_watch_end_drains_only_what_the_router_was_seen_to_leave() -> None:
    """After the watch the version before is archived: scaled down once it has no traffic and no requests."""
    world = watched({"spec.rollout.watch": "30m"})
    assert world.replicas("1") == 1
    world.until(lambda: "WatchEnded" in world.effects)
    world.run(120)
    assert world.state == "RolloutComplete" and world.replicas("1") == 0 and not world.lost


def test_watch_of_no_length_still_waits_for_the_router() -> None:
    """watch 0s: the version before goes at once, but not before the router has left it."""
    world = canary({"spec.rollout.watch": "0s"})
    world.until(lambda: "Promoted" in world.effects)
    world.router.delay = 100
    world.run(60)
    assert world.replicas("1") == 1 and world.weight("1") > 0
    world.run(120)
    assert world.replicas("1") == 0 and not world.lost and world.state == "RolloutComplete"


def test_watch_returns_when_the_promoted_version_loses_all_pods() -> None:
    """Half a minute without a single Ready pod is enough, when the version before stands ready."""
    world = watched()
    world.does("2").dead, world.does("2").trouble = True, ("OOMKilled", "pod fraud-x: exit code 137")
    world.run(20)
    assert world.wanted("1") == 0, "a blip is no reason"
    world.run(40)
    assert world.wanted("1") == 100 and world.records[-1].effect == "StableUnavailable"
    assert "OOMKilled" in world.records[-1].message


@pytest.mark.parametrize("by_person", [False, True], ids=["evidence", "abort"])
def test_watch_sends_no_traffic_back_to_a_version_without_pods(by_person: bool) -> None:
    """A bad version that answers something is better than one that has no pod; it goes back once there is one."""
    world = watched()
    world.does("1").dead = True
    if by_person:
        world.change({"spec.rollout.override": {"revision": world.name("2"), "action": "Abort"}})
    world.does("2").errors = 0.2
    world.run(600)
    assert world.wanted("2") == 100 and world.state == "WaitingForPrevious", world.message
    world.does("1").dead = False
    world.until("RolledBack" if not by_person else "Aborted", most=120)
    assert world.wanted("1") == 100 and world.status.quarantined[0].version == "2"


def test_watch_lets_a_fix_through_when_there_is_nothing_to_return_to() -> None:
    """Bad, and the version before has no pods: a third version in the spec may still come."""
    world = watched()
    world.does("1").dead, world.does("2").errors = True, 0.2
    world.until("WaitingForPrevious")
    world.ask("3")
    world.until("Watching")
    assert world.wanted("3") == 100


# --- pods -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tick", [2.0, 10.0])
def test_crash_loop_cannot_outlive_the_progress_deadline(tick: float) -> None:
    """A canary that is Ready for 20s of each minute has 10m of unavailability after 15: the sum counts."""
    world = canary(two=CRASHING, tick=tick, rps=0.2)
    world.until(lambda: "ProgressDeadlineExceeded" in world.effects, most=1500)
    assert "CrashLoopBackOff" in world.records[-1].message and "exit code 3" in world.records[-1].message
    assert world.state == "ProgressDeadlineExceeded" and world.status.quarantined


def test_slow_pods_of_several_steps_do_not_add_up() -> None:
    """Each step asks for more pods that take four minutes: sixteen in all, and no step alone is past its ten."""
    plan = _plan(["10%", "40%", "70%"])
    world = canary({**plan, "spec.serving.replicas": 10}, two=Behaviour(ready_after=240)).until("Watching")
    assert world.elapsed > 4 * 240 and "ProgressDeadlineExceeded" not in world.effects


def test_canary_that_never_starts_fails_at_the_deadline_with_the_pods_own_reason() -> None:
    """It never gets traffic, and after ten minutes the condition says why."""
    world = canary(two=NEVER).run(660)
    assert world.weights_of("2") == [0]
    assert world.state == "ProgressDeadlineExceeded" and "ImagePullBackOff" in world.message


def test_refused_children_are_told_as_the_reason() -> None:
    """The API server takes no pods (a quota): its own words are the reason."""
    world = canary()
    world.refusal = 'deployments.apps is forbidden: exceeded quota "small"'
    world.run(60)
    assert "exceeded quota" in world.message


def test_canary_that_loses_all_pods_is_shielded_and_comes_back() -> None:
    """Its share goes to stable while it has no pod, and returns with it."""
    world = at_weight(rps=1)
    world.does("2").dead = True
    world.run(20)
    assert world.wanted("2") == 0 and world.state in ("CanaryUnavailable", "CanaryStarting")
    assert "CanaryUnavailable" in world.effects
    world.does("2").dead = False
    world.until(lambda: world.weight("2") == 10)


def test_canary_that_dies_while_it_is_promoted_comes_back_at_its_last_step() -> None:
    """Its steps are passed, its last pods start, and all die: it does not come back from nothing to everything."""
    world = canary({"spec.serving.replicas": 4})
    world.does("2").ready_after = 10
    world.until(lambda: "StepPassed" in world.effects)
    world.does("2").dead = True
    world.run(30)
    assert world.wanted("2") == 0
    world.does("2").dead = False
    world.until("Watching")
    assert world.weights_of("2") == [0, 10, 0, 10, 100]


# --- no evidence ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [*BLIND, DataState.UNSUPPORTED])
@pytest.mark.parametrize("two", [Behaviour(), BAD], ids=["good", "bad"])
def test_data_that_does_not_flow_neither_promotes_nor_takes_back(state: DataState, two: Behaviour) -> None:
    """Weights stay where they are, the reason is told, and all goes on once data flow again."""
    world = at_weight(rps=100, two=two)
    decided = len(world.records)
    world.data = state
    world.run(900)
    assert world.weight("2") == 10 and len(world.records) == decided
    assert world.condition(ConditionType.EVIDENCE_AVAILABLE).reason == state.value
    assert world.status.rollout is not None and world.status.rollout.reason == state.value
    world.data = None
    world.until("RolledBack" if two is BAD else "Watching", most=600)


def test_no_traffic_neither_promotes_nor_takes_back() -> None:
    """Nobody asks the model: that is a state of its own, with its own reason."""
    world = at_weight()
    world.rps = 0
    world.run(1800)
    assert world.weight("2") == 10 and world.effects[-1] == "WeightRaised"
    assert world.condition(ConditionType.EVIDENCE_AVAILABLE).reason == "NoTraffic"


@pytest.mark.parametrize(
    ("asked", "effect", "weight"),
    [("Hold", "Inconclusive", 10), ("Promote", "Promoted", 100), ("Rollback", "RolledBackInconclusive", 0)],
)
def test_deadline_without_a_verdict(asked: str, effect: str, weight: int) -> None:
    """With too little traffic the canary waits for its deadline, and then gets what onInconclusive says."""
    world = at_weight({"spec.rollout.onInconclusive": asked, "spec.rollout.deadline": "30m"}, rps=0.1)
    world.until(lambda: world.elapsed > 2000)
    assert world.effects[-1] == effect and world.wanted("2") == weight
    if asked == "Hold":
        assert world.state == "Inconclusive" and "held at 10%" in world.message
        world.rps = 100
        world.until("Watching")


@pytest.mark.parametrize("state", [*BLIND, DataState.UNSUPPORTED])
def test_outage_at_the_deadline_promotes_nothing(state: DataState) -> None:
    """onInconclusive Promote is for too little evidence, not for metrics that are down: absence of data holds."""
    world = at_weight({"spec.rollout.onInconclusive": "Promote", "spec.rollout.deadline": "30m"}, rps=0.1)
    world.data = state
    world.run(3600)
    assert world.wanted("2") == 10 and world.state == "Inconclusive"
    world.data = None
    world.until("Watching")


def test_deadline_promotes_nothing_that_never_had_its_weight() -> None:
    """Two hours without a Gateway: the canary does not go from nothing to everything when it comes."""
    world = canary({"spec.rollout.onInconclusive": "Promote", "spec.rollout.deadline": "30m"}, rps=0.1)
    world.router.refusal = ("GatewayNotFound", "no such Gateway")
    world.run(3600)
    world.router.refusal = None
    world.until("Watching")
    assert world.weights_of("2") == [0, 10, 100]


def test_deadline_promotes_nothing_that_breaks_a_rule() -> None:
    """An objective outside rollbackOn that is broken is a verdict, not the lack of one."""
    world = canary(
        {
            "spec.rollout.rollbackOn": {"errorRate": ">1%"},
            "spec.rollout.onInconclusive": "Promote",
            "spec.rollout.deadline": "30m",
            "spec.rollout.analysis": {"judge": "Threshold"},
        },
        two=SLOW,
    ).run(3600)
    assert world.wanted("2") == 10 and world.state == "Inconclusive"


# --- a person's word --------------------------------------------------------------------------------------------


def test_suspend_advance_stops_what_rises_but_not_what_falls() -> None:
    """Nothing starts, rises or is promoted; a bad canary is still taken back."""
    world = at_weight(rps=100)
    world.change({"spec.suspend": {"mode": "Advance"}})
    world.run(900)
    assert world.weight("2") == 10 and world.state == "Suspended"
    world.does("2").errors = 0.2
    world.until(lambda: "RolledBack" in world.effects, most=600)


def test_suspend_all_stops_everything() -> None:
    """Nothing moves at all, not even a bad canary; without suspend it is taken back at once."""
    world = at_weight(two=BAD, rps=100)
    world.change({"spec.suspend": {"mode": "All"}})
    world.run(900)
    assert world.weight("2") == 10 and world.state == "Suspended"
    world.change({"spec.suspend": None})
    world.run(10)
    assert world.wanted("2") == 0


@pytest.mark.parametrize("mode", ["Advance", "All"])
def test_the_deadline_does_not_run_while_suspended(mode: str) -> None:
    """Paused for a night, the rollout has as much time left in the morning as it had in the evening."""
    world = at_weight({"spec.rollout.onInconclusive": "Rollback", "spec.rollout.deadline": "30m"}, rps=0.1)
    assert world.status.rollout is not None
    began = world.status.rollout.start_time
    for _ in range(2):
        world.change({"spec.suspend": {"mode": mode}})
        world.run(3600)
        world.change({"spec.suspend": None})
        world.run(30)
        assert world.wanted("2") == 10, f"taken back after a pause: {world.message}"
    world.until(lambda: world.wanted("2") == 0, most=3600)
    ran = (world.now - began).total_seconds() - 7200
    assert 1800 <= ran <= 1830, "the deadline is the time not suspended"


@pytest.mark.parametrize("mode", ["Advance", "All"])
def test_suspended_spec_change_starts_nothing(mode: str) -> None:
    """A new version that comes during a pause waits for its end."""
    world = World({"spec.suspend": None}).serving()
    world.change({"spec.suspend": {"mode": mode}, "spec.model.version": "2"})
    world.run(300)
    assert world.status.canary is None and world.state == "Suspended"
    world.change({"spec.suspend": None})
    world.until("Watching")


def test_the_watch_ends_while_suspended() -> None:
    """A version that waits for the end of a pause does not keep the one before the present one warm for ever."""
    world = watched({"spec.rollout.watch": "10m"})
    world.change({"spec.suspend": {"mode": "Advance"}, "spec.model.version": "3"})
    world.until(lambda: world.status.previous is None, most=700)
    assert world.state == "Suspended" and world.wanted("2") == 100


@pytest.mark.parametrize("suspend", [None, {"mode": "Advance"}, {"mode": "All"}], ids=["none", "advance", "all"])
def test_abort_beats_everything(suspend: dict[str, str] | None) -> None:
    """Abort takes the canary back in the same look, whatever is suspended, and keeps it out."""
    world = at_weight()
    world.change({"spec.suspend": suspend, "spec.rollout.override": {"revision": world.name("2"), "action": "Abort"}})
    world.tick()
    assert world.wanted("2") == 0 and world.effects[-1] == "Aborted"
    world.change({"spec.suspend": None})
    world.run(300)
    assert world.effects[-1] == "Aborted" and world.state == "Aborted"


@pytest.mark.parametrize("action", ["Abort", "Promote"])
def test_a_word_counts_for_the_rollout_that_it_was_said_about(action: str) -> None:
    """Said once with its time, it does not touch a later rollout of the same revision: a retry after an abort runs, and
    a version that was promoted and taken back gets a canary again."""
    world = at_weight()
    said = {"revision": world.name("2"), "action": action, "requestTime": world.now.isoformat()}
    world.change({"spec.rollout.override": said})
    world.does("2").errors = 0.3
    world.rps = 200
    taken_back = "Aborted" if action == "Abort" else "RolledBack"
    world.until(lambda: taken_back in world.effects)
    world.run(300)
    assert world.status.stable is not None and world.status.stable.version == "1"
    weights = len(world.weights_of("2"))
    world.change({"spec.rollout.attempt": 2})
    world.does("2").errors = 0.0
    world.until("Watching")
    assert world.weights_of("2")[weights:] == [10, 100], "the retry did not run as any rollout"


def test_a_retry_of_one_version_lets_no_other_in() -> None:
    """Versions 2 and 3 were taken back; 3 is retried and serves. Git goes back to 2, which nobody asked to retry."""
    world = canary(two=BAD).until("RolledBack")
    world.behaviours["3"] = Behaviour(errors=0.3)
    world.ask("3")
    world.until(lambda: world.effects.count("RolledBack") == 2)
    world.does("3").errors = 0.0
    world.change({"spec.rollout.attempt": 2, "spec.rollout.watch": "1m"})
    world.until(lambda: world.weight("3") == 100 and world.state == "RolloutComplete")
    world.ask("2")
    world.run(300)
    assert world.weights_of("2") == [0, 10, 0] and world.state == "RolledBack"


def test_an_attempt_raised_in_mid_rollout_is_no_retry() -> None:
    """It is taken for the rollout under way: what that one proves bad is not started again by itself."""
    world = at_weight()
    world.change({"spec.rollout.attempt": 2})
    world.does("2").errors = 0.3
    world.rps = 200
    world.until("RolledBack")
    world.run(300)
    assert world.effects.count("RolloutStarted") == 1 and world.status.quarantined[0].attempt == 2


def test_an_autoscaler_makes_no_canary_late() -> None:
    """A canary that has its weight is not taken back because more pods are asked for than start in time."""
    world = at_weight({"spec.serving.replicas": 10, "spec.rollout.progressDeadline": "5m"})
    world.does("2").ready_after = None
    world.change({"spec.serving.replicas": 30})
    world.run(900)
    assert world.wanted("2") == 10, world.message


def test_a_version_that_was_promoted_is_not_taken_back_for_the_same_rate() -> None:
    """Both versions fail 1.5 %, the bound is 1 %, promotion ruled out 2 %: the watch asks for no more than that."""
    versions = {"1": Behaviour(errors=0.015), "2": Behaviour(errors=0.015)}
    world = World({"spec.rollout.watch": "2h"}, versions=versions, rps=100).serving()
    world.ask("2")
    world.until("Watching", most=7200)
    world.until("RolloutComplete", most=7300)
    assert "RolledBack" not in world.effects


@pytest.mark.parametrize(("errors", "effect"), [(1.0, "WaitingForStable"), (0.0, "Promoted")], ids=["bad", "good"])
def test_a_canary_beside_a_dead_stable_version_is_judged_alone(errors: float, effect: str) -> None:
    """No request of stable to compare with: the bound alone judges. What is bad is taken back once stable is there."""
    world = World(versions={"2": Behaviour(errors=errors)}, rps=100).serving()
    world.does("1").dead = True
    world.ask("2")
    world.until(lambda: effect in world.effects, most=1800)
    if effect == "WaitingForStable":
        world.run(120)
        assert world.effects.count(effect) == 1 and world.wanted("2") == 10, "it is told once, and its requests stay"
        world.does("1").dead = False
        world.until(lambda: world.effects[-1] == "RolledBack", most=60)


def test_a_person_may_promote_what_alone_answers() -> None:
    """Nothing serves but a canary that is to be taken back: a person's word counts."""
    world = World(versions={"2": Behaviour(errors=0.03)}, rps=100).serving()
    world.does("1").dead = True
    world.ask("2")
    world.until("WaitingForStable", most=1800)
    world.change({"spec.rollout.override": {"action": "Promote", "revision": world.name("2")}})
    world.until("Watching", most=120)


def test_a_canary_that_lost_some_pods_is_not_given_up_for_nothing() -> None:
    """Past its progress deadline, with a Ready pod, beside a stable version without any: it keeps what it answers."""
    steps = {"spec.serving.replicas": 4, "spec.rollout.canary": {"steps": [{"traffic": "25%"}, {"traffic": "75%"}]}}
    world = World({**steps, "spec.rollout.progressDeadline": "1m"}, rps=100).serving()
    world.ask("2")
    world.until(lambda: world.weight("2") == 25)
    world.does("2").ready_after = None
    world.does("1").dead = True
    world.until("WaitingForStable", most=1800)
    assert world.wanted("2") == 25
    world.does("1").dead = False
    world.until("ProgressDeadlineExceeded", most=120)


def test_a_finer_plan_raises_no_weight() -> None:
    """More careful steps in mid-rollout: the weight stays or falls, and rises by evidence alone."""
    world = at_weight({"spec.rollout.canary": {"steps": [{"traffic": "10%"}, {"traffic": "50%"}]}})
    world.change({"spec.rollout.canary": {"steps": [{"traffic": t} for t in ("5%", "20%", "50%")]}})
    world.run(60)
    assert world.weights_of("2") == [0, 10, 5]


def test_old_evidence_promotes_nothing() -> None:
    """Looks at Prometheus hang: what the last one said does not stay true for ever."""
    world = at_weight({"spec.rollout.canary": {"steps": [{"traffic": "10%", "duration": "1h"}]}}, rps=200)
    world.until(lambda: world.status.rollout is not None and world.status.rollout.verdict is Verdict.PASS)
    later = replace(world.view(), now=world.now + timedelta(hours=1))
    decision = decide(later, world.memory)
    assert [r.effect for r in decision.records] == []
    found = find(decision.status.conditions, ConditionType.EVIDENCE_AVAILABLE)
    assert found is not None and (found.status, found.reason) == ("False", "StaleData")


def test_a_watch_ends_though_its_predecessor_has_no_pods() -> None:
    """Bad, and nothing to return to: once the watch is over it is over, and nothing falls back hours later."""
    world = watched({"spec.rollout.watch": "10m"})
    world.does("1").dead = True
    world.does("2").errors = 0.3
    world.run(900)
    assert world.status.previous is None and world.effects[-1] == "WatchEnded"


def test_a_watch_can_be_shortened() -> None:
    """The watch is as long as the spec says now."""
    world = watched({"spec.rollout.watch": "24h"})
    world.change({"spec.rollout.watch": "1m"})
    world.run(120)
    assert world.status.previous is None and world.state == "RolloutComplete"


def test_a_revert_without_the_pods_that_it_needs_comes_by_canary() -> None:
    """The version that serves is not said to be bad, so its traffic does not go to one pod of four at once."""
    world = watched({"spec.serving.replicas": 4, "spec.rollout.watch": "24h"})
    world.does("1").ready_after = 120.0
    world._pods[world.name("1")] = world._pods[world.name("1")][:1]
    world.ask("1")
    world.run(30)
    assert world.wanted("1") <= 10, "one pod of four got all of the traffic"
    world.until(lambda: world.wanted("1") == 100)


def test_abort_beats_a_promotion_under_way() -> None:
    """Every step is passed and the last pods are starting: an abort still counts."""
    world = canary({"spec.serving.replicas": 4})
    world.until(lambda: "StepPassed" in world.effects)
    assert world.wanted("2") == 10
    world.change({"spec.rollout.override": {"revision": world.name("2"), "action": "Abort"}})
    world.tick()
    assert world.effects[-1] == "Aborted" and world.wanted("2") == 0


def test_abort_during_the_watch_returns_to_the_version_before() -> None:
    """Abort means the promoted version while it is watched."""
    world = watched()
    world.change({"spec.rollout.override": {"revision": world.name("2"), "action": "Abort"}})
    world.tick()
    assert world.wanted("1") == 100 and world.status.quarantined[0].reason == "Aborted"


def test_abort_of_another_revision_does_nothing() -> None:
    """An override names its revision: one left from the last rollout does not touch the next."""
    world = World().serving()
    world.change({"spec.rollout.override": {"revision": "fraud-0000000000", "action": "Abort"}})
    world.ask("2")
    world.until("Watching")


def test_promote_skips_what_is_left() -> None:
    """A person's promote skips evidence and steps, not the pods that the traffic needs."""
    world = at_weight({"spec.serving.replicas": 4})
    world.does("2").ready_after = 60
    world.change({"spec.rollout.override": {"revision": world.name("2"), "action": "Promote"}})
    world.run(30)
    assert world.wanted("2") == 10, "three pods are not Ready yet"
    world.until("Watching")
    assert "PromotionRequested" in world.effects and world.wanted("2") == 100


@pytest.mark.parametrize("mode", ["Advance", "All"])
def test_promote_waits_for_the_end_of_a_pause(mode: str) -> None:
    """Paused and told to promote: the pause counts."""
    world = at_weight()
    override = {"revision": world.name("2"), "action": "Promote"}
    world.change({"spec.suspend": {"mode": mode}, "spec.rollout.override": override})
    world.run(120)
    assert world.wanted("2") == 10
    world.change({"spec.suspend": None})
    world.until("Watching")


def test_promote_does_not_save_a_bad_canary() -> None:
    """Evidence of failure is stronger than a wish, while the pods of the promotion are still starting."""
    world = canary({"spec.serving.replicas": 4}, two=BAD)
    world.until(lambda: world.wanted("2") == 10)
    world.does("2").ready_after = 600
    world.change({"spec.rollout.override": {"revision": world.name("2"), "action": "Promote"}})
    world.until("RolledBack", most=120)


# --- the plan is edited in mid-rollout ---------------------------------------------------------------------------

_PLANS: dict[str, tuple[list[str], list[str], int]] = {
    "lower, fewer steps": (["10%", "50%"], ["5%"], 5),
    "lower, as many steps": (["50%"], ["5%"], 5),
    "lower, more steps": (["50%"], ["5%", "10%", "20%"], 20),
    "higher, as many steps": (["10%"], ["30%"], 30),
    "same weight with more before": (["50%"], ["10%", "50%"], 50),
}


@pytest.mark.parametrize(("before", "after", "weight"), _PLANS.values(), ids=_PLANS)
def test_edited_plan_moves_the_weight_and_promotes_nothing(before: list[str], after: list[str], weight: int) -> None:
    """The weight follows the new plan, down too; no edit promotes without evidence."""
    world = at_weight(_plan(before), weight=int(before[0][:-1]))
    if len(before) > 1:
        world.rps = 100
        world.until(lambda: world.weight("2") == 50)
    world.rps = 0.1
    world.run(20)
    world.change(_plan(after))
    world.run(300)
    assert world.weight("2") == weight and "Promoted" not in world.effects
    assert world.replicas("2") == 1 and not world.lost
    world.rps = 100
    world.until("Watching")


def _plan(weights: list[str]) -> dict[str, Any]:
    return {"spec.rollout.canary": {"steps": [{"traffic": w} for w in weights]}}


def test_pods_go_after_the_weight_that_was_lowered() -> None:
    """A plan cut from 50% to 10%: the pods for 50% stay until the router was seen at 10%."""
    world = at_weight({**_plan(["50%"]), "spec.serving.replicas": 10}, weight=50)
    world.router.delay = 60
    world.change(_plan(["10%"]))
    world.run(40)
    assert (world.weight("2"), world.replicas("2")) == (50, 5)
    world.run(60)
    assert (world.weight("2"), world.replicas("2")) == (10, 1)


def test_plan_lowered_during_a_pause_is_followed() -> None:
    """suspend Advance stops what rises: a lower plan is still followed."""
    world = at_weight(_plan(["50%"]), weight=50)
    world.change({"spec.suspend": {"mode": "Advance"}, **_plan(["10%"])})
    world.run(30)
    assert world.weight("2") == 10


# --- the router -------------------------------------------------------------------------------------------------


def test_refused_route_holds_everything_and_says_why() -> None:
    """A Gateway that refuses the route: no weight rises, and the condition has its own words."""
    world = canary()
    world.router.refusal = ("NoMatchingListenerHostname", "no listener has fraud.example.com")
    world.run(300)
    assert world.wanted("2") == 0
    route = world.condition(ConditionType.ROUTE_PROGRAMMED)
    assert (route.status, route.reason) == ("False", "NoMatchingListenerHostname")
    assert world.condition(ConditionType.READY).status == "False"
    world.router.refusal = None
    world.until("Watching")


def test_hostname_conflict_holds_everything_and_says_why() -> None:
    """Another ModelDeployment has the host name: no weight rises, and the condition names it."""
    world = canary()
    world.conflict = "fraud.example.com/ on Gateway default/public belongs to ModelDeployment default/older"
    world.run(300)
    assert world.wanted("2") == 0 and "older" in world.message
    assert world.condition(ConditionType.ROUTE_PROGRAMMED).reason == "HostnameConflict"


def test_first_version_without_its_hostname_is_up_and_not_ready() -> None:
    """Its pods run, no route is made, and the conditions say whose name it is."""
    world = World()
    world.conflict = "fraud.example.com/ on Gateway default/public belongs to ModelDeployment default/older"
    world.run(120)
    assert world.condition(ConditionType.READY).status == "False" and not world.router.written
    assert world.condition(ConditionType.ROUTE_PROGRAMMED).reason == "HostnameConflict"
    assert world.state == "WaitingForRouter" and "older" in world.message
    world.conflict = ""
    world.serving()


def test_weight_is_seen_before_it_counts() -> None:
    """A slow router: the step begins when it was seen to send the weight, and status shows what it does."""
    world = canary(rps=100)
    world.router.delay = 300
    world.until(lambda: world.wanted("2") == 10)
    world.run(120)
    assert world.status.canary is not None and world.status.canary.weight == 0, "asked for is not applied"
    assert world.state == "WaitingForRouter" and world.condition(ConditionType.ROUTE_PROGRAMMED).status == "Unknown"
    world.until("Watching", most=7200)


def test_first_version_is_not_ready_before_the_route_is() -> None:
    """Ready means that traffic flows now: a route that no Gateway has taken yet carries none."""
    world = World()
    world.router.delay = 120
    world.run(60)
    assert world.status.stable is not None
    assert world.condition(ConditionType.READY).status == "False", "no Gateway has taken the route yet"
    world.serving()
    assert world.condition(ConditionType.READY).status == "True"


# --- bounds -----------------------------------------------------------------------------------------------------


def test_quarantine_is_bounded_and_keeps_the_newest() -> None:
    """A dozen bad versions: the list holds the last ten."""
    world = World(rps=1000).serving()
    for version in range(2, 2 + QUARANTINED_MAX + 2):
        world.does(str(version)).errors = 0.3
        world.ask(str(version))
        world.until("RolledBack")
    assert [q.version for q in world.status.quarantined] == [str(v) for v in range(13, 3, -1)]


def test_raised_bound_forgets_what_was_proven_on_the_old_one() -> None:
    """2% errors break a bound of 1%, not one of 5%: an edit of the bound is judged on evidence of the new one."""
    world = at_weight(two=Behaviour(errors=0.02), rps=100)
    world.change({"spec.suspend": {"mode": "All"}})
    world.run(1800)
    assert world.status.rollout is not None and world.status.rollout.verdict is Verdict.FAIL
    world.change(
        {"spec.suspend": None, "spec.objectives[0].errorRate.max": "5%", "spec.rollout.rollbackOn.errorRate": ">5%"}
    )
    world.until("Watching")


def test_lowered_bound_asks_for_its_own_proof() -> None:
    """What passed a bound of 5% has not passed one of 1%."""
    loose = {"spec.objectives[0].errorRate.max": "5%", "spec.rollout.rollbackOn.errorRate": ">5%"}
    world = canary({**_plan(["10%"]), **loose, "spec.rollout.canary.steps[0].duration": "30m"}, rps=10)
    world.until(lambda: world.status.rollout is not None and world.status.rollout.verdict is Verdict.PASS)
    world.change({"spec.objectives[0].errorRate.max": "0.1%", "spec.rollout.rollbackOn.errorRate": ">0.1%"})
    world.tick()
    assert world.status.rollout is not None and world.status.rollout.verdict is Verdict.INCONCLUSIVE


def test_hours_of_rollout_take_less_than_a_second() -> None:
    """The simulator stays quick enough to be used for everything."""
    began = time.process_time()
    watched({"spec.rollout.analysis.interval": "1m"}, tick=30).run(4 * 3600)
    assert time.process_time() - began < 3.0


def test_a_pause_says_what_waits() -> None:
    """The message names the version that the spec asks for meanwhile; in the watch it says that there is a pause."""
    world = World().serving()
    world.change({"spec.suspend": {"mode": "Advance"}})
    world.ask("2")
    world.run(30)
    assert world.state == "Suspended" and "2 waits" in world.message
    watched = World().serving()
    watched.ask("2")
    watched.until("Watching")
    watched.change({"spec.suspend": {"mode": "Advance"}})
    watched.run(30)
    assert watched.state == "Watching" and "suspended by a person (Advance)" in watched.message
