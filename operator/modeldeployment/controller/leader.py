"""One acts: a Lease, by the kubernetes client's leader election, and a clock that fences writes.

The election alone is no fence: a process that was paused wakes up believing. So every write asks `holds()`, which
counts from the moment before the last renewal was sent, on a clock that goes on while the process sleeps.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
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

    def holds(self) -> bool:
        """Whether no other process can have taken the Lease yet."""
        return _clock() < self._held_until

    async def get(self, name: str, namespace: str) -> Any:
        """The record, or why there is none; an API server that does not answer is a reason too."""
        try:
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

    async def _renewing(self, writing: Awaitable[Any]) -> bool:
        sent = _clock()
        try:
            done = await writing
        except (OSError, TimeoutError, aiohttp.ClientError, ApiException) as error:
            _LOG.warning("the Lease was not written", extra={"error": str(error)})
            return False
        if done is False:
            return False
        self._held_until = sent + self._timing.renew
        return True

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
        try:
            await self.api_instance.replace_namespaced_lease(self.name, self.namespace, lease)
        except (OSError, TimeoutError, aiohttp.ClientError, ApiException) as error:
            _LOG.warning("the Lease was not given up: it ends by itself", extra={"error": str(error)})


async def lead(lease: FencedLease, timing: Timing, work: Callable[[], Any], lost: Callable[[], Any]) -> None:
    """Waits for the Lease, runs `work` while it is held, and calls `lost` when it is not any more."""
    config = Config(
        lock=lease,
        lease_duration=timing.lease,
        renew_deadline=timing.renew,
        retry_period=timing.retry,
        onstarted_leading=work,
        onstopped_leading=lost,
    )
    await LeaderElection(config).run()


def _clock() -> float:
    """Seconds that also pass while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
