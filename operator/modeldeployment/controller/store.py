"""What the watches said last, in memory. Nothing is computed here; a change marks the model it belongs to."""

from __future__ import annotations

from collections import defaultdict
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
        everything_changed: called when something that concerns all of them did (policy, Gateway).
    """

    def __init__(self, changed: Callable[[Key], None], everything_changed: Callable[[], None]) -> None:
        self._objects: dict[Resource, dict[Key, JSON]] = {resource: {} for resource in WATCHED}
        self._children: dict[tuple[Resource, Key], dict[Key, JSON]] = defaultdict(dict)
        self._parsed: dict[tuple[Resource, Key], tuple[JSON, Any]] = {}
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
        """An object as a watch, a list or a write's answer showed it; an older one than is known is ignored."""
        key, known = key_of(obj), self._objects[resource].get(key_of(obj))
        same = known is not None and known["metadata"]["uid"] == obj["metadata"]["uid"]
        if same and known and not newer(obj["metadata"]["resourceVersion"], known["metadata"]["resourceVersion"]):
            return
        obj = _lean(resource, obj)
        self._objects[resource][key] = obj
        owner = _owner(resource, obj)
        if owner is not None:
            self._children[resource, owner][key] = obj
        self._mark(resource, obj)

    def remove(self, resource: Resource, obj: JSON) -> None:
        """An object that is gone; a successor of the same name stays."""
        key = key_of(obj)
        known = self._objects[resource].get(key)
        if known is None or known["metadata"]["uid"] != obj["metadata"]["uid"]:
            return
        del self._objects[resource][key]
        self._parsed.pop((resource, key), None)
        owner = _owner(resource, known)
        if owner is not None:
            self._children[resource, owner].pop(key, None)
            if not self._children[resource, owner]:
                del self._children[resource, owner]
        self._mark(resource, obj)

    def _mark(self, resource: Resource, obj: JSON) -> None:
        if resource in (MODEL_POLICIES, GATEWAYS):
            self._everything_changed()
            return
        owner = key_of(obj) if resource is MODEL_DEPLOYMENTS else _owner(resource, obj)
        if owner is not None:
            self._changed(owner)


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
