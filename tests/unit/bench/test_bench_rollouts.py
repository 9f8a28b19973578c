"""bench-rollouts: windows over recorded intervals, the plain threshold on them, its pace, and who fails when."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.decisions.naive import windows_over
from bench.decisions.ours import NEVER
from bench.decisions.scenarios import Scenario, Table, generate, generator
from bench.rollouts.judging import LIMITS, Counts, Recorded, broken, exact_interval, rolled_back_in
from bench.rollouts.play import NEW, OLD, Pace, Trial, by_version
from bench.rollouts.report import UNDECIDED, Rollout, Totals, table
from lab.load import Record, Snapshot
from modeldeployment.decision.evidence import Delta, Interval
from stand import ROOT

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = 60.0
BOUND = 0.01


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def interval(start: float, end: float, *canary: tuple[int, int], stable: tuple[int, int] = (180, 1)) -> Interval:
    """`canary`: requests and errors of each of its pods."""
    return Interval(
        start=at(start),
        end=at(end),
        oldest_start=at(start),
        trial={f"canary-{i}": Delta(n, x) for i, (n, x) in enumerate(canary)},
        control={"stable-0": Delta(*stable)},
    )


def every_ten_seconds(canary: Iterable[tuple[int, int]], since: float = 0.0) -> list[Interval]:
    return [interval(since + 10 * i, since + 10 * i + 10, counts) for i, counts in enumerate(canary)]


def whole(intervals: Sequence[Interval]) -> Recorded:
    return Recorded.until(intervals, at(1e6))


def test_windows_begin_with_the_canarys_first_requests() -> None:
    """Its pods start for as long as they like: minutes are counted from when it gets traffic."""
    idle = every_ten_seconds([(0, 0)] * 4)
    evidence = whole([*idle, *every_ten_seconds([(20, 0)] * 6, since=40)])
    assert evidence.windows(MINUTE) == [Counts(120, 0)], "one whole minute, from second 40 to second 100"


def test_evidence_ends_where_it_was_decided() -> None:
    """What came after the decision is not in the judgement."""
    evidence = Recorded.until(every_ten_seconds([(20, 0)] * 6 + [(20, 20)] * 6), at(60))
    assert evidence.canary == Counts(120, 0), "no error of the second minute"
    assert evidence.stable == Counts(6 * 180, 6), "stable's of the same six intervals"


def test_a_window_under_way_is_not_judged() -> None:
    """One minute and 50 s are one window."""
    evidence = whole(every_ten_seconds([(20, 0)] * 6 + [(20, 20)] * 5))
    assert evidence.windows(MINUTE) == [Counts(120, 0)]


def test_a_missed_scrape_makes_a_longer_interval_and_no_window_less() -> None:
    """What it counted falls into the window in which it ends; no request is lost, none is counted twice."""
    evidence = whole([interval(0, 50, (100, 1)), interval(50, 80, (60, 2)), interval(80, 120, (80, 0))])
    assert evidence.windows(MINUTE) == [Counts(100, 1), Counts(140, 2)]


def test_a_gap_of_minutes_leaves_empty_windows() -> None:
    """They are there, and break nothing."""
    windows = whole([interval(0, 60, (120, 0)), interval(180, 240, (120, 2))]).windows(MINUTE)
    assert windows == [Counts(120, 0), Counts(), Counts(), Counts(120, 2)]
    assert broken(windows, BOUND) == [3]


def test_pods_of_an_arm_add_up() -> None:
    """The window's share is of the version, not of a pod."""
    assert whole([interval(0, 60, (60, 1), (60, 0))]).windows(MINUTE) == [Counts(120, 1)]


def test_a_canary_that_never_had_traffic_has_no_windows() -> None:
    """Nothing to judge is no rollback."""
    evidence = whole(every_ten_seconds([(0, 0)] * 12))
    assert (evidence.windows(MINUTE), evidence.canary) == ([], Counts())
    assert rolled_back_in([], BOUND, 0) is None


def test_a_share_at_the_bound_keeps_it() -> None:
    """`result > 0.01` is Argo's failure condition; 1 of 100 is not above 1 %."""
    assert broken([Counts(100, 1), Counts(100, 2)], BOUND) == [1]


@pytest.mark.parametrize(("limit", "window"), [(0, 1), (1, 3), (2, 4), (3, None)])
def test_more_than_so_many_broken_windows_roll_back(limit: int, window: int | None) -> None:
    """Limits are exceeded, not reached, and a window that holds forgets nothing."""
    windows = [Counts(100, x) for x in (0, 2, 0, 2, 2, 0)]
    assert rolled_back_in(windows, BOUND, limit) == window


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 5)), max_size=30), st.integers(0, 6))
def test_a_higher_limit_never_rolls_back_sooner(counts: list[tuple[int, int]], limit: int) -> None:
    """Rolled back at f + 1: then at f too, and earlier."""
    windows = [Counts(n, min(n, x)) for n, x in counts]
    later, sooner = rolled_back_in(windows, BOUND, limit + 1), rolled_back_in(windows, BOUND, limit)
    assert later is None or (sooner is not None and sooner < later)


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 5), st.integers(0, 1)), min_size=1, max_size=40))
def test_whole_windows_hold_every_request_but_the_last_ones(parts: list[tuple[int, int, int]]) -> None:
    """Over any lengths of intervals: the sum of the windows is what ended within them."""
    intervals, now = [], 0.0
    for requests, length, errors in parts:
        intervals.append(interval(now, now + 10 * length, (requests, errors)))
        now += 10 * length
    windows = whole(intervals).windows(MINUTE)
    assert len(windows) == now // MINUTE
    ended = [i for i in intervals if i.end <= at(len(windows) * MINUTE)]
    assert sum(windows, Counts()) == sum((Counts.of(i.trial.values()) for i in ended), Counts())


def test_the_threshold_is_the_one_of_bench_decisions() -> None:
    """On the same counts, both roll the same rollouts back, in the same minute."""
    batch = generate(Scenario("plain", Table.GOOD, 20, history=0, past=0), 40, generator(1))
    n, x = batch.canary.arm
    for limit in LIMITS:
        theirs = [None if look == NEVER else int(look) // 6 for look in windows_over(batch, limit)]
        runs = (whole(every_ten_seconds(zip(map(int, n[i]), map(int, x[i]), strict=True))) for i in range(batch.runs))
        assert [rolled_back_in(run.windows(MINUTE), BOUND, limit) for run in runs] == theirs, f"f = {limit}"


@pytest.mark.parametrize(
    ("hits", "runs", "low", "high"),
    [
        (0, 10, 0.0, 0.308497),  # 1 − 0.025^(1/10)
        (10, 10, 0.691503, 1.0),  # 0.025^(1/10)
        (1, 10, 0.002529, 0.445016),
        (5, 10, 0.187086, 0.812914),
    ],
)
def test_exact_interval(hits: int, runs: int, low: float, high: float) -> None:
    """Clopper & Pearson's, to six digits."""
    assert exact_interval(hits, runs) == pytest.approx((low, high), abs=5e-7)


def rollout(number: int, result: str, errors: Sequence[int]) -> Rollout:
    return Rollout(
        name=f"good-{number}",
        version="2.0.0",
        seed=f"1/good-{number}/2.0.0",
        result=result,
        message="",
        seconds=60.0 * len(errors),
        canary=Counts(100 * len(errors), sum(errors)),
        stable=Counts(900 * len(errors), 4),
        looks=6 * len(errors),
        windows=tuple(Counts(100, x) for x in errors),
    )


def test_totals_count_both_judges_on_the_same_rollouts() -> None:
    """Ours by what the operator did, the other's by the windows."""
    rollouts = [
        rollout(0, "Promoted", [0, 2, 0]),
        rollout(1, "RolledBack", [2, 2, 2]),
        rollout(2, "Promoted", [0, 0, 0]),
        rollout(3, UNDECIDED, [0, 0, 0]),
    ]
    totals = {t.judge: t for t in Totals.of(rollouts, BOUND, limits=(0, 1, 3))}
    ours, *others = totals.values()
    assert (ours.rolled_back, ours.promoted, ours.undecided, ours.runs) == (1, 2, 1, 4)
    assert [(t.rolled_back, t.promoted) for t in others] == [(2, 2), (1, 3), (0, 4)], "f = 0, 1, 3"
    assert (ours.ci_low, ours.ci_high) == pytest.approx(exact_interval(1, 4), abs=1e-4)


def test_the_table_shows_each_rollout_and_each_judge() -> None:
    """What a person reads."""
    rollouts = [rollout(0, "Promoted", [0, 2, 0]), rollout(1, "RolledBack", [2, 2, 2])]
    shown = table(rollouts, Totals.of(rollouts, BOUND, limits=(0, 1)), BOUND)
    assert "1 of 3" in shown and "3 of 3" in shown, "windows broken of windows judged"
    assert "good-1" in shown and "RolledBack" in shown
    assert "1 of 2" in shown, "ours rolled one of two back"


@pytest.mark.parametrize("factor", [1, 2, 5, 10])
def test_every_pace_has_the_same_requests(factor: int) -> None:
    """In a look, in a window and in a rollout: those of 20 rps, 10 s, a minute and half an hour."""
    pace = Pace(factor)
    looked, judged = pace.rate * pace.seconds(pace.interval), pace.rate * pace.seconds(pace.window)
    assert (looked, judged, pace.rate * pace.lasts) == (200, 1200, 36_000)


def test_a_pace_of_one_has_the_operators_defaults() -> None:
    """Only the steps are asked for; interval and deadline are what a spec without them has."""
    rollout = Pace().rollout()
    assert rollout["analysis"] == {"interval": "10s"} and rollout["deadline"] == "7200s", "10 s and 2 h"
    assert rollout["canary"]["steps"] == [{"traffic": f"{w}%", "duration": "600s"} for w in (10, 25, 50)]


def decision(effect: str, time: str, version: str = NEW) -> dict[str, str]:
    return {"effect": effect, "time": time, "version": version, "revision": "good-2", "message": effect}


def status(*decisions: dict[str, str]) -> dict[str, object]:
    """The newest decision first, as the operator writes them."""
    rollout = {"version": NEW, "revision": "good-2", "startTime": "2026-01-01T00:00:00Z"}
    return {"rollout": rollout, "stable": {"revision": "good-1", "version": OLD}, "decisions": list(decisions)}


def test_a_promotion_ends_with_the_evidence_of_its_last_step() -> None:
    """What came while the router moved to 100 % was not judged."""
    trial = Trial("good", seed=1)
    step, promoted = decision("StepPassed", "2026-01-01T00:30:01Z"), decision("Promoted", "2026-01-01T00:30:05Z")
    assert not trial.see(status(step)), "a step passed, which is not the end"
    assert trial.see(status(promoted, step))
    assert (trial.result, trial.decided) == ("Promoted", at(1801))
    assert (trial.stable, trial.revision) == ("good-1", "good-2")


def test_a_rollback_ends_with_its_own_evidence() -> None:
    """And the end of a rollout is told once."""
    trial = Trial("good", seed=1)
    seen = status(decision("RolledBack", "2026-01-01T00:20:01Z"), decision("StepPassed", "2026-01-01T00:10:01Z"))
    assert trial.see(seen) and not trial.see(seen)
    assert (trial.result, trial.decided) == ("RolledBack", at(1201))


def test_decisions_about_the_first_version_end_nothing() -> None:
    """It was promoted too, in its time."""
    trial = Trial("good", seed=1)
    assert not trial.see(status(decision("Promoted", "2026-01-01T00:00:00Z", version=OLD)))
    assert trial.result == UNDECIDED


def test_clients_count_by_who_answered() -> None:
    """A 5xx is an error of the version that gave it; no answer at all is nobody's."""
    records = (Record(0, 200, 0.1, OLD), Record(1, 500, 0.1, NEW), Record(2, 200, 0.1, NEW), Record(3, 0, 9, "Timeout"))
    assert by_version(Snapshot(records)) == {OLD: Counts(1, 0), NEW: Counts(2, 1), "": Counts(1, 1)}


@pytest.fixture(scope="module")
def server() -> Iterator[ModuleType]:
    """The example model server."""
    path = ROOT / "examples" / "model-server" / "server.py"
    spec = importlib.util.spec_from_file_location("example_model_server", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


async def failures(server: ModuleType, requests: int, **settings: object) -> list[int]:
    """Which requests fail."""
    faults, failed = server.Faults(server.Settings(**settings)), []
    for number in range(requests):
        try:
            await faults.inject()
        except RuntimeError:
            failed.append(number)
    return failed


async def test_errors_without_a_seed_come_evenly(server: ModuleType) -> None:
    """A demo has no luck in it."""
    assert await failures(server, 15, fault_error_rate=0.2) == [4, 9, 14]


async def test_errors_with_a_seed_come_by_chance(server: ModuleType) -> None:
    """The same with the same seed, others with another, and about as many as the rate says, in uneven distances."""
    first, again, other = [
        await failures(server, 20_000, fault_error_rate=0.005, fault_seed=seed) for seed in ("1/a", "1/a", "1/b")
    ]
    assert first == again != other
    assert 60 <= len(first) <= 140, "100 in the mean; four standard deviations are 40"
    assert len({b - a for a, b in itertools.pairwise(first)}) > 20, "distances as of independent requests"
