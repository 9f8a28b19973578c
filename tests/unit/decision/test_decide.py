"""decide: what status and conditions come to. The invariants of every look are in `worlds.World.check`."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from modeldeployment.api.conditions import SUMMARY, ConditionType, find
from modeldeployment.api.status import DECISIONS_MAX, STATUS_BYTES_MAX, ModelDeploymentStatus
from modeldeployment.decision.decide import decide, wanted_weights
from modeldeployment.decision.evidence import DataState, Route, RouteState, Workload
from modeldeployment.decision.memory import Memory
from modeldeployment.decision.rollout import MOVES
from unit.decision.worlds import Behaviour, World

LONG = "x" * 5_000


def drained(world: World) -> bool:
    """Nothing waits for the router any more."""
    return not world.status.draining


# --- conditions -------------------------------------------------------------------------------------------------


def test_first_status_has_all_summary_conditions() -> None:
    """All five are there from the first look, and Unknown until decided."""
    world = World()
    world.tick()
    told = {c.type: c.status for c in world.status.conditions}
    assert set(told) == set(SUMMARY)
    assert told == {
        ConditionType.READY: "False",
        ConditionType.PROGRESSING: "True",
        ConditionType.HEALTHY: "Unknown",
        ConditionType.EVIDENCE_AVAILABLE: "Unknown",
        ConditionType.ROUTE_PROGRAMMED: "Unknown",
    }


def test_progressing_is_false_once_all_is_done() -> None:
    """kstatus reads Progressing False and Ready True as Current."""
    world = World().serving()
    told = {c.type: c.status for c in world.status.conditions}
    assert (told[ConditionType.READY], told[ConditionType.PROGRESSING]) == ("True", "False")


def test_generation_follows_the_spec() -> None:
    """observedGeneration of status and of each condition is the spec's, with the very next look."""
    world = World().serving()
    world.change({"spec.serving.replicas": 2})
    world.tick()
    generations = {c.observed_generation for c in world.status.conditions}
    assert generations == {world.status.observed_generation} == {2}


def test_negative_conditions_go_with_their_cause() -> None:
    """RolledBack and Stalled are there while the spec asks for a version that was taken back, and only then."""
    world = World(versions={"2": Behaviour(errors=0.3)}).serving()
    world.ask("2")
    world.until("RolledBack")
    negative = (ConditionType.ROLLED_BACK, ConditionType.STALLED)
    assert all(find(world.status.conditions, t) for t in negative)
    world.ask("1")
    world.tick()
    assert not any(find(world.status.conditions, t) for t in negative)


_READY: dict[str, tuple[dict[str, Any], str, str]] = {
    "serving": ({}, "True", "Serving"),
    "no pod": ({"pods": Workload(1, 0)}, "False", "NoReadyPods"),
    "no pod, with the pods' reason": ({"pods": Workload(1, 0, "OOMKilled", "exit code 137")}, "False", "OOMKilled"),
    "route deleted": ({"route": Route()}, "False", "RouteAbsent"),
    "route refused": ({"route": Route(RouteState.REFUSED, {}, "NotAllowed", "no")}, "False", "NotAllowed"),
    "route never taken": (
        {"route": Route(RouteState.PENDING, {}, "WaitingForRouter", "")},
        "False",
        "WaitingForRouter",
    ),
    "route changing": ({"route": "pending"}, "True", "Serving"),
}


@pytest.mark.parametrize(("given", "status", "reason"), _READY.values(), ids=_READY)
def test_ready_means_traffic_flows_now(given: dict[str, Any], status: str, reason: str) -> None:
    """Ready pods of the stable version behind a route that some Gateway carries."""
    world = World().serving()
    view, name = world.view(), world.name("1")
    pending = Route(RouteState.PENDING, {name: 100}, "WaitingForRouter", "")
    route = pending if given.get("route") == "pending" else given.get("route", view.route)
    view = replace(view, route=route, workloads={name: given.get("pods", view.workload(name))})
    ready = find(decide(view, Memory()).status.conditions, ConditionType.READY)
    assert ready is not None and (ready.status, ready.reason) == (status, reason)


@pytest.mark.parametrize("state", list(DataState))
def test_evidence_condition_has_the_states_own_reason(state: DataState) -> None:
    """Seven states, seven reasons; one is True."""
    world = World().serving()
    view = replace(world.view(), evidence=replace(world.view().evidence, state=state, message="so it is"))
    evidence = find(decide(view, Memory()).status.conditions, ConditionType.EVIDENCE_AVAILABLE)
    assert evidence is not None
    assert evidence.status == ("True" if state is DataState.FLOWING else "False")
    assert (evidence.reason, evidence.message) == (state.value, "so it is")


def test_route_condition_waits_until_the_wanted_weights_are_seen() -> None:
    """A route that is programmed with other weights than are wanted is not done."""
    world = World().serving()
    view = replace(world.view(), route=Route(RouteState.PROGRAMMED, {world.name("1"): 50, "foreign": 50}, "Programmed"))
    status = decide(view, Memory()).status
    route = find(status.conditions, ConditionType.ROUTE_PROGRAMMED)
    assert route is not None and (route.status, route.reason) == ("Unknown", "WaitingForRouter")
    assert status.stable is not None and (status.stable.weight, status.stable.wanted_weight) == (50, 100)


# --- scale and selector -----------------------------------------------------------------------------------------


def test_scale_subresource_speaks_of_the_version_that_serves() -> None:
    """An autoscaler reads the pods of stable."""
    world = World({"spec.serving.replicas": 3}).serving()
    assert world.status.replicas == 3 and world.status.selector == f"modeldeployment.io/revision={world.name('1')}"


# --- draining ---------------------------------------------------------------------------------------------------


def test_drained_only_after_requests_have_stopped() -> None:
    """The router was seen at 0, yet requests still come (keep-alive connections): it waits for them to end."""
    world = _draining()
    name = world.name("2")
    world.until(lambda: world.weight("2") == 0)
    for _ in range(6):
        world.tick()
        world._last_traffic[name] = world.now
    assert world.replicas("2") == 1, "somebody still sends it requests"
    world.run(60)
    assert world.replicas("2") == 0


def test_drained_after_a_while_without_evidence() -> None:
    """Prometheus is down: after five minutes at 0 it is scaled down all the same."""
    world = _draining()
    world.data = DataState.QUERY_ERROR
    world.run(240)
    assert world.replicas("2") == 1
    world.run(90)
    assert world.replicas("2") == 0


def test_drained_only_a_while_after_a_slow_router() -> None:
    """The pods stay until requests have stopped for two intervals, however long the router took to be told."""
    world = _draining()
    world.router.delay = 900.0
    world.until(lambda: world.replicas("2") == 0, most=3600)
    last = world._last_traffic[world.name("2")]
    assert (world.now - last).total_seconds() >= 20


def test_draining_waits_while_everything_is_frozen() -> None:
    """suspend All: not even what drains is scaled down."""
    world = _draining()
    world.change({"spec.suspend": {"mode": "All"}})
    world.run(900)
    assert world.replicas("2") == 1


_ROUTES = {
    "seen at nothing": (RouteState.PROGRAMMED, 0, False),
    "seen with traffic": (RouteState.PROGRAMMED, 10, True),
    "a change that it has not answered to": (RouteState.PENDING, 0, True),
    "a change that it refused": (RouteState.REFUSED, 0, True),
    "no route": (RouteState.ABSENT, 0, True),
}


@pytest.mark.parametrize(("state", "weight", "stays"), _ROUTES.values(), ids=_ROUTES)
def test_drained_only_when_the_router_said_so(state: RouteState, weight: int, stays: bool) -> None:
    """Last seen at 0 is not enough while the router is busy with a change: the one before may have raised it."""
    world = _draining()
    weights = {world.name("1"): 100 - weight, world.name("2"): weight}
    later = replace(world.view(), route=Route(state, weights), now=world.now + timedelta(minutes=10))
    assert bool(decide(later, Memory()).status.draining) is stays


def test_drained_never_while_the_router_is_not_seen() -> None:
    """A router that refuses, or is gone, was not seen to send nothing."""
    world = _draining()
    world.router.refusal = ("GatewayNotFound", "gone")
    world.run(1800)
    assert world.replicas("2") == 1
    world.router.refusal = None
    world.until(lambda: drained(world))


def _draining() -> World:
    """Version 2 had traffic and was just cancelled."""
    world = World(rps=1).serving()
    world.ask("2")
    world.until(lambda: world.weight("2") == 10)
    world.ask("1")
    world.tick()
    assert world.replicas("2") == 1 and not drained(world)
    return world


# --- purity and bounds ------------------------------------------------------------------------------------------


def test_decide_changes_none_of_its_inputs() -> None:
    """The same view gives the same decision, and is the same afterwards."""
    world = World().serving()
    world.ask("2")
    world.until(lambda: world.wanted("2") == 10)
    view, memory = world.view(), world.memory
    before = repr((view, memory))
    first, second = decide(view, memory), decide(view, memory)
    assert first == second and repr((view, memory)) == before


def test_decisions_are_bounded_and_the_newest_first() -> None:
    """A canary that dies and comes back all day: the last ten decisions stay."""
    world = World(rps=0.1).serving()
    world.ask("2")
    world.until(lambda: world.weight("2") == 10)
    for _ in range(8):
        world.does("2").dead = True
        world.run(10)
        world.does("2").dead = False
        world.run(20)
    times = [d.time for d in world.status.decisions]
    assert len(times) == DECISIONS_MAX and times == sorted(times, reverse=True)
    assert world.status.decisions[0].effect == "WeightRaised"


def test_long_words_of_others_are_cut_and_still_written() -> None:
    """Pods, routers, API servers and Prometheus may say what they like: the status stays valid and small."""
    world = World(versions={"2": Behaviour(ready_after=None, trouble=("T" * 300, LONG))}).serving()
    world.ask("2")
    world.tick()
    view = replace(
        world.view(),
        route=Route(RouteState.REFUSED, world.view().route.weights, "R" * 300, LONG),
        evidence=replace(world.view().evidence, state=DataState.QUERY_ERROR, message=LONG),
        conflict=LONG,
        refusal=LONG,
        now=world.now + timedelta(hours=1),
    )
    status = decide(view, Memory()).status
    written = json.dumps(status.to_json())
    assert len(written.encode()) <= STATUS_BYTES_MAX
    assert ModelDeploymentStatus.model_validate_json(written) == status, "it can be stored, and read back"


def test_status_survives_its_json() -> None:
    """What a new leader reads is what the last one wrote, bit for bit, at every instant of a rollout."""
    world = World({"spec.rollout.watch": "2m"}).serving()
    world.ask("2")
    while "WatchEnded" not in world.effects:
        world.tick()
        assert ModelDeploymentStatus.model_validate_json(json.dumps(world.status.to_json())) == world.status


def test_no_weights_before_anything_serves() -> None:
    """The route is made with the first version that is Ready, not before."""
    assert wanted_weights(ModelDeploymentStatus()) == {}


def test_moves_say_what_they_are_for() -> None:
    """The list of moves is the documentation: each has a sentence."""
    assert all(move.__doc__ for move in MOVES) and len(set(MOVES)) == len(MOVES)
