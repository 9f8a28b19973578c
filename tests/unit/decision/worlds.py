"""A world for the decision core: a virtual clock, and a fake cluster, router and Prometheus (all of them fakes).

`World` does at each tick what the fleet does: it looks, calls `decide`, stores the status where `worth_writing` says
so, and gives the weights and pods that follow from it to the cluster. What must hold at every instant of every scenario
is checked here (`World.check`), so no test has to ask for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any, Final

from builders import model_deployment
from modeldeployment.api.conditions import SUMMARY, Condition, ConditionType, find
from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.api.quantities import seconds
from modeldeployment.api.status import (
    DECISIONS_MAX,
    QUARANTINED_MAX,
    STATUS_BYTES_MAX,
    DecisionRecord,
    ModelDeploymentStatus,
)
from modeldeployment.controller.material import worth_writing
from modeldeployment.decision import budget
from modeldeployment.decision.counting import count, edges_of
from modeldeployment.decision.decide import Decision, decide, wanted_weights
from modeldeployment.decision.evidence import (
    DataState,
    Delta,
    Evidence,
    Interval,
    Revision,
    Route,
    RouteState,
    Strain,
    Tally,
    Workload,
)
from modeldeployment.decision.memory import Memory
from modeldeployment.decision.rules import Sli, objective_rules
from modeldeployment.decision.view import View, roles
from modeldeployment.metrics.ladder import Ladder
from modeldeployment.serving.children import revision_of
from modeldeployment.serving.desired import pods_wanted

START: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
NAME: Final = "fraud"
EDGES: Final = (100.0, 200.0, 400.0, 800.0, 1600.0)
"""Buckets (ms) of the models' histograms. A slow request takes between 800 and 1600 ms, any other under 100."""
STALE_SECONDS: Final = 60.0

BLIND: Final = (DataState.NO_DATA, DataState.STALE, DataState.QUERY_ERROR, DataState.NO_PROMETHEUS)
"""What Prometheus may be when it tells nothing."""


@dataclass
class Behaviour:
    """How one version does.

    Attributes:
        errors, slow: share of requests that fail, and that are slower than 800 ms.
        ready_after: seconds from a pod's creation until it is Ready; None: never.
        crash: (seconds Ready, seconds not) of a crash loop; None: it stays up.
        trouble: the pods' own reason and message while they are not Ready.
        dead: all of its pods are gone just now.
        pods: what its requests are counted by, evenly; all bad ones by the first, if there are several.
        nodes: where those pods are; by default each on its own.
        queue: requests that wait in each of these; None: its dialect does not tell.
    """

    errors: float = 0.0
    slow: float = 0.0
    ready_after: float | None = 10.0
    crash: tuple[float, float] | None = None
    trouble: tuple[str, str] = ("", "")
    dead: bool = False
    pods: tuple[str, ...] = ("pod",)
    nodes: tuple[str, ...] = ()
    queue: float | None = None


@dataclass
class Router:
    """A router that takes `delay` seconds for new weights. `refusal`: its reason and message for taking none."""

    delay: float = 2.0
    refusal: tuple[str, str] | None = None
    written: dict[str, int] = field(default_factory=dict)
    applied: dict[str, int] = field(default_factory=dict)
    written_at: datetime = START

    def write(self, weights: Mapping[str, int], now: datetime) -> None:
        if dict(weights) != self.written:
            self.written, self.written_at = dict(weights), now

    def settle(self, now: datetime) -> None:
        if not self.refusal and (now - self.written_at).total_seconds() >= self.delay:
            self.applied = dict(self.written)

    def route(self) -> Route:
        if not self.written:
            return Route()
        if self.refusal:
            reason, message = self.refusal
            return Route(RouteState.REFUSED, dict(self.applied), reason, message)
        if self.applied != self.written:
            return Route(RouteState.PENDING, dict(self.applied), "WaitingForRouter", "the Gateway has not answered yet")
        return Route(RouteState.PROGRAMMED, dict(self.applied), "Programmed", "the Gateway sends it")


@dataclass(frozen=True)
class Pod:
    """When it was made, and how long it takes to be Ready (None: as its version does now)."""

    made: datetime
    ready_after: float | None


@dataclass
class Total:
    """What one revision has answered in all; shares are spread evenly, so that nothing is left to chance."""

    requests: float = 0.0
    errors: float = 0.0
    slow: float = 0.0

    def whole(self) -> tuple[int, int, int]:
        return int(self.requests + 1e-6), int(self.errors + 1e-6), int(self.slow + 1e-6)


Counted = dict[str, dict[str, Delta]]
"""Revision → pod → what it counted."""


@dataclass(frozen=True)
class Moment:
    """What was so after one tick."""

    time: float
    state: str
    wanted: Mapping[str, int]
    seen: Mapping[str, int]


class World:
    """One model, its cluster and its operator.

    Args:
        overrides: of the minimal manifest (tests/builders.py), such as `{"spec.rollout.watch": "0s"}`.
        versions: version → how it does; others do well.
        tick: seconds between looks.

    Attributes:
        restarts_each_tick: the operator is killed before every look.
        fleeting_pods: each interval's pods have new names, so that the open blocks of pods, which a restart may lose
            (ADR 0001), play no part.
    """

    def __init__(
        self,
        overrides: Mapping[str, Any] | None = None,
        *,
        versions: Mapping[str, Behaviour] | None = None,
        tick: float = 10.0,
        rps: float = 100.0,
        version: str = "1",
    ) -> None:
        self.now, self.tick_seconds, self.rps = START, tick, rps
        self.behaviours = {version: replace(does) for version, does in (versions or {}).items()}
        self.router = Router()
        self.data: DataState | None = None
        self.values: dict[tuple[str, str], float] = {}
        self.sources: dict[str, str] = {}
        self.conflict = self.refusal = ""
        self.status = self.written = ModelDeploymentStatus()
        self.memory = Memory()
        self.records: list[DecisionRecord] = []
        self.past: list[Moment] = []
        self.lost: dict[str, float] = {}
        self.restarts_each_tick = False
        self.fleeting_pods = False
        self.names: dict[str, str] = {}
        self.overrides: dict[str, Any] = {"spec.model.version": version, **(overrides or {})}
        self._generation = 0
        self._written_at: datetime | None = None
        self._pods: dict[str, list[Pod]] = {}
        self._totals: dict[str, Total] = {}
        self._read: dict[str, tuple[int, int, int]] = {}
        self._log: list[tuple[datetime, datetime, Counted]] = []
        self._log_end = START
        self._ladders: dict[Sli, Ladder] = {}
        self._unused: tuple[Interval, ...] = ()
        self._scraped: set[str] = set()
        self._last_traffic: dict[str, datetime] = {}
        self._evidence = Evidence(DataState.NO_DATA, "not looked at yet", START - timedelta(days=1))
        self._adopt()

    # --- what a test does --------------------------------------------------------------------------------------

    def change(self, overrides: Mapping[str, Any]) -> None:
        """A person edits the spec."""
        self.overrides.update(overrides)
        self._adopt()

    def ask(self, version: str) -> None:
        """A person asks for another version."""
        self.change({"spec.model.version": version})

    def does(self, version: str) -> Behaviour:
        """How a version does, to be changed."""
        return self.behaviours.setdefault(version, Behaviour())

    def run(self, length: float) -> World:
        """Lets so many seconds pass."""
        for _ in range(max(1, round(length / self.tick_seconds))):
            self.tick()
        return self

    def until(self, what: str | Callable[[], bool], most: float = 3600.0) -> World:
        """Lets time pass until the state is so, or the predicate holds; fails after `most` seconds."""
        for _ in range(round(most / self.tick_seconds)):
            self.tick()
            if self.state == what if isinstance(what, str) else what():
                return self
        raise AssertionError(f"not within {most:g}s: {what}; now {self.state}: {self.message}; {self.effects}")

    def serving(self, version: str = "1") -> World:
        """Runs until the first version serves and the router was seen to send it everything."""
        return self.until(lambda: self.weight(version) == 100 and self.state == "RolloutComplete")

    def restart(self) -> None:
        """The operator is killed, and another one goes on from the stored status and Prometheus alone."""
        stored = json.loads(json.dumps(self.written.to_json()))
        self.status = self.written = ModelDeploymentStatus.model_validate(stored)
        self.memory = Memory()
        rollout = self.status.rollout
        since = (rollout.evidence_time or rollout.promotion_time or rollout.start_time) if rollout else self.now
        self._unused = tuple(self._interval(*row) for row in self._log if row[1] > since)

    # --- what a test asks --------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """The reason of the condition Progressing."""
        return self.condition(ConditionType.PROGRESSING).reason

    @property
    def message(self) -> str:
        """Its message."""
        return self.condition(ConditionType.PROGRESSING).message

    @property
    def effects(self) -> list[str]:
        """Effects of all decisions, oldest first."""
        return [record.effect for record in self.records]

    def condition(self, type_: ConditionType) -> Condition:
        """A condition that must be there."""
        found = find(self.status.conditions, type_)
        assert found is not None, f"there is no condition {type_}"
        return found

    def name(self, version: str) -> str:
        """The revision of a version (its newest)."""
        return self.names[version]

    def weight(self, version: str) -> int:
        """Percent that the router sends it now."""
        return self.router.applied.get(self.names.get(version, ""), 0)

    def wanted(self, version: str) -> int:
        """Percent that the operator wants it to have."""
        return wanted_weights(self.status).get(self.names.get(version, ""), 0)

    def replicas(self, version: str) -> int:
        """Pods that its Deployment has."""
        return len(self._pods.get(self.names.get(version, ""), ()))

    def answered(self, version: str) -> int:
        """Requests that it has answered in all."""
        return int(self._totals.get(self.name(version), Total()).requests)

    @property
    def elapsed(self) -> float:
        """Seconds since the world began."""
        return (self.now - START).total_seconds()

    def weights_of(self, version: str) -> list[int]:
        """The weights that were wanted for it, one after the other, without repeats."""
        name, out = self.names.get(version, ""), list[int]()
        for moment in self.past:
            weight = moment.wanted.get(name, 0)
            if not out or out[-1] != weight:
                out.append(weight)
        return out

    # --- one tick ----------------------------------------------------------------------------------------------

    def view(self) -> View:
        """What the operator sees now."""
        return View(
            spec=self.spec,
            generation=self._generation,
            target=self.target,
            status=self.status,
            workloads={revision: self._workload(revision) for revision in self._pods},
            route=self.router.route(),
            evidence=self._evidence_now(),
            now=self.now,
            conflict=self.conflict,
            refusal=self.refusal,
        )

    def tick(self) -> Decision:
        """Time passes; the operator looks, decides, stores and applies."""
        self.now += timedelta(seconds=self.tick_seconds)
        self._requests()
        self.router.settle(self.now)
        self._look()
        if self.restarts_each_tick:
            self.restart()
        view, before = self.view(), self.status
        decision = decide(view, self.memory)
        self.check(before, decision, view)
        self.status, self.memory, self._unused = decision.status, decision.memory, ()
        self.records.extend(decision.records)
        if worth_writing(decision.status, self.written, self._written_at, self.now):
            self.written, self._written_at = decision.status, self.now
            size = len(json.dumps(self.written.to_json(), separators=(",", ":"), ensure_ascii=False).encode())
            assert size <= STATUS_BYTES_MAX, f"the status has {size} bytes"
        self._apply()
        self.past.append(Moment(self.elapsed, self.state, wanted_weights(self.status), dict(self.router.applied)))
        return decision

    def _adopt(self) -> None:
        manifest = model_deployment(self.overrides)
        self.spec = ModelDeploymentSpec.model_validate(manifest["spec"])
        self._generation += 1
        name, _ = revision_of(NAME, self.spec)
        self.target = Revision(name, self.spec.model.version)
        self.names[self.target.version] = name

    def _behaviour(self, revision: str) -> Behaviour:
        version = next(version for version, name in self.names.items() if name == revision)
        return self.behaviours.get(version, Behaviour())

    def _ready(self, revision: str) -> int:
        does = self._behaviour(revision)
        return sum(self._is_ready(does, pod) for pod in self._pods.get(revision, ()))

    def _is_ready(self, does: Behaviour, pod: Pod) -> bool:
        after = does.ready_after if pod.ready_after is None else pod.ready_after
        if does.dead or after is None:
            return False
        up = (self.now - pod.made).total_seconds() - after
        if up < 0:
            return False
        return does.crash is None or up % sum(does.crash) < does.crash[0]

    def _workload(self, revision: str) -> Workload:
        ready, pods = self._ready(revision), len(self._pods[revision])
        does = self._behaviour(revision)
        on = does.nodes or tuple(f"node-{pod}" for pod in does.pods)
        several = len(does.pods) > 1
        nodes = {f"{revision}-{pod}": node for pod, node in zip(does.pods, on, strict=True)} if several else {}
        return Workload(pods, ready, *(does.trouble if ready < pods else ("", "")), nodes=nodes)

    def _requests(self) -> None:
        """Clients send what they send, and the router sends it on by the weights it has."""
        for revision, weight in self.router.applied.items():
            sent = self.rps * self.tick_seconds * weight / 100
            if not sent:
                continue
            assert self._pods.get(revision), f"{weight}% of the requests go to {revision}, which was scaled down"
            if not self._ready(revision):
                self.lost[revision] = self.lost.get(revision, 0.0) + sent
                continue
            does, total = self._behaviour(revision), self._totals.setdefault(revision, Total())
            total.requests += sent
            total.errors += sent * does.errors
            total.slow += sent * does.slow
            self._last_traffic[revision] = self.now

    def _look(self) -> None:
        """What Prometheus says at the multiples of the interval."""
        interval = seconds(self.spec.rollout.analysis.interval)
        if self.elapsed % interval or self.data in BLIND:
            if self.elapsed % interval == 0:
                self._evidence = Evidence(self.data or DataState.NO_DATA, f"the fake says {self.data}", self.now)
            return
        self._scraped.update(revision for revision in self._pods if self._ready(revision))
        counted: Counted = {}
        for revision, total in self._totals.items():
            whole, read = total.whole(), self._read.get(revision, (0, 0, 0))
            self._read[revision] = whole
            requests, errors, slow = (a - b for a, b in zip(whole, read, strict=True))
            names = (str(len(self._log)),) if self.fleeting_pods else self._behaviour(revision).pods
            shares = [requests * (i + 1) // len(names) - requests * i // len(names) for i in range(len(names))]
            counted[revision] = {
                f"{revision}-{name}": _delta(share, *((min(errors, share), min(slow, share)) if i == 0 else (0, 0)))
                for i, (name, share) in enumerate(zip(names, shares, strict=True))
            }
        self._spend(counted)
        row = (self._log_end, self.now, counted)
        self._log.append(row)
        self._log_end = self.now
        self._unused = (*self._unused, self._interval(*row))
        self._evidence = self._evidence_at(self.now)

    def _spend(self, counted: Counted) -> None:
        """Budgets: what all revisions did."""
        for sli in {rule.sli for rule in objective_rules(self.spec) if rule.sli}:
            for delta in (delta for pods in counted.values() for delta in pods.values()):
                counts = count(sli, delta, edges_of(sli, [delta])[0])
                if counts is not None:
                    ladder = self._ladders.setdefault(sli, Ladder(sli.period, START.timestamp()))
                    ladder.add(self.now.timestamp(), int(counts.n), int(counts.low))

    def _tallies(self) -> dict[Sli, dict[float, Tally]]:
        now = self.now.timestamp()
        return {
            sli: {window: ladder.total(now, window) for window in (*budget.WINDOWS, sli.period)}
            for sli, ladder in self._ladders.items()
        }

    def _interval(self, start: datetime, end: datetime, counted: Counted) -> Interval:
        status = self.status
        trial = counted.get(status.rollout.revision, {}) if status.rollout and status.stable else {}
        control = counted.get(status.stable.revision, {}) if status.canary and status.stable else {}
        if status.rollout and status.rollout.compare_time and status.previous:
            control = counted.get(status.previous.revision, {})
        queue = self._behaviour(status.rollout.revision).queue if status.rollout else None
        strain = {} if queue is None else dict.fromkeys(trial, Strain(queue))
        return Interval(start, end, start, trial, control, strain)

    def _evidence_at(self, now: datetime) -> Evidence:
        status = self.status
        serving = status.stable.revision if status.stable else ""
        subject = status.rollout.revision if status.rollout and status.stable else serving
        last = self._last_traffic.get(subject)
        if subject not in self._scraped:
            state, message = DataState.NO_DATA, "Prometheus does not scrape it"
        elif last is None or (now - last).total_seconds() > STALE_SECONDS:
            state, message = DataState.NO_TRAFFIC, "no request"
        else:
            state, message = DataState.FLOWING, "requests are counted"
        last_rows = takewhile(lambda row: (now - row[1]).total_seconds() < 300, reversed(self._log))
        recent = [row[2].get(serving, {}) for row in last_rows]
        window = sum((delta for pods in recent for delta in pods.values()), Delta())
        return Evidence(
            self.data or state,
            message,
            now,
            subject,
            windows={300.0: window},
            tallies=self._tallies(),
            data_age=1.0 if subject in self._scraped else None,
            values=dict(self.values),
            sources=dict(self.sources),
            last_traffic=dict(self._last_traffic),
        )

    def _evidence_now(self) -> Evidence:
        return replace(self._evidence, intervals=self._unused, values=dict(self.values))

    def _apply(self) -> None:
        """What the effects do. A router that refuses still takes what is written; it does not act on it."""
        weights = wanted_weights(self.status)
        if weights and not self.conflict:
            self.router.write(weights, self.now)
        if self.refusal:
            return
        wanted = pods_wanted(self.spec, self.status)
        for revision in {*self._pods, *wanted}:
            has = self._pods.setdefault(revision, [])
            want = wanted.get(revision, 0)
            want = len(has) or self.spec.serving.replicas if want is None else want
            if want < len(has):
                sends = self.router.applied.get(revision, 0)
                assert want or not sends, f"{revision} is scaled down while the router sends it {sends}%"
            new = Pod(self.now, self._behaviour(revision).ready_after)
            self._pods[revision] = [*has[:want], *([new] * (want - len(has)))]

    # --- what must hold always ---------------------------------------------------------------------------------

    def check(self, before: ModelDeploymentStatus, decision: Decision, view: View) -> None:
        """What must hold after every look, whatever happens."""
        after = decision.status
        if len(self.past) % 3 == 0:
            assert decide(view, self.memory) == decision, "the same look twice came to two decisions"
        weights = wanted_weights(after)
        if after.stable:
            assert sum(weights.values()) == 100, f"weights do not add up to 100: {weights}"
        else:
            assert not weights, f"nothing serves, yet there are weights: {weights}"
        part = [r.revision for r in roles(after)]
        assert len(set(part)) == len(part), f"one revision in two roles: {part}"
        assert not set(part) & {d.revision for d in after.draining}, f"a revision serves and drains: {part}"
        self._check_rises(before, after, view)
        self._check_conditions(before, after, view)
        assert len(after.decisions) <= DECISIONS_MAX
        assert len(after.quarantined) <= QUARANTINED_MAX
        assert after.observed_generation == view.generation

    def _check_rises(self, before: ModelDeploymentStatus, after: ModelDeploymentStatus, view: View) -> None:
        """A weight rises only onto Ready pods, by a router that takes it, as far as the plan says."""
        old, new = wanted_weights(before), wanted_weights(after)
        kept_out = {
            q.revision for q in after.quarantined if q.attempt >= view.spec.rollout.attempt and q.time == view.now
        }
        for revision, weight in new.items():
            if weight <= old.get(revision, 0) or not before.stable:
                continue
            back = after.stable is not None and before.stable.revision == after.stable.revision == revision
            if back:
                continue  # stable gets back what the canary had
            assert view.workload(revision).ready, f"{revision} gets {weight}% without a Ready pod"
            assert revision not in kept_out, f"{revision} was taken back and gets {weight}%"
            if before.previous and revision == before.previous.revision:
                continue  # going back is at once
            assert view.route.state is RouteState.PROGRAMMED, f"{revision} gets {weight}% of a router that is not there"
            assert weight in {*(w for w, _ in view.steps), 100}, f"{weight}% is no step of the plan"

    def _check_conditions(self, before: ModelDeploymentStatus, after: ModelDeploymentStatus, view: View) -> None:
        types = [c.type for c in after.conditions]
        assert set(SUMMARY) <= set(types), f"not all summary conditions are there: {types}"
        assert len(set(types)) == len(types), f"a condition is there twice: {types}"
        for condition in after.conditions:
            assert condition.observed_generation == view.generation, f"{condition.type} is of an older generation"
            old = find(before.conditions, condition.type)
            if old is None or old.status != condition.status:
                assert condition.last_transition_time == view.now, f"{condition.type} flipped and kept its time"
            else:
                assert condition.last_transition_time == old.last_transition_time, f"{condition.type} did not flip"
            negative = condition.type in (ConditionType.STALLED, ConditionType.ROLLED_BACK)
            assert not negative or condition.status == "True", f"{condition.type} is there and not true"


def _delta(requests: int, errors: int, slow: int) -> Delta:
    faster = {edge: requests - slow if edge <= 800 else requests for edge in EDGES}
    return Delta(requests, errors, faster, requests)
