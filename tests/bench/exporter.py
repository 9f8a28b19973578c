"""One cheap process that answers the scrapes of a whole fleet. Run as `python -m bench.exporter HOST PORT SEED`.

GET /metrics?namespace=…&pod=…&version=…&rate=… answers for that pod alone, with the counters of the example model
server. They rise by the clock, at about `rate` requests a second; one request in 500 fails,
p99 is 250 ms. Plain HTTP by hand: a web framework would cost ten times as much.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

FAILED = 0.002
# Edges (ms) as in examples/model-server, and the share of requests that are as fast.
FASTER = {
    1: 0.0,
    2: 0.0,
    5: 0.05,
    10: 0.31,
    25: 0.62,
    50: 0.84,
    100: 0.95,
    250: 0.99,
    500: 0.997,
    800: 0.999,
    1000: 1.0,
    2500: 1.0,
    5000: 1.0,
}
MEAN_MS = 34.0
HEAD_START = 5.0
"""Seconds that a pod served before it was scraped first."""


@dataclass(frozen=True)
class Server:
    """One pod's model server. `rate`: requests a second; `started`: monotonic seconds."""

    labels: str
    rate: float
    started: float

    def metrics(self, now: float) -> str:
        """Its metrics; a series is there from its first request on, as with real client libraries."""
        n = int((now - self.started) * self.rate)
        lines = ["# TYPE inference_requests_total counter", "# TYPE inference_errors_total counter"]
        if n:
            lines.append(f"inference_requests_total{{{self.labels}}} {n}")
            lines.append("# TYPE inference_latency_ms histogram")
            for edge, share in FASTER.items():
                lines.append(f'inference_latency_ms_bucket{{{self.labels},le="{edge}.0"}} {int(n * share)}')
            lines.append(f'inference_latency_ms_bucket{{{self.labels},le="+Inf"}} {n}')
            lines.append(f"inference_latency_ms_count{{{self.labels}}} {n}")
            lines.append(f"inference_latency_ms_sum{{{self.labels}}} {n * MEAN_MS}")
        if failed := int(n * FAILED):
            lines.append(f"inference_errors_total{{{self.labels}}} {failed}")
        return "\n".join(lines) + "\n"


class Servers:
    """All pods that were asked for so far."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._by_pod: dict[tuple[str, str], Server] = {}

    def metrics(self, namespace: str, pod: str, version: str, rate: float) -> str:
        """One pod's metrics now. Its rate is within 20 % of `rate`, and the same in every run with this seed."""
        now = time.monotonic()
        server = self._by_pod.get((namespace, pod))
        if server is None:
            model = pod.rsplit("-", 3)[0]
            exact = rate * random.Random(f"{self._seed} {namespace}/{model} {version}").uniform(0.8, 1.2)
            server = Server(f'model="{model}",version="{version}"', exact, now - HEAD_START)
            self._by_pod[namespace, pod] = server
        return server.metrics(now)


class Connection(asyncio.Protocol):
    """A kept-alive HTTP connection of Prometheus'."""

    def __init__(self, servers: Servers) -> None:
        self._servers, self._received = servers, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remembers where answers go."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answers every request that is complete; GETs have no body."""
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, self._received = self._received.split(b"\r\n\r\n", 1)
            self._answer(head.split(b"\r\n", 1)[0].decode())

    def _answer(self, request_line: str) -> None:
        asked = {key: values[0] for key, values in parse_qs(urlsplit(request_line.split()[1]).query).items()}
        try:
            rate = float(asked["rate"])
            body = self._servers.metrics(asked["namespace"], asked["pod"], asked["version"], rate).encode()
            status = "200 OK"
        except (KeyError, ValueError):
            body, status = b"namespace, pod, version and rate are needed\n", "400 Bad Request"
        head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


async def main(host: str, port: int, seed: int) -> None:
    """Serves for ever."""
    servers = Servers(seed)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(servers), host, port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
