"""A status with every list and text filled to its bound: the largest that can be written."""

from __future__ import annotations

from typing import Any

from modeldeployment.api.crd import schema
from modeldeployment.api.status import ModelDeploymentStatus

_MOMENT = "2026-11-24T12:00:00.123456Z"


def filled_status() -> dict[str, Any]:
    """The largest status that the CRD takes, as JSON."""
    filled = _filled(schema(ModelDeploymentStatus), 0)
    assert isinstance(filled, dict)
    return filled


def _filled(node: dict[str, Any], number: int) -> Any:
    if "enum" in node:
        return max(node["enum"], key=len)
    match node["type"]:
        case "object":
            return {name: _filled(child, number) for name, child in node["properties"].items()}
        case "array":
            return [_filled(node["items"], index) for index in range(node["maxItems"])]
        case "integer":
            return node["maximum"]
    if node.get("format") == "date-time":
        return _MOMENT
    return f"{number:x}".ljust(node["maxLength"], "x")  # unlike its neighbours: some are keys of a list map
