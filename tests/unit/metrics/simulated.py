"""A Prometheus in memory that evaluates the few forms of query that the planner writes, behind its real HTTP API."""

from __future__ import annotations

import asyncio
import json
import math
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import httpx

from modeldeployment.metrics import Connection, PrometheusClient

LOOKBACK = 300.0
URL = "http://prometheus.test:9090"
NATIVE = "inference_seconds"
Name = str | tuple[str, str]
"""A metric, or a bucket's metric and its `le`."""


@dataclass
class Endpoint:
    """What was scraped from one endpoint: (time, counters), or None for the counters of a scrape that failed.

    natives: time of a scrape → the native histogram NATIVE that it brought, as the API has it.
    """

    labels: dict[str, str]
    scrapes: list[tuple[float, dict[Name, float] | None]] = field(default_factory=list)
    gone: float = math.inf
    natives: dict[float, dict[str, Any]] = field(default_factory=dict)

    def at(self, time: float) -> tuple[float, dict[Name, float] | None] | None:
        """The newest scrape at a time; None before the first, and after the target was dropped."""
        index = bisect_right(self.scrapes, time, key=lambda s: s[0])
        if not index or time >= self.gone or time - self.scrapes[index - 1][0] > LOOKBACK:
            return None
        return self.scrapes[index - 1]

    def last(self, time: float, length: float) -> tuple[float, dict[Name, float] | None] | None:
        """The newest scrape that brought counters, of the last `length` seconds."""
        index = bisect_right(self.scrapes, time, key=lambda s: s[0])
        within = (s for s in reversed(self.scrapes[:index]) if s[0] > time - length and s[1] is not None)
        return next(within, None)


@dataclass
class SimulatedPrometheus:
    """Endpoints, the queries it was sent, and queries that it refuses (text contained → HTTP status).

    series: query → its vector. kinds: query → an answer of another kind, and what is in it.
    held: text contained → the query is answered once this is set. most: series above which a query is refused.
    stored: scrapes later than this are not there yet.
    """

    endpoints: list[Endpoint] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    refuses: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    series: dict[str, list[tuple[dict[str, str], float]]] = field(default_factory=dict)
    kinds: dict[str, tuple[str, object]] = field(default_factory=dict)
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    most: float = math.inf
    stored: float = math.inf

    def pod(self, pod: str, namespace: str = "ml", job: str = "pods", **more: str) -> Endpoint:
        """A new endpoint."""
        labels = {"namespace": namespace, "pod": pod, "instance": f"{pod}:8080", "job": job, **more}
        self.endpoints.append(Endpoint(labels))
        return self.endpoints[-1]

    def client(self, timeout: float = 10.0) -> PrometheusClient:
        """A client of this server."""
        return PrometheusClient(Connection(URL, timeout=timeout), transport=httpx.MockTransport(self._answer))

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        form = {key: value[0] for key, value in parse_qs(request.content.decode()).items()}
        query = form["query"]
        self.asked.append(query)
        for text, event in [*self.held.items()]:
            if text in query:
                await event.wait()
        for text, status in self.refuses.items():
            if text in query:
                body = {"status": "error", "errorType": "bad_data", "error": f"refused: {text}"}
                return httpx.Response(status, json=body)
        if query in self.kinds:
            kind, result = self.kinds[query]
            return httpx.Response(200, json={"status": "success", "data": {"resultType": kind, "result": result}})
        if request.url.path.endswith("/query_range"):
            start, end, step = (float(form[name]) for name in ("start", "end", "step"))
            instants = [start + k * step for k in range(math.floor((end - start) / step + 1e-6) + 1)]
            matrix: dict[str, list[tuple[float, str]]] = {}
            natives: dict[str, list[tuple[float, dict[str, Any]]]] = {}
            for at in instants:
                for labels, sample in self._natives(query, at):
                    natives.setdefault(json.dumps(labels), []).append((at, sample))
                for labels, value in self._evaluate(query, at):
                    matrix.setdefault(json.dumps(labels), []).append((at, repr(value)))
            series: list[object] = [{"metric": json.loads(k), "values": v} for k, v in matrix.items()]
            series += [{"metric": json.loads(k), "histograms": v} for k, v in natives.items()]
            data = {"resultType": "matrix", "result": series}
        else:
            at = float(form["time"])
            vector = [{"metric": labels, "value": [at, repr(value)]} for labels, value in self._evaluate(query, at)]
            vector += [{"metric": of, "histogram": [at, sample]} for of, sample in self._natives(query, at)]
            data = {"resultType": "vector", "result": vector}
        if len(data["result"]) > self.most:
            body = {"status": "error", "errorType": "execution", "error": "query would load too many samples"}
            return httpx.Response(422, json=body)
        return httpx.Response(200, json={"status": "success", "data": data, "warnings": self.warnings})

    def _natives(self, query: str, at: float) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
        by = re.search(r"sum by \(([^)]*)\).*[( ]" + NATIVE + r"\{", query)
        over = re.search(r"last_over_time\(.*\[(\d+)ms\]\)", query)
        for endpoint in self.endpoints if by else ():
            scrape = endpoint.last(at, int(over[1]) / 1000) if over else endpoint.at(at)
            if by and scrape and scrape[0] in endpoint.natives and self._selected(query, endpoint.labels):
                labels = {label: endpoint.labels[label] for label in by[1].split(", ") if label in endpoint.labels}
                yield labels, endpoint.natives[scrape[0]]

    def _evaluate(self, query: str, at: float) -> Iterator[tuple[dict[str, str], float]]:
        if query in self.series:
            yield from self.series[query]
            return
        by = re.search(r"by \(([^)]*)\)", query)
        assert by is not None, query
        keep = by[1].split(", ")
        over = re.search(r"last_over_time\(.*\[(\d+)ms\]\)", query)
        sums: dict[str, float] = {}
        for endpoint in self.endpoints:
            if not self._selected(query, endpoint.labels):
                continue
            at = min(at, self.stored)
            scrape = endpoint.last(at, int(over[1]) / 1000) if over else endpoint.at(at)
            if scrape is None:
                continue
            for name, value in self._samples(query, scrape):
                labels = {**endpoint.labels, **({"le": name[1]} if isinstance(name, tuple) else {})}
                if not self._selected(query, labels):
                    continue
                key = json.dumps({label: labels[label] for label in keep if label in labels})
                sums[key] = max(sums.get(key, 0.0), value) if "timestamp" in query else sums.get(key, 0.0) + value
        yield from ((json.loads(key), value) for key, value in sums.items())

    @staticmethod
    def _selected(query: str, labels: dict[str, str]) -> bool:
        matchers = re.findall(r'(\w+)([=!])~"([^"]*)"', query)
        return all(
            bool(re.fullmatch(of, labels.get(label, ""))) == (sign == "=")
            for label, sign, of in matchers
            if label != "le" or label in labels  # a bucket's, not the endpoint's
        )

    @staticmethod
    def _samples(query: str, scrape: tuple[float, dict[Name, float] | None]) -> Iterator[tuple[Name, float]]:
        time, counters = scrape
        if "timestamp(up" in query:
            yield "up", 0.0 if counters is None else time
            return
        for name, value in (counters or {}).items():
            metric = name[0] if isinstance(name, tuple) else name
            if re.search(rf"[( ]{metric}[{{)]", query):
                yield name, time if "timestamp" in query else value


def counts(requests: float, errors: float | None = None, **buckets: float) -> dict[Name, float]:
    """The counters of the dialect Generic; buckets as le_100=5, le_inf=9."""
    found: dict[Name, float] = {"inference_requests_total": requests}
    if errors is not None:
        found["inference_errors_total"] = errors
    for le, value in buckets.items():
        edge = le.removeprefix("le_").replace("inf", "+Inf")
        found["inference_latency_ms_bucket", edge] = value
    return found
