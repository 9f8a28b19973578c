"""Whose fault a broken bound is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modeldeployment.api.rollout import Rollout
from modeldeployment.api.status import Cause
from modeldeployment.decision.arms import Counts, Interval
from modeldeployment.decision.cause import Pods, blame, shared
from modeldeployment.decision.evidence import Strain
from modeldeployment.decision.hypothesis import Bound, Plan
from modeldeployment.decision.sequential import RuleState
from unit.decision.worlds import Behaviour, World

NODES = {"a": "n1", "b": "n2", "c": "n2", "d": "n3"}


def fed(
    canary: dict[str, tuple[int, int]],
    stable: tuple[int, int] = (1800, 9),
    times: int = 20,
    strain: Strain | None = None,
) -> tuple[Any, Pods]:
    """A rule and its pods after so many intervals alike: (requests, bad) of each pod of the canary, and of stable."""
    state, pods = RuleState(Bound(0.01), Plan(180)), Pods()
    interval = Interval(
        {pod: Counts(n, x, x) for pod, (n, x) in canary.items()},
        {f"s{i}": Counts(stable[0] / 10, stable[1] / 10, stable[1] / 10) for i in range(10)},
        strain=dict.fromkeys(canary, strain) if strain else {},
    )
    for _ in range(times):
        state, pods = state.update(interval), pods.add(interval)
    return state, pods


def cause(
    canary: dict[str, tuple[int, int]],
    *,
    slow: bool = False,
    strain: Strain | None = None,
    before: Cause | None = None,
) -> tuple[Cause, str]:
    """The cause and its sentence."""
    state, pods = fed(canary, strain=strain)
    return blame(state, pods, NODES, slow=slow, say=lambda counts: f"{counts.low:g} of {counts.n:g}", before=before)


@pytest.mark.parametrize(
    ("canary", "expected"),
    [
        ({"a": (50, 10)}, Cause.CANARY),
        ({"a": (50, 10), "b": (50, 9), "c": (50, 11), "d": (50, 10)}, Cause.CANARY),
        ({"a": (50, 20), "b": (50, 0), "c": (50, 0), "d": (50, 1)}, Cause.POD),
        ({"a": (50, 0), "b": (50, 20), "c": (50, 20), "d": (50, 0)}, Cause.NODE),
        ({"a": (50, 20), "b": (50, 2), "c": (50, 2), "d": (50, 2)}, Cause.CANARY),
    ],
    ids=[
        "one pod has nobody to differ from",
        "all alike",
        "one pod alone",
        "one node alone",
        "the others are not good",
    ],
)
def test_pods_that_differ(canary: dict[str, tuple[int, int]], expected: Cause) -> None:
    """One pod or one node is blamed only where all the others are proven good; else the version."""
    found, message = cause(canary)
    assert found is expected, message


def test_what_a_person_reads() -> None:
    """The pod, its node, both counts, and what to do."""
    _, message = cause({"a": (50, 20), "b": (50, 0), "c": (50, 0), "d": (50, 1)})
    assert message == "pod a on node n1 alone: 400 of 1000; its other pods are good: 20 of 3000; delete it"
    _, message = cause({"a": (50, 0), "b": (50, 20), "c": (50, 20), "d": (50, 0)})
    assert message.startswith("its pods on node n2 alone: 800 of 2000; those elsewhere are good: 0 of 2000")


def test_a_few_requests_blame_no_pod() -> None:
    """Two clean requests of the other pods prove nothing about them."""
    state, pods = fed({"a": (50, 20), "b": (2, 0)}, times=3)
    assert blame(state, pods, NODES, slow=False, say=str).cause is Cause.CANARY


def test_capacity_is_told_by_the_load_of_a_pod() -> None:
    """Slow, and each pod of the canary gets twice what one of stable's gets: too few pods. Errors are no such thing."""
    busy = {"a": (450, 48)}
    found, message = cause(busy, slow=True)
    assert found is Cause.CAPACITY and "2.0 times" in message
    assert cause(busy, slow=False)[0] is Cause.CANARY
    assert cause({"a": (180, 20)}, slow=True)[0] is Cause.CANARY
    half = Interval({"c": Counts(900, 90, 90)}, {"s0": Counts(450), "s1": Counts(450)})
    assert Pods().add(half).load == 1.0, "half of the traffic on half of the pods is no overload"


EQUAL, MORE, TWICE = {"a": (200, 20)}, {"a": (269, 30)}, {"a": (450, 48)}
"""A pod of the canary with 1.0, 1.3 and 2.0 times the requests that one of stable's would have."""
OFTEN = "each of its pods gets 1.3 times the requests that one of stable's would have"


@pytest.mark.parametrize(
    ("canary", "strain", "expected", "words"),
    [
        (EQUAL, Strain(queue=40.0), Cause.CANARY, "worse than the stable version"),
        (EQUAL, Strain(saturation=1.0), Cause.CANARY, "worse than the stable version"),
        (MORE, None, Cause.CANARY, "worse than the stable version"),
        (MORE, Strain(queue=0.9, saturation=0.89), Cause.CANARY, "worse than the stable version"),
        (MORE, Strain(queue=4.2), Cause.CAPACITY, f"{OFTEN}, and 4.2 wait in each; give it more pods"),
        (MORE, Strain(saturation=0.96), Cause.CAPACITY, f"{OFTEN}, and each is 96% full; give it more pods"),
        (MORE, Strain(4.2, 0.96), Cause.CAPACITY, f"{OFTEN}, and 4.2 wait in each, and each is 96% full"),
        (TWICE, Strain(queue=0.0), Cause.CAPACITY, "2.0 times the requests that one of stable's would have; give it"),
        (MORE, Strain(timeouts=30), Cause.CANARY, "worse than the stable version"),
    ],
    ids=[
        "a queue at the same load is its own",
        "full at the same load, too",
        "a little more load alone",
        "not pressed",
        "requests wait",
        "full",
        "both",
        "twice the load needs no more",
        "timeouts tell of errors",
    ],
)
def test_slow_where_more_requests_wait(
    canary: dict[str, tuple[int, int]], strain: Strain | None, expected: Cause, words: str
) -> None:
    """A little more load is blamed for latency where the pods are pressed; pressed pods alone blame the version."""
    found, message = cause(canary, slow=True, strain=strain)
    assert found is expected, message
    assert words in message


@pytest.mark.parametrize(
    ("canary", "timeouts", "expected"),
    [
        (MORE, 30, Cause.CAPACITY),
        (MORE, 27, Cause.CAPACITY),
        (MORE, 26, Cause.CANARY),
        (MORE, 90, Cause.CANARY),
        (MORE, None, Cause.CANARY),
        (TWICE, 0, Cause.CANARY),
        (EQUAL, 20, Cause.CANARY),
    ],
    ids=["all", "nine tenths", "fewer", "far more than failed", "not known", "none", "at the same load"],
)
def test_errors_that_are_timeouts(canary: dict[str, tuple[int, int]], timeouts: int | None, expected: Cause) -> None:
    """Nearly all failed requests were shed for lack of room, under more load: too few pods, pressed or not."""
    found, message = cause(canary, strain=Strain(queue=9.0, timeouts=timeouts))
    assert found is expected, message
    if found is Cause.CAPACITY:
        assert message == (
            f"{OFTEN}, and {20 * (timeouts or 0)} of its 600 failed requests were given up or shed for lack of room; "
            "give it more pods"
        )


def test_pods_share_what_waits() -> None:
    """The mean of those that are known; timeouts add up."""
    counts = {pod: Counts(100, 5, 5) for pod in "abc"}
    strain = {"a": Strain(3.0, None, 4), "b": Strain(0.0, 0.9, None)}
    pods = Pods().add(Interval(counts, counts, strain=strain)).add(Interval(counts, counts))
    assert (pods.queue, pods.saturation, pods.timeouts, pods.told) == (None, None, 4, 5)
    assert Pods().add(Interval(counts, counts, strain=strain)).queue == 1.5


@pytest.mark.parametrize(
    ("canary", "slow", "strain", "expected"),
    [
        (MORE, True, None, Cause.CAPACITY),
        (MORE, True, Strain(queue=0.0), Cause.CAPACITY),
        (EQUAL, True, Strain(queue=0.0), Cause.CAPACITY),
        ({"a": (190, 20)}, True, Strain(queue=9.0), Cause.CANARY),
        (MORE, False, None, Cause.CAPACITY),
        (MORE, False, Strain(timeouts=30), Cause.CAPACITY),
        (MORE, False, Strain(timeouts=3), Cause.CANARY),
        ({"a": (5, 5)}, True, None, Cause.CAPACITY),
    ],
    ids=[
        "signals are not known any more",
        "nobody waits just now",
        "it has just its share of requests",
        "it has less",
        "timeouts are not known any more",
        "they still are timeouts",
        "other failures come",
        "too few requests to tell a load",
    ],
)
def test_too_few_pods_stay_found(
    canary: dict[str, tuple[int, int]], slow: bool, strain: Strain | None, expected: Cause
) -> None:
    """Who was found to have too few pods at the last look still has, until something says otherwise."""
    found, message = cause(canary, slow=slow, strain=strain, before=Cause.CAPACITY)
    assert found is expected, message


def test_shared_needs_both() -> None:
    """Both arms proven above the bound within the block under way."""
    assert shared(fed({"a": (200, 40)}, stable=(1800, 360), times=4)[0])
    assert not shared(fed({"a": (200, 40)}, times=4)[0])
    assert not shared(fed({"a": (200, 1)}, stable=(1800, 360), times=4)[0])


def test_an_interval_in_which_the_weight_moved_tells_nothing() -> None:
    """Neither counts nor load."""
    _, pods = fed({"a": (50, 20)}, times=2)
    assert pods.add(Interval({"a": Counts(9, 9, 9)}, weight_moved=True)) == pods


FEW_PODS = {
    "1": Behaviour(pods=tuple("abcde")),
    "2": Behaviour(slow=0.3, queue=4.0),
}
"""The canary's one pod gets a quarter of what stable's five would have, 1.25 times its share."""
QUARTER: dict[str, Any] = {"spec.rollout.canary": {"steps": [{"traffic": "25%", "duration": "30m"}]}}


def test_a_version_whose_pods_are_too_few_is_held() -> None:
    """Slow under more load while requests wait in it: nobody takes it back, nor when none waits at one look, nor when
    another leader, who knows of no signals, goes on."""
    world = World(QUARTER, versions=FEW_PODS, rps=100).serving()
    world.ask("2")
    world.until("CapacityFault", most=900)
    assert "gets 1.2 times the requests" in world.message and "4.0 wait in each; give it more pods" in world.message
    world.does("2").queue = 0.0
    world.run(60)
    world.does("2").queue = None
    world.restart()
    world.run(60)
    assert world.state == "CapacityFault" and world.effects.count("CapacityFault") == 1, world.effects


def test_more_pods_are_given() -> None:
    """As it was advised: the tests start anew, and the version goes on, as it is good with enough pods."""
    world = World(QUARTER, versions=FEW_PODS, rps=100).serving()
    world.ask("2")
    world.until("CapacityFault", most=900)
    world.does("2").slow, world.does("2").queue, world.does("2").pods = 0.0, 0.0, ("a", "b")
    world.run(20)
    assert world.state == "CanaryRunning", world.message
    world.until("Watching", most=3600)


def test_more_pods_do_not_help() -> None:
    """Then it is the version that is slow."""
    world = World(QUARTER, versions=FEW_PODS, rps=100).serving()
    world.ask("2")
    world.until("CapacityFault", most=900)
    world.does("2").pods = ("a", "b")
    world.until("RolledBack", most=900)
    assert world.records[-1].cause is Cause.CANARY


def test_a_slow_version_fills_its_queue() -> None:
    """At the load that stable's pods bear, too, it is the version, however many wait in it."""
    alone = {"2": Behaviour(slow=0.3, queue=40.0)}
    world = World(QUARTER, versions=alone, rps=100).serving()
    world.ask("2")
    world.until("RolledBack", most=900)
    assert world.records[-1].cause is Cause.CANARY


def test_the_spec_says_which_causes_take_back() -> None:
    """Canary alone by default; another one named in the spec takes back too."""
    assert [cause.value for cause in Rollout().rollback_on_causes] == ["Canary"]
    world = World(versions={v: Behaviour(errors=0.2) for v in "12"}, rps=100).serving()
    world.change({"spec.rollout.rollbackOnCauses": ["Canary", "Shared"]})
    world.ask("2")
    world.until("RolledBack")
    assert world.records[-1].cause is Cause.SHARED


def test_a_held_fault_raises_no_weight_and_the_one_to_blame_is_named() -> None:
    """Both versions fail; the canary is slow besides: the rule that takes it back is the one that is told."""
    world = World(versions={"1": Behaviour(errors=0.2), "2": Behaviour(errors=0.2, slow=0.3)}, rps=100).serving()
    world.ask("2")
    world.until("RolledBack")
    assert (world.records[-1].rule, world.records[-1].cause) == ("latency", Cause.CANARY)


ONE_POD = Behaviour(errors=0.05, pods=("a", "b", "c"))
"""All of its bad requests are those of pod a."""
HALF_HOUR: dict[str, Any] = {
    "spec.rollout.canary": {"steps": [{"traffic": "25%", "duration": "10m"}, {"traffic": "50%", "duration": "10m"}]}
}


def held() -> World:
    """A canary of which one pod is to blame."""
    world = World(HALF_HOUR, versions={"2": ONE_POD}, rps=100).serving()
    world.ask("2")
    return world.until("PodFault", most=900).run(60)


@pytest.mark.parametrize("how", ["restart", "edit"])
def test_who_forgets_the_pods_takes_nobody_back(how: str) -> None:
    """A new leader, and an edit of the analysis, know of no pod's counts: what was found stays found."""
    world = held()
    if how == "restart":
        world.restart()
    else:
        world.change({"spec.rollout.analysis": {"interval": "10s", "sequential": {"detectable": "2"}}})
    world.run(120)
    assert world.state == "PodFault" and world.effects.count("PodFault") == 1, world.effects


def test_the_others_turn_bad_too() -> None:
    """Then it is the version, also for a leader who has forgotten the pods."""
    world = held()
    world.restart()
    world.run(30)
    world.does("2").errors, world.does("2").pods = 0.3, ("x",)
    world.run(30)
    world.does("2").pods = ("y",)
    world.until(lambda: world.effects[-1] == "RolledBack", most=120)
    assert world.records[-1].cause is Cause.CANARY


def test_the_pod_to_blame_is_deleted() -> None:
    """What comes in its place is good: the rule starts anew and the rollout goes on; nobody is told to delete it."""
    world = held()
    world.does("2").errors, world.does("2").pods = 0.0, ("d", "b", "c")
    world.run(10)
    assert world.state == "CanaryRunning", world.message
    world.until("Watching", most=3600)


def test_nothing_is_promoted_in_a_fault_that_is_not_its_own() -> None:
    """Its last step has passed, its pods are still to come; then everybody fails: it waits until that is over."""
    world = World(
        {"spec.rollout.canary": {"steps": [{"traffic": "10%"}]}, "spec.serving.replicas": 4}, rps=100
    ).serving()
    world.ask("2")
    world.until(lambda: world.wanted("2") == 10)
    world.does("2").ready_after = None
    world.until(lambda: "StepPassed" in world.effects)
    for version in "12":
        world.does(version).errors = 0.2
    world.until("SharedFault", most=300)
    world.does("2").ready_after = 10.0
    world.change({"spec.serving.replicas": 4})
    world.run(900)
    assert "Promoted" not in world.effects and world.wanted("2") == 10, world.effects


def test_a_shared_fault_is_told_once() -> None:
    """Half an hour of it, over many blocks: one record, one Event."""
    world = World(HALF_HOUR, versions={v: Behaviour(errors=0.03) for v in "12"}, rps=50).serving()
    world.ask("2")
    world.until("SharedFault", most=1800)
    world.run(1500)
    assert world.effects.count("SharedFault") == 1, world.effects


def test_the_node_to_blame_is_drained() -> None:
    """Its pods come up elsewhere and are good: the rollout goes on, and no pod that is gone is blamed."""
    world = World(HALF_HOUR, versions={"2": replace(ONE_POD, nodes=("n1", "n2", "n3"))}, rps=100).serving()
    world.ask("2")
    world.until("PodFault", most=900)
    two = world.does("2")
    two.pods, two.nodes, two.errors = ("x", "b", "c"), ("n4", "n2", "n3"), 0.0
    world.run(30)
    assert world.state == "CanaryRunning", world.message
    world.run(900)
    assert world.effects.count("PodFault") == 1 and "NodeFault" not in world.effects, world.effects


def test_an_incident_after_a_clean_time_is_seen_and_passes_no_step() -> None:
    """The step was all but passed when both began to fail: it waits, the fault is told; after it the step passes."""
    world = World(HALF_HOUR, rps=200).serving()
    world.ask("2")
    world.until(lambda: world.weight("2") == 25)
    world.run(520)
    for version in "12":
        world.does(version).errors = 0.04
    world.until("SharedFault", most=120)
    world.run(300)
    assert world.wanted("2") == 25 and "StepPassed" not in world.effects, world.effects
    for version in "12":
        world.does(version).errors = 0.0
    world.until(lambda: "StepPassed" in world.effects, most=1200)


def test_a_pod_that_healed_while_nobody_looked() -> None:
    """The operator restarts and its container does too, under the same name: the rollout goes on after minutes."""
    world = held()
    world.run(1800)
    world.restart()
    world.does("2").errors = 0.0
    world.run(10)
    assert world.state == "PodFault", "nothing is known yet"
    world.until("CanaryRunning", most=300)
    world.run(600)
    assert world.effects.count("PodFault") == 1, world.effects
