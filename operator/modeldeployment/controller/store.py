"""What the watches said last, in memory. Nothing is computed here; a change marks the model it belongs to."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from modeldeployment.api import names
from modeldeployment.api.base import JSON
from modeldeployment.controller.resources import (
    DEPLOYMENTS,
    GATEWAYS,
    HTTP_ROUTES,
    MODEL_DEPLOYMENTS,
    MODEL_POLICIES,
    PODS,
    SERVICES,
    WATCHED,
    Resource,
)

_EDITORS_MATTER = frozenset({DEPLOYMENTS, SERVICES, HTTP_ROUTES})
_POLICY = "default"
DELETIONS_KEPT = 10_000
"""Deletions that are remembered, the newest: an answer that is late by more than so many is none we know of."""
T = TypeVar("T")
Key = tuple[str, str]
"""(namespace, name)."""


def key_of(obj: JSON) -> Key:
    """Where an object is."""
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def newer(version: str, than: str) -> bool:
    """Whether a resourceVersion is newer (they are ordered numbers since Kubernetes 1.35; before, in effect)."""
    return int(version) > int(than)


class Store:
    """Objects by kind and key.

    Args:
        changed: told the key of a ModelDeployment when it, or a child of it, changed.
        everything_changed: called when something that concerns all of them did: the policy's spec, a Gateway that
            comes or goes.
    """

    def __init__(self, changed: Callable[[Key], None], everything_changed: Callable[[], None]) -> None:
        self._objects: dict[Resource, dict[Key, JSON]] = {resource: {} for resource in WATCHED}
        self._children: dict[tuple[Resource, Key], dict[Key, JSON]] = defaultdict(dict)
        self._parsed: dict[tuple[Resource, Key], tuple[JSON, Any]] = {}
        self._deleted: OrderedDict[str, str] = OrderedDict()  # uid → resourceVersion of its end
        self._changed, self._everything_changed = changed, everything_changed

    def get(self, resource: Resource, key: Key) -> JSON | None:
        """An object, if it is there."""
        return self._objects[resource].get(key)

    def all(self, resource: Resource) -> dict[Key, JSON]:
        """All objects of a kind."""
        return self._objects[resource]

    def children(self, resource: Resource, owner: Key) -> Iterable[JSON]:
        """Objects of a kind that belong to a ModelDeployment."""
        return self._children.get((resource, owner), {}).values()

    def parsed(self, resource: Resource, obj: JSON, parse: Callable[[Any], T]) -> T:
        """What an object's spec says: read once for each resourceVersion. A kind is always parsed the same way."""
        key = (resource, key_of(obj))
        known = self._parsed.get(key)
        if known is not None and known[0] is obj:
            spec: T = known[1]
            return spec
        spec = parse(obj["spec"])
        self._parsed[key] = obj, spec
        return spec

    def put(self, resource: Resource, obj: JSON) -> None:
        """An object as a watch, a list or a write's answer showed it; what is older than is known is ignored.

        Of two objects of one name the newer counts, and one that was deleted since does not come back.
        """
        key, metadata = key_of(obj), obj["metadata"]
        known = self._objects[resource].get(key)
        if known is not None and not newer(metadata["resourceVersion"], known["metadata"]["resourceVersion"]):
            return
        if self.is_gone(obj):
            return
        obj = _lean(resource, obj)
        self._objects[resource][key] = obj
        if known is not None:
            if known["metadata"]["uid"] != metadata["uid"]:
                self._bury(known["metadata"]["uid"], metadata["resourceVersion"])
            self._disown(resource, known)
        owner = _owner(resource, obj)
        if owner is not None:
            self._children[resource, owner][key] = obj
        self._mark(resource, known, obj)

    def remove(self, resource: Resource, obj: JSON) -> None:
        """An object that is gone; a successor of the same name stays."""
        key, metadata = key_of(obj), obj["metadata"]
        known = self._objects[resource].get(key)
        same = known is not None and known["metadata"]["uid"] == metadata["uid"]
        if same and known and newer(known["metadata"]["resourceVersion"], metadata["resourceVersion"]):
            return  # it had lost the label that we watch by, and has it again
        self._bury(metadata["uid"], metadata["resourceVersion"])
        if known is None or not same:
            return
        del self._objects[resource][key]
        self._parsed.pop((resource, key), None)
        self._disown(resource, known)
        self._mark(resource, known, None)

    def is_gone(self, obj: JSON) -> bool:
        """Whether this is the state of an object that was deleted since.

        An object that only left what we watch, by its label, may come back with a newer version.
        """
        deleted = self._deleted.get(obj["metadata"]["uid"])
        return deleted is not None and not newer(obj["metadata"]["resourceVersion"], deleted)

    def _bury(self, uid: str, version: str) -> None:
        self._deleted[uid] = version
        self._deleted.move_to_end(uid)
        if len(self._deleted) > DELETIONS_KEPT:
            self._deleted.popitem(last=False)

    def _disown(self, resource: Resource, known: JSON) -> None:
        owner = _owner(resource, known)
        if owner is not None:
            self._children[resource, owner].pop(key_of(known), None)
            if not self._children[resource, owner]:
                del self._children[resource, owner]

    def _mark(self, resource: Resource, before: JSON | None, after: JSON | None) -> None:
        if resource in (MODEL_POLICIES, GATEWAYS):
            if _concerns_all(resource, before, after):
                self._everything_changed()
            return
        owners = [
            key_of(obj) if resource is MODEL_DEPLOYMENTS else _owner(resource, obj) for obj in (before, after) if obj
        ]
        for owner in dict.fromkeys(owners):
            if owner is not None:
                self._changed(owner)


def _concerns_all(resource: Resource, before: JSON | None, after: JSON | None) -> bool:
    """Of a Gateway only whether it exists, of the policy only what it says: their status changes with every route."""
    if resource is MODEL_POLICIES and _POLICY not in {obj["metadata"]["name"] for obj in (before, after) if obj}:
        return False
    if before is None or after is None:
        return True
    return resource is MODEL_POLICIES and any(
        before["metadata"].get(field) != after["metadata"].get(field) for field in ("uid", "generation")
    )


def _lean(resource: Resource, obj: JSON) -> JSON:
    """Without the managedFields, half of an object, where nobody asks who edited it."""
    if resource in _EDITORS_MATTER or "managedFields" not in obj["metadata"]:
        return obj
    return {**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k != "managedFields"}}


def _owner(resource: Resource, obj: JSON) -> Key | None:
    """The ModelDeployment that a child belongs to, by its label."""
    if not resource.managed and resource is not PODS:
        return None
    name = (obj["metadata"].get("labels") or {}).get(names.LABEL_NAME)
    return (obj["metadata"].get("namespace", ""), name) if name else None
