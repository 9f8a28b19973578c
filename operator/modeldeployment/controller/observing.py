"""The store → the `View` that a decision looks at, and what the evidence should be gathered for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

import pydantic

from modeldeployment.api import names
from modeldeployment.api.base import JSON
from modeldeployment.api.modelrevision import ModelRevisionSpec
from modeldeployment.api.objectives import Objective
from modeldeployment.api.quantities import seconds
from modeldeployment.api.serving import MODEL_CONTAINER, Metrics, Serving
from modeldeployment.controller.entry import Entry
from modeldeployment.controller.resources import (
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    GATEWAYS,
    HTTP_ROUTES,
    MODEL_REVISIONS,
    PODS,
)
from modeldeployment.controller.store import Key, Store
from modeldeployment.decision.evidence import DataState, Evidence, Workload
from modeldeployment.decision.view import View
from modeldeployment.metrics import Watched
from modeldeployment.metrics.wanted import watched
from modeldeployment.serving.pods import workload
from modeldeployment.traffic import gateway

NOT_LOOKED = Evidence(DataState.NO_DATA, "not looked at yet", datetime.fromtimestamp(0).astimezone())


def view_of(
    entry: Entry, store: Store, now: datetime, *, conflict: str, defaults: tuple[Objective, ...], trouble: str
) -> View:
    """One model as it stands. `trouble` says why there is no Prometheus, if so."""
    assert entry.spec is not None  # the fleet asks for no view of what does not parse
    namespace, name = entry.key
    route = gateway.observe(
        namespace,
        entry.spec,
        store.get(HTTP_ROUTES, (namespace, name)),
        entry.weights,
        lambda where, which: store.get(GATEWAYS, (where, which)) is not None,
    )
    evidence = entry.evidence or NOT_LOOKED
    told = f"{evidence.message}; {entry.dialect.message}" if entry.dialect else evidence.message
    evidence = replace(evidence, message=told, intervals=entry.unused, history=entry.history)
    if trouble:
        evidence = replace(evidence, state=DataState.NO_PROMETHEUS, message=trouble, reason="")
    return View(
        spec=entry.spec,
        generation=entry.obj["metadata"]["generation"],
        target=entry.target,
        status=entry.status,
        workloads=workloads(entry.key, store),
        route=route,
        evidence=evidence,
        now=now,
        conflict=conflict,
        refusal=entry.refusal,
        default_objectives=defaults,
        dialect=entry.dialect,
        by_pod=entry.by_pod,
    )


def workloads(key: Key, store: Store) -> dict[str, Workload]:
    """Revision → its pods, for every revision that has a Deployment or pods."""
    pods: dict[str, list[JSON]] = {}
    for pod in store.children(PODS, key):
        pods.setdefault(pod["metadata"]["labels"].get(names.LABEL_REVISION, ""), []).append(pod)
    deployments = {d["metadata"]["name"]: d for d in store.children(DEPLOYMENTS, key)}
    endpoints = _endpoints(key, store)
    seen = {r: workload(deployments.get(r), pods.get(r, ())) for r in deployments.keys() | pods.keys()}
    # A pod that is Ready and not yet an endpoint would get its share of the traffic as 503s.
    return {r: replace(work, ready=min(work.ready, endpoints.get(r, 0))) for r, work in seen.items()}


def _endpoints(key: Key, store: Store) -> dict[str, int]:
    """Revision → endpoints of its Service that are ready."""
    ready: dict[str, int] = {}
    for piece in store.children(ENDPOINT_SLICES, key):
        revision = piece["metadata"]["labels"].get(names.LABEL_REVISION, "")
        count = sum(e.get("conditions", {}).get("ready") is True for e in piece.get("endpoints") or ())
        ready[revision] = ready.get(revision, 0) + count
    return ready


def watched_of(entry: Entry, store: Store, defaults: tuple[Objective, ...], steady: float) -> Watched:
    """What the evidence of a model is gathered for; its metrics are as asked for, and may name no counters yet."""
    spec, status, key = entry.spec, entry.status, entry.key
    assert spec is not None  # as above
    created, started = _pod_times(key, store)
    return watched(
        key,
        spec,
        status,
        defaults,
        metrics=_metrics(entry, store, status.stable.revision if status.stable else ""),
        remembered=bool(entry.memory.states),
        interval=interval_of(entry, steady),
        pods=created,
        started=started,
        ports={pod["metadata"]["name"]: _model_ports(pod, spec.serving) for pod in store.children(PODS, key)},
    )


def interval_of(entry: Entry, steady: float) -> float:
    """How often (s) a model is looked at: as its analysis says while something is on trial or drains."""
    status = entry.status
    busy = status.rollout or status.draining or status.canary
    return seconds(entry.spec.rollout.analysis.interval) if busy and entry.spec else steady


def _metrics(entry: Entry, store: Store, serving: str) -> Metrics:
    """How the metrics are read: as the revision that serves says, so that a new dialect cannot blind the old pods."""
    assert entry.spec is not None  # as above
    obj = store.get(MODEL_REVISIONS, (entry.key[0], serving)) if serving else None
    try:
        return store.parsed(MODEL_REVISIONS, obj, ModelRevisionSpec.model_validate).metrics if obj else _asked(entry)
    except pydantic.ValidationError:  # a revision that a newer version made
        return _asked(entry)


def _asked(entry: Entry) -> Metrics:
    assert entry.spec is not None  # as above
    return entry.spec.serving.metrics


def _model_ports(pod: JSON, serving: Serving) -> frozenset[int]:
    """Ports on which the container model listens; none where it is alone in its pod, and all ports are its own."""
    spec = pod["spec"]
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    others = [c for c in (*spec["containers"], *sidecars) if c["name"] != MODEL_CONTAINER]
    if not others:
        return frozenset()
    theirs = _declared(others)
    own = {serving.port, *_declared(c for c in spec["containers"] if c["name"] == MODEL_CONTAINER)}
    return frozenset(own | ({serving.metrics.port or serving.port} - theirs))


def _declared(containers: Iterable[JSON]) -> set[int]:
    return {port["containerPort"] for container in containers for port in container.get("ports") or ()}


def _pod_times(key: Key, store: Store) -> tuple[dict[str, datetime], dict[str, datetime]]:
    """Pod → when it was created, and when its container `model` last started."""
    created, started = {}, {}
    for pod in store.children(PODS, key):
        name = pod["metadata"]["name"]
        created[name] = _time(pod["metadata"]["creationTimestamp"])
        for container in pod.get("status", {}).get("containerStatuses") or ():
            running = container.get("state", {}).get("running")
            if container["name"] == MODEL_CONTAINER and running and running.get("startedAt"):
                started[name] = _time(running["startedAt"])
    return created, started


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def conflicts(entries: Iterable[Entry]) -> dict[Key, str]:
    """ModelDeployments that claim what an older one has: key → why it gets no route."""
    by_age = sorted(
        (e for e in entries if e.spec is not None),
        key=lambda e: (e.obj["metadata"]["creationTimestamp"], e.key),
    )
    taken: dict[str, Key] = {}
    refused: dict[Key, str] = {}
    for entry in by_age:
        assert entry.spec is not None  # filtered above
        for claim in sorted(gateway.claims(entry.key[0], entry.spec)):
            holder = taken.setdefault(claim, entry.key)
            if holder != entry.key:
                refused[entry.key] = (
                    f"{claim} belongs to ModelDeployment {holder[0]}/{holder[1]}, which is older: change "
                    f"traffic.gateway.hostnames or pathPrefix"
                )
    return refused
