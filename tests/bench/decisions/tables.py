"""The report as a person reads it: Markdown tables like those of the derivation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from bench.decisions.measures import Row
from bench.decisions.peers import PEERS
from bench.decisions.run import WATCH

SIMPLE: Final = ("thr 0", "thr 1", "thr 3", "thr 5", "z peeked", "M-W", "poisson", "relative", "sequential")
TOOLS: Final = tuple(name for name in PEERS if name.split()[0] in ("argo", "flagger", "kayenta"))
DELAYS: Final = ("thr 0", "thr 1", "thr 5", "poisson", "relative", "sequential", "oracle vs stable", "oracle vs both")
_INTERVAL_OF: Final = ("relative", "sequential")
"""Rules whose intervals are printed; the JSON has those of all."""

Cells = Mapping[tuple[str, str], Row]
Say = Callable[[Row], str]


def report(rows: Sequence[Row]) -> str:
    """All tables that have rows."""
    cells = {(row.scenario, row.rule): row for row in rows}
    parts = [
        *_both("GOOD canary, rolled back %", rows, "good", cells),
        *_both("GOOD canary, other bursts, rolled back %", rows, "bursts", cells),
        *_both("LIMITS, rolled back % (5-min bursts: wrong; the canary alone: right)", rows, "limit", cells),
        _table("BAD, median s (p90)", _names(rows, "bad"), DELAYS, cells, _delay),
        _table("BAD, median s (p90), the tools", _names(rows, "bad"), ("sequential", *TOOLS), cells, _delay),
        _table("BAD, failed requests of the canary", _names(rows, "bad"), ("sequential", *TOOLS), cells, _bad),
        _table(
            "BAD beside a stable version that never fails, median s (p90)", _names(rows, "clean"), DELAYS, cells, _delay
        ),
        _table("Turns bad at minute 15, median s (p90)", _names(rows, "late"), DELAYS[:-2], cells, _delay),
        _table("Turns bad at minute 15, the tools", _names(rows, "late"), ("sequential", *TOOLS), cells, _delay),
        _table("Turns bad at minute 15, rolled back before, %", _names(rows, "late"), SIMPLE, cells, _before),
        _table("Both at detectable × bound", _names(rows, "promotion"), ("sequential",), cells, _proven),
        *_watch(rows, cells),
    ]
    return "\n\n".join(part for part in parts if part)


def share(row: Row) -> str:
    """Percent rolled back, with its interval."""
    return f"{_percent(row.share)} [{_percent(row.ci_low)}-{_percent(row.ci_high)}]"


def _names(rows: Sequence[Row], table: str) -> list[str]:
    return list(dict.fromkeys(row.scenario for row in rows if row.table == table))


def _both(title: str, rows: Sequence[Row], table: str, cells: Cells) -> list[str]:
    names = _names(rows, table)
    return [
        _table(title, names, SIMPLE, cells, _rolled_back),
        _table(f"{title}: the tools", names, ("sequential", *TOOLS), cells, _rolled_back),
    ]


def _watch(rows: Sequence[Row], cells: Cells) -> list[str]:
    names = _names(rows, WATCH)
    rules = tuple(dict.fromkeys(row.rule for row in rows if row.table == WATCH))
    return [
        _table("24 h after promotion, rolled back %", names, rules, cells, share),
        _table("24 h after promotion, median s (p90)", [n for n in names if "from hour" in n], rules, cells, _delay),
    ]


def _table(title: str, names: Sequence[str], rules: Sequence[str], cells: Cells, say: Say) -> str:
    """One line a scenario, one column a rule; nothing without a line."""
    if not names:
        return ""
    head = [title, *rules]
    body = [[name, *(say(cells[name, rule]) if (name, rule) in cells else "–" for rule in rules)] for name in names]
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]

    def line(of: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(of, widths, strict=True)) + " |"

    return "\n".join([line(head), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, body)])


def _percent(part: float) -> str:
    percent = 100 * part
    return f"{percent:.0f}" if percent >= 10 or percent == 0 else f"{percent:.2g}"


def _rolled_back(row: Row) -> str:
    return share(row) if row.rule in _INTERVAL_OF else _percent(row.share)


def _delay(row: Row) -> str:
    if row.median_seconds is None:
        return f"caught {_percent(row.share)} %"
    p90 = "–" if row.p90_seconds is None else f"{row.p90_seconds:g}"
    return f"{row.median_seconds:g} ({p90})"


def _bad(row: Row) -> str:
    return f"{row.bad_requests:.0f}"


def _before(row: Row) -> str:
    return _percent(row.before_onset / row.runs)


def _proven(row: Row) -> str:
    return f"promoted {_percent((row.promoted or 0) / row.runs)} %, rolled back {_percent(row.share)} %"
