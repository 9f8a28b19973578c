"""Answers become snapshots: whose series it is, and what each model is told of scrapes."""

from __future__ import annotations

from modeldeployment.api.serving import Dialect, Metrics
from modeldeployment.metrics import Watched
from modeldeployment.metrics.answer import Answer, Labels
from modeldeployment.metrics.identity import Endpoint, Owners
from modeldeployment.metrics.planning import Indicator, plan
from modeldeployment.metrics.readings import snapshots
from modeldeployment.metrics.snapshot import Snapshot

NOW = 1000.0


def vector(*series: tuple[Labels, float]) -> Answer:
    """An instant vector."""
    return Answer("vector", [(labels, [(NOW, repr(value))]) for labels, value in series])


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


async def test_a_gateways_scrape_is_news_for_every_model() -> None:
    """It was scraped and did not know the model's cluster: what it counts of it later is all new."""
    scrapes = vector((labels("gateway"), 990.0))
    found = await read(Dialect.ENVOY, scrapes, vector((labels("gateway", envoy_cluster_name="ml/b-1"), 7.0)))
    assert found.scrapes == {endpoint("gateway"): 990.0}
    assert not found.readings
