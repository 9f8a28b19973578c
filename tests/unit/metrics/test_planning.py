"""Queries: few, the same number for any number of models, and only what some rule needs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modeldeployment.api.dialects import presets
from modeldeployment.api.serving import Dialect, Histogram, LatencyUnit, Metrics, MetricsSource, SeriesIdentity
from modeldeployment.metrics import Watched
from modeldeployment.metrics.dialects import dialect_of, edge_ms
from modeldeployment.metrics.identity import Owners, service_of_cluster
from modeldeployment.metrics.planning import MATCHERS_MAX, NARROW_MAX, Indicator, narrow, plan, quote_regex

REPLICAS = "prometheus_replica, replica, __replica__"


def watched(name: str, *revisions: str, dialect: Dialect = Dialect.GENERIC, **more: object) -> Watched:
    """A model in namespace ml."""
    model = Watched(("ml", name), Metrics(dialect=dialect), revisions or (f"{name}-1",), needs_errors=True)
    return replace(model, **more)  # type: ignore[arg-type]


def test_a_query_sums_counters_of_each_endpoint() -> None:
    """The exact texts for two models: no rate(), no increase(), the endpoint's labels kept."""
    texts = plan([watched("a", needs_latency=True), watched("b")]).queries()
    mine = 'namespace=~"ml", pod=~"(a-1|b-1)-.+"'
    by = "namespace, pod, instance, job"
    assert texts == {
        f"max by ({by}, {REPLICAS}) (timestamp(up{{{mine}}}) * up{{{mine}}})": "scrapes",
        f"sum by ({by}) (inference_requests_total{{{mine}}})": "requests",
        f"sum by ({by}) (inference_errors_total{{{mine}}})": "errors",
        f"sum by ({by}, le) (inference_latency_ms_bucket{{{mine}}})": "latency",
    }


@pytest.mark.parametrize("models", [1, 100, 1000])
def test_the_number_of_queries_does_not_depend_on_the_models(models: int) -> None:
    """Four for one dialect, at any size; above NARROW_MAX revisions they name no model."""
    texts = plan([watched(f"m{k}", needs_latency=True) for k in range(models)]).queries()
    assert len(texts) == 4
    assert all(("m0-1" in text) == (models <= NARROW_MAX) for text in texts)


def test_each_dialect_adds_at_most_three() -> None:
    """All at once: three each, but for what one lacks, and a query of scrapes for each identity."""
    usable = {name: data for name, data in presets().items() if not data.refusal}
    models = [watched(name.lower(), dialect=name, needs_latency=True) for name in usable]
    purposes = list(plan(models).queries().values())
    assert purposes.count("requests") == len(usable)
    assert purposes.count("errors") == len(usable) - 1, "KServe has none"
    assert purposes.count("latency") == len(usable) - 2, "Triton and TorchServe have none"
    assert purposes.count("scrapes") == len(SeriesIdentity)


def test_nobody_is_asked_for_what_no_rule_uses() -> None:
    """Buckets, by far the largest answer, are asked for only where a latency is bounded; a PromQL text only once."""
    query = frozenset({"avg(x)"})
    models = [replace(watched(name, queries=query), needs_errors=False) for name in ("a", "b")]
    assert sorted(plan(models).queries().values()) == ["promql", "requests", "scrapes"]


def test_a_long_list_of_names_is_left_out() -> None:
    """A query's length is bounded, whatever the names are."""
    models = [watched("x" * 40 + str(k), *(f"{'x' * 90}{k}-{r}" for r in range(5))) for k in range(10)]
    assert all(len(text) < MATCHERS_MAX for text in plan(models).queries())


def test_a_cluster_knows_its_proxies_by_any_series() -> None:
    """Envoy: the scrapes of proxies are asked over all clusters, counters only for the model's own."""
    texts = {purpose: text for text, purpose in plan([watched("a", dialect=Dialect.ENVOY)]).queries().items()}
    by = "namespace, pod, instance, job"
    assert texts["scrapes"] == f"max by ({by}, {REPLICAS}) (timestamp(envoy_cluster_upstream_rq_completed))"
    assert texts["errors"] == (
        f"sum by (envoy_cluster_name, {by}) "
        '(envoy_cluster_upstream_rq_xx{envoy_response_code_class="5", '
        'envoy_cluster_name=~"(ml)/(a-1)(/.*)?|outbound[|].*[|](a-1)[.](ml)[.].*"})'
    )


@pytest.mark.parametrize("identity", [SeriesIdentity.CLUSTER, SeriesIdentity.WORKLOAD])
def test_a_selector_of_several_names_is_asked_for_its_endpoints(identity: SeriesIdentity) -> None:
    """timestamp() of two names at once is refused by Prometheus: such a source is asked by `up` of who has them."""
    source = MetricsSource(requests='{__name__=~"ok_total|bad_total"}', identity=identity)
    metrics = Metrics(dialect=Dialect.CUSTOM, custom=source)
    texts = {purpose: text for text, purpose in plan([replace(watched("a"), metrics=metrics)]).queries().items()}
    by = f"namespace, pod, instance, job, {REPLICAS}"
    assert "timestamp({" not in texts["scrapes"]
    assert texts["scrapes"].startswith(f"max by ({by}) (timestamp(up) * up) and max by ({by}) ({{__name__=~")


@pytest.mark.parametrize(
    ("selector", "narrowed"),
    [
        ("up", 'up{a="b"}'),
        ("up{}", 'up{a="b"}'),
        ('up{x="y",}', 'up{x="y", a="b"}'),
        ('{__name__=~"x|y"}', '{__name__=~"x|y", a="b"}'),
    ],
)
def test_a_selector_gets_more_matchers(selector: str, narrowed: str) -> None:
    """Every form that the API accepts stays a selector."""
    assert narrow(selector, ('a="b"',)) == narrowed
    assert narrow(selector, ()) == selector


def test_names_are_quoted_for_two_parsers() -> None:
    """A dot in a name matches a dot only, and needs no backslash."""
    assert quote_regex("a.b-c") == "a[.]b-c"
    assert quote_regex('x|y"') == 'x[|]y\\"'


def test_every_preset_says_where_it_comes_from() -> None:
    """Each dialect has requests, a source, and units that turn into milliseconds."""
    assert set(presets()) == set(Dialect) - {Dialect.AUTO, Dialect.CUSTOM}
    assert all(data.source.startswith("https://") and data.runtime for data in presets().values())
    assert not dialect_of(Metrics(dialect=Dialect.KSERVE)).has("errors")
    assert dialect_of(Metrics(dialect=Dialect.ISTIO)).identity is SeriesIdentity.WORKLOAD
    assert edge_ms(presets()[Dialect.MLSERVER], "0.29") == 290.0
    assert edge_ms(presets()[Dialect.GENERIC], "250.0") == 250.0
    assert edge_ms(presets()[Dialect.KSERVE], "+Inf") == float("inf")


def test_a_custom_source_is_taken_as_it_is() -> None:
    """What the user wrote is what is asked."""
    source = MetricsSource(
        requests='http_requests_total{app="x"}', latency=Histogram(buckets="d_bucket", unit=LatencyUnit.SECONDS)
    )
    metrics = Metrics(dialect=Dialect.CUSTOM, custom=source)
    assert dialect_of(metrics).requests == source.requests
    assert plan([replace(watched("a"), metrics=metrics)]).groups[0].counters.keys() == {Indicator.REQUESTS}


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("ml/fraud-1", ("ml", "fraud-1")),
        ("ml/fraud-1/8080", ("ml", "fraud-1")),
        ("ml/fraud-1/80/da39a3ee5e", ("ml", "fraud-1")),
        ("outbound|80||fraud-1.ml.svc.cluster.local", ("ml", "fraud-1")),
        ("outbound|80|v1|fraud-1.ml.svc.cluster.local;", ("ml", "fraud-1")),
        ("httproute/ml/fraud/rule/0", None),
        ("httproute/ml/fraud/rule/0/backend/1", None),
        ("xds_cluster", None),
    ],
)
def test_a_cluster_name_says_its_service_or_nothing(name: str, service: tuple[str, str] | None) -> None:
    """Envoy Gateway's names say a route and no Service, so they belong to nobody."""
    assert service_of_cluster(name) == service


@pytest.mark.parametrize(
    ("pod", "revision"),
    [
        ("fraud-1a2b-7d9c5b8f6d-x2x4z", "fraud-1a2b"),
        ("fraud-7d9c5b8f6d-x2x4z", "fraud"),
        ("fraud-1a2b-worker-7d9c5b8f6d-x2x4z", None),
        ("fraud-1a2b-0", "fraud-1a2b"),
        ("fraud-9-0", None),
    ],
)
def test_a_pod_is_told_by_its_name(pod: str, revision: str | None) -> None:
    """A pod that is gone still belongs to its revision; another Deployment's with a similar name does not."""
    model = watched("fraud", "fraud", "fraud-1a2b", pods={"fraud-1a2b-0": None})
    assert Owners([model]).of_pod("ml", pod) == (None if revision is None else (("ml", "fraud"), revision))
    assert Owners([model]).of_pod("other", pod) is None
