"""Open-loop load with a record of every request: what was sent when, who answered, how, and how fast."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lab.process import Child

PREDICT_BODY = '{"instances": [[5.1, 3.5, 1.4, 0.2]]}'


@dataclass(frozen=True)
class Record:
    """One request. `sent` is wall-clock seconds; status 0 means no answer, with `version` saying why."""

    sent: float
    status: int
    seconds: float
    version: str

    @property
    def bad(self) -> bool:
        """No answer, or a 5xx."""
        return self.status == 0 or self.status >= 500


@dataclass(frozen=True)
class Snapshot:
    """The requests answered so far, in the order they were answered."""

    records: tuple[Record, ...]

    def between(self, since: float = 0, until: float = float("inf")) -> Snapshot:
        """Only those sent in [since, until)."""
        return Snapshot(tuple(record for record in self.records if since <= record.sent < until))

    def counts(self) -> Counter[tuple[str, int]]:
        """How many by (version, status)."""
        return Counter((record.version, record.status) for record in self.records)

    def versions(self) -> Counter[str]:
        """How many by the version that answered ('' for the gateway itself)."""
        return Counter(record.version for record in self.records)

    def share(self, version: str) -> float:
        """The share of requests that this version answered, 0 to 1 (0 without requests)."""
        return self.versions()[version] / len(self.records) if self.records else 0.0

    @property
    def bad(self) -> int:
        """How many failed."""
        return sum(record.bad for record in self.records)

    @property
    def first_bad(self) -> float | None:
        """When the first failed request was sent."""
        return min((record.sent for record in self.records if record.bad), default=None)

    @property
    def last_bad(self) -> float | None:
        """When the last failed request was sent."""
        return max((record.sent for record in self.records if record.bad), default=None)

    def quantile(self, q: float) -> float:
        """The exact quantile of the latency, in seconds (0 without requests)."""
        ordered = sorted(record.seconds for record in self.records)
        return ordered[min(int(q * len(ordered)), len(ordered) - 1)] if ordered else 0.0


class Load:
    """A load generator in a process of its own. `duration_seconds` bounds it even if nobody stops it."""

    def __init__(
        self,
        url: str,
        prefix: Path,
        env: Mapping[str, str],
        hostname: str,
        rate: float,
        *,
        path: str = "/v1/predict",
        method: str = "POST",
        body: str = PREDICT_BODY,
        duration_seconds: float = 600,
        timeout_seconds: float = 10,
    ) -> None:
        parts = urlsplit(url)
        self._output = prefix.with_suffix(".jsonl")
        self._output.touch()
        settings = {
            "host": parts.hostname,
            "port": parts.port,
            "hostname": hostname,
            "rate": rate,
            "path": path,
            "method": method,
            "body": body,
            "durationSeconds": duration_seconds,
            "timeoutSeconds": timeout_seconds,
            "output": str(self._output),
        }
        config = prefix.with_suffix(".json")
        config.write_text(json.dumps(settings))
        command: list[str | Path] = [sys.executable, "-m", "lab.loadgen", config]
        self.child = Child(prefix.name, command, prefix.with_suffix(".log"), env=env)
        self._records: list[Record] = []
        self._offset = 0

    def start(self) -> Load:
        """Starts sending."""
        self.child.start()
        return self

    def stop(self) -> Snapshot:
        """Stops sending, waits for the answers that are due, and returns all records."""
        self.child.stop(grace_seconds=15)
        return self.snapshot()

    def snapshot(self) -> Snapshot:
        """The records so far; a request appears within 50 ms of its answer."""
        with self._output.open("rb") as file:
            file.seek(self._offset)
            fresh = file.read()
        complete = fresh[: fresh.rfind(b"\n") + 1]
        self._offset += len(complete)
        self._records.extend(_parse(complete.splitlines()))
        return Snapshot(tuple(self._records))

    def __enter__(self) -> Load:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _parse(lines: Iterable[bytes]) -> Iterable[Record]:
    return (Record(*json.loads(line)) for line in lines)
