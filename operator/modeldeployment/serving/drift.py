"""Has somebody else edited a child? Told from managedFields, which also say who it was."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from modeldeployment.api import names
from modeldeployment.api.base import JSON

_OURS = {names.FIELD_MANAGER}
# `kubectl rollout restart` writes this and nothing else: a wish to restart pods, not another content.
_RESTART = "f:kubectl.kubernetes.io/restartedAt"


def edited_by(obj: JSON, *path: str) -> str:
    """Name of a foreign field manager that owns something under `spec.<path>`; "" if none does.

    Managers of the status or the scale subresource are left out: those are the controllers, and autoscalers.
    """
    for entry in obj.get("metadata", {}).get("managedFields", ()):
        if entry.get("manager") in _OURS or entry.get("subresource"):
            continue
        node: Any = entry.get("fieldsV1", {}).get("f:spec")
        for part in path:
            node = node.get(f"f:{part}") if isinstance(node, dict) else None
        if _content(node):
            return str(entry.get("manager", "somebody"))
    return ""


def labelled_by(obj: JSON, keys: Iterable[str]) -> str:
    """Name of a foreign field manager that wrote one of these labels; "" if none did. A deletion leaves no name."""
    wanted = {f"f:{key}" for key in keys}
    for entry in obj["metadata"].get("managedFields", ()):
        fields = entry.get("fieldsV1", {}).get("f:metadata", {}).get("f:labels", {})
        if entry.get("manager") not in _OURS and not wanted.isdisjoint(fields):
            return str(entry.get("manager", "somebody"))
    return ""


def _content(node: Any) -> bool:
    """Whether fields remain when a mere restart is taken away. An empty node is a field owned as a whole."""
    if not isinstance(node, dict):
        return False
    return not node or any(_content(value) for key, value in node.items() if key not in (_RESTART, "."))


def differs(wanted: Any, live: Any) -> bool:
    """Whether `live` lacks something that `wanted` has; what `live` has beyond that is somebody else's."""
    if isinstance(wanted, dict):
        return not isinstance(live, dict) or any(differs(v, live.get(k)) for k, v in wanted.items())
    if isinstance(wanted, list):
        live = [] if live is None else live
        return (
            not isinstance(live, list)
            or len(wanted) != len(live)
            or any(differs(w, o) for w, o in zip(wanted, live, strict=True))
        )
    return bool(wanted != live)


def lacks(wanted: Any, live: Any) -> bool:
    """Whether something is missing in `live`: fields and list items are compared, not values.

    Values the API server writes its own way (0.5 and 500m); who changed one is told by `edited_by`.
    """
    if isinstance(wanted, dict):
        full = {key: value for key, value in wanted.items() if value not in ({}, [], "", None)}
        return not isinstance(live, dict) or any(lacks(value, live.get(key)) for key, value in full.items())
    if isinstance(wanted, list):
        if not isinstance(live, list) or len(live) < len(wanted):
            return True
        return len(live) == len(wanted) and any(lacks(w, o) for w, o in zip(wanted, live, strict=True))
    return live is None
