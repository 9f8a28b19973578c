"""ModelPolicy: what a platform team decides once for the cluster. The one that counts is named `default`."""

from __future__ import annotations

from pydantic import Field

from modeldeployment.api.base import Model, StatusModel, extend, rule
from modeldeployment.api.conditions import Condition
from modeldeployment.api.objectives import Objective
from modeldeployment.api.quantities import Duration, between
from modeldeployment.api.serving import OwnDialect


class SecretRef(Model):
    """A Secret with what Prometheus asks for."""

    name: str = Field(
        max_length=253,
        description="Name of the Secret.",
        json_schema_extra=extend(
            rule(
                r"self.matches(r'^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
                "must be the name of a Secret: lower-case letters, digits, - and .",
            )
        ),
    )
    namespace: str = Field(
        max_length=63,
        description="Its namespace.",
        json_schema_extra=extend(
            rule(
                "self.matches(r'^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
                "must be a namespace: lower-case letters, digits and -",
            )
        ),
    )


class Tenant(Model):
    """The header by which Mimir, Cortex or Thanos tell tenants apart."""

    header: str = Field(
        default="X-Scope-OrgID",
        max_length=64,
        description="Name of the header.",
        json_schema_extra=extend(
            rule("self.matches(r'^[A-Za-z][A-Za-z0-9-]*$')", "must be a header's name such as X-Scope-OrgID")
        ),
    )
    value: str = Field(min_length=1, max_length=256, description="Its value, e.g. team-a.")


class Prometheus(Model):
    """Where the evidence comes from."""

    url: str = Field(
        max_length=1024,
        description="Base URL of the Prometheus API, e.g. http://prometheus.monitoring:9090.",
        json_schema_extra=extend(
            rule(
                "self.matches(r'^https?://[^ /?#]+(/[^ ?#]*)?$')",
                "must be http:// or https:// and a host, such as http://prometheus.monitoring:9090, no query",
            ),
            rule(
                "!self.matches(r'^[a-z]+://[^/?#]*@')",
                "must not hold a user or password, as everybody may read it: put them into a Secret and name it in "
                "secretRef",
            ),
            rule(
                "!self.matches(r'^https?://[^ /?#@]+(/|$)') || "
                "self.matches(r'^https?://([A-Za-z0-9._-]+|\\[[0-9a-fA-F:.]+\\])"
                "(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?(/|$)')",
                "must have a host name or address, and a port from 1 to 65535 if any, such as "
                "prometheus.monitoring:9090",
            ),
            rule(
                "!self.matches(r'/(api/v1|graph)(/.*)?$')",
                "must be the base URL, without /api/v1 or /graph: the operator adds the path of the API itself",
            ),
        ),
    )
    secret_ref: SecretRef | None = Field(
        default=None,
        description="Secret with the keys token (bearer), or username and password, and ca.crt for a private CA.",
    )
    tenant: Tenant | None = Field(default=None, description="Tenant header of Mimir, Cortex or Thanos.")
    timeout: Duration = Field(
        default="10s", description="How long one query may take.", json_schema_extra=between("1s", "2m")
    )
    stale_after: Duration = Field(
        default="1m",
        description="Samples older than this are stale: they neither promote nor roll back.",
        json_schema_extra=between("2s", "10m"),
    )
    delay: Duration = Field(
        default="0s",
        description="How long a sample may take from the scrape until queries find it, as by remote write or Thanos: "
        "evidence is read that much later, so that a later leader finds the same.",
        json_schema_extra=between("0s", "1m"),
    )


class ModelPolicySpec(Model):
    """Decisions of a platform team."""

    prometheus: Prometheus = Field(description="Where the evidence comes from.")
    dialects: list[OwnDialect] = Field(
        default_factory=list,
        max_length=16,
        description="Metrics dialects of one's own: what serving.metrics.dialect of a ModelDeployment may name beside "
        "those that are built in. Auto prefers them, the first one first.",
        json_schema_extra=extend(list_map_keys=("name",)),
    )
    objectives: list[Objective] = Field(
        default_factory=list,
        max_length=16,
        description="Objectives of a ModelDeployment that has none of its own.",
        json_schema_extra=extend(list_map_keys=("name",)),
    )
    steady_interval: Duration = Field(
        default="30s",
        description="How often models are looked at that have no rollout going on.",
        json_schema_extra=between("1s", "5m"),
    )


class ModelPolicyStatus(StatusModel):
    """Whether it works."""

    conditions: tuple[Condition, ...] = Field(
        default=(),
        max_length=8,
        description="PrometheusReachable.",
        json_schema_extra=extend(list_map_keys=("type",)),
    )
