"""The files of all recordings have a bound: the oldest go, whosever they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from modeldeployment.replaying.shelf import FILES, Shelf

LINE = b"x" * 99 + b"\n"


def put(shelf: Shelf, path: Path, lines: int) -> None:
    """A new file with so many lines."""
    shelf.begin(path)
    for _ in range(lines):
        shelf.append(path, LINE)


def names(folder: Path) -> list[str]:
    """Whose files are there."""
    return sorted(f"{path.parent.name}/{path.stem}" for path in folder.glob("*/*/*.jsonl"))


def test_those_that_began_first_go_first(tmp_path: Path) -> None:
    """Of all models, also of an operator before; of one that has none left the folder goes."""
    before = Shelf(tmp_path, 10_000)
    put(before, tmp_path / "ml" / "gone" / "1.jsonl", 4)
    put(before, tmp_path / "ml" / "fraud" / "2.jsonl", 3)
    shelf = Shelf(tmp_path, 1000)
    put(shelf, tmp_path / "ml" / "churn" / "3.jsonl", 3)
    assert names(tmp_path) == ["churn/3", "fraud/2", "gone/1"], "there was room for all"
    put(shelf, tmp_path / "ml" / "fraud" / "4.jsonl", 1)
    assert names(tmp_path) == ["churn/3", "fraud/2", "fraud/4"]
    assert not (tmp_path / "ml" / "gone").exists()
    put(shelf, tmp_path / "web" / "rank" / "5.jsonl", 9)
    assert names(tmp_path) == ["fraud/4", "rank/5"]


def test_the_file_that_is_written_stays(tmp_path: Path) -> None:
    """Also where it alone is longer than all may be, and older than the others."""
    shelf = Shelf(tmp_path, 200)
    old, new = tmp_path / "ml" / "fraud" / "1.jsonl", tmp_path / "ml" / "churn" / "2.jsonl"
    put(shelf, old, 1)
    put(shelf, new, 1)
    shelf.append(old, LINE)
    assert names(tmp_path) == ["fraud/1"]
    for _ in range(3):
        shelf.append(old, LINE)
    assert old.stat().st_size == 500
    with pytest.raises(FileNotFoundError):
        shelf.append(new, LINE)


def test_a_model_has_so_many_files(tmp_path: Path) -> None:
    """Their bytes are free for others again."""
    shelf = Shelf(tmp_path, 100 * (FILES + 1))
    put(shelf, tmp_path / "ml" / "churn" / "0.jsonl", 1)
    for number in range(1, 3 * FILES):
        put(shelf, tmp_path / "ml" / "fraud" / f"{number:02}.jsonl", 1)
    assert names(tmp_path) == ["churn/0", *(f"fraud/{n:02}" for n in range(2 * FILES, 3 * FILES))]
