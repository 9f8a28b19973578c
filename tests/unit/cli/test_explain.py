"""`kubectl model explain`: the essential sentences of every state, the same facts as JSON, and any status at all."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeldeployment.api.modeldeployment import ModelDeploymentStatus
from modeldeployment.api.status import Cause, Verdict
from modeldeployment.cli import words
from modeldeployment.cli.explain import render
from modeldeployment.cli.facts import Explanation, explain
from modeldeployment.decision.evidence import DataState
from unit.cli.fake_cluster import Cluster
from unit.decision.worlds import BLIND, Behaviour, World

README = Path(__file__).parents[3] / "README.md"


def facts(world: World, later: float = 0.0) -> Explanation:
    """The explanation of a world as it is."""
    status = ModelDeploymentStatus.model_validate(json.loads(json.dumps(world.status.to_json())))
    return explain("ml", "fraud", world.spec, 0, status, world.now + timedelta(seconds=later))


def told(world: World, later: float = 0.0) -> str:
    """It as text, on one line."""
    return " ".join(render(facts(world, later)).split())


def trial(overrides: dict[str, Any] | None = None, **more: Any) -> World:
    """Version 2 beside version 1."""
    world = World(overrides, **{"rps": 20.0, **more}).serving()
    world.ask("2")
    return world


def bad(errors: float = 0.3) -> dict[str, Behaviour]:
    """Version 2 fails that share of its requests."""
    return {"2": Behaviour(errors=errors)}


def test_a_good_canary_that_waits() -> None:
    """Who has what, the bound and the counts, what the e-values mean, what is missing, until when, and what to do."""
    world = trial().until("CanaryRunning").run(100)
    text = told(world)
    for sentence in (
        "fraud in ml: CanaryRunning",
        "2 is on trial: it gets 10% of the traffic, 1 the rest, and both are compared.",
        "serves 1: 90% of the traffic, 1 of 1 pods Ready",
        "allowed at most 1%",
        "○ that it is good, the weakest rule: about 1/2 of what decides",
        "counted 2: 0 of 180 bad (0%); 1: 0 of 1,820 bad (0%)",
        "if 2 were no worse than 1, evidence like this would be nothing unusual (e-value 1); 1 of 50 takes it back",
        "if its rate were 2 times the allowed one, evidence this strong would come up in at most 1 of 12 rollouts; "
        "1 of 20 passes the step",
        "to pass needs about 33 more requests, 16s at this traffic",
        "1h58m without a verdict by then it is held at its weight (rollout.onInconclusive)",
        "kubectl model promote fraud -n ml",
        "kubectl model abort fraud -n ml",
        "kubectl model pause fraud -n ml",
    ):
        assert sentence in text, f"it does not say: {sentence}\n{text}"


def test_a_bad_canary_that_was_taken_back() -> None:
    """The numbers that decided, in words, whose fault it was, the chart that leads there, and how to try again."""
    text = told(trial(versions=bad(0.05)).until("RolledBack"))
    for sentence in (
        "2 was taken back on evidence, and is kept out.",
        "errors: Fail, proven broken",
        "counted 2: 6 of 120 bad (5%); 1: 0 of 1,280 bad (0%)",
        "if 2 were no worse than 1, evidence this strong would come up in at most 1 of 70 rollouts",
        "its own: it is worse than the other version at the same time",
        "● that it is worse: enough to decide",
        "2 RolledBack by errors, cause Canary",
        "kubectl model retry fraud -n ml",
    ):
        assert sentence in text, f"it does not say: {sentence}\n{text}"
    assert "kubectl model promote" not in text, "there is nothing to promote"


def test_a_rule_that_fails_and_does_not_take_back_is_held() -> None:
    """The cause is not named in rollbackOnCauses: the state and the rule both say so."""
    text = told(trial({"spec.rollout.rollbackOnCauses": ["Pod"]}, versions=bad()).until("CanaryFault", most=600))
    assert "2 is held at 10%: rollout.rollbackOnCauses does not say that it is taken back for the cause Canary." in text
    assert "cause its own: it is worse than the other version" in text


def test_an_incident_of_both_is_said_to_be_shared() -> None:
    """Both break the bound: held, and told what to look for."""
    world = trial(rps=100.0).until("CanaryRunning")
    for version in "12":
        world.does(version).errors = 0.3
    text = told(world.until("SharedFault", most=900))
    assert "2 is held at 10%" in text and "cause shared: both versions break the bound" in text


def test_the_watch() -> None:
    """Promoted, what starts a comparison, when it ends, and that an abort goes back."""
    text = told(trial(rps=100.0).until("Watching").run(300))
    assert "2 was promoted and serves all of the traffic. 1 is kept warm, to return to at once." in text
    assert "at 17,280 half of the traffic goes back to compare" in text
    assert "● that its bound breaks, the mean of the rules: under 1/1,000 of what decides" in text
    assert "23h55m the watch ends, and the version before is archived" in text
    assert "gives all of the traffic back to 1, and keeps 2 out" in text


def test_a_comparison() -> None:
    """Half and half, the smaller error bound that decides it, and its end."""
    world = trial(rps=100.0).until("Watching").run(300)
    for version in "12":
        world.does(version).errors = 0.2
    text = told(world.until("Comparing").run(60))
    assert "Half of the traffic goes to 1 for a while" in text
    assert "1 of 400 takes it back" in text, "half of the watch's error bound, 1/200, of the mean of two rules"
    assert "the comparison ends, and without a proof the traffic goes back" in text


@pytest.mark.parametrize(
    ("mode", "sentence"),
    [
        ("Advance", "nothing starts, rises or is promoted; a bad version is still taken back."),
        ("All", "nothing moves at all, and not even a bad version is taken back."),
    ],
)
def test_a_pause(mode: str, sentence: str) -> None:
    """What it stops, and how it ends; the deadline does not run."""
    world = trial().until("CanaryRunning").run(60)
    world.change({"spec.suspend": {"mode": mode}})
    text = told(world.run(20))
    assert "A person suspended the rollout." in text and sentence in text
    assert "kubectl model resume fraud -n ml" in text and "kubectl model pause" not in text
    assert "without a verdict by then" not in text


def test_no_traffic() -> None:
    """Nothing to judge, and that this decides nothing."""
    text = told(trial(rps=0.0).until("CanaryRunning").run(100))
    assert "No requests arrive, so there is nothing to judge. That neither promotes nor rolls back." in text
    assert "counted 2: no requests yet; 1: no requests yet" in text


@pytest.mark.parametrize("state", BLIND)
def test_no_evidence(state: DataState) -> None:
    """Each way of being blind has its sentence."""
    world = trial().until("CanaryRunning").run(60)
    world.data = state
    assert words.REASONS[state.value] in told(world.run(20))


def test_a_first_version_that_does_not_come_up() -> None:
    """It waits for its pods, and is never said to be taken back."""
    world = World(versions={"1": Behaviour(ready_after=None, trouble=("ImagePullBackOff", "no such image"))}).run(60)
    text = told(world)
    assert "1 is the first version and has no Ready pod yet" in text and "ImagePullBackOff: no such image" in text
    assert "past this it is said to be late" in text and "onInconclusive" not in text
    assert f"kubectl get pods -l modeldeployment.io/revision={world.name('1')} -n ml" in text
    assert "Nothing else can serve, so it is tried on." in told(world.run(900))


def test_the_threshold_judge_and_queries_have_no_e_values() -> None:
    """Their own sentence stands instead, and the chart says why it has no lines."""
    query = {"name": "drift", "promql": {"query": "drift_psi", "max": "0.2"}}
    asked: dict[str, Any] = {"judge": "Threshold", "threshold": {"passes": 100}}
    world = trial({"spec.rollout.analysis": asked, "spec.objectives[2]": query}).until("CanaryRunning").run(60)
    text = told(world)
    assert "no e-values: the threshold judge and queries have none" in text
    assert "0 of 3 failed windows" in text
    assert "drift: drift_psi" in text, "the query is not shown"


def test_an_operator_that_is_away_is_noticed() -> None:
    """The newest evidence in the status is old, and the spec newer than what was looked at."""
    world = trial().until("CanaryRunning").run(60)
    assert "does the operator run?" not in told(world)
    assert "The newest evidence here is 10m old: does the operator run?" in told(world, later=600)
    newer = explain("ml", "fraud", world.spec, 99, world.status, world.now)
    assert "The spec was changed since" in newer.says[-1]


def test_every_state_of_the_readme_has_words() -> None:
    """The table of states in the README, and every cause."""
    table = README.read_text("utf-8").partition("| STATE | means |")[2].partition("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    states = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert len(states) > 15, "the table was not found"
    assert states <= words.STATES.keys(), f"no words for {states - words.STATES.keys()}"
    assert words.CAUSES.keys() == set(Cause) and words.VERDICTS.keys() == set(Verdict)


@pytest.mark.parametrize(
    ("e_value", "said"),
    [
        ("0.35", "nothing unusual (e-value 0.35); 1 of 25 takes it back"),
        ("125", "at most 1 of 125 rollouts; 1 of 25 takes it back"),
        ("12.9", "at most 1 of 12 rollouts"),
        ("over a million", "fewer than 1 of a million rollouts"),
    ],
)
def test_e_values_in_words(e_value: str, said: str) -> None:
    """A chance of at most 1/e, never said to be rarer than it is."""
    assert said in words.evidence("if it were good", e_value, 25, "takes it back")


def test_json_has_the_same_facts() -> None:
    """`-o json`: what a script needs, with the numbers themselves."""
    world = trial(versions=bad(0.05)).until("CanaryRunning").run(60)
    cluster = Cluster(status=world.status.to_json())
    code, out = cluster.run("explain", "fraud", "-o", "json")
    assert code == 0, out
    shown = json.loads(out)
    assert (shown["namespace"], shown["name"], shown["state"]) == ("team", "fraud", "CanaryRunning")
    errors = shown["rules"][0]
    assert errors["name"] == "errors" and errors["verdict"] == "Inconclusive"
    assert errors["numbers"]["stableRequests"] > errors["numbers"]["requests"] > 0
    assert {"worse", "bound", "good"} == errors["says"].keys()
    assert shown["trail"]["points"][-1].keys() == {"afterSeconds", "weight", "worseLog10", "goodLog10"}
    assert any(c["command"] == "kubectl model abort fraud -n team" for c in shown["commands"])
    assert Explanation.model_validate(shown).to_json() == shown


def test_the_verb_prints_the_text() -> None:
    """Without -o, in the namespace that is meant."""
    world = trial().until("CanaryRunning").run(60)
    code, out = Cluster(status=world.status.to_json()).run("explain", "fraud")
    assert code == 0 and out.startswith("fraud in team: CanaryRunning") and "┤" in out


def test_a_model_that_nobody_looked_at() -> None:
    """One sentence, and no stack trace."""
    code, out = Cluster().run("explain", "fraud")
    assert (code, out) == (0, f"fraud in team: Unknown\n\n{words.NOT_SEEN}\n\nWho\n  health    Unknown")


def test_a_terminal_without_utf_8_gets_ascii() -> None:
    """Nothing else, chart included."""
    world = trial(versions=bad(0.05)).until("CanaryRunning").run(60)
    code, out = Cluster(status=world.status.to_json()).run("explain", "fraud", charset="ascii")
    assert code == 0 and out.isascii() and " decides|" in out


def test_the_queries_of_a_trial_are_shown_whole() -> None:
    """Those that show what is counted stay in the status while Prometheus is away; half of one is never shown."""
    world = trial().until("CanaryRunning")
    world.sources = {"Errors": "sum by (pod) (failed_total)", "Slow": "x" * 513}
    world.run(30)
    world.sources = {}
    shown = facts(world.run(30))
    assert shown.queries == {"errors": "sum by (pod) (failed_total)"}
    assert "\n    sum by (pod) (failed_total)\n" in render(shown)


def test_the_query_that_decided_is_shown_after_a_rollback() -> None:
    """It is in the record of the decision."""
    world = trial(versions=bad())
    world.sources = {"Errors": "sum by (pod) (failed_total)"}
    assert facts(world.until("RolledBack")).queries == {"errors, which decided": "sum by (pod) (failed_total)"}


_SHORT: dict[str, Any] = {
    "spec.rollout.watch": "3m",
    "spec.rollout.deadline": "5m",
    "spec.rollout.progressDeadline": "1m",
    "spec.rollout.canary": {"steps": [{"traffic": "20%", "duration": "30s"}, {"traffic": "100%"}]},
}
_happens = st.tuples(
    st.sampled_from(
        ["ask", "errors", "dead", "data", "rps", "suspend", "inconclusive", "override", "router", "attempt"]
    ),
    st.sampled_from(["1", "2", "3"]),
    st.integers(0, 4),
)


@given(st.lists(_happens, max_size=8))
@settings(max_examples=25, deadline=None)
def test_any_status_can_be_explained(story: list[tuple[str, str, int]]) -> None:
    """Whatever happens: no error, a state with words, 80 columns but for queries and commands, and JSON of it."""
    world = World(_SHORT).serving()
    for what, version, how in [("ask", "2", 0), *story]:
        _happen(world, what, version, how)
        for _ in range(5):
            world.tick()
            seen = facts(world)
            assert seen.state in words.STATES, f"no words for {seen.state}"
            for line in render(seen).splitlines():
                whole = line.startswith(("  kubectl", "    sum by"))
                assert len(line) <= 80 or whole or " " not in line.strip(), f"longer than a terminal: {line}"
            assert Explanation.model_validate(seen.to_json()) == seen


def _happen(world: World, what: str, version: str, how: int) -> None:
    match what:
        case "ask":
            world.ask(version)
        case "errors":
            world.does(version).errors = how / 10
        case "dead":
            world.does(version).dead = how > 1
        case "data":
            world.data = [None, *BLIND][how]
        case "rps":
            world.rps = [0.0, 1.0, 20.0, 100.0, 200.0][how]
        case "suspend":
            world.change({"spec.suspend": [None, {"mode": "All"}, {"mode": "Advance"}][how % 3]})
        case "inconclusive":
            world.change({"spec.rollout.onInconclusive": ["Hold", "Promote", "Rollback"][how % 3]})
        case "override":
            name = world.names.get(version)
            action = ["Abort", "Promote"][how % 2]
            world.change({"spec.rollout.override": name and {"revision": name, "action": action}})
        case "router":
            world.router.refusal = ("GatewayNotFound", "no such Gateway") if how > 2 else None
        case "attempt":
            world.change({"spec.rollout.attempt": how + 1})
