"""A model that lived: an operator's loop in small, over a simulated Prometheus, with a router and pods that take time.

It looks at the multiples of its interval, decides upon marks in between as the fleet does, and keeps its decision log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from builders import model_deployment
from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.api.quantities import seconds
from modeldeployment.api.status import DecisionRecord, ModelDeploymentStatus, RevisionStatus
from modeldeployment.decision.decide import decide, wanted_weights
from modeldeployment.decision.due import due
from modeldeployment.decision.evidence import (
    DataState,
    Evidence,
    History,
    Interval,
    Revision,
    Route,
    RouteState,
    Workload,
)
from modeldeployment.decision.memory import Memory
from modeldeployment.decision.view import View
from modeldeployment.metrics import Connection, EvidenceStore
from modeldeployment.metrics.wanted import watched
from modeldeployment.metrics.watched import settle_of
from modeldeployment.replaying.finding import Series, numbers
from modeldeployment.replaying.history import HistoryClient
from modeldeployment.replaying.past import Model
from unit.metrics.simulated import URL, Endpoint, SimulatedPrometheus, counts

T0 = 1_795_600_000.0
KEY = ("ml", "fraud")
NAMES = {version: f"fraud-{version * 10}" for version in ("1", "2", "3")}
SPEC = {
    "spec.objectives": [{"name": "errors", "errorRate": {"max": "1%"}}],
    "spec.rollout": {"canary": {"traffic": "20%"}, "watch": "1m"},
}
TICK = 0.05
SCRAPE_SECONDS = 5.0


@dataclass
class Version:
    """How one version does. `errors`: share of its requests that fail; `from_`: since when (seconds)."""

    errors: float = 0.0
    from_: float = 0.0
    total: float = 0.0
    failed: float = 0.0
    made: float = -1e9
    endpoint: Endpoint | None = None


@dataclass
class Lived:
    """`log`: the decisions, oldest first. `router`: seconds until it applies; `pods`: until a new version is Ready."""

    overrides: Mapping[str, Any] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)
    errors_from: float = 0.0
    router: float = 0.31
    pods: float = 7.3
    rps: float = 100.0
    server: SimulatedPrometheus = field(default_factory=SimulatedPrometheus)
    log: list[DecisionRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        manifest = model_deployment({**SPEC, **self.overrides})
        self.spec = ModelDeploymentSpec.model_validate(manifest["spec"])
        self.manifest = manifest
        self.versions = {v: Version(self.errors.get(v, 0.0), self.errors_from) for v in NAMES}
        self.now, self.target = 0.0, "1"
        self.status = ModelDeploymentStatus(
            stable=RevisionStatus(revision=NAMES["1"], version="1", weight=100, wanted_weight=100)
        )
        self.memory, self.store = Memory(), EvidenceStore()
        self.applied, self.written, self.written_at = {NAMES["1"]: 100}, {NAMES["1"]: 100}, -1e9
        self.evidence = Evidence(DataState.NO_DATA, "not looked at yet", self.at(-99))
        self.unused: tuple[Interval, ...] = ()
        self.history: History | None = None
        self.client = self.server.client()
        self._again = self._looked = -1.0
        self._make("1", -5000.0)

    @staticmethod
    def at(moment: float) -> datetime:
        """A moment of this life."""
        return datetime.fromtimestamp(T0 + round(moment, 3), UTC)

    @property
    def interval(self) -> float:
        """Seconds between looks."""
        return seconds(self.spec.rollout.analysis.interval)

    def archive(self, answer: Callable[[httpx.Request], httpx.Response] | None = None) -> HistoryClient:
        """A client of what was."""
        transport = httpx.MockTransport(answer or self.server._answer)
        return HistoryClient(Connection(URL), self.interval, self.at(self.now), transport=transport)

    def fetch(self, query: str, start: float, end: float, step: float) -> Series:
        """Ranges, as prometheus-api-client reads them."""
        form = {"query": query, "start": str(start), "end": str(end), "step": str(step)}
        answering = self.server._answer(httpx.Request("POST", f"{URL}/api/v1/query_range", data=form))
        try:
            answering.send(None)  # it waits for nothing that was not asked to be held
        except StopIteration as ended:
            answer: httpx.Response = ended.value
        return numbers([(series["metric"], series["values"]) for series in answer.json()["data"]["result"]])

    @property
    def model(self) -> Model:
        """As its past is read."""
        return Model(KEY, self.spec, self.status, tuple(self.log))

    async def run(self, length: float, target: str = "") -> Lived:
        """So many seconds pass; a person may ask for another version before."""
        marked = bool(target)
        self.target = target or self.target
        for _ in range(round(length / TICK)):
            self.now = round(self.now + TICK, 3)
            self._traffic()
            late = settle_of(self.interval) + TICK
            looks = abs((self.now - late + TICK / 4) % self.interval) < TICK / 2
            marked = self._router() or self._ready() or marked
            marked = marked or 0 < self._again <= self.now
            if looks:
                await self._look(round((self.now - late) / self.interval) * self.interval)
            if looks or marked:
                self._decide()
            marked = False
        return self

    def _make(self, version: str, moment: float) -> None:
        does = self.versions[version]
        if does.endpoint is None:
            does.made = moment
            does.endpoint = self.server.pod(f"{NAMES[version]}-7d9c5b8f6d-aaaaa")

    def _traffic(self) -> None:
        for number, (version, name) in enumerate(NAMES.items()):
            does, sent = self.versions[version], self.rps * TICK * self.applied.get(name, 0) / 100
            does.total += sent
            does.failed += sent * (does.errors if self.now >= does.from_ else 0.0)
            offset = 1.3 + 1.7 * number
            up = does.endpoint is not None and self.now >= does.made + min(3.0, self.pods)
            if up and does.endpoint and abs((self.now - offset) % SCRAPE_SECONDS) < TICK / 2:
                does.endpoint.scrapes.append((T0 + self.now, counts(int(does.total), int(does.failed))))

    def _router(self) -> bool:
        if self.applied != self.written and self.now >= self.written_at + self.router:
            self.applied = dict(self.written)
            return True
        return False

    def _ready(self) -> bool:
        return any(abs(self.now - does.made - self.pods) < TICK / 2 for does in self.versions.values())

    async def _look(self, instant: float) -> None:
        spec = self.spec
        model = watched(
            KEY,
            spec,
            self.status,
            (),
            metrics=spec.serving.metrics,
            remembered=bool(self.memory.states),
            interval=self.interval,
            pods={e.labels["pod"]: self.at(int(v.made)) for v in self.versions.values() if (e := v.endpoint)},
            started={},
            ports={},
        )
        async for batch in self.store.look([model], self.at(instant), self.client):
            found = batch[KEY]
        self.unused = (*self.unused, *found.intervals)
        self.history = found.history or self.history
        self.evidence = replace(found, intervals=(), history=None)

    def _decide(self) -> None:
        programmed = self.applied == self.written
        view = View(
            spec=self.spec,
            generation=1,
            target=Revision(NAMES[self.target], self.target),
            status=self.status,
            workloads={
                NAMES[v]: Workload(3, 3 if self.now >= does.made + self.pods else 0)
                for v, does in self.versions.items()
                if does.endpoint
            },
            route=Route(RouteState.PROGRAMMED if programmed else RouteState.PENDING, self.applied, "R", "as it is"),
            evidence=replace(self.evidence, intervals=self.unused, history=self.history),
            now=self.at(self.now + 0.0123),
        )
        decision = decide(view, self.memory)
        self.status, self.memory, self.unused = decision.status, decision.memory, ()
        if self.memory.states or not self.status.canary:
            self.history = None
        self.log.extend(decision.records)
        moment = due(self.spec, self.status, view.now)
        self._again = (moment - self.at(0) + timedelta(seconds=0.05)).total_seconds() if moment else -1.0
        wanted = wanted_weights(self.status)
        if {r: w for r, w in wanted.items() if w} != {r: w for r, w in self.written.items() if w}:
            self.written, self.written_at = wanted, self.now
        if self.status.canary:
            self._make(self.status.canary.version, self.now)
