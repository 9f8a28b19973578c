"""A revision → its ModelRevision, Deployment and Service."""

from __future__ import annotations

from typing import Any

import pytest

from builders import ABSENT, DIGEST, model_deployment
from modeldeployment.api import names
from modeldeployment.api.base import JSON
from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.api.modelrevision import ModelRevisionSpec
from modeldeployment.api.owner import Owner
from modeldeployment.serving import children

OWNER = Owner("ml", "fraud", "uid-1")
TEMPLATE = "spec.serving.template"


def revision(overrides: dict[str, Any] | None = None) -> tuple[str, ModelRevisionSpec]:
    """Name and content of the revision that the minimal manifest asks for."""
    return children.revision_of("fraud", ModelDeploymentSpec.model_validate(model_deployment(overrides)["spec"]))


def template(overrides: dict[str, Any] | None = None) -> JSON:
    """The pod template that is made of it."""
    return children.pod_template(OWNER, *revision(overrides))


def environment(overrides: dict[str, Any] | None = None, container: str = "model") -> dict[str, Any]:
    """Variables of a container, by name."""
    found = next(c for c in template(overrides)["spec"]["containers"] if c["name"] == container)
    return {variable["name"]: variable for variable in found.get("env", ())}


# --- MODEL_* ----------------------------------------------------------------------------------------------------


def test_model_is_handed_to_its_container() -> None:
    """The container model is told what to serve."""
    assert {name: variable["value"] for name, variable in environment().items()} == {
        "MODEL_NAME": "fraud",
        "MODEL_VERSION": "1.4.0",
        "MODEL_URI": "s3://models/fraud/1.4.0",
        "MODEL_DIGEST": DIGEST,
    }


def test_what_the_model_does_not_have_is_not_handed_over() -> None:
    """No uri and no digest: no empty variables."""
    assert set(environment({"spec.model.uri": ABSENT, "spec.model.digest": ABSENT})) == {"MODEL_NAME", "MODEL_VERSION"}


_OWN = [{"name": "MODEL_URI", "value": "/models"}, {"name": "THREADS", "value": "2"}]
_FROM = [{"name": "MODEL_VERSION", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]


@pytest.mark.parametrize("own", [_OWN, _FROM], ids=["value", "valueFrom"])
def test_variables_of_the_user_stay_as_they_are(own: list[JSON]) -> None:
    """MODEL_* that the template sets is the user's; the rest is added after it."""
    found = environment({f"{TEMPLATE}.spec.containers[0].env": own})
    assert [found[variable["name"]] for variable in own] == own
    assert {"MODEL_NAME", "MODEL_VERSION", "MODEL_URI", "MODEL_DIGEST"} <= set(found)
    assert list(found)[: len(own)] == [variable["name"] for variable in own], "a variable may refer to earlier ones"


def test_other_containers_are_left_alone() -> None:
    """A sidecar and an init container get nothing."""
    overrides = {
        f"{TEMPLATE}.spec.containers[1]": {"name": "sidecar", "image": "s:1"},
        f"{TEMPLATE}.spec.initContainers": [{"name": "fetch", "image": "f:1"}],
    }
    assert environment(overrides, "sidecar") == {}
    assert template(overrides)["spec"]["initContainers"] == [{"name": "fetch", "image": "f:1"}]


# --- the template -----------------------------------------------------------------------------------------------


def test_template_keeps_what_this_operator_knows_nothing_of() -> None:
    """Every field of a pod is handed on, at any depth."""
    more = {
        f"{TEMPLATE}.spec.tolerations": [{"key": "gpu", "operator": "Exists"}],
        f"{TEMPLATE}.spec.containers[0].resources": {"limits": {"nvidia.com/gpu": 1}},
    }
    made = template(more)["spec"]
    assert made["tolerations"] == more[f"{TEMPLATE}.spec.tolerations"]
    assert made["containers"][0]["resources"] == {"limits": {"nvidia.com/gpu": 1}}


def test_template_of_the_spec_is_not_changed() -> None:
    """Rendering twice gives the same: the spec is never written to."""
    name, content = revision()
    assert children.pod_template(OWNER, name, content) == children.pod_template(OWNER, name, content)
    assert content.to_json() == revision()[1].to_json()


_SCRAPE: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "as serving says": ({}, {"path": "/metrics", "port": "8080"}),
    "a port of its own": (
        {"spec.serving.port": 9000, "spec.serving.metrics": {"path": "/m", "port": 9100}},
        {"path": "/m", "port": "9100"},
    ),
    "the serving port": ({"spec.serving.port": 9000}, {"path": "/metrics", "port": "9000"}),
}


@pytest.mark.parametrize(("overrides", "expected"), _SCRAPE.values(), ids=_SCRAPE)
def test_scrape_annotations(overrides: dict[str, Any], expected: dict[str, str]) -> None:
    """Prometheus finds the pods by the annotations that everybody's set-up knows."""
    annotations = template(overrides)["metadata"]["annotations"]
    assert annotations == {"prometheus.io/scrape": "true", **{f"prometheus.io/{k}": v for k, v in expected.items()}}


def test_annotations_of_the_user_win() -> None:
    """Who says prometheus.io/scrape: false means it."""
    own = {"prometheus.io/scrape": "false", "team": "risk"}
    made = template({f"{TEMPLATE}.metadata": {"annotations": own}})["metadata"]["annotations"]
    assert made == {"prometheus.io/scrape": "false", "prometheus.io/path": "/metrics", "prometheus.io/port": "8080"} | {
        "team": "risk"
    }


def test_labels_of_the_operator_stand_beside_the_users() -> None:
    """Pods carry the user's labels, and those by which the operator tells them apart."""
    name, content = revision({f"{TEMPLATE}.metadata": {"labels": {"team": "risk"}}})
    labels = children.pod_template(OWNER, name, content)["metadata"]["labels"]
    assert labels == {"team": "risk", **children.labels(OWNER, name, "1.4.0")}


# --- objects ----------------------------------------------------------------------------------------------------


def test_version_is_a_valid_label() -> None:
    """`+` is allowed in a version and not in a label."""
    assert children.labels(OWNER, "r", "1.4.0+build.7")[names.LABEL_VERSION] == "1.4.0_build.7"


def test_deployment_and_service_select_the_same_pods() -> None:
    """The selector names model and revision, and the pods carry both."""
    name, content = revision()
    deployment = children.deployment(OWNER, name, content, 3)
    selector = {names.LABEL_NAME: "fraud", names.LABEL_REVISION: name}
    assert deployment["spec"]["selector"]["matchLabels"] == selector
    assert children.service(OWNER, name, content)["spec"]["selector"] == selector
    assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_service_sends_to_the_port_that_answers() -> None:
    """One port for the route, whatever the container listens on."""
    name, content = revision({"spec.serving.port": 9000})
    (port,) = children.service(OWNER, name, content)["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (names.SERVICE_PORT, 9000)


def test_replicas_that_were_asked_for_are_noted() -> None:
    """The annotation tells the operator's number from anybody else's."""
    deployment = children.deployment(OWNER, *revision(), 3)
    assert deployment["spec"]["replicas"] == 3
    assert deployment["metadata"]["annotations"] == {names.ANNOTATION_REPLICAS: "3"}


def test_children_go_with_the_model_deployment() -> None:
    """Each child has the owner's reference, its namespace and the managed label."""
    name, content = revision()
    for child in (
        children.model_revision(OWNER, name, content),
        children.deployment(OWNER, name, content, 1),
        children.service(OWNER, name, content),
    ):
        metadata = child["metadata"]
        assert metadata["ownerReferences"] == [OWNER.reference()], child["kind"]
        assert (metadata["name"], metadata["namespace"]) == (name, "ml")
        assert metadata["labels"][names.LABEL_MANAGED_BY] == names.MANAGED_BY


def test_model_revision_reads_back_as_what_it_was_made_of() -> None:
    """A new leader serves the old versions by their ModelRevisions alone."""
    overrides = {f"{TEMPLATE}.metadata": {"labels": {"team": "risk"}}, "spec.serving.metrics": {"dialect": "MLServer"}}
    name, content = revision(overrides)
    stored = children.model_revision(OWNER, name, content)["spec"]
    assert ModelRevisionSpec.model_validate(stored) == content


# --- identity ---------------------------------------------------------------------------------------------------

_SAME: dict[str, dict[str, Any]] = {
    "more replicas": {"spec.serving.replicas": 7},
    "other objectives": {"spec.objectives": []},
    "another plan": {"spec.rollout.canary": {"traffic": "20%"}},
    "another host": {"spec.traffic.gateway.hostnames": ["other.example.com"]},
    "a default written out": {"spec.serving.port": 8080},
}
_OTHER: dict[str, dict[str, Any]] = {
    "version": {"spec.model.version": "1.4.1"},
    "the same version with other content": {"spec.model.digest": "sha256:" + "f" * 64},
    "image": {f"{TEMPLATE}.spec.containers[0].image": "registry/fraud:other"},
    "port": {"spec.serving.port": 9000},
    "dialect": {"spec.serving.metrics": {"dialect": "MLServer"}},
}


@pytest.mark.parametrize("overrides", _SAME.values(), ids=_SAME)
def test_same_revision(overrides: dict[str, Any]) -> None:
    """What is served did not change: no rollout."""
    assert revision(overrides)[0] == revision()[0]


@pytest.mark.parametrize("overrides", _OTHER.values(), ids=_OTHER)
def test_another_revision(overrides: dict[str, Any]) -> None:
    """What is served changed: another revision, another rollout."""
    assert revision(overrides)[0] != revision()[0]


# --- whose a child is -------------------------------------------------------------------------------------------

_OURS = OWNER.reference()
_THEIRS = {"kind": "Helm", "name": "x", "uid": "uid-2", "controller": True}
_LABELS = children.labels(OWNER, "fraud-a", "1+2")
_NOBODY: dict[str, str] = {}
_OWNED: dict[str, tuple[list[JSON], dict[str, str], bool]] = {
    "ours": ([_OURS], _LABELS, True),
    "ours without labels": ([_OURS], _NOBODY, True),
    "ours and an owner that does not control it": ([{**_THEIRS, "controller": False}, _OURS], _LABELS, True),
    "another controller beside us": ([_THEIRS, {**_OURS, "controller": False}], _LABELS, False),
    "somebody else's with our labels": ([_THEIRS], _LABELS, False),
    "an owner that does not control it": ([{**_THEIRS, "controller": False}], _LABELS, False),
    "a predecessor's": ([{**_OURS, "uid": "uid-0"}], _LABELS, False),
    "an orphan": ([], _LABELS, True),
    "an orphan that lost its name": ([], {names.LABEL_MANAGED_BY: names.MANAGED_BY}, True),
    "an orphan of another model": ([], {**_LABELS, names.LABEL_NAME: "other"}, False),
    "a stranger": ([], {"app": "x"}, False),
    "nobody's": ([], _NOBODY, False),
}


@pytest.mark.parametrize(("references", "labels", "ours"), _OWNED.values(), ids=_OWNED)
def test_is_ours(references: list[JSON], labels: dict[str, str], ours: bool) -> None:
    """By the owner's uid; by the labels only where there is no owner at all."""
    assert children.is_ours({"metadata": {"ownerReferences": references, "labels": labels}}, OWNER) is ours


_MENDED: dict[str, tuple[JSON, JSON | None]] = {
    "all there": ({"labels": {**_LABELS, "team": "risk"}, "ownerReferences": [_OURS]}, None),
    "no labels": ({"ownerReferences": [_OURS]}, {"labels": _LABELS}),
    "another version": (
        {"labels": {**_LABELS, names.LABEL_VERSION: "9"}, "ownerReferences": [_OURS]},
        {"labels": {names.LABEL_VERSION: "1_2"}},
    ),
    "no owner": ({"labels": _LABELS}, {"ownerReferences": [_OURS]}),
    "owners of others stay": (
        {"labels": _LABELS, "ownerReferences": [_THEIRS, {**_OURS, "controller": False}]},
        {"ownerReferences": [_THEIRS, _OURS]},
    ),
}


@pytest.mark.parametrize(("metadata", "patch"), _MENDED.values(), ids=_MENDED)
def test_mended(metadata: JSON, patch: JSON | None) -> None:
    """A patch of what is missing and nothing else."""
    assert children.mended({"metadata": metadata}, OWNER, _LABELS) == patch


def test_labels_without_a_version() -> None:
    """Where nobody knows it, what the label says stays."""
    assert names.LABEL_VERSION not in children.labels(OWNER, "fraud-a", None)
