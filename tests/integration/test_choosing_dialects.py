"""Which counters a model is read by: what Auto finds in the live Prometheus, and names that a ModelPolicy defines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from integration.acting import ERRORS, Model, serve_first, watching
from integration.conftest import standing
from stand import Stand

AUTO = {"spec.serving.metrics": {"dialect": "Auto"}}
SHOP = {
    "name": "shop",
    "requests": "inference_requests_total",
    "errors": "inference_errors_total",
    "latency": {"buckets": "inference_latency_ms_bucket", "unit": "Milliseconds"},
}


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    """A Stand whose models are under load, or not yet."""
    with standing() as stand:
        yield stand


def _dialects(stand: Stand, *dialects: dict[str, Any]) -> None:
    patch = json.dumps({"spec": {"dialects": dialects}})
    stand.lab.kubectl("patch", "modelpolicy", "default", "--type=merge", "-p", patch)


def test_auto_finds_the_runtime_and_stays_with_it(stand: Stand) -> None:
    """Without a request it says what it looked for; then it reads the server's own counters, also after a kill in the
    middle of a canary, and takes a bad version back by them."""
    model = Model(stand, "auto", AUTO)
    serve_first([model])

    def said() -> str:
        return str(model.condition("EvidenceAvailable").get("message", ""))

    model.wait_says("EvidenceAvailable", "False", "DialectNotFound")
    assert all(name in said() for name in ("Generic", "VLLM", "Istio"))
    with model.load() as load:
        chosen = model.wait("Auto's choice", lambda: model.status.get("dialect"))
        assert (chosen["name"], chosen["revision"]) == ("Generic", model.revision("1"))
        model.wait_says("EvidenceAvailable", "True", "DataFlowing")
        words = f"reads it as Generic, as {model.revision('1')} has series"
        model.wait(f"EvidenceAvailable to tell: {words}", lambda: words in said())
        load.stop()
    with watching(model) as (route,):
        model.apply("2", ERRORS)
        model.wait_canary("2")  # without a request it stays there
        stand.kill_operator()
        stand.operator()
        with model.load():
            model.wait("weight 0", lambda: route.of("2") == [0, 50, 0])
            model.wait("the end", lambda: model.state == "RolledBack")
        assert model.status["dialect"] == chosen
        assert route.of("2") == [0, 50, 0]
    assert model.says("RolledBack", "True", "RolledBack")


def test_a_name_of_the_policy_is_known_as_soon_as_the_policy_has_it(stand: Stand) -> None:
    """Before, EvidenceAvailable names those that are known; then a good version is promoted by its counters."""
    model = Model(stand, "shop", {"spec.serving.metrics": {"dialect": "shop"}})
    serve_first([model])
    model.wait_says("EvidenceAvailable", "False", "DialectUnknown")
    said = model.condition("EvidenceAvailable")["message"]
    assert "there is no metrics dialect shop: the ModelPolicy has none" in said
    _dialects(stand, SHOP)
    with model.load():
        model.wait_says("EvidenceAvailable", "True", "DataFlowing")
        model.apply("2")
        model.wait_serving("2")
        _dialects(stand, {"name": "shop", "requests": "inference_requests_total"})
        model.wait_says("EvidenceAvailable", "False", "DialectCannotAnswer")
    said = model.condition("EvidenceAvailable")["message"]
    assert "dialect shop has no counter of errors" in said and "add errors to the ModelPolicy's dialect shop" in said
