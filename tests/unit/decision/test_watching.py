"""The watch after promotion: an alarm asks for a comparison, and only what is worse is taken back."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from modeldeployment.api.status import Cause
from modeldeployment.decision.evidence import DataState
from modeldeployment.decision.hypothesis import Bound, Compare, Plan
from modeldeployment.decision.memory import COMPARE_SECONDS, plan
from modeldeployment.decision.sequential import RuleState
from unit.decision.worlds import Behaviour, World

_NEW = Bound(0.01), Plan(1)


def watched(overrides: dict[str, Any] | None = None, **more: Any) -> World:
    """Version 2 is promoted and watched, version 1 kept warm; both do well."""
    world = World(overrides, **more).serving()
    world.ask("2")
    return world.until("Watching").run(300)


def both(world: World, **does: float) -> None:
    """Both versions do so."""
    for version in "12":
        for name, value in does.items():
            setattr(world.does(version), name, value)


def test_an_incident_of_everybody_takes_nothing_back() -> None:
    """Alarm, half of the traffic to each for ten minutes, no proof against the new one: it serves again."""
    world = watched()
    both(world, errors=0.2)
    world.until("Comparing", most=60)
    world.until(lambda: world.weight("1") == 50 == world.weight("2"), most=60)
    world.run(60)
    both(world, errors=0.0)
    world.until("Watching", most=COMPARE_SECONDS)
    assert world.wanted("2") == 100 and world.wanted("1") == 0
    assert world.effects[-2:] == ["WatchAlarm", "ComparisonEnded"] and world.records[-1].cause is Cause.SHARED
    assert world.run(1800).state == "Watching" and not world.status.quarantined


def test_a_version_that_turned_bad_is_taken_back_by_the_comparison() -> None:
    """The one before gets half of the traffic, then all of it; the alarm and the proof name rule and numbers."""
    world = watched()
    world.does("2").errors = 0.2
    world.until("RolledBack", most=120)
    assert world.effects[-2:] == ["WatchAlarm", "RolledBack"] and world.weights_of("1")[-2:] == [50, 100]
    alarm, back = world.records[-2:]
    assert (alarm.rule, back.rule, back.cause) == ("errors", "errors", Cause.CANARY)
    assert alarm.numbers is not None and alarm.numbers.stable_requests is None, "the watch compares with nothing"
    assert back.numbers is not None and back.numbers.stable_requests, "the comparison compares"
    assert world.status.quarantined[0].version == "2"


def test_slow_requests_alarm_too() -> None:
    """Every rule that takes a version back is watched."""
    world = watched()
    world.does("2").slow = 0.2
    world.until("RolledBack", most=180)
    assert world.records[-1].rule == "latency"


def test_comparisons_share_the_watchs_error_bound() -> None:
    """The watch has a fifth of falseRollback; its first comparison half of that, the second a quarter."""
    world = watched()
    alphas = []
    for _ in range(3):
        both(world, errors=0.2)
        world.until("Comparing", most=120)
        assert world.status.rollout is not None
        alphas.append(plan(world.spec, world.status.rollout).alpha)
        both(world, errors=0.0)
        world.until("Watching", most=2 * COMPARE_SECONDS).run(60)
    assert alphas == pytest.approx([0.005, 0.0025, 0.00125])
    assert world.status.rollout is not None and world.status.rollout.alarms == 3


def test_an_incident_without_end_does_not_move_the_traffic_for_ever() -> None:
    """Both bad for a day: after two comparisons each one waits, twice as long every time."""
    world = watched()
    both(world, errors=0.05)
    world.run(6 * 3600)
    times = [record.time for record in world.records if record.effect == "WatchAlarm"]
    gaps = [(b - a).total_seconds() for a, b in itertools.pairwise(times)]
    assert len(times) <= 7 and gaps == sorted(gaps) and gaps[-1] > 8 * COMPARE_SECONDS


def test_a_third_version_ends_a_comparison() -> None:
    """The promoted version gets all of the traffic back, the one before drains, the third comes as a canary."""
    world = watched()
    both(world, errors=0.2)
    world.until("Comparing", most=60).run(30)
    world.ask("3")
    world.run(30)
    assert world.wanted("1") == 0 and world.wanted("2") + world.wanted("3") == 100
    assert world.status.previous is None and world.status.canary is not None


def test_the_watch_may_end_in_a_comparison() -> None:
    """The version before is archived, and the promoted one has all of the traffic."""
    world = watched({"spec.rollout.watch": "10m"})
    world.until(lambda: bool(world.status.previous and world.elapsed > 600))
    both(world, errors=0.2)
    world.until("RolloutComplete", most=900)
    assert world.weight("2") == 100 and "WatchEnded" in world.effects and not world.lost


def test_nothing_to_compare_with() -> None:
    """The version before has no pods: nobody is blamed, the state says what is missing; once it has, it compares."""
    world = watched()
    world.does("1").dead = True
    world.run(30)
    both(world, errors=0.2)
    world.run(300)
    assert world.state == "WaitingForPrevious" and world.wanted("2") == 100
    world.does("1").dead = False
    world.until("Comparing", most=60)


def test_the_version_before_dies_in_a_comparison() -> None:
    """Its half of the traffic goes back at once."""
    world = watched()
    both(world, errors=0.2)
    world.until("Comparing", most=60).run(30)
    world.does("1").dead = True
    world.run(20)
    assert world.wanted("2") == 100 and world.records[-1].effect == "ComparisonEnded"
    assert world.records[-1].cause is Cause.PLATFORM


@pytest.mark.parametrize("fails", [True, False])
def test_a_new_leader_goes_on_with_a_comparison(fails: bool) -> None:
    """Killed before every look from the alarm on: the same decisions."""

    def play(killed: bool) -> list[tuple[str, float]]:
        world = watched(rps=20)
        world.does("2").errors = 0.05
        world.does("1").errors = 0.0 if fails else 0.05
        world.restarts_each_tick = killed
        world.fleeting_pods = True
        world.run(900)
        return [(record.effect, (record.time - world.records[0].time).total_seconds()) for record in world.records]

    assert play(killed=False) == play(killed=True)


def test_how_much_stable_varies_is_known_in_the_watch() -> None:
    """What the rollout learned of it is kept over the promotion: the watch starts with it, and not from nothing."""
    world = World(versions={"1": Behaviour(errors=0.005), "2": Behaviour(errors=0.005)}, rps=50).serving()
    world.ask("2")
    world.until("Watching")
    learned = world.memory.states["errors"]
    world.run(300)
    known = world.memory.states["errors"]
    assert isinstance(learned, RuleState) and isinstance(known, RuleState)
    assert known.bound.compare is Compare.WATCH
    assert known.thetas[0] == learned.thetas[0] != RuleState(*_NEW).thetas[0]


@pytest.mark.parametrize("causes", [[], ["Shared"]])
def test_a_proof_that_may_not_take_back_ends_the_comparison(causes: list[str]) -> None:
    """The spec does not name Canary: what is proven is said, once, and traffic is not moved again for it."""
    world = watched({"spec.rollout.rollbackOnCauses": causes})
    world.does("2").errors = 0.2
    world.until(lambda: world.effects[-1] == "ComparisonEnded", most=300)
    ended = world.records[-1]
    assert (ended.cause, ended.rule) == (Cause.CANARY, "errors") and "is proven worse than 1" in ended.message
    world.run(3600)
    assert world.effects.count("WatchAlarm") == 1 and world.wanted("2") == 100


def test_a_comparison_that_saw_nothing_proves_nothing() -> None:
    """Prometheus is away: its ten minutes begin again to run with the evidence, and who is worse is taken back."""
    world = watched()
    world.does("2").errors = 0.2
    world.until("Comparing", most=120)
    world.data = DataState.NO_PROMETHEUS
    world.run(COMPARE_SECONDS + 60)
    assert world.state == "Comparing", "without evidence it has not lasted yet"
    world.data = None
    world.until("RolledBack", most=120)


def test_a_comparison_without_evidence_ends() -> None:
    """The router never sends the halves: nobody is said to be good or bad, and the traffic goes back."""
    world = watched()
    world.does("2").errors = 0.2
    world.until(lambda: "WatchAlarm" in world.effects, most=120)
    world.router.refusal = ("Rejected", "the Gateway does not want it")
    world.until(lambda: world.effects[-1] == "ComparisonEnded", most=4 * COMPARE_SECONDS)
    ended = world.records[-1]
    assert ended.cause is None and "could not be compared" in ended.message and "does not want it" in ended.message


def test_one_bad_pod_takes_no_version_back() -> None:
    """The comparison finds that its other pods are good: the pod is named, and the version stays."""
    world = watched()
    world.does("2").errors, world.does("2").pods = 0.1, ("a", "b", "c")
    world.until(lambda: world.effects[-1] == "ComparisonEnded", most=900)
    ended = world.records[-1]
    assert ended.cause is Cause.POD and "-a on node" in ended.message, ended.message
    assert world.wanted("2") == 100 and not world.status.quarantined


def test_a_clean_predecessor_is_no_hindrance() -> None:
    """Version 1 never failed in the hour beside it, version 2 fails 5 % later: in minutes it is taken back."""
    world = watched({"spec.rollout.canary": {"steps": [{"traffic": "10%", "duration": "50m"}]}})
    world.does("2").errors = 0.05
    world.until("RolledBack", most=600)
    assert world.effects.count("WatchAlarm") == 1


def test_a_comparison_without_requests_proves_nothing() -> None:
    """Clients are gone: nobody is said to be no worse, and nothing to be shared."""
    world = watched()
    world.does("2").errors = 0.2
    world.until("Comparing", most=120)
    world.rps = 0.0
    world.until(lambda: world.effects[-1] == "ComparisonEnded", most=4 * COMPARE_SECONDS)
    assert world.records[-1].cause is None and "could not be compared" in world.records[-1].message


def test_a_proof_counts_once_the_spec_lets_it() -> None:
    """Proven worse, and left: as soon as the spec names Canary again, it is compared again and taken back."""
    world = watched({"spec.rollout.rollbackOnCauses": []})
    world.does("2").errors = 0.2
    world.until(lambda: world.effects[-1] == "ComparisonEnded", most=300)
    world.run(600)
    world.change({"spec.rollout.rollbackOnCauses": ["Canary"]})
    world.until("RolledBack", most=300)


def test_of_two_broken_rules_the_version_s_own_is_told() -> None:
    """Errors of everybody, and it alone is slow: the comparison ends with that."""
    world = watched({"spec.rollout.rollbackOnCauses": []})
    both(world, errors=0.2)
    world.does("2").slow = 0.3
    world.until(lambda: world.effects[-1] == "ComparisonEnded", most=400)
    ended = world.records[-1]
    assert (ended.cause, ended.rule) == (Cause.CANARY, "latency"), ended.message
