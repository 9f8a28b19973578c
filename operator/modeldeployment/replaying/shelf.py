"""The files of all recordings, DIR/<namespace>/<name>/<when it began>.jsonl: so many of each model, and so many bytes
in all. Those that began first go first, also of models that are gone; their folders go with the last one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

FILES: Final = 4
"""Files of one model: the oldest goes when a new one begins."""


class Shelf:
    """For one thread. What others add meanwhile is counted from the next start on.

    Args:
        folder: where.
        bytes_max: the most that all files have together, but for the one that is being written.
    """

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder, self._bytes_max = folder, bytes_max
        self._sizes: dict[Path, int] = {}
        """Bytes of each file, the oldest first."""
        self._total = 0
        self._looked = False

    def begin(self, path: Path) -> None:
        """A new file, empty.

        Raises:
            OSError: it cannot be made.
        """
        if not self._looked:  # only now: until it leads, another operator may write here
            self._look()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in sorted(path.parent.glob("*.jsonl"))[: -(FILES - 1)]:
            self._drop(old)
        path.touch(mode=0o600)  # a manifest may hold what is not for everybody
        self._sizes[path] = 0

    def append(self, path: Path, line: bytes) -> None:
        """One line of a file that was begun, by one write: a crash cuts the last one at most.

        Raises:
            FileNotFoundError: the file was among the oldest, or somebody removed it.
            OSError: it cannot be written.
        """
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            written = os.write(descriptor, line)
        finally:
            os.close(descriptor)
        self._sizes[path] += written
        self._total += written
        while self._total > self._bytes_max and (old := next((p for p in self._sizes if p != path), None)):
            self._drop(old)
        if written < len(line):
            raise OSError(f"only {written} of {len(line)} bytes were written: the disk is full")

    def _look(self) -> None:
        for path in sorted(self._folder.glob("*/*/*.jsonl"), key=lambda path: path.name):
            with contextlib.suppress(FileNotFoundError):
                self._sizes[path] = path.stat().st_size
        self._total, self._looked = sum(self._sizes.values()), True

    def _drop(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        self._total -= self._sizes.pop(path, 0)
        with contextlib.suppress(OSError):  # others are in it
            path.parent.rmdir()
            path.parent.parent.rmdir()
