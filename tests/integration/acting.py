"""One ModelDeployment in a Stand: written as people write it, and seen by others' eyes than the operator's.

Witnesses: the load generator's records (who answered), the HTTPRoute (what the gateway was told, and when), the
Deployments and pods, Prometheus. `Model.state` and the conditions are the operator's own words.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from builders import model_deployment
from lab.load import Load
from lab.process import PATIENCE
from lab.routewatch import ROUTES, RouteWatch, accepted
from stand import Stand

JSON = dict[str, Any]
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
SERVICES = "/api/v1/namespaces/default/services"
PODS = "/api/v1/namespaces/default/pods"
REVISIONS = "/apis/modeldeployment.io/v1alpha1/namespaces/default/modelrevisions"
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"

ERRORS = {"FAULT_ERROR_RATE": "0.2"}
SLOW = {"FAULT_LATENCY_MS": "600"}
ROLLOUT: JSON = {
    "canary": {"traffic": "50%"},
    "analysis": {"interval": "1s"},
    "progressDeadline": "10m",
    "watch": "3s",
}
READY: JSON = {
    "httpGet": {"path": "/healthz", "port": 8080},
    "periodSeconds": 1,
    "timeoutSeconds": 5,
    "failureThreshold": 10,
}
"""Soon ready, and not unready when the machine stands still for some seconds."""
OBJECTIVES = [{"name": "errors", "errorRate": {"max": "5%"}}]


@dataclass
class Model:
    """A ModelDeployment named `name` for `<name>.example.com`, in the namespace `default`."""

    stand: Stand
    name: str
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """Its host name."""
        return f"{self.name}.example.com"

    def manifest(
        self,
        version: str,
        env: Mapping[str, str] | None = None,
        container: JSON | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> JSON:
        """As Git has it: this version, with faults in `env`, and other fields of the container or the spec."""
        model = {
            "name": "model",
            "image": "model-server:1",
            "ports": [{"containerPort": 8080}],
            "readinessProbe": READY,
            "env": [{"name": name, "value": value} for name, value in (env or {}).items()],
        }
        fields = {
            "spec.model": {"version": version},
            "spec.serving.template.spec.containers": [{**model, **(container or {})}],
            "spec.traffic.gateway.parentRefs": [{"name": "public", "namespace": "gateway-system"}],
            "spec.traffic.gateway.hostnames": [self.host],
            "spec.objectives": OBJECTIVES,
            "spec.rollout": ROLLOUT,
        }
        return model_deployment({**fields, **self.overrides, **(overrides or {})}, name=self.name)

    def apply(
        self,
        version: str,
        env: Mapping[str, str] | None = None,
        container: JSON | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        """`kubectl apply` of the manifest."""
        self.stand.apply(self.manifest(version, env, container, overrides))

    def patch(self, spec: JSON) -> None:
        """A merge patch of the spec, as `kubectl patch` makes it."""
        self.stand.lab.kubectl("patch", "md", self.name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def load(self, rate: float = 100, **options: Any) -> Load:
        """A load generator for it, not started."""
        return self.stand.lab.load(self.host, rate, **options)

    def wait(self, what: str, check: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """As `Stand.wait`, and names the model."""
        return self.stand.wait(f"{self.name}: {what}", check, seconds)

    # What the operator says.

    @property
    def status(self) -> JSON:
        """Its status."""
        return self.stand.status(self.name)

    @property
    def state(self) -> str:
        """The column STATE."""
        return self.stand.state(self.name)

    def condition(self, type_: str) -> JSON:
        """One condition; {} if it is not there."""
        return self.stand.condition(self.name, type_)

    def says(self, type_: str, status: str, reason: str) -> bool:
        """Whether a condition is as given."""
        found = self.condition(type_)
        return bool(found and found["status"] == status and found["reason"] == reason)

    def decisions(self) -> list[str]:
        """Effects of the decisions in the status, oldest first."""
        return [decision["effect"] for decision in reversed(self.status.get("decisions", []))]

    def events(self, reason: str = "") -> list[JSON]:
        """Events about it, oldest first."""
        found = [
            event
            for event in self.stand.lab.api.list(EVENTS)
            if event["regarding"].get("name") == self.name and reason in ("", event["reason"])
        ]
        return sorted(found, key=lambda event: str(event["eventTime"]))

    # What others say.

    def versions(self) -> dict[str, str]:
        """ModelRevision → version."""
        found = self.stand.lab.api.list(REVISIONS, labelSelector=f"modeldeployment.io/name={self.name}")
        return {item["metadata"]["name"]: item["spec"]["model"]["version"] for item in found}

    def revision(self, version: str) -> str:
        """Name of the youngest ModelRevision of a version; "" before there is one."""
        found = self.stand.lab.api.list(REVISIONS, labelSelector=f"modeldeployment.io/name={self.name}")
        own = [item["metadata"] for item in found if item["spec"]["model"]["version"] == version]
        own.sort(key=lambda metadata: int(metadata["resourceVersion"]))
        return str(own[-1]["name"]) if own else ""

    def route(self) -> JSON | None:
        """The HTTPRoute."""
        return self.stand.lab.api.find(f"{ROUTES}/{self.name}")

    def weights(self) -> dict[str, int]:
        """Version → weight, once the gateway has accepted the route as it is; {} before."""
        route = self.route()
        if route is None or not accepted(route):
            return {}
        versions = self.versions()
        return {versions.get(r, r): weight for r, weight in weights_of(route).items() if weight}

    def deployment(self, version: str) -> JSON | None:
        """A version's Deployment."""
        revision = self.revision(version)
        return self.stand.lab.api.find(f"{DEPLOYMENTS}/{revision}") if revision else None

    def replicas(self, version: str) -> int:
        """Pods that a version's Deployment asks for; -1 without one."""
        found = self.deployment(version)
        return -1 if found is None else int(found["spec"]["replicas"])

    def pods(self, version: str) -> list[JSON]:
        """Pods of a version that are not on their way out."""
        selector = f"modeldeployment.io/revision={self.revision(version)}"
        found = self.stand.lab.api.list(PODS, labelSelector=selector)
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def ready(self, version: str) -> int:
        """Ready pods of a version."""
        return sum(
            condition["type"] == "Ready" and condition["status"] == "True"
            for pod in self.pods(version)
            for condition in pod.get("status", {}).get("conditions", ())
        )

    def wait_says(self, type_: str, status: str, reason: str, seconds: float = PATIENCE) -> None:
        """Until a condition is as given."""
        self.wait(f"{type_} {status}, {reason}", lambda: self.says(type_, status, reason), seconds)

    # Where scenes begin.

    def wait_serving(self, version: str) -> None:
        """Until the gateway sends this version everything, and nothing else goes on."""
        self.wait(f"{version} to serve", lambda: self.weights() == {version: 100})
        self.wait(f"{version} at rest", lambda: self.state == "RolloutComplete")

    def wait_canary(self, version: str, weight: int = 50) -> None:
        """Until the gateway sends this version its share."""
        self.wait(f"{version} to get {weight}%", lambda: self.weights().get(version) == weight)


def weights_of(route: JSON) -> dict[str, int]:
    """Revision → weight, as the route asks for it."""
    return {backend["name"]: backend["weight"] for backend in route["spec"]["rules"][0]["backendRefs"]}


@dataclass(frozen=True)
class Change:
    """The weights that a route was given, when it was seen to ask for them, and when the gateway was seen to have
    accepted them (wall clock here, unix seconds; infinite before it did)."""

    time: float
    weights: dict[str, int]
    accepted: float = math.inf


class RouteHistory:
    """Every change of a route's weights, seen by a watch of its own."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._changes: list[Change] = []
        self._versions: dict[str, str] = {}
        self._watch = RouteWatch(model.stand.lab.control_plane, model.name, self._see)

    def wait(self) -> None:
        """Waits for the first look at a route that is there."""
        self._model.wait("its route to be watched", lambda: self.changes() or self._model.route() is None)

    def start(self) -> RouteHistory:
        """Begins with the weights there are."""
        self._watch.start()
        return self

    def stop(self) -> None:
        """Ends the watch."""
        self._watch.stop()

    def changes(self) -> list[Change]:
        """What was seen so far, the first being the weights at the start; revisions as versions."""
        self._versions.update(self._model.versions())
        named = self._versions
        return [replace(c, weights={named.get(r, r): w for r, w in c.weights.items()}) for c in [*self._changes]]

    def of(self, version: str) -> list[int]:
        """The weights of one version, one after the other, without repeats."""
        out: list[int] = []
        for change in self.changes():
            weight = change.weights.get(version, 0)
            if not out or out[-1] != weight:
                out.append(weight)
        return out

    def arrived(self, version: str, weight: int) -> float:
        """Since when the gateway gives a version the weight that it has now; waits for that (unix seconds)."""

        def since() -> float:
            changes = self.changes()
            other = max((n for n, c in enumerate(changes) if c.weights.get(version, 0) != weight), default=-1)
            # Of changes with the same weight the first may have been overtaken before the gateway saw it.
            return min((c.accepted for c in changes[other + 1 :]), default=math.inf)

        self._model.wait(f"{version} to have {weight} % at the gateway", lambda: since() < math.inf)
        return since()

    def _see(self, route: JSON) -> None:
        weights = weights_of(route)
        if not self._changes or self._changes[-1].weights != weights:
            self._changes.append(Change(time.time(), weights))
        if accepted(route) and self._changes[-1].accepted == math.inf:
            self._changes[-1] = replace(self._changes[-1], accepted=time.time())


@contextmanager
def watching(*models: Model) -> Iterator[list[RouteHistory]]:
    """Route histories of these models, while the block runs."""
    histories = [RouteHistory(model).start() for model in models]
    try:
        for history in histories:
            history.wait()
        yield histories
    finally:
        for history in histories:
            history.stop()


def serve_first(models: Sequence[Model], version: str = "1") -> None:
    """Brings first versions up, all at once."""
    models[0].stand.apply(*(model.manifest(version) for model in models))
    for model in models:
        model.wait_serving(version)
