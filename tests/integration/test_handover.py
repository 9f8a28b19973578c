"""Operators die, pause and take over: no weight moves meanwhile, and no decision is lost or taken twice."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
import pytest

from integration.acting import ERRORS, ROLLOUT, Model, RouteHistory, serve_first, watching
from lab.load import Snapshot
from lab.routewatch import ROUTES
from stand import Stand

JSON = dict[str, Any]
SLOW_STEP = {"spec.rollout": {**ROLLOUT, "canary": {"steps": [{"traffic": "50%", "duration": "20s"}]}}}
LONG_STEP = {"spec.rollout": {**ROLLOUT, "canary": {"steps": [{"traffic": "50%", "duration": "40s"}]}, "watch": "10m"}}
STEPS = {"spec.rollout": {**ROLLOUT, "canary": {"steps": [{"traffic": f"{w}%"} for w in (20, 40, 60, 80)]}}}
MODELS: dict[str, JSON] = {
    "changed": {},
    "running": SLOW_STEP,
    "promoted": {},
    "failed": {},
    "often": STEPS,
    "two": SLOW_STEP,
    "paused": LONG_STEP,
}
HELD = ("promoted", "failed")
AWAY_SECONDS = 3.0


@pytest.fixture(scope="module")
def models(stand: Stand) -> dict[str, Model]:
    """Models whose first version serves."""
    found = {name: Model(stand, name, overrides) for name, overrides in MODELS.items()}
    serve_first([*found.values()])
    return found


def has_had(route: RouteHistory, version: str, weight: int) -> bool:
    """Whether a version was given this weight."""
    return weight in route.of(version)


@contextmanager
def routes_held(stand: Stand, names: tuple[str, ...]) -> Iterator[None]:
    """The API server takes no new spec of these routes: so a decision is stored and cannot be applied yet, which is
    the instant between intent and effect, made long enough to kill somebody in it."""
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "routes-held"},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": ["gateway.networking.k8s.io"],
                        "apiVersions": ["v1"],
                        "operations": ["UPDATE"],
                        "resources": ["httproutes"],
                    }
                ]
            },
            "validations": [{"expression": f"!(object.metadata.name in {list(names)})", "message": "held by the test"}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "routes-held"},
        "spec": {"policyName": "routes-held", "validationActions": ["Deny"]},
    }

    def refused() -> bool:
        probe = ("annotate", "httproute", names[0], "probe=1", "--dry-run=server", "--overwrite")
        return stand.lab.kubectl(*probe, check=False).returncode != 0

    stand.apply(policy, binding)
    stand.wait("the policy to hold", refused)
    try:
        yield
    finally:
        stand.lab.kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", "routes-held")
        stand.wait("the policy to go", lambda: not refused())


Killed = dict[str, tuple[Model, RouteHistory, Snapshot]]


@pytest.fixture(scope="module")
def killed(models: dict[str, Model], stand: Stand) -> Iterator[Killed]:
    """One SIGKILL that meets four models at four instants: right after a spec change, in mid-canary, with a promotion
    stored and not applied, and with a rollback stored and not applied."""
    ours = [models[name] for name in ("changed", "running", "promoted", "failed")]
    changed, running, promoted, failed = ours
    with watching(*ours) as routes:
        promoted.apply("2")
        failed.apply("2", ERRORS)
        promoted.wait_canary("2")
        failed.wait_canary("2")
        loads = [model.load(60).start() for model in (changed, running)]
        with routes_held(stand, HELD):
            loads += [model.load(60).start() for model in (promoted, failed)]
            promoted.wait("the promotion to be stored", lambda: "Promoted" in promoted.decisions())
            failed.wait("the rollback to be stored", lambda: "RolledBack" in failed.decisions())
            running.apply("2")
            running.wait_canary("2")
            changed.apply("2")
            stand.kill_operator()
            time.sleep(AWAY_SECONDS)
        stand.operator()
        failed.wait("weight 0", lambda: failed.weights() == {"1": 100})
        failed.wait("2 to be scaled down", lambda: failed.replicas("2") == 0)
        for model in (changed, running, promoted):
            model.wait_serving("2")
        records = [load.stop() for load in loads]
        yield {model.name: (model, routes[i], records[i]) for i, model in enumerate(ours)}


@pytest.mark.parametrize("name", ["changed", "running", "promoted", "failed"])
def test_a_kill_loses_nothing_and_doubles_nothing(killed: Killed, name: str) -> None:
    """The next process goes on from status and Prometheus alone: weights go the one way they would have gone, and each
    decision is taken once."""
    model, route, records = killed[name]
    good = name != "failed"
    assert route.of("2") == ([0, 50, 100] if good else [0, 50, 0])
    decisions = model.decisions()
    for effect in ("RolloutStarted", "WeightRaised", "Promoted" if good else "RolledBack"):
        assert decisions.count(effect) == 1, decisions
        assert len(model.events(effect)) <= 1
    assert {record.version for record in records.records if record.bad} == (set() if good else {"2"})


def test_kills_at_arbitrary_instants(models: dict[str, Model], stand: Stand) -> None:
    """Killed again and again at instants nobody chose, a rollout of four steps arrives: every weight once, in order."""
    model, instants = models["often"], random.Random(4)
    with watching(model) as (route,), model.load() as load:
        model.apply("2")
        for weight in (0, 20, 60):
            model.wait(f"{weight}%", partial(has_had, route, "2", weight))
            time.sleep(instants.uniform(0, 0.8))
            stand.kill_operator()
            stand.operator()
        model.wait("promotion", lambda: model.weights() == {"2": 100})
        model.wait("the end", lambda: model.state == "RolloutComplete")
        records = load.stop()
    assert route.of("2") == [0, 20, 40, 60, 80, 100]
    assert records.bad == 0
    assert model.decisions().count("Promoted") == 1
    assert model.decisions().count("StepPassed") == 4


def test_of_two_operators_one_acts_and_the_other_takes_over(models: dict[str, Model], stand: Stand) -> None:
    """The follower writes nothing; after SIGKILL of the leader it finishes the rollout."""
    model = models["two"]
    stand.operator("second", lease_seconds=8)
    stand.wait("the second to be ready", lambda: answers(stand, "second"))
    with watching(model) as (route,), model.load() as load:
        model.apply("2")
        model.wait_canary("2")
        stand.wait("the first to lead", lambda: stand.leads("operator"))
        assert answers(stand, "second") and not stand.leads("second")
        writes = 'modeldeployment_api_requests_total{code="200",resource="modeldeployments",verb="PATCH"}'
        assert stand.metric(writes, "second") == 0
        stand.lab.process("operator").kill()
        stand.wait("the second to lead", lambda: stand.leads("second"))
        model.wait("promotion", lambda: model.weights() == {"2": 100})
        records = load.stop()
    assert route.of("2") == [0, 50, 100]
    assert records.bad == 0
    assert model.decisions().count("Promoted") == 1


def answers(stand: Stand, name: str) -> bool:
    """Whether an operator says that it is ready."""
    try:
        return stand.probe("/readyz", name).is_success
    except httpx.HTTPError:
        return False


def test_a_leader_that_was_paused_beyond_its_lease_changes_nothing(models: dict[str, Model], stand: Stand) -> None:
    """SIGSTOP, another takes over and goes elsewhere, SIGCONT: what the first had in mind is never written, although
    its step is over and it would promote; it ends, as its kubelet expects."""
    model = models["paused"]
    leader = stand.lab.process("second")
    stand.wait("the operator `second` to lead, as the test before left it", lambda: stand.leads("second"))
    stand.operator("operator")
    stand.wait("the other to be ready", lambda: answers(stand, "operator"))
    with watching(model) as (route,), model.load() as load:
        model.apply("2")
        model.wait_canary("2")
        over = time.monotonic() + 40
        time.sleep(2)
        leader.signal(signal.SIGSTOP)
        try:
            stand.wait("the other to lead", lambda: stand.leads("operator"))
            model.apply("1")
            model.wait("weight 0", lambda: model.weights() == {"1": 100})
            model.apply("3", ERRORS)
            model.wait("3 to be taken back", lambda: "RolledBack" in model.decisions())
            time.sleep(max(0.0, over - time.monotonic()))
            model.wait("3 to be scaled down", lambda: model.replicas("3") == 0)
            before = route.changes()
            version = stand.lab.api.get(f"{ROUTES}/paused")["metadata"]["generation"]
        finally:
            leader.signal(signal.SIGCONT)
        try:
            assert leader.wait(60) == 1
        except subprocess.TimeoutExpired:
            assert not stand.leads("second")
        time.sleep(1)
        records = load.stop()
    assert route.changes() == before
    assert stand.lab.api.get(f"{ROUTES}/paused")["metadata"]["generation"] == version
    assert route.of("2") == [0, 50, 0]
    assert route.of("3") == [0, 50, 0]
    assert {record.version for record in records.records if record.bad} == {"3"}
    stand.wait("the other to lead still", lambda: stand.leads("operator"))
