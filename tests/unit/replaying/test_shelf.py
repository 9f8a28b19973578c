"""The files of all recordings have a bound: what was written last stays, whosever it is."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modeldeployment.replaying.shelf import FILES, Shelf

LINE = b"x" * 99 + b"\n"
DAY = datetime(2026, 11, 1, tzinfo=UTC)


def put(shelf: Shelf, name: str, began: int, lines: int) -> Path:
    """A new file of a model, begun at such a minute, with so many lines; written then, as its disk has it."""
    path = shelf.path(("ml", name), DAY.replace(minute=began))
    shelf.begin(path)
    for _ in range(lines):
        shelf.append(path, LINE)
    if path.exists():
        os.utime(path, (began, began))
    return path


def names(folder: Path) -> list[str]:
    """Whose files are there, and the minute of their beginning."""
    return sorted(f"{path.parent.name}/{int(path.stem[11:13])}" for path in folder.glob("*/*/*.jsonl"))


def test_what_was_written_last_stays(tmp_path: Path) -> None:
    """Of all models, also of an operator before; with the last file of a model its folder goes."""
    before = Shelf(tmp_path, 10_000)
    put(before, "gone", 1, 4)
    put(before, "fraud", 2, 3)
    shelf = Shelf(tmp_path, 1000)
    old = put(shelf, "churn", 3, 3)
    assert names(tmp_path) == ["churn/3", "fraud/2", "gone/1"], "there was room for all"
    put(shelf, "fraud", 4, 1)
    assert names(tmp_path) == ["churn/3", "fraud/2", "fraud/4"]
    assert not (tmp_path / "ml" / "gone").exists()
    shelf.append(old, LINE)
    put(shelf, "rank", 5, 5)
    assert names(tmp_path) == ["churn/3", "fraud/4", "rank/5"], "what began first was written last"


def test_the_folders_of_the_last_file_go(tmp_path: Path) -> None:
    """And the one that all is in stays."""
    shelf = Shelf(tmp_path / "all", 100)
    other = shelf.path(("web", "rank"), DAY)
    shelf.begin(other)
    shelf.append(other, LINE)
    put(shelf, "fraud", 1, 1)
    assert [path.name for path in (tmp_path / "all").iterdir()] == ["ml"]


def test_who_begins_to_write_counts_what_is_there_then(tmp_path: Path) -> None:
    """A follower was started before the leader wrote; when it leads, the leader's files are in the bound."""
    follower, leader = Shelf(tmp_path, 500), Shelf(tmp_path, 500)
    put(leader, "fraud", 1, 5)
    put(follower, "churn", 2, 1)
    assert names(tmp_path) == ["churn/2"]


def test_the_file_that_is_written_stays(tmp_path: Path) -> None:
    """Also where it alone is longer than all may be; what was removed is missed."""
    shelf = Shelf(tmp_path, 200)
    old, new = put(shelf, "fraud", 1, 1), put(shelf, "churn", 2, 1)
    for _ in range(4):
        shelf.append(old, LINE)
    assert names(tmp_path) == ["fraud/1"]
    assert old.stat().st_size == 500
    with pytest.raises(FileNotFoundError):
        shelf.append(new, LINE)


def test_what_somebody_removed_is_room(tmp_path: Path) -> None:
    """Once it is missed."""
    shelf = Shelf(tmp_path, 600)
    removed = put(shelf, "fraud", 1, 3)
    put(shelf, "churn", 2, 3)
    removed.unlink()
    with pytest.raises(FileNotFoundError):
        shelf.append(removed, LINE)
    put(shelf, "rank", 3, 3)
    assert names(tmp_path) == ["churn/2", "rank/3"]


def test_a_model_has_so_many_files(tmp_path: Path) -> None:
    """Their bytes are free for others again."""
    shelf = Shelf(tmp_path, 100 * (FILES + 1))
    put(shelf, "churn", 0, 1)
    for number in range(1, 3 * FILES):
        put(shelf, "fraud", number, 1)
    assert names(tmp_path) == sorted(["churn/0", *(f"fraud/{n}" for n in range(2 * FILES, 3 * FILES))])


def test_other_files_are_let_alone(tmp_path: Path) -> None:
    """Whoever keeps something in the folder keeps it, also a recording that was given another name."""
    others = [tmp_path / "exports" / "2026" / "01-customers.jsonl", tmp_path / "ml" / "fraud" / "bug-4711.jsonl"]
    for other in others:
        other.parent.mkdir(parents=True)
        other.write_bytes(10 * LINE)
    shelf = Shelf(tmp_path, 300)
    for number in range(3 * FILES):
        put(shelf, "fraud", number, 2)
    assert all(other.exists() for other in others)
    assert len(names(tmp_path / "ml")) == 0
    assert len([*(tmp_path / "ml" / "fraud").iterdir()]) == 2, "the newest, and what is not ours"


def test_what_cannot_be_removed_is_in_nobodys_way(tmp_path: Path) -> None:
    """It is counted no more, and the next one goes."""
    stuck = Shelf(tmp_path, 300).path(("ml", "stuck"), DAY)
    stuck.mkdir(parents=True)  # no file: to unlink it fails
    os.utime(stuck, (0, 0))
    shelf = Shelf(tmp_path, 300)
    put(shelf, "fraud", 1, 3)
    put(shelf, "churn", 2, 3)
    assert names(tmp_path) == ["churn/2", "stuck/0"]


@pytest.mark.parametrize("short", [True, False], ids=["half a line", "nothing"])
def test_a_full_disk_gets_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: bool) -> None:
    """The line fails, what was written of it is counted, and the oldest file goes, so that the next one may not."""
    shelf = Shelf(tmp_path, 600)
    put(shelf, "fraud", 1, 3)
    new = put(shelf, "churn", 2, 1)
    real = os.write

    def full(descriptor: int, line: bytes) -> int:
        if short:
            return real(descriptor, line[:50])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="50 of 100 bytes" if short else "No space"):
            shelf.append(new, LINE)
    assert names(tmp_path) == ["churn/2"]
    put(shelf, "rank", 3, 5)
    assert names(tmp_path) == (["rank/3"] if short else ["churn/2", "rank/3"]), "650 bytes are too many, 600 are not"
