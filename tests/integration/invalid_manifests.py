"""Manifests that people will write by mistake, and what the API server must tell them: a table.

No webhook takes part: all of it is refused by the CRDs' own schemas and CEL rules. Each case is one mistake.
`path` is the field that the answer must name: by default the first one that was changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from builders import ABSENT, DIGEST, Manifest, Overrides, model_deployment, model_policy, model_revision


@dataclass(frozen=True)
class Invalid:
    """One mistake.

    Attributes:
        name: the mistake in a few words.
        build: makes the valid manifest that it is made in.
        overrides: the mistake.
        says: texts that the answer must have in it.
        path: the field that the answer must name.
        update: the manifest is created without the overrides first, and then changed by them.
    """

    name: str
    build: Callable[[Overrides], Manifest]
    overrides: Mapping[str, Any]
    says: tuple[str, ...]
    path: str
    update: bool = field(default=False)


def _of(build: Callable[[Overrides], Manifest], update: bool = False) -> Callable[..., Invalid]:
    def case(name: str, overrides: Mapping[str, Any], *says: str, path: str = "") -> Invalid:
        return Invalid(name, build, overrides, says, path or next(iter(overrides)), update)

    return case


_deployment, _revision, _policy = _of(model_deployment), _of(model_revision), _of(model_policy)
_change = _of(model_revision, update=True)

_A_PERCENTAGE: Final = 'must be a percentage between 0% and 100% such as "1%" or "99.5%" (with the percent sign)'
_A_DURATION: Final = "must be a duration such as 500ms, 30s, 5m or 1h30m"
_A_WEIGHT: Final = "must be a whole percentage from 1% to 100% such as 10%"
_A_VERSION: Final = "must be a version such as 1.4.0"
_A_SHARE: Final = "must be above 0% and below 100%"
_A_HOST: Final = "each must be a host name in lower case such as fraud.example.com"
_A_PATH: Final = "must be a path that starts with /"
_A_SELECTOR: Final = "must be one PromQL vector selector"
_A_NAME: Final = "must be lower-case letters, digits and -"
_UNKNOWN: Final = "unknown field"
_NOT_TEXT: Final = "must be of type string"
_RISING: Final = "each step must send more traffic than the one before"

_CANARY: Final = "spec.rollout.canary"
_ANALYSIS: Final = "spec.rollout.analysis"
_ON: Final = "spec.rollout.rollbackOn"
_CONTAINERS: Final = "spec.serving.template.spec.containers"
_POD: Final = "spec.serving.template.metadata"
_GATEWAY: Final = "spec.traffic.gateway"
_METRICS: Final = "spec.serving.metrics"
_URL: Final = "spec.prometheus.url"
_CUSTOM: Final[Manifest] = {
    "dialect": "Custom",
    "custom": {
        "requests": "requests_total",
        "errors": 'requests_total{code=~"5.."}',
        "latency": {"buckets": "request_seconds_bucket", "unit": "Seconds"},
    },
}


_OWN: Final[Manifest] = {"name": "acme", "requests": "acme_total"}


def _steps(*weights: str, **more: str) -> Mapping[str, Any]:
    return {f"{_CANARY}.steps": [{"traffic": w, **more} for w in weights], f"{_CANARY}.traffic": ABSENT}


def _promql(**bounds: Any) -> Mapping[str, Any]:
    return {"spec.objectives[2]": {"name": "lag", "promql": {"query": "max(lag)", **bounds}}}


def _custom(**overrides: Any) -> Mapping[str, Any]:
    """spec.serving.metrics.custom with these members, None for: without."""
    members = {k: v for k, v in (_CUSTOM["custom"] | overrides).items() if v is not None}
    return {_METRICS: _CUSTOM | {"custom": members}}


MODEL: Final = (
    _deployment("no model", {"spec.model": ABSENT}, "Required value"),
    _deployment("no version", {"spec.model.version": ABSENT}, "Required value"),
    _deployment("empty version", {"spec.model.version": ""}, _A_VERSION),
    _deployment("version with a slash", {"spec.model.version": "release/1.4"}, _A_VERSION),
    _deployment("version of 64 characters", {"spec.model.version": "1" * 64}, "Too long", "63"),
    _deployment("version as a number", {"spec.model.version": 1.4}, _NOT_TEXT),
    _deployment(
        "uri without a scheme", {"spec.model.uri": "models/fraud/1.4.0"}, "must be a URI with a scheme", "s3://"
    ),
    _deployment("uri with a space", {"spec.model.uri": "s3://models/my model"}, "must be a URI with a scheme"),
    _deployment("digest without algorithm", {"spec.model.digest": DIGEST[7:]}, 'must be "sha256:" and 64'),
    _deployment("digest in upper case", {"spec.model.digest": DIGEST.upper()}, "lower-case hexadecimal"),
    _deployment("digest cut short", {"spec.model.digest": DIGEST[:-1]}, 'must be "sha256:" and 64'),
    _deployment("digest of md5", {"spec.model.digest": "md5:" + "a" * 32}, 'must be "sha256:" and 64'),
    _deployment("kind in lower case", {"spec.model.kind": "online"}, "Unsupported value", '"Online"'),
    _deployment("unknown field in model", {"spec.model.url": "s3://models/fraud"}, _UNKNOWN),
    _deployment("framework with a space", {"spec.model.framework": "my own"}, "must be a short name such as sklearn"),
)

SERVING: Final = (
    _deployment("no serving", {"spec.serving": ABSENT}, "Required value"),
    _deployment("nothing to run", {"spec.serving.template": ABSENT}, "set template", path="spec.serving"),
    _deployment("a runtime from the future", {"spec.serving.workloadRef": {"name": "fraud"}}, _UNKNOWN),
    _deployment("no container", {_CONTAINERS: []}, "one container must be named model"),
    _deployment("no container named model", {f"{_CONTAINERS}[0].name": "main"}, "one container must be named model",
                path=_CONTAINERS),
    _deployment("two containers named model", {f"{_CONTAINERS}[1]": {"name": "model", "image": "x"}},
                "Duplicate value"),
    _deployment("container name with _", {f"{_CONTAINERS}[1]": {"name": "side_car", "image": "x"}}, _A_NAME,
                path=f"{_CONTAINERS}[1].name"),
    _deployment("container without a name", {f"{_CONTAINERS}[0].name": ABSENT}, "Required value"),
    _deployment("container without an image", {f"{_CONTAINERS}[0].image": ABSENT}, "Required value"),
    _deployment("container with an empty image", {f"{_CONTAINERS}[0].image": ""}, "at least 1 chars"),
    _deployment("no replicas", {"spec.serving.replicas": 0}, "greater than or equal to 1"),
    _deployment("too many replicas", {"spec.serving.replicas": 1001}, "less than or equal to 1000"),
    _deployment("half a replica", {"spec.serving.replicas": 1.5}, "must be of type integer"),
    _deployment("port 0", {"spec.serving.port": 0}, "greater than or equal to 1"),
    _deployment("port 70000", {"spec.serving.port": 70000}, "less than or equal to 65535"),
    _deployment("port by name", {"spec.serving.port": "http"}, "must be of type integer"),
    _deployment("a port that the container does not declare", {"spec.serving.port": 9000},
                "must be a containerPort of the container model", path="spec.serving.port"),
    _deployment("label value with spaces", {f"{_POD}.labels": {"team": "risk and fraud"}},
                "each value must be letters, digits"),
    _deployment("label value of 64 characters", {f"{_POD}.labels": {"team": "x" * 64}}, "Too long",
                path=f"{_POD}.labels.team"),
    _deployment("label key with a space", {f"{_POD}.labels": {"my team": "risk"}},
                "each key must be a name such as team"),
    _deployment("the operator's own label", {f"{_POD}.labels": {"modeldeployment.io/revision": "mine"}},
                "written by the operator: leave them out"),
    _deployment("the operator's own annotation", {f"{_POD}.annotations": {"modeldeployment.io/version": "1"}},
                "written by the operator: leave them out"),
    _deployment("unknown field in the pod's metadata", {f"{_POD}.name": "fraud"}, _UNKNOWN),
    _deployment("unknown field in serving", {"spec.serving.image": "registry/fraud"}, _UNKNOWN),
)  # fmt: skip

METRICS: Final = (
    _deployment("dialect in lower case", {f"{_METRICS}.dialect": "kserve"}, "must be one of Generic, VLLM", "KServe"),
    _deployment("dialect that there is not", {f"{_METRICS}.dialect": "Tensorflow"}, "must be one of Generic, VLLM",
                "one of the ModelPolicy's dialects"),
    _deployment("dialect of one's own with a capital", {f"{_METRICS}.dialect": "acmeTabular"},
                "in lower-case letters, digits and -"),
    _deployment("dialect of 64 characters", {f"{_METRICS}.dialect": "x" * 64}, "Too long", "63"),
    _deployment("Envoy Gateway's clusters", {f"{_METRICS}.dialect": "EnvoyGateway"}, "in which both versions are",
                "Use the model server's own dialect"),
    _deployment("the endpoint picker of llm-d", {f"{_METRICS}.dialect": "LLMD"}, "in which both versions are",
                "VLLM, SGLang"),
    _deployment("Auto with custom", {_METRICS: _CUSTOM | {"dialect": "Auto"}}, "set custom when dialect is Custom",
                path=f"{_METRICS}.custom"),
    _deployment("metrics path without /", {f"{_METRICS}.path": "metrics"}, _A_PATH),
    _deployment("metrics port 0", {f"{_METRICS}.port": 0}, "greater than or equal to 1"),
    _deployment("unknown field in metrics", {f"{_METRICS}.interval": "5s"}, _UNKNOWN),
    _deployment("Custom without custom", {f"{_METRICS}.dialect": "Custom"}, "set custom when dialect is Custom",
                path=f"{_METRICS}.custom"),
    _deployment("custom without Custom", {f"{_METRICS}.custom": _CUSTOM["custom"]},
                "set custom when dialect is Custom"),
    _deployment("custom without requests", _custom(requests=None), "Required value",
                path=f"{_METRICS}.custom.requests"),
    _deployment("custom with an empty selector", _custom(requests=""), _A_SELECTOR,
                path=f"{_METRICS}.custom.requests"),
    _deployment("custom with a query", _custom(requests="sum(rate(requests_total[1m]))"), _A_SELECTOR,
                path=f"{_METRICS}.custom.requests"),
    _deployment("custom with a range", _custom(requests="requests_total[5m]"), _A_SELECTOR,
                path=f"{_METRICS}.custom.requests"),
    _deployment("custom that selects everything", _custom(requests="{}"), _A_SELECTOR,
                path=f"{_METRICS}.custom.requests"),
    _deployment("custom with an unquoted value", _custom(errors="requests_total{code=500}"), _A_SELECTOR,
                path=f"{_METRICS}.custom.errors"),
    _deployment("buckets without _bucket", _custom(latency={"buckets": "request_seconds", "unit": "Seconds"}),
                "must select the buckets of a classic histogram", path=f"{_METRICS}.custom.latency.buckets"),
    _deployment("buckets and a histogram",
                _custom(latency={"buckets": "s_bucket", "histogram": "s", "unit": "Seconds"}),
                "set buckets for a classic histogram or histogram for a native one, and not both",
                path=f"{_METRICS}.custom.latency"),
    _deployment("neither buckets nor a histogram", _custom(latency={"unit": "Seconds"}),
                "set buckets for a classic histogram or histogram for a native one, and not both",
                path=f"{_METRICS}.custom.latency"),
    _deployment("a histogram that is buckets", _custom(latency={"histogram": 's_bucket{a="b"}', "unit": "Seconds"}),
                "must select a native histogram", path=f"{_METRICS}.custom.latency.histogram"),
    _deployment("buckets without a unit", _custom(latency={"buckets": "request_seconds_bucket"}), "Required value",
                path=f"{_METRICS}.custom.latency.unit"),
    _deployment("buckets with an unknown unit", _custom(latency={"buckets": "request_ms_bucket", "unit": "ms"}),
                "Unsupported value", '"Milliseconds"', path=f"{_METRICS}.custom.latency.unit"),
    _deployment("series of an unknown kind of thing", _custom(identity="Service"), "Unsupported value", '"Workload"',
                path=f"{_METRICS}.custom.identity"),
    _deployment("KServe and an objective on errors", {f"{_METRICS}.dialect": "KServe", _ON: ABSENT},
                "KServe has no counter of errors", "Istio or Envoy", path="spec.objectives"),
    _deployment("KServe and an objective on availability",
                {f"{_METRICS}.dialect": "KServe", _ON: ABSENT,
                 "spec.objectives[0]": {"name": "up", "availability": {"min": "99.5%"}}},
                "KServe has no counter of errors", path="spec.objectives"),
    _deployment("KServe and rollbackOn errors", {f"{_METRICS}.dialect": "KServe", "spec.objectives": []},
                "KServe has no counter of errors", "leave errorRate out", path=f"{_ON}.errorRate"),
    *(
        _deployment(f"{dialect} and an objective on latency", {f"{_METRICS}.dialect": dialect, _ON: ABSENT},
                    f"{dialect} has no latency histogram", "Istio or Envoy", path="spec.objectives")
        for dialect in ("Triton", "TorchServe")
    ),
    *(
        _deployment(f"{dialect} and rollbackOn latency",
                    {f"{_METRICS}.dialect": dialect, "spec.objectives": [], _ON: {"p95LatencyMs": ">800"}},
                    f"{dialect} has no latency histogram", "leave latency bounds out", path=_ON)
        for dialect in ("Triton", "TorchServe")
    ),
    _deployment("Triton says which option turns the histogram on", {f"{_METRICS}.dialect": "Triton", _ON: ABSENT},
                "--metrics-config histogram_latencies=true", path="spec.objectives"),
    _deployment("custom without errors, an objective on them", {**_custom(errors=None), _ON: ABSENT},
                "set serving.metrics.custom.errors", path="spec.objectives"),
    _deployment("custom without latency, an objective on it", {**_custom(latency=None), _ON: ABSENT},
                "set serving.metrics.custom.latency", path="spec.objectives"),
    _deployment("custom without errors, rollbackOn them", {**_custom(errors=None), "spec.objectives": []},
                "set serving.metrics.custom.errors", path=f"{_ON}.errorRate"),
    _deployment("custom without latency, rollbackOn it", {**_custom(latency=None), "spec.objectives": []},
                "set serving.metrics.custom.latency", path=_ON),
)  # fmt: skip

TRAFFIC: Final = (
    _deployment("no traffic", {"spec.traffic": ABSENT}, "Required value"),
    _deployment("no router", {"spec.traffic": {}}, "set gateway"),
    _deployment("two routers", {"spec.traffic.istio": {"gateways": ["public"]}}, _UNKNOWN),
    _deployment("no gateway", {f"{_GATEWAY}.parentRefs": []}, "at least 1 items"),
    _deployment("no parentRefs", {f"{_GATEWAY}.parentRefs": ABSENT}, "Required value"),
    _deployment("gateway without a name", {f"{_GATEWAY}.parentRefs[0]": {"namespace": "infra"}}, "Required value",
                path=f"{_GATEWAY}.parentRefs[0].name"),
    _deployment("gateway in upper case", {f"{_GATEWAY}.parentRefs[0].name": "Public"}, "must be the name of a Gateway"),
    _deployment("gateway as namespace/name", {f"{_GATEWAY}.parentRefs[0].name": "infra/public"},
                "must be the name of a Gateway"),
    _deployment("gateway's namespace with a dot", {f"{_GATEWAY}.parentRefs[0].namespace": "infra.eu"},
                "must be a namespace"),
    _deployment("listener with a space", {f"{_GATEWAY}.parentRefs[0].sectionName": "the https one"},
                "must be the name of a listener"),
    _deployment("the same gateway twice", {f"{_GATEWAY}.parentRefs": [{"name": "public"}, {"name": "public"}]},
                "each Gateway may be there once only"),
    _deployment("a gateway and one of its listeners",
                {f"{_GATEWAY}.parentRefs": [{"name": "public"}, {"name": "public", "sectionName": "https"}]},
                "once for each of its listeners with sectionName"),
    _deployment("host name with a scheme", {f"{_GATEWAY}.hostnames": ["https://fraud.example.com"]},
                _A_HOST, "no scheme"),
    _deployment("host name with a port", {f"{_GATEWAY}.hostnames": ["fraud.example.com:443"]}, _A_HOST, "no port"),
    _deployment("host name with a path", {f"{_GATEWAY}.hostnames": ["fraud.example.com/v1"]}, _A_HOST, "no path"),
    _deployment("host name in upper case", {f"{_GATEWAY}.hostnames": ["Fraud.example.com"]}, _A_HOST),
    _deployment("host name that ends in a dot", {f"{_GATEWAY}.hostnames": ["fraud.example.com."]}, _A_HOST),
    _deployment("host name that is a wildcard only", {f"{_GATEWAY}.hostnames": ["*"]}, _A_HOST),
    _deployment("host name with a wildcard inside", {f"{_GATEWAY}.hostnames": ["fraud.*.com"]}, _A_HOST),
    _deployment("host name twice", {f"{_GATEWAY}.hostnames": ["a.example.com", "a.example.com"]}, "once only"),
    _deployment("host name that is an address", {f"{_GATEWAY}.hostnames": ["10.0.0.1"]}, "not an IP address"),
    _deployment("host name with a part too long", {f"{_GATEWAY}.hostnames": [f"{'x' * 64}.com"]}, "63 characters"),
    _deployment("host name that is empty", {f"{_GATEWAY}.hostnames": [""]}, _A_HOST),
    _deployment("17 host names", {f"{_GATEWAY}.hostnames": [f"h{n}.example.com" for n in range(17)]},
                "at most 16 items"),
    _deployment("path without /", {f"{_GATEWAY}.pathPrefix": "v1/fraud"}, _A_PATH),
    _deployment("path with a query", {f"{_GATEWAY}.pathPrefix": "/v1?model=fraud"}, _A_PATH, "no query"),
    _deployment("path with a wildcard after //", {f"{_GATEWAY}.pathPrefix": "/v1//fraud"}, _A_PATH),
    _deployment("path with ..", {f"{_GATEWAY}.pathPrefix": "/v1/../fraud"}, "must not have the parts . and .."),
    _deployment("path with %2F", {f"{_GATEWAY}.pathPrefix": "/v1%2Ffraud"}, "an encoded /"),
    _deployment("unknown field in gateway", {f"{_GATEWAY}.weight": 10}, _UNKNOWN),
    _deployment("unknown field in parentRefs", {f"{_GATEWAY}.parentRefs[0].kind": "Gateway"}, _UNKNOWN),
)  # fmt: skip

OBJECTIVES: Final = (
    _deployment("objectives as a map", {"spec.objectives": {"errors": {"errorRate": {"max": "1%"}}}},
                _UNKNOWN, path="spec.objectives.errors"),
    _deployment("objectives as text", {"spec.objectives": "errors < 1%"}, "must be of type array"),
    _deployment("two objectives of one name", {"spec.objectives[1].name": "errors"}, "Duplicate value", '"errors"',
                path="spec.objectives[1]"),
    _deployment("objective without a name", {"spec.objectives[0].name": ABSENT}, "Required value"),
    _deployment("objective with a name in words", {"spec.objectives[0].name": "Error rate"}, _A_NAME),
    _deployment("objective without a bound", {"spec.objectives[0].errorRate": ABSENT}, "set exactly one of errorRate",
                path="spec.objectives[0]"),
    _deployment("objective with two bounds", {"spec.objectives[0].latency": {"quantile": 0.99, "max": "1s"}},
                "set exactly one of errorRate", path="spec.objectives[0]"),
    _deployment("objective of an unknown kind", {"spec.objectives[0].throughput": {"min": 5}}, _UNKNOWN),
    _deployment("17 objectives",
                {"spec.objectives": [{"name": f"o{n}", "errorRate": {"max": "1%"}} for n in range(17)]},
                "at most 16 items"),
    _deployment("error rate as a fraction", {"spec.objectives[0].errorRate.max": "0.01"}, _A_PERCENTAGE),
    _deployment("error rate as a number", {"spec.objectives[0].errorRate.max": 1}, _NOT_TEXT),
    _deployment("error rate without %", {"spec.objectives[0].errorRate.max": "1"}, _A_PERCENTAGE),
    _deployment("error rate below zero", {"spec.objectives[0].errorRate.max": "-1%"}, _A_PERCENTAGE),
    _deployment("error rate above 100%", {"spec.objectives[0].errorRate.max": "101%"}, _A_PERCENTAGE),
    _deployment("error rate of 100%", {"spec.objectives[0].errorRate.max": "100%"}, _A_SHARE),
    _deployment("error rate of 100.0%", {"spec.objectives[0].errorRate.max": "100.0%"}, _A_SHARE),
    _deployment("error rate of 0%", {"spec.objectives[0].errorRate.max": "0%"}, _A_SHARE, "such as 1%"),
    _deployment("error rate with a comma", {"spec.objectives[0].errorRate.max": "0,5%"}, _A_PERCENTAGE),
    _deployment("error rate without max", {"spec.objectives[0].errorRate": {}}, "Required value",
                path="spec.objectives[0].errorRate.max"),
    _deployment("error rate with min", {"spec.objectives[0].errorRate.min": "1%"}, _UNKNOWN),
    _deployment("quantile 99", {"spec.objectives[1].latency.quantile": 99}, "Unsupported value: 99", "0.99"),
    _deployment("quantile p99", {"spec.objectives[1].latency.quantile": "p99"}, "Unsupported value", "0.99"),
    _deployment("quantile 99%", {"spec.objectives[1].latency.quantile": "99%"}, "Unsupported value", "0.99"),
    _deployment("no quantile", {"spec.objectives[1].latency.quantile": ABSENT}, "Required value"),
    _deployment("quantile without a bound", {"spec.objectives[1].latency.max": ABSENT}, "Required value"),
    _deployment("latency without a unit", {"spec.objectives[1].latency.max": "800"}, _A_DURATION),
    _deployment("latency as a number", {"spec.objectives[1].latency.max": 800}, _NOT_TEXT),
    _deployment("latency with a space", {"spec.objectives[1].latency.max": "800 ms"}, _A_DURATION),
    _deployment("latency as a fraction", {"spec.objectives[1].latency.max": "0.8s"}, _A_DURATION, "whole numbers"),
    _deployment("latency in microseconds", {"spec.objectives[1].latency.max": "800us"}, _A_DURATION, "h, m, s, ms"),
    _deployment("latency of zero", {"spec.objectives[1].latency.max": "0s"}, "must be from 1ms to 24h"),
    _deployment("availability without %",
                {"spec.objectives[0]": {"name": "up", "availability": {"min": "99.5"}}}, _A_PERCENTAGE,
                path="spec.objectives[0].availability.min"),
    _deployment("availability of 100%",
                {"spec.objectives[0]": {"name": "up", "availability": {"min": "100%"}}}, "from 50% up to below 100%",
                path="spec.objectives[0].availability.min"),
    _deployment("availability as an error rate",
                {"spec.objectives[0]": {"name": "up", "availability": {"min": "0.5%"}}}, "from 50% up to below 100%",
                path="spec.objectives[0].availability.min"),
    _deployment("query without a bound", _promql(), "set exactly one of max, min", path="spec.objectives[2].promql"),
    _deployment("query with both bounds", _promql(max="2", min="1"), "set exactly one of max, min",
                path="spec.objectives[2].promql"),
    _deployment("query's bound as a number", _promql(max=0.2), _NOT_TEXT, path="spec.objectives[2].promql.max"),
    _deployment("query's bound in %", _promql(max="20%"), "must be a decimal number as a string",
                path="spec.objectives[2].promql.max"),
    _deployment("query's bound in powers", _promql(max="1e3"), "must be a decimal number as a string",
                path="spec.objectives[2].promql.max"),
    _deployment("empty query", _promql(query="", max="1"), "at least 1 chars", path="spec.objectives[2].promql.query"),
    _deployment("query held in days", _promql(max="1", sustained="1d"), _A_DURATION,
                path="spec.objectives[2].promql.sustained"),
    _deployment("query held for too long", _promql(max="1", sustained="48h"), "must be from 0s to 24h",
                path="spec.objectives[2].promql.sustained"),
    _deployment("budget over an hour", {"spec.objectives[0].budget": {"period": "1h"}}, "must be from 168h to 2160h",
                path="spec.objectives[0].budget.period"),
    _deployment("budget in days", {"spec.objectives[0].budget": {"period": "30d"}}, "with the units h, m, s, ms",
                path="spec.objectives[0].budget.period"),
    _deployment("budget of a query",
                {"spec.objectives[2]": {"name": "lag", "promql": {"query": "max(lag)", "max": "1"},
                                        "budget": {"period": "720h"}}},
                "so it has no error budget: leave budget out", path="spec.objectives[2].budget"),
    _deployment("window of an objective too short", {"spec.objectives[0].window": "1s"}, "must be from 10s to 24h"),
    _deployment("window of an objective in days", {"spec.objectives[0].window": "28d"}, _A_DURATION),
)  # fmt: skip

ROLLOUT: Final = (
    _deployment("weight as a number", {f"{_CANARY}.traffic": 10}, _NOT_TEXT),
    _deployment("weight without %", {f"{_CANARY}.traffic": "10"}, _A_WEIGHT),
    _deployment("weight over 100%", {f"{_CANARY}.traffic": "110%"}, _A_WEIGHT),
    _deployment("weight of zero", {f"{_CANARY}.traffic": "0%"}, _A_WEIGHT),
    _deployment("weight with a fraction", {f"{_CANARY}.traffic": "2.5%"}, _A_WEIGHT),
    _deployment("weight as a fraction", {f"{_CANARY}.traffic": "0.1"}, _A_WEIGHT),
    _deployment("canary without a weight", {_CANARY: {}}, "set exactly one of traffic, steps"),
    _deployment("weight and steps", {f"{_CANARY}.steps": [{"traffic": "5%"}]}, "set exactly one of traffic, steps",
                path=_CANARY),
    _deployment("no steps", _steps(), "at least 1 items"),
    _deployment("21 steps", _steps(*(f"{n}%" for n in range(1, 22))), "at most 20 items"),
    _deployment("steps that go down", _steps("50%", "25%"), _RISING),
    _deployment("steps that stay", _steps("5%", "25%", "25%"), _RISING),
    _deployment("steps as text sort, not as numbers", _steps("10%", "5%"), _RISING),
    _deployment("step without a weight", {**_steps(), f"{_CANARY}.steps": [{"duration": "5m"}]}, "Required value",
                path=f"{_CANARY}.steps[0].traffic"),
    _deployment("step without %", _steps("5", "25"), _A_WEIGHT, path=f"{_CANARY}.steps[0].traffic"),
    _deployment("step in minutes in words", _steps("5%", duration="5 minutes"), _A_DURATION,
                path=f"{_CANARY}.steps[0].duration"),
    _deployment("step that pauses for ever", _steps("5%", pause="true"), _UNKNOWN, path=f"{_CANARY}.steps[0].pause"),
    _deployment("steps longer than the deadline", _steps("5%", "25%", "50%", duration="1h"),
                "must be longer than the durations of all canary.steps together", path="spec.rollout.deadline"),
    _deployment("another strategy", {"spec.rollout.blueGreen": {}}, _UNKNOWN),
    _deployment("unknown field in rollout", {"spec.rollout.maxSurge": 1}, _UNKNOWN),
    _deployment("rollbackOn nothing", {_ON: {}}, "set at least one bound"),
    _deployment("rollbackOn an unknown key", {f"{_ON}.p42LatencyMs": ">800"}, _UNKNOWN),
    _deployment("rollbackOn error rate without >", {f"{_ON}.errorRate": "1%"}, 'must be ">" and a percentage'),
    _deployment("rollbackOn error rate without %", {f"{_ON}.errorRate": ">1"}, 'must be ">" and a percentage'),
    _deployment("rollbackOn error rate below", {f"{_ON}.errorRate": "<1%"}, 'must be ">" and a percentage'),
    _deployment("rollbackOn error rate at least", {f"{_ON}.errorRate": ">=1%"}, 'must be ">" and a percentage'),
    _deployment("rollbackOn any error", {f"{_ON}.errorRate": ">0%"}, _A_SHARE),
    _deployment("rollbackOn nothing but errors", {f"{_ON}.errorRate": ">100%"}, _A_SHARE),
    _deployment("rollbackOn latency without >", {f"{_ON}.p99LatencyMs": "800"}, 'must be ">" and whole milliseconds'),
    _deployment("rollbackOn latency with a unit", {f"{_ON}.p99LatencyMs": ">800ms"}, "without a unit"),
    _deployment("rollbackOn latency as a number", {f"{_ON}.p99LatencyMs": 800}, _NOT_TEXT),
    _deployment("rollbackOn latency of zero", {f"{_ON}.p99LatencyMs": ">0"}, "must be above zero"),
    _deployment("interval too short", {f"{_ANALYSIS}.interval": "500ms"}, "must be from 1s to 5m"),
    _deployment("interval too long", {f"{_ANALYSIS}.interval": "10m"}, "must be from 1s to 5m"),
    _deployment("interval without a unit", {f"{_ANALYSIS}.interval": "10"}, _A_DURATION),
    _deployment("tolerance of more than tenfold", {f"{_ANALYSIS}.sequential": {"tolerance": "11"}},
                'must be from "1" to "10"', path=f"{_ANALYSIS}.sequential.tolerance"),
    _deployment("judge in lower case", {f"{_ANALYSIS}.judge": "threshold"}, "Unsupported value", '"Threshold"'),
    _deployment("threshold without its judge", {f"{_ANALYSIS}.threshold": {"failures": 2}}, "set judge to Threshold"),
    _deployment("sequential without its judge", {f"{_ANALYSIS}.sequential": {}, f"{_ANALYSIS}.judge": "Threshold"},
                "set judge to Sequential"),
    _deployment("window shorter than the interval",
                {f"{_ANALYSIS}.interval": "1m", f"{_ANALYSIS}.judge": "Threshold",
                 f"{_ANALYSIS}.threshold": {"window": "30s"}}, "must not be longer than threshold.window"),
    _deployment("default window shorter than the interval",
                {f"{_ANALYSIS}.interval": "2m", f"{_ANALYSIS}.judge": "Threshold"}, "default 1m"),
    _deployment("window too long",
                {f"{_ANALYSIS}.judge": "Threshold", f"{_ANALYSIS}.threshold": {"window": "2h"}},
                "must be from 1s to 1h", path=f"{_ANALYSIS}.threshold.window"),
    _deployment("window without samples",
                {f"{_ANALYSIS}.judge": "Threshold", f"{_ANALYSIS}.threshold": {"minSamples": 0}},
                "greater than or equal to 1", path=f"{_ANALYSIS}.threshold.minSamples"),
    _deployment("no failures allowed",
                {f"{_ANALYSIS}.judge": "Threshold", f"{_ANALYSIS}.threshold": {"failures": 0}},
                "greater than or equal to 1", path=f"{_ANALYSIS}.threshold.failures"),
    _deployment("unknown counting",
                {f"{_ANALYSIS}.judge": "Threshold", f"{_ANALYSIS}.threshold": {"counting": "Total"}},
                "Unsupported value", '"Cumulative"', path=f"{_ANALYSIS}.threshold.counting"),
    _deployment("false rollbacks of 0%", {f"{_ANALYSIS}.sequential": {"falseRollback": "0%"}},
                "must be above 0% and at most 20%", path=f"{_ANALYSIS}.sequential.falseRollback"),
    _deployment("false rollbacks of 50%", {f"{_ANALYSIS}.sequential": {"falseRollback": "50%"}},
                "must be above 0% and at most 20%", path=f"{_ANALYSIS}.sequential.falseRollback"),
    _deployment("false rollbacks as a fraction", {f"{_ANALYSIS}.sequential": {"falseRollback": "0.05"}}, _A_PERCENTAGE,
                path=f"{_ANALYSIS}.sequential.falseRollback"),
    _deployment("detectable below the bound", {f"{_ANALYSIS}.sequential": {"detectable": "0.5"}}, 'from "1" to "10"',
                path=f"{_ANALYSIS}.sequential.detectable"),
    _deployment("detectable as a number", {f"{_ANALYSIS}.sequential": {"detectable": 2}}, _NOT_TEXT,
                path=f"{_ANALYSIS}.sequential.detectable"),
    _deployment("deadline in words", {"spec.rollout.deadline": "10 minutes"}, _A_DURATION),
    _deployment("deadline too short", {"spec.rollout.deadline": "5s"}, "must be from 10s to 168h"),
    _deployment("deadline before the first look", {"spec.rollout.deadline": "1m", f"{_ANALYSIS}.interval": "5m"},
                "must be longer than analysis.interval"),
    _deployment("progress deadline of zero", {"spec.rollout.progressDeadline": "0s"}, "must be from 1s to 24h"),
    _deployment("onInconclusive in lower case", {"spec.rollout.onInconclusive": "hold"}, "Unsupported value", '"Hold"'),
    _deployment("watch over 72h", {"spec.rollout.watch": "73h"}, "must be from 0s to 72h"),
    _deployment("watch in days", {"spec.rollout.watch": "1d"}, _A_DURATION),
    _deployment("attempt 0", {"spec.rollout.attempt": 0}, "greater than or equal to 1"),
    _deployment("override without a revision", {"spec.rollout.override": {"action": "Abort"}}, "Required value",
                path="spec.rollout.override.revision"),
    _deployment("override without an action", {"spec.rollout.override": {"revision": "fraud-1"}}, "Required value",
                path="spec.rollout.override.action"),
    _deployment("override of a version", {"spec.rollout.override": {"revision": "1.4.0", "action": "Abort"}},
                "must be the name of a ModelRevision", path="spec.rollout.override.revision"),
    _deployment("unknown override", {"spec.rollout.override": {"revision": "fraud-1", "action": "Rollback"}},
                "Unsupported value", '"Abort"', path="spec.rollout.override.action"),
)  # fmt: skip

WHOLE: Final = (
    _deployment("no spec", {"spec": ABSENT}, "Required value"),
    _deployment("unknown field in spec", {"spec.replicas": 3}, _UNKNOWN),
    _deployment("unknown field beside spec", {"data": {}}, _UNKNOWN),
    _deployment("suspend as a bool", {"spec.suspend": True}, "must be of type object"),
    _deployment("unknown mode of suspend", {"spec.suspend.mode": "Paused"}, "Unsupported value", '"Advance"'),
    _deployment("suspend with a long story", {"spec.suspend.reason": "x" * 257}, "Too long", "256"),
    _deployment("name of 64 characters", {"metadata.name": "x" * 64}, "metadata.name: must be at most 63 characters",
                path="metadata.name"),
    _deployment("name that starts with a digit", {"metadata.name": "3d-detector"}, "must start with a letter"),
    _deployment("name in upper case", {"metadata.name": "Fraud"}, "lowercase RFC 1123"),
)  # fmt: skip

REVISION: Final = (
    _change("another version", {"spec.model.version": "1.4.1"}, "a ModelRevision never changes", path="spec"),
    _change("another image", {"spec.template.spec.containers[0].image": "registry/fraud:2"},
            "change the ModelDeployment's spec, which makes a new revision", path="spec"),
    _change("another variable deep in the template", {"spec.template.spec.containers[0].env[0].value": "4"},
            "a ModelRevision never changes", path="spec"),
    _change("one more label", {"spec.template.metadata.labels.tier": "gold"},
            "a ModelRevision never changes", path="spec"),
    _change("another port", {"spec.port": 9000}, "a ModelRevision never changes", path="spec"),
    _change("no digest, then one", {"spec.model.digest": DIGEST}, "a ModelRevision never changes", path="spec"),
    _change("one container less", {"spec.template.spec.containers[1]": ABSENT},
            "a ModelRevision never changes", path="spec"),
    _revision("a revision without a template", {"spec.template": ABSENT}, "Required value"),
    _revision("a revision with unknown fields", {"spec.traffic": {}}, _UNKNOWN),
    _revision("a revision's port 0", {"spec.port": 0}, "greater than or equal to 1"),
    _revision("a revision's name with a dot", {"metadata.name": "fraud-1.4.0"}, "lower-case letters, digits and -"),
    _revision("a revision's name of 64 characters", {"metadata.name": "x" * 64}, "must be at most 63"),
)  # fmt: skip

POLICY: Final = (
    _policy("policy with another name", {"metadata.name": "ours"}, "metadata.name: must be default"),
    _policy("no Prometheus", {"spec.prometheus": ABSENT}, "Required value"),
    _policy("no URL", {_URL: ABSENT}, "Required value"),
    _policy("URL without a scheme", {_URL: "prometheus.monitoring:9090"}, "must be http:// or https:// and a host"),
    _policy("URL with another scheme", {_URL: "grpc://prometheus:9090"}, "must be http:// or https:// and a host"),
    _policy("URL without a host", {_URL: "http://"}, "must be http:// or https:// and a host"),
    _policy("URL with a query", {_URL: "http://prometheus:9090/?tenant=a"}, "no query"),
    _policy("URL with a password", {_URL: "https://me:secret@prometheus"},
            "must not hold a user or password", "secretRef"),
    _policy("URL with /api/v1", {_URL: "http://prometheus:9090/api/v1"}, "without /api/v1"),
    _policy("URL with /graph", {_URL: "http://prometheus:9090/graph"}, "without /api/v1 or /graph"),
    _policy("URL with port 70000", {_URL: "http://prometheus:70000"}, "a port from 1 to 65535"),
    _policy("timeout too long", {"spec.prometheus.timeout": "5m"}, "must be from 1s to 2m"),
    _policy("staleAfter too short", {"spec.prometheus.staleAfter": "1s"}, "must be from 2s to 10m"),
    _policy("delay too long", {"spec.prometheus.delay": "2m"}, "must be from 0s to 1m"),
    _policy("delay without a unit", {"spec.prometheus.delay": "5"}, _A_DURATION),
    _policy("staleAfter without a unit", {"spec.prometheus.staleAfter": "60"}, _A_DURATION),
    _policy("interval in steady state too long", {"spec.steadyInterval": "10m"}, "must be from 1s to 5m"),
    _policy("Secret without a namespace", {"spec.prometheus.secretRef.namespace": ABSENT}, "Required value"),
    _policy("Secret as namespace/name", {"spec.prometheus.secretRef.name": "monitoring/token"},
            "must be the name of a Secret"),
    _policy("Secret's namespace in upper case", {"spec.prometheus.secretRef.namespace": "Monitoring"},
            "must be a namespace"),
    _policy("tenant without a value", {"spec.prometheus.tenant": {"header": "X-Scope-OrgID"}}, "Required value",
            path="spec.prometheus.tenant.value"),
    _policy("tenant's header with a colon", {"spec.prometheus.tenant.header": "X-Scope-OrgID:"},
            "must be a header's name"),
    _policy("two default objectives of one name",
            {"spec.objectives[1]": {"name": "errors", "errorRate": {"max": "2%"}}}, "Duplicate value"),
    _policy("default objective in the wrong unit", {"spec.objectives[0].errorRate.max": "0.01"}, _A_PERCENTAGE),
    _policy("a dialect without a name", {"spec.dialects": [{"requests": "acme_total"}]}, "Required value",
            path="spec.dialects[0].name"),
    _policy("a dialect with the name of a built-in one", {"spec.dialects": [_OWN | {"name": "mlserver"}]},
            "not the name of a dialect that is built in", path="spec.dialects[0].name"),
    _policy("a dialect with a capital", {"spec.dialects": [_OWN | {"name": "acmeTabular"}]},
            "must be lower-case letters, digits and -, such as acme-tabular", path="spec.dialects[0].name"),
    _policy("two dialects of one name", {"spec.dialects": [_OWN, _OWN]}, "Duplicate value", path="spec.dialects[1]"),
    _policy("a dialect without requests", {"spec.dialects": [{"name": "acme"}]}, "Required value",
            path="spec.dialects[0].requests"),
    _policy("a dialect with a query", {"spec.dialects": [_OWN | {"errors": "rate(errors_total[1m])"}]}, _A_SELECTOR,
            path="spec.dialects[0].errors"),
    _policy("unknown field in the policy", {"spec.prometheus.user": "me"}, _UNKNOWN),
)  # fmt: skip

INVALID: Final[tuple[Invalid, ...]] = (
    *(*WHOLE, *MODEL, *SERVING, *METRICS, *TRAFFIC, *OBJECTIVES, *ROLLOUT),
    *(*REVISION, *POLICY),
)
