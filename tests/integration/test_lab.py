"""The lab keeps its promises: real statuses, honest traffic, exact weights, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import ApiError, Lab
from lab.process import python_env, wait_until
from lab.warden import processes_of

Object = dict[str, Any]
ROUTE = "/apis/gateway.networking.k8s.io/v1/namespaces/ml/httproutes/iris"
PODS = "/api/v1/namespaces/ml/pods"

WORKLOAD = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: ml}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata:
      labels: {{app: {name}}}
      annotations: {{prometheus.io/scrape: "true", prometheus.io/port: "8080"}}
    spec:
      containers:
      - name: model
        image: {image}
        ports: [{{name: http, containerPort: 8080}}]
        env: [{{name: MODEL_NAME, value: iris}}, {{name: MODEL_VERSION, value: "{version}"}}{env}]
        readinessProbe: {{httpGet: {{path: {health}, port: http}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: ml}}
spec: {{selector: {{app: {name}}}, ports: [{{port: 80, targetPort: http}}]}}
"""


def workload(name: str, version: str = "1", replicas: int = 1, **extra: str) -> str:
    """A Deployment of the example server, and its Service."""
    values = {"image": f"lab/model-server:{version}", "env": "", "health": "/healthz", **extra}
    return WORKLOAD.format(name=name, version=version, replicas=replicas, **values)


def rules(stable: int, canary: int) -> list[Object]:
    """The rules of a route that splits between two Services."""
    weights = {"iris-1": stable, "iris-2": canary}
    return [{"backendRefs": [{"name": name, "port": 80, "weight": weight} for name, weight in weights.items()]}]


def ready(lab: Lab, name: str) -> int:
    """How many replicas of a Deployment are ready."""
    status = lab.api.get(f"/apis/apps/v1/namespaces/ml/deployments/{name}").get("status", {})
    return int(status.get("readyReplicas", 0))


def container_status(lab: Lab, name: str) -> Object:
    """The status of the only container of the only pod of a Deployment ({} before there is one)."""
    pods = lab.api.list(PODS, labelSelector=f"app={name}")
    statuses = pods[0].get("status", {}).get("containerStatuses", []) if pods else []
    return statuses[0] if statuses else {}


def set_weights(lab: Lab, stable: int, canary: int) -> float:
    """Changes the route; returns when its status says that the gateway has it, with that time."""
    generation = lab.api.patch(ROUTE, {"spec": {"rules": rules(stable, canary)}})["metadata"]["generation"]

    def programmed() -> bool:
        parents = lab.api.get(ROUTE).get("status", {}).get("parents", [])
        return bool(parents) and all(
            condition["status"] == "True" and condition["observedGeneration"] == generation
            for condition in parents[0]["conditions"]
        )

    lab.wait_until("the route", programmed)
    return time.time()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab with one model in two versions behind a route, 90 to 10."""
    started = Lab(scrape_interval="1s").start()
    with_route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "iris", "namespace": "ml"},
        "spec": {
            "parentRefs": [{"name": started.gateway_name, "namespace": started.gateway_namespace}],
            "hostnames": ["iris.example.com"],
            "rules": rules(90, 10),
        },
    }
    try:
        started.kubectl("create", "namespace", "ml")
        started.apply(workload("iris-1", "1", 2) + "---" + workload("iris-2", "2"))
        started.api.apply(ROUTE, with_route)
        started.wait_until("the models", lambda: ready(started, "iris-1") == 2 and ready(started, "iris-2") == 1)
        yield started
    finally:
        started.stop()


def test_weights_are_what_the_status_says(lab: Lab) -> None:
    """A 90:10 split shows in the answers, and after weight 0 is reported not one request arrives."""
    set_weights(lab, 90, 10)
    with lab.load("iris.example.com", rate=200) as load:
        time.sleep(5)
        split = load.snapshot()
        zero_at = set_weights(lab, 100, 0)
        lab.wait_until("requests", lambda: len(load.snapshot().between(zero_at).records) > 300)
        everything = load.stop()
    assert 0.05 < split.share("2") < 0.15
    after = everything.between(zero_at)
    assert after.share("1") == 1.0
    assert everything.bad == 0


def test_a_rolling_restart_loses_no_request(lab: Lab) -> None:
    """Readiness, endpoints and draining work together: pods come and go without an error."""
    set_weights(lab, 100, 0)
    with lab.load("iris.example.com", rate=100) as load:
        lab.kubectl("rollout", "restart", "deployment/iris-1", "-n", "ml")
        lab.kubectl("rollout", "status", "deployment/iris-1", "-n", "ml", "--timeout=120s")
        time.sleep(1.5)
        result = load.stop()
    assert result.counts() == {("1", 200): len(result.records)}


def test_prometheus_has_the_labels_of_every_setup(lab: Lab) -> None:
    """Series of pods carry namespace and pod; the gateway's carry the cluster's name."""
    set_weights(lab, 50, 50)
    lab.load("iris.example.com", rate=100, duration_seconds=1).start().child.wait(120)
    pods = {pod["metadata"]["name"] for pod in lab.api.list(PODS, labelSelector="app=iris-2")}

    def scraped() -> bool:
        query = 'inference_requests_total{namespace="ml", model="iris", version="2"} > 0'
        gateway = lab.prometheus.query('envoy_cluster_upstream_rq_xx{envoy_cluster_name="ml/iris-2"} > 0')
        return {row["metric"]["pod"] for row in lab.prometheus.query(query)} == pods and bool(gateway)

    lab.wait_until("the series", scraped)


def test_a_crashing_container_looks_as_with_a_kubelet(lab: Lab) -> None:
    """CrashLoopBackOff, the exit code, the restart count, and the log through kubectl."""
    lab.apply(workload("crash", env=", {name: FAULT_CRASH, value: '1'}"))

    def backs_off() -> bool:
        waiting = container_status(lab, "crash").get("state", {}).get("waiting", {})
        return bool(waiting.get("reason") == "CrashLoopBackOff")

    lab.wait_until("CrashLoopBackOff", backs_off)
    status = container_status(lab, "crash")
    assert status["lastState"]["terminated"]["exitCode"] == 1
    assert status["restartCount"] >= 1
    assert "restarting failed container=model pod=crash-" in status["state"]["waiting"]["message"]
    assert "FAULT_CRASH" in lab.kubectl("logs", "deployment/crash", "-n", "ml").stdout


def test_a_missing_image_is_waited_for(lab: Lab) -> None:
    """ErrImagePull, then ImagePullBackOff, until the image is there."""
    lab.apply(workload("missing", image="lab/does-not-exist:1"))

    def waits() -> bool:
        waiting = container_status(lab, "missing").get("state", {}).get("waiting", {})
        return bool(waiting.get("reason") == "ImagePullBackOff" and "not found" in waiting["message"])

    lab.wait_until("ImagePullBackOff", waits)
    server = Path(__file__).parents[2] / "examples" / "model-server" / "server.py"
    lab.add_image("lab/does-not-exist", script=server)
    lab.wait_until("the pod", lambda: ready(lab, "missing") == 1)


def test_a_pod_that_fits_nowhere_stays_pending(lab: Lab) -> None:
    """PodScheduled is False with the scheduler's reason."""
    lab.api.create(
        PODS,
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "huge", "namespace": "ml"},
            "spec": {"containers": [{"name": "x", "image": "lab/x", "resources": {"requests": {"cpu": "9000"}}}]},
        },
    )

    def conditions() -> list[Object]:
        found = lab.api.get(f"{PODS}/huge").get("status", {}).get("conditions", [])
        return [item for item in found if item["type"] == "PodScheduled"]

    lab.wait_until("the condition", lambda: bool(conditions()))
    (condition,) = conditions()
    assert condition["reason"] == "Unschedulable"
    assert condition["message"].startswith("0/1 nodes are available: 1 Insufficient cpu.")


def test_a_route_with_a_wrong_backend_says_so(lab: Lab) -> None:
    """BackendNotFound, and 500 for the requests, as the Gateway API asks."""
    path = ROUTE.replace("iris", "lost")
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "lost", "namespace": "ml"},
        "spec": {
            "parentRefs": [{"name": lab.gateway_name, "namespace": lab.gateway_namespace}],
            "hostnames": ["lost.example.com"],
            "rules": [{"backendRefs": [{"name": "nowhere", "port": 80}]}],
        },
    }
    lab.api.apply(path, route)

    def reasons() -> dict[str, str]:
        parents = lab.api.get(path).get("status", {}).get("parents", [])
        return {item["type"]: item["reason"] for parent in parents for item in parent["conditions"]}

    lab.wait_until("the status", lambda: bool(reasons()))
    assert reasons() == {"Accepted": "Accepted", "ResolvedRefs": "BackendNotFound"}
    load = lab.load("lost.example.com", rate=20, duration_seconds=0.5).start()
    load.child.wait(120)
    assert load.snapshot().counts() == {("", 500): 10}


def test_the_api_server_reaches_pods_on_loopback_only(lab: Lab) -> None:
    """Its proxies to pods and Services work, and what is no pod of the lab is refused."""
    lab.wait_until("the pod", lambda: ready(lab, "iris-2") == 1)
    (pod,) = lab.api.list(PODS, labelSelector="app=iris-2")
    path = f"{PODS}/http:{pod['metadata']['name']}:8080/proxy/healthz"
    assert lab.api.get(path)["model"] == "iris"
    assert lab.api.get("/api/v1/namespaces/ml/services/http:iris-2:80/proxy/healthz")["model"] == "iris"
    stray = {"name": "stray", "namespace": "ml"}
    spec = {"nodeName": "elsewhere", "containers": [{"name": "x", "image": "lab/x"}]}
    lab.api.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": stray, "spec": spec})
    address = {"podIP": "10.250.0.1", "podIPs": [{"ip": "10.250.0.1"}]}
    lab.api.patch(f"{PODS}/stray/status", {"status": address})
    with pytest.raises(ApiError, match="403 Forbidden"):
        lab.api.get(f"{PODS}/http:stray:8080/proxy/healthz")
    lab.api.delete(f"{PODS}/stray", gracePeriodSeconds=0)


def test_a_service_account_has_its_own_rights_only(lab: Lab) -> None:
    """A kubeconfig for a ServiceAccount is bound by RBAC."""
    kubeconfig = lab.kubeconfig_for("default", "ml")
    answer = lab.kubectl("--kubeconfig", str(kubeconfig), "auth", "can-i", "list", "pods", check=False)
    assert answer.stdout.strip() == "no"


def test_the_cluster_outlives_a_crash_of_the_api_server(lab: Lab) -> None:
    """After `kill -9` of the API server all parts find back, and traffic did not notice."""
    set_weights(lab, 100, 0)

    def endpoints() -> set[str]:
        """Pods that the Service has as ready endpoints: a ready pod becomes one only a moment later."""
        slices = lab.api.list(
            "/apis/discovery.k8s.io/v1/namespaces/ml/endpointslices",
            labelSelector="kubernetes.io/service-name=iris-2",
        )
        found = [endpoint for item in slices for endpoint in item["endpoints"] or []]
        return {endpoint["targetRef"]["name"] for endpoint in found if endpoint["conditions"]["ready"]}

    before = endpoints()
    with lab.load("iris.example.com", rate=50) as load:
        lab.control_plane.kill_apiserver()
        lab.control_plane.start_apiserver()
        lab.kubectl("delete", "pod", "-n", "ml", "-l", "app=iris-2", "--wait=false")
        # The controller manager's watches back off for some seconds, as they do in a real cluster.
        lab.wait_until("a new pod", lambda: bool(endpoints() - before))
        set_weights(lab, 0, 100)
        result = load.stop()
    assert result.bad == 0
    assert result.versions()["1"] > 100


@pytest.mark.usefixtures("mlserver")
def test_mlserver_serves(lab: Lab) -> None:
    """A real MLServer runs as a pod (where Python 3.11 is)."""
    lab.apply(workload("ml", image="lab/mlserver:1.7.1", health="/v2/health/ready"))
    lab.wait_until("MLServer", lambda: ready(lab, "ml") == 1)


def test_labs_run_side_by_side_and_leave_nothing() -> None:
    """A second lab has its own addresses; `kill -9` of its owner takes every process and file with it."""
    code = (
        "import sys, time\n"
        "from lab import Lab\n"
        "lab = Lab(prometheus=False, gateway=False).start()\n"
        "lab.process('shell', ['sh', '-c', 'sleep 1000; true']).start()\n"
        "print(lab.id, lab.folder, lab.host, flush=True)\n"
        "time.sleep(1000)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], env=python_env(), stdout=subprocess.PIPE, text=True)
    with owner:
        try:
            assert owner.stdout is not None
            lab_id, folder, _ = owner.stdout.readline().split()
            # etcd, API server, controller manager, node agent, zygote, sh and sleep
            wait_until("its processes", lambda: len(processes_of(lab_id.encode())) >= 7, 120)
        finally:
            os.kill(owner.pid, signal.SIGKILL)
    wait_until("their end", lambda: not processes_of(lab_id.encode()) and not Path(folder).exists(), 120)


def test_what_the_api_server_refuses_is_an_error(lab: Lab) -> None:
    """ApiError carries the status."""
    with pytest.raises(ApiError) as refused:
        lab.api.get(f"{PODS}/no-such-pod")
    assert refused.value.status == 404
