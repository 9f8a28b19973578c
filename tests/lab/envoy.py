"""Envoy as a process, and its configuration files written so that it never misses or half-reads one."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import aiohttp

from lab import envoy_config as config
from lab.translate import Plan

Object = dict[str, Any]
_LINGER_SECONDS = 10.0


def prepare(folder: Path, host: str) -> Path:
    """Writes the static configuration and empty dynamic files; returns the former's path."""
    for name in ("lds.json", "cds.json"):
        (folder / name).write_text(json.dumps(config.response("0", [])))
    path = folder / "bootstrap.json"
    path.write_text(json.dumps(config.bootstrap(folder, host)))
    return path


class EnvoyFiles:
    """Brings a running Envoy from one plan to the next, make before break, and knows when it got there."""

    def __init__(self, folder: Path, host: str) -> None:
        self._folder, self._host = folder, host
        self._admin = f"http://{host}:9901"
        self._session = aiohttp.ClientSession()
        self._written: dict[str, list[Object]] = {"lds.json": [], "cds.json": []}
        self._versions: dict[str, int] = {}
        self._unused_since: dict[str, float] = {}

    async def apply(self, plan: Plan) -> bool:
        """Applies the plan and returns when Envoy has it. True when clusters linger that need another call."""
        clusters = {name: config.cluster(name, addresses) for name, addresses in plan.clusters.items()}
        clusters |= self._lingering(set(clusters))
        if self._write("cds.json", [clusters[name] for name in sorted(clusters)]):
            # A route to a cluster that Envoy does not have yet would answer 503.
            await self._until_applied("cluster_manager.cds.version_text", "cds.json")
        for port in sorted(plan.ports):
            if self._write(f"rds-{port}.json", [config.routes(plan, port)]) and self._has_listener(port):
                await self._until_applied(f"http.port-{port}.rds.port-{port}.version_text", f"rds-{port}.json")
        listeners = [config.listener(self._folder, self._host, port) for port in sorted(plan.ports)]
        if self._write("lds.json", listeners):
            await self._until_applied("listener_manager.lds.version_text", "lds.json")
        return len(clusters) > len(plan.clusters)

    def _has_listener(self, port: int) -> bool:
        return any(item["name"] == f"port-{port}" for item in self._written["lds.json"])

    def _lingering(self, used: set[str]) -> dict[str, Object]:
        """A cluster that no route names any more stays for a while, for the requests it still has."""
        now = time.monotonic()
        unused = {item["name"]: item for item in self._written["cds.json"] if item["name"] not in used}
        since = {name: self._unused_since.get(name, now) for name in unused}
        self._unused_since = {name: began for name, began in since.items() if now - began < _LINGER_SECONDS}
        return {name: unused[name] for name in self._unused_since}

    def _write(self, name: str, resources: list[Object]) -> bool:
        """Replaces a file when its content differs. Envoy is told by the rename."""
        if self._written.get(name) == resources:
            return False
        self._versions[name] = self._versions.get(name, 0) + 1
        fresh = self._folder / f"{name}.new"
        fresh.write_text(json.dumps(config.response(str(self._versions[name]), resources)))
        fresh.rename(self._folder / name)
        self._written[name] = resources
        return True

    async def _until_applied(self, statistic: str, name: str) -> None:
        """Waits until Envoy reports the file's version and nothing is warming up."""
        wanted = f'{statistic}: "{self._versions[name]}"'
        names = f"^({statistic}|cluster_manager.warming_clusters|listener_manager.total_listeners_warming)$"
        while True:
            try:
                async with self._session.get(f"{self._admin}/stats", params={"filter": names}) as answer:
                    lines = (await answer.text()).splitlines()
                warming = [line for line in lines if "warming" in line and not line.endswith(": 0")]
                if wanted in lines and not warming:
                    return
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(0.1)  # Envoy is away; it reads the files when it comes back
            await asyncio.sleep(0.003)
