"""The CRDs in a real API server: they install, explain themselves, take what is right and refuse what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from builders import (
    ABSENT,
    DIGEST,
    MINIMAL,
    Manifest,
    Overrides,
    model_deployment,
    model_policy,
    model_revision,
    override,
)
from integration.invalid_manifests import INVALID, Invalid
from lab import ApiError, Lab
from modeldeployment.api.crd import all_crds
from modeldeployment.api.dialects import presets
from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.api.modelpolicy import ModelPolicySpec
from modeldeployment.api.modelrevision import ModelRevisionSpec
from unit.api.filled import filled_status
from unit.api.lints import nodes, root

pytestmark = pytest.mark.xdist_group("crds")

GROUP = "/apis/modeldeployment.io/v1alpha1"
COLLECTIONS = {
    "ModelDeployment": f"{GROUP}/namespaces/default/modeldeployments",
    "ModelRevision": f"{GROUP}/namespaces/default/modelrevisions",
    "ModelPolicy": f"{GROUP}/modelpolicies",
}
STRICT = {"fieldValidation": "Strict"}
DRY_RUN = {**STRICT, "dryRun": "All"}
NAMES = sorted(crd["metadata"]["name"] for crd in all_crds().values())


def _try(lab: Lab, manifest: Manifest) -> Manifest:
    """What the API server would make of it, as `kubectl apply` asks by default: unknown fields are refused."""
    return lab.api.request("POST", COLLECTIONS[manifest["kind"]], params=DRY_RUN, json=manifest)


def _created(lab: Lab, manifest: Manifest) -> Iterator[Manifest]:
    collection = COLLECTIONS[manifest["kind"]]
    yield lab.api.request("POST", collection, params=STRICT, json=manifest)
    lab.api.delete(f"{collection}/{manifest['metadata']['name']}")


@pytest.fixture(scope="module")
def made(api_lab: Lab) -> Iterator[Manifest]:
    """The minimal ModelDeployment, created as `made`."""
    yield from _created(api_lab, model_deployment(name="made"))


@pytest.fixture(scope="module")
def revision(api_lab: Lab) -> Iterator[Manifest]:
    """A ModelRevision, created."""
    yield from _created(api_lab, model_revision({"metadata.name": "made-0123456789"}))


@pytest.mark.parametrize("name", NAMES)
def test_a_crd_is_established(api_lab: Lab, name: str) -> None:
    """Client-side `kubectl apply` is enough: names accepted, established, schema structural, nothing else to say."""
    crd = api_lab.api.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
    conditions = {c["type"]: c["status"] for c in crd["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}, f"{name}: {crd['status']['conditions']}"


def test_applying_again_changes_nothing(api_lab: Lab) -> None:
    """The second `kubectl apply` of the same files says so: nothing in them is rewritten by the API server."""
    for name, crd in all_crds().items():
        done = api_lab.kubectl("apply", "-f", "-", input=yaml.safe_dump(crd))
        assert done.stdout.strip().endswith("unchanged"), f"{name}: {done.stdout}"


def test_every_field_explains_itself(api_lab: Lab) -> None:
    """The API server's OpenAPI document, which `kubectl explain` reads, has a text for every field."""
    document = api_lab.api.get(f"/openapi/v3{GROUP}")["components"]["schemas"]
    silent, found = [], 0
    for name, crd in all_crds().items():
        kind = crd["spec"]["names"]["kind"]
        served = next(schema for key, schema in document.items() if key.endswith(f".{kind}"))
        texts = {n.path: n.schema.get("description") for n in nodes(served)}
        for node in nodes(root(crd)):
            if node.name and node.path not in ("apiVersion", "kind", "metadata"):
                found += 1
                if texts.get(node.path) != node.schema["description"]:
                    silent.append(f"{name}: {node.path}")
    assert not silent, f"kubectl explain says nothing, or something else, of {silent}"
    assert found > 150, f"only {found} fields were looked at"


def test_kubectl_explain(api_lab: Lab) -> None:
    """`kubectl explain` finds fields by the short name, and shows values of enums and what is required."""
    said = " ".join(api_lab.kubectl("explain", "md.spec.rollout.analysis.judge").stdout.split())
    assert "Sequential: a bound counts as broken when that is proven." in said
    assert "Sequential" in said and "Threshold" in said
    tree = api_lab.kubectl("explain", "md", "--recursive").stdout
    for line in (
        "objectives\t<[]Object>",
        "errorRate\t<Object>",
        "rollbackOn\t<Object>",
        "version\t<string> -required-",
    ):
        assert line in tree, f"kubectl explain --recursive lacks {line!r}"


@pytest.mark.parametrize(
    ("word", "plural"), [("md", "modeldeployments"), ("mr", "modelrevisions"), ("mp", "modelpolicies")]
)
def test_short_names(api_lab: Lab, word: str, plural: str) -> None:
    """md, mr and mp are short for the three resources."""
    said = api_lab.kubectl("get", word, "-A", "-o", "name").stderr
    assert "error" not in said, said
    assert word in api_lab.kubectl("api-resources", "--api-group=modeldeployment.io").stdout.split()
    assert api_lab.kubectl("explain", word).stdout.count("modeldeployment.io") >= 1, f"{word} is not {plural}"


@pytest.mark.parametrize("category", ["ml", "all"])
def test_categories(api_lab: Lab, made: Manifest, category: str) -> None:
    """`kubectl get ml` and `kubectl get all` show models."""
    names = api_lab.kubectl("get", category, "-o", "name").stdout
    assert "modeldeployment.modeldeployment.io/made" in names, names


def test_columns(api_lab: Lab, made: Manifest) -> None:
    """`kubectl get md` has the columns of the design; MESSAGE comes with -o wide."""
    header, row = api_lab.kubectl("get", "md", "made").stdout.splitlines()
    assert header.split() == ["NAME", "HEALTH", "STATE", "STABLE", "CANARY", "WEIGHT", "VERDICT", "BUDGET", "AGE"]
    assert row.split()[0] == "made"
    assert api_lab.kubectl("get", "md", "-o", "wide").stdout.splitlines()[0].split()[-1] == "MESSAGE"
    revisions = api_lab.kubectl("get", "mr", "-o", "wide", "--ignore-not-found").stdout.splitlines()
    assert not revisions or revisions[0].split() == ["NAME", "VERSION", "STAGE", "AGE"]


def test_columns_are_filled_from_status(api_lab: Lab) -> None:
    """HEALTH, STATE, STABLE, CANARY, WEIGHT, VERDICT and BUDGET show what is in status."""
    path = f"{COLLECTIONS['ModelDeployment']}/columns"
    revision = {"revision": "columns-0123456789", "replicas": 1, "readyReplicas": 1, "wantedWeight": 10}
    progressing = {
        "type": "Progressing",
        "status": "True",
        "reason": "CanaryRunning",
        "message": "so far so good",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-11-24T12:00:00Z",
    }
    status = {
        "conditions": [progressing],
        "health": "OK",
        "budget": "97%",
        "stable": {**revision, "version": "1.3.2"},
        "canary": {**revision, "version": "1.4.0", "weight": 10},
        "rollout": {
            "revision": revision["revision"],
            "version": "1.4.0",
            "startTime": "2026-11-24T12:00:00Z",
            "verdict": "Inconclusive",
        },
    }
    for _ in _created(api_lab, model_deployment(name="columns")):
        api_lab.api.patch(f"{path}/status", {"status": status})
        row = api_lab.kubectl("get", "md", "columns", "--no-headers", "-o", "wide").stdout.split()
        assert row[:8] == ["columns", "OK", "CanaryRunning", "1.3.2", "1.4.0", "10", "Inconclusive", "97%"]
        assert row[9:] == ["so", "far", "so", "good"]


def test_the_minimal_manifest(api_lab: Lab) -> None:
    """The manifest of the README is taken as it stands, by kubectl, with its comment and in its namespace."""
    api_lab.kubectl("create", "namespace", "ml")
    done = api_lab.kubectl("apply", "--dry-run=server", "-f", "-", input=MINIMAL)
    assert done.stdout == "modeldeployment.modeldeployment.io/fraud created (server dry run)\n"
    assert done.stderr == ""


def test_defaults(api_lab: Lab, made: Manifest) -> None:
    """What the minimal manifest leaves out is what a careful SRE would choose, and is written out to be read."""
    spec = yaml.safe_load(api_lab.kubectl("get", "md", "made", "-o", "yaml").stdout)["spec"]
    assert spec["model"] == {
        "version": "1.4.0",
        "uri": "s3://models/fraud/1.4.0",
        "digest": DIGEST,
        "kind": "Online",
    }
    assert {k: v for k, v in spec["serving"].items() if k != "template"} == {
        "replicas": 1,
        "port": 8080,
        "metrics": {"dialect": "Generic", "path": "/metrics"},
    }
    assert spec["traffic"]["gateway"]["pathPrefix"] == "/"
    assert [o["window"] for o in spec["objectives"]] == ["5m", "5m"]
    assert spec["rollout"] == {
        "canary": {"traffic": "10%"},
        "rollbackOn": {"errorRate": ">1%", "p99LatencyMs": ">800"},
        "rollbackOnCauses": ["Canary"],
        "analysis": {"judge": "Sequential", "interval": "10s"},
        "progressDeadline": "10m",
        "deadline": "2h",
        "onInconclusive": "Hold",
        "watch": "24h",
        "attempt": 1,
    }
    assert "suspend" not in spec


def test_defaults_of_a_manifest_that_says_nothing_of_rollouts(api_lab: Lab) -> None:
    """Without objectives and rollout a model still has a deadline; a canary of 10% is the operator's, not stored."""
    spec = _try(api_lab, model_deployment({"spec.rollout": ABSENT, "spec.objectives": ABSENT}))["spec"]
    assert "canary" not in spec["rollout"]
    assert spec["rollout"]["deadline"] == "2h"


def test_steps_can_be_added_to_a_manifest_that_had_none(api_lab: Lab) -> None:
    """`kubectl apply` of a manifest without a canary, then with steps: no stored default stands in their way."""
    plain = model_deployment({"spec.rollout": ABSENT}, name="grown")
    stepped = model_deployment({"spec.rollout": {"canary": {"steps": [{"traffic": "5%"}]}}}, name="grown")
    for manifest in (plain, stepped):
        api_lab.kubectl("apply", "-f", "-", input=json.dumps(manifest))
    path = f"/apis/modeldeployment.io/v1alpha1/namespaces/{stepped['metadata']['namespace']}/modeldeployments/grown"
    canary = api_lab.api.get(path)["spec"]["rollout"]["canary"]
    api_lab.api.delete(path)
    assert [step["traffic"] for step in canary["steps"]] == ["5%"]


@pytest.mark.parametrize(
    ("manifest", "model"),
    [
        (model_deployment(), ModelDeploymentSpec),
        (model_deployment({"spec.rollout": ABSENT, "spec.objectives": ABSENT}), ModelDeploymentSpec),
        (model_deployment({"spec.suspend": {}}), ModelDeploymentSpec),
        (
            model_deployment({"spec.rollout.analysis": {"judge": "Threshold", "threshold": {}}}),
            ModelDeploymentSpec,
        ),
        (model_deployment({"spec.rollout.analysis.sequential": {}}), ModelDeploymentSpec),
        (model_revision(), ModelRevisionSpec),
        (model_policy(), ModelPolicySpec),
        (model_policy({"spec.prometheus": {"url": "http://x"}, "spec.objectives": ABSENT}), ModelPolicySpec),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_server_and_models_have_the_same_defaults(api_lab: Lab, manifest: Manifest, model: Any) -> None:
    """The operator reads the same from a manifest as written and as the API server completed it."""
    assert model.model_validate(_try(api_lab, manifest)["spec"]) == model.model_validate(manifest["spec"])


def _make(lab: Lab, revision: Manifest, case: Invalid) -> None:
    """Makes the mistake."""
    if case.update:
        path = f"{COLLECTIONS[revision['kind']]}/{revision['metadata']['name']}"
        lab.api.request("PUT", path, params=DRY_RUN, json=override(revision, case.overrides))
    else:
        _try(lab, case.build(case.overrides))


@pytest.mark.parametrize("case", INVALID, ids=lambda case: case.name.replace(" ", "-"))
def test_a_mistake_is_refused(api_lab: Lab, revision: Manifest, case: Invalid) -> None:
    """The API server alone refuses it, names the field, and says what to do."""
    with pytest.raises(ApiError) as refused:
        _make(api_lab, revision, case)
    assert refused.value.status in (400, 422), f"{case.name}: refused for another reason: {refused.value}"
    message = refused.value.body["message"]
    fields = [cause.get("field") for cause in refused.value.body.get("details", {}).get("causes", ())]
    for text in case.says:
        assert text in message, f"{case.name}: expected {text!r} in the refusal, got: {message}"
    named = case.path in fields or f'"{case.path}"' in message or f"{case.path}:" in message
    assert named, f"{case.name}: expected the field {case.path} to be named, got {fields}: {message}"


def test_every_rule_was_seen_to_refuse(api_lab: Lab, revision: Manifest) -> None:
    """No CEL rule is there that no mistake of the table breaks: a rule that cannot refuse would go unnoticed."""
    refusals = []
    for case in INVALID:
        with pytest.raises(ApiError) as refused:
            _make(api_lab, revision, case)
        refusals.append(refused.value.body["message"])
    everything = "\n".join(refusals)
    rules = [(crd["spec"]["names"]["kind"], rule["message"]) for crd in all_crds().values() for rule in _rules(crd)]
    silent = {f"{kind}: {message}" for kind, message in rules if message not in everything}
    assert not silent, f"these rules refused nothing; add a mistake to invalid_manifests.py: {silent}"


def _rules(crd: Manifest) -> Iterator[Manifest]:
    yield from root(crd).get("x-kubernetes-validations", ())
    for node in nodes(root(crd)):
        yield from node.schema.get("x-kubernetes-validations", ())


def test_the_table_is_large_and_its_names_differ() -> None:
    """There are at least 110 mistakes in the table, each with a name of its own and with a text to expect."""
    assert len(INVALID) >= 110
    assert len({case.name for case in INVALID}) == len(INVALID)
    assert all(case.says for case in INVALID)


def _custom(requests: str, buckets: str = "request_seconds_bucket") -> Overrides:
    source = {"requests": requests, "errors": requests, "latency": {"buckets": buckets, "unit": "Seconds"}}
    return {"spec.serving.metrics": {"dialect": "Custom", "custom": source}}


def _steps(*steps: tuple[str, str], deadline: str = "2h") -> Overrides:
    return {
        "spec.rollout.canary": {"steps": [{"traffic": traffic, "duration": long} for traffic, long in steps]},
        "spec.rollout.deadline": deadline,
    }


VALID: dict[str, Manifest] = {
    "minimal": model_deployment(),
    "revision": model_revision(),
    "policy": model_policy(),
    "a budget of 4 weeks": model_deployment({"spec.objectives[0].budget": {"period": "672h"}}),
    "a budget by default": model_deployment({"spec.objectives[0].budget": {}}),
    "name of 63 characters": model_deployment(name="x" * 63),
    "name with a dot": model_deployment(name="fraud.eu"),
    "version as a date": model_deployment({"spec.model.version": "2026-11-24"}),
    "version with build metadata": model_deployment({"spec.model.version": "1.4.0-rc.1+build.7"}),
    "digest of sha512": model_deployment({"spec.model.digest": "sha512:" + "a" * 128}),
    "uri of a registry": model_deployment({"spec.model.uri": "oci://registry:5000/fraud@sha256:abc?x=1"}),
    "an LLM": model_deployment({"spec.model.kind": "LLM"}),
    "all of a pod": model_deployment(
        {
            "spec.serving.template.metadata": {
                "labels": {"team": "risk", "example.com/tier": "", "app.kubernetes.io/part-of": "ml"},
                "annotations": {"prometheus.io/scrape": "true", "example.com/note": "any text: at all {}"},
            },
            "spec.serving.template.spec.nodeSelector": {"gpu": "a100"},
            "spec.serving.template.spec.containers[1]": {"name": "side-car", "image": "x", "args": ["--v=2"]},
        }
    ),
    "1000 replicas": model_deployment({"spec.serving.replicas": 1000}),
    **{
        f"dialect {name}": model_deployment({"spec.serving.metrics": {"dialect": name}})
        for name, data in presets().items()
        if data.errors and data.latency and not data.refusal
    },
    "dialect Auto": model_deployment({"spec.serving.metrics": {"dialect": "Auto", "port": 9090}}),
    "dialect of the policy": model_deployment({"spec.serving.metrics": {"dialect": "acme-tabular"}}),
    "dialects in the policy": model_policy(
        {
            "spec.dialects": [
                {"name": "acme", "requests": "acme_total"},
                {
                    "name": "acme-mesh",
                    "requests": "mesh_total",
                    "errors": 'mesh_total{code=~"5.."}',
                    "latency": {"buckets": "mesh_seconds_bucket", "unit": "Seconds"},
                    "identity": "Ingress",
                },
            ]
        }
    ),
    "Triton with errors only": model_deployment(
        {
            "spec.serving.metrics": {"dialect": "Triton"},
            "spec.objectives[1]": ABSENT,
            "spec.rollout.rollbackOn": {"errorRate": ">1%"},
        }
    ),
    "KServe with latency only": model_deployment(
        {
            "spec.serving.metrics": {"dialect": "KServe", "path": "/metrics/prom", "port": 9090},
            "spec.objectives[0]": ABSENT,
            "spec.rollout.rollbackOn": {"p99LatencyMs": ">800"},
        }
    ),
    "custom by name": model_deployment(_custom("http:requests_total")),
    "custom by labels": model_deployment(_custom('{__name__="requests_total", code!~"5..|4[0-9]{2}"}')),
    "custom with braces in text": model_deployment(_custom('requests_total{path="/v1/{id}", code="a\\"b",}')),
    "custom with single quotes": model_deployment(_custom("requests_total{code=~'5..'}")),
    "custom with empty braces": model_deployment(_custom("requests_total{}")),
    "custom with a native histogram": model_deployment(
        {**_custom("requests_total"), "spec.serving.metrics.custom.latency": {"histogram": "s", "unit": "Seconds"}}
    ),
    "custom without errors": model_deployment(
        {
            "spec.serving.metrics": {"dialect": "Custom", "custom": {"requests": "requests_total"}},
            "spec.objectives": [],
            "spec.rollout.rollbackOn": ABSENT,
        }
    ),
    "every host of the gateway": model_deployment({"spec.traffic.gateway.hostnames": []}),
    "wildcard": model_deployment({"spec.traffic.gateway.hostnames": ["*.example.com", "fraud.example.com"]}),
    "one word": model_deployment({"spec.traffic.gateway.hostnames": ["fraud"]}),
    "path": model_deployment({"spec.traffic.gateway.pathPrefix": "/v1/fraud_2.0/~x/a%20b"}),
    "path with a slash at its end": model_deployment({"spec.traffic.gateway.pathPrefix": "/v1/"}),
    "path with dots in a name": model_deployment({"spec.traffic.gateway.pathPrefix": "/.well-known/v1..2"}),
    "two listeners": model_deployment(
        {
            "spec.traffic.gateway.parentRefs": [
                {"name": "public", "namespace": "infra", "sectionName": "https"},
                {"name": "public", "namespace": "infra", "sectionName": "https-eu.1"},
                {"name": "public"},
            ]
        }
    ),
    "quantile as text": model_deployment({"spec.objectives[1].latency.quantile": "0.99"}),
    "quantile of three digits": model_deployment({"spec.objectives[1].latency.quantile": 0.999}),
    "latency in parts": model_deployment({"spec.objectives[1].latency.max": "1s500ms"}),
    "availability": model_deployment(
        {"spec.objectives[2]": {"name": "up", "availability": {"min": "99.95%"}, "window": "24h"}}
    ),
    "query": model_deployment(
        {"spec.objectives[2]": {"name": "lag", "promql": {"query": "max(lag)", "max": "-0.5", "sustained": "0s"}}}
    ),
    "tiny error rate": model_deployment({"spec.objectives[0].errorRate.max": "0.0001%"}),
    "16 objectives": model_deployment(
        {"spec.objectives": [{"name": f"o{n}", "errorRate": {"max": "1%"}} for n in range(16)]}
    ),
    "one step": model_deployment(_steps(("100%", "0s"))),
    "steps": model_deployment(_steps(("1%", "5m"), ("9%", "5m"), ("10%", "10m"), ("99%", "1h"))),
    "long steps with a long deadline": model_deployment(_steps(("5%", "72h"), ("50%", "72h"), deadline="168h")),
    "20 steps": model_deployment(_steps(*((f"{n}%", "1m") for n in range(1, 21)))),
    "rollbackOn with a space": model_deployment({"spec.rollout.rollbackOn": {"errorRate": "> 0.5%"}}),
    "rollbackOn all": model_deployment(
        {
            "spec.rollout.rollbackOn": {
                "errorRate": ">1%",
                "p50LatencyMs": ">100",
                "p90LatencyMs": ">200",
                "p95LatencyMs": ">300",
                "p99LatencyMs": ">800",
            }
        }
    ),
    "nothing of rollouts": model_deployment({"spec.rollout": {}}),
    "Threshold": model_deployment(
        {
            "spec.rollout.analysis": {
                "interval": "30s",
                "judge": "Threshold",
                "threshold": {"window": "30s", "minSamples": 1, "failures": 1, "passes": 1, "counting": "Cumulative"},
            }
        }
    ),
    "Sequential": model_deployment(
        {"spec.rollout.analysis": {"sequential": {"falseRollback": "0.1%", "detectable": "1.5"}}}
    ),
    "no watch": model_deployment({"spec.rollout.watch": "0s"}),
    "longest watch": model_deployment({"spec.rollout.watch": "72h"}),
    "override": model_deployment(
        {
            "spec.rollout.override": {"revision": "fraud-0123456789", "action": "Promote"},
            "spec.suspend": {"mode": "All"},
        }
    ),
    "Prometheus below a path": model_policy({"spec.prometheus.url": "https://mimir.example.com/prometheus"}),
    "Prometheus by address": model_policy({"spec.prometheus.url": "http://[::1]:9090/"}),
    "Prometheus alone": model_policy({"spec": {"prometheus": {"url": "http://prometheus"}}}),
}


@pytest.mark.parametrize("name", VALID)
def test_what_is_right_is_taken(api_lab: Lab, name: str) -> None:
    """No rule refuses what people may rightly write."""
    manifest = VALID[name]
    assert _try(api_lab, manifest)["spec"]["model" if manifest["kind"] != "ModelPolicy" else "prometheus"]


def test_unknown_fields_are_refused_by_kubectl(api_lab: Lab) -> None:
    """Under kubectl's default validation a misspelt field is refused by name, not dropped in silence."""
    manifest = json.dumps(model_deployment({"spec.rollout.rolbackOn": {"errorRate": ">1%"}}))
    done = api_lab.kubectl("apply", "--dry-run=server", "-f", "-", input=manifest, check=False)
    assert done.returncode != 0
    assert 'unknown field "spec.rollout.rolbackOn"' in done.stderr, done.stderr


def test_a_revision_may_be_written_again_as_it_is(api_lab: Lab, revision: Manifest) -> None:
    """Labels and annotations of a ModelRevision may change, and the same spec may be written again."""
    path = f"{COLLECTIONS['ModelRevision']}/{revision['metadata']['name']}"
    labelled = override(revision, {"metadata.labels": {"team": "risk"}})
    assert api_lab.api.request("PUT", path, params=DRY_RUN, json=labelled)["spec"] == revision["spec"]


def test_status_is_a_subresource(api_lab: Lab, made: Manifest) -> None:
    """Who may write spec does not write status with it, and the other way round."""
    path = f"{COLLECTIONS['ModelDeployment']}/made"
    written = override(made, {"status": {"health": "OK"}})
    assert "status" not in api_lab.api.request("PUT", path, params=DRY_RUN, json=written)
    changed = override(written, {"spec.model.version": "9.9.9"})
    answer = api_lab.api.request("PUT", f"{path}/status", params=DRY_RUN, json=changed)
    assert (answer["spec"]["model"]["version"], answer["status"]["health"]) == ("1.4.0", "OK")


def test_the_largest_status_can_be_written(api_lab: Lab) -> None:
    """A status filled to every bound is taken: no rule or key stands in its way."""
    for made in _created(api_lab, model_deployment(name="filled")):
        path = f"{COLLECTIONS['ModelDeployment']}/filled/status"
        answer = api_lab.api.request("PUT", path, params=STRICT, json={**made, "status": filled_status()})
        assert len(answer["status"]["rollout"]["rules"]) == 21


def test_scaling(api_lab: Lab) -> None:
    """`kubectl scale` and autoscalers change spec.serving.replicas, within its bounds."""
    for _ in _created(api_lab, model_deployment(name="scaled")):
        api_lab.kubectl("scale", "md", "scaled", "--replicas=3")
        scaled = api_lab.api.get(f"{COLLECTIONS['ModelDeployment']}/scaled")
        assert scaled["spec"]["serving"]["replicas"] == 3
        refused = api_lab.kubectl("scale", "md", "scaled", "--replicas=0", check=False)
        assert "greater than or equal to 1" in refused.stderr, refused.stderr


def test_two_managers_share_objectives(api_lab: Lab) -> None:
    """Under server-side apply two teams may each own objectives of their own in one list."""
    path = f"{COLLECTIONS['ModelDeployment']}/shared"
    head = {"apiVersion": "modeldeployment.io/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "shared"}}
    for _ in _created(api_lab, model_deployment({"spec.objectives": []}, name="shared")):
        for team in ("errors", "availability"):
            bound = {"errorRate": {"max": "1%"}} if team == "errors" else {"availability": {"min": "99%"}}
            body = {**head, "spec": {"objectives": [{"name": team, **bound}]}}
            api_lab.api.apply(path, body, force=False, field_manager=team)
        names = {o["name"] for o in api_lab.api.get(path)["spec"]["objectives"]}
        assert names == {"errors", "availability"}
