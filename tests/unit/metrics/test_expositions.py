"""Dialects against what servers expose: expositions/ has what real ones said, or what their documentation says.

The first words of each file tell which of the two it is, then comes what was sent.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import pytest

from modeldeployment.api.dialects import presets
from modeldeployment.api.serving import Dialect
from unit.metrics.exposition import Series, counted, select, series_of

EXPOSITIONS = Path(__file__).parent / "expositions"
SLOW_MS = 700
"""What the one slow request took."""


class Told(NamedTuple):
    """What a dialect must make of a file. slow: requests that its histogram has over an edge below SLOW_MS."""

    file: str
    dialect: Dialect
    requests: float
    errors: float | None
    slow: float | None


TOLD = (
    Told("bentoml-1.4.40", Dialect.BENTOML, 16, 3, 1),  # a path that does not exist is a request; the probe is none
    Told("envoy", Dialect.ENVOY, 25, 20, 0),
    Told("envoy-gateway", Dialect.ENVOY_GATEWAY, 15, 3, 1),
    Told("ingress-nginx", Dialect.INGRESS_NGINX, 19, 4, 1),
    Told("istio", Dialect.ISTIO, 17, 3, 1),
    Told("knative-1.15", Dialect.KNATIVE_LEGACY, 16, 4, 2),
    Told("knative-1.23", Dialect.KNATIVE, 16, 4, 2),
    Told("kserve-0.21.0", Dialect.KSERVE, 13, None, 1),
    Told("llm-d-epp", Dialect.LLMD, 11, 5, 1),
    Told("mlserver-1.7.1", Dialect.MLSERVER, 14, 6, 1),  # its counters know no status: faults of the client as well
    Told("ray-serve-2.60.0", Dialect.RAY_SERVE, 14, 3, 2),  # the first one was slow as well
    Told("seldon-2", Dialect.SELDON, 19, 4, 1),
    Told("sglang-0.5.23", Dialect.SGLANG, 15, 3, 1),
    Told("tgi-3.3.6", Dialect.TGI, 13, 5, 1),
    Told("torchserve-0.12.0", Dialect.TORCHSERVE, 14, 4, None),
    Told("triton-2.51.0", Dialect.TRITON, 11, 3, None),
    Told("triton-histogram", Dialect.TRITON, 12, 4, None),
    Told("vllm-0.32.0", Dialect.VLLM, 21, 4, 0),
)


def exposition(file: str) -> list[Series]:
    """The series of one file."""
    return series_of((EXPOSITIONS / f"{file}.txt").read_text(encoding="utf-8"))


@pytest.mark.parametrize("told", TOLD, ids=lambda told: told.file)
def test_a_dialect_counts_what_was_sent(told: Told) -> None:
    """Each request once; failures without faults of the client, where statuses tell; slow ones on the right scale."""
    found = counted(exposition(told.file), presets()[told.dialect])
    assert (found.requests, found.errors) == (told.requests, told.errors), "requests and errors are not those sent"
    if told.slow is None:
        assert not found.faster, "a histogram where the runtime has none"
    else:
        edge = max(edge for edge in found.faster if edge < SLOW_MS)
        assert found.faster[math.inf] - found.faster[edge] == told.slow, f"over {edge:g} ms: a wrong unit?"


def test_every_runtime_has_an_exposition() -> None:
    """Every dialect but those of names that anybody may expose, and every file; and each file says whose word it is."""
    files = {path.stem: path.read_text(encoding="utf-8") for path in EXPOSITIONS.iterdir()}
    assert {told.dialect for told in TOLD} == presets().keys() - {Dialect.GENERIC}
    assert {told.file for told in TOLD} == files.keys()
    for file, text in files.items():
        assert text.startswith(("# Real server: ", "# Made from documentation: ")), (
            f"{file} does not say whose word it is"
        )


@pytest.mark.parametrize("dialect", [told.dialect for told in TOLD if told.file != "triton-histogram"])
def test_series_by_which_auto_knows_a_dialect_are_nobody_elses(dialect: Dialect) -> None:
    """Else Auto would take a model server for another one."""
    family = {Dialect.ENVOY, Dialect.ENVOY_GATEWAY}  # both are Envoy, and tell apart by the clusters' names
    telling = presets()[dialect].telling
    having = {told.dialect for told in TOLD if select(exposition(told.file), telling)}
    assert having == (family if dialect in family else {dialect})


def test_vllms_own_counters_have_no_failures() -> None:
    """Why its dialect reads those of HTTP: four requests failed, three lost their clients, one counts thrice."""
    ends = {
        labels["finished_reason"]: value
        for labels, value in select(exposition("vllm-0.32.0"), "vllm:request_success_total")
    }
    assert ends == {"stop": 0, "length": 12, "abort": 0, "error": 0, "repetition": 0}


def test_ray_serves_error_counter_has_faults_of_the_client() -> None:
    """Why its dialect reads the status of all requests; and the deployment's counter lacks the requests that raised."""
    series = exposition("ray-serve-2.60.0")
    errors = {
        labels["error_code"]: value for labels, value in select(series, "ray_serve_num_http_error_requests_total")
    }
    assert errors == {"400": 1, "404": 1, "422": 2, "500": 3}
    assert [value for _, value in select(series, "ray_serve_deployment_request_counter_total")] == [14 - 3]


def test_kserves_successes_are_the_postprocessed_ones() -> None:
    """All that it says of failures: of those that reached the model, how many got through."""
    series = exposition("kserve-0.21.0")
    reached = {step: select(series, f"request_{step}_seconds_count")[0][1] for step in ("preprocess", "postprocess")}
    assert reached == {"preprocess": 15, "postprocess": 8}


def test_knatives_invocations_take_a_timeout_for_a_success() -> None:
    """Why its dialect reads what the queue-proxy answered: by the other metric it ended with 200."""
    series = exposition("knative-1.23")
    answered = select(series, 'http_server_request_duration_seconds_count{http_response_status_code="504"}')
    ends = select(series, 'kn_serving_invocation_duration_seconds_count{http_response_status_code="200"}')
    assert [value for _, value in answered] == [1]
    assert [value for _, value in ends] == [8 + 1]
