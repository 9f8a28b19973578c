"""What people do in mid-rollout: change their minds, edit children, scale by hand, delete, share host names."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

import pytest

from integration.acting import (
    DEPLOYMENTS,
    ERRORS,
    PODS,
    REVISIONS,
    ROLLOUT,
    SERVICES,
    Model,
    serve_first,
    watching,
)
from lab import ApiError
from lab.load import Snapshot
from lab.routewatch import ROUTES
from stand import Stand

JSON = dict[str, Any]
LONG = {**ROLLOUT, "canary": {"steps": [{"traffic": "30%", "duration": "10m"}]}}
"""A canary that stays: nothing but what the test does ends it."""
GATEWAYS = "/apis/gateway.networking.k8s.io/v1/namespaces/gateway-system/gateways"
STAYING = {"spec.rollout": LONG}
WATCHED = {"spec.rollout": {**ROLLOUT, "watch": "10m"}}
MODELS: dict[str, JSON] = {
    "back": STAYING,
    "third": STAYING,
    "watched": WATCHED,
    "returned": WATCHED,
    "alike": {},
    "better": {},
    "scaled": {"spec.serving.replicas": 2},
    "edited": {"spec.rollout": {**LONG, "watch": "10m"}},
    "deleted": STAYING,
    "older": {},
    "refused": {},
}


@pytest.fixture(scope="module")
def models(stand: Stand) -> dict[str, Model]:
    """Models whose first version serves."""
    found = {name: Model(stand, name, overrides) for name, overrides in MODELS.items()}
    serve_first([*found.values()])
    return found


SOON = 20
"""Seconds: far less than the step and the watch that would have to pass otherwise."""


def none_after(records: Snapshot, version: str, moment: float, grace: float = 0.25) -> bool:
    """Whether a version got no request sent after a moment, but for what was on its way then."""
    return records.between(moment + grace).versions()[version] == 0


def test_a_spec_that_goes_back_to_stable_ends_the_rollout_at_once(models: dict[str, Model]) -> None:
    """Weight 0 within a second or two of the change, no request and no error after it, the canary scaled down, nothing
    quarantined, and nothing told as a failure."""
    model = models["back"]
    with watching(model) as (route,), model.load() as load:
        model.apply("2")
        model.wait_canary("2", 30)
        model.apply("1")
        changed = time.time()
        model.wait("weight 0", lambda: route.of("2")[-1] == 0)
        zero = route.arrived("2", 0)
        model.wait("2 to be scaled down", lambda: model.replicas("2") == 0)
        model.wait("the end", lambda: model.state == "RolloutComplete")
        records = load.stop()
    assert route.of("2") == [0, 30, 0]
    assert zero - changed < SOON, "it was not the change that ended the step"
    assert none_after(records, "2", zero)
    assert records.bad == 0
    assert not model.status.get("quarantined")
    assert not model.condition("RolledBack")
    assert "RolloutCancelled" in model.decisions()
    (event,) = model.wait("the Event", lambda: model.events("RolloutCancelled"))
    assert event["type"] == "Normal"


def test_a_third_version_in_mid_canary_starts_from_nothing(models: dict[str, Model]) -> None:
    """The second version's weight goes to 0 first and its pods only after that; the third begins at 0 and gets its
    share when it is Ready; stable never gets less than before, and no client sees an error."""
    model = models["third"]
    with watching(model) as (route,), model.load() as load:
        model.apply("2")
        model.wait_canary("2", 30)
        model.apply("3")
        model.wait_canary("3", 30)
        model.wait("2 to be scaled down", lambda: model.replicas("2") == 0)
        model.wait("2's pods to end", lambda: not model.pods("2"))
        zero = route.arrived("2", 0)
        records = load.stop()
    assert route.of("2") == [0, 30, 0]
    assert route.of("3") == [0, 30]
    assert route.of("1") == [100, 70, 100, 70]  # never both at once, and nothing beyond a step
    assert none_after(records, "2", zero)
    assert records.bad == 0
    assert "RolloutReplaced" in model.decisions()


def test_a_version_changed_during_the_watch_is_a_rollout_of_its_own(models: dict[str, Model]) -> None:
    """The promoted version is the one to return to: it serves beside the next, and the version before is let go."""
    model = models["watched"]
    with watching(model) as (route,), model.load() as load:
        model.apply("2")
        model.wait("2 to get everything", lambda: model.weights() == {"2": 100})
        model.wait("the watch", lambda: model.state == "Watching")
        model.apply("3", ERRORS)
        model.wait("3 to get its share", lambda: 50 in route.of("3"))
        model.wait("1 to be scaled down", lambda: model.replicas("1") == 0)
        model.wait("3 to be taken back", lambda: model.weights() == {"2": 100})
        records = load.stop()
    assert route.of("1") == [100, 50, 0]
    assert route.of("2") == [0, 50, 100, 50, 100]
    assert route.of("3") == [0, 50, 0]
    bad = {record.version for record in records.records if record.bad}
    assert bad == {"3"}
    assert model.replicas("2") == 1


def test_a_spec_that_returns_during_the_watch_is_served_at_once(models: dict[str, Model]) -> None:
    """The version before stands warm: it gets everything in one step, without a canary and without an error."""
    model = models["returned"]
    with watching(model) as (route,), model.load() as load:
        model.apply("2")
        model.wait("2 to get everything", lambda: model.weights() == {"2": 100})
        model.apply("1")
        changed = time.time()
        model.wait("1 to get everything", lambda: model.weights() == {"1": 100})
        back = route.arrived("2", 0)
        model.wait("2 to be scaled down", lambda: model.replicas("2") == 0)
        records = load.stop()
    assert route.of("2") == [0, 50, 100, 0]
    assert back - changed < SOON, "it was not the change that ended the watch"
    assert none_after(records, "2", back)
    assert records.bad == 0
    assert model.decisions()[-1] == "Reverted"


def test_when_both_are_bad_the_canary_is_not_blamed(models: dict[str, Model]) -> None:
    """Stable fails as often as the canary: it is not taken back, it is not promoted, and health says Critical."""
    model = models["alike"]
    with model.load() as load:
        model.apply("2", ERRORS)
        model.wait("2 to be judged bad", lambda: "RolledBack" in model.decisions())
        load.stop()
    sick = Model(model.stand, "sick")
    model.stand.apply(sick.manifest("1", ERRORS))
    sick.wait_serving("1")
    with watching(sick) as (route,), sick.load() as load:
        sick.apply("2", ERRORS)
        sick.wait_canary("2")
        sick.wait("health", lambda: sick.status.get("health") == "Critical")
        time.sleep(10)  # far longer than the same errors take beside a good stable
        records = load.stop()
    assert route.of("2") == [0, 50]
    assert "Promoted" not in sick.decisions()
    assert 0.15 < sum(r.bad for r in records.records if r.version == "1") / records.versions()["1"] < 0.25
    assert not sick.condition("RolledBack")


def test_a_good_version_beside_a_broken_stable_is_promoted(models: dict[str, Model]) -> None:
    """The remedy for a broken version is the next one: it is judged by itself, and promoted."""
    model = Model(models["better"].stand, "mended")
    model.stand.apply(model.manifest("1", ERRORS))
    model.wait_serving("1")
    with watching(model) as (route,), model.load() as load:
        model.apply("2")
        model.wait("2 to get everything", lambda: model.weights() == {"2": 100})
        records = load.stop()
    assert route.of("2") == [0, 50, 100]
    bad = {record.version for record in records.records if record.bad}
    assert bad == {"1"}


def write_scale(model: Model, path: str, replicas: int) -> None:
    """As an autoscaler does it: read, replace, and again if somebody wrote in between."""

    def replaced() -> bool:
        scale = model.stand.lab.api.get(path)
        scale["spec"]["replicas"] = replicas
        try:
            model.stand.lab.api.replace(path, scale)
        except ApiError as error:
            if error.status != 409:
                raise
            return False
        return True

    model.wait(f"{path} to take {replicas}", replaced)


def test_replicas_set_by_hand_or_by_an_autoscaler_stay(models: dict[str, Model]) -> None:
    """`kubectl scale` of a child Deployment is left alone, through looks and through a status change; a write through
    the ModelDeployment's scale subresource (as an HPA does) changes the child; its selector finds the pods."""
    model = models["scaled"]
    lab, revision = model.stand.lab, model.revision("1")
    lab.kubectl("scale", "deployment", revision, "--replicas=3")
    model.wait("three pods", lambda: model.ready("1") == 3)
    time.sleep(3)  # looks every second
    assert model.replicas("1") == 3
    assert not model.events("ChildRestored")
    # The HPA reads scale, computes, and writes scale.
    path = "/apis/modeldeployment.io/v1alpha1/namespaces/default/modeldeployments/scaled/scale"
    model.wait("three replicas to be told", lambda: lab.api.get(path)["status"]["replicas"] == 3)
    scale = lab.api.get(path)
    assert len(lab.api.list(PODS, labelSelector=scale["status"]["selector"])) == 3
    write_scale(model, path, 1)
    model.wait("one pod", lambda: model.replicas("1") == 1)
    lab.kubectl("scale", "md", "scaled", "--replicas=2")
    model.wait("two pods", lambda: model.replicas("1") == 2)
    # An HPA on the child itself: scale of the Deployment, as a controller writes it.
    write_scale(model, f"{DEPLOYMENTS}/{revision}/scale", 4)
    model.wait("four pods", lambda: model.ready("1") == 4)
    time.sleep(3)
    assert model.replicas("1") == 4
    assert not model.events("ChildRestored")


def test_edited_children_are_put_right_and_the_editor_is_named(models: dict[str, Model]) -> None:
    """Somebody edits a Deployment's template, a Service's selector, a route's weights: each is put right within
    seconds, and an Event names who it was. Clients see errors only while a Service selected nothing."""
    model = models["edited"]
    lab = model.stand.lab
    with model.load(50) as load:
        model.apply("2")
        model.wait_canary("2", 30)
        stable, canary = model.revision("1"), model.revision("2")

        broken = time.time()
        edit(model, f"{SERVICES}/{stable}", {"spec": {"selector": {"stray": "true"}}}, "kubectl-mallory")
        model.wait("the Service", lambda: "stray" not in lab.api.get(f"{SERVICES}/{stable}")["spec"]["selector"])
        told(model, f"Service {stable}", "kubectl-mallory")
        righted = time.time()
        model.wait("its pods' answers", lambda: load.snapshot().between(righted).versions()["1"] > 10)
        mended = time.time()

        rules = lab.api.get(f"{ROUTES}/edited")["spec"]["rules"]
        for backend in rules[0]["backendRefs"]:
            backend["weight"] = 50
        edit(model, f"{ROUTES}/edited", {"spec": {"rules": rules}}, "kubectl-eve")
        model.wait("the route", lambda: model.weights() == {"1": 70, "2": 30})
        told(model, "HTTPRoute edited", "kubectl-eve")

        template = {"metadata": {"labels": {"stray": "true"}}, "spec": {"terminationGracePeriodSeconds": 5}}
        edit(model, f"{DEPLOYMENTS}/{canary}", {"spec": {"template": template}}, "kubectl-trudy")
        model.wait("the Deployment", lambda: "stray" not in labels_of(model, canary))
        told(model, f"Deployment {canary}", "kubectl-trudy")
        model.wait("its pods", lambda: len(model.pods("2")) == model.ready("2") == 1)
        records = load.stop()
    assert all(broken - 0.1 <= record.sent <= mended + 0.5 for record in records.records if record.bad)
    assert len(model.events("ChildRestored")) == 3  # each told once


def edit(model: Model, path: str, body: JSON, manager: str) -> None:
    """An edit by another field manager, as `kubectl edit` and `kubectl patch` make it."""
    model.stand.lab.api.request(
        "PATCH",
        path,
        params={"fieldManager": manager},
        json=body,
        headers={"Content-Type": "application/merge-patch+json"},
    )


def labels_of(model: Model, deployment: str) -> JSON:
    """Labels of a Deployment's pod template."""
    found = model.stand.lab.api.get(f"{DEPLOYMENTS}/{deployment}")
    return dict(found["spec"]["template"]["metadata"]["labels"])


def told(model: Model, what: str, who: str) -> None:
    """Waits for the Event that names what was put right and who had changed it."""

    def found() -> bool:
        return any(what in e["note"] and who in e["note"] for e in model.events("ChildRestored"))

    model.wait(f"the Event about {what} by {who}", found)


def test_deleted_children_come_back(models: dict[str, Model]) -> None:
    """Somebody deletes the route, a Service, a Deployment, a ModelRevision: each is made anew as it was, with the
    weights it had, and that is told."""
    model = models["back"]
    lab = model.stand.lab
    weights = model.wait("a route at rest", model.weights)
    stable = model.revision("1")
    for path, what in (
        (f"{ROUTES}/back", "HTTPRoute back"),
        (f"{SERVICES}/{stable}", f"Service {stable}"),
        (f"{DEPLOYMENTS}/{stable}", f"Deployment {stable}"),
        (f"{REVISIONS}/{stable}", f"ModelRevision {stable}"),
    ):
        uid = lab.api.get(path)["metadata"]["uid"]
        lab.api.delete(path, propagationPolicy="Background")

        def anew(path: str = path, uid: str = uid) -> bool:
            found = lab.api.find(path)
            return found is not None and found["metadata"]["uid"] != uid

        model.wait(f"{what} anew", anew)
        model.wait(f"the Event about {what}", partial(_told_deleted, model, what))
    model.wait("as before", lambda: model.weights() == weights and model.ready("1") == 1)


def test_a_model_deleted_in_mid_canary_takes_its_children_along(models: dict[str, Model]) -> None:
    """Route, Services, Deployments, pods and ModelRevisions go by garbage collection, nothing is made anew, and no
    finalizer holds the object."""
    model = models["deleted"]
    lab = model.stand.lab
    model.apply("2")
    model.wait_canary("2", 30)
    selector = "modeldeployment.io/name=deleted"
    collections = (DEPLOYMENTS, SERVICES, PODS, REVISIONS, ROUTES)
    assert all(lab.api.list(path, labelSelector=selector) for path in collections)
    lab.kubectl("delete", "md", "deleted", "--timeout=60s")

    def left() -> dict[str, int]:
        return {p: n for p in collections if (n := len(lab.api.list(p, labelSelector=selector)))}

    model.wait("the children to go", lambda: not left())
    time.sleep(3)
    assert not left()
    assert model.stand.metric('modeldeployment_health{name="deleted",namespace="default"}') == 0


def test_of_two_with_one_host_name_the_older_keeps_it(models: dict[str, Model]) -> None:
    """The younger gets no route and no request, and says whose the host name is; when the older one is gone, the
    younger gets it."""
    older = models["older"]
    younger = Model(older.stand, "younger", {"spec.traffic.gateway.hostnames": [older.host]})
    younger.stand.apply(younger.manifest("9"))
    younger.wait("the conflict", lambda: younger.says("RouteProgrammed", "False", "HostnameConflict"))
    younger.wait("its pods", lambda: younger.ready("9") == 1)
    assert "default/older" in younger.condition("RouteProgrammed")["message"]
    assert younger.condition("Ready")["status"] != "True"
    with older.load(50) as load:
        time.sleep(2)
        records = load.stop()
    assert records.versions() == {"1": len(records.records)}
    assert younger.route() is None
    assert older.condition("RouteProgrammed")["status"] == "True"
    older.stand.lab.kubectl("delete", "md", "older")
    younger.wait_serving("9")
    with older.load(50) as load:
        younger.wait("an answer", lambda: load.snapshot().versions()["9"])


def test_a_gateway_that_does_not_exist_or_refuses_gets_no_promise(models: dict[str, Model]) -> None:
    """RouteProgrammed says what is wrong and Ready is not True; once the Gateway is there and takes the route, the
    model serves."""
    parent = {"spec.traffic.gateway.parentRefs": [{"name": "private", "namespace": "gateway-system"}]}
    model = Model(models["refused"].stand, "lonely", parent)
    lab = model.stand.lab
    model.stand.apply(model.manifest("1"))
    model.wait("its pods", lambda: model.ready("1") == 1)
    model.wait("GatewayNotFound", lambda: model.says("RouteProgrammed", "False", "GatewayNotFound"))
    assert "gateway-system/private" in model.condition("RouteProgrammed")["message"]
    assert model.says("Ready", "False", "GatewayNotFound")
    assert not model.status["stable"].get("weight")

    gateway = lab.api.get(f"{GATEWAYS}/public")
    spec = json.loads(json.dumps(gateway["spec"]))
    spec["listeners"][0]["allowedRoutes"] = {"namespaces": {"from": "Same"}}
    private = {
        "apiVersion": gateway["apiVersion"],
        "kind": "Gateway",
        "metadata": {"name": "private", "namespace": "gateway-system"},
        "spec": spec,
    }
    lab.api.create(GATEWAYS, private)
    model.wait("the refusal", lambda: model.says("RouteProgrammed", "False", "NotAllowedByListeners"))
    assert model.condition("Ready")["status"] == "False"
    listeners = [{**spec["listeners"][0], "allowedRoutes": {"namespaces": {"from": "All"}}}]
    lab.api.patch(f"{GATEWAYS}/private", {"spec": {"listeners": listeners}})
    model.wait_serving("1")
    with model.load(50) as load:
        model.wait("an answer", lambda: load.snapshot().versions()["1"])
    assert model.says("Ready", "True", "Serving")


def test_a_canary_gets_no_weight_from_a_gateway_that_refuses(models: dict[str, Model]) -> None:
    """A route that is no longer accepted is not written to: the canary waits at 0, and goes on when it is."""
    model = models["refused"]
    lab = model.stand.lab
    gateway = {
        **lab.api.get(f"{GATEWAYS}/public"),
        "metadata": {"name": "second", "namespace": "gateway-system"},
    }
    gateway.pop("status")
    lab.api.create(GATEWAYS, gateway)
    parents = [{"name": "public", "namespace": "gateway-system"}, {"name": "second", "namespace": "gateway-system"}]
    both = {"spec.traffic.gateway.parentRefs": parents}
    model.stand.apply(model.manifest("1", overrides=both))
    model.wait(
        "both Gateways", lambda: model.weights() == {"1": 100} and len((model.route() or {})["status"]["parents"]) == 2
    )
    lab.api.delete(f"{GATEWAYS}/second")
    model.wait("the loss", lambda: model.says("RouteProgrammed", "False", "GatewayNotFound"))
    with watching(model) as (route,), model.load() as load:
        model.stand.apply(model.manifest("2", overrides=both))
        model.wait("2 to wait", lambda: model.ready("2") == 1 and model.state == "WaitingForRouter")
        time.sleep(2)
        assert route.of("2") == [0]
        lab.api.create(GATEWAYS, gateway)
        model.wait("2 to get everything", lambda: model.weights() == {"2": 100})
        load.stop()
    assert route.of("2") == [0, 50, 100]


def test_a_child_of_somebody_else_is_not_taken_over(models: dict[str, Model], stand: Stand) -> None:
    """A Deployment that has the name a child would have, and another owner, is left alone, and that is told."""
    model = Model(stand, "squatted")
    model.stand.apply(model.manifest("1"))
    model.wait("its Deployment", lambda: model.deployment("1"))
    revision = model.revision("1")
    stand.lab.kubectl("delete", "md", "squatted")
    model.wait("its end", lambda: stand.lab.api.find(f"{DEPLOYMENTS}/{revision}") is None)
    labels = {"app": "stranger"}
    stranger = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": revision, "namespace": "default"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "x", "image": "lab/x"}]},
            },
        },
    }
    try:
        stand.lab.api.create(DEPLOYMENTS, stranger)
    except ApiError as error:  # pragma: no cover (the names are free by now)
        pytest.fail(str(error))
    model.stand.apply(model.manifest("1"))
    model.wait("the refusal", lambda: any(revision in e["note"] for e in model.events("ChildRefused")))
    model.wait(
        "the condition to say so",
        lambda: "belongs to somebody else" in model.condition("Progressing").get("message", ""),
    )
    assert stand.lab.api.get(f"{DEPLOYMENTS}/{revision}")["spec"]["template"]["metadata"]["labels"] == labels
    stand.lab.api.delete(f"{DEPLOYMENTS}/{revision}")
    model.wait_serving("1")


def _told_deleted(model: Model, what: str) -> bool:
    return any(f"{what} was deleted" in event["note"] for event in model.events())
