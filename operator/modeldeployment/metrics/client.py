"""Prometheus' HTTP API, asynchronous: one pooled client for each server, a deadline on every query.

Queries go as forms by POST, so that their length is not an address' limit. A query that failed for a reason that
may pass (no connection, 502 to 504) is tried once more within its deadline; one that was refused is not.

Connections are shared out in lanes, so that no kind of query waits behind another: what is counted now, PromQL that
anybody may write, PromQL that was slow the last time, and the past.
"""

from __future__ import annotations

import asyncio
import json
import re
import time as clock
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Final, Self

import httpx

from modeldeployment.metrics.answer import Answer, read
from modeldeployment.metrics.connecting import Connection, check, context
from modeldeployment.metrics.errors import (
    BadQuery,
    PrometheusError,
    QueryTimeout,
    ServerFault,
    TooLarge,
    Unauthorized,
    Unreachable,
)

TRIES: Final = 2
RETRY_PAUSE: Final = 0.2
"""Seconds before a query is tried again."""
LANES: Final = {"counters": 6, "promql": 4, "slow": 2, "past": 2}
"""Queries of each kind that are under way at once."""
SLOW: Final = 2.0
"""Seconds above which a PromQL objective has to wait for others like it the next time."""
SLOW_MAX: Final = 1000
"""Texts that are remembered as slow."""
CONNECT_TIMEOUT: Final = 5.0
PARAMETERS: Final = {
    # Thanos: half an answer would look like pods that do not count, two replicas like twice the requests, and what was
    # sampled down is exact no more.
    "partial_response": "false",
    "dedup": "true",
    "max_source_resolution": "0s",
    # VictoriaMetrics: an instant means that instant, and neither 30 s before nor what a cache made of it.
    "nocache": "1",
    "latency_offset": "1ms",
}
"""Sent with every query; who does not know one of them takes no notice of it."""

ANSWER_MAX: Final = 64 * 1024 * 1024
"""Bytes of an answer that are read."""
PROMQL_MAX: Final = 4 * 1024 * 1024
"""The same of a PromQL objective, which anybody may write: a value for each of 10,000 pods fits."""
LARGE: Final = 256 * 1024
"""Bytes above which an answer is read in a thread, so that the rest goes on meanwhile."""

_TOO_MUCH: Final = re.compile(
    "too many samples|err-mimir-max-[a-z-]*per-query|exceeded (series|chunks|bytes) limit"
    "|-search[.]max(UniqueTimeseries|SamplesPerQuery|MemoryPerQuery)"
)
"""By these words Prometheus, Mimir, Thanos and VictoriaMetrics say that a query touches too much at once."""

Observer = Callable[["QueryRecord"], None]


@dataclass(frozen=True, slots=True)
class QueryRecord:
    """One query that was sent, for the operator's own metrics.

    Attributes:
        purpose: what it asked for: scrapes, requests, errors, latency, promql, ...
        outcome: "ok", or the kind of the error.
        seconds: how long it took, retries included.
        series: series in the answer.
        message: the sentence of the error; "" if it was answered.
    """

    purpose: str
    outcome: str
    seconds: float
    series: int
    message: str = ""


class PrometheusClient:
    """A pooled client of one Prometheus. Close it, or use it as a context manager."""

    def __init__(
        self,
        to: Connection,
        *,
        observer: Observer | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`observer` is called once for each query; `transport` replaces the network in tests.

        Raises:
            ValueError: as `connection`.
        """
        check(to)
        self.connection = to
        self._observer = observer
        # Waiting for a free connection must not count against a query's deadline.
        self._lanes = {name: asyncio.Semaphore(count) for name, count in LANES.items()}
        self._slow: dict[str, None] = {}
        # Mimir, Cortex and Thanos keep answers of their query frontends: what was late would be missing in them.
        headers = {"Accept": "application/json", "Cache-Control": "no-store"}
        if to.token:
            headers["Authorization"] = f"Bearer {to.token}"
        if to.tenant_header and to.tenant:
            headers[to.tenant_header] = to.tenant
        self._http = httpx.AsyncClient(
            base_url=to.url.rstrip("/") + "/",
            headers=headers,
            auth=httpx.BasicAuth(to.username, to.password) if to.username and not to.token else None,
            verify=context(to.ca) if to.ca else True,
            timeout=httpx.Timeout(to.timeout, connect=min(to.timeout, CONNECT_TIMEOUT)),
            limits=httpx.Limits(max_connections=sum(LANES.values()), max_keepalive_connections=LANES["counters"]),
            transport=transport,
        )

    async def instant(self, query: str, time: datetime, *, purpose: str = "") -> Answer:
        """The query's value at one instant.

        Raises:
            PrometheusError: there is no answer.
        """
        return await self._ask("api/v1/query", {"query": query, "time": _unix(time)}, purpose)

    async def range(self, query: str, start: datetime, end: datetime, step: float, *, purpose: str = "") -> Answer:
        """The query's values at start, start + step, ... up to end; step in seconds.

        Raises:
            PrometheusError: there is no answer.
        """
        form = {"query": query, "start": _unix(start), "end": _unix(end), "step": f"{step:g}"}
        return await self._ask("api/v1/query_range", form, purpose)

    async def aclose(self) -> None:
        """Closes the pool."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _ask(self, path: str, form: dict[str, str], purpose: str) -> Answer:
        lane = "past" if purpose.startswith("past") else purpose if purpose == "promql" else "counters"
        if lane == "promql" and form["query"] in self._slow:
            lane = "slow"
        async with self._lanes[lane]:
            return await self._timed(path, form, purpose)

    async def _timed(self, path: str, form: dict[str, str], purpose: str) -> Answer:
        began, outcome, series, message = clock.monotonic(), "cancelled", 0, ""
        timeout = self.connection.timeout
        form |= {"timeout": f"{timeout:g}s", **PARAMETERS}
        try:
            async with asyncio.timeout(timeout):
                answer = await self._try(path, form, purpose)
            outcome, series = "ok", len(answer.labels)
            return answer
        except TimeoutError:
            outcome, message = (
                QueryTimeout.kind,
                f"Prometheus at {self.connection.url} did not answer within {timeout:g}s",
            )
            raise QueryTimeout(message) from None
        except PrometheusError as error:
            outcome, message = error.kind, str(error)
            raise
        finally:
            took = clock.monotonic() - began
            if purpose == "promql":
                self._remember(form["query"], took)
            if self._observer is not None:
                self._observer(QueryRecord(purpose, outcome, took, series, message))

    def _remember(self, query: str, took: float) -> None:
        """Whose queries are slow waits behind others that are."""
        self._slow.pop(query, None)
        if took > SLOW:
            self._slow[query] = None
        if len(self._slow) > SLOW_MAX:
            del self._slow[next(iter(self._slow))]

    async def _try(self, path: str, form: dict[str, str], purpose: str) -> Answer:
        for left in reversed(range(TRIES)):
            try:
                response = await self._send(path, form, purpose)
            except httpx.TimeoutException as error:
                if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout):
                    raise TimeoutError from None
                problem: PrometheusError = self._unreachable("no connection in time")
            except (httpx.LocalProtocolError, httpx.InvalidURL, UnicodeError):
                # Their own words can hold a header's value, so the token.
                raise self._unreachable("the request cannot be written as HTTP wants it") from None
            except httpx.TransportError as error:
                problem = self._unreachable(_root(error))
            except httpx.DecodingError:
                raise ServerFault(f"Prometheus at {self.connection.url} sent an answer that cannot be read") from None
            else:
                if response.status_code not in (502, 503, 504):
                    return await self._read(response)
                problem = self._fault(response)
                if isinstance(problem, QueryTimeout):
                    raise problem
            if not left:
                raise problem
            await asyncio.sleep(RETRY_PAUSE)
        raise AssertionError("the last try returns or raises")

    async def _send(self, path: str, form: dict[str, str], purpose: str) -> httpx.Response:
        """The response, read whole unless it is larger than anything that was meant to be asked."""
        most, fault = (PROMQL_MAX, BadQuery) if purpose == "promql" else (ANSWER_MAX, TooLarge)
        body = bytearray()
        async with self._http.stream("POST", path, data=form) as response:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > most:
                    raise fault(
                        f"Prometheus' answer is larger than {most // 2**20} MiB: ask for fewer series, such as by a "
                        "label or an aggregation"
                    )
        # Unpacked already, so the header that says how it was packed does not come along.
        headers = {k: v for k, v in response.headers.items() if k in ("location", "content-type")}
        return httpx.Response(response.status_code, headers=headers, content=bytes(body))

    def _unreachable(self, why: str) -> Unreachable:
        return Unreachable(
            f"cannot reach Prometheus at {self.connection.url}: {why}; check the ModelPolicy's url, "
            "the Service and network policies"
        )

    async def _read(self, response: httpx.Response) -> Answer:
        if response.status_code != 200:
            raise self._fault(response)
        large = len(response.content) > LARGE
        try:
            return await asyncio.to_thread(read, response.content) if large else read(response.content)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
            raise ServerFault(
                f"{self.connection.url} answered, but not as Prometheus does: check that the ModelPolicy's url is "
                "the base of its API, without /api/v1 and without a login page before it"
            ) from None

    def _fault(self, response: httpx.Response) -> PrometheusError:
        status, url = response.status_code, self.connection.url
        kind, words = _own_words(response)
        if status in (401, 403) or 300 <= status < 400:
            where = f", redirects to {response.headers.get('location', '?')}" if status < 400 else ""
            return Unauthorized(
                f"Prometheus at {url} refuses the operator (HTTP {status}{where}): check the Secret that the "
                "ModelPolicy names"
            )
        if kind in ("timeout", "canceled"):
            return QueryTimeout(f"Prometheus at {url} gave the query up: {words}")
        if _TOO_MUCH.search(words):
            return TooLarge(f"Prometheus at {url} refuses the query, as it touches too much: {words}")
        if status in (400, 422) and kind:
            return BadQuery(f"Prometheus refuses the query: {words}")
        if status == 404:
            return ServerFault(f"{url} has no Prometheus API (HTTP 404): check the path in the ModelPolicy's url")
        return ServerFault(f"Prometheus at {url} answered HTTP {status}: {words or response.reason_phrase}")


def _own_words(response: httpx.Response) -> tuple[str, str]:
    """Prometheus' errorType and error; the start of the body if it is not Prometheus' answer."""
    try:
        body = json.loads(response.content)
        return str(body["errorType"]), str(body["error"])[:500]
    except (ValueError, KeyError, TypeError):
        return "", " ".join(response.text.split())[:200]


def _root(error: BaseException) -> str:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return str(error) or type(error).__name__


def _unix(time: datetime) -> str:
    return f"{time.timestamp():.3f}"
