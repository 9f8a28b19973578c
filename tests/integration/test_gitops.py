"""Git owns the spec: the operator writes status only, and a person's word stands beside what Git says."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import pytest

from integration.acting import ERRORS, ROLLOUT, Model, serve_first, watching
from stand import ROOT, Stand

JSON = dict[str, Any]
STAYS = {"spec.rollout": {**ROLLOUT, "canary": {"steps": [{"traffic": "50%", "duration": "10m"}]}, "watch": "10m"}}
MODELS: dict[str, JSON] = {
    "git": {"metadata.labels": {"team": "risk"}, "metadata.annotations": {"note": "from Git"}},
    "suspended": {},
    "frozen": {},
    "aborted": STAYS,
    "hurried": STAYS,
    "retried": {},
    "again": {},
}


@pytest.fixture(scope="module")
def models(stand: Stand) -> dict[str, Model]:
    """Models whose first version serves."""
    found = {name: Model(stand, name, overrides) for name, overrides in MODELS.items()}
    serve_first([*found.values()])
    return found


def kubectl_model(stand: Stand, *args: str) -> str:
    """`kubectl model …`, as a person types it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "operator"), "KUBECONFIG": str(stand.lab.kubeconfig)}
    command = [sys.executable, "-m", "modeldeployment.cli", *args, "--namespace", "default"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_operator_writes_status_and_nothing_else(models: dict[str, Model]) -> None:
    """After a whole rollout and a rollback, spec, labels, annotations and finalizers of the ModelDeployment are as Git
    has them, its generation counts Git's changes only, and the operator's managedFields are of the status."""
    model = models["git"]
    with model.load() as load:
        model.apply("2")
        model.wait("promotion", lambda: model.weights() == {"2": 100})
        model.apply("3", ERRORS)
        model.wait("rollback", lambda: model.state == "RolledBack")
        load.stop()
    obj = model.stand.get("git")
    wanted = model.manifest("3", ERRORS)
    assert obj["metadata"]["labels"] == {"team": "risk"}
    assert set(obj["metadata"]["annotations"]) == {"note", "kubectl.kubernetes.io/last-applied-configuration"}
    assert "finalizers" not in obj["metadata"]
    assert "ownerReferences" not in obj["metadata"]
    assert obj["metadata"]["generation"] == 3
    assert obj["spec"]["model"]["version"] == "3"
    assert contains(obj["spec"], wanted["spec"])
    ours = [m for m in obj["metadata"]["managedFields"] if m["manager"].startswith("modeldeployment")]
    assert ours
    for entry in ours:
        assert entry.get("subresource") == "status"
        assert set(entry["fieldsV1"]) == {"f:status"}
    others = {m["manager"] for m in obj["metadata"]["managedFields"]} - {m["manager"] for m in ours}
    assert others == {"kubectl-client-side-apply"}
    # A GitOps tool compares what is there with what it applied: nothing to do.
    diff = model.stand.lab.kubectl("diff", "-f", "-", input=str_of(wanted), check=False)
    assert diff.returncode == 0, diff.stdout


def contains(there: Any, wanted: Any) -> bool:
    """Whether all that is wanted is there; defaults may stand beside it."""
    if isinstance(wanted, dict):
        return all(key in there and contains(there[key], value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return len(there) == len(wanted) and all(contains(t, w) for t, w in zip(there, wanted, strict=True))
    return bool(there == wanted)


def str_of(manifest: JSON) -> str:
    """As a file has it."""
    import json

    return json.dumps(manifest)


def test_a_pause_by_a_person_stands_beside_git(models: dict[str, Model]) -> None:
    """`kubectl model pause` sets spec.suspend under a manager of its own: nothing starts, a later `kubectl apply` of
    the Git manifest does not undo it, and `resume` lets the rollout begin."""
    model = models["suspended"]
    kubectl_model(model.stand, "pause", "suspended", "--reason", "holidays")
    with watching(model) as (route,), model.load() as load:
        model.apply("2")
        model.wait("the pause", lambda: model.says("Progressing", "Unknown", "Suspended"))
        assert "holidays" in model.condition("Progressing")["message"]
        model.apply("2", overrides={"metadata.labels": {"synced": "again"}})
        time.sleep(4)
        assert model.stand.get("suspended")["spec"]["suspend"]["reason"] == "holidays"
        assert model.replicas("2") == -1
        assert route.of("2") in ([0], [])
        kubectl_model(model.stand, "resume", "suspended")
        model.wait("promotion", lambda: model.weights() == {"2": 100})
        load.stop()
    assert route.of("2") == [0, 50, 100]


def test_advance_takes_bad_versions_back_and_all_moves_nothing(models: dict[str, Model]) -> None:
    """suspend.mode Advance in mid-canary: no promotion, but a bad canary goes. Mode All: it stays, errors and all,
    until the pause ends; then it goes."""
    model = models["frozen"]
    stays = {"spec.rollout": {**ROLLOUT, "canary": {"steps": [{"traffic": "50%", "duration": "10m"}]}}}
    with watching(model) as (route,):
        model.apply("2", ERRORS)
        model.wait_canary("2")
        kubectl_model(model.stand, "pause", "frozen", "--all")
        model.wait("the pause", lambda: model.says("Progressing", "Unknown", "Suspended"))
        with model.load() as load:
            model.wait("errors", lambda: load.snapshot().bad > 20)
            time.sleep(6)
            assert route.of("2") == [0, 50]
            kubectl_model(model.stand, "pause", "frozen")  # now only nothing may advance
            model.wait("weight 0", lambda: model.weights() == {"1": 100})
            # A good one on its way: paused at its weight.
            kubectl_model(model.stand, "resume", "frozen")
            model.apply("3", overrides=stays)
            model.wait_canary("3")
            kubectl_model(model.stand, "pause", "frozen")
            model.apply("3", overrides={"spec.rollout": ROLLOUT})  # the step is over at once
            model.wait("the pause", lambda: model.state == "Suspended")
            time.sleep(6)
            assert route.of("3") == [0, 50]
            kubectl_model(model.stand, "resume", "frozen")
            model.wait("promotion", lambda: model.weights() == {"3": 100})
            load.stop()


def test_abort_beats_everything_and_promote_skips_what_is_left(models: dict[str, Model]) -> None:
    """`kubectl model abort`: weight 0 at once, quarantined, told who. `kubectl model promote`: everything at once,
    though the step lasts minutes. Both words end with the revision they were about."""
    aborted, hurried = models["aborted"], models["hurried"]
    with watching(aborted, hurried) as (one, other), aborted.load(50) as load, hurried.load(50) as second:
        aborted.apply("2")
        hurried.apply("2")
        aborted.wait_canary("2")
        hurried.wait_canary("2")
        kubectl_model(aborted.stand, "abort", "aborted")
        kubectl_model(hurried.stand, "promote", "hurried")
        aborted.wait("weight 0", lambda: aborted.weights() == {"1": 100})
        hurried.wait("promotion", lambda: hurried.weights() == {"2": 100})
        aborted.wait("the reason", lambda: aborted.says("RolledBack", "True", "Aborted"))
        # The next version is not meant by it.
        aborted.apply("3")
        aborted.wait_canary("3")
        # Abort during the watch: back to the version that is kept warm.
        kubectl_model(hurried.stand, "abort", "hurried")
        hurried.wait("the version before", lambda: hurried.weights() == {"1": 100})
        assert load.stop().bad == 0
        assert second.stop().bad == 0
    assert one.of("2") == [0, 50, 0]
    assert one.of("3") == [0, 50]
    assert other.of("2") == [0, 50, 100, 0]
    assert "PromotionRequested" in hurried.decisions()


def test_a_quarantined_version_is_tried_again_only_when_asked(models: dict[str, Model]) -> None:
    """It stays out through a new `kubectl apply` of the same manifest, through a restart of the operator, and while
    nobody asks; `kubectl model retry` is what tries it again, once."""
    model, stand = models["retried"], models["retried"].stand
    with watching(model) as (route,), model.load() as load:
        model.apply("2", ERRORS)
        model.wait("rollback", lambda: route.of("2") == [0, 50, 0] and model.state == "RolledBack")
        model.apply("2", ERRORS, overrides={"metadata.labels": {"synced": "again"}})
        stand.lab.process("operator").stop()
        stand.operator()
        stand.wait("the operator to lead", stand.leads)
        time.sleep(4)
        assert model.state == "RolledBack"
        assert route.of("2") == [0, 50, 0]
        assert model.replicas("2") == 0
        kubectl_model(stand, "retry", "retried")
        model.wait("the second rollback", lambda: route.of("2") == [0, 50, 0, 50, 0])
        model.wait("its entry", lambda: [q["attempt"] for q in model.status.get("quarantined", [])] == [2])
        time.sleep(2)
        load.stop()
    assert route.of("2") == [0, 50, 0, 50, 0]


def test_a_changed_version_is_not_the_quarantined_one(models: dict[str, Model]) -> None:
    """The same version string with other content is another revision: it is tried at once, and may be promoted."""
    model = models["again"]
    with watching(model) as (route,), model.load() as load:
        model.apply("2", ERRORS)
        model.wait("rollback", lambda: model.state == "RolledBack")
        quarantined = model.status["quarantined"][0]["revision"]
        model.apply("2")
        model.wait("promotion", lambda: model.weights() == {"2": 100})
        load.stop()
    assert model.status["stable"]["revision"] != quarantined
    assert model.condition("RolledBack") == {}
    promoted, *later = (change.weights for change in route.changes() if change.weights.get("2") == 100)
    assert promoted == {"2": 100, "1": 0}
    assert all(weights in ({"2": 100, "1": 0}, {"2": 100}) for weights in later)
    assert route.changes()[-1].weights.get("2") == 100
