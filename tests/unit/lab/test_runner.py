"""The lab's node agent: pods that go while their processes are being started."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from lab import runner


class Zygote:
    """Writes down what it is asked for, and answers when it is told to."""

    def __init__(self) -> None:
        self.stdin, self.stdout = self, asyncio.StreamReader()
        self.asked: list[str] = []

    def write(self, line: bytes) -> None:
        """As a pipe's."""
        self.asked.append(json.loads(line)["id"])

    def answer(self, **told: Any) -> None:
        """As `lab.zygote` does."""
        self.stdout.feed_data(json.dumps(told).encode() + b"\n")


def run_by(zygote: Zygote) -> runner.Runner:
    """A runner of which this is the zygote."""
    own = runner.Runner()
    own._zygote = zygote  # type: ignore[assignment]
    return own


async def test_a_start_that_nobody_waits_for_any_more_leaves_nothing_and_stops_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pod is deleted before the zygote said which process it has: that one is killed, and the next pod starts."""
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(runner, "signal_group", lambda pid, number: killed.append((pid, number)))
    zygote = Zygote()
    own = run_by(zygote)

    async def fork() -> int:
        return (await own.fork(["server.py"], {}, Path(), Path("log"))).pid

    reader = asyncio.create_task(own._read_answers())
    first = asyncio.create_task(fork())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    second = asyncio.create_task(fork())
    await asyncio.sleep(0)
    for pid, identity in enumerate(zygote.asked, start=4001):
        zygote.answer(id=identity, pid=pid)
    await asyncio.wait([second, reader], timeout=10, return_when=asyncio.FIRST_COMPLETED)
    assert not reader.done(), "answers are not read any more: no pod would start"
    assert second.result() == 4002
    assert killed == [(4001, signal.SIGKILL)], "the process that nobody waited for goes on"
    reader.cancel()


async def test_an_answer_that_cannot_be_read_ends_the_agent(capsys: pytest.CaptureFixture[str]) -> None:
    """Rather than one that runs on and starts no pod any more."""
    zygote = Zygote()
    zygote.answer(id="nobody's", pid=1)
    with pytest.raises(SystemExit, match="the zygote's answers cannot be read"):
        await run_by(zygote)._read_answers()
    assert "KeyError" in capsys.readouterr().err
