"""The client: what it sends, what it reads, and the sentence for each way a query can fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs

import certifi
import httpx
import pytest

from modeldeployment.api.modelpolicy import Prometheus, SecretRef, Tenant
from modeldeployment.metrics import (
    BadQuery,
    Connection,
    PrometheusClient,
    PrometheusError,
    QueryRecord,
    QueryTimeout,
    ServerFault,
    TooLarge,
    Unauthorized,
    Unreachable,
    connection,
)

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
EMPTY = {"status": "success", "data": {"resultType": "vector", "result": []}}
Handler = Callable[[httpx.Request], httpx.Response]


def client(handler: Handler, to: Connection | None = None, **more: object) -> PrometheusClient:
    """A client of a handler."""
    return PrometheusClient(
        to or Connection("http://p.test/base/"),
        transport=httpx.MockTransport(handler),
        **more,  # type: ignore[arg-type]
    )


async def test_a_query_is_a_form_to_the_base_path() -> None:
    """Long queries are no problem: they are posted, with the instant in unix seconds and the timeout."""
    sent: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json=EMPTY)

    async with client(handler) as prometheus:
        await prometheus.instant("up" * 5000, NOW)
        await prometheus.range("up", NOW, NOW, 0.5)
    instant, over = ({k: v[0] for k, v in parse_qs(r.content.decode()).items()} for r in sent)
    assert [str(r.url) for r in sent] == ["http://p.test/base/api/v1/query", "http://p.test/base/api/v1/query_range"]
    assert instant["time"] == "1795608000.000"
    assert instant["timeout"] == "10s"
    of_thanos = {"partial_response": "false", "dedup": "true", "max_source_resolution": "0s"}
    of_victoria = {"nocache": "1", "latency_offset": "1ms"}
    assert instant.items() >= (of_thanos | of_victoria).items()
    assert sent[0].headers["cache-control"] == "no-store", "Mimir's"
    assert len(instant["query"]) == 10_000
    assert (over["start"], over["end"], over["step"]) == ("1795608000.000", "1795608000.000", "0.5")


async def test_credentials_and_tenant_are_sent() -> None:
    """A bearer token wins over basic auth; the tenant's header goes with either."""
    sent: list[httpx.Headers] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers)
        return httpx.Response(200, json=EMPTY)

    for to in (
        Connection("http://p.test", token="secret", tenant_header="X-Scope-OrgID", tenant="a"),
        Connection("http://p.test", username="me", password="pw"),
    ):
        async with client(handler, to) as prometheus:
            await prometheus.instant("up", NOW)
    assert sent[0]["authorization"] == "Bearer secret"
    assert sent[0]["x-scope-orgid"] == "a"
    assert sent[1]["authorization"] == "Basic bWU6cHc="


async def test_vector_matrix_and_scalar_are_read() -> None:
    """Each result type becomes series of samples; warnings are kept, and tell an answer in part from a remark."""
    bodies = iter(
        [
            {"resultType": "vector", "result": [{"metric": {"a": "b"}, "value": [1.5, "NaN"]}]},
            {"resultType": "matrix", "result": [{"metric": {}, "values": [[1, "2"], [2, "3"]]}]},
            {"resultType": "scalar", "result": [1, "7"]},
        ]
    )
    warnings = ["PromQL warning: bucket label", "remote read: store a is down"]

    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"status": "success", "data": next(bodies), "warnings": warnings})

    async with client(handler) as prometheus:
        vector = await prometheus.instant("a", NOW)
        matrix = await prometheus.range("a", NOW, NOW, 1)
        scalar = await prometheus.instant("1", NOW)
    read = [[(labels, [tuple(s) for s in samples]) for labels, samples in a.series] for a in (vector, matrix, scalar)]
    assert read == [[({"a": "b"}, [(1.5, "NaN")])], [({}, [(1, "2"), (2, "3")])], [({}, [(1, "7")])]]
    assert vector.in_part == "remote read: store a is down"


@pytest.mark.parametrize(
    ("response", "error", "words"),
    [
        (
            httpx.Response(400, json={"errorType": "bad_data", "error": "1:3: parse error"}),
            BadQuery,
            "1:3: parse error",
        ),
        (httpx.Response(422, json={"errorType": "execution", "error": "many-to-many"}), BadQuery, "many-to-many"),
        (httpx.Response(401), Unauthorized, "check the Secret"),
        (httpx.Response(302, headers={"location": "https://login"}), Unauthorized, "redirects to https://login"),
        (httpx.Response(404), ServerFault, "check the path"),
        (httpx.Response(200, text="<html>"), ServerFault, "not as Prometheus does"),
        (httpx.Response(200, json={"data": None}), ServerFault, "not as Prometheus does"),
        (httpx.Response(500, text="boom"), ServerFault, "HTTP 500: boom"),
        (httpx.Response(429, text="slow down"), ServerFault, "HTTP 429: slow down"),
        (httpx.Response(503, json={"errorType": "timeout", "error": "query timed out"}), QueryTimeout, "timed out"),
    ],
)
async def test_a_failure_has_a_kind_and_a_sentence(
    response: httpx.Response, error: type[PrometheusError], words: str
) -> None:
    """Bad query, credentials, wrong address, server: each says which, and what to check; none is tried again."""
    tries: list[str] = []
    records: list[QueryRecord] = []

    def handler(request: httpx.Request) -> httpx.Response:
        tries.append(str(request.url))
        return response

    async with client(handler, observer=records.append) as prometheus:
        with pytest.raises(error, match=words):
            await prometheus.instant("up", NOW, purpose="requests")
    assert len(tries) == 1
    assert [(r.purpose, r.outcome, r.series) for r in records] == [("requests", error.kind, 0)]
    assert words in records[0].message


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (422, "query processing would load too many samples into memory in query execution"),
        (422, "the query exceeded the maximum number of series (limit: 3 series) (err-mimir-max-series-per-query)"),
        (422, "the query exceeded the aggregated chunks size (err-mimir-max-chunks-bytes-per-query)"),
        (500, "expanding series: exceeded series limit: limit 100 violated (got 101)"),
        (422, "the number of matching timeseries exceeds 300000; the likely limit is -search.maxUniqueTimeseries"),
        (422, "cannot select more than -search.maxSamplesPerQuery=1000000000 samples"),
    ],
)
async def test_a_query_that_touches_too_much_is_told_apart(status: int, words: str) -> None:
    """The limits of Prometheus, Mimir, Thanos and VictoriaMetrics: such a query may be asked in parts."""
    body = {"status": "error", "errorType": "execution", "error": words}
    async with client(lambda _: httpx.Response(status, json=body)) as prometheus:
        with pytest.raises(TooLarge, match="touches too much"):
            await prometheus.instant("up", NOW, purpose="latency")


async def test_what_may_pass_is_tried_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken connection or a 503 does not fail a query whose second try is answered; a third is not made."""
    monkeypatch.setattr("modeldeployment.metrics.client.RETRY_PAUSE", 0.0)
    answers: list[httpx.Response | Exception] = []

    def handler(request: httpx.Request) -> httpx.Response:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    good = httpx.Response(200, json=EMPTY)
    async with client(handler) as prometheus:
        for first in (httpx.ConnectError("refused"), httpx.RemoteProtocolError("closed"), httpx.Response(503)):
            answers[:] = [first, good]
            assert (await prometheus.instant("up", NOW)).labels == []
        answers[:] = [httpx.ConnectError("nobody listens"), httpx.ConnectError("nobody listens"), good]
        with pytest.raises(Unreachable, match="nobody listens"):
            await prometheus.instant("up", NOW)
        assert len(answers) == 1


async def test_a_deadline_holds_for_all_tries() -> None:
    """A server that does not answer costs the timeout, not more."""

    async def handler(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(30)
        raise AssertionError("never")

    async with PrometheusClient(
        Connection("http://p.test", timeout=0.05), transport=httpx.MockTransport(handler)
    ) as prometheus:
        with pytest.raises(QueryTimeout, match=r"within 0\.05s"):
            await prometheus.instant("up", NOW)


def test_a_policy_and_its_secret_make_a_connection() -> None:
    """Everything that ModelPolicy.prometheus says reaches the connection."""
    spec = Prometheus(
        url="https://p.test/", secret_ref=SecretRef(name="s", namespace="n"), tenant=Tenant(value="a"), timeout="3s"
    )
    made = connection(spec, {"token": "t\n"})
    assert made == Connection("https://p.test", token="t", tenant_header="X-Scope-OrgID", tenant="a", timeout=3.0)
    assert "t\n" not in repr(made)


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ({}, "none of the keys"),
        ({"username": "u"}, "no password"),
        ({"username": "u:SECRET", "password": "SECRET"}, "must not have a colon"),
        ({"token": "SECRET\nSECRET"}, "key token .* one line of printable ASCII"),
        ({"token": "SECRET SECRET"}, "key token .* one line of printable ASCII"),
        ({"token": "SECRÉT"}, "key token .* one line of printable ASCII"),
        ({"ca.crt": "SECRET"}, "not a PEM certificate"),
        ({"ca.crt": "# Autoridad de Certificación"}, "not a PEM certificate"),
        ({"ca.crt": "-----BEGIN CERTIFICATE-----\nSECRET\n-----END CERTIFICATE-----"}, "not a PEM certificate"),
        ({"ca.crt": "\0-----BEGIN CERTIFICATE-----"}, "not a PEM certificate"),
    ],
)
def test_a_useless_secret_is_told(secret: dict[str, str], words: str) -> None:
    """A Secret without what is needed fails with its cure, before any query is sent."""
    spec = Prometheus(url="https://p.test", secret_ref=SecretRef(name="s", namespace="n"))
    with pytest.raises(ValueError, match=words) as told:
        connection(spec, secret)
    assert "SECR" not in str(told.value)


@pytest.mark.parametrize("value", ["a\nb", "tenänt", " a", "a "])
def test_a_tenant_that_no_header_can_carry_is_told(value: str) -> None:
    """It is refused before any query; the CRD takes any text."""
    with pytest.raises(ValueError, match=r"tenant\.value of the ModelPolicy must be printable ASCII"):
        connection(Prometheus(url="https://p.test", tenant=Tenant(value=value)))


def test_comments_of_a_bundle_may_be_in_any_alphabet() -> None:
    """Certificates count; what stands around them does not."""
    bundle = Path(certifi.where()).read_text(encoding="utf-8")
    one = bundle[bundle.index("-----BEGIN") :].split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    made = connection(Prometheus(url="https://p.test"), {"ca.crt": f"# Autoridad de Certificación\n{one}"})
    assert PrometheusClient(made).connection == made


async def test_no_words_of_a_library_are_told_about_a_header() -> None:
    """They hold the header's value; the sentence is a fixed one."""

    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.LocalProtocolError("Illegal header value b'Bearer SECRET'")

    async with client(handler) as prometheus:
        with pytest.raises(Unreachable, match="cannot be written as HTTP wants it") as told:
            await prometheus.instant("up", NOW)
    assert "SECRET" not in str(told.value)


@pytest.mark.parametrize(("purpose", "error"), [("promql", BadQuery), ("latency", TooLarge)])
async def test_an_answer_has_a_largest_size(
    purpose: str, error: type[PrometheusError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every series of a large Prometheus, asked for by anybody, is not read to its end."""
    monkeypatch.setattr("modeldeployment.metrics.client.ANSWER_MAX", 2**20)
    monkeypatch.setattr("modeldeployment.metrics.client.PROMQL_MAX", 2**20)
    sent: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        for k in range(100):
            sent.append(k)
            yield b" " * 2**18

    async with client(lambda _: httpx.Response(200, content=body())) as prometheus:
        with pytest.raises(error, match="larger than 1 MiB"):
            await prometheus.instant("up", NOW, purpose=purpose)
    assert len(sent) == 5


@pytest.mark.parametrize("large", [False, True])
async def test_a_large_answer_is_read_like_a_small_one(large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a thread or not; VictoriaMetrics' isPartial is a warning that says: an answer in part."""
    monkeypatch.setattr("modeldeployment.metrics.client.LARGE", 0 if large else 2**20)
    async with client(lambda _: httpx.Response(200, json={**EMPTY, "isPartial": True})) as prometheus:
        answer = await prometheus.instant("up", NOW)
    assert (answer.kind, answer.labels) == ("vector", [])
    assert answer.in_part.startswith("isPartial")
