"""due: the clocks that run, by what is going on."""

from __future__ import annotations

from datetime import timedelta

from modeldeployment.decision.due import Clock, deadlines, due
from unit.decision.worlds import Behaviour, World


def clocks(world: World) -> set[Clock]:
    """Those that did not run out."""
    return {clock for clock, time in deadlines(world.spec, world.status) if time > world.now}


def test_a_canary_has_a_step_and_a_deadline() -> None:
    """The least time of its step, and the time for a verdict; the earlier one is due."""
    world = World({"spec.rollout.canary": {"steps": [{"traffic": "10%", "duration": "10m"}]}}).serving()
    world.ask("2")
    world.until("CanaryRunning").run(60)
    assert clocks(world) == {Clock.STEP, Clock.ROLLOUT}
    moment = due(world.spec, world.status, world.now)
    assert moment is not None and moment < world.now + timedelta(minutes=10)


def test_pods_that_are_not_ready_have_a_deadline() -> None:
    """Of a canary; the first version has no other, as nothing is compared."""
    first = World(versions={"1": Behaviour(ready_after=None)}).run(60)
    assert clocks(first) == {Clock.PODS}
    world = World(versions={"2": Behaviour(ready_after=None)}).serving()
    world.ask("2")
    assert clocks(world.run(60)) == {Clock.PODS, Clock.ROLLOUT}


def test_the_watch_ends_and_so_does_a_comparison() -> None:
    """After several comparisons that proved nothing there is a rest before the next."""
    world = World().serving()
    world.ask("2")
    world.until("Watching").run(60)
    assert clocks(world) == {Clock.WATCH}
    for _ in range(3):
        for version in "12":
            world.does(version).errors = 0.2
        world.until("Comparing", most=600)
        assert clocks(world) == {Clock.WATCH, Clock.COMPARISON}
        for version in "12":
            world.does(version).errors = 0.0
        world.until("Watching").run(60)
    assert clocks(world) == {Clock.WATCH, Clock.NEXT_COMPARISON}


def test_nothing_is_due_once_all_is_done() -> None:
    """The version that serves waits for nothing."""
    world = World().serving()
    assert due(world.spec, world.status, world.now) is None
