"""What the fleet asks of a router. A new one is a module with these three, and a member of `spec.traffic`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from modeldeployment.api.base import JSON
from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.api.owner import Owner
from modeldeployment.decision.evidence import Route


class Router(Protocol):
    """A router, as pure functions over its objects."""

    def claims(self, namespace: str, spec: ModelDeploymentSpec) -> frozenset[str]:
        """What only one ModelDeployment may have: host names and paths on a gateway, in words."""
        ...

    def render(self, owner: Owner, spec: ModelDeploymentSpec, weights: Mapping[str, int]) -> JSON:
        """The router's object that sends each revision its percent of the traffic."""
        ...

    def observe(
        self,
        namespace: str,
        spec: ModelDeploymentSpec,
        live: JSON | None,
        last_weights: Mapping[str, int],
        gateway_exists: Callable[[str, str], bool],
    ) -> Route:
        """What the router did with the object: written is not applied."""
        ...
