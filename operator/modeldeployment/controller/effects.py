"""Status → children. Idempotent: it makes what is missing, puts right what somebody changed, and moves the rest.

Only what the stored status implies is done, so whoever comes after a crash does the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import pydantic

from modeldeployment.api import names
from modeldeployment.api.base import JSON
from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.api.modelrevision import ModelRevisionSpec, Stage
from modeldeployment.api.status import ModelDeploymentStatus
from modeldeployment.controller.entry import Entry
from modeldeployment.controller.kube import ApiError, Kube
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
from modeldeployment.serving.drift import differs, edited_by, labelled_by, lacks
from modeldeployment.traffic import gateway

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
        spec = entry.spec
        if spec is None:
            return  # of what does not parse nothing is known to be too much
        for resource in (HTTP_ROUTES, SERVICES, MODEL_REVISIONS):
            entry.made.update((resource, key_of(child)[1]) for child in self._own(entry, resource))
        failures = []
        if entry.status.stable:
            failures += await _try(self._route(entry, spec, conflict, tell))
        wanted = pods_wanted(spec, entry.status)
        contents, unread = self._read(entry, wanted)
        for revision, content in contents.items():
            failures += await _try(self._revision(entry, revision, content, wanted, tell))
        failures += await _try(self._prune(entry, wanted))
        failures += unread
        if failures:
            raise failures[0]

    def _read(
        self, entry: Entry, wanted: Mapping[str, int | None]
    ) -> tuple[dict[str, ModelRevisionSpec | None], list[ApiError]]:
        """Every revision that is there or has a part → what it serves; None where nobody can tell.

        One that cannot be read (a newer operator made it) stops no other; where it has a part, that is a failure.
        """
        contents: dict[str, ModelRevisionSpec | None] = {}
        unread = []
        known = entry.contents
        if entry.content is not None and entry.target.name in wanted:
            known = {**known, entry.target.name: entry.content}
        for obj in self._own(entry, MODEL_REVISIONS):
            name = key_of(obj)[1]
            try:
                contents[name] = self._store.parsed(MODEL_REVISIONS, obj, ModelRevisionSpec.model_validate)
            except pydantic.ValidationError as error:
                contents[name] = known.get(name)
                if name in wanted and name not in known:
                    unread.append(_unreadable(name, error))
        contents |= {name: known.get(name) for name in wanted if name not in contents}
        entry.contents = {name: content for name in wanted if (content := contents[name]) is not None}
        return contents, unread

    async def _route(self, entry: Entry, spec: ModelDeploymentSpec, conflict: str, tell: Told) -> None:
        """The route. A conflict keeps it from being made; one that is there must still be able to move shares."""
        name = entry.key[1]
        live = self._live(entry, HTTP_ROUTES, name)
        body = gateway.render(entry.owner, spec, wanted_weights(entry.status))
        if live is None:
            if not conflict:
                await self._create(entry, HTTP_ROUTES, body, tell)
            return
        if conflict:
            body = gateway.shares_only(body, live)
        change = children.mended(live, entry.owner, body["metadata"]["labels"])
        lacks_something = differs(body["spec"], live["spec"]) or _parents(body) != _parents(live)
        as_wanted = gateway.same(body, live) or entry.as_wanted.get(name) == live["metadata"]["resourceVersion"]
        if as_wanted and not lacks_something and change is None:
            return
        put = await self._kube.apply(HTTP_ROUTES, body)
        who = next((who for part in ("rules", "hostnames", "parentRefs") if (who := edited_by(live, part))), "")
        if change is not None or (who and put["spec"] != live["spec"]):
            _tell_restored(tell, HTTP_ROUTES, live, change or {}, who)
        # What is still there is the API server's own, by a default that we do not know: once is enough.
        entry.as_wanted[name] = put["metadata"]["resourceVersion"]
        self._store.put(HTTP_ROUTES, put)

    async def _revision(
        self,
        entry: Entry,
        revision: str,
        spec: ModelRevisionSpec | None,
        wanted: Mapping[str, int | None],
        tell: Told,
    ) -> None:
        if spec is None or revision not in wanted:
            await self._idle(entry, revision, spec, wanted.get(revision, 0), tell)
        else:
            body = children.model_revision(entry.owner, revision, spec)
            live = self._live(entry, MODEL_REVISIONS, revision)
            if live is None:
                await self._create(entry, MODEL_REVISIONS, body, tell)
            else:
                await self._mended(entry, MODEL_REVISIONS, live, body["metadata"]["labels"], tell)
            await self._service(entry, revision, spec, tell)
            await self._deployment(entry, revision, spec, wanted[revision], tell)
        await self._stage(entry, revision)

    async def _idle(
        self, entry: Entry, revision: str, spec: ModelRevisionSpec | None, replicas: int | None, tell: Told
    ) -> None:
        """A revision without a part, or one of which only the name is known: nothing is made."""
        labels = children.labels(entry.owner, revision, spec.model.version if spec else None)
        for resource in (MODEL_REVISIONS, SERVICES, DEPLOYMENTS):
            live = self._mine(entry, resource, revision)
            if live is not None:
                await self._mended(entry, resource, live, labels, tell)
        if replicas is not None:
            await self._scale(entry, revision, replicas)

    async def _mended(
        self, entry: Entry, resource: Resource, live: JSON, labels: Mapping[str, str], tell: Told
    ) -> JSON | None:
        """The child with its labels and its owner, without which it is found by nobody; None if it is gone."""
        change = children.mended(live, entry.owner, labels)
        if change is None:
            return live
        name = live["metadata"]["name"]
        put = await self._put(resource, live, self._kube.merge(resource, entry.key[0], name, {"metadata": change}))
        if put is not None:
            _tell_restored(tell, resource, live, change, "")
        return put

    async def _service(self, entry: Entry, revision: str, spec: ModelRevisionSpec, tell: Told) -> None:
        live = self._live(entry, SERVICES, revision)
        body = children.service(entry.owner, revision, spec)
        if live is None:
            await self._create(entry, SERVICES, body, tell)
            return
        live = await self._mended(entry, SERVICES, live, body["metadata"]["labels"], tell)
        if live is None:
            return
        # A key more in the selector leaves the Service without endpoints, so there nothing may be added.
        selects = live["spec"].get("selector") == body["spec"]["selector"]
        if selects and not differs(body["spec"], live["spec"]):
            return
        change = [{"op": "add", "path": f"/spec/{key}", "value": body["spec"][key]} for key in ("selector", "ports")]
        if await self._put(SERVICES, live, self._kube.json_patch(SERVICES, entry.key[0], revision, change)):
            _tell_restored(tell, SERVICES, live, {}, edited_by(live))

    async def _deployment(
        self, entry: Entry, revision: str, spec: ModelRevisionSpec, replicas: int | None, tell: Told
    ) -> None:
        live = self._live(entry, DEPLOYMENTS, revision)
        if live is None:
            count = replicas if replicas is not None else (entry.spec.serving.replicas if entry.spec else 1)
            body = children.deployment(entry.owner, revision, spec, count)
            await self._create(entry, DEPLOYMENTS, body, tell, was_there=_served(entry.status, revision))
            return
        labels = children.labels(entry.owner, revision, spec.model.version)
        live = await self._mended(entry, DEPLOYMENTS, live, labels, tell)
        if live is None:
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
        put = await self._put(DEPLOYMENTS, live, self._kube.json_patch(DEPLOYMENTS, entry.key[0], revision, change))
        if put is None:
            return
        if put["spec"]["template"] != live["spec"]["template"]:
            _tell_restored(tell, DEPLOYMENTS, live, {}, who)
        # Whoever applies the same values owns them too, and the API server may drop some: once is enough.
        entry.as_wanted[revision] = put["metadata"]["resourceVersion"]

    async def _scale(self, entry: Entry, revision: str, replicas: int) -> None:
        """Asks for a number of pods once. Whoever changes it after that (a person, an autoscaler) is left alone."""
        live = self._mine(entry, DEPLOYMENTS, revision)
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
        await self._put(DEPLOYMENTS, live, self._kube.merge(DEPLOYMENTS, entry.key[0], revision, change))

    async def _stage(self, entry: Entry, revision: str) -> None:
        live = self._mine(entry, MODEL_REVISIONS, revision)
        if live is None:
            return
        stage = stage_of(entry.status, revision)
        if (live.get("status") or {}).get("stage") == stage:
            return
        status = {**(live.get("status") or {}), "stage": stage.value}
        await self._put(MODEL_REVISIONS, live, self._kube.put_status(MODEL_REVISIONS, live, status))

    async def _prune(self, entry: Entry, wanted: Mapping[str, int | None]) -> None:
        """Deletes the oldest revisions that have no part any more, and what was left of others."""
        kept = {*wanted, entry.target.name}
        idle = [obj for obj in self._own(entry, MODEL_REVISIONS) if obj["metadata"]["name"] not in kept]
        idle.sort(key=_age)
        old = [obj["metadata"]["name"] for obj in idle[: max(0, len(idle) - REVISIONS_KEPT)]]
        left = {
            name
            for resource in (DEPLOYMENTS, SERVICES)
            for obj in self._own(entry, resource)
            if (name := obj["metadata"]["name"]) not in kept
            and self._store.get(MODEL_REVISIONS, (entry.key[0], name)) is None
        }
        for name in (*old, *sorted(left)):
            for resource in (DEPLOYMENTS, SERVICES, MODEL_REVISIONS):
                live = self._mine(entry, resource, name)
                if live is not None:
                    await self._kube.delete(resource, entry.key[0], name)
                    entry.made.discard((resource, name))
                    self._store.remove(resource, live)
            entry.as_wanted.pop(name, None)

    async def _create(
        self, entry: Entry, resource: Resource, body: JSON, tell: Told, *, was_there: bool = False
    ) -> None:
        """Makes a child. One that was there before was deleted by somebody, and that is told."""
        name = body["metadata"]["name"]
        try:
            made = await self._kube.create(resource, body)
        except ApiError as error:
            if error.status != 409:
                raise
            # The watch has not shown it yet, or has lost it with its label; or it is somebody else's.
            made = await self._kube.get(resource, body["metadata"]["namespace"], name)
            if not children.is_ours(made, entry.owner):
                raise _not_ours(entry, resource, made) from error
            self._store.put(resource, made)
            await self._mended(entry, resource, made, body["metadata"]["labels"], tell)
        else:
            self._store.put(resource, made)
            if was_there or (resource, name) in entry.made:
                tell("ChildRestored", f"{resource.kind} {name} was deleted by somebody: made anew")
        entry.made.add((resource, name))

    async def _put(self, resource: Resource, live: JSON, write: Awaitable[JSON]) -> JSON | None:
        """What a write to a child answered, in the store. None: it is gone, unseen; its model is marked for that."""
        try:
            put = await write
        except ApiError as error:
            if error.status != 404:
                raise
            self._store.remove(resource, live)
            return None
        self._store.put(resource, put)
        return put

    def _own(self, entry: Entry, resource: Resource) -> list[JSON]:
        """The model's children of a kind, without those that only have its labels."""
        return [obj for obj in self._store.children(resource, entry.key) if children.is_ours(obj, entry.owner)]

    def _mine(self, entry: Entry, resource: Resource, name: str) -> JSON | None:
        """A child, if it is there and the model's."""
        live = self._store.get(resource, (entry.key[0], name))
        return live if live is not None and children.is_ours(live, entry.owner) else None

    def _live(self, entry: Entry, resource: Resource, name: str) -> JSON | None:
        """A child that must be the model's, if it is there. Raises ApiError where somebody else has its name."""
        live = self._store.get(resource, (entry.key[0], name))
        if live is not None and not children.is_ours(live, entry.owner):
            raise _not_ours(entry, resource, live)
        return live


def stage_of(status: ModelDeploymentStatus, revision: str) -> Stage:
    """Where a revision is in its life."""
    if status.stable and status.stable.revision == revision:
        return Stage.PRODUCTION
    if status.canary and status.canary.revision == revision:
        return Stage.STAGING
    if any(q.revision == revision for q in status.quarantined):
        return Stage.QUARANTINED
    return Stage.ARCHIVED


def _served(status: ModelDeploymentStatus, revision: str) -> bool:
    roles = (status.stable, status.previous)
    return any(role is not None and role.revision == revision for role in roles)


def _parents(route: JSON) -> list[tuple[str | None, ...]]:
    refs = route["spec"].get("parentRefs") or ()
    return [(ref.get("namespace"), ref["name"], ref.get("sectionName")) for ref in refs]


def _not_ours(entry: Entry, resource: Resource, live: JSON) -> ApiError:
    what = f"{resource.kind} {live['metadata']['name']} exists and belongs to"
    references = live["metadata"].get("ownerReferences") or ()
    if any((r["kind"], r["name"]) == ("ModelDeployment", entry.key[1]) for r in references):
        why = f"{what} the ModelDeployment that had this name before: it is made anew once it is collected"
    else:
        why = f"{what} somebody else: delete or rename it"
    return ApiError(409, "NotOurs", why)


def _unreadable(revision: str, error: pydantic.ValidationError) -> ApiError:
    first = error.errors()[0]
    where = f"spec.{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return ApiError(422, "Unreadable", f"ModelRevision {revision} cannot be read by this operator: {where}")


def _tell_restored(tell: Told, resource: Resource, live: JSON, change: JSON, who: str) -> None:
    """Who edited a child. `change`: what its metadata lacked."""
    child = f"{resource.kind} {live['metadata']['name']}"
    if change and not live["metadata"].get("ownerReferences"):
        tell("ChildRestored", f"{child} had no owner any more: adopted")
        return
    who = who or labelled_by(live, change.get("labels", ())) or "somebody"
    tell("ChildRestored", f"{child} was edited by {who}: put right")


async def _try(effect: Awaitable[None]) -> list[ApiError]:
    """Runs one effect; what the API server refuses does not keep the others from being tried."""
    try:
        await effect
    except ApiError as error:
        return [error]
    return []


def _age(obj: JSON) -> tuple[str, int]:
    """Sorts the oldest first; of those made in the same second, the one that changed first."""
    return str(obj["metadata"]["creationTimestamp"]), int(obj["metadata"]["resourceVersion"])
