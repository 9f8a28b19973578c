"""The API server's way to pods and nodes: a proxy that reaches the loopback twins, and nothing else.

Webhooks behind a Service and the pod proxy make the API server connect to pod addresses. Those are 10.x here,
which must never leave the machine, so the API server sends all such connections through this socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from pathlib import Path
from typing import Any

from lab.scratch import listen_address


def configuration(socket: Path) -> dict[str, Any]:
    """The API server's EgressSelectorConfiguration."""
    connection = {"proxyProtocol": "HTTPConnect", "transport": {"uds": {"udsName": str(socket)}}}
    return {
        "apiVersion": "apiserver.k8s.io/v1beta1",
        "kind": "EgressSelectorConfiguration",
        "egressSelections": [{"name": "cluster", "connection": connection}],
    }


async def serve(socket: Path, block: int) -> None:
    """Answers CONNECT requests on the socket, for addresses of this lab's block."""
    await asyncio.start_unix_server(lambda reader, writer: _connect(reader, writer, block), socket)


async def _connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, block: int) -> None:
    with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        host, _, port = head.split()[1].rpartition(":")
        address = listen_address(host)
        if ipaddress.ip_address(address) in ipaddress.ip_network(f"127.{block}.0.0/16"):
            there_reader, there_writer = await asyncio.open_connection(address, int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))
            return
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    writer.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await source.read(1 << 16):
            target.write(chunk)
            await target.drain()
    target.close()
