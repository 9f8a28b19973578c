"""Status → children, over a fake API server (tests/integration has the real one)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from modeldeployment.api import names
from modeldeployment.api.base import JSON
from modeldeployment.api.modelrevision import Stage
from modeldeployment.api.status import Draining, ModelDeploymentStatus, Quarantined, RevisionStatus, RolloutStatus
from modeldeployment.controller.effects import REVISIONS_KEPT, stage_of
from modeldeployment.controller.entry import Entry
from modeldeployment.controller.kube import ApiError
from modeldeployment.controller.resources import DEPLOYMENTS, HTTP_ROUTES, MODEL_REVISIONS, SERVICES, Resource
from unit.controller.fake_kube import Model

NOW = datetime(2026, 11, 24, tzinfo=UTC)
ROUTE = ("default", "fraud")
SECOND = {"spec.model.version": "1.5.0"}


def serves(model: Model, weight: int = 100) -> ModelDeploymentStatus:
    """The version that the spec asks for serves."""
    role = RevisionStatus(revision=model.name, version="1.4.0", wanted_weight=weight)
    return ModelDeploymentStatus(stable=role)


async def serving(overrides: dict[str, Any] | None = None) -> Model:
    """A model whose children are all there."""
    model = Model(overrides)
    starts = RevisionStatus(revision=model.name, version="1.4.0")
    await model.apply(ModelDeploymentStatus(canary=starts))
    await model.apply(serves(model))
    return model


async def canaried(weight: int = 10) -> tuple[Model, str]:
    """A second version beside the first; returns the first one's revision."""
    model = await serving()
    first = model.name
    stable = serves(model, 100 - weight).stable
    model.ask(SECOND)
    canary = RevisionStatus(revision=model.name, version="1.5.0", wanted_weight=weight)
    rollout = RolloutStatus(revision=model.name, version="1.5.0", start_time=NOW, steps=1)
    await model.apply(ModelDeploymentStatus(stable=stable, canary=canary, rollout=rollout))
    return model, first


def replicas(model: Model, revision: str) -> int:
    """Pods that a Deployment asks for."""
    return int(model.kube.objects[DEPLOYMENTS]["default", revision]["spec"]["replicas"])


def foreign(spec: JSON, manager: str = "kubectl-edit") -> JSON:
    """metadata of an object whose spec's fields somebody else owns."""
    fields = {"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": spec}}
    return {"metadata": {"managedFields": [fields]}}


# --- what a status implies --------------------------------------------------------------------------------------


async def test_version_that_serves_has_all_its_children() -> None:
    """A ModelRevision, a Service, a Deployment and the route."""
    model = await serving({"spec.serving.replicas": 3})
    made = [kind for verb, kind, _ in model.kube.writes if verb == "CREATE"]
    assert made == ["ModelRevision", "Service", "Deployment", "HTTPRoute"]
    assert replicas(model, model.name) == 3
    assert model.kube.objects[MODEL_REVISIONS][model.key()]["status"] == {"stage": "Production"}


async def test_first_version_gets_no_route_before_it_serves() -> None:
    """Nothing to send requests to yet."""
    model = Model()
    canary = RevisionStatus(revision=model.name, version="1.4.0")
    await model.apply(ModelDeploymentStatus(canary=canary))
    assert HTTP_ROUTES not in model.kube.objects and replicas(model, model.name) == 1


async def test_route_comes_first() -> None:
    """Taking traffic away waits for nothing else."""
    model, first = await canaried()
    role = RevisionStatus(revision=first, version="1.4.0", wanted_weight=100)
    gone = (Draining(revision=model.name, since=NOW),)
    writes = await model.apply(ModelDeploymentStatus(stable=role, draining=gone))
    assert writes[0] == ("APPLY", "HTTPRoute", "fraud")


async def test_second_apply_writes_nothing() -> None:
    """Effects are idempotent: what is as it should be is left alone."""
    model, _ = await canaried()
    assert await model.apply() == []
    assert model.told == []


async def test_after_a_crash_only_what_is_missing_is_made() -> None:
    """The operator died after its second write: the next one goes on there."""
    model = await serving()
    model.lose(DEPLOYMENTS, model.key())
    writes = await model.apply()
    assert [kind for _, kind, _ in writes] == ["Deployment"]


async def test_revision_without_a_part_is_scaled_to_nothing() -> None:
    """It is not named by the status any more: no pods, and its record stays."""
    model, first = await canaried()
    role = RevisionStatus(revision=model.name, version="1.5.0", wanted_weight=100)
    await model.apply(ModelDeploymentStatus(stable=role))
    assert replicas(model, first) == 0
    assert model.kube.objects[MODEL_REVISIONS]["default", first]["status"]["stage"] == "Archived"
    assert await model.apply() == []


async def test_draining_revision_keeps_its_pods() -> None:
    """It still may have requests."""
    model, first = await canaried()
    role = RevisionStatus(revision=model.name, version="1.5.0", wanted_weight=100)
    await model.apply(ModelDeploymentStatus(stable=role, draining=(Draining(revision=first, since=NOW),)))
    assert replicas(model, first) == 1


# --- replicas ---------------------------------------------------------------------------------------------------


async def test_replicas_changed_by_hand_are_left_alone() -> None:
    """Somebody, or an autoscaler, wants another number: theirs."""
    model = await serving({"spec.serving.replicas": 3})
    model.see(DEPLOYMENTS, model.key(), {"spec": {"replicas": 8}})
    assert await model.apply() == [] and replicas(model, model.name) == 8
    assert model.told == []


async def test_wanted_replicas_are_written_once() -> None:
    """The spec's number changed: it is asked for once, and then it is anybody's again."""
    model = await serving({"spec.serving.replicas": 3})
    model.ask({"spec.serving.replicas": 5})
    assert await model.apply() == [("MERGE", "Deployment", model.name)]
    assert replicas(model, model.name) == 5
    model.see(DEPLOYMENTS, model.key(), {"spec": {"replicas": 2}})
    assert await model.apply() == [] and replicas(model, model.name) == 2


async def test_scaled_down_revision_wakes_when_it_is_wanted_again() -> None:
    """A retry of an archived version starts its pods, though the same number was asked for before."""
    model, first = await canaried()
    role = RevisionStatus(revision=model.name, version="1.5.0", wanted_weight=100)
    await model.apply(ModelDeploymentStatus(stable=role))
    assert replicas(model, first) == 0
    model.ask({})
    canary = RevisionStatus(revision=first, version="1.4.0")
    await model.apply(ModelDeploymentStatus(stable=role, canary=canary))
    assert replicas(model, first) == 1


async def test_pods_of_a_revision_without_a_part_are_not_started_by_hand() -> None:
    """Scaled up by somebody, though it has no part: scaled down again."""
    model, first = await canaried()
    role = RevisionStatus(revision=model.name, version="1.5.0", wanted_weight=100)
    await model.apply(ModelDeploymentStatus(stable=role))
    model.see(DEPLOYMENTS, ("default", first), {"spec": {"replicas": 4}})
    await model.apply()
    assert replicas(model, first) == 0


# --- somebody else ----------------------------------------------------------------------------------------------

_EDITS: dict[str, tuple[Resource, JSON, str]] = {
    "weights of the route": (
        HTTP_ROUTES,
        {"spec": {"rules": [{"backendRefs": [{"name": "x", "weight": 1}]}]}, **foreign({"f:rules": {}})},
        "HTTPRoute fraud was edited by kubectl-edit: put right",
    ),
    "port of the Service": (
        SERVICES,
        {"spec": {"ports": [{"port": 81}]}, **foreign({"f:ports": {"k": {"f:port": {}}}})},
        "Service {name} was edited by kubectl-edit: put right",
    ),
    "image of the Deployment": (
        DEPLOYMENTS,
        {
            "spec": {"template": {"spec": {"containers": [{"name": "model", "image": "evil:1"}]}}},
            **foreign({"f:template": {"f:spec": {"f:containers": {"k": {"f:image": {}}}}}}),
        },
        "Deployment {name} was edited by kubectl-edit: put right",
    ),
}


@pytest.mark.parametrize(("resource", "change", "note"), _EDITS.values(), ids=_EDITS)
async def test_foreign_edit_is_put_right_and_told(resource: Resource, change: JSON, note: str) -> None:
    """Seen, told with the name of who did it, put right once."""
    model = await serving()
    key = ROUTE if resource is HTTP_ROUTES else model.key()
    wanted = model.kube.objects[resource][key]["spec"]
    model.see(resource, key, change)
    assert len(await model.apply()) == 1
    assert model.kube.objects[resource][key]["spec"] == wanted
    assert model.told == [("ChildRestored", note.format(name=model.name))]
    assert await model.apply() == [] and len(model.told) == 1


async def test_restart_of_the_pods_is_no_edit() -> None:
    """kubectl rollout restart is a wish that is left alone."""
    model = await serving()
    annotations: JSON = {"f:annotations": {".": {}, "f:kubectl.kubernetes.io/restartedAt": {}}}
    change = {
        "spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}},
        **foreign({"f:template": {"f:metadata": annotations}}, "kubectl-rollout"),
    }
    model.see(DEPLOYMENTS, model.key(), change)
    assert await model.apply() == [] and model.told == []


async def test_what_the_api_server_adds_is_no_edit() -> None:
    """Defaults, and fields of others, are not the operator's."""
    model = await serving()
    model.see(SERVICES, model.key(), {"spec": {"clusterIP": "10.0.0.1", "sessionAffinity": "None"}})
    model.see(
        DEPLOYMENTS, model.key(), {"spec": {"progressDeadlineSeconds": 600}, "metadata": {"annotations": {"x": "y"}}}
    )
    assert await model.apply() == []


@pytest.mark.parametrize("resource", [HTTP_ROUTES, DEPLOYMENTS, SERVICES, MODEL_REVISIONS], ids=lambda r: r.kind)
async def test_deleted_child_is_made_anew(resource: Resource) -> None:
    """Whatever somebody deletes comes back, as it was."""
    model = await serving()
    model.entry.weights = {model.name: 100}
    key = ROUTE if resource is HTTP_ROUTES else model.key()
    before = model.kube.objects[resource][key]["spec"]
    model.lose(resource, key)
    await model.apply()
    assert model.kube.objects[resource][key]["spec"] == before
    if resource in (HTTP_ROUTES, DEPLOYMENTS):
        assert [reason for reason, _ in model.told] == ["ChildRestored"]


async def test_children_of_a_model_made_anew_were_deleted_by_nobody() -> None:
    """A model is deleted, its children with it, and made again under its name: nobody is accused of anything."""
    model = await serving()
    await model.apply()
    for resource in (HTTP_ROUTES, DEPLOYMENTS, SERVICES, MODEL_REVISIONS):
        model.lose(resource, ROUTE if resource is HTTP_ROUTES else model.key())
    status = model.entry.status
    model.entry = Entry.of(model.entry.key, model.entry.obj)
    await model.apply(ModelDeploymentStatus(canary=status.stable))
    assert model.told == []
    assert model.key() in model.kube.objects[SERVICES]


async def test_child_that_the_watch_has_not_shown_yet_is_adopted() -> None:
    """Made a moment ago by this operator, or the leader before: no second one, and no error."""
    model = await serving()
    held = model.kube.objects[DEPLOYMENTS][model.key()]
    model.store.remove(DEPLOYMENTS, held)
    await model.apply()
    assert model.store.get(DEPLOYMENTS, model.key()) == held


async def test_object_of_a_stranger_is_never_taken_over() -> None:
    """A Deployment of that name that belongs to somebody else: refused, in words, and left as it is."""
    model = Model()
    stranger = {"metadata": {"name": model.name, "namespace": "default"}, "spec": {"replicas": 9}}
    held = model.kube.hold(DEPLOYMENTS, stranger)
    with pytest.raises(ApiError, match="belongs to somebody else: delete or rename it"):
        await model.apply(serves(model))
    assert model.kube.objects[DEPLOYMENTS][model.key()] == held
    assert model.store.get(DEPLOYMENTS, model.key()) is None


async def test_refusal_of_one_child_stops_no_other() -> None:
    """Quota refuses the canary's Deployment: the route and stable are still brought to what they should be."""
    model, first = await canaried()
    model.kube.refuses["CREATE", "Deployment"] = ApiError(403, "Forbidden", "exceeded quota")
    model.lose(DEPLOYMENTS, model.key())
    model.lose(HTTP_ROUTES, ROUTE)
    model.lose(SERVICES, ("default", first))
    with pytest.raises(ApiError, match="exceeded quota"):
        await model.apply()
    assert ROUTE in model.kube.objects[HTTP_ROUTES] and ("default", first) in model.kube.objects[SERVICES]


async def test_refusal_of_the_route_stops_no_other() -> None:
    """The route is refused: the pods are still made."""
    model = Model()
    model.kube.refuses["CREATE", "HTTPRoute"] = ApiError(422, "Invalid", "spec.hostnames: invalid")
    with pytest.raises(ApiError, match="invalid"):
        await model.apply(serves(model))
    assert replicas(model, model.name) == 1


async def test_conflict_keeps_the_route_from_being_made() -> None:
    """Another ModelDeployment has the host name: pods yes, route no."""
    model = Model()
    await model.apply(serves(model), conflict="taken")
    assert HTTP_ROUTES not in model.kube.objects and replicas(model, model.name) == 1


# --- revisions --------------------------------------------------------------------------------------------------


async def test_only_so_many_old_revisions_are_kept() -> None:
    """The oldest go, with their Deployment and Service; what has a part stays however old it is."""
    model = await serving()
    first, last = model.name, model.name
    for minor in range(REVISIONS_KEPT + 3):
        model.ask({"spec.model.version": f"2.{minor}"})
        last = model.name
        await model.apply(serves(model))
        held = model.kube.objects[MODEL_REVISIONS][model.key()]
        model.see(
            MODEL_REVISIONS, key := model.key(), {"metadata": {"creationTimestamp": f"2026-11-25T12:{minor:02}:00Z"}}
        )
        assert held and key
    writes = await model.apply()
    assert {verb for verb, _, _ in writes} == {"DELETE"}
    kept = {name for _, name in model.kube.objects[MODEL_REVISIONS]}
    assert len(kept) == REVISIONS_KEPT + 1 and last in kept and first not in kept
    assert {name for _, name in model.kube.objects[DEPLOYMENTS]} == kept


async def test_old_revision_is_served_as_it_was_made() -> None:
    """The spec moved on: what serves keeps its own template."""
    model, first = await canaried()
    model.lose(DEPLOYMENTS, ("default", first))
    await model.apply()
    made = model.kube.objects[DEPLOYMENTS]["default", first]["spec"]["template"]
    (container,) = made["spec"]["containers"]
    assert {"name": "MODEL_VERSION", "value": "1.4.0"} in container["env"]
    assert made["metadata"]["labels"][names.LABEL_REVISION] == first


_ENTRY = Quarantined(revision="x", version="1", attempt=1, reason="RolledBack", message="bad", time=NOW)
_ROLE = RevisionStatus(revision="x", version="1")
_STAGES: dict[str, tuple[ModelDeploymentStatus, Stage]] = {
    "stable": (ModelDeploymentStatus(stable=_ROLE), Stage.PRODUCTION),
    "stable after a retry": (ModelDeploymentStatus(stable=_ROLE, quarantined=(_ENTRY,)), Stage.PRODUCTION),
    "canary": (ModelDeploymentStatus(canary=_ROLE), Stage.STAGING),
    "taken back": (ModelDeploymentStatus(quarantined=(_ENTRY,)), Stage.QUARANTINED),
    "kept warm": (ModelDeploymentStatus(previous=_ROLE), Stage.ARCHIVED),
    "no part": (ModelDeploymentStatus(), Stage.ARCHIVED),
}


@pytest.mark.parametrize(("status", "stage"), _STAGES.values(), ids=_STAGES)
def test_stage(status: ModelDeploymentStatus, stage: Stage) -> None:
    """Where a revision is in its life follows from the status alone."""
    assert stage_of(status, "x") is stage
