"""The chart: what it renders and what it refuses."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from integration.helm import CHART, NAME, NAMESPACE, helm
from modeldeployment import __version__
from modeldeployment.api import names
from modeldeployment.controller.resources import WATCHED
from stand import ROOT

JSON = dict[str, Any]
KINDS = {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Deployment", "Service"}


def template(*args: str | Path) -> list[JSON]:
    """The objects of a release that is called as the README calls it."""
    return [obj for obj in yaml.safe_load_all(_rendered(*args)) if obj]


@cache
def _rendered(*args: str | Path) -> str:
    done = helm("template", NAME, CHART, f"--namespace={NAMESPACE}", *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def one(objects: list[JSON], kind: str, name: str = "") -> JSON:
    """The only object of a kind, or the one of that name."""
    found = [o for o in objects if o["kind"] == kind and name in ("", o["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} objects {kind} {name}"
    return found[0]


def container(objects: list[JSON]) -> JSON:
    """The operator's container."""
    spec: JSON = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    return spec


def refusal(*settings: str) -> str:
    """What helm says of values that it refuses."""
    done = helm("template", NAME, CHART, *(f"--set={setting}" for setting in settings))
    assert done.returncode != 0, f"{settings} were taken"
    return done.stderr


def test_lint_has_nothing_to_say() -> None:
    """`helm lint --strict` finds neither errors nor warnings, with the defaults and with everything turned on."""
    for more in ((), ("--set=podMonitor.enabled=true,replicas=2", *POLICY)):
        done = helm("lint", "--strict", CHART, *more)
        assert done.returncode == 0 and "[WARNING]" not in done.stdout, done.stdout + done.stderr


POLICY = ("--set=modelPolicy.create=true", "--set=modelPolicy.spec.prometheus.url=http://prometheus:9090")


def test_crds_are_fresh() -> None:
    """The chart's CRDs are those of crds/, byte by byte."""
    wanted = {path.name: path.read_text() for path in (ROOT / "crds").glob("*.yaml")}
    found = {path.name: path.read_text() for path in (CHART / "crds").glob("*")}
    stale = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    assert not stale, f"stale, missing or left over in the chart's crds/: {', '.join(stale)}; run `make crds`"


def test_versions_are_one() -> None:
    """Chart, image and package have the same version, and the image's tag follows it by default."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__
    assert container(template())["image"] == f"{NAME}:{__version__}"


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({"repository": "registry.example:5000/ml/operator"}, f"registry.example:5000/ml/operator:{__version__}"),
        ({"tag": "main"}, f"{NAME}:main"),
        ({"digest": f"sha256:{'a' * 64}"}, f"{NAME}@sha256:{'a' * 64}"),
        ({"tag": "1", "digest": f"sha256:{'b' * 64}"}, f"{NAME}:1@sha256:{'b' * 64}"),
    ],
)
def test_images_are_named_by_tag_or_digest(image: dict[str, str], reference: str) -> None:
    """Repository, tag and digest make the reference that a kubelet pulls."""
    assert container(template(*(f"--set-string=image.{k}={v}" for k, v in image.items())))["image"] == reference


def test_defaults_make_what_is_needed_and_no_more() -> None:
    """With default values there is no policy, no budget, no monitor, and no right to read any Secret."""
    objects = template()
    assert {o["kind"] for o in objects} == KINDS
    rules = [rule for o in objects for rule in o.get("rules", ())]
    assert not [rule for rule in rules if "secrets" in rule["resources"]]
    wide = [rule for rule in rules if "*" in rule["verbs"] + rule["resources"] + rule["apiGroups"]]
    assert not wide, f"rules with wildcards: {wide}"


def test_everything_carries_the_recommended_labels() -> None:
    """Each object names its app, release and chart, and none claims to be a child of a ModelDeployment."""
    objects = template("--set=replicas=2,podMonitor.enabled=true,podLabels.team=ml", *POLICY)
    pods = one(objects, "Deployment")["spec"]["template"]
    for obj in (*objects, {"kind": "Pod", **pods}):
        labels = obj["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == NAME, obj["kind"]
        assert labels["app.kubernetes.io/instance"] == NAME, obj["kind"]
        assert labels["helm.sh/chart"] == f"{NAME}-{__version__}", obj["kind"]
        assert labels[names.LABEL_MANAGED_BY] == "Helm", obj["kind"]
    assert pods["metadata"]["labels"]["team"] == "ml"


def test_pods_are_locked_down() -> None:
    """Not root, no capability, nothing to write on, the default seccomp profile: Pod Security's `restricted`."""
    spec = one(template(), "Deployment")["spec"]["template"]["spec"]
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert spec["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["containers"][0]["resources"]["requests"].keys() == {"cpu", "memory"}


def test_image_and_chart_agree() -> None:
    """The Dockerfile's program takes the chart's arguments, and its user is a number that is not root's."""
    lines = (CHART / "image" / "Dockerfile").read_text().splitlines()
    assert 'ENTRYPOINT ["modeldeployment"]' in lines
    user = next(line for line in reversed(lines) if line.startswith("USER ")).split()[1]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user), f"USER {user}"
    assert container(template())["args"][0] == "operator"


def test_what_is_watched_may_be_read() -> None:
    """The ClusterRole lets the operator list and watch each kind that it watches, and nothing else."""
    readable = {
        (group, resource)
        for rule in one(template(), "ClusterRole", NAME)["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        if {"list", "watch"} & set(rule["verbs"])
    }
    assert readable == {(resource.group, resource.plural) for resource in WATCHED}


def test_secrets_are_read_by_name_only() -> None:
    """prometheusSecrets, and the one of the policy, become a Role each namespace with these names and `get` alone."""
    listed = '--set-json=prometheusSecrets=[{"namespace":"mon","name":"b"},{"namespace":"obs","name":"c"}]'
    secret = "--set=modelPolicy.spec.prometheus.secretRef.namespace=mon,modelPolicy.spec.prometheus.secretRef.name=a"
    roles = {
        o["metadata"]["namespace"]: o["rules"]
        for o in template(listed, secret, *POLICY)
        if o["kind"] == "Role" and o["metadata"]["name"].endswith("-secrets")
    }
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
    assert roles == {"mon": [{**rule, "resourceNames": ["a", "b"]}], "obs": [{**rule, "resourceNames": ["c"]}]}


def test_several_replicas_come_with_a_budget() -> None:
    """Two replicas have a PodDisruptionBudget and spread over nodes; one has neither, as it could only block drains."""
    objects = template("--set=replicas=2")
    assert one(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    spec = one(objects, "Deployment")["spec"]
    spread = spec["template"]["spec"]["topologySpreadConstraints"][0]
    assert spread["labelSelector"] == spec["selector"] and spread["whenUnsatisfiable"] == "ScheduleAnyway"
    off = template("--set=replicas=2,podDisruptionBudget.enabled=false")
    assert "PodDisruptionBudget" not in {o["kind"] for o in off}


def test_a_monitor_finds_the_pods() -> None:
    """The PodMonitor and the Service select the operator's pods, at a port that they have."""
    objects = template("--set=podMonitor.enabled=true,podMonitor.labels.release=kps,metrics.annotations=false")
    pods = one(objects, "Deployment")["spec"]["template"]
    monitor, service = one(objects, "PodMonitor"), one(objects, "Service")
    for selector in (monitor["spec"]["selector"]["matchLabels"], service["spec"]["selector"]):
        assert selector.items() <= pods["metadata"]["labels"].items()
    ports = {port["name"] for port in pods["spec"]["containers"][0]["ports"]}
    assert {monitor["spec"]["podMetricsEndpoints"][0]["port"], service["spec"]["ports"][0]["targetPort"]} <= ports
    assert monitor["metadata"]["labels"]["release"] == "kps"
    assert "prometheus.io/scrape" not in pods["metadata"]["annotations"]


def test_recordings_have_a_volume() -> None:
    """The root file system is read-only: what is recorded goes to a volume, of the pod or of a claim."""
    plain = one(template(), "Deployment")["spec"]["template"]["spec"]
    assert "volumes" not in plain and not any("record" in arg for arg in plain["containers"][0]["args"])
    for more, source in (
        ("", {"emptyDir": {"sizeLimit": "1310784Mi"}}),
        (",recording.claim=kept", {"persistentVolumeClaim": {"claimName": "kept"}}),
    ):
        pod = one(
            template(f"--set=recording.enabled=true{more}", "--set-json=recording.totalMebibytes=1048576"), "Deployment"
        )["spec"]["template"]
        (container,), (volume,) = pod["spec"]["containers"], pod["spec"]["volumes"]
        (mount,) = container["volumeMounts"]
        assert {f"--record={mount['mountPath']}", "--record-mib=16", "--record-total-mib=1048576"} <= {
            *container["args"]
        }
        assert mount["name"] == volume.pop("name") and volume == source


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("replicas=0", "at '/replicas': minimum: got 0, want 1"),
        ("replicas=two", "at '/replicas': got string, want integer"),
        ("replicaCount=2", "additional properties 'replicaCount' not allowed"),
        ("image.name=x", "at '/image': additional properties 'name' not allowed"),
        ("image.repository=x:1@y", "at '/image/repository': 'x:1@y' does not match pattern"),
        ("image.digest=sha256:12", "at '/image/digest': 'sha256:12' does not match pattern"),
        ("image.pullPolicy=Sometimes", "must be one of 'Always', 'IfNotPresent', 'Never'"),
        ("logLevel=loud", "must be one of 'debug', 'info', 'warning', 'error'"),
        ("leaseSeconds=1", "at '/leaseSeconds': minimum: got 1, want 2"),
        ("relistSeconds=often", "at '/relistSeconds': got string, want number"),
        ("listenAddress=localhost", "at '/listenAddress': 'localhost' does not match pattern"),
        ("recording.claim=My_Claim", "at '/recording/claim': 'My_Claim' does not match pattern"),
        ("recording.totalMebibytes=null", "at '/recording': missing property 'totalMebibytes'"),
        ("metrics.port=70000", "at '/metrics/port': maximum: got 70,000, want 65,535"),
        ("resources.limits.memory=lots", "at '/resources/limits/memory': 'lots' does not match pattern"),
        ("resources.limit.memory=1Gi", "at '/resources': additional properties 'limit' not allowed"),
        ("prometheusSecrets[0].name=a", "at '/prometheusSecrets/0': missing property 'namespace'"),
        ("modelPolicy.create=true", "at '/modelPolicy/spec': missing property 'prometheus'"),
        ("modelPolicy.spec.prometheus.uri=x", "additional properties 'uri' not allowed"),
        ("podMonitor.interval=often", "at '/podMonitor/interval': 'often' does not match pattern"),
        ("podAnnotations.x=1", "at '/podAnnotations/x': got number, want string"),
    ],
)
def test_wrong_values_are_refused(setting: str, said: str) -> None:
    """A value that is misspelt, of the wrong type or out of bounds is refused before anything is sent, and named."""
    assert said in refusal(setting)


def _explained(text: str, value: str) -> bool:
    """Whether a comment stands above a value, or above the top-level value that it is part of."""
    lines = text.splitlines()
    at = lines.index(value)
    while lines[at].startswith(" ") and not lines[at - 1].lstrip().startswith("#"):
        at -= 1
    return lines[at - 1].lstrip().startswith("#")


def test_each_value_is_explained_and_checked() -> None:
    """values.yaml has a comment above each value; the schema knows each, closes each object, and knows no other."""
    text = (CHART / "values.yaml").read_text()
    bare = [block for block in re.findall(r"(?m)^(?: *#.*\n)?( *\w+: \S+)", text) if not _explained(text, block)]
    assert not bare, f"values without a comment: {bare}"
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load(text)
    assert schema["properties"].keys() == values.keys() | {"global"}
    for key, value in values.items():
        known = schema["properties"][key]
        if known.get("type") == "object" and "properties" in known:
            assert known["additionalProperties"] is False, key
            assert isinstance(value, dict) and known["properties"].keys() >= value.keys(), key


def test_the_policy_values_are_those_of_the_crd() -> None:
    """modelPolicy.spec knows each field of ModelPolicy's spec and of its prometheus, and no other."""
    crd = yaml.safe_load((CHART / "crds" / "modelpolicies.yaml").read_text())
    wanted = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    schema = json.loads((CHART / "values.schema.json").read_text())
    known = schema["properties"]["modelPolicy"]["properties"]["spec"]["properties"]
    assert known.keys() == wanted.keys()
    assert known["prometheus"]["properties"].keys() == wanted["prometheus"]["properties"].keys()


@pytest.mark.parametrize(
    ("health", "generation", "conditions"),
    [
        ("Progressing", 1, {}),
        ("Progressing", 2, {"Progressing": ("False", "RolloutComplete"), "Ready": ("True", "Serving")}),
        ("Progressing", 1, {"Progressing": ("True", "Initializing"), "Ready": ("False", "NothingServes")}),
        ("Progressing", 1, {"Progressing": ("True", "CanaryRunning"), "Ready": ("True", "Serving")}),
        ("Healthy", 1, {"Progressing": ("True", "Watching"), "Ready": ("True", "Serving")}),
        ("Healthy", 1, {"Progressing": ("False", "RolloutComplete"), "Ready": ("True", "Serving")}),
        ("Suspended", 1, {"Progressing": ("Unknown", "Inconclusive"), "Ready": ("True", "Serving")}),
        ("Suspended", 1, {"Progressing": ("Unknown", "Suspended"), "Ready": ("True", "Serving")}),
        ("Degraded", 1, {"Progressing": ("False", "RolledBack"), "Stalled": ("True", "RolledBack")}),
        ("Degraded", 1, {"Progressing": ("True", "CanaryRunning"), "Healthy": ("False", "ObjectiveBroken")}),
        ("Degraded", 1, {"Progressing": ("False", "RolloutComplete"), "Ready": ("False", "CrashLoopBackOff")}),
        (
            "Degraded",
            1,
            {
                "Progressing": ("False", "RolloutComplete"),
                "Ready": ("True", "Serving"),
                "RouteProgrammed": ("False", "HostnameConflict"),
            },
        ),
    ],
)
def test_argocd_health(health: str, generation: int, conditions: dict[str, tuple[str, str]]) -> None:
    """Argo CD shows a rollout as Progressing, a person's turn as Suspended, what was taken back as Degraded."""
    lua = pytest.importorskip("lupa.lua51").LuaRuntime()
    listed = [{"type": t, "status": s, "reason": r, "message": "why"} for t, (s, r) in conditions.items()]
    obj = {"metadata": {"generation": generation}, "status": {"conditions": listed, "observedGeneration": 1}}
    lua.globals()["obj"] = lua.table_from(obj if conditions else {"metadata": {"generation": 1}}, recursive=True)
    told = lua.execute((CHART / "argocd" / "health.lua").read_text())
    assert told["status"] == health, f"{told['status']}: {told['message']}"
    assert told["message"], "Argo CD shows no reason"
