"""Model servers of other projects, each started alone: what one counts can be compared with what was sent."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from lab.environments import RUNTIMES, ensure_environment
from lab.ports import free_ports
from lab.process import LAB_ID, Child, Warden, wait_until
from lab.scratch import make_folder

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Runtime:
    """How to start one, and how to ask it. {port}, {grpc}, {metrics}, {folder} and {code} are filled in.

    command: a program of its environment, and its arguments.   infer, ready, metrics: URLs' ends, after the host.
    body: what a request says for the number that the model of runtimes/answering.py is asked.
    files: name → content, put into its folder first.
    """

    name: str
    imports: str
    command: tuple[str, ...]
    infer: str
    ready: str
    metrics: str
    body: Callable[[object], object]
    env: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, str], ...] = ()


BENTOML = Runtime(
    name="bentoml",
    imports="bentoml",
    command=("bentoml", "serve", "bentoml_server:Model", "--working-dir", "{code}", "--host", HOST, "--port", "{port}"),
    infer=":{port}/predict",
    ready=":{port}/readyz",
    metrics=":{port}/metrics",
    body=lambda x: {"x": x},
    env=(("BENTOML_HOME", "{folder}"), ("BENTOML_DO_NOT_TRACK", "True")),
)
KSERVE = Runtime(
    name="kserve",
    imports="kserve",
    command=("python", "{code}/kserve_server.py", "{port}"),
    infer=":{port}/v1/models/model:predict",
    ready=":{port}/v2/health/ready",
    metrics=":{port}/metrics",
    body=lambda x: {"instances": [x]},
)
MLSERVER = Runtime(
    name="mlserver",
    imports="mlserver, mlserver_sklearn",
    command=("mlserver", "start", "{folder}"),
    infer=":{port}/v2/models/model/infer",
    ready=":{port}/v2/models/model/ready",
    metrics=":{metrics}/metrics",
    body=lambda x: {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [x]}]},
    env=(
        ("MLSERVER_HOST", HOST),
        ("MLSERVER_HTTP_PORT", "{port}"),
        ("MLSERVER_GRPC_PORT", "{grpc}"),
        ("MLSERVER_METRICS_PORT", "{metrics}"),
        ("MLSERVER_PARALLEL_WORKERS", "0"),
    ),
    files=(("model-settings.json", '{"name": "model", "implementation": "mlserver_model.Model"}'),),
)
RAY_SERVE = Runtime(
    name="ray",
    imports="ray.serve",
    command=("python", "{code}/ray_server.py", HOST, "{port}", "{metrics}", "{folder}"),
    infer=":{port}/model",
    ready=":{port}/-/healthz",
    metrics=":{metrics}/metrics",
    body=lambda x: {"x": x},
    env=(("RAY_USAGE_STATS_ENABLED", "0"),),
)


class RuntimeServer:
    """One that runs; it and all that it started are gone at the end of the `with` block.

    Raises:
        LabUnavailable: its environment cannot be had on this machine.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        environment = ensure_environment(runtime.name, runtime.imports) / "bin"
        self._folder = make_folder()
        marker = uuid.uuid4().hex
        self._warden = Warden(marker, self._folder)
        self._names = dict(zip(("port", "grpc", "metrics"), map(str, free_ports(3)), strict=True))
        self._names |= {"folder": str(self._folder), "code": str(RUNTIMES)}
        for name, content in runtime.files:
            (self._folder / name).write_text(content)
        program, *arguments = (part.format(**self._names) for part in runtime.command)
        env = {
            **os.environ,
            "PATH": f"{environment}:{os.environ['PATH']}",
            "PYTHONPATH": str(RUNTIMES),
            "TMPDIR": str(self._folder),
            LAB_ID: marker,
            **{name: value.format(**self._names) for name, value in runtime.env},
        }
        log = self._folder / "log"
        self._child = Child(runtime.name, [environment / program, *arguments], log, env, self._folder)

    def __enter__(self) -> RuntimeServer:
        self._child.start()
        try:
            wait_until("readiness", lambda: self.probe() == 200, 240, self._child)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def ask(self, x: object) -> int:
        """The status of the answer to one request of the model; 0 if nothing answered."""
        return self._get(self._runtime.infer, json.dumps(self._runtime.body(x)).encode())[0]

    def probe(self) -> int:
        """The status of the answer to one request as a kubelet sends it."""
        return self._get(self._runtime.ready)[0]

    def metrics(self) -> str:
        """What it exposes now."""
        return self._get(self._runtime.metrics)[1]

    def _get(self, path: str, body: bytes | None = None) -> tuple[int, str]:
        url = f"http://{HOST}{path.format(**self._names)}"
        request = urllib.request.Request(url, body, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.read().decode()
        except OSError:
            return 0, ""

    def _end(self) -> None:
        self._child.stop()
        self._warden.dismiss()
