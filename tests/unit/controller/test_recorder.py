"""Events over a fake API server: merged into series, and never a reason to end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from modeldeployment.api.base import JSON
from modeldeployment.controller.kube import ApiError, NotLeaderError
from modeldeployment.controller.recorder import NOTE_BYTES_MAX, SERIES_FOR, Recorder
from modeldeployment.controller.resources import EVENTS
from unit.controller.fake_kube import FakeKube

NOW = datetime(2026, 11, 24, tzinfo=UTC)
FRAUD = {"metadata": {"uid": "uid-fraud", "name": "fraud", "namespace": "ml"}}


class Rig:
    """A recorder that runs."""

    def __init__(self) -> None:
        self.kube = FakeKube()
        self.recorder = Recorder(self.kube)
        self.running = asyncio.create_task(self.recorder.run())

    async def tell(self, reason: str = "RolledBack", note: str = "too many errors", at: datetime = NOW) -> None:
        """An Event, written."""
        self.recorder.tell(FRAUD, "Warning", reason, note, at)
        await self.recorder.drain(60)

    @property
    def events(self) -> list[JSON]:
        """What the server has."""
        return [*self.kube.objects.get(EVENTS, {}).values()]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A recorder over a fake API server."""
    made = Rig()
    yield made
    made.running.cancel()
    await asyncio.wait([made.running])


async def test_repeats_are_one_event(rig: Rig) -> None:
    """The same told again within ten minutes is counted; after them it is an Event of its own."""
    await rig.tell()
    await rig.tell(at=NOW + timedelta(minutes=1))
    (event,) = rig.events
    assert event["series"] == {"count": 2, "lastObservedTime": "2026-11-24T00:01:00.000000Z"}
    await rig.tell(at=NOW + timedelta(minutes=2) + SERIES_FOR)
    assert len(rig.events) == 2


async def test_repeat_of_an_event_that_is_gone_is_told_anew(rig: Rig) -> None:
    """Somebody deleted it: there is one again, and the next repeat counts on that one."""
    await rig.tell()
    rig.kube.objects[EVENTS].clear()
    await rig.tell(at=NOW + timedelta(minutes=1))
    (event,) = rig.events
    assert "series" not in event
    await rig.tell(at=NOW + timedelta(minutes=2))
    (event,) = rig.events
    assert event["series"]["count"] == 2


async def test_note_is_cut_to_the_servers_bytes(rig: Rig) -> None:
    """The limit is of bytes, and sentences have ≥ and →."""
    await rig.tell(note="≥" * NOTE_BYTES_MAX)
    (event,) = rig.events
    assert len(event["note"].encode()) <= NOTE_BYTES_MAX
    assert event["note"].endswith("≥…")


@pytest.mark.parametrize(
    "error",
    [ApiError(0, "Unreachable", "gone"), ApiError(403, "Forbidden", "no"), NotLeaderError("no"), ValueError("defect")],
    ids=repr,
)
async def test_whatever_happens_the_next_event_is_written(
    rig: Rig, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An Event that cannot be written is lost, alone."""
    with monkeypatch.context() as patched:

        async def fail(*_: object) -> None:
            raise error

        patched.setattr(rig.kube, "create", fail)
        await rig.tell("First")
    await rig.tell("Second")
    assert [event["reason"] for event in rig.events] == ["Second"]
    assert not rig.running.done()


async def test_drain_does_not_wait_for_ever(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never answers does not keep the process from ending."""
    monkeypatch.setattr(rig.kube, "create", lambda *_: asyncio.Event().wait())
    rig.recorder.tell(FRAUD, "Normal", "Promoted", "2 serves", NOW)
    await asyncio.wait_for(rig.recorder.drain(0.01), 60)
    assert rig.events == []
