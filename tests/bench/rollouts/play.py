"""The rollouts themselves: models side by side in the lab, their clients, and the evidence read again afterwards."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import fmean
from typing import Any, Final

import httpx

from bench.rollouts.judging import Counts, Recorded
from bench.rollouts.report import BACK, PROMOTED, UNDECIDED, Rollout
from lab.load import Load, Snapshot
from modeldeployment.api import names
from modeldeployment.api.serving import Metrics
from modeldeployment.metrics import Connection, EvidenceStore, PrometheusClient, Watched
from stand import Stand

JSON = dict[str, Any]
OLD, NEW = "1.0.0", "2.0.0"
NAMESPACE = "default"
MODELS = "/apis/modeldeployment.io/v1alpha1/namespaces/default/modeldeployments"
PODS = "/api/v1/namespaces/default/pods"
DECIDING: Final = BACK | {"StepPassed"}
"""Decisions that the evidence so far took; promotion follows the last step's, once the router has moved."""
SERVING_SECONDS = 180.0
GRACE = 1.5
"""A rollout that takes so many times its least duration is left undecided."""
SAY_EVERY = 30.0


@dataclass(frozen=True)
class Pace:
    """How fast a rollout goes: at 1 as in production, at 10 ten times as many requests in a tenth of the time.

    All times of a rollout shrink alike, so that a look, a window, a step and the whole have the same request counts.
    """

    factor: int = 1
    rps: float = 20.0
    error_share: float = 0.005
    bound: str = "1%"
    interval: float = 10.0
    window: float = 60.0
    steps: tuple[tuple[int, float], ...] = ((10, 600.0), (25, 600.0), (50, 600.0))
    deadline: float = 7200.0

    def seconds(self, real: float) -> float:
        """A time of production in this run."""
        return real / self.factor

    @property
    def rate(self) -> float:
        """Requests a second of each model."""
        return self.rps * self.factor

    @property
    def lasts(self) -> float:
        """Least duration of a rollout (s)."""
        return self.seconds(sum(seconds for _, seconds in self.steps))

    @property
    def share_bound(self) -> float:
        """The bound as a share."""
        return float(self.bound.removesuffix("%")) / 100

    def rollout(self) -> JSON:
        """spec.rollout; at pace 1 all but the steps is the operator's default."""
        steps = [{"traffic": f"{weight}%", "duration": _duration(self.seconds(s))} for weight, s in self.steps]
        return {
            "canary": {"steps": steps},
            "analysis": {"interval": _duration(self.seconds(self.interval))},
            "deadline": _duration(self.seconds(self.deadline)),
        }


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms" if seconds % 1 else f"{seconds:.0f}s"


@dataclass
class Trial:
    """One model, and what was seen of its rollout."""

    name: str
    seed: int
    load: Load | None = None
    status: JSON = field(default_factory=dict)
    created: dict[str, datetime] = field(default_factory=dict)
    started: dict[str, datetime] = field(default_factory=dict)
    stable: str = ""
    revision: str = ""
    began: datetime | None = None
    result: str = UNDECIDED
    message: str = ""
    decided: datetime | None = None
    judged: JSON | None = None

    def chance(self, version: str) -> str:
        """Seed of the errors of a version's pod; no two pods have the same."""
        return f"{self.seed}/{self.name}/{version}"

    def manifest(self, version: str, pace: Pace) -> JSON:
        """The model at a version: one pod, which fails that share of its requests by chance."""
        env = {"FAULT_ERROR_RATE": str(pace.error_share), "FAULT_SEED": self.chance(version)}
        container = {
            "name": "model",
            "image": "model-server:1",
            "ports": [{"containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1},
            "env": [{"name": name, "value": value} for name, value in env.items()],
        }
        gateway = {"parentRefs": [{"name": "public", "namespace": "gateway-system"}], "hostnames": [self.host]}
        return {
            "apiVersion": names.API_VERSION,
            "kind": "ModelDeployment",
            "metadata": {"name": self.name, "namespace": NAMESPACE},
            "spec": {
                "model": {"version": version},
                "serving": {"template": {"spec": {"containers": [container]}}},
                "traffic": {"gateway": gateway},
                "objectives": [{"name": "errors", "errorRate": {"max": pace.bound}}],
                "rollout": pace.rollout(),
            },
        }

    @property
    def host(self) -> str:
        """Its host name."""
        return f"{self.name}.example.com"

    @property
    def state(self) -> str:
        """The column STATE."""
        conditions = self.status.get("conditions", ())
        return next((str(c["reason"]) for c in conditions if c["type"] == "Progressing"), "")

    @property
    def weight(self) -> int:
        """Percent that the new version should get."""
        for role in ("canary", "stable"):
            of = self.status.get(role) or {}
            if of.get("version") == NEW:
                return int(of.get("wantedWeight", 0))
        return 0

    def see(self, status: JSON) -> bool:
        """Takes in a status; whether it brings the end."""
        self.status = status
        rollout = status.get("rollout") or {}
        if not self.began and rollout.get("version") == NEW:
            self.began = datetime.fromisoformat(rollout["startTime"])
            self.stable, self.revision = status["stable"]["revision"], rollout["revision"]
        decisions = [d for d in status.get("decisions", ()) if d["version"] == NEW]
        end = next((d for d in decisions if d["effect"] in BACK | PROMOTED), None)
        if self.result != UNDECIDED or end is None:
            return False
        self.result, self.message = end["effect"], end["message"]
        last = next(d for d in decisions if d["effect"] in DECIDING)
        self.decided, self.judged = datetime.fromisoformat(last["time"]), last.get("numbers")
        return True


class Play:
    """All rollouts of one run, side by side."""

    def __init__(self, stand: Stand, pace: Pace, count: int, seed: int) -> None:
        self._stand, self._pace = stand, pace
        self._trials = [Trial(f"good-{number:02d}", seed) for number in range(count)]
        self._began = self._said = time.monotonic()
        self.loads: list[float] = []
        self.latency: list[float] = []

    def say(self, what: str) -> None:
        """Progress, with seconds since the start."""
        self._said = time.monotonic()
        print(f"[{time.monotonic() - self._began:5.0f} s] {what}", file=sys.stderr, flush=True)

    def prepare(self, past: float) -> None:
        """First versions serve, their clients send, for `past` seconds: stable's own past."""
        self._stand.apply(*(trial.manifest(OLD, self._pace) for trial in self._trials))
        self._stand.wait("all first versions serve", self._all_serve, SERVING_SECONDS, every=0.5)
        bound = past + GRACE * self._pace.lasts + SERVING_SECONDS
        for trial in self._trials:
            load = self._stand.lab.load(trial.host, self._pace.rate, duration_seconds=bound)
            trial.load = load.start()
        self.say(f"{len(self._trials)} models serve {self._pace.rate:g} requests a second each")
        time.sleep(past)

    def run(self) -> None:
        """Asks for the new versions, and waits until each is decided, or the bound is over."""
        self._stand.apply(*(trial.manifest(NEW, self._pace) for trial in self._trials))
        self.say(f"new versions asked for: {self._pace.lasts:g} s at least")
        until = time.monotonic() + GRACE * self._pace.lasts
        while time.monotonic() < until and any(trial.result == UNDECIDED for trial in self._trials):
            time.sleep(self._pace.seconds(self._pace.interval) / 4)
            with contextlib.suppress(httpx.HTTPError):  # a look less; the next comes soon
                self._look()
            for trial in self._trials:
                if trial.result == UNDECIDED and trial.see(trial.status):
                    self.say(f"{trial.name}: {trial.result}: {trial.message}")
            if time.monotonic() - self._said > SAY_EVERY:
                self.say(self._where())

    def _all_serve(self) -> bool:
        self._look()
        return all(trial.state == "RolloutComplete" for trial in self._trials)

    def _look(self) -> None:
        """The statuses, and all pods that ever were: the evidence of one that is gone is read too."""
        self.loads.append(os.getloadavg()[0])
        found = {m["metadata"]["name"]: m.get("status") or {} for m in self._stand.lab.api.list(MODELS)}
        pods: dict[str, list[JSON]] = {}
        for pod in self._stand.lab.api.list(PODS):
            pods.setdefault(pod["metadata"].get("labels", {}).get(names.LABEL_NAME, ""), []).append(pod)
        for trial in self._trials:
            trial.status = found.get(trial.name, {})
            for pod in pods.get(trial.name, ()):
                name = pod["metadata"]["name"]
                trial.created[name] = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
                for container in pod.get("status", {}).get("containerStatuses") or ():
                    if running := container.get("state", {}).get("running"):
                        trial.started[name] = datetime.fromisoformat(running["startedAt"])

    def _where(self) -> str:
        states: dict[str, int] = {}
        for trial in self._trials:
            what = f"{trial.state or 'no status'} at {trial.weight}%"
            states[what] = states.get(what, 0) + 1
        return "; ".join(f"{count} {what}" for what, count in sorted(states.items())) + f"; load {self.loads[-1]:.1f}"

    async def read_again(self) -> list[Rollout]:
        """Stops the clients, and takes each rollout's evidence from Prometheus as a new leader would.

        Raises:
            AssertionError: a rollout never began, or has no evidence.
        """
        seen = {trial.name: trial.load.stop() for trial in self._trials if trial.load}
        self.latency = sorted(record.seconds for snapshot in seen.values() for record in snapshot.records)
        async with PrometheusClient(Connection(self._stand.lab.prometheus_url, timeout=60)) as prometheus:
            return [await self._rollout(trial, seen[trial.name], prometheus) for trial in self._trials]

    async def _rollout(self, trial: Trial, clients: Snapshot, prometheus: PrometheusClient) -> Rollout:
        assert trial.began, f"{trial.name}: the rollout to {NEW} began"
        interval = self._pace.seconds(self._pace.interval)
        end = _instant(trial.decided or datetime.now(UTC), interval)
        watched = self._watched(trial, interval)
        (found,) = [told[watched.key] async for told in EvidenceStore().look([watched], end, prometheus)]
        recorded = Recorded.until(found.intervals, end)
        assert recorded.intervals, f"{trial.name}: its evidence is in Prometheus ({found.state}: {found.message})"
        start = recorded.intervals[0].start
        return Rollout(
            name=trial.name,
            version=NEW,
            seed=trial.chance(NEW),
            result=trial.result,
            message=trial.message,
            seconds=(end - start).total_seconds(),
            canary=recorded.canary,
            stable=recorded.stable,
            looks=len(recorded.intervals),
            windows=tuple(recorded.windows(self._pace.seconds(self._pace.window))),
            clients=by_version(clients.between(start.timestamp(), end.timestamp())),
            judged=trial.judged,
        )

    def _watched(self, trial: Trial, interval: float) -> Watched:
        """As controller/observing.py has it, for what of it speaks of a trial's counts."""
        return Watched(
            key=(NAMESPACE, trial.name),
            metrics=Metrics(),
            revisions=(trial.stable, trial.revision),
            serving=trial.stable,
            trial=trial.revision,
            control=trial.stable,
            trial_start=trial.began,
            interval=interval,
            needs_errors=True,
            pods=trial.created,
            started=trial.started,
            ports={pod: frozenset() for pod in trial.created},
        )

    def machine_load(self) -> Mapping[str, float]:
        """How busy the machine was meanwhile, others' work included, and how long the clients waited."""
        return {
            "load_average_mean": round(fmean(self.loads), 2),
            "load_average_max": round(max(self.loads), 2),
            **{f"client_p{q * 100:g}_ms": round(1000 * _rank(self.latency, q), 1) for q in (0.5, 0.99, 0.999)},
        }


def by_version(clients: Snapshot) -> dict[str, Counts]:
    """What the clients saw; "" is who got no answer of a version."""
    counts: dict[str, Counts] = {}
    for record in clients.records:
        version = record.version if record.status else ""
        counts[version] = counts.get(version, Counts()) + Counts(1, int(record.bad))
    return counts


def _rank(ordered: Sequence[float], q: float) -> float:
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)] if ordered else math.nan


def _instant(moment: datetime, interval: float) -> datetime:
    """The last instant of looking that is not after a moment."""
    return datetime.fromtimestamp(math.floor(moment.timestamp() / interval) * interval, UTC)
