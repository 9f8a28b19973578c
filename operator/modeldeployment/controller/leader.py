"""One acts: a Lease, by the kubernetes client's leader election, and a clock that fences writes.

The election alone is no fence: a process that was paused wakes up believing. So every write asks `holds()`, which
counts from the moment before the last renewal was sent, on a clock that goes on while the process sleeps.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import aiohttp
from kubernetes.aio import client
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

_LOG = logging.getLogger(__name__)
LEASE_NAME = "modeldeployment-operator"


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: how long a Lease holds (whole, as the API has it), how long renewing may fail, how often it is tried."""

    lease: int = 15
    renew: float = 10.0
    retry: float = 2.0


class FencedLease(LeaseLock):
    """A Lease that knows until when it is surely held."""

    def __init__(self, namespace: str, identity: str, api: ApiClient, timing: Timing) -> None:
        super().__init__(LEASE_NAME, namespace, identity, api)
        self._timing = timing
        self._held_until = 0.0
        # Half of `renew`, so that one request without an answer leaves time for another. The library waits for 5 min.
        self._answer_within = timing.renew / 2

    def holds(self) -> bool:
        """Whether no other process can have taken the Lease yet."""
        return self.left > 0

    @property
    def left(self) -> float:
        """Seconds for which it is surely held."""
        return max(0.0, self._held_until - _clock())

    @property
    def lapsed(self) -> float:
        """Seconds for which it has not been surely held any more; 0 while it is, was given up, or never was held."""
        return max(0.0, _clock() - self._held_until) if self._held_until else 0.0

    async def get(self, name: str, namespace: str) -> Any:
        """The record, or why there is none; an API server that does not answer is a reason too."""
        try:
            async with asyncio.timeout(self._answer_within):
                return await super().get(name, namespace)
        except (OSError, TimeoutError, aiohttp.ClientError) as error:
            return False, ApiException(status=0, reason=str(error) or type(error).__name__)

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        """Takes a Lease that was not there. (The library's own call fails its own validation in 37.0.2.)"""
        body = client.V1Lease(metadata=client.V1ObjectMeta(name=name), spec=self.update_lease(election_record))
        return await self._renewing(self.api_instance.create_namespaced_lease(namespace, body))

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """Takes or renews it."""
        return await self._renewing(super().update(name, namespace, updated_record))

    async def _renewing(self, writing: Coroutine[Any, Any, Any]) -> bool:
        sent = _clock()
        if not await self._written(writing, "the Lease was not written"):
            return False
        self._held_until = sent + self._timing.renew
        return True

    async def _written(self, writing: Coroutine[Any, Any, Any], otherwise: str) -> bool:
        try:
            async with asyncio.timeout(self._answer_within):
                return await writing is not False
        except (OSError, TimeoutError, aiohttp.ClientError, ApiException) as error:
            _LOG.warning(otherwise, extra={"error": str(error) or type(error).__name__})
            return False

    async def release(self) -> None:
        """Gives the Lease up, so that the next takes it at once."""
        if not self.holds():
            return
        self._held_until = 0.0
        found, _ = await self.get(self.name, self.namespace)  # renewing left an old resourceVersion behind
        lease: Any = self.lease_reference
        if not found or lease.spec.holder_identity != self.identity:
            return
        lease.spec.holder_identity = ""
        lease.spec.lease_duration_seconds = 1
        writing = self.api_instance.replace_namespaced_lease(self.name, self.namespace, lease)
        await self._written(writing, "the Lease was not given up: it ends by itself")


class Requests(ApiClient):
    """A client whose writes go on when whoever asked for them is cancelled: what was sent cannot be taken back, but
    waited for. They go through `once`, which tries nothing again."""

    def __init__(self, configuration: client.Configuration, once: ApiClient) -> None:
        super().__init__(configuration)
        self._once = once
        self._under_way: set[asyncio.Task[Any]] = set()

    async def call_api(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """One request; of a write, the answer's body is read too."""
        if method == "GET":
            return await super().call_api(method, *args, **kwargs)
        task = asyncio.create_task(self._whole(method, *args, **kwargs))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _whole(self, *args: Any, **kwargs: Any) -> Any:
        response: Any = await self._once.call_api(*args, **kwargs)
        await response.read()  # kept by the response, for whoever asked
        return response

    async def settle(self, seconds: float) -> None:
        """Waits for the writes under way, and gives up those that take longer."""
        if not self._under_way:
            return
        _, late = await asyncio.wait(self._under_way, timeout=seconds)
        for task in late:
            task.cancel()
        if late:
            _LOG.warning("writes without an answer were given up", extra={"writes": len(late)})


async def lead(
    lease: FencedLease,
    timing: Timing,
    work: Callable[[], Coroutine[Any, Any, None]],
    lost: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    """Waits for the Lease, runs `work` while it is held, and calls `lost` when it is not any more.

    Work has ended before this does, cancelled or not. The election's own `run` would leave it behind when cancelled,
    and go on trying for seconds after writes are refused already.
    """
    config = Config(
        lock=lease,
        lease_duration=timing.lease,
        renew_deadline=timing.renew,
        retry_period=timing.retry,
        onstarted_leading=work,
        onstopped_leading=lost,
    )
    election = LeaderElection(config)
    await election.acquire()
    renewing = asyncio.create_task(election.renew_loop())
    tasks = (asyncio.create_task(work()), renewing)
    try:
        while lease.holds() and not renewing.done():
            await asyncio.wait([renewing], timeout=min(lease.left, timing.retry))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    if not renewing.cancelled() and renewing.exception():
        _LOG.error("renewing the Lease failed", exc_info=renewing.exception())
    await lost()


def _clock() -> float:
    """Seconds that also pass while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
