"""Events on `events.k8s.io/v1`: precise reasons, repeats merged into a series. They are told, never relied on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from modeldeployment.api import names
from modeldeployment.api.base import JSON, cut
from modeldeployment.controller.kube import ApiError, Kube, NotLeaderError
from modeldeployment.controller.resources import EVENTS, MODEL_DEPLOYMENTS

_LOG = logging.getLogger(__name__)
SERIES_FOR = timedelta(minutes=10)
QUEUE_MAX = 1_000
NOTE_BYTES_MAX = 1_024
"""The API server's limit."""


@dataclass(slots=True)
class _Series:
    name: str
    count: int
    last: datetime


WARNINGS = frozenset(
    {
        "RolledBack",
        "Aborted",
        "ProgressDeadlineExceeded",
        "Inconclusive",
        "RolledBackInconclusive",
        "StableUnavailable",
        "WaitingForStable",
        "CanaryUnavailable",
        "ChildRestored",
        "WatchAlarm",
        "CanaryFault",
        "SharedFault",
        "PodFault",
        "NodeFault",
        "CapacityFault",
        "DataFault",
    }
)
"""Effects that somebody should look at: their Events are Warnings."""


class Recorder:
    """Events about ModelDeployments, written by one task beside everything else."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._queue: asyncio.Queue[tuple[JSON, str, str, str, datetime]] = asyncio.Queue(QUEUE_MAX)
        self._series: dict[tuple[str, str, str], _Series] = {}
        self._stamped = 0
        self._instance = f"{socket.gethostname()}-{os.getpid()}"

    def tell(self, obj: JSON, type_: Literal["Normal", "Warning"], reason: str, note: str, now: datetime) -> None:
        """Queues an Event about an object; when the queue is full it is dropped, and the log still has it."""
        try:
            self._queue.put_nowait((obj["metadata"], type_, reason, cut(note, NOTE_BYTES_MAX), now))
        except asyncio.QueueFull:
            _LOG.warning("event dropped, the queue is full", extra={"reason": reason})

    async def run(self) -> None:
        """Writes what is queued, for ever: an Event that cannot be written is lost, and nothing else."""
        while True:
            metadata, type_, reason, note, now = await self._queue.get()
            try:
                await self._write(metadata, type_, reason, note, now)
            except (ApiError, NotLeaderError) as error:
                _LOG.warning("event not written", extra={"reason": reason, "error": str(error)})
            except Exception:
                _LOG.exception("event not written", extra={"reason": reason})
            finally:
                self._queue.task_done()

    async def drain(self, seconds: float) -> None:
        """Waits until everything queued is written, for so long at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._queue.join()

    async def _write(self, metadata: JSON, type_: str, reason: str, note: str, now: datetime) -> None:
        key = (metadata["uid"], reason, note)
        self._series = {k: s for k, s in self._series.items() if now - s.last < SERIES_FOR}
        stamp = now.isoformat(timespec="microseconds").replace("+00:00", "Z")
        known = self._series.get(key)
        if known and await self._repeated(metadata["namespace"], known, stamp, now):
            return
        self._series.pop(key, None)
        # kubectl describe lists Events of this API group by name, so the name has the time.
        self._stamped = max(round(now.timestamp() * 1e9), self._stamped + 1)
        name = f"{metadata['name'][:200]}.{self._stamped:016x}"
        await self._kube.create(
            EVENTS,
            {
                "apiVersion": "events.k8s.io/v1",
                "kind": "Event",
                "metadata": {"name": name, "namespace": metadata["namespace"]},
                "eventTime": stamp,
                "reportingController": f"{names.GROUP}/operator",
                "reportingInstance": self._instance,
                "action": reason,
                "reason": reason,
                "note": note,
                "type": type_,
                "regarding": {
                    "apiVersion": names.API_VERSION,
                    "kind": MODEL_DEPLOYMENTS.kind,
                    "name": metadata["name"],
                    "namespace": metadata["namespace"],
                    "uid": metadata["uid"],
                },
            },
        )
        self._series[key] = _Series(name, 1, now)

    async def _repeated(self, namespace: str, known: _Series, stamp: str, now: datetime) -> bool:
        """Counts a repeat; False where somebody deleted the Event meanwhile."""
        known.count, known.last = known.count + 1, now
        body = {"series": {"count": known.count, "lastObservedTime": stamp}}
        try:
            await self._kube.merge(EVENTS, namespace, known.name, body)
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        return True
