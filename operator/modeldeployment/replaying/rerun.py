"""A recording decided again: the same decisions, byte for byte, or the first that differs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from modeldeployment.api.base import JSON
from modeldeployment.api.status import ModelDeploymentStatus
from modeldeployment.decision.decide import decide
from modeldeployment.decision.memory import Memory
from modeldeployment.replaying.recording import Header, Look, Outcome, RecordingError, read


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a replay and what was recorded part.

    Attributes:
        time: of the decision.
        what: which part of it, such as `RolledBack: numbers.bad`.
        recorded, replayed: what either says of it.
    """

    time: datetime
    what: str
    recorded: Any
    replayed: Any

    def sentence(self) -> str:
        """In words."""
        return (
            f"differs at {self.time.isoformat()}: {self.what} was {_shown(self.recorded)}, and comes out as "
            f"{_shown(self.replayed)}"
        )


@dataclass(slots=True)
class Replayed:
    """What a replay came to.

    Attributes:
        namespace, name: the model.
        looks: how many were taken again.
        records: the decisions, as JSON, oldest first.
        difference: the first, if there is one; nothing after it was replayed.
        notes: what a reader must know beside.
    """

    namespace: str
    name: str
    looks: int = 0
    records: list[JSON] = field(default_factory=list)
    difference: Difference | None = None
    notes: list[str] = field(default_factory=list)


def rerun(lines: Iterable[str]) -> Replayed:
    """Decides every look of a recording again.

    Raises:
        RecordingError: it cannot be read.
    """
    parts = read(lines)
    header = next(parts, None)
    if not isinstance(header, Header):
        raise RecordingError("it is empty: not even its header was written")
    done = Replayed(header.namespace, header.name)
    status, memory = ModelDeploymentStatus(), Memory()
    for look in parts:
        assert isinstance(look, Look)  # only the first line is a header
        if look.memory is not None:
            status, memory = look.view.status, look.memory
        decision = decide(look.view.with_status(status), memory)
        status, memory = decision.status, decision.memory
        outcome = Outcome.of(decision)
        done.looks += 1
        done.records.extend(outcome.records)
        if outcome != look.outcome:
            done.difference = _difference(look, outcome)
            break
    if not done.looks:
        raise RecordingError("it holds no look: the operator ended before it decided anything")
    return done


def _difference(look: Look, came: Outcome) -> Difference:
    """The first thing in which two outcomes differ."""
    was, at = look.outcome, look.view.now
    if found := compare(list(was.records), list(came.records)):
        return Difference(at, *found)
    for what in ("state", "message"):
        if getattr(was, what) != getattr(came, what):
            return Difference(at, what, getattr(was, what), getattr(came, what))
    return Difference(at, "the hash of the status", was.status, came.status)


def compare(recorded: list[JSON], replayed: list[JSON]) -> tuple[str, Any, Any] | None:
    """The first difference of two lists of decisions: what, recorded, replayed."""
    for number in range(max(len(recorded), len(replayed))):
        one, other = (records[number] if number < len(records) else None for records in (recorded, replayed))
        if one is None or other is None:
            return "a decision", one and _named(one), other and _named(other)
        if one["effect"] != other["effect"] or one["revision"] != other["revision"]:
            return "a decision", _named(one), _named(other)
        if one != other:
            path, a, b = _inner(one, other)
            return f"{one['effect']}: {path}", a, b
    return None


def _named(record: JSON) -> str:
    return f"{record['effect']} of {record['version']} at {record['time']}"


def _inner(one: JSON, other: JSON) -> tuple[str, Any, Any]:
    """The first field that differs, and both of its values."""
    key = next(key for key in [*one, *other] if one.get(key) != other.get(key))
    a, b = one.get(key), other.get(key)
    if isinstance(a, dict) and isinstance(b, dict):
        path, a, b = _inner(a, b)
        return f"{key}.{path}", a, b
    return key, a, b


def _shown(value: Any) -> str:
    return "nothing" if value is None else f"{value!r}"
