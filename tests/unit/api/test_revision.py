"""Names of revisions: the same content has the same name, other content another, and pods' names fit."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import ABSENT, DIGEST, Manifest, model_deployment, model_revision, override
from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.api.modelrevision import ModelRevisionSpec, revision_hash, revision_name

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SOURCE = {
    "requests": "requests_total",
    "errors": 'requests_total{code=~"5.."}',
    "latency": {"buckets": "request_seconds_bucket", "unit": "Seconds"},
    "identity": "Workload",
}
OWNERS = st.from_regex(r"[a-z]([-a-z0-9.]{0,61}[a-z0-9])?", fullmatch=True)


def _spec(overrides: dict[str, Any] | None = None) -> ModelRevisionSpec:
    return ModelRevisionSpec.model_validate(model_revision(overrides)["spec"])


def _made_from(deployment: Manifest) -> ModelRevisionSpec:
    """The revision that a ModelDeployment asks for."""
    spec = ModelDeploymentSpec.model_validate(deployment["spec"])
    assert spec.serving.template is not None
    return ModelRevisionSpec(
        model=spec.model, template=spec.serving.template, port=spec.serving.port, metrics=spec.serving.metrics
    )


def _backwards(value: Any) -> Any:
    """The same content with the keys of every map the other way round."""
    if isinstance(value, dict):
        return {key: _backwards(value[key]) for key in reversed(value)}
    return [_backwards(item) for item in value] if isinstance(value, list) else value


@given(OWNERS)
def test_a_name_is_a_label_and_short(owner: str) -> None:
    """Every name is a DNS label of at most 46 characters that ends in the ten digits of the hash."""
    name = revision_name(owner, _spec())
    assert len(name) <= 46, f"{name} has {len(name)} characters"
    assert LABEL.fullmatch(name), f"{name} is no DNS label"
    assert name.endswith(f"-{revision_hash(owner, _spec())}")
    assert re.search(r"-[0-9a-f]{10}$", name)


@given(OWNERS)
def test_the_names_of_pods_are_never_cut(owner: str) -> None:
    """`<revision>-<10 of the ReplicaSet>-<5 of the pod>` fits into 63 characters."""
    pod = f"{revision_name(owner, _spec())}-{'a' * 10}-{'b' * 5}"
    assert len(pod) <= 63, f"{pod} would be cut by Kubernetes, and no longer tell its revision"


@given(OWNERS, OWNERS)
def test_owners_do_not_share_names(one: str, other: str) -> None:
    """Two ModelDeployments with the same content have revisions of their own, also where long names begin alike."""
    same = revision_name(one, _spec()) == revision_name(other, _spec())
    assert same == (one == other), f"{one} and {other}"


def test_a_name_begins_with_its_owner() -> None:
    """People find the revisions of a model by its name."""
    assert revision_name("fraud", _spec()).startswith("fraud-")
    assert revision_name("fraud.eu", _spec()).startswith("fraud-eu-")
    assert re.fullmatch(r"x{35}-[0-9a-f]{10}", revision_name("x" * 63, _spec()))


def test_the_name_stays_the_same_for_ever() -> None:
    """The name of known content is pinned: if it moved, every model in every cluster would roll out anew."""
    assert revision_name("fraud", _spec()) == "fraud-264d560839"


@pytest.mark.parametrize(
    ("metrics", "name"),
    [
        ({"dialect": "MLServer", "port": 8082}, "fraud-ce95ca56ea"),
        ({"dialect": "Istio", "path": "/stats"}, "fraud-d1b92c893d"),
        ({"dialect": "Custom", "custom": SOURCE}, "fraud-9f93ec5164"),
    ],
    ids=["MLServer", "Istio", "Custom"],
)
def test_the_name_stays_the_same_with_every_kind_of_dialect(metrics: dict[str, Any], name: str) -> None:
    """As it was when dialects were an enumeration of six: a new dialect rolls nothing out."""
    assert revision_name("fraud", _spec({"spec.metrics": metrics})) == name


def test_the_same_content_has_the_same_name() -> None:
    """Neither copies, nor the order of keys, nor a trip through JSON change the name."""
    content = model_revision()["spec"]
    name = revision_name("fraud", ModelRevisionSpec.model_validate(content))
    assert name == revision_name("fraud", ModelRevisionSpec.model_validate(copy.deepcopy(content)))
    assert name == revision_name("fraud", ModelRevisionSpec.model_validate(_backwards(content)))
    again = ModelRevisionSpec.model_validate(ModelRevisionSpec.model_validate(content).to_json())
    assert name == revision_name("fraud", again)


def test_written_defaults_are_the_same_content() -> None:
    """A default that the API server wrote out is the same content as one left out."""
    written = {
        "spec.port": 8080,
        "spec.metrics": {"dialect": "Generic", "path": "/metrics"},
        "spec.model.kind": "Online",
    }
    assert revision_name("fraud", _spec()) == revision_name("fraud", _spec(written))


@pytest.mark.parametrize(
    "change",
    [
        {"spec.model.version": "1.4.1"},
        {"spec.model.uri": "s3://models/fraud/1.4.1"},
        {"spec.model.uri": ABSENT},
        {"spec.model.digest": DIGEST},
        {"spec.model.kind": "Batch"},
        {"spec.port": 9000},
        {"spec.metrics": {"dialect": "MLServer"}},
        {"spec.template.spec.containers[0].image": "registry/fraud:1.4.1"},
        {"spec.template.spec.containers[0].env[0].value": "4"},
        {"spec.template.spec.containers[1]": ABSENT},
        {"spec.template.metadata.labels.team": "fraud"},
        {"spec.template.metadata.annotations": ABSENT},
        {"spec.template.spec.nodeSelector": {"gpu": "a100"}},
        {"spec.template.spec.priority": 0},
    ],
    ids=str,
)
def test_other_content_has_another_name(change: dict[str, Any]) -> None:
    """Whatever changes in what is served makes another revision, however deep it is."""
    assert revision_name("fraud", _spec(change)) != revision_name("fraud", _spec()), f"{change} was not noticed"


@given(st.dictionaries(st.text(min_size=1, max_size=9), st.text(max_size=9), max_size=4))
def test_any_other_environment_is_another_revision(extra: dict[str, str]) -> None:
    """Fields that the operator does not know by name are content too."""
    env = [{"name": "THREADS", "value": "2"}, *({"name": k, "value": v} for k, v in sorted(extra.items()))]
    changed = _spec({"spec.template.spec.containers[0].env": env})
    assert (revision_name("fraud", changed) == revision_name("fraud", _spec())) == (not extra)


@pytest.mark.parametrize(
    "change",
    [
        {"spec.serving.replicas": 7},
        {"spec.objectives": []},
        {"spec.rollout.watch": "1h"},
        {"spec.rollout.attempt": 2},
        {"spec.traffic.gateway.hostnames": []},
        {"spec.suspend": {"mode": "All"}},
    ],
    ids=str,
)
def test_what_is_not_served_is_not_in_the_name(change: dict[str, Any]) -> None:
    """Replicas, objectives, rollout and traffic may change without a new revision."""
    before, after = model_deployment(), override(model_deployment(), change)
    assert revision_name("fraud", _made_from(before)) == revision_name("fraud", _made_from(after))


def test_replicas_are_no_part_of_a_revision() -> None:
    """A revision has no replicas at all: an autoscaler never makes a new one."""
    assert "replicas" not in ModelRevisionSpec.model_fields


def _same(template: Manifest) -> Manifest:
    return template


@pytest.mark.parametrize("shape", [_same, _backwards], ids=["as written", "other order"])
def test_nothing_of_the_template_is_lost(shape: Callable[[Manifest], Manifest]) -> None:
    """The template comes out as it was written, with every field that the operator does not know by name."""
    template = {
        "metadata": {"labels": {"team": "risk"}},
        "spec": {
            "containers": [{"name": "model", "image": "x", "resources": {"limits": {"nvidia.com/gpu": 1}}}],
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "securityContext": {},
            "volumes": [{"name": "cache", "emptyDir": {}}],
        },
    }
    spec = ModelDeploymentSpec.model_validate(model_deployment({"spec.serving.template": shape(template)})["spec"])
    assert spec.serving.pod_template() == template
