"""pause, resume, abort, promote, retry: what is written, by whom, and what the person reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from modeldeployment.api.base import JSON
from modeldeployment.cli.app import app
from modeldeployment.controller.kube import ApiError
from modeldeployment.controller.resources import MODEL_DEPLOYMENTS
from unit.cli.fake_cluster import Cluster

VERBS = ("pause", "resume", "abort", "promote", "retry")
LONG_AGO = "2026-01-01T12:00:00.250000Z"


def role(revision: str, version: str) -> JSON:
    """A revision that has a part in serving."""
    return {"revision": revision, "version": version}


def trial(revision: str, version: str, start: str = LONG_AGO) -> JSON:
    """A rollout that is going on."""
    return {"revision": revision, "version": version, "startTime": start}


def on_trial(start: str = LONG_AGO) -> JSON:
    """A canary beside the version that serves."""
    canary = {"canary": role("fraud-2", "2"), "rollout": trial("fraud-2", "2", start)}
    return {"stable": role("fraud-1", "1"), **canary}


def under_watch(start: str = LONG_AGO) -> JSON:
    """Promoted, the version before is kept warm."""
    watch = {"previous": role("fraud-1", "1"), "rollout": trial("fraud-2", "2", start)}
    return {"stable": role("fraud-2", "2"), **watch}


def quarantined(revision: str, attempt: int = 1) -> JSON:
    """A revision that was taken back."""
    why = {"reason": "RolledBack", "message": "errors 30%", "time": LONG_AGO}
    return {"revision": revision, "version": "1.4.0", "attempt": attempt, **why}


def taken_back(spec: JSON | None = None, attempt: int = 1, **status: Any) -> Cluster:
    """The version that the spec asks for was taken back, at this attempt."""
    cluster = Cluster(spec)
    out = [quarantined(cluster.target, attempt), quarantined("fraud-other", 9)]
    cluster.tell({"stable": role("fraud-1", "1.3.0"), "quarantined": out, **status})
    return cluster


def request_time(cluster: Cluster) -> datetime:
    """When the word that was said last says that it was said."""
    return datetime.fromisoformat(cluster.said[-1][1]["rollout"]["override"]["requestTime"])


@pytest.mark.parametrize("verb", ["status", "explain", *VERBS])
def test_a_name_that_is_not_there_is_said_to_be_so_and_nothing_is_made(verb: str) -> None:
    """A typo ends with 1 and the API server's usual words; server-side apply, which would create, is not sent."""
    cluster = Cluster()
    code, said = cluster.run(verb, "typo", "-n", "other")
    assert (code, said) == (1, 'error: modeldeployments.modeldeployment.io "typo" not found in namespace other')
    assert cluster.writes == []


@pytest.mark.parametrize("verb", ["status", "explain", *VERBS])
def test_a_cluster_without_the_crds_is_said_to_be_so(verb: str) -> None:
    """404 of the whole kind is not a missing object."""
    cluster = Cluster()
    cluster.answer = ApiError(404, "Not Found", "404 page not found")
    assert cluster.run(verb, "fraud") == (
        1,
        "error: the API server does not know modeldeployments.modeldeployment.io: are the CRDs installed?",
    )


@pytest.mark.parametrize("verb", ["status", "explain", *VERBS])
@pytest.mark.parametrize("page", [{}, {"spec": "nonsense"}, {"items": []}])
def test_an_answer_that_is_no_model_deployment_is_an_error(verb: str, page: JSON) -> None:
    """A proxy's page that comes with 200 ends in one line and 1, and nothing is written."""
    cluster = Cluster()
    cluster.answer = page
    code, said = cluster.run(verb, "fraud")
    assert code == 1
    assert said.startswith("error: the answer is no ModelDeployment")
    assert cluster.writes == []


@pytest.mark.parametrize("verb", ["status", "explain", *VERBS])
def test_a_status_that_does_not_parse_is_an_error(verb: str) -> None:
    """It ends in one line that names the field, and nothing is written."""
    cluster = Cluster(status={"health": "Splendid"})
    code, said = cluster.run(verb, "fraud")
    assert code == 1
    assert said.startswith("error: fraud cannot be read")
    assert "health" in said
    assert "\n" not in said
    assert cluster.writes == []


@pytest.mark.parametrize("verb", VERBS)
def test_a_refusal_is_told_in_the_api_servers_words(verb: str) -> None:
    """403 on the write: one line, the server's own, and 1."""
    spec = {"suspend": {"mode": "All"}} if verb == "resume" else None
    cluster = taken_back(spec) if verb == "retry" else Cluster(spec, on_trial())
    words = 'User "eve" cannot patch resource "modeldeployments"\nin the namespace "team"'
    cluster.refuses[("APPLY", MODEL_DEPLOYMENTS.kind)] = ApiError(403, "Forbidden", words)
    assert cluster.run(verb, "fraud") == (1, "error: " + words.replace("\n", " "))


def test_context_and_namespace_say_where() -> None:
    """--context goes to the connection, -n is looked in, and without -n the connection's namespace is."""
    cluster = Cluster()
    assert cluster.run("pause", "fraud", "--context", "blue")[0] == 0
    assert cluster.context == "blue"
    assert cluster.run("pause", "fraud", "-n", "team")[0] == 0
    assert cluster.context is None
    assert cluster.run("pause", "fraud", "-n", "elsewhere")[0] == 1


@pytest.mark.parametrize(
    ("args", "suspend"),
    [
        ((), {"mode": "Advance"}),
        (("--all",), {"mode": "All"}),
        (("--reason", "holidays"), {"mode": "Advance", "reason": "holidays"}),
    ],
)
def test_pause_sets_suspend_under_its_own_manager(args: tuple[str, ...], suspend: JSON) -> None:
    """One apply of spec.suspend alone."""
    cluster = Cluster()
    assert cluster.run("pause", "fraud", *args) == (0, f"fraud paused ({suspend['mode']})")
    assert cluster.said == [("kubectl-model-suspend", {"suspend": suspend})]


def test_resume_takes_suspend_out_again() -> None:
    """An apply without the field, by the manager that set it."""
    cluster = Cluster()
    cluster.run("pause", "fraud")
    assert cluster.run("resume", "fraud") == (0, "fraud resumed")
    assert cluster.said[1:] == [("kubectl-model-suspend", {})]
    assert "suspend" not in cluster.spec


def test_resume_of_what_is_not_paused_writes_nothing() -> None:
    """It says so, and that is no error: what was asked for is so."""
    cluster = Cluster()
    assert cluster.run("resume", "fraud") == (0, "fraud is not paused")
    assert cluster.writes == []


def test_resume_cannot_end_a_pause_that_git_has() -> None:
    """It ends with 1 and says where the pause is."""
    cluster = Cluster({"suspend": {"mode": "Advance"}})
    code, said = cluster.run("resume", "fraud")
    assert code == 1
    assert said.startswith("error: fraud is still suspended: spec.suspend was set by somebody else")


@pytest.mark.parametrize("status", [on_trial(), under_watch()], ids=["on trial", "under watch"])
def test_abort_names_the_revision_and_the_time(status: JSON) -> None:
    """The word is about the revision on trial or under watch, and is as old as it is: a later rollout is not meant."""
    cluster, before = Cluster(status=status), datetime.now(UTC)
    assert cluster.run("abort", "fraud") == (0, "fraud: 2 is taken back")
    ((manager, spec),) = cluster.said
    assert manager == "kubectl-model-override"
    assert spec["rollout"]["override"].keys() == {"revision", "action", "requestTime"}
    assert spec["rollout"]["override"]["revision"] == "fraud-2"
    assert spec["rollout"]["override"]["action"] == "Abort"
    assert before <= request_time(cluster) <= datetime.now(UTC)
    assert spec["rollout"]["override"]["requestTime"].endswith("Z")


def test_promote_names_the_canary_and_the_time() -> None:
    """As abort."""
    cluster, before = Cluster(status=on_trial()), datetime.now(UTC)
    assert cluster.run("promote", "fraud") == (0, "fraud: 2 is promoted")
    ((manager, spec),) = cluster.said
    assert manager == "kubectl-model-override"
    assert spec["rollout"]["override"]["action"] == "Promote"
    assert spec["rollout"]["override"]["revision"] == "fraud-2"
    assert before <= request_time(cluster) <= datetime.now(UTC)


@pytest.mark.parametrize("verb", ["abort", "promote"])
def test_a_slow_clock_does_not_void_the_word(verb: str) -> None:
    """A rollout that began after the person's "now": the word is as old as the rollout, to the microsecond."""
    start = datetime.now(UTC) + timedelta(hours=1, microseconds=7)
    cluster = Cluster(status=on_trial(start.isoformat()))
    assert cluster.run(verb, "fraud")[0] == 0
    assert request_time(cluster) == start


def test_promote_of_a_paused_rollout_says_that_it_waits() -> None:
    """A pause beats a promotion: nobody is told that it happens now."""
    cluster = Cluster({"suspend": {"mode": "Advance"}}, on_trial())
    assert cluster.run("promote", "fraud") == (
        0,
        "fraud: 2 is promoted once the pause ends (kubectl model resume)",
    )


@pytest.mark.parametrize(
    ("verb", "status", "why"),
    [
        ("abort", {}, "has no version on trial, and none under watch"),
        ("abort", {"stable": role("fraud-1", "1")}, "has no version on trial, and none under watch"),
        ("promote", {"stable": role("fraud-1", "1")}, "has no version on trial"),
        ("promote", under_watch(), "has no version on trial"),
        ("promote", {"canary": role("fraud-1", "1"), "rollout": trial("fraud-1", "1")}, "1 is the first version"),
    ],
)
def test_a_word_about_nothing_is_refused(verb: str, status: JSON, why: str) -> None:
    """It ends with 1, says why, and writes nothing."""
    cluster = Cluster(status=status)
    code, said = cluster.run(verb, "fraud")
    assert code == 1
    assert why in said
    assert cluster.writes == []


@pytest.mark.parametrize(("asked", "failed", "next_one"), [(None, 1, 2), (1, 1, 2), (1, 4, 5), (3, 3, 4)])
def test_retry_asks_for_the_attempt_after_the_one_that_failed(asked: int | None, failed: int, next_one: int) -> None:
    """Above both the quarantined entry's and the spec's, or it would stay quarantined."""
    cluster = taken_back({"rollout.attempt": asked} if asked else None, failed)
    assert cluster.run("retry", "fraud") == (
        0,
        f"fraud: 1.4.0, attempt {next_one}: begins now, as a canary from 0% beside 1.3.0",
    )
    assert cluster.said == [("kubectl-model-attempt", {"rollout": {"attempt": next_one}})]


def test_retry_of_the_first_version_says_that_it_gets_everything() -> None:
    """Nothing serves: there is no canary."""
    cluster = taken_back(stable=None)
    assert cluster.run("retry", "fraud") == (
        0,
        "fraud: 1.4.0, attempt 2: begins now, and gets all of the traffic as soon as it is Ready",
    )


def test_retry_of_a_paused_model_says_that_it_waits() -> None:
    """Nobody is told that it begins now."""
    cluster = taken_back({"suspend": {"mode": "Advance"}})
    assert cluster.run("retry", "fraud") == (
        0,
        "fraud: 1.4.0, attempt 2: begins once the pause ends (kubectl model resume)",
    )


def test_retry_of_what_was_not_taken_back_is_refused() -> None:
    """On a healthy model, in mid-canary, and while a retry goes on: a raised attempt would let a version that is taken
    back later come again by itself."""
    cluster = taken_back()
    target = cluster.target
    cases: dict[str, JSON] = {
        "which the spec asks for, was not taken back": {"quarantined": [quarantined("fraud-other")]},
        "is on trial": {"canary": role(target, "1.4.0"), "quarantined": [quarantined(target)]},
        "serves": {"stable": role(target, "1.4.0"), "quarantined": [quarantined(target)]},
    }
    for why, status in cases.items():
        cluster.tell(status)
        code, said = cluster.run("retry", "fraud")
        assert code == 1, why
        assert why in said
    asked = taken_back({"rollout.attempt": 2}, attempt=1)
    code, said = asked.run("retry", "fraud")
    assert code == 1
    assert "attempt 2 at 1.4.0 is asked for already" in said
    assert cluster.writes == asked.writes == []


def test_retry_of_a_spec_that_does_not_parse_is_an_error() -> None:
    """A field that a newer CRD let in: which revision is meant cannot be told, so nothing is written."""
    cluster = Cluster({"novelty": 1})
    code, said = cluster.run("retry", "fraud")
    assert code == 1
    assert "novelty" in said
    assert cluster.writes == []


@pytest.mark.parametrize("verb", ["abort", "promote"])
def test_retry_ends_what_a_person_said_of_the_revision(verb: str) -> None:
    """By a clock that is fast the word would still count for the new attempt, so it is taken out first."""
    cluster = Cluster()
    target = cluster.target
    canary = {"canary": role(target, "1.4.0"), "rollout": trial(target, "1.4.0")}
    cluster.tell({"stable": role("fraud-1", "1.3.0"), **canary})
    cluster.run(verb, "fraud")
    cluster.tell({"stable": role("fraud-1", "1.3.0"), "quarantined": [quarantined(target)]})
    assert cluster.run("retry", "fraud")[0] == 0
    assert cluster.said[1:] == [
        ("kubectl-model-override", {}),
        ("kubectl-model-attempt", {"rollout": {"attempt": 2}}),
    ]
    assert "override" not in cluster.spec["rollout"]


def test_retry_leaves_a_word_about_another_revision_alone() -> None:
    """It says nothing about this one."""
    cluster = taken_back({"rollout.override": {"revision": "fraud-other", "action": "Abort"}})
    assert cluster.run("retry", "fraud")[0] == 0
    assert [manager for manager, _ in cluster.said] == ["kubectl-model-attempt"]


@pytest.mark.parametrize("action", ["Abort", "Promote"])
def test_retry_is_refused_while_git_overrides_every_attempt(action: str) -> None:
    """An override without a time, which is not ours to take out: the attempt is not raised, and that is said."""
    cluster = Cluster()
    override = {"revision": cluster.target, "action": action}
    cluster = taken_back({"rollout.override": override})
    code, said = cluster.run("retry", "fraud")
    assert code == 1
    assert f"spec.rollout.override, set by somebody else (Git?), says {action} of every attempt" in said
    assert "attempt" not in cluster.spec["rollout"]


def test_a_retry_beside_an_override_of_git_with_a_time_is_made() -> None:
    """That one is about an earlier rollout."""
    cluster = Cluster()
    override = {"revision": cluster.target, "action": "Abort", "requestTime": LONG_AGO}
    cluster = taken_back({"rollout.override": override})
    assert cluster.run("retry", "fraud")[0] == 0


@pytest.mark.parametrize("verb", ["status", "explain", *VERBS])
def test_an_api_server_that_is_not_there_is_one_line(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused connection, by the real client: `error: …` and 1, no traceback."""
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        "current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\n"
        'clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]\n'
    )
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    result = CliRunner().invoke(app, [verb, "fraud"])
    assert result.exit_code == 1
    assert result.output.startswith("error: the API server cannot be reached: ")
    assert result.output.count("\n") == 1


def test_no_kubeconfig_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A $KUBECONFIG that is not there: `error: …` and 1."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    result = CliRunner().invoke(app, ["status", "fraud"])
    assert (result.exit_code, result.output) == (1, f"error: the kubeconfig {tmp_path / 'none'} does not exist\n")
