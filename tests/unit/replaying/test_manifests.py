"""A policy's file: whole or in parts; what is wrong in it is named."""

from __future__ import annotations

import pytest
import yaml

from builders import model_deployment, model_policy
from modeldeployment.replaying.manifests import ManifestError, load

FRAGMENT = """
objectives:
  - {name: errors, errorRate: {max: 2%}}
rollout:
  canary: {traffic: 5%}
"""


def test_a_manifest_is_read_whole() -> None:
    """Name, namespace, spec, and the status if it is there."""
    manifest = load(yaml.safe_dump({**model_deployment(), "status": {"observedGeneration": 3}}))
    assert (manifest.name, manifest.namespace) == ("fraud", "default")
    assert manifest.spec.objectives[0].name == "errors"
    assert manifest.status.observed_generation == 3


@pytest.mark.parametrize("text", [FRAGMENT, "spec:\n" + "\n".join(f"  {line}" for line in FRAGMENT.splitlines())])
def test_a_fragment_needs_no_more_than_the_policy(text: str) -> None:
    """With or without `spec` around it."""
    manifest = load(text)
    assert manifest.name == ""
    assert manifest.spec.rollout.canary.plan() == [(5, 0.0)]


def test_a_model_policy_in_the_file_gives_the_objectives() -> None:
    """And says how old samples may be."""
    bare = model_deployment({"spec.objectives": [], "spec.rollout": {"canary": {"traffic": "10%"}}})
    manifest = load(yaml.safe_dump_all([bare, model_policy({"spec.prometheus.staleAfter": "20s"})]))
    assert [objective.name for objective in manifest.defaults] == ["errors"]
    assert manifest.reading.stale_after == 20.0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is no YAML"),
        ("", "holds no ModelDeployment"),
        ("- 1", "holds a document that is no object"),
        ("kind: Deployment", "holds a Deployment: a ModelDeployment is expected"),
        ("kind: ModelDeployment", "has no spec"),
        (f"{FRAGMENT}---{FRAGMENT}", "holds more than one ModelDeployment"),
        ("rollout: {canary: {traffic: 5%}}", "has neither objectives nor rollout.rollbackOn"),
        ("objective: []", "objective is no part of a policy"),
        ("serving: 3", "serving is no object"),
        ("objectives: [{name: e, errorRate: {max: 2}}]", r"objectives\[0\]\.errorRate\.max: .*is 2"),
        ("objectives: [{name: e, errorRate: {max: two}}]", r"objectives\[0\]\.errorRate\.max: must be a percentage"),
        (
            "spec: {objectives: [{name: e, errorRate: {max: 0%}}]}",
            r"spec\.objectives\[0\]\.errorRate\.max: must be above",
        ),
        ("objectives: [{name: e}]", r"objectives\[0\]: set exactly one of errorRate"),
        ("objectives: [{name: e, promql: {query: up}}]", r"objectives\[0\]\.promql: set exactly one of max, min"),
        (
            "objectives: [{name: e, errorRate: {max: 1%}}, {name: e, errorRate: {max: 1%}}]",
            r"objectives\[1\]\.name: e is there twice",
        ),
        (f"{FRAGMENT}  deadlines: 3m", r"rollout\.deadlines: Extra inputs"),
        (f"{FRAGMENT}  deadline: 3 minutes", r"rollout\.deadline: must be a duration"),
        (f"{FRAGMENT}  analysis: {{interval: 0s}}", r"rollout\.analysis\.interval: must be longer than nothing"),
        (
            f"{FRAGMENT}  analysis: {{sequential: {{falseRollback: 50%}}}}",
            r"falseRollback: must be above 0%",
        ),
        (f"{FRAGMENT}  analysis: {{sequential: {{detectable: '0.5'}}}}", r"detectable: must be from"),
        (f"{FRAGMENT}  rollbackOn: {{errorRate: '>0%'}}", r"rollout\.rollbackOn\.errorRate: must be above 0%"),
        (f"{FRAGMENT}  rollbackOn: {{p99LatencyMs: '>0'}}", r"rollout\.rollbackOn: a latency bound must be above zero"),
        (FRAGMENT.replace("{traffic: 5%}", "{}"), r"rollout\.canary: set exactly one of traffic, steps"),
        (
            FRAGMENT.replace("{traffic: 5%}", "{steps: [{traffic: 50%}, {traffic: 5%}]}"),
            r"rollout\.canary\.steps: each step must send more",
        ),
    ],
)
def test_what_is_wrong_is_named(text: str, says: str) -> None:
    """The field and what it must be."""
    with pytest.raises(ManifestError, match=says):
        load(text)
