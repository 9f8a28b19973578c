"""A plan → Envoy's configuration, as dictionaries. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab.scratch import listen_address
from lab.translate import INVALID_BACKEND, Attachment, Plan

Object = dict[str, Any]
_TYPES = "type.googleapis.com/envoy"
_HCM = f"{_TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = f"{_TYPES}.extensions.filters.http.router.v3.Router"


def bootstrap(folder: Path, host: str) -> Object:
    """The static part: the admin server on port 9901, a backend that answers 500, and where the rest is."""
    refusal = {
        "virtual_hosts": [
            {
                "name": "refusal",
                "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 500}}],
            }
        ]
    }
    return {
        "node": {"id": "lab", "cluster": "lab"},
        "admin": {"address": _address(host, 9901)},
        "stats_flush_interval": "1s",
        "dynamic_resources": {"lds_config": _file(folder / "lds.json"), "cds_config": _file(folder / "cds.json")},
        "static_resources": {
            "listeners": [
                {
                    "name": INVALID_BACKEND,
                    "address": _address(host, 9902),
                    "filter_chains": [{"filters": [_connection_manager("refusal", {"route_config": refusal})]}],
                }
            ],
            "clusters": [
                {
                    "name": INVALID_BACKEND,
                    "type": "STATIC",
                    "load_assignment": _assignment(INVALID_BACKEND, [(host, 9902)]),
                }
            ],
        },
    }


def listener(folder: Path, host: str, port: int) -> Object:
    """A listener whose routes come from a file of their own, so that weights change without touching it."""
    rds = {"rds": {"route_config_name": f"port-{port}", "config_source": _file(folder / f"rds-{port}.json")}}
    return {
        "@type": f"{_TYPES}.config.listener.v3.Listener",
        "name": f"port-{port}",
        "address": _address(host, port),
        "filter_chains": [{"filters": [_connection_manager(f"port-{port}", rds)]}],
    }


def cluster(name: str, addresses: list[tuple[str, int]]) -> Object:
    """A cluster with its endpoints, on the loopback twins of the pods' addresses.

    Endpoints in files of their own would cost an inotify instance each, and a user has 128 of them on many machines.
    """
    options = {
        "@type": f"{_TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions",
        # Shorter than the keep-alive of the usual servers (uvicorn: 5 s): a connection that the server closes
        # in the same instant would be an error that no model made.
        "common_http_protocol_options": {"idle_timeout": "4s"},
        "explicit_http_config": {"http_protocol_options": {}},
    }
    return {
        "@type": f"{_TYPES}.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": _assignment(name, [(listen_address(address), port) for address, port in addresses]),
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
    }


def routes(plan: Plan, port: int) -> Object:
    """All routes of one port, by hostname; within a hostname the more specific match comes first."""
    by_hostname: dict[str, list[tuple[tuple[int, ...], Object]]] = {}
    for attachment in plan.attachments:
        if attachment.port == port:
            for hostname in attachment.hostnames:
                by_hostname.setdefault(hostname, []).extend(_routes_of(attachment))
    hosts = [
        {
            "name": hostname,
            "domains": [hostname],
            "routes": [route for _, route in sorted(entries, key=lambda entry: entry[0])],
        }
        for hostname, entries in sorted(by_hostname.items())
    ]
    return {
        "@type": f"{_TYPES}.config.route.v3.RouteConfiguration",
        "name": f"port-{port}",
        "virtual_hosts": hosts,
        "ignore_port_in_host_matching": True,
    }


def response(version: str, resources: list[Object]) -> Object:
    """The file's content: a discovery response with a version to recognise it by."""
    return {"version_info": version, "resources": resources}


def _routes_of(attachment: Attachment) -> list[tuple[tuple[int, ...], Object]]:
    action = _action(attachment)
    matches = attachment.rule.get("matches") or [{"path": {"type": "PathPrefix", "value": "/"}}]
    return [(_rank(match), {"match": _match(match), **action}) for match in matches]


def _action(attachment: Attachment) -> Object:
    weighted = [(name, weight) for name, weight in attachment.backends if weight > 0]
    if not weighted:
        return {"direct_response": {"status": 500}}
    # Entries of weight 0 stay: their clusters live on, and requests in flight with them.
    clusters = [{"name": name, "weight": weight} for name, weight in attachment.backends]
    action: Object = {"weighted_clusters": {"clusters": clusters}}
    if timeout := attachment.rule.get("timeouts", {}).get("request"):
        action["timeout"] = _duration(timeout)
    if attachment.mirrors:
        action["request_mirror_policies"] = [{"cluster": name} for name in attachment.mirrors]
    route: Object = {"route": action}
    for item in attachment.rule.get("filters", []):
        route |= _header_changes(item, "requestHeaderModifier", "request")
        route |= _header_changes(item, "responseHeaderModifier", "response")
    return route


def _header_changes(item: Object, key: str, side: str) -> Object:
    modifier = item.get(key)
    if not modifier:
        return {}
    added = [
        {"header": {"key": header["name"], "value": header["value"]}, "append_action": action}
        for kind, action in (("set", "OVERWRITE_IF_EXISTS_OR_ADD"), ("add", "APPEND_IF_EXISTS_OR_ADD"))
        for header in modifier.get(kind, [])
    ]
    return {f"{side}_headers_to_add": added, f"{side}_headers_to_remove": modifier.get("remove", [])}


def _match(match: Object) -> Object:
    path = match.get("path", {})
    kind, value = path.get("type", "PathPrefix"), path.get("value", "/")
    if kind == "Exact":
        result: Object = {"path": value}
    elif kind == "RegularExpression":
        result = {"safe_regex": {"regex": value}}
    elif value.rstrip("/"):
        result = {"path_separated_prefix": value.rstrip("/")}
    else:
        result = {"prefix": "/"}
    headers = [_string_match(header) for header in match.get("headers", [])]
    if "method" in match:
        headers.append({"name": ":method", "string_match": {"exact": match["method"]}})
    parameters = [_string_match(parameter) for parameter in match.get("queryParams", [])]
    return {**result, "headers": headers, "query_parameters": parameters}


def _string_match(item: Object) -> Object:
    if item.get("type") == "RegularExpression":
        return {"name": item["name"], "string_match": {"safe_regex": {"regex": item["value"]}}}
    return {"name": item["name"], "string_match": {"exact": item["value"]}}


def _rank(match: Object) -> tuple[int, ...]:
    """The specification's precedence, smallest first: exact path, longest path, method, headers, parameters."""
    path = match.get("path", {})
    return (
        -int(path.get("type") == "Exact"),
        -len(path.get("value", "/")),
        -int("method" in match),
        -len(match.get("headers", [])),
        -len(match.get("queryParams", [])),
    )


def _duration(text: str) -> str:
    """GEP-2257 → protobuf: 1m30s → 90.000s."""
    seconds, number = 0.0, ""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    rest = text
    while rest:
        number = ""
        while rest and rest[0].isdigit():
            number, rest = number + rest[0], rest[1:]
        unit = "ms" if rest.startswith("ms") else rest[:1]
        seconds, rest = seconds + int(number) * units[unit], rest[len(unit) :]
    return f"{seconds:.3f}s"


def _connection_manager(prefix: str, routes_from: Object) -> Object:
    manager = {
        "@type": _HCM,
        "stat_prefix": prefix,
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}}],
        **routes_from,
    }
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


def _assignment(name: str, addresses: list[tuple[str, int]]) -> Object:
    hosts = [{"endpoint": {"address": _address(address, port)}} for address, port in addresses]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}] if hosts else []}


def _address(host: str, port: int) -> Object:
    return {"socket_address": {"address": host, "port_value": port}}


def _file(path: Path) -> Object:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}
