"""The chart as people install it: the operator does all of its work with the rights it gives, and no others."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from integration.conftest import keep_logs
from integration.helm import CHART, NAME, NAMESPACE, helm
from lab import Lab
from lab.process import PATIENCE
from lab.scratch import listen_address
from modeldeployment.api import names
from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.api.owner import Owner
from modeldeployment.controller.effects import REVISIONS_KEPT
from modeldeployment.serving import children
from modeldeployment.traffic import gateway
from stand import ROOT

JSON = dict[str, Any]
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{NAME}"
API = "/apis/modeldeployment.io/v1alpha1"
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "users": [ACCOUNT]}, {"level": "None"}],
}
BY_ADMISSION = {("modeldeployment.io", "modeldeployments/finalizers", "update", "")}
"""Rights that are asked for by the API server's own checks (ownerReferences), never by a request."""


class Cluster:
    """A lab whose API server writes down what the operator asks for, and helm for it."""

    def __init__(self, lab: Lab, audit: Path) -> None:
        self.lab, self._audit = lab, audit

    def helm(self, *args: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs helm in the operator's namespace."""
        home = self.lab.folder / "helm"
        folders = {f"HELM_{name}_HOME": str(home) for name in ("CACHE", "CONFIG", "DATA")}
        env = {**folders, "KUBECONFIG": str(self.lab.kubeconfig), "HOME": str(home)}
        done = helm(*args, f"--namespace={NAMESPACE}", env=env)
        assert not check or done.returncode == 0, f"helm {args[0]}: {done.stderr}{self.told()}"
        return done

    def upgrade(self, **values: Any) -> str:
        """`helm upgrade --install` of the release with these values only; what helm told."""
        settings = [f"--set-json={key}={json.dumps(value)}" for key, value in values.items()]
        return self.helm("upgrade", "--install", NAME, CHART, "--wait", "--timeout=300s", *settings).stdout

    def pods(self) -> dict[str, str]:
        """The operator's Ready pods and their addresses on this machine."""
        pods = self.lab.api.list(f"/api/v1/namespaces/{NAMESPACE}/pods", labelSelector=f"app.kubernetes.io/name={NAME}")
        return {p["metadata"]["name"]: listen_address(p["status"]["podIP"]) for p in pods if _ready(p)}

    def leaders(self) -> dict[str, str]:
        """The pods that say that they act, and their addresses."""
        return {pod: address for pod, address in self.pods().items() if _sum(address, "modeldeployment_leader ") == 1}

    def told(self) -> str:
        """What the operator's pods logged."""
        pods = self.lab.api.list(f"/api/v1/namespaces/{NAMESPACE}/pods")
        logs = (self.lab.kubectl("logs", "-n", NAMESPACE, p["metadata"]["name"], check=False).stdout for p in pods)
        return "\n".join(logs)

    def requests(self) -> list[JSON]:
        """What the API server wrote down about the operator's requests to resources."""
        text = self._audit.read_text()
        entries = map(json.loads, text[: text.rfind("\n") + 1].splitlines())  # the last line may be on its way
        return [entry for entry in entries if "objectRef" in entry]

    def wait(self, what: str, check: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """What `check` returns, once that is true. Fails with what the operator told when it never is."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := check():
                return found
            self.lab.check_parts()
            time.sleep(0.1)
        shown = self.lab.kubectl("get", "modeldeployments,pods", "-A", "-o", "wide", check=False).stdout
        raise AssertionError(f"not within {seconds:g}s: {what}\n{shown}\n{self.told()[-4000:]}\n{self.lab.failures()}")

    def status(self, name: str) -> JSON:
        """A ModelDeployment's status; {} before the first."""
        found: JSON = self.lab.api.get(f"{API}/namespaces/default/modeldeployments/{name}").get("status") or {}
        return found

    def manifest(self, name: str, version: str = "1.0.0", image: str = "model-server:1", **env: str) -> JSON:
        """The example of a ModelDeployment under another name, looked at each second."""
        manifest: JSON = yaml.safe_load((ROOT / "examples" / "fraud.yaml").read_text())
        manifest["metadata"]["name"] = name
        spec = manifest["spec"]
        spec["model"]["version"] = version
        serving = spec["serving"]["template"]["spec"]["containers"][0]
        serving |= {"image": image, "env": [{"name": k, "value": v} for k, v in env.items()]}
        spec["traffic"]["gateway"]["hostnames"] = [f"{name}.example.com"]
        spec["rollout"]["analysis"] = {"interval": "1s"}
        return manifest

    def model(self, name: str, version: str = "1.0.0", image: str = "model-server:1", **env: str) -> None:
        """Applies it as a person does."""
        self.lab.kubectl("apply", "-f", "-", input=json.dumps(self.manifest(name, version, image, **env)))


def _sum(address: str, sample: str) -> float:
    """The sum of an operator's own series whose text has this beginning; 0 while it does not answer."""
    try:
        text = httpx.get(f"http://{address}:8080/metrics", timeout=60).text
    except httpx.HTTPError:
        return 0
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(sample))


def _ready(pod: JSON) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return "deletionTimestamp" not in pod["metadata"] and any(
        c["type"] == "Ready" and c["status"] == "True" for c in conditions
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The chart as a user installs it: into a cluster that checks ownerReferences (as OpenShift does) and audits."""
    folder = tmp_path_factory.mktemp("audit")
    (folder / "policy.yaml").write_text(yaml.safe_dump(AUDIT_POLICY))
    flags = (
        f"--audit-policy-file={folder / 'policy.yaml'}",
        f"--audit-log-path={folder / 'audit.log'}",
        "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
    )
    lab = Lab(scrape_interval="1s", apiserver_flags=flags).start()
    try:
        server = ROOT / "examples" / "model-server" / "server.py"
        lab.add_image("model-server", script=server)
        lab.add_image(
            NAME,  # as its Dockerfile would make it; in the lab a process listens on its pod's address only
            command=["sh", "-c", f'exec {sys.executable} -m modeldeployment.cli "$@" --host=$HOST', NAME],
            env={"PYTHONPATH": str(ROOT / "operator")},
            kubeconfig=True,
        )
        lab.kubectl("create", "namespace", NAMESPACE)
        lab.kubectl("create", "namespace", "monitoring")
        for secret in ("prometheus", "other"):
            lab.kubectl("create", "secret", "generic", secret, "-n", "monitoring", "--from-literal=token=x")
        made = Cluster(lab, folder / "audit.log")
        made.upgrade(**_values(lab))
        yield made
    finally:
        keep_logs(lab)
        lab.stop()


def _values(lab: Lab, **more: Any) -> JSON:
    """Values of an installation in the lab."""
    prometheus = {"url": lab.prometheus_url, "secretRef": {"namespace": "monitoring", "name": "prometheus"}}
    policy = {"create": True, "spec": {"prometheus": prometheus, "steadyInterval": "1s"}}
    return {"modelPolicy": policy, "leaseSeconds": 15, "relistSeconds": 5, **more}


@pytest.fixture(scope="module")
def story(cluster: Cluster) -> Cluster:
    """The operator has done everything that it does: see each step."""
    _foreign_children(cluster)
    cluster.model("fraud", "1.0.0")
    cluster.wait("the first version serves", lambda: _serves(cluster, "1.0.0"))
    with cluster.lab.load("fraud.example.com", rate=100):
        cluster.model("fraud", "2.0.0", FAULT_ERROR_RATE="0.3")
        cluster.wait("the canary gets traffic", lambda: _had_traffic(cluster))
        cluster.wait("the bad version is taken back", lambda: cluster.status("fraud").get("quarantined"))
        cluster.wait("the first version has all traffic again", lambda: _serves(cluster, "1.0.0"))
    for name in FOREIGN:
        cluster.wait(f"{name} is told", partial(_tells, cluster, name, "belongs to somebody else"))
    _edited_twice(cluster)
    _unlabelled(cluster)
    _many_versions(cluster)
    _conflict(cluster)
    return cluster


def _tells(cluster: Cluster, name: str, words: str) -> bool:
    return words in json.dumps(cluster.status(name))


def _had_traffic(cluster: Cluster) -> bool:
    """Whether the canary gets traffic, or got so much of it already that it was taken back for it."""
    status = cluster.status("fraud")
    taken_back = [one["reason"] for one in status.get("quarantined", ())]
    assert set(taken_back) <= {"RolledBack"}, f"it was not what it answered that took it back: {taken_back}"
    return bool((status.get("canary") or {}).get("weight") or taken_back)


def _on_trial(cluster: Cluster, version: str) -> bool:
    return bool((cluster.status("fraud").get("canary") or {}).get("version") == version)


def _serves(cluster: Cluster, version: str) -> bool:
    stable = cluster.status("fraud").get("stable") or {}
    return bool(stable.get("version") == version and stable.get("weight") == 100)


FOREIGN = ("foreign-revision", "foreign-deployment", "foreign-service", "foreign-route")


def _foreign_children(cluster: Cluster) -> None:
    """Objects of other people that have the names of children."""
    for name in FOREIGN:
        spec = ModelDeploymentSpec.model_validate(cluster.manifest(name)["spec"])
        revision, content = children.revision_of(name, spec)
        owner = Owner("default", name, "")
        child = {
            "foreign-revision": children.model_revision(owner, revision, content),
            "foreign-deployment": children.deployment(owner, revision, content, 0),
            "foreign-service": children.service(owner, revision, content),
            "foreign-route": gateway.render(owner, spec, {}),
        }[name]
        child["metadata"] = {"name": child["metadata"]["name"], "namespace": "default"}
        cluster.lab.kubectl("create", "-f", "-", input=json.dumps(child))
        cluster.model(name)


def _edited_twice(cluster: Cluster) -> None:
    """A Service that is edited twice is put right twice, and told in one Event's series."""
    revision = cluster.status("fraud")["stable"]["revision"]
    path = f"/api/v1/namespaces/default/services/{revision}"
    for _ in range(2):
        cluster.lab.api.patch(path, {"spec": {"selector": {names.LABEL_REVISION: "none"}}})
        cluster.wait(
            "the Service is put right",
            lambda: cluster.lab.api.get(path)["spec"]["selector"][names.LABEL_REVISION] == revision,
        )


def _unlabelled(cluster: Cluster) -> None:
    """A ModelRevision that loses a label gets it back."""
    revision = cluster.status("fraud")["stable"]["revision"]
    path = f"{API}/namespaces/default/modelrevisions/{revision}"
    cluster.lab.api.patch(path, {"metadata": {"labels": {names.LABEL_REVISION: None}}})
    cluster.wait(
        "the ModelRevision's label is put right",
        lambda: cluster.lab.api.get(path)["metadata"]["labels"].get(names.LABEL_REVISION) == revision,
    )


def _many_versions(cluster: Cluster) -> None:
    """Versions that nobody waits for, until the oldest revisions are deleted."""

    def known() -> int:
        of_fraud = f"{names.LABEL_NAME}=fraud"
        return len(cluster.lab.api.list(f"{API}/namespaces/default/modelrevisions", labelSelector=of_fraud))

    cluster.model("fraud", "3.0.0", image="lab/not-built")
    for number in range(12):
        version = f"3.0.{number}"
        cluster.lab.api.patch(
            f"{API}/namespaces/default/modeldeployments/fraud", {"spec": {"model": {"version": version}}}
        )
        cluster.wait(f"{version} is on trial", partial(_on_trial, cluster, version))
    cluster.model("fraud", "1.0.0")
    cluster.wait("the oldest of many revisions are deleted", lambda: known() == REVISIONS_KEPT + 1)


def _conflict(cluster: Cluster) -> None:
    """Somebody writes all the time while the operator does: it reads anew and goes on."""
    path = f"{API}/namespaces/default/modeldeployments/fraud"
    cluster.model("fraud", "4.0.0", image="lab/not-built")
    deadline = time.monotonic() + PATIENCE
    while not any(r["verb"] == "get" and r["objectRef"]["resource"] == "modeldeployments" for r in cluster.requests()):
        assert time.monotonic() < deadline, "no write met another's"
        for number in range(50):
            cluster.lab.api.patch(path, {"metadata": {"annotations": {"example.com/n": str(number)}}})
    cluster.model("fraud", "1.0.0")


def test_the_installation_says_what_to_do_next(cluster: Cluster) -> None:
    """The notes name the Deployment and Prometheus, and commands that work here."""
    notes = cluster.helm("get", "notes", NAME).stdout
    assert cluster.lab.prometheus_url in notes
    command = re.search(r"kubectl (--namespace \S+ rollout status \S+)", notes)
    assert command, notes
    cluster.lab.kubectl(*command.group(1).split(), "--timeout=120s")


def test_the_operator_is_never_refused(story: Cluster) -> None:
    """First version, canary, rollback, repairs, clean-up: not one 403, by the audit log, the metrics and the logs."""
    assert [taken["version"] for taken in story.status("fraud")["quarantined"]] == ["2.0.0"]
    refused = [r for r in story.requests() if r["responseStatus"]["code"] in (401, 403)]
    assert not refused, f"refused by RBAC: {sorted({(r['verb'], r['requestURI']) for r in refused})}"
    assert len(story.requests()) > 100
    (address,) = story.wait("one leads", story.leaders).values()
    # It may be a process that has not been there for the whole story: lists and renewals go on.
    story.wait("its own count of requests", lambda: _sum(address, "modeldeployment_api_requests_total") > 100)
    assert 'code="403"' not in httpx.get(f"http://{address}:8080/metrics", timeout=60).raise_for_status().text
    assert "forbidden" not in story.told().lower()


def test_no_right_is_unused(story: Cluster) -> None:
    """Each verb on each resource that the roles grant was asked for; the exceptions are listed with their reason."""
    granted = set(_granted(story.lab))

    def unused() -> set[tuple[str, str, str, str]]:
        return granted - BY_ADMISSION - {right for request in story.requests() for right in _rights(request)}

    deadline = time.monotonic() + PATIENCE
    while unused() and time.monotonic() < deadline:  # what tells of the last events, and cleans up, may be on its way
        time.sleep(0.5)
    assert not unused(), f"granted and never used: {sorted(unused())}"


def _granted(lab: Lab) -> Iterator[tuple[str, str, str, str]]:
    """(group, resource, verb, name or "") of all roles that are bound to the operator's account itself."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    subject = {"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}
    for plural, role in (("clusterrolebindings", "clusterroles"), ("rolebindings", "roles")):
        for binding in lab.api.list(f"{rbac}/{plural}"):
            if subject not in binding.get("subjects", ()):
                continue
            where = f"/namespaces/{binding['metadata']['namespace']}" if role == "roles" else ""
            for rule in lab.api.get(f"{rbac}{where}/{role}/{binding['roleRef']['name']}")["rules"]:
                for group in rule["apiGroups"]:
                    for resource in rule["resources"]:
                        for verb in rule["verbs"]:
                            for name in rule.get("resourceNames", [""]):
                                yield group, resource, verb, name


def _rights(request: JSON) -> Iterator[tuple[str, str, str, str]]:
    """The rights that one request needed."""
    target = request["objectRef"]
    resource = "/".join(part for part in (target["resource"], target.get("subresource")) if part)
    verbs = {request["verb"]}
    if request["verb"] == "patch" and request["responseStatus"]["code"] == 201:
        verbs.add("create")  # server-side apply of what was not there
    for verb in verbs:
        for name in ("", target.get("name", "")):
            yield target.get("apiGroup", ""), resource, verb, name


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("get", "secrets/other -n monitoring"),
        ("list", "secrets -n monitoring"),
        ("get", f"secrets/prometheus -n {NAMESPACE}"),
        ("patch", "modeldeployments.modeldeployment.io -n default"),
        ("delete", "modeldeployments.modeldeployment.io -n default"),
        ("delete", "pods -n default"),
        ("create", "pods -n default"),
        ("patch", "gateways.gateway.networking.k8s.io -n gateway-system"),
        ("update", "leases.coordination.k8s.io/another -n default"),
        ("delete", f"leases.coordination.k8s.io/{NAME} -n {NAMESPACE}"),
        ("impersonate", "users"),
    ],
)
def test_the_operator_may_not(cluster: Cluster, verb: str, resource: str) -> None:
    """Other Secrets, people's specs, pods, gateways and other Leases are out of its reach."""
    done = cluster.lab.kubectl("auth", "can-i", verb, *resource.split(), f"--as={ACCOUNT}", check=False)
    assert done.stdout.strip() == "no", f"{verb} {resource}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize(
    ("role", "verb", "resource", "answer"),
    [
        ("view", "watch", "modeldeployments", "yes"),
        ("view", "get", "modelrevisions", "yes"),
        ("view", "patch", "modeldeployments", "no"),
        ("edit", "create", "modeldeployments", "yes"),
        ("edit", "patch", "modeldeployments --subresource=scale", "yes"),
        ("edit", "patch", "modeldeployments --subresource=status", "no"),
        ("edit", "delete", "modelrevisions", "no"),
        ("admin", "delete", "modeldeployments", "yes"),
    ],
)
def test_people_get_rights_with_their_roles(cluster: Cluster, role: str, verb: str, resource: str, answer: str) -> None:
    """Who has view, edit or admin in a namespace sees or changes its ModelDeployments, and not what was decided."""
    cluster.lab.apply(
        json.dumps(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": f"all-{role}", "namespace": "default"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": role}],
            }
        )
    )

    def says() -> bool:
        done = cluster.lab.kubectl("auth", "can-i", verb, *resource.split(), f"--as={role}", check=False)
        return done.stdout.strip() == answer

    cluster.wait(f"{role} may {verb} {resource}: {answer}", says)


def test_a_second_operator_is_refused(cluster: Cluster) -> None:
    """A second release in the cluster, which would act on the same objects, does not install."""
    cluster.lab.kubectl("create", "namespace", "second")
    done = cluster.helm("install", "second", CHART, "--namespace=second", check=False)
    assert done.returncode != 0 and 'ClusterRole "modeldeployment-operator' in done.stderr, done.stderr
    assert "invalid ownership metadata" in done.stderr


def test_upgrades_change_values_and_one_of_two_leads(cluster: Cluster) -> None:
    """An upgrade to two replicas leaves one acting; when that is killed, the other goes on."""
    cluster.upgrade(**_values(cluster.lab, replicas=2, logLevel="debug", podAnnotations={"example.com/team": "ml"}))
    pods = cluster.wait("two pods are Ready", lambda: len(found := cluster.pods()) == 2 and found)
    (leader,) = cluster.wait("one leads", cluster.leaders)
    other = next(pod for pod in pods if pod != leader)
    assert httpx.get(f"http://{pods[other]}:8080/readyz", timeout=60).text == "ok"
    pod = cluster.lab.api.get(f"/api/v1/namespaces/{NAMESPACE}/pods/{other}")
    assert pod["metadata"]["annotations"]["example.com/team"] == "ml"
    assert "--log-level=debug" in pod["spec"]["containers"][0]["args"]
    cluster.wait("Prometheus finds the operator", lambda: cluster.lab.prometheus.query("sum(modeldeployment_leader)"))
    cluster.lab.kubectl("delete", "pod", leader, "-n", NAMESPACE, "--grace-period=0", "--force")
    cluster.wait("another leads", lambda: leader not in (now := cluster.leaders()) and now)
    budget = cluster.lab.api.get(f"/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets/{NAME}")
    assert budget["spec"]["maxUnavailable"] == 1


def test_uninstall_leaves_models_alone(cluster: Cluster) -> None:
    """After `helm uninstall` CRDs, ModelDeployments and what they serve are still there; the operator is not."""
    cluster.model("kept", "1.0.0")
    served = cluster.wait("it serves", lambda: cluster.status("kept").get("stable"))
    cluster.helm("uninstall", NAME, "--wait")
    cluster.wait("the operator is gone", lambda: not cluster.pods())
    assert cluster.status("kept")["stable"]["revision"] == served["revision"]
    for plural in ("modeldeployments", "modelrevisions", "modelpolicies"):
        cluster.lab.kubectl("get", "crd", f"{plural}.{names.GROUP}")
    cluster.lab.kubectl("get", "deployment,service", served["revision"])
    mine = ("get", "all,clusterrole,role,pdb", "-A", "-l", f"app.kubernetes.io/instance={NAME}")
    cluster.wait("nothing of the release is left", lambda: not cluster.lab.kubectl(*mine).stdout)
