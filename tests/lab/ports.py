"""Ports of loopback for servers that are started in a moment."""

from __future__ import annotations

import contextlib
import random
import socket

_BELOW_CONNECTIONS = range(20_000, 32_000)
"""Linux gives connections ports from 32768 on: one of these is not taken by somebody's connection meanwhile."""


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Different ports that nobody has now.

    Raises:
        OSError: there are not that many.
    """
    with contextlib.ExitStack() as held:
        found: list[int] = []
        # Not of a seed, which two processes may have alike.
        for port in random.SystemRandom().sample(_BELOW_CONNECTIONS, len(_BELOW_CONNECTIONS)):
            holder = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                holder.bind((host, port))
                found.append(port)
            if len(found) == count:
                return found
    raise OSError(f"no {count} free ports on {host}")
