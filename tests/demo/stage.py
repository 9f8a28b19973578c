"""The stage: the lab with an operator, a model under load, and the witnesses."""

from __future__ import annotations

import copy
import shutil
import time
from pathlib import Path
from typing import Any

import httpx
import yaml

from demo import terminal
from demo.timeline import Timeline
from demo.witness import Clients, Route
from lab import Lab
from stand import ROOT, Stand

JSON = dict[str, Any]
NAME, HOST, RATE = "fraud", "fraud.example.com", 100
LOAD_SECONDS = 420.0
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
SCRAPE_SECONDS = 5.0
"""At 2 bad answers a second, the evidence against v3 takes about 5 s to come in, however often one scrapes."""
BOUND_MS = 800.0
PROGRESS_DEADLINE = 10.0
LEASE_SECONDS = 8
"""After SIGKILL nobody acts for so long: short, as somebody looks on."""
SHORT: JSON = {"analysis": {"interval": "1s"}, "progressDeadline": f"{PROGRESS_DEADLINE:g}s", "watch": "5s"}
"""Laid over `spec.rollout` of the examples: a demo has minutes, where production has hours."""
AT_REST = frozenset({"RolloutComplete", "RolledBack", "ProgressDeadlineExceeded", "Aborted", "RolloutCancelled"})


class Stage:
    """Everything the acts play with."""

    def __init__(self) -> None:
        self.stand = Stand(Lab(scrape_interval=f"{SCRAPE_SECONDS:g}s"), stale_after=f"{4 * SCRAPE_SECONDS:g}s")
        self.route: Route
        self.timeline: Timeline
        self._clients: Clients | None = None

    def __enter__(self) -> Stage:
        self.stand.__enter__()
        try:
            self.operator = self.stand.operator(lease_seconds=LEASE_SECONDS)
            self.route = Route(self.stand.lab, NAME).start()
            self.timeline = Timeline(self.stand, NAME, self.route)
            self.timeline.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for part in ("timeline", "route"):
            if hasattr(self, part):
                getattr(self, part).stop()
        self.stand.__exit__()

    @property
    def clients(self) -> Clients:
        """What the clients saw; RuntimeError before `start_load`."""
        if self._clients is None:
            raise RuntimeError("nobody sends requests yet")
        return self._clients

    def start_load(self) -> None:
        """About 100 requests a second from now on, until the end."""
        load = self.stand.lab.load(HOST, rate=RATE, duration_seconds=LOAD_SECONDS).start()
        self._clients = self.timeline.clients = Clients(load, BOUND_MS)
        self.timeline.did(f"clients: {RATE} requests a second from now on, whatever comes back")

    def ask_for(self, version: str, *, traffic: str = "10%", **environment: str) -> None:
        """`kubectl apply` of examples/fraud.yaml at another version, with the demo's short times."""
        model = example("fraud", version)
        model["spec"]["rollout"]["canary"] = {"traffic": traffic}
        model["spec"]["serving"]["template"]["spec"]["containers"][0]["env"] = [
            {"name": name, "value": value} for name, value in environment.items()
        ]
        faults = "".join(f", {name}={value}" for name, value in environment.items())
        self.timeline.did(f"kubectl apply: spec.model.version {version}{faults}")
        self.stand.apply(model)

    def status(self) -> JSON:
        """The operator's word."""
        return self.stand.status(NAME)

    def state(self) -> str:
        """The column STATE."""
        return self.stand.state(NAME)

    def wait_state(self, *states: str, seconds: float) -> None:
        """Waits for a STATE. Raises AssertionError with what is there instead."""
        self.stand.wait(f"STATE {' or '.join(states)}", lambda: self.state() in states, seconds)

    def wait_weights(self, weights: dict[str, int], seconds: float) -> float:
        """Waits until the gateway has accepted these weights; since when (wall-clock seconds)."""
        shares = ", ".join(f"{version} {weight}%" for version, weight in weights.items())
        self.stand.wait(f"the route to send {shares}", lambda: self.route.weights == weights, seconds, every=0.02)
        return next(seen.at for seen in reversed(self.route.history) if seen.accepted)

    @property
    def served(self) -> str:
        """The version that the route sends everything to; "" while several share, or none."""
        (version, weight), *others = self.route.weights.items() or [("", 0)]
        return version if weight == 100 and not others else ""

    def operator_acts(self) -> bool:
        """Whether the operator holds the Lease; False while it does not even answer."""
        try:
            return self.stand.metric("modeldeployment_leader") == 1
        except httpx.HTTPError:
            return False

    def wait_scaled_down(self, version: str, seconds: float = 30) -> bool:
        """Waits until a version's Deployment asks for no pods."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            deployments = self.stand.lab.api.list(DEPLOYMENTS, labelSelector=of(version))
            if all(deployment["spec"]["replicas"] == 0 for deployment in deployments):
                return True
            time.sleep(0.1)
        return False

    def settle(self) -> None:
        """Before an act: all parts run and nothing is going on, whatever the act before left behind."""
        lab = self.stand.lab
        if not lab.prometheus.child.alive:
            lab.prometheus.start()
        if not self.operator.alive:
            self.operator = self.stand.operator(lease_seconds=LEASE_SECONDS)
        try:
            self.stand.wait("the model at rest", lambda: self.state() in ("", *AT_REST), 15)
        except AssertionError:
            stable = (self.status().get("stable") or {}).get("version")
            if stable:
                self.ask_for(stable)
                self.wait_state("RolloutComplete", seconds=30)

    def show(self) -> None:
        """What somebody sees who looks at the cluster."""
        seen = self.stand.lab.kubectl("get", "md", check=False).stdout
        rows = "\n".join(f"           {row}" for row in ("$ kubectl get md", *seen.splitlines()))
        terminal.block(rows, "dim")

    def keep_logs(self, folder: Path) -> None:
        """Copies what a person needs who looks for a cause: the logs, the objects, the Events."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for log in self.stand.lab.folder.rglob("*.log"):
            # A pod's log has the pod's name, which its folder has.
            name = f"{log.parent.name}.log" if log.parent.parent.name == "pods" else log.name
            shutil.copy(log, folder / name)
        for name, command in {
            "modeldeployments.yaml": ("get", "md,mr", "-A", "-o", "yaml"),
            "events.txt": ("get", "events", "-A", "--sort-by=.metadata.creationTimestamp"),
            "pods.txt": ("get", "pods", "-A", "-o", "wide"),
            "routes.yaml": ("get", "httproutes", "-A", "-o", "yaml"),
        }.items():
            (folder / name).write_text(self.stand.lab.kubectl(*command, check=False).stdout, encoding="utf-8")


def of(version: str) -> str:
    """The label selector of one version's children."""
    return f"modeldeployment.io/name={NAME},modeldeployment.io/version={version}"


def example(name: str, version: str) -> JSON:
    """An example's manifest at a version, looked at every second and with short deadlines."""
    text = (ROOT / "examples" / f"{name}.yaml").read_text(encoding="utf-8")
    model: JSON = copy.deepcopy(yaml.safe_load(text))
    model["spec"]["model"]["version"] = version
    model["spec"].setdefault("rollout", {}).update(SHORT)
    for objective in model["spec"]["objectives"]:
        objective["window"] = "30s"
    return model
