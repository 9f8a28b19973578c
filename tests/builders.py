"""Valid manifests, and the same with a few fields changed: `model_deployment({"spec.serving.replicas": 3})`.

An override names its field by path, as the API server does in its messages: `spec.objectives[0].errorRate.max`.
`ABSENT` takes the field away; an index just past the end of a list appends; maps in between are made. Keys with
a dot (labels) cannot be in a path: override the whole map.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import yaml

Manifest = dict[str, Any]
Overrides = Mapping[str, Any]


class _Absent(Enum):
    ABSENT = "absent"

    def __repr__(self) -> str:
        return "ABSENT"  # the same in every process: ids of tests have it in them


ABSENT: Final = _Absent.ABSENT
"""The value of an override that takes a field away."""

DIGEST: Final = "sha256:" + "0123456789abcdef" * 4

# The smallest useful manifest, as the README shows it.
MINIMAL: Final = f"""\
apiVersion: modeldeployment.io/v1alpha1
kind: ModelDeployment
metadata: {{name: fraud, namespace: ml}}
spec:
  model: {{version: 1.4.0, uri: "s3://models/fraud/1.4.0", digest: "{DIGEST}"}}
  serving:
    template:                     # a pod template; the container named `model` serves it
      spec: {{containers: [{{name: model, image: registry/fraud:1.4.0, ports: [{{containerPort: 8080}}]}}]}}
  traffic:
    gateway: {{parentRefs: [{{name: public}}], hostnames: [fraud.example.com]}}
  objectives:
    - {{name: errors,  errorRate: {{max: 1%}}}}
    - {{name: latency, latency: {{quantile: 0.99, max: 800ms}}}}
  rollout:
    canary: {{traffic: 10%}}
    rollbackOn: {{errorRate: ">1%", p99LatencyMs: ">800"}}
"""

_REVISION = """\
apiVersion: modeldeployment.io/v1alpha1
kind: ModelRevision
metadata: {name: fraud-0123456789, namespace: default}
spec:
  model: {version: 1.4.0, uri: "s3://models/fraud/1.4.0"}
  template:
    metadata: {labels: {team: risk}, annotations: {example.com/note: the first}}
    spec:
      containers:
        - {name: model, image: registry/fraud:1.4.0, env: [{name: THREADS, value: "2"}]}
        - {name: sidecar, image: registry/sidecar:1}
"""

_POLICY = """\
apiVersion: modeldeployment.io/v1alpha1
kind: ModelPolicy
metadata: {name: default}
spec:
  prometheus:
    url: http://prometheus.monitoring:9090
    secretRef: {name: prometheus-token, namespace: monitoring}
    tenant: {value: team-a}
  objectives:
    - {name: errors, errorRate: {max: 1%}}
"""

_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def model_deployment(
    overrides: Overrides | None = None, *, name: str = "fraud", namespace: str = "default"
) -> Manifest:
    """The minimal ModelDeployment with these overrides."""
    manifest = yaml.safe_load(MINIMAL)
    manifest["metadata"] = {"name": name, "namespace": namespace}
    return override(manifest, overrides or {})


def model_revision(overrides: Overrides | None = None) -> Manifest:
    """A ModelRevision with these overrides."""
    return override(yaml.safe_load(_REVISION), overrides or {})


def model_policy(overrides: Overrides | None = None) -> Manifest:
    """The cluster's ModelPolicy with these overrides."""
    return override(yaml.safe_load(_POLICY), overrides or {})


def override(manifest: Manifest, overrides: Overrides) -> Manifest:
    """A copy of the manifest with the value at each path replaced. The order of the overrides counts."""
    out = copy.deepcopy(manifest)
    for path, value in overrides.items():
        *parents, last = (name or int(index) for name, index in _STEP.findall(path))
        node: Any = out
        for step in parents:
            node = node.setdefault(step, {}) if isinstance(node, dict) else node[step]
        if value is ABSENT:
            del node[last]
        elif isinstance(node, list) and last == len(node):
            node.append(copy.deepcopy(value))
        else:
            node[last] = copy.deepcopy(value)
    return out
