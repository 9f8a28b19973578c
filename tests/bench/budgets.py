"""What error budgets cost: memory of a model, and the queries and time in which a new operator reads their past.

Run as `python -m bench.budgets [--models 1000]`. Prometheus is a stand-in that answers at once with 61 points a
series, so what is measured is the operator's own time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
import tracemalloc
from datetime import UTC, datetime
from urllib.parse import parse_qs

import httpx

from modeldeployment.api.serving import Metrics
from modeldeployment.decision.budget import WINDOWS
from modeldeployment.decision.evidence import Evidence
from modeldeployment.decision.rules import RuleKind, Sli
from modeldeployment.metrics import Connection, EvidenceStore, ModelKey, PrometheusClient, QueryRecord, Watched
from modeldeployment.metrics.ladder import Ladder

NOW = 1_795_608_000.0
MONTH = 30 * 86_400.0
SLIS = frozenset({Sli(RuleKind.ERRORS, 0.0, 0.0, MONTH), Sli(RuleKind.SLOW, 800.0, 0.99, MONTH)})
EDGES = ("100.0", "400.0", "1000.0", "+Inf")
RATE = {"inference_requests_total": 10.0, "inference_errors_total": 0.01, "inference_latency_ms_bucket": 9.9}


def at(seconds: float) -> datetime:
    """Unix seconds as a time."""
    return datetime.fromtimestamp(seconds, UTC)


def model(number: int, pods: int) -> Watched:
    """A model with two objectives that has served for longer than its budgets last."""
    revision = f"model-{number:04d}-{'4' * 10}"
    return Watched(
        ("ml", f"model-{number:04d}"),
        Metrics(),
        (revision,),
        serving=revision,
        interval=30.0,
        needs_errors=True,
        needs_latency=True,
        slis=SLIS,
        pods={f"{revision}-7d9c5b8f6d-{k:05d}": at(NOW - 2 * MONTH) for k in range(pods)},
    )


class StandIn:
    """Answers every query with the series that it selects. `sent`: bytes in all; `seconds`: CPU time of its own."""

    def __init__(self, models: list[Watched]) -> None:
        self._pods = [pod for m in models for pod in m.pods]
        self.sent, self.seconds = 0, 0.0

    def answer(self, request: httpx.Request) -> httpx.Response:
        """One query."""
        began = time.process_time()
        form = {key: value[0] for key, value in parse_qs(request.content.decode()).items()}
        query, past = form["query"], request.url.path.endswith("range")
        times = [float(form.get("time", 0))]
        if past:
            start, end, step = (float(form[name]) for name in ("start", "end", "step"))
            times = [start + k * step for k in range(round((end - start) / step) + 1)]
        metric = next((name for name in RATE if name in query), "up")
        wanted = re.search(r'pod=~"([^"]*)"', query)
        pods = [p for p in self._pods if re.fullmatch(wanted[1], p)] if wanted else self._pods
        edges = (EDGES[2:] if past else EDGES) if metric.endswith("bucket") else (None,)
        result = []
        for pod in pods:
            for le in edges:
                labels = {"namespace": "ml", "pod": pod, "instance": f"{pod}:8080", "job": "pods"}
                values = [
                    (t, str(t) if metric == "up" else str(round(RATE[metric] * (t - NOW + 3 * MONTH)))) for t in times
                ]
                series = {"metric": {**labels, "le": le} if le else labels}
                result.append({**series, "values": values} if past else {**series, "value": values[0]})
        data = {"resultType": "matrix" if past else "vector", "result": result}
        content = json.dumps({"status": "success", "data": data}).encode()
        self.sent += len(content)
        self.seconds += time.process_time() - began
        return httpx.Response(200, content=content)


def memory() -> float:
    """Bytes of the ladders of a model with two objectives, filled."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    ladders = [Ladder(MONTH, NOW) for _ in range(2000)]
    for ladder in ladders:
        ladder.add(NOW + 60, 10_000, 100)
        ladder.missing.clear()
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return 2 * used / len(ladders)


async def look_at(
    store: EvidenceStore, models: list[Watched], instant: datetime, prometheus: PrometheusClient
) -> dict[ModelKey, Evidence]:
    """One look at all models."""
    return {key: one async for batch in store.look(models, instant, prometheus) for key, one in batch.items()}


async def read_past(models: list[Watched]) -> tuple[int, float, float]:
    """One start: queries, megabytes and the operator's own CPU seconds for the past of all budgets."""
    records: list[QueryRecord] = []
    server, store, connection = StandIn(models), EvidenceStore(), Connection("http://stand-in", timeout=120)
    transport = httpx.MockTransport(server.answer)
    async with PrometheusClient(connection, observer=records.append, transport=transport) as client:
        await look_at(store, models, at(NOW), client)
        looked, sent, other = len(records), server.sent, server.seconds
        began = time.process_time()
        await store.recall(models, at(NOW), client)
        took = time.process_time() - began - (server.seconds - other)
        queries, received = len(records) - looked, server.sent - sent
        found = await look_at(store, models, at(NOW + 30), client)
    assert all(len(e.tallies) == len(SLIS) for e in found.values()), "a budget does not know its past"
    return queries, received / 1e6, took


def reading(count: int) -> float:
    """Seconds for the windows of so many ladders."""
    ladder = Ladder(MONTH, NOW)
    began = time.perf_counter()
    for _ in range(count):
        for window in (*WINDOWS, MONTH):
            ladder.total(NOW, window)
    return time.perf_counter() - began


def main() -> int:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=2, help="pods of each model")
    options = parser.parse_args()
    print(f"memory of a model's two budgets: {memory():,.0f} bytes")
    print(f"all windows of {2 * options.models} budgets: {reading(2 * options.models):.3f} s")
    queries, megabytes, took = asyncio.run(read_past([model(k, options.pods) for k in range(options.models)]))
    fleet = f"{options.models} models of {options.pods} pods"
    print(f"the past of {fleet}: {queries} queries, {megabytes:.0f} MB, {took:.1f} s of CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
