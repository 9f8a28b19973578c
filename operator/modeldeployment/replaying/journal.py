"""Recordings as they are written: DIR/<namespace>/<name>/<when it began>.jsonl, so many bytes for each model.

A file is complete in itself: a new one begins with the status and the tests as they are then. One begins when the
operator starts, when a file is full, and after it was removed or a line could not be written. Lines go to the files in
a thread of their own: a slow disk delays no decision.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from modeldeployment.decision.decide import Decision
from modeldeployment.decision.view import View
from modeldeployment.metrics import ModelKey
from modeldeployment.replaying.recording import Header, Writer, header_line
from modeldeployment.replaying.shelf import FILES, Shelf

_LOG = logging.getLogger(__name__)

WAITING_MAX: Final = 10_000
"""Lines that wait for the disk; of a model whose line found no room, a new file begins."""
STREAMS_MAX: Final = 20_000
"""Models whose file is remembered; of one more, the one that was silent longest gets a new file when it speaks."""

Took = Callable[[ModelKey, View, Decision], None]
"""Told of each decision that stands."""


def untold(_key: ModelKey, _view: View, _decision: Decision) -> None:
    """No recording."""


@dataclass
class _Stream:
    """One model's file."""

    path: Path
    began: datetime
    writer: Writer = field(default_factory=Writer)
    size: int = 0
    begun: bool = False
    failed: bool = False


class Journal:
    """Writes recordings. Close it, or use it as a context manager.

    Args:
        folder: where; it is made if need be.
        bytes_max: the most that one model's files have together.
        total_max: the most that all files have together; each model has its share of it.
        now: the clock, for the files' names.

    Raises:
        OSError: the folder cannot be made, or nothing can be written there.
    """

    def __init__(
        self,
        folder: Path,
        bytes_max: int = 64 * 2**20,
        total_max: int = 2**31,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"nothing can be written into {folder}")
        self._bytes_max, self._total_max, self._now = bytes_max, total_max, now
        self._shelf = Shelf(folder, total_max)
        self._streams: OrderedDict[ModelKey, _Stream] = OrderedDict()
        self._lines: queue.Queue[tuple[_Stream, str] | None] = queue.Queue(WAITING_MAX)
        self._told = False
        self._thread = threading.Thread(target=self._write_all, name="recording", daemon=True)
        self._thread.start()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def took(self, key: ModelKey, view: View, decision: Decision) -> None:
        """A decision that stands: `view` with the status that it was taken on. Never raises."""
        try:
            self._take(key, view, decision)
        except Exception:
            _LOG.exception("decision not recorded", extra={"model": "/".join(key)})
            self._streams.pop(key, None)

    def close(self) -> None:
        """Writes what waits, and ends."""
        self._lines.put(None)
        self._thread.join()

    def _take(self, key: ModelKey, view: View, decision: Decision) -> None:
        stream = self._streams.get(key)
        before = stream.writer.before if stream else None
        if stream is None or stream.failed or stream.size >= self._file_max():
            began = self._now()
            stream = self._streams[key] = _Stream(self._shelf.path(key, began), began)
            stream.size += self._queue(stream, header_line(Header(*key, began)))
        # The tests go on only from the decision before; with a status from elsewhere they began anew.
        goes_on = before is not None and before.status is view.status
        line = stream.writer.line(view, decision, before.memory if before is not None and goes_on else None)
        stream.size += self._queue(stream, line)
        self._streams.move_to_end(key)
        if len(self._streams) > STREAMS_MAX:
            self._streams.popitem(last=False)

    def _file_max(self) -> int:
        """Bytes after which a file is full: so what all models are writing is at most a quarter of all, and stays."""
        return min(self._bytes_max, self._total_max // max(1, len(self._streams))) // FILES

    def _queue(self, stream: _Stream, line: str) -> int:
        try:
            self._lines.put_nowait((stream, line + "\n"))
        except queue.Full:
            stream.failed = True
        return len(line.encode()) + 1

    def _write_all(self) -> None:
        while (waiting := self._lines.get()) is not None:
            stream, line = waiting
            if stream.failed:  # a line is missing: what follows would not make sense
                continue
            try:
                if not stream.begun:
                    self._shelf.begin(stream.path)
                    stream.begun = True
                self._shelf.append(stream.path, line.encode())
                self._told = False
            except FileNotFoundError:
                stream.failed = True
                _LOG.warning("a recording was removed, another one begins", extra={"file": str(stream.path)})
            except OSError as error:
                stream.failed = True
                if not self._told:
                    _LOG.error("recording not written", extra={"file": str(stream.path), "error": str(error)})
                self._told = True
