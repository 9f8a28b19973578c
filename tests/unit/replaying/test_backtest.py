"""Another policy on the counts of past rollouts: found in Prometheus or in recordings, judged, and shown."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from modeldeployment.api.base import JSON
from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.api.serving import Metrics, SeriesIdentity
from modeldeployment.replaying import finding
from modeldeployment.replaying.backtest import Backtest, summary, to_json, to_text
from modeldeployment.replaying.candidates import counted, recorded, search
from modeldeployment.replaying.finding import End
from modeldeployment.replaying.history import quiet
from modeldeployment.replaying.judging import Came, Judged, PastRollout, e_value, judge
from modeldeployment.replaying.manifests import spec_of
from modeldeployment.replaying.page import backtest_page
from unit.decision.worlds import Behaviour
from unit.replaying.lived import KEY, NAMES, T0, Lived
from unit.replaying.recorded import RecordedWorld

A, B, C = (f"fraud-{letter * 10}" for letter in "abc")


def policy(bound: str = "1%", **rollout: Any) -> ModelDeploymentSpec:
    """A fragment: an error rate, and what else the rollout says."""
    objectives = [{"name": "errors", "errorRate": {"max": bound}}]
    rest: JSON = {"canary": {"traffic": "20%"}, **rollout}
    return quiet(spec_of({"objectives": objectives, "rollout": rest}, fragment=True))


async def past(life: Lived, spec: ModelDeploymentSpec) -> list[PastRollout]:
    """What Prometheus has of it."""
    now = life.at(life.now)
    found = search(KEY, spec, Metrics(), life.at(-300), now, life.fetch)
    async with life.archive() as client:
        return [await counted(KEY, one, spec, (), Metrics(), 60.0, client) for one in found]


async def lived(errors: float, length: float = 900.0, **more: Any) -> Lived:
    """A second version with this share of errors beside a good one."""
    return await (await Lived(errors={"2": errors}, **more).run(400)).run(length, "2")


async def test_a_long_history_is_searched_coarsely_and_then_closely() -> None:
    """A rollout of half a minute is found in a month, to the same instants as in an hour."""
    life = await lived(0.2)
    now, spec = life.at(life.now), policy()
    near, far = (search(KEY, spec, Metrics(), life.at(since), now, life.fetch) for since in (-300.0, -30 * 86_400.0))
    assert near == far
    assert len(near) == 1


async def test_the_same_policy_comes_to_what_happened() -> None:
    """The rollback is found by who had requests, and judged on the operator's own numbers."""
    life = await lived(0.2)
    (one,) = await past(life, policy())
    assert (one.revision, one.control, one.came) == (NAMES["2"], NAMES["1"], Came.ROLLED_BACK)
    judged = judge(one, policy())
    told = life.log[-1]
    assert judged.came is Came.ROLLED_BACK
    assert judged.time is not None
    assert abs((judged.time - told.time).total_seconds()) <= life.interval
    assert (judged.rule, judged.numbers) == (told.rule, told.numbers)
    assert not judged.changed


async def test_a_loose_policy_would_have_promoted_it_and_what_that_had_cost() -> None:
    """Requests that stable answered would have failed at the canary's rate."""
    (one,) = await past(await lived(0.2), policy())
    judged = judge(one, policy("40%"))
    assert judged.came is Came.PROMOTED
    assert judged.changed
    assert judged.time is not None
    after = [i for e in one.evidence for i in e.intervals if i.end > judged.time]
    stable = sum(d.requests for i in after for d in i.control.values())
    assert judged.bad["errors"] == pytest.approx(0.2 * stable, rel=0.05)


async def test_a_strict_policy_would_have_spared_bad_requests() -> None:
    """A version of 2 % errors ran on for a quarter of an hour; one whose bound is lower takes it back."""
    life = await lived(0.05, overrides={"spec.objectives": [{"name": "errors", "errorRate": {"max": "30%"}}]})
    assert "Promoted" in [r.effect for r in life.log]
    (one,) = await past(life, policy())
    assert one.came is Came.PROMOTED
    judged = judge(one, policy("0.5%", analysis={"judge": "Threshold", "threshold": {"window": "10s", "failures": 1}}))
    assert judged.came is Came.ROLLED_BACK
    assert judged.changed
    assert judged.bad["errors"] <= 0


async def test_counts_that_end_before_a_proof_leave_a_policy_undecided() -> None:
    """It is not said what it would have done after."""
    (one,) = await past(await lived(0.2), policy())
    judged = judge(one, policy("10%", canary={"steps": [{"traffic": "20%", "duration": "1h"}, {"traffic": "50%"}]}))
    later = judge(one, policy("1%", analysis={"judge": "Threshold", "threshold": {"window": "5m"}}))
    assert (judged.came, later.came) == (Came.ROLLED_BACK, Came.UNDECIDED)
    assert (later.time, later.earlier, later.bad) == (None, None, {})
    assert not later.changed


async def test_what_goes_on_is_no_end() -> None:
    """Both still have requests."""
    (one,) = await past(await lived(0.014), policy())
    assert one.came is Came.UNDECIDED


async def test_a_deadline_holds_or_takes_back() -> None:
    """onInconclusive is part of a policy."""
    (one,) = await past(await lived(0.014), policy())
    analysis = {"sequential": {"detectable": "1"}}
    assert judge(one, policy("2%", deadline="2m", analysis=analysis)).came is Came.HELD
    back = judge(one, policy("2%", deadline="2m", onInconclusive="Rollback", analysis=analysis))
    assert back.came is Came.ROLLED_BACK


def test_a_recording_has_its_rollouts() -> None:
    """As the operator decided, with what it saw; the policy is judged on that."""
    world = RecordedWorld(versions={"2": Behaviour(errors=0.2)})
    world.serving().ask("2")
    world.until("RolledBack")
    world.ask("3")
    world.until("Watching")
    first, second = recorded(world.lines)
    assert (first.version, first.came, second.version, second.came) == ("2", Came.ROLLED_BACK, "3", Came.PROMOTED)
    again = judge(first, policy(canary={"traffic": "10%"}))
    assert again.came is Came.ROLLED_BACK
    assert again.numbers is not None
    told = next(r for r in world.records if r.effect == "RolledBack")
    assert told.numbers is not None
    assert again.numbers.requests == told.numbers.requests
    assert judge(second, policy()).came is Came.PROMOTED


def test_a_recording_that_ends_in_mid_rollout_has_it_undecided() -> None:
    """So far, and no further."""
    world = RecordedWorld(versions={"2": Behaviour(errors=0.02)})
    world.serving().ask("2")
    world.until("CanaryRunning").run(60)
    (one,) = recorded(world.lines)
    assert one.came is Came.UNDECIDED
    assert one.why == "it goes on where the recording ends"


def series(**pods: list[tuple[float, float]]) -> finding.Series:
    """Requests of one pod of each revision: a, b, c."""
    names = {"a": A, "b": B, "c": C}
    return [({"namespace": "ml", "pod": f"{names[key]}-7d9c5b8f6d-aaaaa"}, of) for key, of in pods.items()]


def rise(start: int, end: int, until: int = 3600, step: int = 60) -> list[tuple[float, float]]:
    """A counter that rises from one moment to another, and is there until a third."""
    return [(float(t), float(min(t, end) - start)) for t in range(start, until + 1, step)]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (series(a=rise(0, 3600), b=rise(600, 900)), [(B, A, 600.0, 900.0, End.TAKEN_BACK)]),
        (series(a=rise(0, 900), b=rise(600, 3600)), [(B, A, 600.0, 900.0, End.PROMOTED)]),
        (series(a=rise(0, 3600), b=rise(600, 3600)), [(B, A, 600.0, 3600.0, End.GOES_ON)]),
        (series(a=rise(0, 3600)), []),
        (series(a=rise(0, 600), b=rise(1800, 3600)), []),
        (
            series(a=rise(0, 1200), b=rise(600, 3600), c=rise(2400, 2700)),
            [(B, A, 600.0, 1200.0, End.PROMOTED), (C, B, 2400.0, 2700.0, End.TAKEN_BACK)],
        ),
    ],
)
def test_rollouts_are_told_by_who_has_requests(found: finding.Series, expected: list[tuple[Any, ...]]) -> None:
    """A first request while another revision had some; the end, when one of both has none any more."""
    rollouts = finding.rollouts(finding.rises(found, "fraud"), 60.0, 3600.0)
    assert [(f.revision, f.control, f.start, f.end, f.how) for f in rollouts] == expected


def test_a_second_attempt_is_another_rollout() -> None:
    """The same revision with requests again, after a pause."""
    again = [*rise(600, 900, 1800), *((float(t), float(t)) for t in range(2700, 3000, 60))]
    rollouts = finding.rollouts(finding.rises(series(a=rise(0, 7200, 7200), b=again), "fraud"), 60.0, 7200.0)
    assert [(f.revision, f.how) for f in rollouts] == [(B, End.TAKEN_BACK), (B, End.TAKEN_BACK)]


@pytest.mark.parametrize(
    ("labels", "revision"),
    [
        ({"pod": f"{A}-7d9c5b8f6d-aaaaa"}, A),
        ({"pod": "fraud-other-7d9c5b8f6d-aaaaa"}, ""),
        ({"pod": "other-aaaaaaaaaa-7d9c5b8f6d-aaaaa"}, ""),
        ({"destination_workload": A}, A),
        ({"envoy_cluster_name": f"ml/{A}"}, A),
        ({"envoy_cluster_name": "admin"}, ""),
        ({"exported_namespace": "ml", "exported_service": A}, A),
        ({}, ""),
    ],
)
def test_a_series_names_its_revision(labels: Mapping[str, str], revision: str) -> None:
    """By pod, workload, cluster or Service; others' series are nobody's."""
    assert finding.revision_in(labels, "fraud") == revision


@pytest.mark.parametrize("identity", list(SeriesIdentity))
def test_every_identity_can_be_searched(identity: SeriesIdentity) -> None:
    """The query keeps the labels that name a revision."""
    custom = {"requests": "seen_total", "identity": identity.value}
    metrics = Metrics.model_validate({"dialect": "Custom", "custom": custom})
    assert re.match(r"sum by \([a-z_, ]+\) \(last_over_time\(seen_total", finding.query("ml", "fraud", metrics, "1s"))


def test_e_values_are_read_as_they_are_written() -> None:
    """ "over a million" is a million in a chart."""
    assert [e_value(text) for text in ("0.041", "101", "over a million", None)] == [0.041, 101.0, 1e6, None]


async def judged() -> tuple[Judged, ...]:
    """Two rollouts by a loose policy."""
    out = []
    for errors in (0.2, 0.0):
        (one,) = await past(await lived(errors), policy())
        out.append(judge(one, policy("40%")))
    return tuple(out)


async def test_the_table_and_the_json_say_the_same() -> None:
    """What happened, what would have, when, and at what cost; the assumption stands below."""
    done = Backtest("loose.yaml", "the last 2h", await judged(), ("a note",))
    shown = to_text(done)
    assert "RolledBack" in shown
    assert "Promoted *" in shown
    assert "at the weights as they were" in shown
    assert shown.endswith("a note")
    assert "2 rollouts of the last 2h; 1 end otherwise." in summary(done)
    data = json.loads(json.dumps(to_json(done), allow_nan=False))
    assert data["summary"]["happened"] == {"Promoted": 1, "RolledBack": 1, "Held": 0, "Undecided": 0}
    assert data["summary"]["policy"]["Promoted"] == 2
    assert data["summary"]["badRequests"]["errors"] > 0
    assert [r["changed"] for r in data["rollouts"]] == [True, False]
    assert data["rollouts"][0]["secondsEarlier"] > 0
    assert f"errors +{data['summary']['badRequests']['errors']:,}" in shown


async def test_the_page_stands_alone() -> None:
    """No script and nothing from elsewhere; two charts for each rollout; names are escaped."""
    done = Backtest("<loose>.yaml", "the last 2h", await judged())
    shown = backtest_page(done)
    assert "<script" not in shown
    assert not re.search(r'(src|href)="|url\(|@import', shown)
    assert shown.count("<svg") == 4
    assert "&lt;loose&gt;.yaml" in shown
    assert "<loose>" not in shown
    assert "nan" not in "".join(re.findall(r' d="([^"]*)"', shown))
    assert T0 > 0
