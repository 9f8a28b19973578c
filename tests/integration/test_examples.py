"""What README and examples/ promise: every file applies, its model comes up, and kubectl tells what goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from integration.acting import ERRORS, EVENTS, Model, serve_first
from lab.routewatch import ROUTES, accepted
from stand import ROOT, Stand

STARTS_SECONDS = 300.0
"""MLServer imports for long."""
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.yaml"))
MODELS = [path for path in EXAMPLES if path.name != "policy.yaml"]


@pytest.fixture(scope="module")
def applied(stand: Stand) -> Iterator[Stand]:
    """All examples, applied as the README says: with a plain client-side `kubectl apply`."""
    for path in MODELS:
        stand.lab.kubectl("apply", "-f", str(path))
    yield stand


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
def test_an_example_comes_up(applied: Stand, path: Path, request: pytest.FixtureRequest) -> None:
    """The gateway has its route, its pods answer requests, and Ready says so."""
    manifest = yaml.safe_load(path.read_text())
    name, host = manifest["metadata"]["name"], manifest["spec"]["traffic"]["gateway"]["hostnames"][0]
    if path.name == "mlserver.yaml":
        request.getfixturevalue("mlserver")
    model = Model(applied, name)
    model.wait_says("Ready", "True", "Serving", STARTS_SECONDS)
    model.wait("the end of its rollout", lambda: model.says("Progressing", "False", "RolloutComplete"))
    model.wait("its route", lambda: accepted(applied.lab.api.get(f"{ROUTES}/{name}")))
    asked = {"path": "/v2/health/ready", "method": "GET", "body": ""} if path.name == "mlserver.yaml" else {}
    with applied.lab.load(host, 20, **asked) as load:
        model.wait("answers", lambda: sum(r.status == 200 for r in load.snapshot().records) > 10)
        records = load.stop()
    assert {record.status for record in records.records} == {200}
    wanted = manifest["spec"]["serving"].get("replicas", 1)
    model.wait(f"{wanted} replicas", lambda: model.status.get("replicas") == wanted)


@pytest.mark.usefixtures("mlserver")
def test_mlserver_is_read_by_its_own_metrics(applied: Stand) -> None:
    """Inference requests to MLServer, counted by its own counters, are evidence."""
    model = Model(applied, "iris")
    model.wait_says("Ready", "True", "Serving", STARTS_SECONDS)
    body = '{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}]}'
    with applied.lab.load("iris.example.com", 20, path="/v2/models/iris/infer", body=body) as load:
        model.wait_says("EvidenceAvailable", "True", "DataFlowing")
        model.wait("health", lambda: model.status.get("health") == "OK")
        records = load.stop()
    assert {record.status for record in records.records} == {200}


def test_the_policy_is_valid_as_it_stands(applied: Stand) -> None:
    """It names a Prometheus of another cluster, so the API server is only asked whether it would take it."""
    path = ROOT / "examples" / "policy.yaml"
    applied.lab.kubectl("apply", "--dry-run=server", "-f", str(path))


def test_kubectl_tells_what_goes_on(applied: Stand) -> None:
    """`kubectl get md` shows the columns of the README, `kubectl get ml` and `all` find it, `kubectl wait` works,
    `kubectl describe` has the conditions and Events with precise reasons."""
    lab = applied.lab
    model = Model(applied, "told")
    serve_first([model])
    with model.load() as load:
        model.apply("2", ERRORS)
        model.wait("rollback", lambda: model.state == "RolledBack")
        load.stop()
    lab.kubectl("wait", "md/told", "--for=condition=Ready", "--timeout=120s")
    header, row = lab.kubectl("get", "md", "told").stdout.splitlines()
    assert header.split() == ["NAME", "HEALTH", "STATE", "STABLE", "CANARY", "WEIGHT", "VERDICT", "BUDGET", "AGE"]
    assert row.split()[0] == "told"
    assert row.split()[2:4] == ["RolledBack", "1"]
    (budget,) = (cell for cell in row.split() if cell.endswith("%"))
    assert int(budget[:-1]) >= 90, f"a canary of seconds, or of half a minute where the machine is slow, spent {budget}"
    for group in ("all", "ml"):
        assert "modeldeployment.modeldeployment.io/told" in lab.kubectl("get", group).stdout
    wanted = {"FirstVersionStarted", "FirstVersionServes", "RolloutStarted", "WeightRaised", "RolledBack"}
    model.wait("Events", lambda: wanted <= {event["reason"] for event in model.events()})
    described = lab.kubectl("describe", "md", "told").stdout
    table = described.partition("Events:")[2]
    told_at = [
        table.index(reason) for reason in ("FirstVersionStarted", "RolloutStarted", "WeightRaised", "RolledBack")
    ]
    assert told_at == sorted(told_at), f"kubectl describe shows the Events out of order:\n{table}"
    for reason in wanted:
        assert reason in described
    assert "error rate: " in described
    for event in lab.api.list(EVENTS):
        if event["regarding"]["kind"] == "ModelDeployment":
            assert event["reportingController"] == "modeldeployment.io/operator"
            assert event["action"]
            assert len(event["note"]) > 10
    assert model.revision("2") in lab.kubectl("get", "mr").stdout
