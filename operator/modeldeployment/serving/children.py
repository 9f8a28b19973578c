"""A revision → its ModelRevision, Deployment and Service, as plain JSON."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from modeldeployment.api import names
from modeldeployment.api.base import JSON
from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.api.modelrevision import ModelRevisionSpec, revision_name
from modeldeployment.api.owner import Owner
from modeldeployment.api.serving import MODEL_CONTAINER


def revision_of(owner: str, spec: ModelDeploymentSpec) -> tuple[str, ModelRevisionSpec]:
    """Name and content of the revision that a spec asks for."""
    assert spec.serving.template is not None  # the union's rule
    revision = ModelRevisionSpec(
        model=spec.model,
        template=spec.serving.template,
        port=spec.serving.port,
        metrics=spec.serving.metrics,
    )
    return revision_name(owner, revision), revision


def labels(owner: Owner, revision: str, version: str | None) -> dict[str, str]:
    """Labels of every child of a revision; without the version where that is not known."""
    known = {names.LABEL_VERSION: version.replace("+", "_")} if version is not None else {}
    return {
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        names.LABEL_NAME: owner.name,
        names.LABEL_REVISION: revision,
        **known,
    }


def is_ours(obj: JSON, owner: Owner) -> bool:
    """Whether a child belongs to this very ModelDeployment, not to one that had its name before, nor to a stranger.

    One without any owner, but with our labels, was orphaned (`kubectl delete --cascade=orphan`): ours to adopt.
    """
    references = obj["metadata"].get("ownerReferences") or ()
    if references:
        mine = any(reference["uid"] == owner.uid for reference in references)
        return mine and not any(r.get("controller") and r["uid"] != owner.uid for r in references)
    theirs = obj["metadata"].get("labels") or {}
    return (
        theirs.get(names.LABEL_MANAGED_BY) == names.MANAGED_BY
        and theirs.get(names.LABEL_NAME, owner.name) == owner.name
    )


def mended(obj: JSON, owner: Owner, wanted: Mapping[str, str]) -> JSON | None:
    """A merge patch of a child's metadata that gives it its labels and its owner back; None if it has them.

    Labels and owners of others stay.
    """
    theirs = obj["metadata"].get("labels") or {}
    labels_ = {key: value for key, value in wanted.items() if theirs.get(key) != value}
    references = obj["metadata"].get("ownerReferences") or []
    change: JSON = {"labels": labels_} if labels_ else {}
    if owner.reference() not in references:
        change["ownerReferences"] = [r for r in references if r["uid"] != owner.uid] + [owner.reference()]
    return change or None


def _metadata(owner: Owner, name: str, revision: str, version: str) -> JSON:
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": labels(owner, revision, version),
        "ownerReferences": [owner.reference()],
    }


def model_revision(owner: Owner, name: str, revision: ModelRevisionSpec) -> JSON:
    """The immutable record of what is served."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "ModelRevision",
        "metadata": _metadata(owner, name, name, revision.model.version),
        "spec": revision.to_json(),
    }


def service(owner: Owner, name: str, revision: ModelRevisionSpec) -> JSON:
    """The Service that the route sends a revision's share to."""
    version = revision.model.version
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(owner, name, name, version),
        "spec": {
            "selector": selector(owner, name),
            "ports": [{"name": "http", "port": names.SERVICE_PORT, "targetPort": revision.port, "protocol": "TCP"}],
        },
    }


def selector(owner: Owner, revision: str) -> dict[str, str]:
    """Labels by which a revision's pods are told."""
    return {names.LABEL_NAME: owner.name, names.LABEL_REVISION: revision}


def deployment(owner: Owner, name: str, revision: ModelRevisionSpec, replicas: int) -> JSON:
    """The pods of a revision. `replicas` counts at creation only; later it is moved by itself."""
    metadata = _metadata(owner, name, name, revision.model.version)
    metadata["annotations"] = {names.ANNOTATION_REPLICAS: str(replicas)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 0,
            "selector": {"matchLabels": selector(owner, name)},
            "template": pod_template(owner, name, revision),
        },
    }


def pod_template(owner: Owner, name: str, revision: ModelRevisionSpec) -> JSON:
    """The template as the user wrote it, with the operator's labels, the scrape annotations and MODEL_* added."""
    template = copy.deepcopy(revision.template.to_json())
    metadata = template.setdefault("metadata", {})
    metadata["labels"] = {**metadata.get("labels", {}), **labels(owner, name, revision.model.version)}
    scrape = {
        "prometheus.io/scrape": "true",
        "prometheus.io/path": revision.metrics.path,
        "prometheus.io/port": str(revision.metrics.port or revision.port),
    }
    metadata["annotations"] = {**scrape, **metadata.get("annotations", {})}
    for container in template["spec"]["containers"]:
        if container["name"] == MODEL_CONTAINER:
            _add_environment(container, owner, revision)
    return template


def _add_environment(container: dict[str, Any], owner: Owner, revision: ModelRevisionSpec) -> None:
    model = revision.model
    given = {
        "MODEL_NAME": owner.name,
        "MODEL_VERSION": model.version,
        "MODEL_URI": model.uri,
        "MODEL_DIGEST": model.digest,
    }
    own = container.setdefault("env", [])
    known = {variable["name"] for variable in own}
    own.extend({"name": key, "value": value} for key, value in given.items() if value and key not in known)
