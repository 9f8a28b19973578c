"""Probes as a kubelet makes them: httpGet, tcpSocket and exec, with thresholds and periods."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

Object = dict[str, Any]
Exec = Callable[[list[str]], Awaitable[int]]


class Probe:
    """One probe of one container; `run` calls `report(ok, message)` when the verdict changes."""

    def __init__(self, spec: Object, address: str, ports: dict[str, int], execute: Exec) -> None:
        self._spec, self._address, self._ports, self._execute = spec, address, ports, execute
        self.period_seconds: float = spec.get("periodSeconds", 10)
        self.timeout_seconds: float = spec.get("timeoutSeconds", 1)
        self._needed = {True: spec.get("successThreshold", 1), False: spec.get("failureThreshold", 3)}

    async def run(self, report: Callable[[bool, str], None]) -> None:
        """Probes for ever. Cancel it to end."""
        await asyncio.sleep(self._spec.get("initialDelaySeconds", 0))
        last, in_a_row = None, 0
        due = time.monotonic()
        while True:
            ok, message = await self.once()
            in_a_row = in_a_row + 1 if ok is last else 1
            last = ok
            if in_a_row >= self._needed[ok]:
                report(ok, message)
            due = max(due + self.period_seconds, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    async def once(self) -> tuple[bool, str]:
        """One attempt: whether it passed, and the kubelet's words when it did not."""
        try:
            async with asyncio.timeout(self.timeout_seconds):
                return await self._attempt()
        except TimeoutError:
            return False, f"context deadline exceeded (timeout {self.timeout_seconds:g}s)"
        except (OSError, ValueError) as error:
            return False, str(error)

    async def _attempt(self) -> tuple[bool, str]:
        if http := self._spec.get("httpGet"):
            return await self._http_get(http)
        if tcp := self._spec.get("tcpSocket"):
            _, writer = await asyncio.open_connection(self._address, self._port(tcp["port"]))
            writer.close()
            return True, ""
        if command := self._spec.get("exec"):
            code = await self._execute(command["command"])
            return code == 0, f"command exited with {code}"
        return False, "the lab has no such kind of probe"

    async def _http_get(self, spec: Object) -> tuple[bool, str]:
        port = self._port(spec["port"])
        reader, writer = await asyncio.open_connection(self._address, port)
        try:
            headers = {"Host": f"{self._address}:{port}", "User-Agent": "kube-probe/1.37", "Connection": "close"}
            headers |= {header["name"]: header["value"] for header in spec.get("httpHeaders", [])}
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            writer.write(f"GET {spec.get('path', '/')} HTTP/1.1\r\n{lines}\r\n".encode())
            status_line = await reader.readline()
            status = int(status_line.split()[1])
            return 200 <= status < 400, f"HTTP probe failed with statuscode: {status}"
        except IndexError:
            return False, "malformed HTTP response"
        finally:
            writer.close()

    def _port(self, port: int | str) -> int:
        return port if isinstance(port, int) else self._ports[port]
