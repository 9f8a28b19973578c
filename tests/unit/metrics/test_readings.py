"""Answers become snapshots: whose series it is, and what each model is told of scrapes."""

from __future__ import annotations

import pytest

from modeldeployment.api.serving import Dialect, Metrics
from modeldeployment.metrics import Watched
from modeldeployment.metrics.answer import Answer, Labels
from modeldeployment.metrics.identity import Endpoint, Owners
from modeldeployment.metrics.planning import Indicator, plan
from modeldeployment.metrics.readings import doubled, snapshots
from modeldeployment.metrics.snapshot import Snapshot

NOW = 1000.0


def vector(*series: tuple[Labels, float]) -> Answer:
    """An instant vector."""
    return Answer("vector", [labels for labels, _ in series], [[(NOW, repr(value))] for _, value in series])


def endpoint(pod: str) -> Endpoint:
    """The proxy in a pod."""
    return (pod, f"{pod}:15020", "mesh")


def labels(pod: str, **more: str) -> Labels:
    """Labels of a series that it exposes."""
    return {"namespace": "ml", "pod": pod, "instance": f"{pod}:15020", "job": "mesh", **more}


async def read(dialect: Dialect, scrapes: Answer, requests: Answer) -> Snapshot:
    """What one of two models is told."""
    models = [Watched(("ml", name), Metrics(dialect=dialect), (f"{name}-1",), serving=f"{name}-1") for name in "ab"]
    (group,) = plan(models).groups
    return (await snapshots(group, Owners(models), scrapes, {Indicator.REQUESTS: requests}, [NOW]))["ml", "a"][0]


async def test_a_model_in_a_mesh_hears_of_its_own_pods_and_of_who_counts_it() -> None:
    """Neither pods of other models nor of strangers: thousands of pods times thousands of models are too much."""
    mine, other, stranger, waypoint = "a-1-7d9c5b8f6d-aaaaa", "b-1-7d9c5b8f6d-aaaaa", "web-0", "waypoint-x"
    scrapes = vector(*((labels(pod), 990.0) for pod in (mine, other, stranger, waypoint)))
    workload = {"destination_workload_namespace": "ml", "destination_workload": "a-1"}
    found = await read(Dialect.ISTIO, scrapes, vector((labels(waypoint, **workload), 7.0)))
    assert found.scrapes == {endpoint(mine): 990.0, endpoint(waypoint): 990.0}
    assert found.readings == {
        ("a-1", endpoint(mine)): {},
        ("a-1", endpoint(waypoint)): {Indicator.REQUESTS: 7.0},
    }


async def test_an_ingress_controller_tells_the_backend_of_each_request() -> None:
    """The stable Service by its name, a canary's by the label canary, whether Prometheus renamed the labels or not."""
    stable = {"exported_namespace": "ml", "exported_service": "a-1", "service": "ingress-metrics", "canary": ""}
    other = {**stable, "exported_service": "b-1"}
    of_others_canary = {**other, "canary": "ml-a-1-8080"}
    elsewhere = {**other, "canary": "ml-x-a-1-8080"}
    series = [
        ({**labels("nginx"), "namespace": "infra", **one}, n)
        for one, n in ((stable, 7.0), (other, 20.0), (of_others_canary, 3.0), (elsewhere, 50.0))
    ]
    found = await read(Dialect.INGRESS_NGINX, vector((labels("nginx"), 990.0)), vector(*series))
    assert found.scrapes == {endpoint("nginx"): 990.0}
    assert sorted(found.readings) == [("a-1", endpoint("nginx"))]
    assert found.readings["a-1", endpoint("nginx")] == {Indicator.REQUESTS: 10.0}, "as stable 7, as canary 3"
    honoured = {**labels("nginx"), "namespace": "ml", "service": "a-1", "canary": "-"}
    kept = await read(Dialect.INGRESS_NGINX, vector((labels("nginx"), 990.0)), vector((honoured, 7.0)))
    assert kept.readings == {("a-1", endpoint("nginx")): {Indicator.REQUESTS: 7.0}}


async def test_a_gateways_scrape_is_news_for_every_model() -> None:
    """It was scraped and did not know the model's cluster: what it counts of it later is all new."""
    scrapes = vector((labels("gateway"), 990.0))
    found = await read(Dialect.ENVOY, scrapes, vector((labels("gateway", envoy_cluster_name="ml/b-1"), 7.0)))
    assert found.scrapes == {endpoint("gateway"): 990.0}
    assert not found.readings


@pytest.mark.parametrize(
    ("ours", "others", "said"),
    [
        (
            {"prometheus_replica": "a"},
            {"prometheus_replica": "b"},
            "prometheus_replica=a and with prometheus_replica=b",
        ),
        ({"replica": "1"}, {"replica": "2"}, "replica=1 and with replica=2"),
        ({"__replica__": "x"}, {}, "__replica__=x and with none"),
    ],
)
async def test_two_copies_of_an_endpoint_are_told(ours: Labels, others: Labels, said: str) -> None:
    """A pair of Prometheus whose samples nobody deduplicates: the model whose pod it is hears of it."""
    pod, other = "a-1-7d9c5b8f6d-aaaaa", "b-1-7d9c5b8f6d-aaaaa"
    scrapes = vector((labels(pod, **ours), 990.0), (labels(pod, **others), 995.0), (labels(other, **ours), 990.0))
    found = await read(Dialect.GENERIC, scrapes, vector((labels(pod), 7.0)))
    assert found.twice == f"{pod} with {said}"
    error = doubled([found])
    assert error is not None and "each request would count twice" in str(error)
    alone = await read(Dialect.GENERIC, vector((labels(pod, **ours), 990.0)), vector((labels(pod), 7.0)))
    assert alone.twice == ""


async def test_two_copies_of_a_gateway_are_told_to_whom_it_counts() -> None:
    """Its own series show it; a model that it does not count has nothing to fear."""
    gateway = [labels("gateway", replica=replica) for replica in ("0", "1")]
    scrapes = vector((gateway[0], 990.0), (gateway[1], 990.0))
    for cluster, twice in (("ml/a-1", "gateway with replica=0 and with replica=1"), ("ml/b-1", "")):
        found = await read(Dialect.ENVOY, scrapes, vector((labels("gateway", envoy_cluster_name=cluster), 7.0)))
        assert found.twice == twice


async def test_one_replica_after_the_other_is_no_copy() -> None:
    """A range over a failover: each instant has one of them."""
    pod = "a-1-7d9c5b8f6d-aaaaa"
    both = Answer("matrix", [labels(pod, replica=name) for name in "01"], [[(NOW - 10, "990")], [(NOW, "990")]])
    assert (await read(Dialect.GENERIC, both, vector((labels(pod), 7.0)))).twice == ""
