"""The composition root: everything the operator is made of, put together and run."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from kubernetes.aio import client

from modeldeployment import __version__
from modeldeployment.controller import connect, leader, watches, web
from modeldeployment.controller.fleet import Fleet
from modeldeployment.controller.kube import Kube
from modeldeployment.controller.policy import Policy
from modeldeployment.controller.recorder import Recorder
from modeldeployment.controller.relist import Relist
from modeldeployment.controller.store import Store
from modeldeployment.controller.telemetry import Telemetry
from modeldeployment.metrics import QueryRecord
from modeldeployment.replaying.journal import Took, untold

_LOG = logging.getLogger(__name__)
BEAT_SECONDS_MAX = 60.0
"""A fleet that has not gone round for so long is stuck."""
IN_FLIGHT_SECONDS, EVENTS_SECONDS = 5.0, 2.0
"""How long the end waits: for what was sent to be answered, for queued Events to be written. A pod has 30 s."""


@dataclass(frozen=True, slots=True)
class Options:
    """How the operator runs.

    Attributes:
        namespace: where its Lease is.
        host, port: where /healthz, /readyz and /metrics are.
        timing: of the Lease.
        relist_seconds: how often the store is compared with lists.
        took: told of each decision that stands.
    """

    namespace: str = "modeldeployment-system"
    host: str = "0.0.0.0"
    port: int = 8080
    timing: leader.Timing = field(default_factory=leader.Timing)
    relist_seconds: float = 180.0
    took: Took = untold


async def run(options: Options) -> int:
    """Runs until told to stop (0) or until the Lease is lost or the watches end (1): then a restart starts clean."""
    configuration = await connect.configuration()
    async with client.ApiClient(configuration) as once:
        configuration.retries = 3  # reads only, on connection errors and 5xx: before a write, the Lease is asked
        requests = leader.Requests(configuration, once)
        identity = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        lease = leader.FencedLease(options.namespace, identity, once, options.timing)
        async with requests:
            return await _Operator(options, configuration, requests, lease).run()


class _Operator:
    def __init__(
        self,
        options: Options,
        configuration: client.Configuration,
        requests: leader.Requests,
        lease: leader.FencedLease,
    ) -> None:
        self._options, self._configuration, self._requests, self._lease = options, configuration, requests, lease
        self._telemetry = telemetry = Telemetry()
        self._kube = Kube(requests, may_write=lease.holds, count=self._count_request)
        self._store = Store(lambda key: self._fleet.mark(key), lambda: self._fleet.mark_all())
        self._policy = Policy(self._store, self._kube, self._count_query)
        self._recorder = Recorder(self._kube)
        self._fleet = Fleet(self._store, self._kube, self._policy, self._recorder, telemetry, took=options.took)
        self._relist = Relist(self._store, self._kube, telemetry)
        self._stop, self._watching, self._exit = asyncio.Event(), asyncio.Event(), 0
        self._unwatch = asyncio.Event()
        self._leading = False

    async def run(self) -> int:
        self._listen()
        handlers = watches.registry(self._store)
        watches.login(handlers, self._configuration)
        server = await web.serve(
            self._options.host, self._options.port, self._telemetry.registry, self._alive, self._ready
        )
        _LOG.info("operator starts", extra={"version": __version__, "namespace": self._options.namespace})
        tasks = [
            asyncio.create_task(leader.lead(self._lease, self._options.timing, self._lead, self._lost)),
            asyncio.create_task(self._recorder.run()),
            asyncio.create_task(self._relist.run(self._options.relist_seconds)),
            asyncio.create_task(watches.watch(handlers, self._watching, self._unwatch)),
            asyncio.create_task(self._stop.wait()),
        ]
        signals = asyncio.create_task(self._listen_again())
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not self._stop.is_set():
            self._exit = 1
            for task in done:
                if not task.cancelled() and task.exception() is not None:
                    _LOG.error("a part of the operator ended", exc_info=task.exception())
        self._stop.set()
        await self._hand_over(tasks[0])
        self._unwatch.set()  # not before: when kopf ends, it ends whatever began after it
        for task in (*tasks, signals):
            task.cancel()
        await asyncio.gather(*tasks, signals, return_exceptions=True)
        await server.cleanup()
        return self._exit

    async def _hand_over(self, leading: asyncio.Task[Any]) -> None:
        """The work ends, then what it sent, and the Lease last: the next leader must not meet this one's writes."""
        leading.cancel()
        await asyncio.wait([leading], timeout=IN_FLIGHT_SECONDS)
        await self._policy.aclose()
        await self._requests.settle(min(IN_FLIGHT_SECONDS, self._lease.left))
        if self._lease.holds():
            await self._recorder.drain(EVENTS_SECONDS)
        await self._lease.release()

    def _listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)

    async def _listen_again(self) -> None:
        """kopf takes the signals for itself: it would end alone, seconds later, and the Lease would not be given up."""
        await self._watching.wait()
        await asyncio.sleep(0.1)
        self._listen()

    async def _lead(self) -> None:
        """Acts, from what is stored now: the leader before may have gone on until a moment ago."""
        self._telemetry.leader.set(1)
        try:
            await self._relist.load()
            self._leading = True
            _LOG.info("this process acts now", extra={"identity": self._lease.identity})
            await self._fleet.run()
        except asyncio.CancelledError:
            raise
        except Exception:
            _LOG.exception("the fleet's loop ended")
            self._exit = 1
            self._stop.set()

    async def _lost(self) -> None:
        if not self._stop.is_set():
            _LOG.error("the Lease is lost: this process ends, and begins anew as a follower")
            self._exit = 1
            self._telemetry.leader.set(0)
            self._stop.set()

    def _alive(self) -> str:
        if self._relist.dead:
            return f"the watch of {self._relist.dead} shows nothing any more"
        if self._leading and time.monotonic() - self._fleet.beat > BEAT_SECONDS_MAX:
            return f"the fleet's loop has not gone round for {BEAT_SECONDS_MAX:g}s"
        if self._lease.lapsed > self._options.timing.lease:
            return f"leads, but has not held the Lease for {self._lease.lapsed:.0f}s"
        return ""

    def _ready(self) -> str:
        if not self._watching.is_set():
            return "the watches have not started"
        return self._relist.missing

    def _count_request(self, verb: str, plural: str, status: int) -> None:
        self._telemetry.api_requests.labels(verb, plural, str(status)).inc()

    def _count_query(self, record: QueryRecord) -> None:
        self._telemetry.queries.labels(record.purpose, record.outcome).inc()
        self._telemetry.query_seconds.observe(record.seconds)
