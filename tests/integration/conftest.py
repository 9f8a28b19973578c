"""Fixtures of the integration tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab

CRDS = Path(__file__).parents[2] / "crds"
KINDS = ("ModelDeployment", "ModelRevision", "ModelPolicy")


@pytest.fixture(scope="session")
def api_lab() -> Iterator[Lab]:
    """An API server with our CRDs, and nothing else: no nodes, no gateway, no Prometheus."""
    with Lab(prometheus=False, gateway=False, nodes=0) as lab:
        lab.kubectl("apply", "-f", str(CRDS))  # client-side, as people do it
        lab.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRDS))
        # Established is not yet discovered, nor explained: both follow in the background, within seconds.
        lab.wait_until("the kinds in discovery", lambda: _all_kinds(_discovered(lab)))
        lab.wait_until("the kinds in OpenAPI", lambda: _all_kinds(_explained(lab)))
        yield lab
        lab.api.close()


def _all_kinds(text: str) -> bool:
    return all(kind in text for kind in KINDS)


def _discovered(lab: Lab) -> str:
    """What kubectl finds; asking also renews what it has kept of discovery."""
    return lab.kubectl("api-resources", "--api-group=modeldeployment.io", check=False).stdout


def _explained(lab: Lab) -> str:
    """The kinds that the API server's OpenAPI document describes."""
    document = lab.api.find("/openapi/v3/apis/modeldeployment.io/v1alpha1") or {"components": {"schemas": {}}}
    return " ".join(f"{name}." for name in document["components"]["schemas"])
