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
from modeldeployment.controller.store import Key
from unit.controller.fake_kube import OWNER_UID, Model

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
    key = child(model, resource)
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


async def test_whoever_owns_the_same_values_is_put_right_once() -> None:
    """Somebody applied the very template that is wanted: theirs too, and nothing changes by writing it again."""
    model = await serving()
    model.see(DEPLOYMENTS, model.key(), foreign({"f:template": {"f:spec": {"f:containers": {}}}}, "argocd"))
    assert await model.apply() == [("PATCH", "Deployment", model.name)]
    assert model.kube.objects[DEPLOYMENTS][model.key()]["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]
    assert await model.apply() == [] and model.told == []


_KINDS = [HTTP_ROUTES, DEPLOYMENTS, SERVICES, MODEL_REVISIONS]
each_kind = pytest.mark.parametrize("resource", _KINDS, ids=lambda r: r.kind)


def child(model: Model, resource: Resource) -> Key:
    """Where the model's child of a kind is."""
    return ROUTE if resource is HTTP_ROUTES else model.key()


@each_kind
async def test_deleted_child_is_made_anew(resource: Resource) -> None:
    """Whatever somebody deletes comes back, as it was."""
    model = await serving()
    key = child(model, resource)
    before = model.kube.objects[resource][key]["spec"]
    model.lose(resource, key)
    await model.apply()
    assert model.kube.objects[resource][key]["spec"] == before
    assert model.told == [("ChildRestored", f"{resource.kind} {key[1]} was deleted by somebody: made anew")]


async def test_children_of_a_model_made_anew_were_deleted_by_nobody() -> None:
    """A model is deleted, its children with it, and made again under its name: nobody is accused of anything."""
    model = await serving()
    await model.apply()
    for resource in _KINDS:
        model.lose(resource, child(model, resource))
    status = model.entry.status
    model.entry = Entry.of(model.entry.key, model.entry.obj)
    await model.apply(ModelDeploymentStatus(canary=status.stable))
    assert model.told == []
    assert model.key() in model.kube.objects[SERVICES]


async def test_child_that_the_watch_has_not_shown_yet_is_adopted() -> None:
    """Made a moment ago by this operator, or the leader before: no second one, and no error."""
    model = await serving()
    held = model.kube.objects[DEPLOYMENTS][model.key()]
    late = Model()
    late.kube.objects = model.kube.objects
    await late.apply(serves(late))
    assert late.store.get(DEPLOYMENTS, model.key()) == held
    assert late.told == [], "it was deleted by nobody"


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


# --- labels and owners ------------------------------------------------------------------------------------------

_LABELLED: JSON = {
    "manager": "kubectl-label",
    "operation": "Update",
    "fieldsV1": {"f:metadata": {"f:labels": {f"f:{names.LABEL_NAME}": {}}}},
}
_HALF_OWNED: JSON = {
    "apiVersion": names.API_VERSION,
    "kind": "ModelDeployment",
    "name": "fraud",
    "uid": OWNER_UID,
    "controller": False,
}
_METADATA: dict[str, tuple[JSON, str]] = {
    "a label is gone": ({"labels": {names.LABEL_NAME: None}}, "was edited by somebody: put right"),
    "a label says something else": (
        {"labels": {names.LABEL_NAME: "other"}, "managedFields": [_LABELLED]},
        "was edited by kubectl-label: put right",
    ),
    "the owner is not its controller": (
        {"ownerReferences": [_HALF_OWNED]},
        "was edited by somebody: put right",
    ),
    "no owner": ({"ownerReferences": None}, "had no owner any more: adopted"),
    "neither owner nor name": (
        {"ownerReferences": None, "labels": {names.LABEL_NAME: None}},
        "had no owner any more: adopted",
    ),
}


@each_kind
@pytest.mark.parametrize(("change", "note"), _METADATA.values(), ids=_METADATA)
async def test_labels_and_owner_are_put_right(resource: Resource, change: JSON, note: str) -> None:
    """Without them a Service's endpoints are nobody's, and a child outlives its model. Those of others stay."""
    if resource is MODEL_REVISIONS:
        note = note.replace("kubectl-label", "somebody")  # whose editors are not kept
    model = await serving()
    key = child(model, resource)
    before = model.kube.objects[resource][key]
    model.see(resource, key, {"metadata": {"labels": {"team": "risk"}}})
    model.see(resource, key, {"metadata": change})
    assert len(await model.apply()) == 1
    after = model.kube.objects[resource][key]
    assert after["metadata"]["labels"] == {**before["metadata"]["labels"], "team": "risk"}
    assert after["metadata"]["ownerReferences"] == before["metadata"]["ownerReferences"]
    assert after["spec"] == before["spec"]
    assert model.told == [("ChildRestored", f"{resource.kind} {key[1]} {note}")]
    assert await model.apply() == []


@each_kind
async def test_child_that_left_the_watch_is_found_again(resource: Resource) -> None:
    """Its managed-by label was taken off, which the watch tells as a deletion: nobody is accused of one."""
    model = await serving()
    key = child(model, resource)
    before = model.kube.objects[resource][key]
    lost = model.kube.hold(resource, before)
    del model.kube.objects[resource][key]["metadata"]["labels"][names.LABEL_MANAGED_BY]
    model.store.remove(resource, lost)
    await model.apply()
    again = model.store.get(resource, key)
    assert again is not None and again["metadata"]["labels"] == before["metadata"]["labels"]
    assert again["metadata"]["uid"] == before["metadata"]["uid"]
    assert model.told == [("ChildRestored", f"{resource.kind} {key[1]} was edited by somebody: put right")]
    assert await model.apply() == []


async def test_labels_of_a_revision_without_a_part_are_put_right() -> None:
    """It is still found by them: pruned when it is old, and used again when it is wanted."""
    model, first = await canaried()
    role = RevisionStatus(revision=model.name, version="1.5.0", wanted_weight=100)
    await model.apply(ModelDeploymentStatus(stable=role))
    for resource in (DEPLOYMENTS, SERVICES, MODEL_REVISIONS):
        model.see(resource, ("default", first), {"metadata": {"ownerReferences": None}})
    assert {kind for _, kind, _ in await model.apply()} == {"Deployment", "Service", "ModelRevision"}
    assert await model.apply() == []


async def test_orphans_are_adopted_by_the_model_made_anew() -> None:
    """kubectl delete --cascade=orphan, and the same manifest again: what serves goes on serving, and is owned."""
    model = await serving()
    pods = model.kube.objects[DEPLOYMENTS][model.key()]["spec"]
    obj = {**model.entry.obj, "metadata": {**model.entry.obj["metadata"], "uid": "uid-anew"}}
    for resource in _KINDS:
        model.see(resource, child(model, resource), {"metadata": {"ownerReferences": None}})
    model.entry = Entry.of(model.entry.key, obj)
    await model.apply(serves(model))
    for resource in _KINDS:
        metadata = model.kube.objects[resource][child(model, resource)]["metadata"]
        assert metadata["ownerReferences"] == [model.entry.owner.reference()]
    assert model.kube.objects[DEPLOYMENTS][model.key()]["spec"] == pods
    assert len(model.told) == len(_KINDS) and await model.apply() == []


@each_kind
@pytest.mark.parametrize("kind", ["ModelDeployment", "Helm"])
async def test_child_of_another_owner_is_never_written(resource: Resource, kind: str) -> None:
    """It has our labels, and another owner: left as it is, and told. A predecessor's goes by itself."""
    model = await serving()
    key = child(model, resource)
    other = {"kind": kind, "name": "fraud", "uid": "uid-other", "controller": True}
    spec = {"replicas": 9} if resource is DEPLOYMENTS else {"theirs": True}
    held = model.see(resource, key, {"metadata": {"ownerReferences": [other]}, "spec": spec})
    match = "had this name before" if kind == "ModelDeployment" else "belongs to somebody else: delete or rename it"
    with pytest.raises(ApiError, match=match):
        await model.apply()
    assert model.kube.objects[resource][key] == held and model.told == []


async def test_children_of_a_predecessor_were_deleted_by_nobody() -> None:
    """A model is made again while its old children are still being collected: once they are gone, it gets its own."""
    model = await serving()
    obj = {**model.entry.obj, "metadata": {**model.entry.obj["metadata"], "uid": "uid-anew"}}
    status, model.entry = model.entry.status, Entry.of(model.entry.key, obj)
    model.restart()
    with pytest.raises(ApiError, match="had this name before"):
        await model.apply(ModelDeploymentStatus(canary=status.stable))
    for resource in _KINDS:
        model.lose(resource, child(model, resource))
    await model.apply()
    owned = model.kube.objects[DEPLOYMENTS][model.key()]["metadata"]["ownerReferences"]
    assert owned == [model.entry.owner.reference()] and model.told == []


async def test_children_of_another_owner_are_never_pruned() -> None:
    """They have the labels of a revision of ours that has no part: no error either, nothing is wanted of them."""
    model, first = await canaried()
    other = {"metadata": {"ownerReferences": [{"kind": "x", "name": "x", "uid": "uid-other", "controller": True}]}}
    for resource in (DEPLOYMENTS, SERVICES):
        model.see(resource, ("default", first), other)
    model.lose(MODEL_REVISIONS, ("default", first))
    role = RevisionStatus(revision=model.name, version="1.5.0", wanted_weight=100)
    await model.apply(ModelDeploymentStatus(stable=role))
    assert replicas(model, first) == 1 and ("default", first) in model.kube.objects[SERVICES]


# --- what the watch missed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("resource", [DEPLOYMENTS, SERVICES, MODEL_REVISIONS], ids=lambda r: r.kind)
async def test_child_that_is_gone_unseen_is_made_anew(resource: Resource) -> None:
    """A write finds that it is not there: the store learns of it, the model is marked, and the next look makes it."""
    model = await serving()
    model.see(resource, model.key(), {"metadata": {"labels": {names.LABEL_VERSION: "0"}}})
    del model.kube.objects[resource][model.key()]
    model.marked.clear()
    await model.apply()
    assert model.store.get(resource, model.key()) is None and model.entry.key in model.marked
    await model.apply()
    assert model.key() in model.kube.objects[resource]
    assert await model.apply() == []


# --- the route --------------------------------------------------------------------------------------------------


def route(model: Model) -> JSON:
    """The route's spec."""
    spec: JSON = model.kube.objects[HTTP_ROUTES][ROUTE]["spec"]
    return spec


async def test_conflict_leaves_the_route_where_it_is() -> None:
    """The spec was edited to claim another model's host name, path and Gateway: shares still move, nothing else."""
    model, first = await canaried()
    before = route(model)
    gateway = {"hostnames": ["payments.example.com"], "pathPrefix": "/pay", "parentRefs": [{"name": "theirs"}]}
    model.ask({**SECOND, **{f"spec.traffic.gateway.{key}": value for key, value in gateway.items()}})
    assert await model.apply(conflict="taken") == []
    role = RevisionStatus(revision=first, version="1.4.0", wanted_weight=100)
    gone = (Draining(revision=model.name, since=NOW),)
    await model.apply(ModelDeploymentStatus(stable=role, draining=gone), conflict="taken")
    after = route(model)
    assert {**after, "rules": 0} == {**before, "rules": 0}
    assert after["rules"][0]["matches"] == before["rules"][0]["matches"]
    assert [(b["name"], b["weight"]) for b in after["rules"][0]["backendRefs"]] == [(first, 100)]
    assert model.told == [] and await model.apply(conflict="taken") == []
    await model.apply()
    assert route(model)["hostnames"] == ["payments.example.com"], "the other one is gone"


_REDIRECT = {"type": "RequestRedirect", "requestRedirect": {"hostname": "evil.example.com"}}
_ADDED: dict[str, JSON] = {
    "a redirect": {"filters": [_REDIRECT]},
    "a match on a header": {"matches": [{"path": {"type": "PathPrefix", "value": "/"}, "headers": [{"name": "x"}]}]},
    "another match": {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}, {"path": {"value": "/evil"}}]},
    "a timeout": {"timeouts": {"request": "1s"}},
}


@pytest.mark.parametrize("added", _ADDED.values(), ids=_ADDED)
async def test_what_is_added_to_the_rule_is_taken_out_and_told(added: JSON) -> None:
    """The rule is the operator's as a whole: an addition would move traffic, and go at the next weight anyway."""
    model = await serving()
    wanted = route(model)
    model.see(HTTP_ROUTES, ROUTE, {"spec": {"rules": [{**wanted["rules"][0], **added}]}, **foreign({"f:rules": {}})})
    assert await model.apply() == [("APPLY", "HTTPRoute", "fraud")]
    assert route(model) == wanted
    assert model.told == [("ChildRestored", "HTTPRoute fraud was edited by kubectl-edit: put right")]
    assert await model.apply() == []


async def test_default_of_a_newer_gateway_api_is_no_edit() -> None:
    """What comes back however often it is written is the API server's: written once, and nobody is accused."""
    parent = "spec.traffic.gateway.parentRefs"
    model = await serving({parent: [{"name": "public", "sectionName": "http"}]})
    hold = model.kube.hold

    def named(resource: Resource, obj: JSON) -> JSON:
        if resource is HTTP_ROUTES:
            obj["spec"]["rules"][0]["name"] = "rule-0"
        return hold(resource, obj)

    model.kube.hold = named  # type: ignore[method-assign]
    model.see(HTTP_ROUTES, ROUTE, foreign({"f:rules": {}}, "gateway-webhook"))
    assert await model.apply() == [("APPLY", "HTTPRoute", "fraud")]
    assert await model.apply() == [] and model.told == []
    model.ask({parent: [{"name": "public"}]})
    assert await model.apply() == [("APPLY", "HTTPRoute", "fraud")], "a listener that is not wanted any more"
    assert "sectionName" not in route(model)["parentRefs"][0]


# --- revisions --------------------------------------------------------------------------------------------------


async def test_deleted_revision_that_the_spec_does_not_ask_for_is_made_anew() -> None:
    """Stable's ModelRevision is deleted in mid-canary: made anew from what is remembered, and told."""
    model, first = await canaried()
    before = model.kube.objects[MODEL_REVISIONS]["default", first]
    model.lose(MODEL_REVISIONS, ("default", first))
    model.lose(SERVICES, ("default", first))
    await model.apply()
    again = model.kube.objects[MODEL_REVISIONS]["default", first]
    assert again["spec"] == before["spec"] and again["metadata"]["labels"] == before["metadata"]["labels"]
    assert ("default", first) in model.kube.objects[SERVICES]
    assert ("ChildRestored", f"ModelRevision {first} was deleted by somebody: made anew") in model.told
    assert await model.apply() == []


async def test_revision_that_nobody_remembers_goes_on_serving() -> None:
    """Deleted while no operator ran: its pods and Service stay as they are while it has a part, and go after it."""
    model, first = await canaried()
    status = model.entry.status
    model.lose(MODEL_REVISIONS, ("default", first))
    model.restart()
    assert await model.apply() == [] and replicas(model, first) == 1
    role = RevisionStatus(revision=model.name, version="1.5.0", wanted_weight=100)
    await model.apply(ModelDeploymentStatus(stable=role, draining=(Draining(revision=first, since=NOW),)))
    assert replicas(model, first) == 1 and status.stable
    await model.apply(ModelDeploymentStatus(stable=role))
    for resource in (DEPLOYMENTS, SERVICES):
        assert ("default", first) not in model.kube.objects[resource]
    assert await model.apply() == []


async def unreadable(model: Model, name: str) -> None:
    """A newer operator made this ModelRevision."""
    revision = (
        model.kube.objects[MODEL_REVISIONS].get(("default", name)) or model.kube.objects[MODEL_REVISIONS][model.key()]
    )
    metadata = {**revision["metadata"], "name": name, "uid": f"uid-{name}"}
    spec = {**revision["spec"], "newerField": 1}
    model.store.put(MODEL_REVISIONS, model.kube.hold(MODEL_REVISIONS, {**revision, "metadata": metadata, "spec": spec}))


async def test_archived_revision_that_cannot_be_read_stops_nothing() -> None:
    """A rollback is a rollback, whatever else lies about."""
    model, first = await canaried()
    await unreadable(model, "fraud-old")
    role = RevisionStatus(revision=first, version="1.4.0", wanted_weight=100)
    writes = await model.apply(ModelDeploymentStatus(stable=role, draining=(Draining(revision=model.name, since=NOW),)))
    assert writes[0] == ("APPLY", "HTTPRoute", "fraud")
    assert model.kube.objects[MODEL_REVISIONS]["default", "fraud-old"]["status"]["stage"] == "Archived"
    assert await model.apply() == []


async def test_revision_with_a_part_that_cannot_be_read_is_told() -> None:
    """After a downgrade: its pods stay, the other revision gets what it needs, and the model says why."""
    model, first = await canaried()
    model.restart()
    await unreadable(model, first)
    model.lose(DEPLOYMENTS, model.key())
    with pytest.raises(ApiError, match=f"ModelRevision {first} cannot be read by this operator: spec.newerField"):
        await model.apply()
    assert replicas(model, model.name) == 1 and replicas(model, first) == 1


async def test_model_that_does_not_parse_is_left_as_it_is() -> None:
    """Nothing is wanted of it, so nothing is too much."""
    model = await serving()
    model.entry.spec = None
    assert await model.apply() == [] and replicas(model, model.name) == 1


async def test_only_so_many_old_revisions_are_kept() -> None:
    """The oldest go, with their Deployment and Service; what has a part stays however old it is."""
    model = await serving()
    first, last = model.name, model.name
    for minor in range(REVISIONS_KEPT + 3):
        model.ask({"spec.model.version": f"2.{minor}"})
        last = model.name
        await model.apply(serves(model))
        model.see(MODEL_REVISIONS, model.key(), {"metadata": {"creationTimestamp": f"2026-11-25T12:{minor:02}:00Z"}})
    await model.apply()
    assert await model.apply() == []
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
