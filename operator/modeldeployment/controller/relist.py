"""A list of our own beside the watch: kopf never tells what vanished during a lost watch, and a dead watch is silent.

The list is the truth. What differs is put into the store and counted; objects that the watch never showed mean that
it is dead, and then liveness fails.
"""

from __future__ import annotations

import asyncio
import logging

from modeldeployment.api.base import JSON
from modeldeployment.controller.kube import ApiError, Kube
from modeldeployment.controller.resources import WATCHED, Resource
from modeldeployment.controller.store import Key, Store, key_of, newer
from modeldeployment.controller.telemetry import Telemetry

_LOG = logging.getLogger(__name__)
EVERY_SECONDS = 180.0
IN_FLIGHT_SECONDS = 10.0
"""An object that the list shows and the watch has not shown after so long is one that it will never show."""


class Relist:
    """Compares lists with the store.

    `dead` names a kind whose watch shows nothing any more, `missing` one that cannot be listed to begin with, and why;
    "" while all is well.
    """

    def __init__(self, store: Store, kube: Kube, telemetry: Telemetry) -> None:
        self._store, self._kube, self._telemetry = store, kube, telemetry
        self.dead = ""
        self.missing = ""

    async def run(self, every: float = EVERY_SECONDS) -> None:
        """Compares for ever."""
        while True:
            await asyncio.sleep(every)
            for resource in WATCHED:
                try:
                    await self.compare(resource)
                except ApiError as error:
                    _LOG.warning("list failed", extra={"resource": resource.plural, "error": str(error)})

    async def load(self) -> None:
        """Puts everything into the store, before the first look."""
        for resource in WATCHED:
            while not await self._load(resource):  # noqa: ASYNC110 (a retry, not a wait for a flag)
                await asyncio.sleep(1)

    async def _load(self, resource: Resource) -> bool:
        """One kind; False where the API server cannot answer just now."""
        try:
            async for page in self._kube.pages(resource):
                for obj in page:
                    self._store.put(resource, _typed(resource, obj))
        except ApiError as error:
            if error.status != 404:
                _LOG.warning("list failed, trying again", extra={"resource": resource.plural, "error": str(error)})
                self.missing = f"{resource.plural} cannot be listed: {error}"
                return False
            _LOG.warning("kind not served by this cluster", extra={"resource": resource.plural})
        self.missing = ""
        return True

    async def compare(self, resource: Resource) -> int:
        """Lists a kind and puts right what the store has otherwise; returns how many objects that were."""
        before = {key: obj["metadata"]["uid"] for key, obj in self._store.all(resource).items()}
        listed = await self._list(resource)
        if listed is None:
            return 0
        gone = [
            obj
            for key, obj in self._store.all(resource).items()
            if key not in listed and before.get(key) == obj["metadata"]["uid"]
        ]
        unseen = [obj for obj in listed.values() if self._lags(resource, obj)]
        if unseen or gone:
            await asyncio.sleep(IN_FLIGHT_SECONDS)
        gone = [obj for obj in gone if self._store.get(resource, key_of(obj)) is obj]
        unseen = await self._confirmed(resource, [obj for obj in unseen if self._lags(resource, obj)])
        for obj in gone:
            self._store.remove(resource, obj)
        for obj in unseen:
            self._store.put(resource, obj)
        if unseen:
            self.dead = resource.plural
        drift = len(gone) + len(unseen)
        if drift:
            self._telemetry.drift.labels(resource.plural).inc(drift)
            _LOG.error(
                "the watch missed objects",
                extra={"resource": resource.plural, "vanished": len(gone), "unseen": len(unseen)},
            )
        return drift

    async def _list(self, resource: Resource) -> dict[Key, JSON] | None:
        """All there is of a kind; None where the cluster does not have it."""
        listed: dict[Key, JSON] = {}
        try:
            async for page in self._kube.pages(resource):
                listed.update({key_of(obj): _typed(resource, obj) for obj in page})
        except ApiError as error:
            if error.status != 404:
                raise
            return None
        return listed

    async def _confirmed(self, resource: Resource, unseen: list[JSON]) -> list[JSON]:
        """Those of the objects that are still there, as they are now.

        One that was made and deleted between two events is none that the watch missed. A list rather than a get of
        each: Pods and Gateways may only be listed.
        """
        if not unseen:
            return []
        now = await self._list(resource) or {}
        there = [(obj, now[key_of(obj)]) for obj in unseen if key_of(obj) in now]
        return [
            newest
            for obj, newest in there
            if newest["metadata"]["uid"] == obj["metadata"]["uid"] and self._lags(resource, obj)
        ]

    def _lags(self, resource: Resource, listed: JSON) -> bool:
        """Whether the store has not seen this yet. A list is of one moment: what was deleted since has been seen."""
        known = self._store.get(resource, key_of(listed))
        if known is None:
            return not self._store.is_gone(listed)
        return newer(listed["metadata"]["resourceVersion"], known["metadata"]["resourceVersion"])


def _typed(resource: Resource, obj: JSON) -> JSON:
    """Objects of a list lack what the list says once."""
    return {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
