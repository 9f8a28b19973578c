"""New versions: good ones are promoted, bad ones taken back, and those that cannot start never get a request."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from integration.acting import ERRORS, SLOW, Model, serve_first, watching
from integration.conftest import standing
from lab.load import Snapshot
from stand import Stand

JSON = dict[str, Any]
SCRAPE_SECONDS = 2.0
"""The lab's default, and how fast a bad version must be gone is said in scrape intervals."""
DEADLINE_SECONDS = 8.0
"""The progress deadline of versions that cannot start: longer than the others' first version takes to be Ready."""
NEVER_READY = {"readinessProbe": {"httpGet": {"path": "/never", "port": 8080}, "periodSeconds": 1}}
TROUBLES: dict[str, JSON] = {
    "pull": {"container": {"image": "lab/no-such-image:2"}},
    "crash": {"env": {"FAULT_CRASH": "1"}},
    "nowhere": {"container": {"resources": {"requests": {"cpu": "9000"}}}},
    "unready": {"container": NEVER_READY},
}


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    """A Stand at the lab's default scrape interval."""
    with standing(scrape_interval=f"{SCRAPE_SECONDS:g}s", stale_after="10s") as stand:
        yield stand


@pytest.fixture(scope="module")
def models(stand: Stand) -> dict[str, Model]:
    """Models whose first version serves."""
    narrow = {
        "spec.rollout.canary": {"traffic": "10%"},
        "spec.rollout.rollbackOn": {"errorRate": ">1%", "p99LatencyMs": ">500"},
        "spec.objectives": [
            {"name": "errors", "errorRate": {"max": "1%"}},
            {"name": "latency", "latency": {"quantile": 0.99, "max": "500ms"}},
        ],
    }
    steps = {"spec.rollout.canary": {"steps": [{"traffic": "20%"}, {"traffic": "60%"}]}}
    hasty = {"spec.rollout.progressDeadline": f"{DEADLINE_SECONDS:g}s"}
    own: dict[str, dict[str, Any]] = {
        "good": {**steps, "spec.rollout.watch": "30s"},
        "errors": narrow,
        "slow": narrow,
        **dict.fromkeys(TROUBLES, hasty),
    }
    found = {name: Model(stand, name, overrides) for name, overrides in own.items()}
    serve_first([*found.values()])
    return found


def test_a_good_version_is_promoted_by_evidence(models: dict[str, Model]) -> None:
    """Each step's weight follows evidence, stable serves on meanwhile, nobody sees an error, and the version before
    stays warm for the watch and is scaled down after it."""
    model = models["good"]
    with watching(model) as (route,), model.load() as load:
        model.apply("2")
        model.wait("2 to get everything", lambda: model.weights() == {"2": 100})
        promoted = route.arrived("1", 0)
        warm = model.ready("1")
        model.wait("1 to be scaled down", lambda: model.replicas("1") == 0)
        model.wait("the end", lambda: model.state == "RolloutComplete")
        records = load.stop()
    assert route.of("2") == [0, 20, 60, 100]
    assert route.of("1") == [100, 80, 40, 0]
    assert warm == 1
    assert records.bad == 0
    after = records.between(promoted + 0.25)
    assert after.versions() == {"2": len(after.records)}
    shares = [between_weights(records, route.changes(), weight) for weight in (20, 60)]
    assert shares[0] == pytest.approx(0.2, abs=0.1)
    assert shares[1] == pytest.approx(0.6, abs=0.12)
    assert model.decisions() == [
        "FirstVersionStarted",
        "FirstVersionServes",
        "RolloutStarted",
        "WeightRaised",
        "StepPassed",
        "WeightRaised",
        "StepPassed",
        "Promoted",
        "WatchEnded",
    ]


def between_weights(records: Any, changes: list[Any], weight: int) -> float:
    """The share of version 2 while its weight was this."""
    index = next(i for i, change in enumerate(changes) if change.weights.get("2") == weight)
    return float(records.between(changes[index].accepted + 0.25, changes[index + 1].time).share("2"))


def test_errors_take_a_version_back_within_a_few_scrapes(models: dict[str, Model]) -> None:
    """20 % errors at 10 % of 100 requests a second: weight 0 by a handful of scrapes (`make demo` measures the time),
    and from then on the version gets no request; it is quarantined, scaled down, and the reason told."""
    model = models["errors"]
    with watching(model) as (route,), model.load() as load:
        model.apply("2", ERRORS)
        model.wait("its share, and weight 0", lambda: route.of("2") == [0, 10, 0])
        zero = route.arrived("2", 0)
        model.wait("2 to be scaled down", lambda: model.replicas("2") == 0)
        records = load.stop()
    assert route.of("2") == [0, 10, 0]
    assert records.first_bad is not None
    assert records.bad <= 60, f"{records.bad} bad answers: that is the evidence of more than fifteen scrapes"
    assert records.last_bad is not None
    assert records.last_bad < zero + 0.25
    assert records.between(zero + 0.25).share("1") == 1.0
    assert model.state == "RolledBack"
    assert model.says("RolledBack", "True", "RolledBack")
    assert model.status["quarantined"][0]["revision"] == model.revision("2")
    told = model.wait("the Event", lambda: model.events("RolledBack"))
    assert "error rate: " in told[0]["note"]
    assert model.status["decisions"][0]["rule"] == "errors"
    assert told[0]["type"] == "Warning"


def test_a_slow_version_is_taken_back(models: dict[str, Model]) -> None:
    """A version that answers in 600 ms where p99 may be 500 ms is taken back for its latency, not for errors."""
    model = models["slow"]
    with watching(model) as (route,), model.load() as load:
        model.apply("2", SLOW)
        model.wait("its share, and weight 0", lambda: route.of("2") == [0, 10, 0])
        zero = route.arrived("2", 0)
        model.wait("2 to be scaled down", lambda: model.replicas("2") == 0)
        records = load.stop()
    assert route.of("2") == [0, 10, 0]
    assert records.bad == 0
    slow = [record for record in records.records if record.version == "2"]
    assert slow
    assert all(record.seconds > 0.5 for record in slow)
    stable = [record for record in records.records if record.version == "1"]
    assert Snapshot(tuple(stable)).quantile(0.5) < 0.5
    assert max(record.sent for record in slow) < zero + 0.25
    (told,) = model.wait("the Event", lambda: model.events("RolledBack"))
    assert "p99" in told["note"] and "500ms" in told["note"]
    assert model.status["decisions"][0]["rule"] == "latency"


@pytest.fixture(scope="module")
def stuck(models: dict[str, Model]) -> Iterator[dict[str, Any]]:
    """Four models whose second version cannot start, each for its own reason, under load until all gave up."""
    ours = [models[name] for name in TROUBLES]
    with watching(*ours) as routes:
        loads = [model.load(20).start() for model in ours]
        for name, trouble in TROUBLES.items():
            models[name].apply("2", **trouble)
        for model in ours:
            model.wait("to give up", partial(_gave_up, model))
        yield {model.name: (model, route, load.stop()) for model, route, load in zip(ours, routes, loads, strict=True)}


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("pull", "ImagePullBackOff|ErrImagePull", "lab/no-such-image:2"),
        ("crash", "CrashLoopBackOff|Error", "exit code 1"),
        ("nowhere", "Unschedulable", "Insufficient cpu"),
        ("unready", "ContainersNotReady", "unready status: [model]"),
    ],
)
def test_a_version_that_cannot_start_never_gets_traffic(
    stuck: dict[str, Any], name: str, reason: str, words: str
) -> None:
    """No weight and no request, ever; past the wall-clock deadline it is taken back, with the pod's own reason in the
    condition and the Event, scaled down and quarantined, while stable serves on."""
    model, route, records = stuck[name]
    assert route.of("2") in ([0], [])
    assert records.versions() == {"1": len(records.records)}
    assert records.bad == 0
    for type_ in ("RolledBack", "Stalled"):
        condition = model.condition(type_)
        assert condition["reason"] == "ProgressDeadlineExceeded"
        assert any(one in condition["message"] for one in reason.split("|")), condition["message"]
        assert words in condition["message"]
    (event,) = model.wait("the Event", lambda: model.events("ProgressDeadlineExceeded"))
    assert words in event["note"]
    decided, *before = model.status["decisions"]
    assert decided["effect"] == "ProgressDeadlineExceeded"
    started = next(decision for decision in before if decision["effect"] == "RolloutStarted")
    waited = datetime.fromisoformat(decided["time"]) - datetime.fromisoformat(started["time"])
    assert timedelta(seconds=DEADLINE_SECONDS) <= waited < timedelta(seconds=5 * DEADLINE_SECONDS)
    assert model.says("Ready", "True", "Serving")


def _gave_up(model: Model) -> bool:
    """Taken back, and its pods are gone."""
    return model.state == "ProgressDeadlineExceeded" and model.replicas("2") == 0
