"""Recordings as files: complete each, bounded, and never in the way of a decision."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from modeldeployment.decision.decide import Decision
from modeldeployment.decision.view import View
from modeldeployment.replaying import journal as module
from modeldeployment.replaying.journal import Journal
from modeldeployment.replaying.recording import Look, read
from modeldeployment.replaying.rerun import rerun
from modeldeployment.replaying.shelf import FILES
from unit.decision.worlds import START, Behaviour
from unit.replaying.recorded import RecordedWorld

KEY = ("default", "fraud")


def clock() -> datetime:
    """A later moment each time."""
    return START + timedelta(seconds=next(_TICKS))


_TICKS = count()


@pytest.fixture(scope="module")
def taken() -> list[tuple[View, Decision]]:
    """The looks of a rollout that was rolled back."""
    world = RecordedWorld(versions={"2": Behaviour(errors=0.02)})
    world.serving().ask("2")
    world.until("RolledBack")
    return world.taken


def files(folder: Path) -> list[Path]:
    """A model's recordings, oldest first."""
    return sorted((folder / "default" / "fraud").glob("*.jsonl"))


def until(what: str, check: Callable[[], object]) -> None:
    """Waits for the thread that writes."""
    for _ in range(10_000):
        if check():
            return
        time.sleep(0.001)
    pytest.fail(f"{what}: it did not happen")


def read_times(path: Path) -> list[datetime]:
    """When the looks of a file were."""
    with path.open() as lines:
        return [one.view.now for one in read(lines) if isinstance(one, Look)]


def replayed(path: Path) -> int:
    """Looks of a file, all as recorded."""
    with path.open() as lines:
        done = rerun(lines)
    assert done.difference is None
    return done.looks


def test_what_is_written_replays(tmp_path: Path, taken: list[tuple[View, Decision]]) -> None:
    """One file, nobody else's to read, with every decision."""
    with Journal(tmp_path / "new", now=clock) as journal:
        for view, decision in taken:
            journal.took(KEY, view, decision)
    (path,) = files(tmp_path / "new")
    assert replayed(path) == len(taken)
    assert path.stat().st_mode & 0o077 == 0


def test_the_next_operator_begins_another_file(tmp_path: Path, taken: list[tuple[View, Decision]]) -> None:
    """Nothing is appended to what another process began."""
    for part in (taken[:5], taken[5:]):
        with Journal(tmp_path, now=clock) as journal:
            # The next process reads the status anew.
            for view, decision in part:
                journal.took(KEY, view, decision)
    assert [replayed(path) for path in files(tmp_path)][:1] == [5]
    assert len(files(tmp_path)) == 2


def test_a_model_has_no_more_than_its_bytes(tmp_path: Path, taken: list[tuple[View, Decision]]) -> None:
    """Full files are followed by others, the oldest goes, and each that is left replays by itself."""
    size = 60_000
    with Journal(tmp_path, bytes_max=size, now=clock) as journal:
        for _ in range(6):
            for view, decision in taken:
                journal.took(KEY, view, decision)
    kept = files(tmp_path)
    assert len(kept) == FILES
    longest = 12_000  # one look with all that it can say
    assert sum(path.stat().st_size for path in kept) <= size + FILES * longest
    assert all(replayed(path) for path in kept)


def test_a_disk_that_fails_is_told_and_gets_another_file(
    tmp_path: Path,
    taken: list[tuple[View, Decision]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No decision fails for it; once the disk takes lines again, a new file begins, complete."""
    real = os.write
    full = True

    def write(descriptor: int, data: bytes) -> int:
        if full:
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    with Journal(tmp_path, now=clock) as journal:
        for view, decision in taken[:4]:
            journal.took(KEY, view, decision)
        until("it failed", lambda: journal._streams[KEY].failed)
        full = False
        for view, decision in taken[4:]:
            journal.took(KEY, view, decision)
    assert [r.message for r in caplog.records] == ["recording not written"]
    assert replayed(files(tmp_path)[-1]) == len(taken) - 4


def test_lines_that_find_no_room_begin_a_new_file(
    tmp_path: Path, taken: list[tuple[View, Decision]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that is full loses lines, and no file lacks one in the middle."""
    monkeypatch.setattr(module, "WAITING_MAX", 2)
    with Journal(tmp_path, now=clock) as journal:
        for view, decision in taken:
            journal.took(KEY, view, decision)
    assert all(replayed(path) for path in files(tmp_path) if len(path.read_text().splitlines()) > 1)


def test_a_file_that_was_removed_is_followed_by_another(
    tmp_path: Path, taken: list[tuple[View, Decision]], caplog: pytest.LogCaptureFixture
) -> None:
    """What comes next is complete again; that a decision is lost with it is told."""
    with Journal(tmp_path, now=clock) as journal:
        journal.took(KEY, *taken[0])
        until("the first look is written", lambda: [p for p in files(tmp_path) if p.read_text().count("\n") == 2])
        (first,) = files(tmp_path)
        first.unlink()
        journal.took(KEY, *taken[1])
        until("it is missed", lambda: journal._streams[KEY].failed)
        for view, decision in taken[2:]:
            journal.took(KEY, view, decision)
    (second,) = files(tmp_path)
    assert second != first, "the file that was removed goes on without its beginning"
    assert replayed(second) == len(taken) - 2
    assert [r.message for r in caplog.records] == ["a recording was removed, another one begins"]


def test_all_models_have_no_more_than_all_bytes(
    tmp_path: Path, taken: list[tuple[View, Decision]], caplog: pytest.LogCaptureFixture
) -> None:
    """More models than there is room for four full files of each: their files are shorter, the last decisions of each
    are there, and none is lost while it is written."""
    total, keys = 600_000, [("default", f"model-{number:02}") for number in range(20)]
    with Journal(tmp_path, bytes_max=total, total_max=total, now=clock) as journal:
        for _ in range(3):
            for view, decision in taken:
                for key in keys:
                    journal.took(key, view, decision)
    kept = [*tmp_path.glob("*/*/*.jsonl")]
    assert sum(path.stat().st_size for path in kept) <= total
    assert not caplog.records, "a file was removed while it was written"
    for key in keys:
        (*_, last) = sorted((tmp_path / key[0] / key[1]).glob("*.jsonl"))
        assert replayed(last)
        assert read_times(last)[-1] == taken[-1][0].now, f"the last decision of {key[1]} is lost"


def test_a_model_alone_has_no_more_than_all_bytes(tmp_path: Path, taken: list[tuple[View, Decision]]) -> None:
    """Also where one model might have more."""
    total = 60_000
    with Journal(tmp_path, bytes_max=100 * total, total_max=total, now=clock) as journal:
        for _ in range(6):
            for view, decision in taken:
                journal.took(KEY, view, decision)
    assert sum(path.stat().st_size for path in files(tmp_path)) <= total


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    """At the start, not at the first decision."""
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        Journal(tmp_path / "file")
