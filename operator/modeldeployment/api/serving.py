"""`spec.serving`: what runs the model, and how its metrics are read."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field

from modeldeployment.api.base import Model, exactly_one, extend, rule

MODEL_CONTAINER = "model"
"""The container of the pod template that serves the model."""


class Dialect(StrEnum):
    """Names of metrics dialects that are built in; `api/dialects.yaml` has what each of them says."""

    GENERIC = "Generic"
    VLLM = "VLLM"
    SGLANG = "SGLang"
    TGI = "TGI"
    TRITON = "Triton"
    TORCHSERVE = "TorchServe"
    KSERVE = "KServe"
    MLSERVER = "MLServer"
    SELDON = "Seldon"
    BENTOML = "BentoML"
    RAY_SERVE = "RayServe"
    KNATIVE = "Knative"
    KNATIVE_LEGACY = "KnativeLegacy"
    ISTIO = "Istio"
    ENVOY = "Envoy"
    INGRESS_NGINX = "IngressNginx"
    ENVOY_GATEWAY = "EnvoyGateway"
    LLMD = "LLMD"
    AUTO = "Auto"
    """The one of which Prometheus has series."""
    CUSTOM = "Custom"
    """The counters that the spec itself names."""


REFUSED: Final = (Dialect.ENVOY_GATEWAY, Dialect.LLMD)
"""Those that cannot tell two versions apart: names that people try, so that the refusal says why."""
_USABLE: Final = ", ".join(name for name in Dialect if name not in REFUSED)


class LatencyUnit(StrEnum):
    """Unit of a histogram's bucket edges."""

    SECONDS = "Seconds"
    MILLISECONDS = "Milliseconds"


class SeriesIdentity(StrEnum):
    """Which labels say whose series it is."""

    POD = "Pod"
    """`namespace` and `pod`, as every Prometheus that scrapes pods attaches them."""
    WORKLOAD = "Workload"
    """`destination_workload_namespace` and `destination_workload`, as Istio reports them."""
    CLUSTER = "Cluster"
    """`envoy_cluster_name`, as Envoy reports its upstream clusters."""
    INGRESS = "Ingress"
    """`namespace`, `service` and `canary` (also as exported_...), as ingress-nginx reports its backends."""

    @property
    def of_gateway(self) -> bool:
        """Whether one endpoint counts for many models, and its scrape is news for each of them."""
        return self in (SeriesIdentity.CLUSTER, SeriesIdentity.INGRESS)


_MATCHER = r"""\s*[a-zA-Z_][a-zA-Z0-9_]*\s*(=|!=|=~|!~)\s*("([^"\\]|\\.)*"|\x27([^\x27\\]|\\.)*\x27)\s*"""
_SELECTOR = (
    rf"^([a-zA-Z_:][a-zA-Z0-9_:]*(\{{({_MATCHER}(,{_MATCHER})*,?\s*)?\}})?|\{{{_MATCHER}(,{_MATCHER})*,?\s*\}})$"
)
Selector = Annotated[
    str,
    Field(
        max_length=512,
        json_schema_extra=extend(
            rule(
                f"self.matches(r'{_SELECTOR}')",
                'must be one PromQL vector selector such as http_requests_total{code=~"5.."}: no functions, no ranges',
            )
        ),
    ),
]


class Histogram(Model):
    """A latency histogram: a classic one by its buckets, or a native one by itself."""

    model_config = ConfigDict(
        json_schema_extra=extend(
            rule(
                "has(self.buckets) != has(self.histogram)",
                "latency: set buckets for a classic histogram or histogram for a native one, and not both",
            )
        )
    )

    buckets: Selector | None = Field(
        default=None,
        description="Selector of a classic histogram's cumulative buckets, the series that end in _bucket.",
        json_schema_extra=extend(
            rule(
                "self.contains('_bucket')",
                "must select the buckets of a classic histogram, such as http_request_duration_seconds_bucket",
            )
        ),
    )
    histogram: Selector | None = Field(
        default=None,
        description="Selector of a native histogram, by the name without an ending.",
        json_schema_extra=extend(
            rule(
                "!self.matches(r'^[a-zA-Z0-9_:]*_bucket([{]|$)')",
                "must select a native histogram, such as http_request_duration_seconds: set buckets for the series "
                "of a classic one, which end in _bucket",
            )
        ),
    )
    unit: LatencyUnit = Field(description="Unit of the bucket edges, or of what a native histogram observes.")

    @property
    def selector(self) -> str:
        """Whichever of the two is set."""
        return self.buckets or self.histogram or ""


class MetricsSource(Model):
    """Which counters say how the model does. Missing `errors` or `latency` means: this runtime cannot tell."""

    requests: Selector = Field(description="Selector of the counter of all requests.")
    errors: Selector | None = Field(
        default=None, description="Selector of the counter of failed requests; leave out if there is none."
    )
    latency: Histogram | None = Field(
        default=None, description="The histogram of request durations; leave out if there is none."
    )
    identity: SeriesIdentity = Field(
        default=SeriesIdentity.POD,
        description="Which labels say whose series it is: the pod's, a mesh's destination workload's, an Envoy "
        "upstream cluster's, or those of ingress-nginx.",
    )


_OWN_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_BUILT_IN = [str(name) for name in Dialect]
_RESERVED = [name.lower() for name in _BUILT_IN]
"""Spelled like a built-in one but for its capitals: a mistake, and no name of one's own."""


class Metrics(Model):
    """How the model's metrics are read."""

    model_config = ConfigDict(
        json_schema_extra=extend(
            rule(
                "(self.dialect == 'Custom') == has(self.custom)",
                "set custom when dialect is Custom, and only then",
                field_path=".custom",
            )
        )
    )

    dialect: str = Field(
        default=Dialect.GENERIC.value,
        max_length=63,
        description=f"The serving runtime whose metrics these are: {_USABLE}, or the name of one of the "
        "ModelPolicy's spec.dialects. Generic reads inference_requests_total, inference_errors_total and "
        "inference_latency_ms_bucket. Auto takes the one of which Prometheus has series. Custom reads what custom "
        "says.",
        json_schema_extra=extend(
            rule(
                f"self in {_BUILT_IN} || (self.matches(r'{_OWN_NAME}') && !(self in {_RESERVED}))",
                f"must be one of {_USABLE}, or the name of one of the ModelPolicy's dialects, in "
                "lower-case letters, digits and -",
            )
        ),
    )
    path: str = Field(
        default="/metrics",
        max_length=256,
        description="Path of the metrics endpoint; written to the pods as prometheus.io/path unless the "
        "template has it.",
        json_schema_extra=extend(
            rule("self.matches(r'^/[^ ?#]*$')", "must be a path that starts with /, such as /metrics: no query")
        ),
    )
    port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Port of the metrics endpoint, default serving.port; written to the pods as prometheus.io/port "
        "unless the template has it.",
    )
    custom: MetricsSource | None = Field(default=None, description="The metrics of a runtime that no dialect knows.")


class OwnDialect(MetricsSource):
    """A dialect that a platform team adds to those that are built in."""

    name: str = Field(
        max_length=63,
        description="What serving.metrics.dialect calls it.",
        json_schema_extra=extend(
            rule(
                f"self.matches(r'{_OWN_NAME}') && !(self in {_RESERVED})",
                "must be lower-case letters, digits and -, such as acme-tabular, and not the name of a dialect that "
                "is built in",
            )
        ),
    )


class ContainerPort(Model):
    """A port of a container as Kubernetes has it."""

    model_config = ConfigDict(extra="allow", json_schema_extra=extend(any_fields=True))

    container_port: int = Field(ge=1, le=65535, description="Port on which the container listens.")


class Container(Model):
    """A container as Kubernetes has it; only what this operator reads is named here."""

    model_config = ConfigDict(
        extra="allow",
        # A Deployment without an image is refused long after `kubectl apply` has gone home happy.
        json_schema_extra=extend(any_fields=True, required=["name", "image"]),
    )

    name: str = Field(
        max_length=63,
        description="Name; the container named model serves the model.",
        json_schema_extra=extend(
            rule(
                "self.matches(r'^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
                "must be lower-case letters, digits and -, such as model",
            )
        ),
    )
    image: str | None = Field(
        default=None, min_length=1, max_length=1024, description="Image, e.g. registry/fraud:1.4.0."
    )
    ports: list[ContainerPort] | None = Field(
        default=None,
        max_length=32,
        description="Ports that the container declares.",
        json_schema_extra=extend(list_type="atomic"),
    )


class PodSpec(Model):
    """A pod's spec as Kubernetes has it; the API server checks it whole when the Deployment is made."""

    model_config = ConfigDict(extra="allow", json_schema_extra=extend(any_fields=True))

    containers: list[Container] = Field(
        max_length=16,
        description="The containers of the pod; one must be named model.",
        json_schema_extra=extend(
            rule(
                "self.exists(c, c.name == 'model')",
                "one container must be named model: it is the one that serves the model",
            ),
            list_map_keys=("name",),
        ),
    )


_KEY = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
_KEY_RULE = rule(
    f"self.all(k, k.matches(r'{_KEY}'))",
    "each key must be a name such as team or example.com/team: letters, digits and - _ . , at most 63 after the /",
)
_OWN_RULE = rule(
    "self.all(k, !k.startsWith('modeldeployment.io/'))",
    "keys that start with modeldeployment.io/ are written by the operator: leave them out",
)
_Labels = Annotated[
    dict[str, Annotated[str, Field(max_length=63)]],
    Field(
        max_length=64,
        json_schema_extra=extend(
            _KEY_RULE,
            _OWN_RULE,
            rule(
                "self.all(k, self[k].matches(r'^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$'))",
                "each value must be letters, digits and - _ . , such as ml-platform",
            ),
            map_type="granular",
        ),
    ),
]
_Annotations = Annotated[
    dict[str, Annotated[str, Field(max_length=4096)]],
    Field(max_length=64, json_schema_extra=extend(_KEY_RULE, _OWN_RULE, map_type="granular")),
]


class TemplateMetadata(Model):
    """Labels and annotations of the pods."""

    labels: _Labels | None = Field(default=None, description="Labels of the pods, beside the operator's own.")
    annotations: _Annotations | None = Field(default=None, description="Annotations of the pods.")


class PodTemplate(Model):
    """The pods that serve one version."""

    metadata: TemplateMetadata | None = Field(default=None, description="Labels and annotations of the pods.")
    spec: PodSpec = Field(description="The pod as in a Deployment's template; the container named model serves.")


class Serving(Model):
    """What runs the model: a union, of which `template` is the member built so far."""

    model_config = ConfigDict(
        json_schema_extra=extend(
            exactly_one("template", of="serving"),
            rule(
                "!has(self.template) || self.template.spec.containers.all(c, c.name != 'model' || !has(c.ports) || "
                "c.ports.exists(p, p.containerPort == self.port))",
                "port: must be a containerPort of the container model (8080 if left out): requests are sent there",
                field_path=".port",
            ),
        )
    )

    template: PodTemplate | None = Field(
        default=None, description="A pod template; each version gets a Deployment and a Service made from it."
    )
    replicas: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="Pods that serve the whole traffic; a canary gets its share of them. An autoscaler may drive it "
        "through the scale subresource.",
    )
    port: int = Field(default=8080, ge=1, le=65535, description="Port on which the container model answers requests.")
    metrics: Metrics = Field(
        default_factory=Metrics,
        description="How the model's metrics are read.",
        json_schema_extra={"default": {"dialect": "Generic"}},
    )

    def pod_template(self) -> dict[str, Any]:
        """The template as written."""
        assert self.template is not None  # the union's rule
        return self.template.to_json()
