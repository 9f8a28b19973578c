"""The fleet: at its own pace, it looks at all models that are due, decides, writes, applies.

Watches only mark a model; nothing is done in reaction to an event but being looked at soon. Models with the same
interval are one cohort: one set of queries for all of them. Each look is a task of its own, and who has his evidence is
free for the next one, so that a slow query delays nobody's weights and nobody else's look.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

from modeldeployment.api.status import DecisionRecord, ModelDeploymentStatus
from modeldeployment.controller.cohorts import Cohorts
from modeldeployment.controller.deciding import Together
from modeldeployment.controller.dialects import Dialects
from modeldeployment.controller.effects import Effects
from modeldeployment.controller.entry import Entry, share
from modeldeployment.controller.kube import ApiError, Kube, NotLeaderError
from modeldeployment.controller.material import STEADY, worth_writing
from modeldeployment.controller.observing import conflicts, interval_of, view_of, watched_of
from modeldeployment.controller.policy import Policy
from modeldeployment.controller.recorder import WARNINGS, Recorder
from modeldeployment.controller.resources import MODEL_DEPLOYMENTS
from modeldeployment.controller.store import Key, Store
from modeldeployment.controller.telemetry import Telemetry
from modeldeployment.decision.due import due
from modeldeployment.decision.evidence import DataState, Evidence
from modeldeployment.metrics import EvidenceStore, Watched
from modeldeployment.replaying.journal import Took, untold

_LOG = logging.getLogger(__name__)

IN_A_ROW = 40
"""Models decided upon before others have their turn: probes, watches, the Lease."""
RETRY_SECONDS, RETRY_MAX = 2.0, 60.0
"""After a refused or failed write a model is decided upon again this soon, and each time later, up to so late."""
ROUND_SECONDS = 1.0
"""The loop goes round this often at least."""


def _now() -> datetime:
    return datetime.now(UTC)


class Fleet:
    """All ModelDeployments of the cluster.

    Args:
        store: what the watches said. Its callbacks must be `mark` and `mark_all`.
        now: the clock; decisions get it as a parameter. took: told of each decision that stands.
    """

    def __init__(
        self,
        store: Store,
        kube: Kube,
        policy: Policy,
        recorder: Recorder,
        telemetry: Telemetry,
        now: Callable[[], datetime] = _now,
        took: Took = untold,
    ) -> None:
        self._store, self._kube, self._policy = store, kube, policy
        self._recorder, self._telemetry, self._now, self._took = recorder, telemetry, now, took
        self._effects, self._together = Effects(store, kube), Together()
        self._evidence = EvidenceStore()
        self._dialects = Dialects(policy)
        self._entries: dict[Key, Entry] = {}
        self._dirty: set[Key] = set()
        self._wake = asyncio.Event()
        self._looking: set[Key] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._conflicts: dict[Key, str] = {}
        self._generations: dict[Key, int] = {}
        self._claims_changed = False
        self._steady = 0.0
        self._cohorts = Cohorts()
        self._unseen: set[Key] = set()
        self._again: dict[Key, float] = {}
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
        for known in (self._entries, self._generations, self._cohorts, self._looking):
            known.clear()
        self._unseen = set(self._store.all(MODEL_DEPLOYMENTS))
        self.mark_all()
        try:
            while True:
                self.beat = time.monotonic()
                await self._policy.refresh(self._now())
                self._evidence.stale_after = self._policy.stale_seconds
                self._cohorts.delay = self._policy.delay_seconds
                self._take_marks()
                self._start_looks()
                self._dialects.start(self._now())
                await self._sleep()
        finally:
            self._dialects.cancel()
            for task in self._tasks:
                task.cancel()

    def _take_marks(self) -> None:
        """Marked models are decided upon with the evidence there is."""
        again = {key for key, at in self._again.items() if at <= time.monotonic()}
        for key in again:
            del self._again[key]
        marked, self._dirty = self._dirty | again, set()
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
                self._dialects.forget(key)
                self._telemetry.forget(*key)
                del self._generations[key]
                self._claims_changed = True
                self._assign(key)
            return
        if entry is None or entry.obj["metadata"]["uid"] != obj["metadata"]["uid"]:
            self._entries[key] = Entry.of(key, obj)
            self._entries[key].written_at = self._now() - STEADY * share(key)
            self._claims_changed = True
        elif entry.obj is not obj:
            entry.adopt(obj)
        self._tell_problem(self._entries[key])
        generation = obj["metadata"]["generation"]
        self._claims_changed |= self._generations.get(key) != generation
        self._generations[key] = generation
        self._assign(key)

    def _assign(self, key: Key) -> None:
        """Puts a model into the cohort of its present interval."""
        entry = self._entries.get(key)
        self._cohorts.assign(key, interval_of(entry, self._steady) if entry and entry.spec else 0.0)

    def _tell_problem(self, entry: Entry) -> None:
        """A spec that this version cannot read (a newer CRD let it in): nothing is done, and that is told once."""
        if entry.problem and entry.problem != entry.told_problem:
            note = f"this version of the operator cannot read the spec, so nothing is changed: {entry.problem}"
            self._recorder.tell(entry.obj, "Warning", "SpecNotReadable", note, self._now())
            self._telemetry.errors.labels("spec").inc()
            _LOG.error(note, extra={"model": "/".join(entry.key)})
        entry.told_problem = entry.problem

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
        """Starts the look of every cohort that is due, at those of it that no earlier look is still waiting for."""
        if self._steady != self._policy.steady_seconds:
            self._steady = self._policy.steady_seconds
            for key in self._entries:
                self._assign(key)
        for interval, instant, late in list(self._cohorts.due(self._now())):
            entries = [self._entries[key] for key in self._cohorts.members(interval) if key not in self._looking]
            if not entries:
                continue
            self._cohorts.looked(interval, instant)
            self._telemetry.tick_late_seconds.observe(late)
            self._looking.update(entry.key for entry in entries)
            self._spawn(self._look(entries, instant, interval))

    async def _sleep(self) -> None:
        """Until the next instant, the next retry, a mark, or a second."""
        waits = [ROUND_SECONDS, self._cohorts.wait(self._now())]
        waits.extend(at - time.monotonic() for at in self._again.values())
        self._wake.clear()
        if self._dirty:
            return
        try:
            async with asyncio.timeout(max(0.005, min(waits))):  # wait_for may swallow a cancellation (Python 3.11)
                await self._wake.wait()
        except TimeoutError:
            return
        await asyncio.sleep(0.01)  # what changes together is looked at together

    async def _look(self, entries: list[Entry], instant: datetime, interval: float) -> None:
        """One look at a cohort: the evidence of all, then each model for itself, beside the next look."""
        began, measured, left = time.perf_counter(), 0, {entry.key: entry for entry in entries}
        steady, prometheus, decided = self._policy.steady_seconds, self._policy.prometheus, list[asyncio.Task[None]]()
        try:
            watched, found = self._watched(entries, steady, instant)
            decided.append(self._conclude([left.pop(key) for key in found], found))
            if prometheus is not None:
                async for seen in self._evidence.look(watched, instant, prometheus):
                    measured += sum(evidence.state.measured for evidence in seen.values())
                    decided.append(self._conclude([left.pop(key) for key in seen], seen))
                self._spawn(self._evidence.recall(watched, instant, prometheus))
        except Exception as error:
            _LOG.exception("look failed", extra={"interval": interval})
            self._telemetry.errors.labels("look").inc()
            nothing = Evidence(DataState.QUERY_ERROR, f"the look failed: {type(error).__name__}: {error}", instant)
            found = dict.fromkeys(left, nothing)
        await asyncio.wait([*decided, self._conclude([*left.values()], found)])
        self._telemetry.looked("steady" if interval == steady else "trial", measured, time.perf_counter() - began)

    def _conclude(self, entries: list[Entry], found: Mapping[Key, Evidence]) -> asyncio.Task[None]:
        """Hands their evidence to models whose look is over: the next one waits neither for others nor for writes."""
        for entry in entries:
            evidence = found.get(entry.key)
            if evidence is not None:
                entry.unused = (*entry.unused, *evidence.intervals)
                entry.history = evidence.history or entry.history
                entry.evidence = replace(evidence, intervals=(), history=None)
            self._looking.discard(entry.key)
            self._unseen.discard(entry.key)
        return self._spawn(self._decide_all(entries))

    def _watched(
        self, entries: list[Entry], steady: float, instant: datetime
    ) -> tuple[list[Watched], dict[Key, Evidence]]:
        """What is asked for, and the evidence of who cannot be asked for; a defect leaves the others their look."""
        watched, told = list[Watched](), dict[Key, Evidence]()
        for entry in entries:
            try:
                asked = watched_of(entry, self._store, self._policy.objectives, steady)
                match self._dialects.name(entry, asked, instant):
                    case Evidence() as unnamed:
                        told[entry.key] = unnamed
                    case Watched() as named:
                        watched.append(named)
            except Exception as error:
                _LOG.exception("not looked at", extra={"model": "/".join(entry.key)})
                self._failed(entry, "defect", error)
        return watched, told

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._telemetry.errors.labels("defect").inc()
            _LOG.error("a task of the fleet ended", exc_info=error)

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
                self._failed(entry, "api" if error.status else "network", error, error.retry_after)
            except Exception as error:
                _LOG.exception("decision failed", extra={"model": "/".join(entry.key)})
                self._failed(entry, "defect", error)
            else:
                entry.failures = 0
        self._assign(entry.key)

    def _failed(self, entry: Entry, kind: str, error: Exception, least: float = 0.0) -> None:
        """Tries again, later each time: what no retry mends costs little, and a server that asks for mercy gets it."""
        self._telemetry.errors.labels(kind).inc()
        wait = max(least, min(RETRY_MAX, RETRY_SECONDS * 2**entry.failures) * (0.75 + share(entry.key) / 2))
        entry.failures = min(entry.failures + 1, 10)
        self._again[entry.key] = time.monotonic() + wait
        _LOG.warning(
            "not applied, trying again",
            extra={"model": "/".join(entry.key), "kind": kind, "error": str(error), "seconds": round(wait, 1)},
        )

    async def _reload(self, entry: Entry) -> None:
        """The stored object is another one than the decision was taken at: it counts, and the decision does not."""
        fresh = await self._kube.get(MODEL_DEPLOYMENTS, *entry.key)
        self._store.put(MODEL_DEPLOYMENTS, fresh)
        entry.adopt(fresh)
        self._heed_others(entry)

    def _heed_others(self, entry: Entry) -> None:
        """Somebody else wrote the status (another leader, a person): that counts, and nothing we had in mind."""
        if entry.foreign:
            _LOG.warning("somebody else wrote the status: going on from that", extra={"model": "/".join(entry.key)})
            entry.reset()
            self._evidence.forget(entry.key)

    async def _decide(self, entry: Entry) -> None:
        """Decide, store the decision, then apply it."""
        if entry.spec is None or self._entries.get(entry.key) is not entry:
            return
        self._heed_others(entry)
        now, generation = self._now(), entry.obj["metadata"]["generation"]
        conflict = self._conflicts.get(entry.key, "")
        if entry.key in self._unseen and entry.status.conditions and not self._policy.trouble:
            # What the last leader found out stands until this one has looked: a restart changes nobody's health.
            await self._apply(entry)
            return
        view = view_of(
            entry, self._store, now, conflict=conflict, defaults=self._policy.objectives, trouble=self._policy.trouble
        )
        obj, decision = entry.obj, await self._together.decide(view, entry.memory)
        if entry.obj is not obj:
            self.mark(entry.key)  # it is another object by now than was decided upon
            return
        if worth_writing(decision.status, entry.written, entry.written_at, now):
            await self._write(entry, decision.status, now)
        self._took(entry.key, view, decision)
        entry.status, entry.memory = decision.status, decision.memory
        entry.unused = entry.unused[len(view.evidence.intervals) :]  # a look may have come in meanwhile
        if entry.history is view.evidence.history and (entry.memory.states or not entry.status.canary):
            entry.history = None
        entry.weights = dict(view.route.weights)
        for record in decision.records:
            self._tell(entry, record)
        self._telemetry.show(*entry.key, decision.status)
        if moment := due(entry.spec, decision.status, now):
            self._again[entry.key] = time.monotonic() + (moment - now).total_seconds() + 0.05
        if entry.obj["metadata"]["generation"] != generation:
            self.mark(entry.key)  # the spec changed while the status was on its way
        await self._apply(entry)

    async def _write(self, entry: Entry, status: ModelDeploymentStatus, now: datetime) -> None:
        """The status, at the version that was decided on; on a conflict nothing of the decision stands."""
        try:
            stored = await self._kube.put_status(MODEL_DEPLOYMENTS, entry.obj, status.to_json())
        except ApiError as error:
            if error.status == 409:
                await self._reload(entry)
            raise
        entry.wrote(stored, status, now)
        self._store.put(MODEL_DEPLOYMENTS, stored)

    async def _apply(self, entry: Entry) -> None:
        def tell(reason: str, note: str) -> None:
            self._recorder.tell(entry.obj, "Warning", reason, note, self._now())
            _LOG.warning(note, extra={"model": "/".join(entry.key), "reason": reason})

        try:
            await self._effects.apply(entry, self._conflicts.get(entry.key, ""), tell)
        except ApiError as error:
            if error.status and entry.refusal != error.message:
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
