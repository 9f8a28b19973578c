"""The client: what it sends, what it reads, and the sentence for each way a query can fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import parse_qs

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
            assert (await prometheus.instant("up", NOW)).series == []
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
    [({}, "none of the keys"), ({"username": "u"}, "no password"), ({"ca.crt": "no"}, "not a PEM certificate")],
)
def test_a_useless_secret_is_told(secret: dict[str, str], words: str) -> None:
    """A Secret without what is needed fails with its cure, before any query is sent."""
    spec = Prometheus(url="https://p.test", secret_ref=SecretRef(name="s", namespace="n"))
    with pytest.raises(ValueError, match=words):
        connection(spec, secret)
