"""Starts the processes of containers, by executing a command or by a fork of the zygote."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import traceback
import uuid
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from pathlib import Path
from typing import Protocol

from lab.process import mortal, python_env


class Running(Protocol):
    """A container's process."""

    pid: int

    async def wait(self) -> int:
        """Its exit code as a container runtime gives it: 128 + n for signal n."""

    def signal(self, number: int) -> None:
        """Signals the process and what it started."""

    def clear(self) -> None:
        """Kills what it started and left behind when it ended."""


class Executed:
    """A process started by fork and exec."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.pid = process.pid

    async def wait(self) -> int:
        """The exit code."""
        return exit_code(await self._process.wait())

    def signal(self, number: int) -> None:
        """To the whole process group."""
        if self._process.returncode is None:
            signal_group(self.pid, number)

    def clear(self) -> None:
        """Kills the rest of its process group."""
        clear_group(self.pid)


class Forked:
    """A process forked from the zygote, which tells us when it ends."""

    def __init__(self, pid: int, ended: asyncio.Future[int]) -> None:
        self.pid = pid
        self._ended = ended

    async def wait(self) -> int:
        """The exit code."""
        status = await asyncio.shield(self._ended)
        return exit_code(os.waitstatus_to_exitcode(status))

    def signal(self, number: int) -> None:
        """To the whole process group."""
        if not self._ended.done():
            signal_group(self.pid, number)

    def clear(self) -> None:
        """Kills the rest of its process group."""
        clear_group(self.pid)


class Runner:
    """Starts processes; one zygote is started with it."""

    def __init__(self) -> None:
        self._zygote: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._started: dict[str, asyncio.Future[int]] = {}
        self._ended: dict[str, asyncio.Future[int]] = {}

    async def start_zygote(self) -> None:
        """Returns at once; requests wait in the pipe until its imports are done."""
        self._zygote = await asyncio.create_subprocess_exec(
            *mortal([sys.executable, "-m", "lab.zygote"]),
            stdin=PIPE,
            stdout=PIPE,
            env=python_env(),
            start_new_session=True,
        )
        self._reader = asyncio.create_task(self._read_answers())

    async def execute(self, command: list[str], env: dict[str, str], cwd: Path, log: Path) -> Running:
        """Executes a command. Raises FileNotFoundError when there is no such program."""
        if shutil.which(command[0], path=env["PATH"]) is None:
            raise FileNotFoundError(f'exec: "{command[0]}": executable file not found in $PATH')
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *mortal(command),
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
        return Executed(process)

    async def fork(self, script: list[str], env: dict[str, str], cwd: Path, log: Path) -> Running:
        """Runs a Python script with its arguments in a fork of the zygote."""
        assert self._zygote is not None and self._zygote.stdin is not None
        loop = asyncio.get_running_loop()
        identity = uuid.uuid4().hex
        self._started[identity], self._ended[identity] = loop.create_future(), loop.create_future()
        request = {"id": identity, "script": script, "env": env, "cwd": str(cwd), "log": str(log)}
        self._zygote.stdin.write(json.dumps(request).encode() + b"\n")
        started, ended = self._started[identity], self._ended[identity]
        try:
            return Forked(await asyncio.shield(started), ended)
        except asyncio.CancelledError:  # it is started all the same, and nobody waits for it any more
            started.add_done_callback(lambda pid: Forked(pid.result(), ended).signal(SIGKILL))
            raise

    async def _read_answers(self) -> None:
        assert self._zygote is not None and self._zygote.stdout is not None
        try:
            async for line in self._zygote.stdout:
                answer = json.loads(line)
                if "pid" in answer:
                    self._started.pop(answer["id"]).set_result(answer["pid"])
                else:
                    self._ended.pop(answer["id"]).set_result(answer["status"])
        except Exception:
            traceback.print_exc()
            sys.exit("the zygote's answers cannot be read")  # ends the agent: without them no pod starts or stops
        sys.exit("the zygote died")


def signal_group(pid: int, number: int) -> None:
    """Signals a process that still runs, and its group; a fresh fork may not lead its group yet."""
    for send in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(pid, number)
            return


def clear_group(pid: int) -> None:
    """Kills what is left of a group of which the leader has just ended.

    Call it at once: Linux gives the pid to nobody while the group has a member, but later it may be another's.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, SIGKILL)


def exit_code(returncode: int) -> int:
    """Python's negative signal number as a shell or a runtime writes it: -9 → 137."""
    return 128 - returncode if returncode < 0 else returncode


SIGTERM, SIGKILL = int(signal.SIGTERM), int(signal.SIGKILL)
