"""Status → children. Idempotent: it makes what is missing, puts right what somebody changed, and moves the rest.

Only what the stored status implies is done, so whoever comes after a crash does the same.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

from modeldeployment.api import names
from modeldeployment.api.base import JSON
from modeldeployment.api.modelrevision import ModelRevisionSpec, Stage
from modeldeployment.api.status import ModelDeploymentStatus
from modeldeployment.controller.entry import Entry
from modeldeployment.controller.kube import ApiError, Kube
from modeldeployment.controller.observing import revision_specs
from modeldeployment.controller.resources import (
    DEPLOYMENTS,
    HTTP_ROUTES,
    MODEL_REVISIONS,
    SERVICES,
    Resource,
)
from modeldeployment.controller.store import Store, key_of
from modeldeployment.decision.decide import wanted_weights
from modeldeployment.serving import children
from modeldeployment.serving.desired import pods_wanted
from modeldeployment.serving.drift import differs, edited_by, lacks
from modeldeployment.traffic import gateway

_LOG = logging.getLogger(__name__)
REVISIONS_KEPT = 10
"""Archived and quarantined revisions that stay; older ones are deleted."""

Told = Callable[[str, str], None]


class Effects:
    """Applies what a status implies."""

    def __init__(self, store: Store, kube: Kube) -> None:
        self._store, self._kube = store, kube

    async def apply(self, entry: Entry, conflict: str, tell: Told) -> None:
        """Brings the children of one model to its status. The route first: taking traffic away must not wait.

        Args:
            entry: the model; its status is stored already.
            conflict: why its route may not be written; "" if it may.
            tell: told (reason, note) of what somebody else had changed.

        Raises:
            ApiError: the API server refused something; the rest was still tried.
        """
        for resource in (HTTP_ROUTES, SERVICES, MODEL_REVISIONS):
            entry.made.update((resource, key_of(child)[1]) for child in self._store.children(resource, entry.key))
        specs = revision_specs(entry.key, self._store)
        if entry.content is not None and _has_role(entry.status, entry.target.name):
            specs.setdefault(entry.target.name, entry.content)
        failures = []
        # A conflict keeps a route from being made; one that is there must still be able to take traffic away.
        if entry.status.stable and (not conflict or self._store.get(HTTP_ROUTES, entry.key) is not None):
            failures += await _try(self._route(entry, tell))
        wanted = pods_wanted(entry.spec, entry.status) if entry.spec else {}
        for revision, spec in specs.items():
            failures += await _try(self._revision(entry, revision, spec, wanted, tell))
        failures += await _try(self._prune(entry, wanted))
        if failures:
            raise failures[0]

    async def _route(self, entry: Entry, tell: Told) -> None:
        assert entry.spec is not None  # a status exists only for a spec that parsed
        live = self._store.get(HTTP_ROUTES, entry.key)
        weights = wanted_weights(entry.status)
        body = gateway.render(entry.owner, entry.spec, weights)
        if live is None:
            await self._create(entry, HTTP_ROUTES, body, tell)
            return
        if not differs(body["spec"], live["spec"]) and _parents(body) == _parents(live):
            return
        if who := edited_by(live, "rules"):
            tell("ChildRestored", f"HTTPRoute {entry.key[1]} was edited by {who}: put right")
        self._store.put(HTTP_ROUTES, await self._kube.apply(HTTP_ROUTES, body))

    async def _revision(
        self,
        entry: Entry,
        revision: str,
        spec: ModelRevisionSpec,
        wanted: Mapping[str, int | None],
        tell: Told,
    ) -> None:
        key = (entry.key[0], revision)
        if self._store.get(MODEL_REVISIONS, key) is None and revision in wanted:
            await self._create(entry, MODEL_REVISIONS, children.model_revision(entry.owner, revision, spec), tell)
        if revision in wanted:
            await self._service(entry, revision, spec, tell)
            await self._deployment(entry, revision, spec, wanted[revision], tell)
        else:
            await self._scale(entry, revision, 0)
        await self._stage(entry, revision)

    async def _service(self, entry: Entry, revision: str, spec: ModelRevisionSpec, tell: Told) -> None:
        live = self._store.get(SERVICES, (entry.key[0], revision))
        body = children.service(entry.owner, revision, spec)
        if live is None:
            await self._create(entry, SERVICES, body, tell)
            return
        # A key more in the selector leaves the Service without endpoints, so there nothing may be added.
        selects = live["spec"].get("selector") == body["spec"]["selector"]
        if selects and not differs(body["spec"], live["spec"]):
            return
        who = edited_by(live) or "somebody"
        tell("ChildRestored", f"Service {revision} was edited by {who}: put right")
        change = [{"op": "add", "path": f"/spec/{key}", "value": body["spec"][key]} for key in ("selector", "ports")]
        self._store.put(SERVICES, await self._kube.json_patch(SERVICES, entry.key[0], revision, change))

    async def _deployment(
        self, entry: Entry, revision: str, spec: ModelRevisionSpec, replicas: int | None, tell: Told
    ) -> None:
        live = self._store.get(DEPLOYMENTS, (entry.key[0], revision))
        if live is None:
            count = replicas if replicas is not None else (entry.spec.serving.replicas if entry.spec else 1)
            body = children.deployment(entry.owner, revision, spec, count)
            await self._create(entry, DEPLOYMENTS, body, tell, was_there=_served(entry.status, revision))
            return
        await self._template(entry, revision, spec, live, tell)
        if replicas is not None:
            await self._scale(entry, revision, replicas)

    async def _template(self, entry: Entry, revision: str, spec: ModelRevisionSpec, live: JSON, tell: Told) -> None:
        """Puts right what somebody changed in the pods' template, or took out of it."""
        if entry.as_wanted.get(revision) == live["metadata"]["resourceVersion"]:
            return
        template = children.pod_template(entry.owner, revision, spec)
        who = edited_by(live, "template") or ("somebody" if lacks(template, live["spec"]["template"]) else "")
        if not who:
            return
        change = [{"op": "replace", "path": "/spec/template", "value": template}]
        put = await self._kube.json_patch(DEPLOYMENTS, entry.key[0], revision, change)
        if put["spec"]["template"] != live["spec"]["template"]:
            tell("ChildRestored", f"Deployment {revision} was edited by {who}: put right")
        # Whoever applies the same values owns them too, and the API server may drop some: once is enough.
        entry.as_wanted[revision] = put["metadata"]["resourceVersion"]
        self._store.put(DEPLOYMENTS, put)

    async def _scale(self, entry: Entry, revision: str, replicas: int) -> None:
        """Asks for a number of pods once. Whoever changes it after that (a person, an autoscaler) is left alone."""
        live = self._store.get(DEPLOYMENTS, (entry.key[0], revision))
        if live is None:
            return
        asked = (live["metadata"].get("annotations") or {}).get(names.ANNOTATION_REPLICAS)
        has = live["spec"].get("replicas", 1)
        asleep = has == 0 and replicas > 0
        if not asleep and asked == str(replicas) and (replicas > 0 or has == 0):
            return
        change = {
            "metadata": {"annotations": {names.ANNOTATION_REPLICAS: str(replicas)}},
            "spec": {"replicas": replicas},
        }
        self._store.put(DEPLOYMENTS, await self._kube.merge(DEPLOYMENTS, entry.key[0], revision, change))

    async def _stage(self, entry: Entry, revision: str) -> None:
        live = self._store.get(MODEL_REVISIONS, (entry.key[0], revision))
        if live is None:
            return
        stage = stage_of(entry.status, revision)
        if (live.get("status") or {}).get("stage") == stage:
            return
        status = {**(live.get("status") or {}), "stage": stage.value}
        self._store.put(MODEL_REVISIONS, await self._kube.put_status(MODEL_REVISIONS, live, status))

    async def _prune(self, entry: Entry, wanted: Mapping[str, int | None]) -> None:
        """Deletes the oldest revisions that have no part any more."""
        idle = [
            obj
            for obj in self._store.children(MODEL_REVISIONS, entry.key)
            if obj["metadata"]["name"] not in wanted and obj["metadata"]["name"] != entry.target.name
        ]
        idle.sort(key=lambda obj: str(obj["metadata"]["creationTimestamp"]))
        for obj in idle[: max(0, len(idle) - REVISIONS_KEPT)]:
            name = obj["metadata"]["name"]
            for resource in (DEPLOYMENTS, SERVICES, MODEL_REVISIONS):
                if self._store.get(resource, (entry.key[0], name)) is not None:
                    await self._kube.delete(resource, entry.key[0], name)
                    entry.made.discard((resource, name))
            entry.as_wanted.pop(name, None)

    async def _create(
        self, entry: Entry, resource: Resource, body: JSON, tell: Told, *, was_there: bool = False
    ) -> None:
        """Makes a child. One that was there before was deleted by somebody, and that is told."""
        name = body["metadata"]["name"]
        if was_there or (resource, name) in entry.made:
            tell("ChildRestored", f"{resource.kind} {name} was deleted by somebody: made anew")
        try:
            made = await self._kube.create(resource, body)
        except ApiError as error:
            if error.status != 409:
                raise
            # The watch has not shown it yet; or it is there and is somebody else's.
            made = await self._kube.get(resource, body["metadata"]["namespace"], name)
            if not _ours(made, body):
                raise ApiError(
                    409, "NotOurs", f"{resource.kind} {name} exists and belongs to somebody else: delete or rename it"
                ) from error
        entry.made.add((resource, name))
        self._store.put(resource, made)


def stage_of(status: ModelDeploymentStatus, revision: str) -> Stage:
    """Where a revision is in its life."""
    if status.stable and status.stable.revision == revision:
        return Stage.PRODUCTION
    if status.canary and status.canary.revision == revision:
        return Stage.STAGING
    if any(q.revision == revision for q in status.quarantined):
        return Stage.QUARANTINED
    return Stage.ARCHIVED


def _has_role(status: ModelDeploymentStatus, revision: str) -> bool:
    return _served(status, revision) or (status.canary is not None and status.canary.revision == revision)


def _served(status: ModelDeploymentStatus, revision: str) -> bool:
    roles = (status.stable, status.previous)
    return any(role is not None and role.revision == revision for role in roles)


def _parents(route: JSON) -> list[tuple[str | None, ...]]:
    refs = route["spec"].get("parentRefs") or ()
    return [(ref.get("namespace"), ref["name"], ref.get("sectionName")) for ref in refs]


def _ours(made: JSON, body: JSON) -> bool:
    owner = body["metadata"]["ownerReferences"][0]["uid"]
    return any(o["uid"] == owner for o in made["metadata"].get("ownerReferences", ()))


async def _try(effect: Awaitable[None]) -> list[ApiError]:
    """Runs one effect; what the API server refuses does not keep the others from being tried."""
    try:
        await effect
    except ApiError as error:
        return [error]
    return []
