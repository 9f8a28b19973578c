"""The files of all recordings, DIR/<namespace>/<name>/<when it began>.jsonl: so many of each model, and so many bytes
in all. What was written last stays; a model's folder goes with its last file. Other files are let alone."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from modeldeployment.metrics import ModelKey

FILES: Final = 4
"""Files of one model: the oldest goes when a new one begins."""
_NAME: Final = re.compile(r"\d{8}T\d{6}\.\d{6}Z\.jsonl")
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class Shelf:
    """For one thread. What others add or remove meanwhile is counted from the next start on.

    Args:
        folder: where.
        bytes_max: the most that all files have together. Of the one that is being written nothing is taken away.
    """

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder, self._bytes_max = folder, bytes_max
        self._sizes: dict[Path, int] = {}
        """Bytes of each file; the one that was written last is the last."""
        self._total = 0
        self._looked = False

    def path(self, key: ModelKey, began: datetime) -> Path:
        """What a model's file is called."""
        return self._folder / key[0] / key[1] / f"{began.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}.jsonl"

    def begin(self, path: Path) -> None:
        """A new file, empty.

        Raises:
            OSError: it cannot be made.
        """
        if not self._looked:  # only now: until it leads, another operator may write here
            self._look()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)  # a manifest may hold what is not for everybody
        self._sizes[path] = 0
        for old in sorted(_recordings(path.parent))[:-FILES]:
            self._drop(old)

    def append(self, path: Path, line: bytes) -> None:
        """One line of a file that was begun, by one write: a crash cuts the last one at most.

        Raises:
            FileNotFoundError: the file was removed.
            OSError: it cannot be written. Where the disk is full, there is room for the next one.
        """
        size = self._sizes.pop(path, 0)
        self._total -= size
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        written = 0
        try:
            written = os.write(descriptor, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, f"only {written} of {len(line)} bytes were written")
        except OSError as error:
            if error.errno in _FULL:
                self._drop_oldest()
            raise
        finally:
            os.close(descriptor)
            self._sizes[path] = size + written
            self._total += size + written
        while self._total > self._bytes_max and len(self._sizes) > 1:
            self._drop_oldest()

    def _look(self) -> None:
        found = []
        for path in (path for folder in self._folder.glob("*/*") for path in _recordings(folder)):
            with contextlib.suppress(OSError):
                found.append((path.stat().st_mtime, path, path.stat().st_size))
        self._sizes = {path: size for _, path, size in sorted(found)}
        self._total, self._looked = sum(self._sizes.values()), True

    def _drop_oldest(self) -> None:
        if self._sizes:
            self._drop(next(iter(self._sizes)))

    def _drop(self, path: Path) -> None:
        with contextlib.suppress(OSError):  # it is gone, or not ours to remove: it is counted no more
            path.unlink()
        self._total -= self._sizes.pop(path, 0)
        with contextlib.suppress(OSError):  # others are in it
            path.parent.rmdir()
            path.parent.parent.rmdir()


def _recordings(folder: Path) -> Iterator[Path]:
    """The files in a model's folder that have a recording's name."""
    return (path for path in folder.glob("*.jsonl") if _NAME.fullmatch(path.name))
