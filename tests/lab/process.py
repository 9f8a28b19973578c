"""Child processes that cannot outlive the lab, even one that is killed with SIGKILL.

Two lines of defence. Each child asks the kernel for SIGKILL when its parent dies (`launch.py`); that is
tied to the parent *thread*, so every child is started by one thread that lives as long as the process.
And a warden process waits for the lab's end of a pipe to close, then kills whatever still carries the
lab's id in its environment: a child's own children, which the first line does not reach.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

LAB_ID = "MODELDEPLOYMENT_LAB_ID"
_TESTS = Path(__file__).resolve().parent.parent
_LAUNCH = Path(__file__).with_name("launch.py")


def mortal(command: Sequence[str | Path]) -> list[str]:
    """The command, started so that it dies with the thread of this process that starts it."""
    return [sys.executable, "-I", "-S", str(_LAUNCH), str(os.getpid()), *(str(part) for part in command)]


class _Spawner:
    """One thread that starts every child of this process, and lives until the process dies."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[tuple[Callable[[], subprocess.Popen[bytes]], Future[object]]]
        self._requests = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def run(self, start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():  # not alive: we are a forked child
                self._thread = threading.Thread(target=self._serve, name="lab-spawner", daemon=True)
                self._thread.start()
        answer: Future[object] = Future()
        self._requests.put((start, answer))
        process = answer.result()
        assert isinstance(process, subprocess.Popen)
        return process

    def _serve(self) -> None:
        while True:
            start, answer = self._requests.get()
            try:
                answer.set_result(start())
            except BaseException as error:
                answer.set_exception(error)


_spawner = _Spawner()
PATIENCE = 120.0
"""Seconds after which what is waited for is taken not to come, also on a slow machine."""


class Child:
    """A program of the lab: started, stopped, killed and started again under one name and one log file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.command = [str(part) for part in command]
        self.log = log
        self.env = dict(env) if env is not None else dict(os.environ)
        self.cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None
        self._ended_here = False

    @property
    def pid(self) -> int:
        """The pid of the last start. Raises RuntimeError before the first."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """True while the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return None if self._process is None else self._process.poll()

    def start(self) -> Child:
        """Starts it (again), with the output appended to the log."""
        if self.alive:
            raise RuntimeError(f"{self.name} runs already")

        def popen() -> subprocess.Popen[bytes]:
            with self.log.open("ab") as log:
                return subprocess.Popen(
                    mortal(self.command),
                    env=self.env,
                    cwd=self.cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # a Ctrl-C in the terminal is for the lab, which stops in order
                )

        self._process, self._ended_here = _spawner.run(popen), False
        return self

    def stop(self, grace_seconds: float = 5) -> int | None:
        """SIGTERM, then SIGKILL after the grace period. Returns the exit code."""
        return self._end(signal.SIGTERM, grace_seconds)

    def kill(self) -> int | None:
        """SIGKILL, as `kill -9`. Returns when it is gone."""
        return self._end(signal.SIGKILL, 5)

    def signal(self, number: int) -> None:
        """Sends any other signal, e.g. SIGSTOP to make a process pause; any but SIGSTOP and SIGCONT may end it."""
        if self.alive:
            self._ended_here = self._ended_here or number not in (signal.SIGSTOP, signal.SIGCONT)
            os.kill(self.pid, number)

    @property
    def failed(self) -> bool:
        """Whether it ended, not well, and nobody ended it here."""
        return not self._ended_here and self.returncode not in (None, 0)

    def wait(self, timeout_seconds: float) -> int:
        """Waits for its own end. Raises subprocess.TimeoutExpired."""
        assert self._process is not None
        return self._process.wait(timeout_seconds)

    def tail(self, lines: int = 30) -> str:
        """The last lines of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def _end(self, number: int, grace_seconds: float) -> int | None:
        process = self._process
        if process is None:
            return None
        if process.poll() is None:
            self._ended_here = True
            os.kill(process.pid, number)
            try:
                process.wait(grace_seconds)
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.wait(PATIENCE)
        return process.returncode


def python_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for the lab's own Python children: they find the package `lab`."""
    return {**os.environ, "PYTHONPATH": str(_TESTS), "PYTHONUNBUFFERED": "1", **(extra or {})}


def check_alive(*children: Child) -> None:
    """Raises RuntimeError with its last words if one of them has ended."""
    for child in children:
        if not child.alive:
            raise RuntimeError(f"{child.name} ended with {child.returncode}:\n{child.tail()}")


def wait_until(what: str, check: Callable[[], bool], timeout_seconds: float, *children: Child) -> None:
    """Polls until `check` is true. Raises RuntimeError with a dead child's log, or TimeoutError."""
    deadline = time.monotonic() + timeout_seconds
    while not check():
        check_alive(*children)
        if time.monotonic() > deadline:
            logs = "\n".join(f"--- {child.name}\n{child.tail(10)}" for child in children)
            raise TimeoutError(f"{what}: not within {timeout_seconds:g} s\n{logs}")
        time.sleep(0.02)


class Warden:
    """Cleans up after a lab that was killed: its folder, and every process that carries its id."""

    def __init__(self, lab_id: str, folder: Path) -> None:
        code = Path(__file__).with_name("warden.py")
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", code, lab_id, folder], stdin=subprocess.PIPE, start_new_session=True
        )

    def dismiss(self) -> None:
        """An orderly end: the same clean-up, now."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(120)
