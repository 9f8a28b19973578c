"""The fleet: at its own pace, it looks at all models that are due, decides, writes, applies.

Watches only mark a model; nothing is done in reaction to an event but being looked at soon. Models with the same
interval are one cohort: one set of queries for all of them. Each cohort is a task of its own, so that a slow
Prometheus delays nobody's weights and nobody else's look.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal
from zlib import crc32

from modeldeployment.api.objectives import Objective
from modeldeployment.api.status import DecisionRecord, ModelDeploymentStatus
from modeldeployment.controller.effects import Effects
from modeldeployment.controller.entry import Entry
from modeldeployment.controller.kube import ApiError, Kube, NotLeaderError
from modeldeployment.controller.material import STEADY, worth_writing
from modeldeployment.controller.observing import conflicts, interval_of, view_of, watched_of
from modeldeployment.controller.policy import Policy
from modeldeployment.controller.recorder import Recorder
from modeldeployment.controller.resources import MODEL_DEPLOYMENTS
from modeldeployment.controller.store import Key, Store
from modeldeployment.controller.telemetry import Telemetry
from modeldeployment.decision.decide import decide
from modeldeployment.decision.evidence import DataState
from modeldeployment.metrics import EvidenceStore, evaluation_instant

_LOG = logging.getLogger(__name__)

SETTLE_SHARE, SETTLE_MAX = 0.1, 1.0
"""A look is this share of its interval (at most so many seconds) late, so that the scrapes before it are stored."""
AT_ONCE = 16
"""Models whose writes are in flight at the same time. Those that serve never wait for those that are being made."""
IN_A_ROW = 20
"""Models decided upon before others have their turn: probes, watches, the Lease."""
RETRY_SECONDS = 2.0
"""After a refused or failed write a model is looked at again this soon."""
CLOCK_SECONDS = 1.0
"""Models with a clock running (deadlines, waiting for pods) are looked at this often at least."""
_MEASURED = frozenset({DataState.FLOWING, DataState.NO_TRAFFIC})
WARNINGS = frozenset(
    {
        "RolledBack",
        "Aborted",
        "ProgressDeadlineExceeded",
        "Inconclusive",
        "StableUnavailable",
        "CanaryUnavailable",
        "ChildRestored",
    }
)


def _now() -> datetime:
    return datetime.now(UTC)


class Fleet:
    """All ModelDeployments of the cluster.

    Args:
        store: what the watches said. Its callbacks must be `mark` and `mark_all`.
        now: the clock; decisions get it as a parameter.
    """

    def __init__(
        self,
        store: Store,
        kube: Kube,
        policy: Policy,
        recorder: Recorder,
        telemetry: Telemetry,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._store, self._kube, self._policy = store, kube, policy
        self._recorder, self._telemetry, self._now = recorder, telemetry, now
        self._effects = Effects(store, kube)
        self._evidence = EvidenceStore()
        self._entries: dict[Key, Entry] = {}
        self._dirty: set[Key] = set()
        self._wake = asyncio.Event()
        self._looked: dict[float, float] = {}
        self._looking: dict[float, asyncio.Task[None]] = {}
        self._deciding: set[asyncio.Task[None]] = set()
        self._conflicts: dict[Key, str] = {}
        self._generations: dict[Key, int] = {}
        self._claims_changed = False
        self._steady = 0.0
        self._intervals: dict[Key, float] = {}
        self._cohorts: dict[float, set[Key]] = defaultdict(set)
        self._unseen: set[Key] = set()
        self._slots = {serves: asyncio.Semaphore(AT_ONCE) for serves in (True, False)}
        self._retry: dict[Key, float] = {}
        self.beat = time.monotonic()
        """When the loop last went round (monotonic seconds): liveness reads it."""

    def mark(self, key: Key) -> None:
        """A model or a child of it changed."""
        self._dirty.add(key)
        self._wake.set()

    def mark_all(self) -> None:
        """Something changed that concerns every model."""
        self._dirty.update(self._store.all(MODEL_DEPLOYMENTS))
        self._wake.set()

    async def run(self) -> None:
        """Goes round until cancelled. Starts from what is stored, as if nothing had been known before."""
        for known in (self._entries, self._generations, self._intervals, self._cohorts):
            known.clear()
        self._unseen = set(self._store.all(MODEL_DEPLOYMENTS))
        self.mark_all()
        try:
            while True:
                self.beat = time.monotonic()
                await self._policy.refresh(self._now())
                self._evidence.stale_after = self._policy.stale_seconds
                self._take_marks()
                self._start_looks()
                await self._sleep()
        finally:
            for task in (*self._looking.values(), *self._deciding):
                task.cancel()

    def _take_marks(self) -> None:
        """Marked models are decided upon with the evidence there is."""
        due = {key for key, at in self._retry.items() if at <= time.monotonic()}
        for key in due:
            del self._retry[key]
        marked, self._dirty = self._dirty | due, set()
        if not marked:
            return
        for key in marked:
            self._refresh(key)
        self._reclaim()
        entries = [entry for key in marked if (entry := self._entries.get(key))]
        if entries:
            self._spawn(self._decide_all(entries))

    def _refresh(self, key: Key) -> None:
        """The entry of a key as the store has it now."""
        obj, entry = self._store.get(MODEL_DEPLOYMENTS, key), self._entries.get(key)
        if obj is None or obj["metadata"].get("deletionTimestamp"):
            if entry is not None:
                del self._entries[key]
                self._evidence.forget(key)
                self._telemetry.forget(*key)
                del self._generations[key]
                self._claims_changed = True
                self._assign(key)
            return
        if entry is None or entry.obj["metadata"]["uid"] != obj["metadata"]["uid"]:
            self._entries[key] = Entry.of(key, obj)
            self._entries[key].written_at = self._now() - STEADY * _share(key)
            self._claims_changed = True
        elif entry.obj is not obj:
            entry.adopt(obj)
        generation = obj["metadata"]["generation"]
        self._claims_changed |= self._generations.get(key) != generation
        self._generations[key] = generation
        self._assign(key)

    def _assign(self, key: Key) -> None:
        """Puts a model into the cohort of its present interval, so that nobody has to go through all models."""
        entry = self._entries.get(key)
        interval = interval_of(entry, self._steady) if entry and entry.spec else 0.0
        before = self._intervals.pop(key, 0.0)
        if before and before != interval:
            self._cohorts[before].discard(key)
            if not self._cohorts[before]:
                del self._cohorts[before]
        if interval:
            self._intervals[key] = interval
            self._cohorts[interval].add(key)

    def _reclaim(self) -> None:
        """Who may have which host name, when a claim changed."""
        if not self._claims_changed:
            return
        self._claims_changed = False
        before, self._conflicts = self._conflicts, conflicts(self._entries.values())
        for key in before.keys() ^ self._conflicts.keys():
            self.mark(key)
        self._telemetry.models.set(len(self._entries))

    def _start_looks(self) -> None:
        """Starts the look of every cohort that is due and not already being looked at."""
        self._looking = {name: task for name, task in self._looking.items() if not task.done()}
        if self._steady != self._policy.steady_seconds:
            self._steady = self._policy.steady_seconds
            for key in self._entries:
                self._assign(key)
        for interval, keys in self._cohorts.items():
            instant = evaluation_instant(self._now(), interval, settle=_settle(interval))
            if self._looked.get(interval) == instant.timestamp() or interval in self._looking:
                continue
            self._looked[interval] = instant.timestamp()
            late = self._now().timestamp() - instant.timestamp() - _settle(interval)
            self._telemetry.tick_late_seconds.observe(max(0.0, late))
            entries = [self._entries[key] for key in sorted(keys)]
            self._looking[interval] = asyncio.create_task(self._look(entries, instant, interval))
        for gone in self._looked.keys() - self._cohorts.keys():
            del self._looked[gone]

    async def _sleep(self) -> None:
        """Until the next instant, the next retry, a mark, or a second."""
        now = self._now().timestamp()
        waits = [CLOCK_SECONDS]
        for interval in self._looked:
            settle = _settle(interval)
            waits.append((math.floor((now - settle) / interval) + 1) * interval + settle - now)
        waits.extend(at - time.monotonic() for at in self._retry.values())
        self._wake.clear()
        if self._dirty:
            return
        try:
            await asyncio.wait_for(self._wake.wait(), max(0.005, min(waits)))
        except TimeoutError:
            return
        await asyncio.sleep(0.01)  # what changes together is looked at together

    async def _look(self, entries: list[Entry], instant: datetime, interval: float) -> None:
        """One look at a cohort: the evidence of all, then each model for itself, beside the next look."""
        began = time.perf_counter()
        defaults, steady = self._defaults(), self._policy.steady_seconds
        watched = [watched_of(entry, self._store, defaults, steady) for entry in entries]
        prometheus, found = self._policy.prometheus, {}
        try:
            if prometheus is not None:
                found = await self._evidence.look(watched, instant, prometheus)
            for entry in entries:
                evidence = found.get(entry.key)
                if evidence is not None:
                    entry.unused = (*entry.unused, *evidence.intervals)
                    entry.history = evidence.history or entry.history
                    entry.evidence = replace(evidence, intervals=(), history=())
        finally:
            self._unseen.difference_update(entry.key for entry in entries)
        measured = sum(evidence.state in _MEASURED for evidence in found.values())
        # The next look does not wait for this one's writes.
        self._spawn(self._conclude(entries, "steady" if interval == steady else "trial", measured, began))

    async def _conclude(self, entries: list[Entry], cohort: str, measured: int, began: float) -> None:
        """The decisions after a look, and how long all of it took."""
        await self._decide_all(entries)
        self._telemetry.looked(cohort, measured, time.perf_counter() - began)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._deciding.add(task)
        task.add_done_callback(self._deciding.discard)

    async def _decide_all(self, entries: Iterable[Entry]) -> None:
        """Decides upon every entry, each for itself. One that waits for its turn already is not queued again."""
        turns = []
        for number, entry in enumerate(entries, start=1):
            if entry.turn is None:
                entry.turn = asyncio.create_task(self._turn(entry))
            turns.append(entry.turn)
            if number % IN_A_ROW == 0:
                await asyncio.sleep(0)
        await asyncio.gather(*turns)

    async def _turn(self, entry: Entry) -> None:
        """One decision; what fails is told and tried again."""
        async with entry.lock:
            entry.turn = None  # what is marked from here on needs another turn
            try:
                await self._decide(entry)
            except NotLeaderError:
                _LOG.warning("write not sent: not the leader any more")
            except ApiError as error:
                self._failed(entry, "api", error)
                if error.status == 409:
                    await self._reload(entry)
            except (OSError, TimeoutError) as error:
                self._failed(entry, "network", error)
            except Exception as error:
                _LOG.exception("look failed", extra={"model": "/".join(entry.key)})
                self._failed(entry, "defect", error)
        self._assign(entry.key)

    def _failed(self, entry: Entry, kind: str, error: Exception) -> None:
        self._telemetry.errors.labels(kind).inc()
        self._retry[entry.key] = time.monotonic() + RETRY_SECONDS
        _LOG.warning(
            "not applied, trying again", extra={"model": "/".join(entry.key), "kind": kind, "error": str(error)}
        )

    async def _reload(self, entry: Entry) -> None:
        """Somebody else wrote: the stored object counts, and what was decided on the old one does not."""
        fresh = await self._kube.get(MODEL_DEPLOYMENTS, *entry.key)
        self._store.put(MODEL_DEPLOYMENTS, fresh)
        entry.adopt(fresh)
        if ModelDeploymentStatus.model_validate(fresh.get("status") or {}) != entry.written:
            _LOG.warning("somebody else wrote the status: going on from that", extra={"model": "/".join(entry.key)})
            entry.reset()
            self._evidence.forget(entry.key)

    async def _decide(self, entry: Entry) -> None:
        """Decide, store the decision, then apply it."""
        if entry.spec is None or self._entries.get(entry.key) is not entry:
            return
        now = self._now()
        conflict = self._conflicts.get(entry.key, "")
        if entry.key in self._unseen and entry.status.conditions and not self._trouble():
            # What the last leader found out stands until this one has looked: a restart changes nobody's health.
            await self._apply(entry, conflict)
            return
        view = view_of(entry, self._store, now, conflict=conflict, defaults=self._defaults(), trouble=self._trouble())
        decision = decide(view, entry.memory)
        if worth_writing(decision.status, entry.written, entry.written_at, now):
            async with self._slots[entry.status.stable is not None]:
                stored = await self._kube.put_status(MODEL_DEPLOYMENTS, entry.obj, decision.status.to_json())
            entry.written, entry.written_at = decision.status, now
            entry.adopt(stored)
            self._store.put(MODEL_DEPLOYMENTS, stored)
        entry.status, entry.memory = decision.status, decision.memory
        entry.unused = entry.unused[len(view.evidence.intervals) :]  # a look may have come in meanwhile
        if entry.history is view.evidence.history and (entry.memory.states or not entry.status.canary):
            entry.history = ()
        entry.weights = dict(view.route.weights)
        for record in decision.records:
            self._tell(entry, record)
        self._telemetry.show(*entry.key, decision.status)
        await self._apply(entry, conflict)

    async def _apply(self, entry: Entry, conflict: str) -> None:
        def tell(reason: str, note: str) -> None:
            self._recorder.tell(entry.obj, "Warning", reason, note, self._now())
            _LOG.warning(note, extra={"model": "/".join(entry.key), "reason": reason})

        async with self._slots[entry.status.stable is not None]:
            try:
                await self._effects.apply(entry, conflict, tell)
            except ApiError as error:
                if entry.refusal != error.message:
                    entry.refusal = error.message
                    self._recorder.tell(entry.obj, "Warning", "ChildRefused", error.message, self._now())
                raise
        if entry.refusal:
            entry.refusal = ""
            self.mark(entry.key)

    def _tell(self, entry: Entry, record: DecisionRecord) -> None:
        """A decision as an Event, a log line and a count."""
        type_: Literal["Normal", "Warning"] = "Warning" if record.effect in WARNINGS else "Normal"
        note = record.message if record.version in record.message else f"{record.version}: {record.message}"
        self._recorder.tell(entry.obj, type_, record.effect, note, record.time)
        self._telemetry.decisions.labels(record.effect).inc()
        _LOG.info("decision", extra={"model": "/".join(entry.key), "decision": record.to_json()})

    def _defaults(self) -> tuple[Objective, ...]:
        return tuple(self._policy.spec.objectives) if self._policy.spec else ()

    def _trouble(self) -> str:
        return self._policy.problem if self._policy.prometheus is None else ""


def _share(key: Key) -> float:
    """A number from 0 to 1, always the same for a model: what is due once in a while is not due for all at once."""
    return crc32("/".join(key).encode()) / 2**32


def _settle(interval: float) -> float:
    return min(SETTLE_MAX, SETTLE_SHARE * interval)
