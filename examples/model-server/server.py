"""A small model server: scikit-learn behind HTTP, with the three metrics every model should have.

POST /v1/predict {"instances": [[5.1, 3.5, 1.4, 0.2]]}, GET /healthz, GET /metrics. Settings come from the
environment; the variables named FAULT_* inject faults, to see what a rollout does about them.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from dataclasses import dataclass, field

# One request is one row: threads of the maths library would cost more than they give.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

LATENCY_BUCKETS_MS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 800, 1000, 2500, 5000)
LABELS = ("model", "version")
REQUESTS = Counter("inference_requests_total", "Prediction requests.", LABELS)
ERRORS = Counter("inference_errors_total", "Prediction requests that failed in the model.", LABELS)
LATENCY = Histogram("inference_latency_ms", "Time to answer, in milliseconds.", LABELS, buckets=LATENCY_BUCKETS_MS)


@dataclass(frozen=True)
class Settings:
    """What the environment says. Shares are 0 to 1."""

    model: str = field(default_factory=lambda: os.environ.get("MODEL_NAME", "iris"))
    version: str = field(default_factory=lambda: os.environ.get("MODEL_VERSION", "0.0.0"))
    uri: str = field(default_factory=lambda: os.environ.get("MODEL_URI", ""))
    digest: str = field(default_factory=lambda: os.environ.get("MODEL_DIGEST", ""))
    host: str = field(default_factory=lambda: os.environ.get("HOST", "0.0.0.0"))
    port: int = field(default_factory=lambda: int(os.environ.get("PORT", "8080")))
    # Requests still arrive after SIGTERM, until every proxy knows that this pod is going.
    drain_seconds: float = field(default_factory=lambda: float(os.environ.get("DRAIN_SECONDS", "1")))
    fault_error_rate: float = field(default_factory=lambda: float(os.environ.get("FAULT_ERROR_RATE", "0")))
    fault_seed: str = field(default_factory=lambda: os.environ.get("FAULT_SEED", ""))
    fault_latency_ms: float = field(default_factory=lambda: float(os.environ.get("FAULT_LATENCY_MS", "0")))
    fault_crash: bool = field(default_factory=lambda: os.environ.get("FAULT_CRASH", "") == "1")
    fault_after_seconds: float = field(default_factory=lambda: float(os.environ.get("FAULT_AFTER_SECONDS", "0")))


class Faults:
    """FAULT INJECTION, for demos and tests: errors, delays and crashes on request."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._begin = time.monotonic() + settings.fault_after_seconds
        self._owed = 0.0  # of one error: a rate of 0.2 fails every fifth request, so a demo has no luck in it
        self._chance = random.Random(settings.fault_seed) if settings.fault_seed else None

    async def inject(self) -> None:
        """Delays, then raises RuntimeError, as often as the settings say."""
        if time.monotonic() < self._begin:
            return
        if self._settings.fault_latency_ms:
            await asyncio.sleep(self._settings.fault_latency_ms / 1000)
        if self._fails():
            raise RuntimeError("injected fault (FAULT_ERROR_RATE)")

    def _fails(self) -> bool:
        """Whether this request is one of those that fail: evenly, or by chance where there is a seed."""
        if self._chance is not None:
            return self._chance.random() < self._settings.fault_error_rate
        self._owed += self._settings.fault_error_rate
        if self._owed < 1 - 1e-9:
            return False
        self._owed -= 1
        return True

    async def crash_when_asked(self) -> None:
        """Exits with code 1 when FAULT_CRASH=1, after FAULT_AFTER_SECONDS."""
        if self._settings.fault_crash:
            await asyncio.sleep(self._settings.fault_after_seconds)
            print("injected fault (FAULT_CRASH): exiting with 1", flush=True)
            os._exit(1)


class Server:
    """The model and its HTTP handlers."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._faults = Faults(settings)
        self._stopping = False
        data = load_iris()
        self._names: list[str] = [str(name) for name in data.target_names]
        self._features: int = data.data.shape[1]
        self._classifier = LogisticRegression(max_iter=500, random_state=0).fit(data.data, data.target)
        labels = (settings.model, settings.version)
        # Touched here, so that the series exist, at zero, before the first request.
        self._requests, self._errors = REQUESTS.labels(*labels), ERRORS.labels(*labels)
        self._latency = LATENCY.labels(*labels)

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.add_routes(
            [
                web.post("/v1/predict", self.predict),
                web.get("/healthz", self.health),
                web.get("/metrics", self.metrics),
            ]
        )
        return app

    async def predict(self, request: web.Request) -> web.Response:
        """Classifies the rows of `instances`: 400 for what is no request, 500 when the model fails."""
        started = time.perf_counter()
        status = 200
        try:
            instances = json.loads(await request.read())["instances"]
            if not instances or any(len(row) != self._features for row in instances):
                raise ValueError(f"instances must be rows of {self._features} numbers")
            rows = [[float(value) for value in row] for row in instances]
        except (ValueError, KeyError, TypeError) as error:
            return self._answer(400, {"error": str(error)})
        try:
            await self._faults.inject()
            body: dict[str, object] = {"predictions": [self._names[index] for index in self._classifier.predict(rows)]}
        except Exception as error:
            self._errors.inc()
            status, body = 500, {"error": str(error)}
        self._requests.inc()
        self._latency.observe((time.perf_counter() - started) * 1000)
        return self._answer(status, body)

    async def health(self, _: web.Request) -> web.Response:
        """200 while requests are welcome, 503 once the server was told to stop."""
        body = {"model": self._settings.model, "uri": self._settings.uri, "digest": self._settings.digest}
        return self._answer(503 if self._stopping else 200, body)

    async def metrics(self, _: web.Request) -> web.Response:
        """The Prometheus text format."""
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT, then drains."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        runner = web.AppRunner(self.app(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, self._settings.host, self._settings.port).start()
        print(f"serving {self._settings.model} {self._settings.version}", flush=True)
        crash = asyncio.create_task(self._faults.crash_when_asked())
        await stop.wait()
        crash.cancel()
        self._stopping = True
        await asyncio.sleep(self._settings.drain_seconds)
        await runner.cleanup()

    def _answer(self, status: int, body: object) -> web.Response:
        return web.json_response(body, status=status, headers={"x-model-version": self._settings.version})


def main() -> None:
    """Trains, then serves."""
    settings = Settings()
    if settings.fault_crash and not settings.fault_after_seconds:
        sys.exit("injected fault (FAULT_CRASH): exiting with 1")
    asyncio.run(Server(settings).run())


if __name__ == "__main__":
    main()
