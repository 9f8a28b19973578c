"""The gateway agent: a Gateway API controller in front of one Envoy. Run as `python -m lab.gateway CONFIG`.

Test equipment. A status is written only after Envoy has reported the configuration that it speaks of.
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from pathlib import Path
from typing import Any

from lab.container import now
from lab.envoy import EnvoyFiles
from lab.kube import MERGE_PATCH, Key, Kube, KubeError, Store
from lab.translate import CONTROLLER, Plan, World, plan

Object = dict[str, Any]
_API = "/apis/gateway.networking.k8s.io/v1"
# Changes often come in groups (a Deployment's pods, a route and its Service): one update for each group.
_DEBOUNCE_SECONDS = 0.01


class GatewayAgent:
    """Watches, plans, applies, reports."""

    def __init__(self, settings: Object) -> None:
        self._host: str = settings["host"]
        self._kube = Kube(Path(settings["kubeconfig"]))
        self._envoy = EnvoyFiles(Path(settings["folder"]), self._host)
        self._dirty = asyncio.Event()
        self._classes = self._store(f"{_API}/gatewayclasses")
        self._gateways = self._store(f"{_API}/gateways")
        self._routes = self._store(f"{_API}/httproutes")
        self._grants = self._store(f"{_API}/referencegrants")
        self._services = self._store("/api/v1/services")
        self._namespaces = self._store("/api/v1/namespaces")
        self._slices = self._store("/apis/discovery.k8s.io/v1/endpointslices")

    def _store(self, path: str) -> Store:
        return Store(self._kube, path, lambda old, new: self._dirty.set() if _matters(old, new) else None)

    async def run(self) -> None:
        """Runs for ever."""
        stores = (
            self._classes,
            self._gateways,
            self._routes,
            self._grants,
            self._services,
            self._namespaces,
            self._slices,
        )
        async with asyncio.TaskGroup() as group:
            for store in stores:
                group.create_task(store.run())
            await asyncio.gather(*(store.synced.wait() for store in stores))
            group.create_task(self._work())

    async def _work(self) -> None:
        lingering = False
        while True:
            try:
                async with asyncio.timeout(2 if lingering else None):
                    await self._dirty.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(_DEBOUNCE_SECONDS)
            self._dirty.clear()
            world = self._world()
            current = plan(world)
            lingering = await self._envoy.apply(current)
            await self._report(world, current)

    def _world(self) -> World:
        ours = {key[1] for key, item in self._classes.objects.items() if item["spec"]["controllerName"] == CONTROLLER}
        return World(
            gateways={
                key: item for key, item in self._gateways.objects.items() if item["spec"]["gatewayClassName"] in ours
            },
            # copies, so that a status is about the generation that was planned
            routes=dict(self._routes.objects),
            services=self._services.objects,
            slices=self._slices.objects,
            namespaces=self._namespaces.objects,
            grants=self._grants.objects,
        )

    async def _report(self, world: World, current: Plan) -> None:
        writes = []
        for key, item in self._classes.objects.items():
            if item["spec"]["controllerName"] == CONTROLLER:
                wanted = {"conditions": _merge(item, item, [_true("Accepted", "GatewayClass is accepted")])}
                writes.append(self._write(f"{_API}/gatewayclasses/{key[1]}", item, wanted))
        for key, item in world.gateways.items():
            writes.append(self._write(_path("gateways", key), item, self._gateway_status(key, item, current)))
        for key, item in world.routes.items():
            wanted = {"parents": _parents(item, current.route_parents.get(key, []))}
            writes.append(self._write(_path("httproutes", key), item, wanted))
        await asyncio.gather(*writes)

    def _gateway_status(self, key: Key, gateway: Object, current: Plan) -> Object:
        before = {entry["name"]: entry for entry in gateway.get("status", {}).get("listeners", [])}
        accepted, programmed = _true("Accepted", "accepted"), _true("Programmed", "Envoy has the configuration")
        listeners = []
        for listener in gateway["spec"]["listeners"]:
            old, conditions = before.get(listener["name"], {}), [accepted, programmed, _true("ResolvedRefs", "")]
            if listener["protocol"] != "HTTP":
                message = f"the lab has no protocol {listener['protocol']}"
                conditions = [
                    {"type": kind, "status": "False", "reason": reason, "message": message}
                    for kind, reason in (("Accepted", "UnsupportedProtocol"), ("Programmed", "Invalid"))
                ]
            listeners.append(
                {
                    "name": listener["name"],
                    "supportedKinds": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}],
                    "attachedRoutes": current.attached.get((*key, listener["name"]), 0),
                    "conditions": _merge(gateway, {"status": old}, conditions),
                }
            )
        return {
            "addresses": [{"type": "IPAddress", "value": self._host}],
            "conditions": _merge(gateway, gateway, [accepted, programmed]),
            "listeners": listeners,
        }

    async def _write(self, path: str, item: Object, status: Object) -> None:
        old = item.get("status", {})
        if all(old.get(name) == value for name, value in status.items()):
            return
        # With the resourceVersion: the list of parents is shared with other controllers.
        body = {"metadata": {"resourceVersion": item["metadata"]["resourceVersion"]}, "status": status}
        try:
            if await self._kube.persist("PATCH", f"{path}/status", body, MERGE_PATCH) is None:
                self._dirty.set()  # it changed meanwhile
        except KubeError:  # one object's status is refused: the others' routes go on
            traceback.print_exc()


def _matters(old: Object | None, new: Object | None) -> bool:
    """False for a change of status alone, such as our own, and for bookkeeping."""
    if old is None or new is None:
        return True
    if "spec" in new and "generation" in new["metadata"]:
        return bool(old["metadata"].get("generation") != new["metadata"]["generation"])
    return any(old.get(part) != new.get(part) for part in ("spec", "endpoints", "ports")) or (
        old["metadata"].get("labels") != new["metadata"].get("labels")
    )


def _parents(route: Object, wanted: list[Object]) -> list[Object]:
    existing = route.get("status", {}).get("parents", [])
    others = [parent for parent in existing if parent["controllerName"] != CONTROLLER]
    ours = {_identity(parent["parentRef"]): parent for parent in existing if parent["controllerName"] == CONTROLLER}
    result = []
    for parent in wanted:
        old = ours.get(_identity(parent["parentRef"]), {})
        result.append({**parent, "conditions": _merge(route, {"status": old}, parent["conditions"])})
    return others + result


def _identity(reference: Object) -> str:
    return json.dumps(reference, sort_keys=True)


def _merge(about: Object, before: Object, facts: list[Object]) -> list[Object]:
    """Conditions for the facts; the transition time moves only with the status, others' conditions stay."""
    old = {entry["type"]: entry for entry in before.get("status", {}).get("conditions", [])}
    merged = []
    for fact in facts:
        known = old.pop(fact["type"], None)
        same = known is not None and known["status"] == fact["status"]
        since = known["lastTransitionTime"] if known is not None and same else now()
        generation = about["metadata"].get("generation", 0)
        merged.append({**fact, "lastTransitionTime": since, "observedGeneration": generation})
    kept = [entry for entry in old.values() if "." in entry["type"]]
    return merged + kept


def _true(kind: str, message: str) -> Object:
    return {"type": kind, "status": "True", "reason": kind, "message": message}


def _path(collection: str, key: Key) -> str:
    return f"{_API}/namespaces/{key[0]}/{collection}/{key[1]}"


async def main(settings: Object) -> None:
    """Runs with the settings of the JSON file that the first argument names."""
    await GatewayAgent(settings).run()


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
