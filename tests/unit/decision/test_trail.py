"""The trail of the evidence: few points, the newest always there, and the same for the same looks."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeployment.api.modeldeployment import ModelDeploymentStatus
from modeldeployment.api.status import TRAIL_POINTS_MAX, Trail
from modeldeployment.controller.material import worth_writing
from modeldeployment.decision.trail import follow, points
from unit.decision.worlds import Behaviour, World


def on_trial(does: Behaviour | None = None, **more: Any) -> World:
    """Version 2 gets its first traffic."""
    world = World(versions={"2": does or Behaviour()}, **more).serving()
    world.ask("2")
    return world.until("CanaryRunning")


def trail(world: World) -> Trail:
    """The trail that must be there."""
    found = world.status.trail
    assert found is not None, "there is no trail"
    return found


def test_a_good_canary_nears_what_decides_that_it_is_good() -> None:
    """Each point has its weight; good rises until it decides, and then the step is passed."""
    world = on_trial(rps=20.0).run(100)
    seen = points(trail(world))
    assert [point.after for point in seen] == [10 * n for n in range(len(seen))]
    assert {point.weight for point in seen} == {10}
    good = [point.good for point in seen if point.good is not None]
    assert good == sorted(good) and good[-1] < 0, "the version did well, and yet the evidence for it did not grow"
    world.until("Watching")
    assert "Promoted" in world.effects


def test_a_bad_canary_leaves_a_trail_that_ends_where_it_was_decided() -> None:
    """The last point decides, none before does, and it stays after the rollback."""
    world = on_trial(Behaviour(errors=0.05), rps=20.0).until("RolledBack")
    *before, last = (point.worse for point in points(trail(world)))
    assert last is not None and last >= 0, "it was rolled back by evidence that does not decide"
    assert all(worse is not None and worse < 0 for worse in before), "evidence decided, and nobody rolled back"
    kept = trail(world)
    assert trail(world.run(300)) == kept and kept.revision == world.name("2")


def test_the_watch_and_a_comparison_begin_anew() -> None:
    """They ask other questions. Once a comparison is over the trail goes on."""
    world = on_trial().until("Watching").run(60)
    watch = trail(world)
    assert {point.weight for point in points(watch)} == {100} and world.records[-1].time < watch.start_time
    for version in "12":
        world.does(version).errors = 0.2
    world.until("Comparing").until(lambda: world.weight("1") == 50)
    world.run(30)
    assert trail(world).start_time > watch.start_time and points(trail(world))[-1].weight == 50
    compared = trail(world).start_time
    for version in "12":
        world.does(version).errors = 0.0
    world.until("Watching").run(60)
    assert trail(world).start_time == compared


def test_worse_than_stable_and_inside_its_bound_never_reaches_what_decides() -> None:
    """Fail also asks for evidence against the bound: while that is missing, the line stays below."""
    wide = {"spec.objectives[0].errorRate.max": "8%", "spec.rollout.rollbackOn.errorRate": ">8%"}
    long_step = {"spec.rollout.canary": {"steps": [{"traffic": "10%", "duration": "1h"}]}}
    world = World({**wide, **long_step}, versions={"2": Behaviour(errors=0.05)}, rps=20.0).serving()
    world.ask("2")
    world.until("CanaryRunning").run(1800)
    assert world.status.rollout is not None
    numbers = world.status.rollout.rules[0].numbers
    assert numbers is not None and numbers.e_worse == "over a million", "not proven worse: the test tests nothing"
    assert all(point.worse is not None and point.worse < 0 for point in points(trail(world)))


def test_judges_without_e_values_leave_weights_alone() -> None:
    """The threshold judge has no evidence to draw."""
    asked = {"spec.rollout.analysis": {"judge": "Threshold", "threshold": {"passes": 100}}}
    world = World(asked).serving()
    world.ask("2")
    seen = points(trail(world.until("CanaryRunning").run(60)))
    assert {(p.weight, p.worse, p.good) for p in seen} == {(10, None, None)}


def test_nothing_is_written_for_the_trail_alone() -> None:
    """A status that differs in its trail alone waits, as sentences do."""
    world = on_trial()
    world.run(30)
    other = world.status.model_copy(update={"trail": trail(world).model_copy(update={"points": "0,10,0,0"})})
    assert not worth_writing(other, world.status, world.now, world.now + timedelta(seconds=1))


@pytest.mark.parametrize(("errors", "length"), [(0.004, 90), (0.02, 1800), (0.05, 900)])
def test_a_restart_at_every_look_leaves_the_same_trail(errors: float, length: float) -> None:
    """Same looks, same bytes: the trail goes on from the stored status, which a trial's looks are all written to."""
    lives, dies = (World(versions={"2": Behaviour(errors=errors)}, rps=20.0) for _ in range(2))
    dies.restarts_each_tick = True
    for world in (lives, dies):
        world.fleeting_pods = True
        world.serving().ask("2")
        world.run(length)
    assert trail(dies) == trail(lives) and "Promoted" not in lives.effects
    assert len(points(trail(lives))) > 4


def test_text_that_a_person_put_there_is_passed_over() -> None:
    """The operator begins anew instead of failing at every look."""
    world = on_trial().run(20)
    world.status = world.status.model_copy(
        update={"trail": trail(world).model_copy(update={"points": "anything, really"})}
    )
    world.run(10)
    assert len(points(trail(world))) == 1


@given(st.lists(st.integers(1, 20_000), min_size=1, max_size=120))
def test_any_looks_leave_few_points_in_order_and_the_newest(gaps: list[int]) -> None:
    """At most TRAIL_POINTS_MAX, each within a stretch of the last look in it, the last one of now; small as text."""
    world, at = _WATCHED, _WATCHED.now
    status = world.status.model_copy(update={"trail": None})
    looks: list[float] = []
    begun: datetime | None = None
    for gap in gaps:
        at += timedelta(seconds=gap)
        status = _looked(world, status, at)
        assert status.trail is not None
        begun = begun or status.trail.start_time
        looks.append((at - begun).total_seconds())
    kept = status.trail
    assert kept is not None
    seen, size = points(kept), kept.every_seconds
    assert len(seen) <= TRAIL_POINTS_MAX
    assert [p.after for p in seen] == sorted({p.after for p in seen}), "points are out of order, or two in one place"
    assert seen[-1].after == looks[-1] // size * size, "the newest look is missing"
    assert {p.after for p in seen} == {look // size * size for look in looks}, "a stretch with a look has no point"
    assert len(kept.points) <= 720
    assert Trail.model_validate(kept.to_json()) == kept


def _looked(world: World, status: ModelDeploymentStatus, now: datetime) -> ModelDeploymentStatus:
    rollout = status.rollout
    assert rollout is not None
    view = replace(world.view().with_status(status), now=now)
    return status.model_copy(update={"trail": follow(view, rollout, world.memory)})


_WATCHED = on_trial().run(10)
