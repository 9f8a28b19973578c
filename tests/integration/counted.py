"""Model servers that know the truth, and a real Prometheus that scrapes them: all on loopback."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from lab.binaries import binary
from lab.ports import free_ports
from lab.process import PATIENCE, Child, wait_until
from modeldeployment.decision.evidence import Delta

SCRAPE = 0.3
"""Seconds between scrapes."""
EDGES = (100.0, 800.0)
TEXT = "text/plain; version=0.0.4"


@dataclass
class Pod:
    """A model server that knows the truth. Its metrics appear with the first request, as labelled counters do.

    `answered`, `failed` and `slow` are the requests of all its lives, scraped or not.
    """

    name: str
    created: datetime | None = None
    refuses: bool = False

    def __post_init__(self) -> None:
        self.answered = self.failed = self.slow = 0
        self.counts: dict[str, int] = {}
        self.scraped: dict[str, int] = {}
        self.scrapes = 0
        self.lives: list[dict[str, int]] = []
        self._lock = threading.Lock()
        pod = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with pod._lock:
                    (content_type, body), refuses = pod.exposition(), pod.refuses
                    if not refuses:
                        pod.scraped, pod.scrapes = dict(pod.counts), pod.scrapes + 1
                self.send_response(503 if refuses else 200)
                self.send_header("Content-Type", content_type)
                self.end_headers()
                self.wfile.write(b"" if refuses else body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def serve(self, requests: int, errors: int = 0, slow: int = 0) -> None:
        """Requests answered; `slow` of them between the edges."""
        with self._lock:
            self.answered, self.failed, self.slow = self.answered + requests, self.failed + errors, self.slow + slow
            code_200, code_500 = requests - errors, errors
            for name, more in (
                ('inference_requests_total{code="200"}', code_200),
                ('inference_requests_total{code="500"}', code_500),
                ("inference_errors_total", errors),
            ):
                if more:
                    self.counts[name] = self.counts.get(name, 0) + more
            for le, more in (("100", requests - slow), ("800", requests), ("+Inf", requests)):
                name = f'inference_latency_ms_bucket{{le="{le}"}}'
                self.counts[name] = self.counts.get(name, 0) + more

    def begin(self) -> None:
        """It is created, and answers from now on."""
        self.created, self.refuses = datetime.now(UTC), False

    def restart(self) -> None:
        """The process ends once its last counts were scraped, and another begins: counters start anew."""
        enough = self.scrapes + 2  # the answer to one scrape may come too late for Prometheus
        wait_until("its last counts to be scraped", lambda: self.scrapes >= enough, PATIENCE)
        with self._lock:
            self.lives.append(self.scraped)
            self.counts, self.scraped = {}, {}

    def exposition(self) -> tuple[str, bytes]:
        """The metrics as Prometheus reads them: content type and body."""
        return TEXT, "".join(f"{name} {value}\n" for name, value in self.counts.items()).encode()

    def truth(self) -> Delta:
        """What it answered in all its lives, up to the last scrape of each."""
        total: dict[str, int] = {}
        for life in (*self.lives, self.scraped):
            for name, value in life.items():
                total[name] = total.get(name, 0) + value
        requests = sum(v for n, v in total.items() if n.startswith("inference_requests"))
        bucket = {e: total.get(f'inference_latency_ms_bucket{{le="{e:g}"}}', 0) for e in EDGES}
        return Delta(
            requests,
            total.get("inference_errors_total", 0),
            bucket if requests else {},
            total.get('inference_latency_ms_bucket{le="+Inf"}', 0),
        )

    def close(self) -> None:
        """Ends the server."""
        self._server.shutdown()
        self._server.server_close()


class Prometheus:
    """A Prometheus of its own with static targets, so that tests can run side by side.

    `replicas`: with two, it holds what a pair of Prometheus sends to one store that does not deduplicate. `scraping`:
    further settings of all scrapes.
    """

    def __init__(self, folder: Path, *more: str) -> None:
        """more: further flags."""
        (port,) = free_ports(1)
        self.host = f"127.0.0.1:{port}"
        self.url, self.folder = f"http://{self.host}", folder
        self.pods: list[Pod] = []
        self.replicas: tuple[str, ...] = ("",)
        self.scraping: dict[str, bool] = {}
        flags = [
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={self.host}",
            "--log.level=warn",
            *more,
        ]
        self.child = Child("prometheus", [binary("prometheus"), *flags], folder / "prometheus.log")

    def start(self, *pods: Pod) -> None:
        """Starts it, and waits until it answers. New targets would come with a delay of 5 s, so all are known now."""
        self.pods += pods
        self._write()
        self.child.start()
        wait_until("prometheus", self._ready, 60, self.child)
        wait_until("first scrapes", lambda: all(p.scrapes or p.refuses for p in self.pods), 30, self.child)

    async def scraped(self) -> datetime:
        """Waits until all that the pods counted so far is scraped; returns a time by which it was.

        Twice each: the answer to one scrape may come too late for Prometheus.
        """
        enough = {pod.name: pod.scrapes + 2 for pod in self.pods}
        deadline = time.monotonic() + PATIENCE
        while missing := [pod.name for pod in self.pods if pod.scrapes < enough[pod.name] and not pod.refuses]:
            assert time.monotonic() < deadline, f"Prometheus does not scrape {missing} any more"
            await asyncio.sleep(0.02)
        return datetime.now(UTC)

    def value(self, query: str, at: datetime) -> float:
        """The single value of an instant query; 0 without any."""
        form = f"query={urllib.request.quote(query)}&time={at.timestamp()}"  # type: ignore[attr-defined]
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{form}", timeout=10) as answer:
            result = json.loads(answer.read())["data"]["result"]
        return float(result[0]["value"][1]) if result else 0.0

    def _write(self) -> None:
        jobs = [
            {
                "job_name": f"pods{replica}",
                "static_configs": [
                    {
                        "targets": [p.address],
                        "labels": {"namespace": "ml", "pod": p.name, "job": "pods", "prometheus_replica": replica},
                    }
                    for p in self.pods
                ],
            }
            for replica in self.replicas
        ]
        scrape = {"scrape_interval": f"{SCRAPE * 1000:g}ms", "scrape_timeout": f"{SCRAPE * 1000:g}ms"}
        config = {"global": {**scrape, **self.scraping}, "scrape_configs": jobs}
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
