"""Gateway API: weights → HTTPRoute, and what every Gateway says of it → weights seen."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from builders import model_deployment
from modeldeployment.api.base import JSON
from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.api.owner import Owner
from modeldeployment.decision.evidence import Route, RouteState
from modeldeployment.serving.drift import differs
from modeldeployment.traffic import gateway

OWNER = Owner("ml", "fraud", "uid-1")
WEIGHTS = {"fraud-a": 90, "fraud-b": 10}
LAST = {"fraud-a": 100}
GATEWAY = "spec.traffic.gateway"


def spec(overrides: dict[str, Any] | None = None) -> ModelDeploymentSpec:
    """The minimal spec with these overrides."""
    return ModelDeploymentSpec.model_validate(model_deployment(overrides)["spec"])


def answer(ref: JSON, *, generation: int = 3, **conditions: tuple[str, str, str] | None) -> JSON:
    """What one Gateway says. Condition → (status, reason, message); None: it does not say."""
    said: dict[str, tuple[str, str, str] | None] = {
        "Accepted": ("True", "Accepted", ""),
        "ResolvedRefs": ("True", "ResolvedRefs", ""),
        **conditions,
    }
    return {
        "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", **ref},
        "controllerName": "example.com/gateway",
        "conditions": [
            {"type": type_, "status": c[0], "reason": c[1], "message": c[2], "observedGeneration": generation}
            for type_, c in said.items()
            if c is not None
        ],
    }


PUBLIC = {"name": "public"}


def observed(
    *parents: JSON, overrides: dict[str, Any] | None = None, exists: bool = True, live: JSON | None = None
) -> Route:
    """What is seen of a route of generation 3 with these answers."""
    asked = spec(overrides)
    route = copy.deepcopy(live or gateway.render(OWNER, asked, WEIGHTS))
    route["metadata"]["generation"] = 3
    if parents:
        route["status"] = {"parents": list(parents)}
    return gateway.observe("ml", asked, route, LAST, lambda namespace, name: exists)


# --- render -----------------------------------------------------------------------------------------------------


def test_render() -> None:
    """The whole HTTPRoute, as it is applied."""
    assert gateway.render(OWNER, spec(), WEIGHTS) == {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {
            "name": "fraud",
            "namespace": "ml",
            "labels": {"app.kubernetes.io/managed-by": "modeldeployment-operator", "modeldeployment.io/name": "fraud"},
            "ownerReferences": [OWNER.reference()],
        },
        "spec": {
            "parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public"}],
            "hostnames": ["fraud.example.com"],
            "rules": [
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                    "backendRefs": [
                        {"group": "", "kind": "Service", "name": "fraud-a", "port": 80, "weight": 90},
                        {"group": "", "kind": "Service", "name": "fraud-b", "port": 80, "weight": 10},
                    ],
                }
            ],
        },
    }


def test_render_keeps_revisions_of_weight_nothing() -> None:
    """Raising a weight is a change of one number."""
    rule = gateway.render(OWNER, spec(), {"fraud-a": 100, "fraud-b": 0})["spec"]["rules"][0]
    assert [(b["name"], b["weight"]) for b in rule["backendRefs"]] == [("fraud-a", 100), ("fraud-b", 0)]


def test_render_names_the_gateways_as_the_user_does() -> None:
    """Namespace, listener and path are handed on."""
    refs = [{"name": "public", "namespace": "infra", "sectionName": "https"}, {"name": "private"}]
    body = gateway.render(OWNER, spec({f"{GATEWAY}.parentRefs": refs, f"{GATEWAY}.pathPrefix": "/v1"}), WEIGHTS)["spec"]
    common = {"group": "gateway.networking.k8s.io", "kind": "Gateway"}
    assert body["parentRefs"] == [{**common, **ref} for ref in refs]
    assert body["rules"][0]["matches"] == [{"path": {"type": "PathPrefix", "value": "/v1"}}]


def test_host_names_taken_out_of_the_spec_are_taken_out_of_the_route() -> None:
    """The model must not go on answering a name that it was told to give up."""
    live = gateway.render(OWNER, spec(), WEIGHTS)["spec"]
    without = gateway.render(OWNER, spec({f"{GATEWAY}.hostnames": []}), WEIGHTS)["spec"]
    assert differs(without, live) and not differs(without, {k: v for k, v in without.items() if k != "hostnames"})


# --- against what is there --------------------------------------------------------------------------------------

_PATH = {"type": "PathPrefix", "value": "/"}
_BACKENDS: list[JSON] = [{"name": "fraud-a", "port": 80, "weight": 90}, {"name": "fraud-b", "port": 80, "weight": 10}]
_LIVE: dict[str, tuple[JSON, bool]] = {
    "as rendered": ({}, True),
    "no defaults written out": ({"rules": [{"backendRefs": _BACKENDS}], "parentRefs": [PUBLIC]}, True),
    "empty lists": ({"rules": [{"backendRefs": _BACKENDS, "filters": [], "matches": []}]}, True),
    "half a path": ({"rules": [{"backendRefs": _BACKENDS, "matches": [{"path": {"value": "/"}}]}]}, True),
    "another field, which is no routing": ({"useDefaultGateways": "None"}, True),
    "a filter": ({"rules": [{"backendRefs": _BACKENDS, "filters": [{"type": "RequestRedirect"}]}]}, False),
    "a match on a header": (
        {"rules": [{"backendRefs": _BACKENDS, "matches": [{"path": _PATH, "headers": [{"name": "x"}]}]}]},
        False,
    ),
    "a filter of one backend": ({"rules": [{"backendRefs": [{**_BACKENDS[0], "filters": [1]}, _BACKENDS[1]]}]}, False),
    "another weight": ({"rules": [{"backendRefs": [_BACKENDS[0], {**_BACKENDS[1], "weight": 11}]}]}, False),
    "the default weight": ({"rules": [{"backendRefs": [_BACKENDS[0], {"name": "fraud-b", "port": 80}]}]}, False),
    "a rule more": ({"rules": [{"backendRefs": _BACKENDS}, {"backendRefs": _BACKENDS}]}, False),
    "no rules": ({"rules": None}, False),
    "a host name more": ({"hostnames": ["fraud.example.com", "evil.example.com"]}, False),
    "no host names": ({"hostnames": None}, False),
    "one listener only": ({"parentRefs": [{**PUBLIC, "sectionName": "http"}]}, False),
    "another Gateway": ({"parentRefs": [PUBLIC, {"name": "evil"}]}, False),
}


@pytest.mark.parametrize(("change", "same"), _LIVE.values(), ids=_LIVE)
def test_same(change: JSON, same: bool) -> None:
    """What the API server fills in is no difference; whatever else moves traffic is."""
    wanted = gateway.render(OWNER, spec(), WEIGHTS)
    assert gateway.same(wanted, {**wanted, "spec": {**wanted["spec"], **change}}) is same


def test_shares_only() -> None:
    """Host names, Gateways and paths of the route as it is, whatever the spec says; the shares as wanted."""
    live = gateway.render(OWNER, spec(), WEIGHTS)
    other = {f"{GATEWAY}.hostnames": ["x.example.com"], f"{GATEWAY}.pathPrefix": "/x"}
    shifted = {"fraud-a": 100, "fraud-b": 0}
    wanted = gateway.render(OWNER, spec({**other, f"{GATEWAY}.parentRefs": [{"name": "theirs"}]}), shifted)
    assert gateway.shares_only(wanted, live) == gateway.render(OWNER, spec(), shifted)


@pytest.mark.parametrize("rules", [None, [], [{"backendRefs": []}]], ids=["none", "empty", "no matches"])
def test_shares_only_of_a_route_without_matches(rules: list[JSON] | None) -> None:
    """Every path, as it was."""
    live = {"spec": {"rules": rules}}
    kept = gateway.shares_only(gateway.render(OWNER, spec({f"{GATEWAY}.pathPrefix": "/x"}), WEIGHTS), live)["spec"]
    assert "matches" not in kept["rules"][0] and kept["hostnames"] == kept["parentRefs"] == []


# --- observe ----------------------------------------------------------------------------------------------------

REFUSED = ("False", "NotAllowedByListeners", "no listener allows namespace ml")
NO_SERVICE = ("False", "BackendNotFound", "Service fraud-b not found")
TWO = {f"{GATEWAY}.parentRefs": [{"name": "public"}, {"name": "private", "namespace": "infra"}]}
PRIVATE = {"name": "private", "namespace": "infra"}
LISTENERS = {f"{GATEWAY}.parentRefs": [{"name": "public", "sectionName": n} for n in ("http", "https")]}
HTTP, HTTPS = ({"name": "public", "sectionName": n} for n in ("http", "https"))

_SEEN: dict[str, tuple[list[JSON], dict[str, Any], RouteState, str]] = {
    "accepted": ([answer(PUBLIC)], {}, RouteState.PROGRAMMED, "Programmed"),
    "accepted, its namespace written out": (
        [answer({**PUBLIC, "namespace": "ml"})],
        {},
        RouteState.PROGRAMMED,
        "Programmed",
    ),
    "no answer yet": ([], {}, RouteState.PENDING, "WaitingForRouter"),
    "an answer to an older generation": ([answer(PUBLIC, generation=2)], {}, RouteState.PENDING, "WaitingForRouter"),
    "an answer about another Gateway": ([answer({"name": "other"})], {}, RouteState.PENDING, "WaitingForRouter"),
    "an answer about a Gateway of that name elsewhere": (
        [answer({**PUBLIC, "namespace": "other"})],
        {},
        RouteState.PENDING,
        "WaitingForRouter",
    ),
    "half an answer": ([answer(PUBLIC, ResolvedRefs=None)], {}, RouteState.PENDING, "WaitingForRouter"),
    "refused": ([answer(PUBLIC, Accepted=REFUSED)], {}, RouteState.REFUSED, "NotAllowedByListeners"),
    "backends not found": ([answer(PUBLIC, ResolvedRefs=NO_SERVICE)], {}, RouteState.REFUSED, "BackendNotFound"),
    "an old refusal of an older generation": (
        [answer(PUBLIC, generation=2, Accepted=REFUSED)],
        {},
        RouteState.PENDING,
        "WaitingForRouter",
    ),
    "two Gateways, both": ([answer(PUBLIC), answer(PRIVATE)], TWO, RouteState.PROGRAMMED, "Programmed"),
    "two Gateways, one not yet": ([answer(PUBLIC)], TWO, RouteState.PENDING, "WaitingForRouter"),
    "two Gateways, one behind": (
        [answer(PUBLIC), answer(PRIVATE, generation=2)],
        TWO,
        RouteState.PENDING,
        "WaitingForRouter",
    ),
    "two Gateways, one refuses": (
        [answer(PUBLIC), answer(PRIVATE, Accepted=REFUSED)],
        TWO,
        RouteState.REFUSED,
        "NotAllowedByListeners",
    ),
    "two Gateways, one refuses and the other has not answered": (
        [answer(PRIVATE, Accepted=REFUSED)],
        TWO,
        RouteState.REFUSED,
        "NotAllowedByListeners",
    ),
    "two listeners of one Gateway": ([answer(HTTP), answer(HTTPS)], LISTENERS, RouteState.PROGRAMMED, "Programmed"),
    "one of two listeners": ([answer(HTTP)], LISTENERS, RouteState.PENDING, "WaitingForRouter"),
}


@pytest.mark.parametrize(("parents", "overrides", "state", "reason"), _SEEN.values(), ids=_SEEN)
def test_observe(parents: list[JSON], overrides: dict[str, Any], state: RouteState, reason: str) -> None:
    """A weight counts once every Gateway has accepted its generation; until then the last seen one stands."""
    route = observed(*parents, overrides=overrides)
    assert (route.state, route.reason) == (state, reason), route.message
    assert route.weights == (WEIGHTS if state is RouteState.PROGRAMMED else LAST), "written is not applied"


def test_refusal_is_told_in_the_gateways_own_words() -> None:
    """Which Gateway, and what it said."""
    message = observed(answer(PUBLIC), answer(PRIVATE, Accepted=REFUSED), overrides=TWO).message
    assert message == "Gateway infra/private: no listener allows namespace ml"


def test_gateway_that_does_not_exist() -> None:
    """Nobody would ever answer: said at once, with what to do."""
    route = observed(exists=False)
    assert (route.state, route.reason) == (RouteState.REFUSED, "GatewayNotFound")
    assert "Gateway ml/public does not exist: create it, or correct" in route.message


def test_no_route() -> None:
    """Deleted, or not made yet: nothing is sent anywhere."""
    route = gateway.observe("ml", spec(), None, LAST, lambda namespace, name: True)
    assert (route.state, route.weights) == (RouteState.ABSENT, {})


_EDITS: dict[str, tuple[list[JSON] | None, dict[str, int]]] = {
    "weights that do not add up to 100": (
        [{"backendRefs": [{"name": "fraud-a", "weight": 900}, {"name": "fraud-b", "weight": 300}]}],
        {"fraud-a": 75, "fraud-b": 25},
    ),
    "no weights: equal ones": (
        [{"backendRefs": [{"name": "fraud-a"}, {"name": "fraud-b"}]}],
        {"fraud-a": 50, "fraud-b": 50},
    ),
    "all at nothing": ([{"backendRefs": [{"name": "fraud-a", "weight": 0}]}], {"fraud-a": 0}),
    "huge ones": ([{"backendRefs": [{"name": "fraud-a", "weight": 1_000_000}]}], {"fraud-a": 100}),
    "no backends": ([{"matches": []}], {}),
    "no rules": (None, {}),
}


@pytest.mark.parametrize(("rules", "expected"), _EDITS.values(), ids=_EDITS)
def test_route_that_somebody_edited_is_still_read(rules: list[JSON] | None, expected: dict[str, int]) -> None:
    """Whatever somebody wrote is seen as percent: it fits into status, so it can be put right."""
    live = gateway.render(OWNER, spec(), WEIGHTS)
    if rules is None:
        del live["spec"]["rules"]
    else:
        live["spec"]["rules"] = rules
    assert observed(answer(PUBLIC), live=live).weights == expected


# --- claims -----------------------------------------------------------------------------------------------------


def claimed(overrides: dict[str, Any] | None = None, namespace: str = "ml") -> frozenset[str]:
    """What a spec claims."""
    return gateway.claims(namespace, spec(overrides))


def test_claims_are_of_host_path_and_gateway() -> None:
    """Two models conflict when all three are the same, wherever they are."""
    here = claimed()
    assert here == {"fraud.example.com/ on Gateway ml/public"}
    assert here & claimed({f"{GATEWAY}.parentRefs": [{"name": "public", "namespace": "ml"}]}, "other")
    assert not here & claimed(namespace="other"), "another namespace's Gateway of the same name"
    assert not here & claimed({f"{GATEWAY}.pathPrefix": "/v1"})
    assert not here & claimed({f"{GATEWAY}.hostnames": ["*.example.com"]}), "Gateway API prefers the exact name"
    assert claimed({f"{GATEWAY}.hostnames": []}) == {"*/ on Gateway ml/public"}
