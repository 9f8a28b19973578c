"""Has somebody else edited a child? managedFields as real API servers write them."""

from __future__ import annotations

from typing import Any

import pytest

from modeldeployment.api import names
from modeldeployment.serving.drift import differs, edited_by, labelled_by

OURS = names.FIELD_MANAGER
RESTARTED: dict[str, Any] = {"f:annotations": {".": {}, "f:kubectl.kubernetes.io/restartedAt": {}}}
IMAGE: dict[str, Any] = {"f:spec": {"f:containers": {'k:{"name":"model"}': {"f:image": {}}}}}


def managed(*entries: tuple[str, dict[str, Any]], subresource: str = "") -> dict[str, Any]:
    """An object whose managers own these fields of its spec."""
    fields = [
        {
            "manager": manager,
            "operation": "Update",
            "fieldsV1": {"f:spec": spec} if spec else {},
            **({"subresource": subresource} if subresource else {}),
        }
        for manager, spec in entries
    ]
    return {"metadata": {"managedFields": fields}, "spec": {}}


_CASES: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "nobody else": (managed((OURS, {"f:template": IMAGE})), ("template",), ""),
    "kubectl set image": (managed((OURS, {}), ("kubectl-set", {"f:template": IMAGE})), ("template",), "kubectl-set"),
    "kubectl rollout restart": (
        managed(("kubectl-rollout", {"f:template": {"f:metadata": RESTARTED}})),
        ("template",),
        "",
    ),
    "a restart and an edit by one manager": (
        managed(("kubectl", {"f:template": {"f:metadata": RESTARTED, **IMAGE}})),
        ("template",),
        "kubectl",
    ),
    "a restart and another annotation": (
        managed(("kubectl", {"f:template": {"f:metadata": {"f:annotations": {"f:x": {}}}}})),
        ("template",),
        "kubectl",
    ),
    "replicas are nobody's template": (managed(("kubectl-edit", {"f:replicas": {}})), ("template",), ""),
    "an autoscaler": (
        managed(("kube-controller-manager", {"f:replicas": {}}), subresource="scale"),
        (),
        "",
    ),
    "a controller's status": (managed(("kube-controller-manager", {"f:x": {}}), subresource="status"), (), ""),
    "labels only": (managed(("kubectl-label", {})), ("template",), ""),
    "an atomic list is owned as a whole": (managed(("kubectl-edit", {"f:rules": {}})), ("rules",), "kubectl-edit"),
    "another field of the route": (managed(("kubectl-edit", {"f:hostnames": {}})), ("rules",), ""),
    "anything of a Service": (managed(("kubectl-patch", {"f:selector": {}})), (), "kubectl-patch"),
    "no managedFields": ({"metadata": {}, "spec": {}}, ("template",), ""),
}


@pytest.mark.parametrize(("obj", "path", "who"), _CASES.values(), ids=_CASES)
def test_edited_by(obj: dict[str, Any], path: tuple[str, ...], who: str) -> None:
    """Who owns a part of the child that is the operator's; restarts, scaling and status are no edits."""
    assert edited_by(obj, *path) == who


def labelled(manager: str) -> dict[str, Any]:
    """An object of which somebody wrote the label `a`."""
    fields: dict[str, Any] = {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}}
    return {"metadata": {"managedFields": [{"manager": manager, "fieldsV1": fields}]}}


_LABELLED: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "somebody": (labelled("kubectl-label"), ["a"], "kubectl-label"),
    "the operator": (labelled(OURS), ["a"], ""),
    "another label": (labelled("kubectl-label"), ["b"], ""),
    "no label": (labelled("kubectl-label"), [], ""),
    "no managedFields": ({"metadata": {}}, ["a"], ""),
}


@pytest.mark.parametrize(("obj", "keys", "who"), _LABELLED.values(), ids=_LABELLED)
def test_labelled_by(obj: dict[str, Any], keys: list[str], who: str) -> None:
    """Who wrote a label that is the operator's."""
    assert labelled_by(obj, keys) == who


_DIFFERENCES: dict[str, tuple[Any, Any, bool]] = {
    "the same": ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}, False),
    "what the API server adds": ({"ports": [{"port": 80}]}, {"ports": [{"port": 80, "protocol": "TCP"}]}, False),
    "another value": ({"weight": 10}, {"weight": 90}, True),
    "a field that is gone": ({"a": 1, "b": 2}, {"a": 1}, True),
    "an element more": ([1], [1, 2], True),
    "an element less": ([1, 2], [1], True),
    "another order": ([1, 2], [2, 1], True),
    "another type": ({"a": {}}, {"a": []}, True),
    "nothing there": ({"a": {"b": 1}}, {}, True),
    "an empty list that is not there": ({"hostnames": []}, {}, False),
    "an empty list that is there": ({"hostnames": []}, {"hostnames": []}, False),
    "names that must go": ({"hostnames": []}, {"hostnames": ["a.example.com"]}, True),
}


@pytest.mark.parametrize(("wanted", "live", "expected"), _DIFFERENCES.values(), ids=_DIFFERENCES)
def test_differs(wanted: Any, live: Any, expected: bool) -> None:
    """What is wanted must be there; what is there beyond that is somebody else's."""
    assert differs(wanted, live) is expected
