"""A recording holds all that a decision was taken on, exactly, and is refused in words where it cannot be read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeldeployment.decision.decide import decide
from modeldeployment.decision.evidence import DataState, Delta, Evidence, History, Interval
from modeldeployment.decision.memory import Memory
from modeldeployment.decision.sequential import RuleState
from modeldeployment.replaying.codec import decode, encode
from modeldeployment.replaying.recording import Header, Look, RecordingError, read
from modeldeployment.replaying.rerun import Replayed, rerun
from unit.decision.worlds import BLIND, Behaviour
from unit.replaying.recorded import RecordedWorld

BAD = {"2": Behaviour(errors=0.2)}
STEPS = {"spec.rollout.canary": {"steps": [{"traffic": "20%"}, {"traffic": "50%", "duration": "1m"}]}}


def rolled_back() -> RecordedWorld:
    """A bad version that came and went."""
    world = RecordedWorld(versions=BAD)
    world.serving().ask("2")
    world.until("RolledBack")
    return world


def as_recorded(world: RecordedWorld, done: Replayed, of: int = -1) -> None:
    """The replay came to what the world came to."""
    assert done.difference is None, done.difference.sentence() if done.difference else ""
    assert done.looks == len(world.files[of]) - 1


def test_a_replay_reaches_the_same_decisions_byte_for_byte() -> None:
    """Every decision of a rollout and a rollback comes out of the lines alone."""
    world = rolled_back()
    done = rerun(world.lines)
    as_recorded(world, done)
    assert done.records == [record.to_json() for record in world.records]


def test_signals_are_in_a_recording() -> None:
    """A version that is held since requests wait in it; also in a file that begins when that is known already."""
    crowded = {"1": Behaviour(pods=tuple("abcde")), "2": Behaviour(slow=0.3, queue=4.0)}
    world = RecordedWorld({"spec.rollout.canary": {"steps": [{"traffic": "25%"}]}}, versions=crowded)
    world.serving().ask("2")
    world.until("CapacityFault")
    world.new_file()
    world.run(60)
    for of in (0, 1):
        as_recorded(world, rerun(world.files[of]), of)
    assert '"queue":4.0' in world.files[0][-1]


def test_a_file_that_begins_in_mid_trial_is_complete_in_itself() -> None:
    """The tests are in it, with what a restart would lose."""
    world = RecordedWorld(STEPS)
    world.serving().ask("2")
    world.until("CanaryRunning").run(20)
    world.new_file()
    world.until("Watching")
    as_recorded(world, rerun(world.lines))
    assert '"RuleState"' in world.lines[1]


def test_a_restart_of_the_operator_is_replayed_as_one() -> None:
    """The tests begin anew from the stored status, there as here."""
    world = RecordedWorld(STEPS)
    world.serving().ask("2")
    world.until("CanaryRunning").run(20)
    world.restart()
    world.until("Watching")
    as_recorded(world, rerun(world.lines))
    assert sum('"status":{' in line for line in world.lines[2:]) == 1


def test_what_does_not_change_is_written_once() -> None:
    """The spec is in the first look alone."""
    lines = rolled_back().lines
    assert [n for n, line in enumerate(lines) if '"template"' in line] == [
        1,
        next(n for n, line in enumerate(lines) if '"version":"2"' in line and '"template"' in line),
    ]


OPERATIONS: dict[str, Callable[[RecordedWorld], object]] = {
    "run": lambda w: w.run(40),
    "ask 1": lambda w: w.ask("1"),
    "ask 2": lambda w: w.ask("2"),
    "ask 3": lambda w: w.ask("3"),
    "restart": lambda w: w.restart(),
    "new file": lambda w: w.new_file(),
    "steps": lambda w: w.change(STEPS),
    "judge": lambda w: w.change({"spec.rollout.analysis": {"judge": "Threshold"}}),
    "crash": lambda w: setattr(w.does("2"), "crash", (20.0, 20.0)),
    "blind": lambda w: setattr(w, "data", BLIND[len(w.past) % len(BLIND)]),
    "sighted": lambda w: setattr(w, "data", None),
    "refused": lambda w: setattr(w, "refusal", "quota"),
    "taken": lambda w: setattr(w, "refusal", ""),
    "abort": lambda w: w.change(
        {"spec.rollout.override": {"revision": w.target.name, "action": "Abort", "requestTime": w.now.isoformat()}}
    ),
    "conflict": lambda w: setattr(w, "conflict", "" if w.conflict else "another has the name"),
}


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=3, max_size=8),
    st.sampled_from([0.0, 0.004, 0.05, 0.3]),
    st.sampled_from([0.0, 0.02, 0.2]),
)
def test_whatever_happened_each_file_replays(operations: list[str], errors: float, slow: float) -> None:
    """Restarts, outages, edits and full files at any time: every file comes to what was recorded."""
    world = RecordedWorld(versions={"2": Behaviour(errors=errors, slow=slow), "3": Behaviour(slow=slow)})
    world.serving().ask("2")
    world.run(60)
    for operation in operations:
        OPERATIONS[operation](world)
        world.run(20)
    for number in range(len(world.files)):
        if len(world.files[number]) > 1:
            as_recorded(world, rerun(world.files[number]), number)


NUMBERS = st.one_of(st.integers(0, 2**53), st.floats(min_value=0, allow_nan=False))
MOMENTS = st.datetimes(
    datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.sampled_from([UTC, timezone(timedelta(hours=-3))])
).map(lambda moment: moment.replace(fold=0))
NAMES = st.text(min_size=1, max_size=8)
DELTAS = st.builds(
    Delta,
    st.integers(0, 2**53),
    st.none() | st.integers(0, 9),
    st.dictionaries(st.floats(0, 1e6), st.integers(0, 99), max_size=3),
    st.integers(0, 99),
)
ARMS = st.dictionaries(NAMES, DELTAS, max_size=2)
INTERVALS = st.lists(st.builds(Interval, MOMENTS, MOMENTS, MOMENTS, ARMS, ARMS), max_size=2).map(tuple)
EVIDENCE = st.builds(
    Evidence,
    state=st.sampled_from(DataState),
    message=NAMES,
    time=MOMENTS,
    intervals=INTERVALS,
    history=st.none() | st.builds(History, INTERVALS, INTERVALS),
    windows=st.dictionaries(st.floats(1, 1e5), DELTAS, max_size=2),
    data_age=st.none() | st.floats(0, 1e6),
    values=st.dictionaries(st.tuples(NAMES, NAMES | st.just("")), st.floats(allow_nan=False), max_size=2),
    query_errors=st.dictionaries(NAMES, NAMES, max_size=2),
    last_traffic=st.dictionaries(NAMES, MOMENTS, max_size=2),
)


@given(EVIDENCE)
def test_evidence_survives_json_exactly(evidence: Evidence) -> None:
    """Whatever Prometheus may have said: infinities, microseconds, whole numbers in place of floats."""
    read_back = decode(Evidence, json.loads(json.dumps(encode(evidence), allow_nan=False)))
    assert read_back == evidence
    assert repr(read_back) == repr(evidence)


@given(NUMBERS)
def test_a_number_keeps_its_type_and_bits(number: float) -> None:
    """0 is not 0.0, and 0.1 is 0.1."""
    workload = Evidence(DataState.FLOWING, "", datetime(2026, 1, 1, tzinfo=UTC), data_age=number)
    back = decode(Evidence, json.loads(json.dumps(encode(workload)))).data_age
    assert (back, type(back)) == (number, type(number))


def test_nan_is_written_as_text() -> None:
    """JSON has no NaN, and other readers than Python's refuse it."""
    data = encode(Evidence(DataState.FLOWING, "", datetime(2026, 1, 1, tzinfo=UTC), data_age=math.nan))
    assert data["data_age"] == "nan"
    assert math.isnan(decode(Evidence, data).data_age or 0.0)


def test_all_of_a_view_and_of_the_tests_comes_back() -> None:
    """Each look of a recording is what the operator had before it, field by field."""
    world = rolled_back()
    looks = [look for look in read(world.lines) if isinstance(look, Look)]
    for look, (view, _) in zip(looks, world.taken, strict=True):
        assert replace(look.view, status=view.status) == view, f"at {view.now}"
    memory = next(d.memory for _, d in reversed(world.taken) if d.memory.states)
    back = decode(Memory, json.loads(json.dumps(encode(memory))))
    assert back == memory
    opened = [
        [(s.pods.names, s.pods.series.tolist()) for s in of.states.values() if isinstance(s, RuleState)]
        for of in (back, memory)
    ]
    assert opened[0] == opened[1], "the open blocks of stable's pods, which a restart loses, are lost here too"


def test_another_decision_than_recorded_is_told() -> None:
    """The first difference, with both sides of it; what follows is not replayed."""
    lines = rolled_back().lines
    at = next(n for n, line in enumerate(lines) if '"effect":"RolledBack"' in line)
    data = json.loads(lines[at])
    requests = data["outcome"]["records"][0]["numbers"]["requests"]
    data["outcome"]["records"][0]["numbers"]["requests"] += 1
    lines[at] = json.dumps(data) + "\n"
    done = rerun(lines)
    assert done.difference is not None
    assert done.difference.what == "RolledBack: numbers.requests"
    assert (done.difference.recorded, done.difference.replayed) == (requests + 1, requests)
    assert done.looks == at


def test_a_status_that_differs_in_anything_is_told() -> None:
    """What is in no decision counts too."""
    lines = rolled_back().lines
    data = json.loads(lines[5])
    data["outcome"]["status"] = "0" * 64
    lines[5] = json.dumps(data) + "\n"
    done = rerun(lines)
    assert done.difference is not None
    assert done.difference.what == "the hash of the status"


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "it is empty"),
        (["{}\n"], "the first line does not name its format"),
        (["hello\n"], "its first line is not JSON"),
        (["[" * 100_000 + "\n"], "its first line is not JSON"),
        (["[1]\n"], "line 1 is no JSON object"),
        (
            ['{"format":"modeldeployment-recording","version":2,"operator":"0.9.0"}\n'],
            "it is of version 2, and this command reads version 1: use the modeldeployment command that wrote it (0",
        ),
        (['{"format":"modeldeployment-recording","version":1}\n'], "line 1 is damaged"),
    ],
)
def test_what_is_no_recording_is_refused_in_words(lines: list[str], says: str) -> None:
    """Another version, another file, none at all."""
    with pytest.raises(RecordingError, match=says.replace("(", r"\(").replace(")", r"\)")):
        rerun(lines)


def test_a_damaged_line_is_named() -> None:
    """By its number, and what is wrong with it."""
    lines = rolled_back().lines
    broken = json.loads(lines[1])
    broken["spec"]["objectives"][0]["errorRate"] = {"max": 3}
    with pytest.raises(RecordingError, match=r"line 2 is damaged: objectives\.0\.errorRate\.max"):
        rerun([lines[0], json.dumps(broken) + "\n"])
    with pytest.raises(RecordingError, match="line 3 is damaged: KeyError: 'now'"):
        rerun([*lines[:2], '{"generation":1,"outcome":{"records":[],"state":"","message":"","status":""}}\n'])
    with pytest.raises(RecordingError, match="line 4 is not JSON"):
        rerun([*lines[:3], "{\n"])


def test_a_line_that_a_crash_cut_off_is_left_out() -> None:
    """The looks before it count."""
    lines = rolled_back().lines
    done = rerun([*lines[:-1], lines[-1][:-20]])
    assert done.difference is None
    assert done.looks == len(lines) - 2


def test_a_recording_without_a_look_says_so() -> None:
    """A header alone is nothing to replay."""
    with pytest.raises(RecordingError, match="holds no look"):
        rerun(rolled_back().lines[:1])


def test_the_header_says_what_it_is_of() -> None:
    """Namespace, name, when it began, and the version that wrote it."""
    header = next(read(rolled_back().lines))
    assert isinstance(header, Header)
    assert (header.namespace, header.name) == ("default", "fraud")


def test_decide_itself_is_what_is_replayed() -> None:
    """A look read back is decided as the operator decided it."""
    world = rolled_back()
    look = next(look for look in read(world.lines) if isinstance(look, Look))
    assert look.memory is not None
    assert decide(look.view, look.memory).status == world.taken[0][1].status
