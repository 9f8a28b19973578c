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
        self._sizes: dict[Path, int] | None = None  # the oldest first; looked up when the first file begins

    def begin(self, path: Path) -> None:
        """A new file, empty.

        Raises:
            OSError: it cannot be made.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in sorted(path.parent.glob("*.jsonl"))[: -(FILES - 1)]:
            self._drop(old)
        path.touch(mode=0o600)  # a manifest may hold what is not for everybody
        self._known.setdefault(path, 0)

    def append(self, path: Path, line: bytes) -> None:
        """One line, by one write: a crash cuts the last one at most.

        Raises:
            FileNotFoundError: the file was among the oldest, or somebody removed it.
            OSError: it cannot be written.
        """
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            written = os.write(descriptor, line)
        finally:
            os.close(descriptor)
        self._known[path] = self._known.get(path, 0) + written
        if written < len(line):
            raise OSError(f"only {written} of {len(line)} bytes were written: the disk is full")
        self._total += written
        for old in list(self._known) if self._total > self._bytes_max else ():
            if self._total <= self._bytes_max:
                break
            if old != path:
                self._drop(old)

    @property
    def _known(self) -> dict[Path, int]:
        if self._sizes is None:
            found = sorted(self._folder.glob("*/*/*.jsonl"), key=lambda path: path.name)
            self._sizes = {}
            for path in found:
                with contextlib.suppress(FileNotFoundError):
                    self._sizes[path] = path.stat().st_size
            self._total = sum(self._sizes.values())
        return self._sizes

    def _drop(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        self._total -= self._known.pop(path, 0)
        with contextlib.suppress(OSError):  # others are in it
            path.parent.rmdir()
            path.parent.parent.rmdir()
