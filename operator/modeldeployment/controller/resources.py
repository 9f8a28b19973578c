"""The kinds this operator reads or writes, and where the API server keeps them."""

from __future__ import annotations

from dataclasses import dataclass

from modeldeployment.api import names


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind. `managed`: only objects with the operator's label are read."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    managed: bool = True

    @property
    def api_version(self) -> str:
        """As manifests write it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """URL path of the collection, an object or a subresource."""
        base = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        where = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        tail = "".join(f"/{part}" for part in (name, subresource) if part)
        return f"{base}{where}/{self.plural}{tail}"


MODEL_DEPLOYMENTS = Resource(names.GROUP, names.VERSION, "modeldeployments", "ModelDeployment", managed=False)
MODEL_REVISIONS = Resource(names.GROUP, names.VERSION, "modelrevisions", "ModelRevision")
MODEL_POLICIES = Resource(names.GROUP, names.VERSION, "modelpolicies", "ModelPolicy", namespaced=False, managed=False)
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
SERVICES = Resource("", "v1", "services", "Service")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
PODS = Resource("", "v1", "pods", "Pod")
HTTP_ROUTES = Resource("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
GATEWAYS = Resource("gateway.networking.k8s.io", "v1", "gateways", "Gateway", managed=False)
SECRETS = Resource("", "v1", "secrets", "Secret", managed=False)
EVENTS = Resource("events.k8s.io", "v1", "events", "Event", managed=False)

WATCHED: tuple[Resource, ...] = (
    MODEL_DEPLOYMENTS,
    MODEL_REVISIONS,
    MODEL_POLICIES,
    DEPLOYMENTS,
    SERVICES,
    PODS,
    ENDPOINT_SLICES,
    HTTP_ROUTES,
    GATEWAYS,
)
