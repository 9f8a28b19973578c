"""Gateway API: one HTTPRoute with weighted backends. A weight counts once every Gateway has accepted its generation."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from modeldeployment.api import names
from modeldeployment.api.base import JSON
from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.api.owner import Owner
from modeldeployment.api.traffic import GatewayTraffic, ParentRef
from modeldeployment.decision.evidence import Route, RouteState

API_VERSION = "gateway.networking.k8s.io/v1"


def _gateway(spec: ModelDeploymentSpec) -> GatewayTraffic:
    assert spec.traffic.gateway is not None  # the union's rule
    return spec.traffic.gateway


def _parent(namespace: str, ref: ParentRef) -> str:
    return f"{ref.namespace or namespace}/{ref.name}"


def claims(namespace: str, spec: ModelDeploymentSpec) -> frozenset[str]:
    """`<gateway> <host><path>` for each host name on each Gateway."""
    gateway = _gateway(spec)
    hosts = gateway.hostnames or ["*"]
    return frozenset(
        f"{host}{gateway.path_prefix} on Gateway {_parent(namespace, ref)}"
        for ref in gateway.parent_refs
        for host in hosts
    )


def render(owner: Owner, spec: ModelDeploymentSpec, weights: Mapping[str, int]) -> JSON:
    """The HTTPRoute; revisions of weight 0 stay in it, so that raising them is a change of one number."""
    gateway = _gateway(spec)
    backends = [
        {"group": "", "kind": "Service", "name": revision, "port": names.SERVICE_PORT, "weight": weight}
        for revision, weight in weights.items()
    ]
    body: JSON = {
        "parentRefs": [
            {"group": "gateway.networking.k8s.io", "kind": "Gateway", **ref.to_json()} for ref in gateway.parent_refs
        ],
        "hostnames": list(gateway.hostnames),  # there even when empty, so that names taken out of the spec go
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": gateway.path_prefix}}],
                "backendRefs": backends,
            }
        ],
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "HTTPRoute",
        "metadata": {
            "name": owner.name,
            "namespace": owner.namespace,
            "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_NAME: owner.name},
            "ownerReferences": [owner.reference()],
        },
        "spec": body,
    }


def shares_only(body: JSON, live: JSON) -> JSON:
    """The wanted route as far as it only moves shares: Gateways, host names and paths stay as they are.

    For a model whose spec claims what another has: it may take traffic away from its own canary, and nothing else.
    """
    wanted, has = body["spec"], live["spec"]
    (rule,) = wanted["rules"]
    kept = {"parentRefs": has.get("parentRefs") or [], "hostnames": has.get("hostnames") or []}
    matches = (has.get("rules") or [{}])[0].get("matches")
    paths = {"matches": matches} if matches else {}
    return {**body, "spec": {**wanted, **kept, "rules": [{**paths, "backendRefs": rule["backendRefs"]}]}}


def same(wanted: JSON, live: JSON) -> bool:
    """Whether a route sends what is wanted where it is wanted, and nothing is added to it.

    A redirect, a filter, another match move traffic too, so what the API server fills in is all that may be there.
    """
    return _settled(wanted["spec"]) == _settled(live["spec"])


def _settled(spec: JSON) -> JSON:
    """What a router acts on, with the API server's defaults written out."""
    return {
        "parentRefs": [
            {"group": "gateway.networking.k8s.io", "kind": "Gateway", **ref} for ref in spec.get("parentRefs") or ()
        ],
        "hostnames": spec.get("hostnames") or [],
        "rules": [_settled_rule(rule) for rule in spec.get("rules") or ()],
    }


def _settled_rule(rule: JSON) -> JSON:
    every = {"type": "PathPrefix", "value": "/"}
    matches = [{**match, "path": {**every, **match.get("path", {})}} for match in rule.get("matches") or [{}]]
    backends = [{"group": "", "kind": "Service", "weight": 1, **ref} for ref in rule.get("backendRefs") or ()]
    return {**{k: v for k, v in rule.items() if v not in ([], {}, None)}, "matches": matches, "backendRefs": backends}


def observe(
    namespace: str,
    spec: ModelDeploymentSpec,
    live: JSON | None,
    last_weights: Mapping[str, int],
    gateway_exists: Callable[[str, str], bool],
) -> Route:
    """What every Gateway says of the route's present generation."""
    if live is None:
        return Route(RouteState.ABSENT, {}, "RouteAbsent", "the HTTPRoute is not there yet")
    waiting: list[str] = []
    for ref in _gateway(spec).parent_refs:
        where = _parent(namespace, ref)
        if not gateway_exists(ref.namespace or namespace, ref.name):
            message = f"Gateway {where} does not exist: create it, or correct traffic.gateway.parentRefs"
            return Route(RouteState.REFUSED, dict(last_weights), "GatewayNotFound", message)
        verdict = _parent_says(live, namespace, ref)
        if verdict is None:
            waiting.append(where)
        elif verdict[0]:
            reason, message = verdict
            return Route(RouteState.REFUSED, dict(last_weights), reason, f"Gateway {where}: {message}")
    if waiting:
        message = f"Gateway {', '.join(waiting)} has not answered to the route's present generation yet"
        return Route(RouteState.PENDING, dict(last_weights), "WaitingForRouter", message)
    applied = _weights(live)
    shares = ", ".join(f"{revision} {weight}%" for revision, weight in applied.items())
    return Route(RouteState.PROGRAMMED, applied, "Programmed", f"the Gateway sends {shares}")


def _parent_says(live: JSON, namespace: str, ref: ParentRef) -> tuple[str, str] | None:
    """None: nothing about this generation yet. ("", ""): accepted. Else reason and message of the refusal."""
    generation = live["metadata"].get("generation", 0)
    for parent in live.get("status", {}).get("parents", ()):
        theirs = parent["parentRef"]
        same = (theirs["name"], theirs.get("namespace", namespace), theirs.get("sectionName")) == (
            ref.name,
            ref.namespace or namespace,
            ref.section_name,
        )
        if not same:
            continue
        conditions = {c["type"]: c for c in parent.get("conditions", ())}
        for type_ in ("Accepted", "ResolvedRefs"):
            condition = conditions.get(type_)
            if condition is None or condition.get("observedGeneration", 0) < generation:
                return None
            if condition["status"] != "True":
                return condition["reason"], condition.get("message", "")
        return "", ""
    return None


def _weights(live: JSON) -> dict[str, int]:
    """Percent of each backend, by whatever weights the route has: somebody's edit need not add up to 100."""
    rules: list[JSON] = live["spec"].get("rules") or [{}]
    backends: list[JSON] = rules[0].get("backendRefs") or []
    weights = {backend["name"]: int(backend.get("weight", 1)) for backend in backends}
    total = sum(weights.values())
    return {name: round(100 * weight / total) if total else 0 for name, weight in weights.items()}
