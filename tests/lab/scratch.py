"""What a lab takes from the machine: a private folder and a block of loopback addresses, both given back.

Every lab has a number N. Its servers listen on 127.N.0.1 and its pods on 127.N.1.1 and up, so labs never
compete for ports and every port in a log says what it is. An EndpointSlice refuses loopback addresses,
so the cluster knows each pod by its twin 10.N.x.y, and whatever connects maps one to the other.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from pathlib import Path

_PREFIX = f"modeldeployment-lab-{os.getuid()}-"
# 10.96.0.0/16 is the range of Service addresses.
_BLOCKS = [number for number in range(64, 250) if number != 96]
_LOCK_PORT = 61999


class AddressBlock:
    """A /16 of loopback addresses of this lab's own, held by a bound socket: so it is free when we die."""

    def __init__(self) -> None:
        for number in _BLOCKS:
            holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                holder.bind((f"127.{number}.255.254", _LOCK_PORT))
            except OSError:
                holder.close()
                continue
            holder.listen(1)  # bound alone, another user's lab could bind it too with SO_REUSEADDR
            self.number, self._holder = number, holder
            return
        raise RuntimeError("no free block of loopback addresses: too many labs on this machine")

    @property
    def host(self) -> str:
        """The address that the lab's servers listen on."""
        return f"127.{self.number}.0.1"

    def release(self) -> None:
        """Gives the block back."""
        self._holder.close()


def listen_address(pod_ip: str) -> str:
    """The loopback twin that a pod's process listens on: 10.77.0.5 → 127.77.0.5."""
    return "127." + pod_ip.removeprefix("10.") if pod_ip.startswith("10.") else pod_ip


def make_folder() -> Path:
    """A new private folder (mode 700), marked with the process that owns it."""
    _reap_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    (folder / "owner").write_text(f"{os.getpid()} {_start_time(os.getpid())}")
    return folder


def remove_folder(folder: Path) -> None:
    """Removes the folder; what a dying process still writes into it must not fail a test."""
    shutil.rmtree(folder, ignore_errors=True)


def _reap_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            pid, started = (folder / "owner").read_text().split()
            abandoned = _start_time(int(pid)) != int(started)
        except (OSError, ValueError):
            # No owner yet: another lab may be between its two steps.
            abandoned = folder.exists() and time.time() - folder.stat().st_mtime > 60
        if abandoned:
            remove_folder(folder)


def _start_time(pid: int) -> int:
    """The start time of a process in clock ticks, 0 when there is none: pids are used again, this is not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[19])
