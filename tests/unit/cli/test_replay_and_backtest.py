"""`modeldeployment replay` and `backtest` as a person types them: exit codes, and a sentence for every mistake."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from builders import model_deployment
from modeldeployment.cli.app import app
from unit.decision.worlds import Behaviour
from unit.replaying.recorded import RecordedWorld

NOBODY = "http://127.0.0.1:1"
PAST = ("--prometheus", NOBODY, "--since", "520w")
POLICY = "objectives: [{name: errors, errorRate: {max: 40%}}]\nrollout: {canary: {traffic: 10%}}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of a version that was rolled back, and a policy."""
    world = RecordedWorld(versions={"2": Behaviour(errors=0.2)})
    world.serving().ask("2")
    world.until("RolledBack")
    folder = tmp_path_factory.mktemp("recordings")
    (folder / "good.jsonl").write_text("".join(world.lines))
    (folder / "policy.yaml").write_text(POLICY)
    changed = [line.replace('"effect":"RolledBack"', '"effect":"Promoted"') for line in world.lines]
    (folder / "changed.other").write_text("".join(changed))
    (folder / "bare.yaml").write_text(yaml.safe_dump(model_deployment()))
    (folder / "damaged.yaml").write_text("objectives: [{name: errors, errorRate: {max: 2}}]")
    return folder


def run(*arguments: str) -> tuple[int, str]:
    """Exit code, and all that was said."""
    ran = CliRunner().invoke(app, [*arguments])
    return ran.exit_code, ran.output


def test_a_recording_is_replayed(folder: Path) -> None:
    """As a table, as JSON, as a page."""
    path = str(folder / "good.jsonl")
    code, shown = run("replay", path)
    assert code == 0
    assert "RolledBack" in shown
    assert "the same 5 decisions, byte for byte" in shown
    code, shown = run("replay", path, "-o", "json")
    assert (code, json.loads(shown)["same"]) == (0, True)
    code, shown = run("replay", path, "-o", "html")
    assert code == 0
    assert shown.startswith("<!doctype html>")


def test_a_difference_is_told_and_is_a_failure(folder: Path) -> None:
    """Exit code 1, with both sides."""
    code, shown = run("replay", str(folder / "changed.other"))
    assert code == 1
    assert "differs at" in shown
    assert "'Promoted of 2" in shown


def test_recordings_are_judged_by_another_policy(folder: Path) -> None:
    """What would have been, out of the recordings alone; what is no recording is named."""
    (folder / "other.jsonl").write_text("hello\n")
    code, shown = run(
        "backtest", "-f", str(folder / "policy.yaml"), "--recordings", str(folder), "--since", "520w", "-o", "json"
    )
    assert code == 0, shown
    data = json.loads(shown)
    assert data["policy"] == "policy.yaml"
    assert data["summary"]["policy"]["Promoted"] == 1
    assert data["rollouts"][0]["changed"]
    assert "other.jsonl is left out: it is no recording" in data["notes"][0]
    code, shown = run("backtest", "-f", str(folder / "policy.yaml"), "--recordings", str(folder), "-o", "html")
    assert code == 0, shown
    assert "<svg" in shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["replay"], "name a recording, or a ModelDeployment and --prometheus URL"),
        (["replay", "FOLDER/none.jsonl"], "none.jsonl cannot be read: No such file"),
        (["replay", "FOLDER"], "cannot be read: Is a directory"),
        (["replay", "FOLDER/policy.yaml"], "it is no recording: its first line is not JSON"),
        (["replay", "--prometheus", NOBODY], "name the ModelDeployment, or give it as -f YAML"),
        (["replay", "x", "--prometheus", "prometheus:9090"], "must be http:// or https:// and a host"),
        (["replay", "-f", "FOLDER/bare.yaml", "--prometheus", NOBODY], "fraud has no decision in its status"),
        (["replay", "-f", "FOLDER/policy.yaml", "--prometheus", NOBODY], "has no metadata.name"),
        (["replay", "-f", "FOLDER/damaged.yaml", "--prometheus", NOBODY], "objectives[0].errorRate.max:"),
        (["replay", "x", "--prometheus", NOBODY, "--since", "soon"], "--since soon: must be a whole number"),
        (["replay", "x", "--prometheus", NOBODY, "--tenant", "team"], "--tenant team: must be a header and its value"),
        (["replay", "x", "--prometheus", NOBODY, "--token-file", "FOLDER/none"], "none cannot be read: No such file"),
        (
            ["replay", "-f", "FOLDER/bare.yaml", "--recording", "FOLDER/good.jsonl", *PAST],
            "cannot reach Prometheus at http://127.0.0.1:1",
        ),
        (["backtest", "-f", "FOLDER/policy.yaml"], "say where past rollouts are"),
        (["backtest", "-f", "FOLDER/none.yaml", "--recordings", "FOLDER"], "none.yaml cannot be read"),
        (
            ["backtest", "-f", "FOLDER/damaged.yaml", "--recordings", "FOLDER"],
            "damaged.yaml: objectives[0].errorRate.max",
        ),
        (["backtest", "-f", "FOLDER/policy.yaml", "--recordings", "FOLDER/none"], "is no folder"),
        (["backtest", "other", "-f", "FOLDER/policy.yaml", "--recordings", "FOLDER"], "has no rollout of other since"),
        (
            ["backtest", "-f", "FOLDER/policy.yaml", "--prometheus", NOBODY],
            "has no metadata.name: name the ModelDeploy",
        ),
        (["backtest", "x", "-f", "FOLDER/policy.yaml", "--prometheus", NOBODY], "cannot reach Prometheus at"),
    ],
)
def test_every_mistake_has_a_sentence(folder: Path, arguments: list[str], says: str) -> None:
    """One line, and exit code 1."""
    code, shown = run(*(argument.replace("FOLDER", str(folder)) for argument in arguments))
    assert code == 1, shown
    assert says in shown
    assert shown.startswith("error: ")
    assert len(shown.splitlines()) == 1


def test_without_prometheus_api_client_it_says_how_to_get_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the extra `history`; only a search of Prometheus needs it."""
    monkeypatch.setitem(sys.modules, "prometheus_api_client", None)
    code, shown = run("backtest", "x", "-f", str(folder / "policy.yaml"), "--prometheus", NOBODY)
    assert code == 1
    assert "pip install 'modeldeployment-operator[history]'" in shown
