"""The Gateway API in the cluster: its CRDs, the lab's GatewayClass, and the Gateway `public`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from lab.api import Api, Object
from lab.binaries import crd_folder
from lab.translate import CONTROLLER

GATEWAY_NAMESPACE, GATEWAY_NAME, GATEWAY_PORT = "gateway-system", "public", 8080
API = "/apis/gateway.networking.k8s.io/v1"
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
# The others of the standard channel would only make the start longer.
_WANTED = ("gatewayclasses", "gateways", "httproutes", "grpcroutes", "referencegrants")


def install_crds(api: Api) -> None:
    """Applies the CRDs; `established` tells when they can be used."""

    def install(plural: str) -> None:
        text = (crd_folder() / f"gateway.networking.k8s.io_{plural}.json").read_bytes()
        api.request("POST", _CRDS, content=text, headers={"Content-Type": "application/json"})

    with ThreadPoolExecutor(len(_WANTED)) as pool:
        list(pool.map(install, _WANTED))


def established(api: Api) -> bool:
    """True when the API server serves all of them."""

    def is_established(plural: str) -> bool:
        body = api.get(f"{_CRDS}/{plural}.gateway.networking.k8s.io")
        conditions = body.get("status", {}).get("conditions") or []
        return any(item["type"] == "Established" and item["status"] == "True" for item in conditions)

    return all(is_established(plural) for plural in _WANTED)


def create_gateway(api: Api) -> None:
    """Creates the namespace, the class `lab` and the Gateway, open to routes from all namespaces.

    By apply: the API server holds a `create` for two seconds when the CRD was established just before.
    """
    api.apply(f"/api/v1/namespaces/{GATEWAY_NAMESPACE}", _object("v1", "Namespace", {"name": GATEWAY_NAMESPACE}))
    version = "gateway.networking.k8s.io/v1"
    gateway_class = _object(version, "GatewayClass", {"name": "lab"}, {"controllerName": CONTROLLER})
    api.apply(f"{API}/gatewayclasses/lab", gateway_class)
    listener = {
        "name": "http",
        "protocol": "HTTP",
        "port": GATEWAY_PORT,
        "allowedRoutes": {"namespaces": {"from": "All"}},
    }
    meta = {"name": GATEWAY_NAME, "namespace": GATEWAY_NAMESPACE}
    spec = {"gatewayClassName": "lab", "listeners": [listener]}
    path = f"{API}/namespaces/{GATEWAY_NAMESPACE}/gateways/{GATEWAY_NAME}"
    api.apply(path, _object(version, "Gateway", meta, spec))


def programmed(api: Api) -> bool:
    """True when the Gateway takes requests."""
    gateway = api.get(f"{API}/namespaces/{GATEWAY_NAMESPACE}/gateways/{GATEWAY_NAME}")
    conditions = gateway.get("status", {}).get("conditions", [])
    return any(item["type"] == "Programmed" and item["status"] == "True" for item in conditions)


def _object(version: str, kind: str, meta: Object, spec: Object | None = None) -> Object:
    body: Object = {"apiVersion": version, "kind": kind, "metadata": meta}
    return body if spec is None else {**body, "spec": spec}
