"""Gateway API objects → what a gateway should do, and the statuses that say so. Pure.

Follows the Gateway API's specification of the standard channel for HTTP: which routes attach, which backends
resolve, and with which reasons they do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
Objects = dict[tuple[str, str], Object]
CONTROLLER = "modeldeployment.io/lab-gateway"
INVALID_BACKEND = "lab/invalid-backend"  # a cluster that answers 500, as the specification asks
_SUPPORTED_FILTERS = {"RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror"}


@dataclass
class World:
    """Everything the translation reads, each collection by (namespace, name)."""

    gateways: Objects
    routes: Objects
    services: Objects
    slices: Objects
    namespaces: Objects
    grants: Objects


@dataclass(frozen=True)
class Attachment:
    """A rule of a route on a port, for some hostnames; `backends` are (cluster, weight)."""

    port: int
    hostnames: tuple[str, ...]
    rule: Object
    backends: tuple[tuple[str, int], ...]
    mirrors: tuple[str, ...]


@dataclass
class Plan:
    """What Envoy should do, and which conditions to report."""

    ports: set[int] = field(default_factory=set)
    attachments: list[Attachment] = field(default_factory=list)
    clusters: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    route_parents: dict[tuple[str, str], list[Object]] = field(default_factory=dict)
    attached: dict[tuple[str, str, str], int] = field(default_factory=dict)


def plan(world: World) -> Plan:
    """The whole plan for a state of the cluster."""
    result = Plan()
    slices = _slices_by_service(world.slices)
    for gateway in world.gateways.values():
        for listener in gateway["spec"]["listeners"]:
            if listener["protocol"] == "HTTP":
                result.ports.add(listener["port"])
    oldest_first = sorted(world.routes.items(), key=lambda item: (item[1]["metadata"]["creationTimestamp"], item[0]))
    for key, route in oldest_first:
        rules, resolved = _resolve_rules(world, result, slices, route)
        for reference in route["spec"].get("parentRefs", []):
            parent_gateway = world.gateways.get((reference.get("namespace", key[0]), reference["name"]))
            if reference.get("kind", "Gateway") != "Gateway" or parent_gateway is None:
                continue
            accepted, listeners = _attach(world, parent_gateway, reference, route)
            if accepted["status"] == "True":
                for listener, hostnames in listeners:
                    name = (*_key(parent_gateway), listener["name"])
                    result.attached[name] = result.attached.get(name, 0) + 1
                    for rule, backends, mirrors in rules:
                        result.attachments.append(Attachment(listener["port"], hostnames, rule, backends, mirrors))
            parent = {"parentRef": reference, "controllerName": CONTROLLER, "conditions": [accepted, resolved]}
            result.route_parents.setdefault(key, []).append(parent)
    return result


def _attach(
    world: World, gateway: Object, reference: Object, route: Object
) -> tuple[Object, list[tuple[Object, tuple[str, ...]]]]:
    """The condition Accepted, and the listeners the route attaches to with the hostnames it has there."""
    if unsupported := sorted(_filters(route) - _SUPPORTED_FILTERS):
        message = f"the lab has no filter {', '.join(unsupported)}"
        return _condition("Accepted", "UnsupportedValue", message, good=False), []
    listeners = [
        listener
        for listener in gateway["spec"]["listeners"]
        if reference.get("sectionName", listener["name"]) == listener["name"]
        and reference.get("port", listener["port"]) == listener["port"]
        and listener["protocol"] == "HTTP"
    ]
    if not listeners:
        return _condition("Accepted", "NoMatchingParent", "no listener of that name and port", good=False), []
    allowed = [listener for listener in listeners if _allows(world, gateway, listener, route)]
    if not allowed:
        message = "no listener allows routes from this namespace"
        return _condition("Accepted", "NotAllowedByListeners", message, good=False), []
    matching = []
    for listener in allowed:
        hostnames = _intersect(listener.get("hostname", ""), route["spec"].get("hostnames", []))
        if hostnames:
            matching.append((listener, hostnames))
    if not matching:
        message = "no hostname of the route matches a listener's"
        return _condition("Accepted", "NoMatchingListenerHostname", message, good=False), []
    return _condition("Accepted", "Accepted", "Route is accepted"), matching


def _allows(world: World, gateway: Object, listener: Object, route: Object) -> bool:
    allowed = listener.get("allowedRoutes", {})
    kinds = allowed.get("kinds", [])
    if kinds and not any(kind["kind"] == "HTTPRoute" for kind in kinds):
        return False
    namespaces = allowed.get("namespaces", {})
    origin = namespaces.get("from", "Same")
    namespace = route["metadata"]["namespace"]
    if origin == "Selector":
        found = world.namespaces.get(("", namespace), {"metadata": {}})
        labels = found["metadata"].get("labels", {})
        wanted = namespaces.get("selector", {}).get("matchLabels", {})
        return all(labels.get(name) == value for name, value in wanted.items())
    return bool(origin == "All" or namespace == gateway["metadata"]["namespace"])


def _intersect(listener: str, hostnames: list[str]) -> tuple[str, ...]:
    """The hostnames that both name; the more specific of two wins. `*` when neither names any."""
    if not hostnames:
        return (listener or "*",)
    if not listener:
        return tuple(hostnames)
    return tuple(
        hostname if _covers(listener, hostname) else listener
        for hostname in hostnames
        if _covers(listener, hostname) or _covers(hostname, listener)
    )


def _covers(pattern: str, hostname: str) -> bool:
    return pattern == hostname or (pattern.startswith("*.") and hostname.endswith(pattern[1:]))


_Rules = list[tuple[Object, tuple[tuple[str, int], ...], tuple[str, ...]]]


def _resolve_rules(
    world: World, result: Plan, slices: dict[tuple[str, str], list[Object]], route: Object
) -> tuple[_Rules, Object]:
    """Each rule with its backends as clusters, and the condition ResolvedRefs; clusters go into `result`."""
    problems: list[tuple[str, str]] = []

    def cluster_of(reference: Object) -> str:
        found = _backend(world, route, reference)
        if isinstance(found, tuple):
            problems.append(found)
            return INVALID_BACKEND
        namespace, name = _key(found)
        port = next(port for port in found["spec"]["ports"] if port["port"] == reference["port"])
        cluster = f"{namespace}/{name}"
        if port is not found["spec"]["ports"][0]:
            cluster += f"/{port['port']}"
        result.clusters[cluster] = _endpoints(slices.get((namespace, name), []), port.get("name", ""))
        return cluster

    rules: _Rules = []
    for rule in route["spec"].get("rules", []):
        backends = [(cluster_of(reference), reference.get("weight", 1)) for reference in rule.get("backendRefs", [])]
        mirrors = [
            cluster_of(item["requestMirror"]["backendRef"])
            for item in rule.get("filters", [])
            if item["type"] == "RequestMirror"
        ]
        rules.append((rule, tuple(backends), tuple(name for name in mirrors if name != INVALID_BACKEND)))
    if problems:
        reason, message = problems[0]
        return rules, _condition("ResolvedRefs", reason, message, good=False)
    return rules, _condition("ResolvedRefs", "ResolvedRefs", "All references are resolved")


def _backend(world: World, route: Object, reference: Object) -> Object | tuple[str, str]:
    """The Service that a reference names, or the reason and message why it does not count."""
    namespace = reference.get("namespace", route["metadata"]["namespace"])
    name = reference["name"]
    if (reference.get("group", ""), reference.get("kind", "Service")) != ("", "Service"):
        return "InvalidKind", f"backend {name}: only Services are supported"
    if namespace != route["metadata"]["namespace"] and not _granted(world, route, namespace, name):
        return "RefNotPermitted", f"no ReferenceGrant in {namespace} allows the backend {name}"
    service = world.services.get((namespace, name))
    if service is None:
        return "BackendNotFound", f"Service {namespace}/{name} not found"
    if not any(port["port"] == reference.get("port") for port in service["spec"].get("ports", [])):
        return "BackendNotFound", f"Service {namespace}/{name} has no port {reference.get('port')}"
    return service


def _granted(world: World, route: Object, namespace: str, name: str) -> bool:
    for grant in world.grants.values():
        if grant["metadata"]["namespace"] == namespace and any(
            origin["kind"] == "HTTPRoute" and origin["namespace"] == route["metadata"]["namespace"]
            for origin in grant["spec"]["from"]
        ):
            for target in grant["spec"]["to"]:
                if target["kind"] == "Service" and target.get("name", name) == name:
                    return True
    return False


def _slices_by_service(slices: Objects) -> dict[tuple[str, str], list[Object]]:
    grouped: dict[tuple[str, str], list[Object]] = {}
    for (namespace, _), item in slices.items():
        service = item["metadata"].get("labels", {}).get("kubernetes.io/service-name", "")
        grouped.setdefault((namespace, service), []).append(item)
    return grouped


def _endpoints(slices: list[Object], port_name: str) -> list[tuple[str, int]]:
    """Addresses of ready endpoints, with the port that the Service's port leads to there.

    Only the lab's own (10.x, whose twins are on loopback): the gateway sends nothing anywhere else.
    """
    found = set()
    for item in slices:
        ports = [port["port"] for port in item.get("ports") or [] if (port.get("name") or "") == port_name]
        for endpoint in item.get("endpoints") or []:
            if endpoint.get("conditions", {}).get("ready", True):
                twins = [address for address in endpoint["addresses"] if address.startswith("10.")]
                found |= {(address, port) for address in twins for port in ports}
    return sorted(found)


def _filters(route: Object) -> set[str]:
    return {item["type"] for item in _all_filters(route)}


def _all_filters(route: Object) -> Iterator[Object]:
    for rule in route["spec"].get("rules", []):
        yield from rule.get("filters", [])
        for backend in rule.get("backendRefs", []):
            yield from backend.get("filters", [])


def _condition(kind: str, reason: str, message: str, good: bool = True) -> Object:
    return {"type": kind, "status": "True" if good else "False", "reason": reason, "message": message}


def _key(item: Object) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]
