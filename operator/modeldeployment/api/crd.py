"""pydantic models → CustomResourceDefinitions: structural schemas that the API server enforces by itself."""

from __future__ import annotations

import copy
from typing import Any

import yaml

from modeldeployment.api.base import JSON, Model, StatusModel, rule
from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.api.modelpolicy import ModelPolicySpec, ModelPolicyStatus
from modeldeployment.api.modelrevision import ModelRevisionSpec, ModelRevisionStatus
from modeldeployment.api.names import GROUP, VERSION
from modeldeployment.api.status import ModelDeploymentStatus

_DROPPED = ("title", "additionalProperties", "const")
_MESSAGE = "Code generated from operator/modeldeployment/api by `make crds`. DO NOT EDIT.\n"


def _inline(node: Any, definitions: JSON) -> Any:
    """The schema with every `$ref` replaced; siblings of a `$ref` win over what it names."""
    if isinstance(node, list):
        return [_inline(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    node = dict(node)
    reference = node.pop("$ref", None)
    if reference is not None:
        target = copy.deepcopy(definitions[reference.rsplit("/", 1)[-1]])
        rules = [*target.get("x-kubernetes-validations", ()), *node.get("x-kubernetes-validations", ())]
        node = {**target, **node}
        if rules:
            node["x-kubernetes-validations"] = rules
    return {key: _inline(value, definitions) for key, value in node.items()}


def _structural(node: JSON) -> JSON:
    """JSON Schema as pydantic writes it → what a CRD may hold."""
    node = dict(node)
    for keyword in ("anyOf", "allOf"):
        members = [m for m in node.pop(keyword, ()) if m.get("type") != "null"]
        if len(members) == 1:
            node = {**members[0], **node} if keyword == "anyOf" else {**node, **members[0]}
    if "x-one-of" in node:  # a number or its text: no single type fits, an enum of both does
        node = {"description": node["description"], "enum": node["x-one-of"]}
        return {**node, "x-kubernetes-preserve-unknown-fields": True}
    if node.get("default", "") is None:
        del node["default"]
    of_type = node.pop("x-type-rules", [])
    if of_type:
        node["x-kubernetes-validations"] = [*of_type, *node.get("x-kubernetes-validations", ())]
    if node.get("type") == "integer":
        node.setdefault("format", "int32" if node.get("maximum", 2**62) < 2**31 else "int64")
    additional = node.get("additionalProperties")
    out = {k: v for k, v in node.items() if k not in _DROPPED}
    if isinstance(additional, dict):
        out["additionalProperties"] = _structural(additional)
    if "properties" in out:
        out["properties"] = {name: _structural(value) for name, value in out["properties"].items()}
    if isinstance(out.get("items"), dict):
        out["items"] = _structural(out["items"])
    return out


def schema(model: type[Model] | type[StatusModel]) -> JSON:
    """The structural schema of a model."""
    raw = model.model_json_schema(by_alias=True)
    definitions = raw.pop("$defs", {})
    return _structural(_inline(raw, definitions))


def _crd(
    kind: str,
    plural: str,
    *,
    scope: str,
    short_names: list[str],
    spec: type[Model],
    status: type[StatusModel],
    description: str,
    columns: list[JSON],
    rules: list[JSON] | None = None,
    scale: JSON | None = None,
) -> JSON:
    root: JSON = {
        "type": "object",
        "description": description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Version of this representation of the object."},
            "kind": {"type": "string", "description": "What kind of object this is."},
            "metadata": {"type": "object"},
            "spec": schema(spec),
            "status": schema(status),
        },
    }
    if rules:
        root["x-kubernetes-validations"] = rules
    version: JSON = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": root},
    }
    if scale:
        version["subresources"]["scale"] = scale
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": scope,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": short_names,
                "categories": ["all", "ml"],
            },
            "versions": [version],
        },
    }


def _column(name: str, path: str, description: str, **extra: Any) -> JSON:
    return {"name": name, "type": "string", "jsonPath": path, "description": description, **extra}


_AGE = {
    "name": "Age",
    "type": "date",
    "jsonPath": ".metadata.creationTimestamp",
    "description": "Since when it is.",
}
_NAME_RULES = [
    rule(
        "self.metadata.name.size() <= 63",
        "metadata.name: must be at most 63 characters, since it becomes a label's value",
    ),
    rule(
        "self.metadata.name.matches('^[a-z]')",
        "metadata.name: must start with a letter, since Services are named after it",
    ),
]


def modeldeployment() -> JSON:
    """The CRD of ModelDeployment."""
    return _crd(
        "ModelDeployment",
        "modeldeployments",
        scope="Namespaced",
        short_names=["md"],
        spec=ModelDeploymentSpec,
        status=ModelDeploymentStatus,
        description="A model in production: which version serves, how good it must be, and how new versions come.",
        columns=[
            _column("Health", ".status.health", "OK, Warning, Critical or Unknown."),
            _column("State", '.status.conditions[?(@.type=="Progressing")].reason', "What is going on."),
            _column("Stable", ".status.stable.version", "The version that serves."),
            _column("Canary", ".status.canary.version", "The version on trial."),
            _column(
                "Weight",
                ".status.canary.weight",
                "Percent of the traffic that the router was seen to send the canary.",
            ),
            _column("Verdict", ".status.rollout.verdict", "What the evidence says of the version on trial."),
            _column("Budget", ".status.budget", "What is left of the error budget of which least is left."),
            _AGE,
            _column("Message", '.status.conditions[?(@.type=="Progressing")].message', "In words.", priority=1),
        ],
        rules=_NAME_RULES,
        scale={
            "specReplicasPath": ".spec.serving.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    )


def modelrevision() -> JSON:
    """The CRD of ModelRevision."""
    return _crd(
        "ModelRevision",
        "modelrevisions",
        scope="Namespaced",
        short_names=["mr"],
        spec=ModelRevisionSpec,
        status=ModelRevisionStatus,
        description="One immutable version of one model, made by the operator for each version it is asked to serve.",
        rules=[
            rule(
                "self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z][-a-z0-9]*$')",
                "metadata.name: must be at most 63 lower-case letters, digits and -, and start with a letter, since "
                "its Service has the same name",
            )
        ],
        columns=[
            _column("Version", ".spec.model.version", "Its version."),
            _column("Stage", ".status.stage", "Staging, Production, Archived or Quarantined."),
            _AGE,
        ],
    )


def modelpolicy() -> JSON:
    """The CRD of ModelPolicy."""
    return _crd(
        "ModelPolicy",
        "modelpolicies",
        scope="Cluster",
        short_names=["mp"],
        spec=ModelPolicySpec,
        status=ModelPolicyStatus,
        description="What a platform team decides once for the cluster: where Prometheus is, which objectives are "
        "usual.",
        columns=[
            _column("Prometheus", ".spec.prometheus.url", "Where the evidence comes from."),
            _column(
                "Reachable",
                '.status.conditions[?(@.type=="PrometheusReachable")].status',
                "Whether it answers.",
            ),
            _AGE,
        ],
        rules=[
            rule(
                "self.metadata.name == 'default'",
                "metadata.name: must be default, the one ModelPolicy of a cluster that counts",
            )
        ],
    )


def all_crds() -> dict[str, JSON]:
    """File name → CRD."""
    return {
        "modeldeployments.yaml": modeldeployment(),
        "modelrevisions.yaml": modelrevision(),
        "modelpolicies.yaml": modelpolicy(),
    }


def render(crd: JSON) -> str:
    """A CRD as the file in crds/ has it."""
    return f"# {_MESSAGE}" + yaml.safe_dump(crd, sort_keys=False, allow_unicode=True, width=120)
