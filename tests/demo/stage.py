"""The stage: the lab with an operator, a model under load, and somebody who writes down what changes."""

from __future__ import annotations

import copy
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import yaml

from lab import Lab
from lab.load import Load, Snapshot
from stand import ROOT, Stand

NAME, HOST, RATE = "fraud", "fraud.example.com", 100
SCRAPE_SECONDS = 5.0
SAMPLE_SECONDS = 0.1
BOUND_MS = 800.0
ROUTE = f"/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes/{NAME}"
JSON = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """What was there at one moment.

    Attributes:
        at: wall-clock seconds.
        weights: version → percent that the HTTPRoute has.
        state, message: the condition Progressing.
        evidence: rule → e-value against stable, as the status tells it.
    """

    at: float
    weights: dict[str, int]
    state: str
    message: str
    evidence: dict[str, float] = field(default_factory=dict)


class Stage:
    """Everything the acts play with."""

    def __init__(self) -> None:
        self.stand = Stand(Lab(scrape_interval=f"{SCRAPE_SECONDS:g}s"), stale_after="20s")
        self.began = time.time()
        self.samples: list[Sample] = []
        self.decisions: dict[tuple[str, str, str], JSON] = {}
        self._versions: dict[str, str] = {}
        self._load: Load | None = None
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="timeline", daemon=True)

    def __enter__(self) -> Stage:
        self.stand.__enter__()
        try:
            self.stand.operator()
        except BaseException:
            self.__exit__()
            raise
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._watcher.is_alive():
            self._watcher.join(5)
        self.stand.__exit__()

    @property
    def elapsed(self) -> float:
        """Seconds since the demo began."""
        return time.time() - self.began

    def say(self, text: str) -> None:
        """A line of the timeline."""
        print(f"{self.elapsed:6.1f}s  {text}", flush=True)

    def ask_for(self, version: str, **environment: str) -> None:
        """`kubectl apply` of examples/fraud.yaml at another version, with the demo's short times."""
        model = example("fraud", version)
        model["spec"]["serving"]["template"]["spec"]["containers"][0]["env"] = [
            {"name": name, "value": value} for name, value in environment.items()
        ]
        self.stand.apply(model)
        faults = f" ({', '.join(f'{k}={v}' for k, v in environment.items())})" if environment else ""
        self.say(f"kubectl apply: version {version}{faults}")

    def start_load(self) -> None:
        """About 100 requests a second from now on, until the end."""
        self._load = self.stand.lab.load(HOST, rate=RATE, duration_seconds=420).start()

    def requests(self, since: float = 0.0) -> Snapshot:
        """What the clients saw since a moment (wall-clock seconds)."""
        return self._load.snapshot().between(since) if self._load else Snapshot(())

    def state(self) -> str:
        """The column STATE."""
        return self.stand.state(NAME)

    def wait_state(self, state: str, seconds: float) -> None:
        """Waits for a STATE. Raises AssertionError with what is there instead."""
        self.stand.wait(f"state {state}", lambda: self.state() == state, seconds, every=SAMPLE_SECONDS)

    def weights(self) -> dict[str, int]:
        """Version → percent, as the HTTPRoute has it: the route's word, not the operator's."""
        route = self.stand.lab.api.find(ROUTE)
        backends = route["spec"]["rules"][0]["backendRefs"] if route else []
        return {self._version(backend["name"]): backend["weight"] for backend in backends}

    def zero_since(self, version: str, since: float) -> float | None:
        """When the route was first seen to send a version nothing, after `since`."""
        return next((s.at for s in self.samples if s.at >= since and not s.weights.get(version)), None)

    def decided(self, since: float) -> list[JSON]:
        """Decisions taken since a moment, oldest first, as the status told them."""
        taken = [d for d in self.decisions.values() if _moment(d["time"]) >= since - 1]
        return sorted(taken, key=lambda d: str(d["time"]))

    def show(self) -> None:
        """What an operator sees."""
        for line in self.stand.lab.kubectl("get", "modeldeployments").stdout.splitlines():
            print(f"         | {line}", flush=True)

    def _version(self, revision: str) -> str:
        if revision not in self._versions:
            found = self.stand.get(revision, plural="modelrevisions")
            self._versions[revision] = found["spec"]["model"]["version"]
        return self._versions[revision]

    def _watch(self) -> None:
        told: tuple[object, ...] = ()
        while not self._stop.wait(SAMPLE_SECONDS):
            try:
                sample = self._sample()
            except Exception:  # between two acts things may be missing; the acts have checks of their own
                continue
            self.samples.append(sample)
            now = (sample.state, tuple(sample.weights.items()))
            if now != told and sample.state:
                told = now
                shares = ", ".join(f"{v} {w}%" for v, w in sample.weights.items()) or "no route"
                self.say(f"{sample.state:<24} {shares:<24} {sample.message[:150]}")

    def _sample(self) -> Sample:
        status = self.stand.status(NAME)
        conditions: dict[str, JSON] = {c["type"]: c for c in status.get("conditions", ())}
        progressing = conditions.get("Progressing", {})
        for decision in status.get("decisions", ()):
            self.decisions[decision["time"], decision["revision"], decision["effect"]] = decision
        rules = (status.get("rollout") or {}).get("rules", ())
        evidence = {rule["name"]: value for rule in rules if (value := e_value(rule["message"])) is not None}
        state, message = progressing.get("reason", ""), progressing.get("message", "")
        return Sample(time.time(), self.weights(), state, message, evidence)


def example(name: str, version: str) -> JSON:
    """An example's manifest at a version, looked at every second and with short deadlines."""
    text = (ROOT / "examples" / f"{name}.yaml").read_text(encoding="utf-8")
    model: JSON = copy.deepcopy(yaml.safe_load(text))
    model["spec"]["model"]["version"] = version
    rollout = model["spec"].setdefault("rollout", {})
    rollout.update({"analysis": {"interval": "1s"}, "progressDeadline": "10s", "watch": "5s"})
    for objective in model["spec"]["objectives"]:
        objective["window"] = "30s"
    return model


def bad(snapshot: Snapshot, version: str) -> list[float]:
    """When requests were sent that a version failed, or answered slower than its bound."""
    return [
        record.sent
        for record in snapshot.records
        if record.version == version and (record.bad or record.seconds * 1000 > BOUND_MS)
    ]


def answered(snapshot: Snapshot) -> Counter[str]:
    """Version → requests it answered."""
    return snapshot.versions()


def e_value(message: str) -> float | None:
    """The e-value against stable that a rule's or a decision's sentence tells."""
    _, found, after = message.partition("against stable ")
    if not found:
        return None
    word = after.split(" of ", 1)[0]
    try:
        return float(word)
    except ValueError:
        return 1e6  # "over a million"


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
