"""A version that was taken back is taken back again: from the operator's recording, and from Prometheus alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.acting import ERRORS, Model, serve_first
from integration.conftest import standing
from stand import ROOT, Stand

JSON = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the operator records."""
    return tmp_path_factory.mktemp("recordings")


@pytest.fixture(scope="module")
def stand(folder: Path) -> Iterator[Stand]:
    """A Stand whose operator records."""
    with standing(operator=False) as stand:
        stand.policy(delay="2s")  # what came into Prometheus late was not seen then, and is in its history
        stand.operator(record=folder)
        yield stand


@pytest.fixture(scope="module")
def model(stand: Stand) -> Model:
    """A model whose second version came, failed, and was taken back, while clients were served."""
    model = Model(stand, "replayed")
    serve_first([model])
    with model.load() as load:
        # A rollout is told by a version that had requests before the other one's first.
        model.wait("clients to be counted", lambda: any(o.get("samples") for o in model.status.get("objectives", ())))
        model.apply("2", ERRORS)
        model.wait("2 to be taken back", lambda: model.state == "RolledBack")
        model.wait("2 to be scaled down", lambda: model.replicas("2") == 0)
        load.stop()
    return model


def command(stand: Stand, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`modeldeployment …` as a person runs it."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "operator"), "KUBECONFIG": str(stand.lab.kubeconfig)}
    return subprocess.run(
        [sys.executable, "-m", "modeldeployment.cli", *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def decided(model: Model) -> list[JSON]:
    """The status' decisions on version 2, oldest first."""
    return [d for d in reversed(model.status["decisions"]) if d["version"] == "2"]


def test_the_recording_replays_byte_for_byte(stand: Stand, model: Model, folder: Path) -> None:
    """All decisions of the operator that ran, from its files alone."""
    (path,) = (folder / "default" / model.name).glob("*.jsonl")
    ran = command(stand, "replay", str(path), "-o", "json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    shown = json.loads(ran.stdout)
    assert shown["same"]
    assert shown["decisions"] == list(reversed(model.status["decisions"]))


def test_prometheus_history_gives_the_same_rule_numbers_and_e_value(stand: Stand, model: Model) -> None:
    """The pods are gone, and what they counted is not: each decision is as the status has it, in every field."""
    told = decided(model)
    assert [d["effect"] for d in told] == ["RolloutStarted", "WeightRaised", "RolledBack"]
    ran = command(stand, "replay", model.name, "-n", "default", "--prometheus", stand.lab.prometheus_url, "-o", "json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    again = json.loads(ran.stdout)["decisions"]
    assert again == told
    assert again[-1]["numbers"]["eWorse"] == told[-1]["numbers"]["eWorse"]
    assert again[-1]["numbers"]["bad"] > 0


@pytest.mark.parametrize("source", ["prometheus", "recordings"])
def test_another_policy_is_tried_on_what_happened(
    stand: Stand, model: Model, folder: Path, tmp_path: Path, source: str
) -> None:
    """The version that was taken back is found; by its own policy it goes again, by a loose one it stays."""
    where = {"prometheus": stand.lab.prometheus_url, "recordings": str(folder)}[source]
    came = {}
    for name, bound in (("own", "5%"), ("loose", "60%")):
        path = tmp_path / f"{name}.yaml"
        objectives = [{"name": "errors", "errorRate": {"max": bound}}]
        path.write_text(json.dumps(model.manifest("3", overrides={"spec.objectives": objectives})))
        ran = command(stand, "backtest", "-f", str(path), f"--{source}", where, "--since", "1h", "-o", "json")
        assert ran.returncode == 0, ran.stdout + ran.stderr
        (one,) = json.loads(ran.stdout)["rollouts"]
        assert one["revision"] == decided(model)[0]["revision"]
        assert one["happened"] == "RolledBack"
        came[name] = one["policy"], one["badRequests"].get("errors", 0)
    assert came["own"][0] == "RolledBack"
    assert came["loose"][0] == "Promoted"
    assert came["loose"][1] >= came["own"][1], "who keeps a bad version longer has no fewer bad requests"
