"""A fake of the API server for effects: it keeps objects and records writes. No validation, no defaults, no watch.

Assert on the objects and on how many writes there were, never on what the real server would have said: that is for
tests/integration.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import AsyncIterator
from typing import Any

from builders import model_deployment
from modeldeployment.api import names
from modeldeployment.api.base import JSON
from modeldeployment.api.status import ModelDeploymentStatus
from modeldeployment.controller.effects import Effects
from modeldeployment.controller.entry import Entry
from modeldeployment.controller.kube import ApiError, Kube
from modeldeployment.controller.resources import MODEL_DEPLOYMENTS, Resource
from modeldeployment.controller.store import Key, Store, key_of

OWNER_UID = "uid-fraud"


class FakeKube(Kube):
    """Objects by kind and key. `writes`: (verb, kind, name) of each write; `refuses`: kind or (verb, kind) → error."""

    def __init__(self) -> None:
        self.objects: dict[Resource, dict[Key, JSON]] = {}
        self.writes: list[tuple[str, str, str]] = []
        self.refuses: dict[tuple[str, str], ApiError] = {}
        self._versions = itertools.count(100)

    def hold(self, resource: Resource, obj: JSON) -> JSON:
        """Puts an object there, as if somebody else had."""
        held = copy.deepcopy(obj)
        metadata = held["metadata"]
        metadata.setdefault("uid", f"uid-{next(self._versions)}")
        metadata.setdefault("creationTimestamp", "2026-11-24T12:00:00Z")
        metadata["resourceVersion"] = str(next(self._versions))
        self.objects.setdefault(resource, {})[key_of(held)] = held
        return copy.deepcopy(held)

    async def get(self, resource: Resource, namespace: str | None, name: str) -> JSON:
        """One object, or 404."""
        return copy.deepcopy(self._found(resource, (namespace or "", name)))

    async def pages(self, resource: Resource) -> AsyncIterator[list[JSON]]:
        """All of a kind, one on a page; as in a real list, items do not say their kind."""
        self._refuse("LIST", resource)
        for obj in list(self.objects.get(resource, {}).values()):
            yield [{k: copy.deepcopy(v) for k, v in obj.items() if k not in ("apiVersion", "kind")}]

    async def create(self, resource: Resource, body: JSON) -> JSON:
        """A new object, or 409."""
        self._record("CREATE", resource, body["metadata"]["name"])
        if key_of(body) in self.objects.get(resource, {}):
            raise ApiError(409, "AlreadyExists", "already exists")
        return self.hold(resource, body)

    async def apply(self, resource: Resource, body: JSON, manager: str = names.FIELD_MANAGER) -> JSON:
        """Forced apply: what the body says is so, and is the operator's."""
        self._record("APPLY", resource, body["metadata"]["name"])
        known = self.objects.get(resource, {}).get(key_of(body))
        if known is None:
            return self.hold(resource, body)
        obj = _merged(known, {**body, "spec": {**known["spec"], **body["spec"]}})
        ours = body["metadata"]["ownerReferences"]
        theirs = known["metadata"].get("ownerReferences", ())
        obj["metadata"]["ownerReferences"] = [r for r in theirs if r["uid"] not in {o["uid"] for o in ours}] + ours
        obj["spec"] = copy.deepcopy({**known["spec"], **body["spec"]})
        return self._replaced(resource, known, obj)

    async def merge(self, resource: Resource, namespace: str, name: str, body: JSON) -> JSON:
        """Merge patch of maps."""
        self._record("MERGE", resource, name)
        known = self._found(resource, (namespace, name))
        return self._replaced(resource, known, _merged(known, body))

    async def json_patch(self, resource: Resource, namespace: str, name: str, operations: list[JSON]) -> JSON:
        """Replacements."""
        self._record("PATCH", resource, name)
        known = self._found(resource, (namespace, name))
        obj = copy.deepcopy(known)
        for operation in operations:
            *parents, last = operation["path"].strip("/").split("/")
            node: Any = obj
            for part in parents:
                node = node[part]
            node[last] = copy.deepcopy(operation["value"])
        return self._replaced(resource, known, obj)

    def _replaced(self, resource: Resource, before: JSON, obj: JSON) -> JSON:
        """What changed in the spec is the operator's now, the rest whose it was. No change is no new version."""
        if obj == before:
            return copy.deepcopy(before)
        was, now = before.get("spec", {}), obj.get("spec", {})
        changed = {f"f:{key}" for key in was.keys() | now.keys() if was.get(key) != now.get(key)}
        for entry in obj["metadata"].get("managedFields", ()):
            fields = entry["fieldsV1"]
            fields["f:spec"] = {key: value for key, value in fields.get("f:spec", {}).items() if key not in changed}
        return self.hold(resource, obj)

    async def put_status(self, resource: Resource, obj: JSON, status: JSON) -> JSON:
        """The status, at the resourceVersion of `obj` only."""
        self._record("STATUS", resource, obj["metadata"]["name"])
        known = self._found(resource, key_of(obj))
        if known["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "the object has been modified")
        return self.hold(resource, {**known, "status": status})

    async def delete(self, resource: Resource, namespace: str, name: str) -> None:
        """Gone."""
        self._record("DELETE", resource, name)
        self.objects.get(resource, {}).pop((namespace, name), None)

    def _found(self, resource: Resource, key: Key) -> JSON:
        obj = self.objects.get(resource, {}).get(key)
        if obj is None:
            raise ApiError(404, "NotFound", f"{resource.plural} {key} not found")
        return obj

    def _record(self, verb: str, resource: Resource, name: str) -> None:
        self.writes.append((verb, resource.kind, name))
        self._refuse(verb, resource)

    def _refuse(self, verb: str, resource: Resource) -> None:
        if error := self.refuses.get((verb, resource.kind)):
            raise error


def _merged(obj: JSON, patch: JSON) -> JSON:
    out = copy.deepcopy(obj)
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
            continue
        out[key] = _merged(out.get(key) or {}, value) if isinstance(value, dict) else copy.deepcopy(value)
    return out


class Model:
    """One ModelDeployment, its store and its effects over a fake API server."""

    def __init__(self, overrides: dict[str, Any] | None = None) -> None:
        self.kube = FakeKube()
        self.marked: list[Key] = []
        self.everything = 0
        self.store = Store(self.marked.append, self._everything)
        self.told: list[tuple[str, str]] = []
        obj = model_deployment(overrides)
        obj["metadata"] |= {"uid": OWNER_UID, "generation": 1, "resourceVersion": "1"}
        obj["metadata"]["creationTimestamp"] = "2026-11-24T12:00:00Z"
        self.store.put(MODEL_DEPLOYMENTS, obj)
        self.entry = Entry.of(("default", "fraud"), obj)
        self.effects = Effects(self.store, self.kube)

    def _everything(self) -> None:
        self.everything += 1

    @property
    def name(self) -> str:
        """The revision that the spec asks for."""
        return self.entry.target.name

    def key(self, revision: str | None = None) -> Key:
        """Where a revision's children are."""
        return ("default", revision or self.name)

    def restart(self) -> None:
        """Another process, which remembers no content of a revision."""
        self.effects = Effects(self.store, self.kube)
        self.entry.contents = {}

    def ask(self, overrides: dict[str, Any]) -> None:
        """The spec is edited."""
        obj = model_deployment(overrides)
        old = self.entry.obj["metadata"]
        obj["metadata"] |= {
            **old,
            "generation": old["generation"] + 1,
            "resourceVersion": str(int(old["resourceVersion"]) + 1),
        }
        self.store.put(MODEL_DEPLOYMENTS, obj)
        self.entry.adopt(obj)

    async def apply(
        self, status: ModelDeploymentStatus | None = None, conflict: str = ""
    ) -> list[tuple[str, str, str]]:
        """Applies a status; returns the writes it took."""
        if status is not None:
            self.entry.status = status
        before = len(self.kube.writes)
        await self.effects.apply(self.entry, conflict, lambda reason, note: self.told.append((reason, note)))
        return self.kube.writes[before:]

    def see(self, resource: Resource, key: Key, change: JSON) -> JSON:
        """Somebody changes an object, and the watch shows it."""
        obj = self.kube.hold(resource, _merged(self.kube.objects[resource][key], change))
        self.store.put(resource, obj)
        return obj

    def lose(self, resource: Resource, key: Key) -> None:
        """Somebody deletes an object, and the watch shows it."""
        self.store.remove(resource, self.kube.objects[resource].pop(key))
