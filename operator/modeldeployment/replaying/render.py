"""What a replay came to, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from modeldeployment.api.base import JSON
from modeldeployment.replaying.rerun import Replayed

MESSAGE_MAX = 100


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows in columns of equal width; the last one is as long as it is."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]


def replay_text(done: Replayed) -> str:
    """The decisions, and whether they are those that were recorded."""
    lines = [f"{done.namespace}/{done.name}: {done.looks} looks decided again"]
    if done.records:
        rows = [("TIME", "EFFECT", "VERSION", "RULE", "MESSAGE"), *map(_row, done.records)]
        lines += table(rows)
    lines += done.notes
    lines.append(done.difference.sentence() if done.difference else _same(done))
    return "\n".join(lines)


def replay_json(done: Replayed) -> JSON:
    """All of it."""
    difference = done.difference
    return {
        "namespace": done.namespace,
        "name": done.name,
        "looks": done.looks,
        "same": difference is None,
        "decisions": done.records,
        "notes": done.notes,
        "difference": difference
        and {
            "time": difference.time.isoformat(),
            "what": difference.what,
            "recorded": difference.recorded,
            "replayed": difference.replayed,
        },
    }


def dump(data: JSON) -> str:
    """JSON for people and programs."""
    return json.dumps(data, indent=2, ensure_ascii=False)


def _same(done: Replayed) -> str:
    return f"the same {len(done.records)} decisions, byte for byte" if done.records else "no decision, as recorded"


def _row(record: JSON) -> tuple[str, ...]:
    message = record["message"]
    short = message if len(message) <= MESSAGE_MAX else message[: MESSAGE_MAX - 1] + "…"
    return record["time"], record["effect"], record["version"], record.get("rule", ""), short
