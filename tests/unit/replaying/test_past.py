"""Prometheus' history and the decision log give the same decisions, in every field, or say why they cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from modeldeployment.api.rollout import Override, OverrideAction
from modeldeployment.api.status import ModelDeploymentStatus
from modeldeployment.metrics import PrometheusError
from modeldeployment.replaying import past
from modeldeployment.replaying.history import PastError
from modeldeployment.replaying.logbook import trials
from modeldeployment.replaying.rerun import Replayed
from unit.metrics.simulated import counts
from unit.replaying.lived import NAMES, T0, Lived

STEPS = {"spec.rollout.canary": {"steps": [{"traffic": "10%"}, {"traffic": "50%"}]}}
TIMED = {"spec.rollout.canary": {"steps": [{"traffic": "10%", "duration": "1m30s"}, {"traffic": "50%"}]}}
FAST = {"spec.rollout.analysis": {"interval": "2s"}}


async def again(life: Lived, **changed: Any) -> Replayed:
    """Its past, replayed."""
    async with life.archive() as client:
        return await past.replay(replace(life.model, **changed), life.at(0), life.at(life.now), client)


def same(life: Lived, done: Replayed) -> None:
    """Each decision is as the log has it, byte for byte."""
    assert done.difference is None, done.difference.sentence() if done.difference else ""
    assert done.records == [record.to_json() for record in life.log]


@pytest.mark.parametrize(
    ("overrides", "errors", "router", "last"),
    [
        ({}, {"2": 0.2}, 0.31, "RolledBack"),
        ({}, {}, 0.31, "WatchEnded"),
        (STEPS, {}, 0.05, "WatchEnded"),
        (TIMED, {}, 1.55, "WatchEnded"),
        ({**STEPS, **FAST}, {}, 2.7, "WatchEnded"),
        ({**STEPS, **FAST}, {"2": 0.08}, 0.9, "RolledBack"),
        ({"spec.rollout.analysis": {"judge": "Threshold"}}, {"2": 0.05}, 0.31, "RolledBack"),
    ],
)
async def test_the_same_decisions_come_out_of_history(
    overrides: Mapping[str, Any], errors: Mapping[str, float], router: float, last: str
) -> None:
    """Steps, timed steps, short intervals, slow routers, both judges; the store asks for ranges, not for each look."""
    life = await Lived(overrides, errors, router=router).run(60)
    await life.run(500, "2")
    assert life.log[-1].effect == last
    asked = len(life.server.asked)
    same(life, await again(life))
    assert len(life.server.asked) - asked < 40


async def test_a_version_that_turns_bad_after_a_while() -> None:
    """Rolled back in its second step, on the evidence of both."""
    life = await Lived(STEPS, {"2": 0.3}, errors_from=115.0).run(60)
    await life.run(300, "2")
    assert [r.effect for r in life.log][-3:] == ["StepPassed", "WeightRaised", "RolledBack"]
    same(life, await again(life))


async def test_two_rollouts_are_two_trials() -> None:
    """The second begins beside what served then, told by who had requests though no role has it any more."""
    life = await Lived(errors={"3": 0.2}).run(60)
    await life.run(200, "2")
    await life.run(200, "3")
    assert [r.effect for r in life.log].count("RolloutStarted") == 2
    same(life, await again(life, status=ModelDeploymentStatus()))


async def test_a_person_who_aborts_is_in_the_log() -> None:
    """What no evidence can show is taken from there."""
    life = await Lived(STEPS).run(60)
    await life.run(20, "2")
    override = Override(revision=NAMES["2"], action=OverrideAction.ABORT)
    rollout = life.spec.rollout.model_copy(update={"override": override})
    before, life.spec = life.spec, life.spec.model_copy(update={"rollout": rollout})
    await life.run(30, "2")
    assert life.log[-1].effect == "Aborted"
    same(life, await again(life, spec=before))


async def test_a_replaced_canary_ends_where_the_next_begins() -> None:
    """Two trials that meet in one moment."""
    life = await Lived(STEPS).run(60)
    await life.run(30, "2")
    await life.run(60, "3")
    assert "RolloutReplaced" in [r.effect for r in life.log]
    same(life, await again(life))


async def test_another_number_in_the_log_is_told() -> None:
    """The first difference, by name."""
    life = await Lived(errors={"2": 0.2}).run(60)
    await life.run(200, "2")
    last = life.log[-1]
    assert last.numbers is not None
    forged = last.model_copy(update={"numbers": last.numbers.model_copy(update={"bad": 1})})
    done = await again(life, log=(*life.log[:-1], forged))
    assert done.difference is not None
    assert done.difference.what == "RolledBack: numbers.bad"
    assert (done.difference.recorded, done.difference.replayed) == (1, last.numbers.bad)


async def test_another_bound_gives_another_decision() -> None:
    """The spec is taken as it is now: where it was another then, that shows."""
    life = await Lived(errors={"2": 0.2}).run(60)
    await life.run(300, "2")
    assert life.log[-1].effect == "RolledBack"
    loose = Lived({"spec.objectives": [{"name": "errors", "errorRate": {"max": "40%"}}]}).spec
    done = await again(life, spec=loose)
    assert done.difference is not None


async def test_what_cannot_be_replayed_says_why() -> None:
    """No log, no rule, no samples, no answer."""
    life = await Lived(errors={"2": 0.2}).run(60)
    await life.run(200, "2")
    with pytest.raises(PastError, match=r"no rollout since .* look further back"):
        await again(life, log=())
    with pytest.raises(PastError, match="no objective and no rollbackOn"):
        await again(life, spec=life.spec.model_copy(update={"objectives": []}))
    empty = Lived()
    empty.server.endpoints.clear()
    empty.log, empty.now = life.log, life.now
    with pytest.raises(PastError, match=f"Prometheus has nothing of {NAMES['2']}"):
        await again(empty, status=life.status)
    with pytest.raises(PastError, match="does not tell which revision served before 2 came"):
        await again(empty, status=ModelDeploymentStatus())
    life.server.refuses["inference_requests_total"] = 400
    with pytest.raises(PrometheusError, match="refused: inference_requests_total"):
        await again(life)


async def test_what_ended_before_is_left_out() -> None:
    """Only trials that went on after `since`; one whose beginning is not in the log is none."""
    life = await Lived(errors={"2": 0.2}).run(60)
    await life.run(200, "2")
    assert len(trials(life.log, life.log[-1].time)) == 1
    assert trials(life.log, life.log[-1].time + timedelta(seconds=1)) == []
    assert trials(life.log[1:]) == []


async def test_history_gives_each_instant_what_a_query_at_it_gives() -> None:
    """A range cut into instants, and those off its grid asked for alone."""
    life = await Lived(rps=30.0).run(200)
    query = 'sum by (namespace, pod, instance, job) (inference_requests_total{namespace="ml"})'
    async with life.archive() as history, life.server.client() as plain:
        for seconds in (10, 55, 100, 190):
            ours, theirs = [await client.instant(query, life.at(seconds)) for client in (history, plain)]
            samples = [[(labels, [*map(tuple, of)]) for labels, of in one.series] for one in (ours, theirs)]
            assert samples[0] == samples[1], f"at {seconds}s"
            assert samples[0], f"nothing at {seconds}s, so nothing was compared"


async def test_a_range_that_fails_fails_every_look() -> None:
    """Nothing is taken for nothing."""
    life = await Lived().run(100)

    def refuse(_: httpx.Request) -> httpx.Response:
        return httpx.Response(422, json={"status": "error", "errorType": "execution", "error": "too many samples"})

    async with life.archive(refuse) as client:
        with pytest.raises(PrometheusError, match="too many samples"):
            await client.instant("up", life.at(50))


async def test_a_restarted_pod_counts_as_it_did() -> None:
    """A counter that fell is a reset, then as now."""
    life = await Lived(STEPS).run(60)
    await life.run(40, "2")
    does = life.versions["1"]
    does.total = does.failed = 0.0
    assert does.endpoint is not None
    does.endpoint.scrapes.append((T0 + life.now, counts(0, 0)))
    await life.run(300, "2")
    assert life.log[-1].effect == "WatchEnded"
    same(life, await again(life))
