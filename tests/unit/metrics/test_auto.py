"""Dialect Auto: what is asked of Prometheus, what is found, and which dialect follows from it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modeldeployment.api.dialects import presets
from modeldeployment.api.serving import Dialect, Histogram, LatencyUnit, Metrics, OwnDialect
from modeldeployment.metrics import Found, NoDialect, PrometheusError, Watched, choose, known, probe
from modeldeployment.metrics.auto import queries
from unit.metrics.looking import at
from unit.metrics.simulated import SimulatedPrometheus

OWN = (
    OwnDialect(name="acme", requests="acme_total", errors="acme_failed_total"),
    OwnDialect(
        name="other", requests="o_total", latency=Histogram(buckets="o_seconds_bucket", unit=LatencyUnit.SECONDS)
    ),
)


def model(name: str, **more: object) -> Watched:
    """A model of namespace ml with one revision, which serves."""
    revision = f"{name}-1"
    watched = Watched(("ml", name), Metrics(dialect=Dialect.AUTO), (revision,), serving=revision, needs_errors=True)
    return replace(watched, **more)  # type: ignore[arg-type]


def found(*names: str, needs: tuple[str, ...] = ("errors",)) -> Found:
    """What a probe found."""
    return Found("fraud-1", frozenset(needs), names, times=2)  # type: ignore[arg-type]


def server_with(*series: tuple[str, dict[str, str]]) -> SimulatedPrometheus:
    """A Prometheus that has these series: selector → labels. It finds nothing for any other query."""
    server = SimulatedPrometheus()
    for query in queries([model("fraud"), model("churn")], OWN).values():
        server.series[query] = [(labels, 1.0) for selector, labels in series if f"({selector}" in query]
    return server


@pytest.mark.parametrize("models", [1, 20, 500])
def test_a_probe_is_one_query_for_each_dialect(models: int) -> None:
    """However many models ask: none of the texts is there for one of them alone."""
    asked = queries([model(f"m{n}") for n in range(models)], OWN)
    assert len(asked) == len(set(asked.values())) == len(known(OWN))
    assert {"acme", "other", "VLLM", "Istio"} <= asked.keys()
    assert not {"EnvoyGateway", "LLMD", "Auto", "Custom"} & asked.keys()


async def test_a_probe_finds_who_has_series() -> None:
    """By pod, by workload and by cluster; of another revision, and of a stranger's pods, nothing is taken."""
    server = server_with(
        ("vllm:request_success_total", {"namespace": "ml", "pod": "fraud-1-7d9c5b8f6d-aaaaa"}),
        ("request_predict_seconds_count", {"namespace": "ml", "pod": "fraud-0-7d9c5b8f6d-aaaaa"}),
        ("nv_inference", {"namespace": "other", "pod": "fraud-1-7d9c5b8f6d-aaaaa"}),
        ("istio_requests_total", {"destination_workload_namespace": "ml", "destination_workload": "churn-1"}),
        ("envoy_cluster_upstream_rq_completed", {"envoy_cluster_name": "ml/churn-1/8080"}),
    )
    async with server.client() as client:
        seen = await probe([model("fraud"), model("churn")], OWN, at(0), client)
    assert seen["ml", "fraud"].names == ("VLLM",), "its queue of HTTP requests alone could be anybody's"
    assert seen["ml", "churn"].names == ("Istio", "Envoy")
    assert len(server.asked) == len(known(OWN))


async def test_a_refused_query_finds_nothing_and_the_others_go_on() -> None:
    """A policy's own selector that Prometheus does not take hides no other dialect."""
    server = server_with(("o_total", {"namespace": "ml", "pod": "fraud-1-7d9c5b8f6d-aaaaa"}))
    server.refuses["acme_total"] = 400
    async with server.client() as client:
        seen = await probe([model("fraud"), model("churn")], OWN, at(0), client)
    assert seen["ml", "fraud"].names == ("other",)


async def test_a_prometheus_that_does_not_answer_is_not_asked_on() -> None:
    """The first failure ends the probe: no dialect is taken for one that is not there."""
    server = server_with()
    server.refuses["request_predict_seconds_count"] = 500
    async with server.client() as client:
        with pytest.raises(PrometheusError):
            await probe([model("fraud"), model("churn")], OWN, at(0), client)
    assert "request_predict_seconds_count" in server.asked[-1]


async def test_half_an_answer_finds_nothing() -> None:
    """A store that did not answer may have the server's own series: a proxy's are not taken for want of them."""
    server = server_with(("envoy_cluster_upstream_rq_completed", {"envoy_cluster_name": "ml/fraud-1"}))
    server.warnings.append("store 10.0.0.7 did not answer")
    async with server.client() as client:
        with pytest.raises(PrometheusError, match="in part only: store"):
            await probe([model("fraud"), model("churn")], OWN, at(0), client)


@pytest.mark.parametrize(
    ("there", "needs", "before", "chosen"),
    [
        (["MLServer"], ["errors"], "", "MLServer"),
        (["MLServer", "Istio"], ["errors", "latency"], "", "MLServer"),
        (["KServe", "Istio"], ["errors"], "", "Istio"),
        (["KServe", "Istio"], ["latency"], "", "KServe"),
        (["Triton", "Knative", "Envoy"], ["errors", "latency"], "", "Knative"),
        (["KServe"], ["errors"], "", "KServe"),
        (["acme", "MLServer"], ["errors"], "", "acme"),
        (["acme", "MLServer"], ["latency"], "", "MLServer"),
        (["acme", "other"], [], "", "acme"),
        (["Istio", "Envoy"], ["errors"], "", "Istio"),
        (["MLServer", "Istio"], ["errors"], "Istio", "Istio"),
        (["KServe", "Istio"], ["errors"], "KServe", "Istio"),
        (["Generic", "BentoML"], ["errors"], "BentoML", "BentoML"),
    ],
)
def test_a_choice_follows_from_what_is_there(there: list[str], needs: list[str], before: str, chosen: str) -> None:
    """One's own, then servers, then proxies, of those that have what the rules need; what will do stays."""
    choice = choose(found(*there, needs=tuple(needs)), OWN, before)
    assert choice.name == chosen
    assert f"reads it as {chosen}, as fraud-1 has series " in choice.message
    assert all(name in choice.message for name in there), "all that was found is said"


def test_two_servers_in_one_pod_are_ambiguous() -> None:
    """Only one of them answers clients: nothing is chosen, both are named, and what to do is said."""
    with pytest.raises(NoDialect, match=r"Generic and BentoML.*set serving.metrics.dialect") as refused:
        choose(found("Generic", "BentoML"), OWN)
    assert refused.value.reason == "DialectAmbiguous"
    assert choose(found("KServe", "BentoML"), OWN).name == "BentoML", "the other cannot tell errors"


def test_a_proxy_alone_must_be_found_twice() -> None:
    """A gateway is scraped a moment before the server: its dialect is not taken for that."""
    once, other = replace(found("Envoy"), times=1), replace(found("Istio"), times=1)
    with pytest.raises(NoDialect) as waits:
        choose(once, OWN)
    assert waits.value.reason == "DialectPending"
    assert choose(once.after(once), OWN).name == "Envoy"
    assert (once.after(None).times, once.after(other).times, once.after(once).times) == (1, 1, 2)
    assert choose(replace(found("Generic", "Envoy"), times=1), OWN).name == "Generic"
    assert choose(once, OWN, before="Envoy").name == "Envoy", "it was found before"


def test_nothing_found_says_what_was_looked_for() -> None:
    """Every dialect that was looked for is named, the policy's own too."""
    with pytest.raises(NoDialect, match="no request of fraud-1") as refused:
        choose(found(), OWN)
    assert refused.value.reason == "DialectNotFound"
    assert all(name in str(refused.value) for name in known(OWN))
    assert len(str(refused.value)) < 768, "it fits into a condition"


def test_a_dialect_that_is_no_longer_there_is_not_chosen() -> None:
    """The policy's own may be taken out after a probe."""
    assert choose(found("acme", "MLServer"), ()).name == "MLServer"


def test_what_cannot_tell_versions_apart_is_never_looked_for() -> None:
    """Envoy Gateway's series are Envoy's by name; only names of clusters that say a Service count."""
    assert all(data.refusal or str(name) in known(()) for name, data in presets().items())
