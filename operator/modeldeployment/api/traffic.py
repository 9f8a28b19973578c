"""`spec.traffic`: what carries requests to the model. A union of routers; Gateway API is the one built so far."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from modeldeployment.api.base import Model, exactly_one, extend, rule

_DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_DNS_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"


_SAME_GATEWAY = (
    "p.name == q.name && (has(p.__namespace__) ? p.__namespace__ : '') == (has(q.__namespace__) ? q.__namespace__ : '')"
)
_PATH = r"^(/([-A-Za-z0-9._~!$&()*+,;=:@]|%[0-9a-fA-F]{2})+)*/?$"


class ParentRef(Model):
    """A Gateway that the route attaches to."""

    name: str = Field(
        max_length=253,
        description="Name of the Gateway.",
        json_schema_extra=extend(
            rule(
                f"self.matches(r'{_DNS_NAME}')",
                "must be the name of a Gateway: lower-case letters, digits, - and .",
            )
        ),
    )
    namespace: str | None = Field(
        default=None,
        max_length=63,
        description="Namespace of the Gateway; default: this resource's.",
        json_schema_extra=extend(
            rule(f"self.matches(r'{_DNS_LABEL}')", "must be a namespace: lower-case letters, digits and -")
        ),
    )
    section_name: str | None = Field(
        default=None,
        max_length=253,
        description="Name of one listener of the Gateway; default: all.",
        json_schema_extra=extend(
            rule(
                f"self.matches(r'{_DNS_NAME}')",
                "must be the name of a listener: lower-case letters, digits, - and .",
            )
        ),
    )


class GatewayTraffic(Model):
    """Traffic by Gateway API: the operator writes one HTTPRoute and moves its weights."""

    parent_refs: list[ParentRef] = Field(
        min_length=1,
        max_length=8,
        description="The Gateways that the HTTPRoute attaches to.",
        json_schema_extra=extend(
            rule(
                f"self.all(p, self.exists_one(q, {_SAME_GATEWAY} && (!has(p.sectionName) || !has(q.sectionName) || "
                "p.sectionName == q.sectionName)))",
                "each Gateway may be there once only, or once for each of its listeners with sectionName",
            ),
            list_type="atomic",
        ),
    )
    hostnames: list[Annotated[str, Field(max_length=253)]] = Field(
        default_factory=list,
        max_length=16,
        description="Host names that lead to this model, e.g. fraud.example.com; none: every name of the Gateway.",
        json_schema_extra=extend(
            rule(
                r"self.all(h, h.matches(r'^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'))",
                "each must be a host name in lower case such as fraud.example.com or *.example.com: no scheme, "
                "no port, no path",
            ),
            rule(
                r"self.all(h, !h.matches(r'^[0-9.]+$'))",
                "each must be a name, not an IP address: Gateway API routes by host name only",
            ),
            rule(
                r"self.all(h, h.size() < 64 || !h.matches(r'[^.]{64}'))",
                "no part of a host name between two dots may be longer than 63 characters",
            ),
            rule("self.all(h, self.exists_one(o, o == h))", "each host name may be there once only"),
            list_type="atomic",
        ),
    )
    path_prefix: str = Field(
        default="/",
        max_length=256,
        description="Only requests whose path starts with this lead to the model.",
        json_schema_extra=extend(
            rule(
                f"self.matches(r'{_PATH}')",
                "must be a path that starts with /, such as /v1/fraud: no query, no spaces, no //",
            ),
            rule(
                r"!self.matches(r'/\.{1,2}(/|$)|%2[fF]')",
                "must not have the parts . and .. or an encoded / (%2F): Gateway API refuses them",
            ),
        ),
    )


class Traffic(Model):
    """What carries requests to the model: exactly one router."""

    model_config = ConfigDict(json_schema_extra=extend(exactly_one("gateway", of="traffic")))

    gateway: GatewayTraffic | None = Field(default=None, description="Gateway API: an HTTPRoute with weights.")
