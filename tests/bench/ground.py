"""What a fleet stands on in the lab: namespaces, its ModelDeployments, and Prometheus' job for their pods."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lab import gatewayapi
from stand import Stand

JSON = dict[str, Any]
Key = tuple[str, str]
NAMESPACES = 10
EXPORTER_PORT = 9200
RATE = 5.0
"""Requests a second of each model."""
CANARY_PERCENT = 10
ACCOUNT, ACCOUNT_NAMESPACE = "bench-operator", "modeldeployment-system"
FLOW_SCHEMA = "bench-operator"
_API = "/apis/modeldeployment.io/v1alpha1"
_META = "__meta_kubernetes_pod"


def keys(kind: str, first: int, end: int) -> Iterator[Key]:
    """Namespace and name of the models `first` up to `end` of a kind: idle or busy."""
    for number in range(first, end):
        yield f"team-{number % NAMESPACES}", f"{kind}-{number:04d}"


def model(key: Key, gateway: JSON, version: str, rate: float) -> JSON:
    """A model as a careful user writes it; its canary stays where it is, as a step of hours does."""
    annotations = {"lab/objects-only": "true", "bench/rate": f"{rate:g}"}
    container = {"name": "model", "image": "model-server", "ports": [{"containerPort": 8080}]}
    return {
        "apiVersion": "modeldeployment.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"namespace": key[0], "name": key[1]},
        "spec": {
            "model": {"version": version, "uri": f"s3://models/{key[1]}/{version}"},
            "serving": {"template": {"metadata": {"annotations": annotations}, "spec": {"containers": [container]}}},
            "traffic": {"gateway": {"parentRefs": [gateway], "hostnames": [f"{key[1]}.{key[0]}.example.com"]}},
            "objectives": [
                {"name": "errors", "errorRate": {"max": "1%"}},
                {"name": "latency", "latency": {"quantile": 0.99, "max": "800ms"}},
            ],
            "rollout": {
                "canary": {
                    "steps": [
                        {"traffic": f"{CANARY_PERCENT}%", "duration": "6h"},
                        {"traffic": "50%", "duration": "6h"},
                    ]
                },
                "deadline": "24h",
                "rollbackOn": {"errorRate": ">1%", "p99LatencyMs": ">800"},
            },
        },
    }


class Ground:
    """A stand, made ready for a fleet."""

    def __init__(self, stand: Stand, *, seed: int, scrape_interval: str) -> None:
        self._stand, self._seed, self._scrape_interval = stand, seed, scrape_interval
        self._gateway = {"name": stand.lab.gateway_name, "namespace": stand.lab.gateway_namespace}

    def prepare(self) -> Path:
        """Makes namespaces, exporter, Prometheus' job and the operator's account; returns the account's kubeconfig."""
        lab = self._stand.lab
        for number in range(NAMESPACES):
            self._create("/api/v1/namespaces", {"metadata": {"name": f"team-{number}"}})
        # Pods are refused before their namespace has its ServiceAccount.
        for number in range(NAMESPACES):
            path = f"/api/v1/namespaces/team-{number}/serviceaccounts/default"
            lab.wait_until(f"the ServiceAccount of team-{number}", lambda path=path: lab.api.find(path) is not None)  # type: ignore[misc]
        command = [sys.executable, "-m", "bench.exporter", lab.host, str(EXPORTER_PORT), str(self._seed)]
        lab.process("exporter", command).start()
        self._router()
        lab.prometheus.config["scrape_configs"].append(self._job())
        lab.prometheus.reload()
        return self._account()

    def _router(self) -> None:
        """The Gateway, and who answers for it."""
        lab = self._stand.lab
        gatewayapi.install_crds(lab.api)
        lab.wait_until("the Gateway API's CRDs", lambda: gatewayapi.established(lab.api))
        gatewayapi.create_gateway(lab.api)
        kubeconfig = lab.control_plane.kubeconfig("lab-gateway", lab.control_plane.tokens["lab-gateway"])
        settings = {"kubeconfig": str(kubeconfig), "folder": str(lab.folder), "host": lab.host}
        path = lab.folder / "gateway.json"
        path.write_text(json.dumps(settings))
        lab.process("gateway", [sys.executable, "-m", "bench.router", path]).start()
        lab.wait_until("the Gateway", lambda: gatewayapi.programmed(lab.api))

    def _job(self) -> JSON:
        """Finds object-only pods as any pods, by the Kubernetes API, and scrapes each at the exporter."""

        def take(source: str, target: str) -> JSON:
            return {"source_labels": [source], "target_label": target}

        job: JSON = next(j for j in self._stand.lab.prometheus.config["scrape_configs"] if "kubernetes_sd_configs" in j)
        return {
            "job_name": "bench-pods",
            "scrape_interval": self._scrape_interval,
            "scrape_timeout": "5s",
            "kubernetes_sd_configs": job["kubernetes_sd_configs"],
            "relabel_configs": [
                {"source_labels": [f"{_META}_annotation_lab_objects_only"], "regex": "true", "action": "keep"},
                {"source_labels": [f"{_META}_phase"], "regex": "Running", "action": "keep"},
                take(f"{_META}_name", "pod"),
                take("__meta_kubernetes_namespace", "namespace"),
                take(f"{_META}_name", "__param_pod"),
                take("__meta_kubernetes_namespace", "__param_namespace"),
                take(f"{_META}_label_modeldeployment_io_version", "__param_version"),
                take(f"{_META}_annotation_bench_rate", "__param_rate"),
                {**take(f"{_META}_ip", "instance"), "replacement": "$1:8080"},
                {"target_label": "__address__", "replacement": f"{self._stand.lab.host}:{EXPORTER_PORT}"},
            ],
        }

    def _account(self) -> Path:
        """A ServiceAccount with a FlowSchema of its own: the API server then counts its requests, watches and all."""
        account = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": ACCOUNT_NAMESPACE}
        self._create(f"/api/v1/namespaces/{ACCOUNT_NAMESPACE}/serviceaccounts", {"metadata": {"name": ACCOUNT}})
        binding = {
            "metadata": {"name": ACCOUNT},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [account],
        }
        self._create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
        who = {"name": ACCOUNT, "namespace": ACCOUNT_NAMESPACE}
        any_resource = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}
        rules = {
            "subjects": [{"kind": "ServiceAccount", "serviceAccount": who}],
            "resourceRules": [{**any_resource, "clusterScope": True}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }
        schema = {
            "metadata": {"name": FLOW_SCHEMA},
            "spec": {
                "matchingPrecedence": 100,
                "priorityLevelConfiguration": {"name": "workload-high"},
                "distinguisherMethod": {"type": "ByUser"},
                "rules": [rules],
            },
        }
        self._create("/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas", schema)
        return self._stand.lab.kubeconfig_for(ACCOUNT, ACCOUNT_NAMESPACE, seconds=7200)

    def create(self, these: Iterable[Key], version: str = "1.0.0") -> None:
        """Makes ModelDeployments, eight at a time."""

        def one(key: Key) -> None:
            body = model(key, self._gateway, version, RATE)
            self._create(f"{_API}/namespaces/{key[0]}/modeldeployments", body)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(one, these))

    def roll_out(self, these: Iterable[Key], version: str) -> None:
        """Asks for another version, whose pods will see a canary's share of the requests."""
        for key in these:
            body = model(key, self._gateway, version, RATE * CANARY_PERCENT / 100)
            self._stand.lab.api.patch(f"{_API}/namespaces/{key[0]}/modeldeployments/{key[1]}", {"spec": body["spec"]})

    def look_every(self, interval: str) -> None:
        """Sets the policy's steadyInterval."""
        self._stand.lab.api.patch(f"{_API}/modelpolicies/default", {"spec": {"steadyInterval": interval}})

    def table(self) -> Mapping[Key, JSON]:
        """What `kubectl get modeldeployments -A` shows: column → cell, without the objects themselves."""
        accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
        query = {"includeObject": "Metadata"}
        table = self._stand.lab.api.request("GET", f"{_API}/modeldeployments", headers=accept, params=query)
        columns = [column["name"].upper() for column in table["columnDefinitions"]]
        return {
            (row["object"]["metadata"]["namespace"], row["object"]["metadata"]["name"]): dict(
                zip(columns, row["cells"], strict=True)
            )
            for row in table["rows"]
        }

    def _create(self, path: str, body: JSON) -> None:
        self._stand.lab.api.create(path, body)
