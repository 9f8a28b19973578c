"""The load generator's process: an open loop of HTTP requests at a fixed rate. Run by `lab.load`.

Open loop: a request is sent when its time has come, whether or not earlier ones were answered, so a slow
server cannot slow down the load that shows how slow it is. Only loopback addresses are accepted.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

Object = dict[str, Any]
_FLUSH_SECONDS = 0.05


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on it."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, str]] | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, str]]:
        """Sends a request; the future gets (status, value of x-model-version)."""
        assert self.transport is not None
        self._buffer = b""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator or self._answer is None or self._answer.done():
            return
        status_line, *lines = head.split(b"\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        chunked = headers.get(b"transfer-encoding") == b"chunked"
        if body.endswith(b"0\r\n\r\n") if chunked else len(body) >= int(headers.get(b"content-length", 0)):
            version = headers.get(b"x-model-version", b"").decode()
            self._answer.set_result((int(status_line.split()[1]), version))

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("closed by the server"))

    @property
    def usable(self) -> bool:
        """False once the other side has closed it."""
        return self.transport is not None and not self.transport.is_closing()


class Generator:
    """Sends, and writes a JSON line [sent, status, seconds, version] for each request."""

    def __init__(self, settings: Object) -> None:
        self._host, self._port = settings["host"], settings["port"]
        if not ipaddress.ip_address(self._host).is_loopback:
            raise SystemExit("the load generator sends to loopback addresses only")
        self._rate: float = settings["rate"]
        self._total = int(settings["durationSeconds"] * self._rate)
        self._timeout: float = settings["timeoutSeconds"]
        body = settings["body"].encode()
        self._request = (
            f"{settings['method']} {settings['path']} HTTP/1.1\r\nHost: {settings['hostname']}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        self._output = Path(settings["output"])
        self._idle: list[Connection] = []
        self._lines: list[str] = []
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Runs until the duration is over or SIGTERM, then waits for the answers that are due."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        flusher = asyncio.create_task(self._flush())
        pending: set[asyncio.Task[None]] = set()
        begin = loop.time()
        for number in range(self._total):
            delay = begin + number / self._rate - loop.time()
            if delay > 0:
                await asyncio.sleep(delay)
            if self._stop.is_set():
                break
            task = loop.create_task(self._send())
            pending.add(task)
            task.add_done_callback(pending.discard)
        if pending:
            await asyncio.wait(pending, timeout=self._timeout + 1)
        flusher.cancel()
        self._write()

    async def _send(self) -> None:
        sent, started = time.time(), time.perf_counter()
        status, version = 0, ""  # 0: no answer
        try:
            async with asyncio.timeout(self._timeout):
                connection = await self._connection()
                status, version = await connection.ask(self._request)
            self._idle.append(connection)
        except (OSError, ValueError, IndexError) as error:  # TimeoutError is an OSError
            version = type(error).__name__
        seconds = time.perf_counter() - started
        self._lines.append(f'[{sent:.6f},{status},{seconds:.6f},"{version}"]\n')

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self._host, self._port)
        return connection

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            self._write()

    def _write(self) -> None:
        if self._lines:
            with self._output.open("a") as file:
                file.write("".join(self._lines))
            self._lines.clear()


async def main(settings: Object) -> None:
    """Runs with the settings of the JSON file that the first argument names."""
    await Generator(settings).run()


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
