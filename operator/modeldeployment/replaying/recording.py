"""A recording: what each decision was taken on, and what it came to, as lines of JSON. Pure; files are in journal.py.

The first line is the header. Every other line is one look: all inputs of `decide` and its outcome. What is as in the
line before is left out, except intervals: where they are not there, there are none. The status is
there only at the beginning and where it came from elsewhere (another leader, a person): else it is what the look before
came to. `memory` is there where a recording begins in the middle of a trial.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Final, get_type_hints

import pydantic

from modeldeployment import __version__
from modeldeployment.api.base import JSON
from modeldeployment.api.conditions import find
from modeldeployment.api.status import ModelDeploymentStatus
from modeldeployment.decision.decide import Decision
from modeldeployment.decision.evidence import History, Interval
from modeldeployment.decision.memory import Memory
from modeldeployment.decision.view import View
from modeldeployment.replaying.codec import decode, encode

FORMAT: Final = "modeldeployment-recording"
VERSION: Final = 1


_TYPES: Final[dict[str, Any]] = {**get_type_hints(View), "history": History | None}
_PARTS: Final = tuple(one.name for one in fields(View) if one.name not in ("status", "now"))
"""What of a look is written where it is not as in the line before: every input of `decide` but the status and the
time, so that no new one is forgotten."""


class RecordingError(Exception):
    """A recording that cannot be read. `str()` is a sentence for people."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a recording is of.

    Attributes:
        namespace, name: the ModelDeployment.
        began: when this file was begun.
        operator: version of the operator that wrote it.
    """

    namespace: str
    name: str
    began: datetime
    operator: str = __version__


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a look came to, as far as it is recorded.

    Attributes:
        records: the decisions, as JSON.
        state, message: of the condition Progressing.
        status: hash of the whole new status.
    """

    records: tuple[JSON, ...]
    state: str
    message: str
    status: str

    @classmethod
    def of(cls, decision: Decision) -> Outcome:
        """The outcome of a decision."""
        progressing = find(decision.status.conditions, "Progressing")
        return cls(
            records=tuple(record.to_json() for record in decision.records),
            state=progressing.reason if progressing else "",
            message=progressing.message if progressing else "",
            status=hashlib.sha256(text(decision.status.to_json()).encode()).hexdigest(),
        )

    def to_json(self) -> JSON:
        """As a line has it."""
        return {"records": list(self.records), "state": self.state, "message": self.message, "status": self.status}


@dataclass(frozen=True, slots=True)
class Look:
    """One look of a recording.

    Attributes:
        view: what was decided on; its status is empty where it is that of the look before.
        memory: the tests, where the look does not go on from the one before; else None.
        outcome: what it came to.
    """

    view: View
    memory: Memory | None
    outcome: Outcome


def text(data: Any) -> str:
    """JSON without blanks, keys in order: equal values are equal texts."""
    return json.dumps(data, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def header_line(header: Header) -> str:
    """The first line."""
    return text({"format": FORMAT, "version": VERSION, **encode(header)})


@dataclass
class Writer:
    """Looks → lines of one file. Remembers what the lines before said."""

    last: dict[str, Any] = field(default_factory=dict)
    before: Decision | None = None
    _objects: dict[str, object] = field(default_factory=dict)

    def line(self, view: View, decision: Decision, memory: Memory | None = None) -> str:
        """One look as a line. `memory`: the tests before it, where this file begins with it."""
        line: JSON = {"now": encode(view.now), **self._changed(view)}
        if view.evidence.intervals:
            line["intervals"] = encode(view.evidence.intervals, tuple[Interval, ...])
        if self.before is None or view.status is not self.before.status:
            line["status"] = view.status.to_json()
            line["memory"] = encode(memory or Memory())
        line["outcome"] = Outcome.of(decision).to_json()
        self.before = decision
        return text(line)

    def _changed(self, view: View) -> JSON:
        """The parts that are not as before."""
        parts = {name: getattr(view, name) for name in _PARTS}
        parts["evidence"] = replace(view.evidence, intervals=(), history=None)
        parts["history"] = view.evidence.history
        changed = {}
        for name, value in parts.items():
            if name in self._objects and self._objects[name] is value:
                continue
            self._objects[name] = value
            data = encode(value, _TYPES[name])
            if name not in self.last or self.last[name] != data:
                changed[name] = self.last[name] = data
        return changed


def read(lines: Iterable[str]) -> Iterator[Header | Look]:
    """The header, and every look; a last line that was cut off in the middle of its writing is left out.

    Raises:
        RecordingError: it is no recording, of another version, or damaged; says which line.
    """
    parts: dict[str, Any] = {}
    number = 0
    for number, line in enumerate(lines, start=1):
        if not line.endswith("\n"):
            return
        data = _json(line, number)
        if number == 1:
            yield _header(data)
            continue
        try:
            yield _look(data, parts)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise RecordingError(f"line {number} is damaged: {where}: {first['msg']}") from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RecordingError(f"line {number} is damaged: {type(error).__name__}: {error}") from None
    if not number:
        raise RecordingError("it is empty: not even its header was written")


def _json(line: str, number: int) -> JSON:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        raise RecordingError(
            "it is no recording: its first line is not JSON" if number == 1 else f"line {number} is not JSON: damaged"
        ) from None
    if not isinstance(data, dict):
        raise RecordingError(f"line {number} is no JSON object: it is no recording")
    return data


def _header(data: JSON) -> Header:
    if data.pop("format", None) != FORMAT:
        raise RecordingError(
            "it is no recording: the first line does not name its format (modeldeployment operator --record)"
        )
    version = data.pop("version", None)
    if version != VERSION:
        raise RecordingError(
            f"it is of version {version}, and this command reads version {VERSION}: use the modeldeployment command "
            f"that wrote it ({data.get('operator', 'unknown')})"
        )
    try:
        return decode(Header, data)
    except (ValueError, TypeError, KeyError):
        raise RecordingError("line 1 is damaged: it does not say what the recording is of") from None


def _look(data: JSON, parts: dict[str, Any]) -> Look:
    """One line; `parts` is what the lines before said, and is kept up."""
    for name, type_ in _TYPES.items():
        if name in data:
            parts[name] = decode(type_, data[name])
    intervals = decode(tuple[Interval, ...], data.get("intervals", ()))
    outcome = dict(data["outcome"])
    records = tuple(outcome.pop("records"))
    evidence = replace(parts["evidence"], intervals=intervals, history=parts["history"])
    view = View(
        **{name: parts[name] for name in _PARTS if name != "evidence"},
        evidence=evidence,
        status=ModelDeploymentStatus.model_validate(data.get("status", {})),
        now=decode(datetime, data["now"]),
    )
    memory = decode(Memory, data["memory"]) if "memory" in data else None
    return Look(view, memory, Outcome(records=records, **outcome))
