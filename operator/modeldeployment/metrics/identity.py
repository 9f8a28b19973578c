"""Series → whose they are: by pod, by Istio's destination workload, by the backend of an Envoy or ingress-nginx.

A revision's Deployment and Service have its name, and its pods are called `<revision>-<hash of the ReplicaSet>-<5
characters>`: so a pod that is gone is still told, which a look-up among living pods could not do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from modeldeployment.api.serving import SeriesIdentity
from modeldeployment.metrics.answer import Labels
from modeldeployment.metrics.watched import ModelKey, Watched

Endpoint = tuple[str, str, str]
"""What was scraped: pod, instance and job. Counters of two endpoints are never mixed: each restarts on its own."""

Owner = tuple[ModelKey, str]
"""A model and one of its revisions."""

ENDPOINT_LABELS: Final = ("namespace", "pod", "instance", "job")
LABELS: Final = {
    SeriesIdentity.POD: ENDPOINT_LABELS,
    SeriesIdentity.WORKLOAD: (
        "destination_workload_namespace",
        "destination_workload",
        *ENDPOINT_LABELS,
    ),
    SeriesIdentity.CLUSTER: ("envoy_cluster_name", *ENDPOINT_LABELS),
    SeriesIdentity.INGRESS: ("exported_namespace", "exported_service", "service", "canary", *ENDPOINT_LABELS),
}
"""Labels that a sum keeps, by identity."""

_HASH_MAX: Final = 10
_SUFFIX: Final = 5
_SLASHED = re.compile(r"([a-z0-9.-]+)/([a-z0-9.-]+)(?:/\d+(?:/[0-9a-f]*)?)?")
_OUTBOUND = re.compile(r"outbound\|\d+\|[^|]*\|([a-z0-9-]+)\.([a-z0-9-]+)\.svc\..*")


def endpoint_of(labels: Labels) -> Endpoint:
    """What a series was scraped from."""
    return labels.get("pod", ""), labels.get("instance", ""), labels.get("job", "")


def pod_of(endpoint: Endpoint) -> str:
    """What a person calls it: the pod, else the address."""
    return endpoint[0] or endpoint[1]


def service_of_cluster(name: str) -> tuple[str, str] | None:
    """Namespace and Service of an Envoy cluster; None where its name does not say."""
    if match := _OUTBOUND.fullmatch(name):
        return match[2], match[1]
    if match := _SLASHED.fullmatch(name):
        return match[1], match[2]
    return None


def service_of_ingress(labels: Labels) -> tuple[str, str]:
    """Namespace and Service that ingress-nginx sent a request to.

    Prometheus keeps the labels `namespace` and `service` as `exported_...` where the scrape has its own. A request that
    a canary Ingress diverted has the stable Service there, and `<namespace>-<service>-<port>` in `canary`.
    """
    namespace = labels.get("exported_namespace") or labels.get("namespace", "")
    service = labels.get("exported_service") or labels.get("service", "")
    canary = labels.get("canary", "")
    if canary in ("", "-"):
        return namespace, service
    return namespace, canary.removeprefix(f"{namespace}-").rpartition("-")[0]


class Owners:
    """Which watched model, and which revision of it, a series speaks about."""

    def __init__(self, models: Iterable[Watched]) -> None:
        self._revisions: dict[tuple[str, str], Owner] = {}
        self._odd_pods: dict[tuple[str, str], Owner] = {}
        for model in models:
            namespace = model.key[0]
            for revision in model.revisions:
                self._revisions[namespace, revision] = (model.key, revision)
            for pod in model.pods:
                if self._by_name(namespace, pod) is None:
                    mine = [r for r in model.revisions if pod.startswith(f"{r}-")]
                    if mine:
                        self._odd_pods[namespace, pod] = (model.key, max(mine, key=len))

    def of_pod(self, namespace: str, pod: str) -> Owner | None:
        """The owner of a pod, whether it lives or not."""
        return self._by_name(namespace, pod) or self._odd_pods.get((namespace, pod))

    def of(self, identity: SeriesIdentity, labels: Labels) -> Owner | None:
        """The owner of a series."""
        match identity:
            case SeriesIdentity.POD:
                return self.of_pod(labels.get("namespace", ""), labels.get("pod", ""))
            case SeriesIdentity.WORKLOAD:
                workload = labels.get("destination_workload", "")
                return self._revisions.get((labels.get("destination_workload_namespace", ""), workload))
            case SeriesIdentity.CLUSTER:
                service = service_of_cluster(labels.get("envoy_cluster_name", ""))
                return self._revisions.get(service) if service else None
            case SeriesIdentity.INGRESS:
                return self._revisions.get(service_of_ingress(labels))

    def _by_name(self, namespace: str, pod: str) -> Owner | None:
        parts = pod.rsplit("-", 2)
        if len(parts) != 3 or len(parts[2]) != _SUFFIX or not 0 < len(parts[1]) <= _HASH_MAX:
            return None
        return self._revisions.get((namespace, parts[0]))
