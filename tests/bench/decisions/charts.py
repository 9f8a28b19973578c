"""Charts of the report as SVG text, for the documentation: readable on a light and on a dark page."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from bench.decisions.measures import Row

_LEFT, _RIGHT, _TOP, _ROW, _FOOT, _WIDTH = 310, 36, 64, 30, 40, 900
_STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#57606a}.title{font-size:15px;font-weight:600}"
    ".grid{stroke:#8c959f;stroke-opacity:.3}.limit{stroke:#cf222e;stroke-dasharray:4 3}.limit-text{fill:#cf222e}"
)
_COLOURS: Final = {
    "sequential": "#0969da",
    "argo": "#bf3989",
    "argo documented": "#e0a3c8",
    "flagger": "#bc4c00",
    "flagger documented 5": "#e6a06b",
    "kayenta": "#57606a",
    "kayenta documented": "#afb8c1",
    "oracle vs both": "#1a7f37",
}
RULES: Final = tuple(_COLOURS)


class Scale(NamedTuple):
    """A horizontal axis: value → 0 to 1, its marks, and a limit to draw."""

    at: Callable[[float], float]
    marks: Sequence[tuple[float, str]]
    limit: tuple[float, str] | None = None


def _share(value: float) -> float:
    """Percent on a square root: 0.1 % and 100 % on one axis, and 0 too."""
    return math.sqrt(min(max(value, 0.0), 1.0))


def _seconds(value: float) -> float:
    return min(max(math.log10(max(value, 10.0) / 10) / math.log10(180), 0.0), 1.0)


DELAYS: Final = Scale(_seconds, [(s, f"{s} s") for s in (10, 30, 60, 120, 300, 600, 1200, 1800)])


def false_rollbacks(rows: Sequence[Row], alpha: float) -> str:
    """Share of good rollouts rolled back, with 95 % intervals."""
    marks = [(p / 100, f"{p:g} %") for p in (0, 1, 5, 10, 25, 50, 75, 100)]
    scale = Scale(_share, marks, (alpha, f"α = {alpha:.0%}"))
    kept = [row for row in rows if row.table == "good"]
    return _chart("Good versions rolled back", kept, scale, lambda r: (r.share, r.ci_low, r.ci_high))


def delays(rows: Sequence[Row], table: str, title: str) -> str:
    """Median seconds until a bad version is rolled back, and the 90th percentile."""

    def of(row: Row) -> tuple[float, float, float] | None:
        if row.median_seconds is None:
            return None
        return row.median_seconds, row.median_seconds, row.p90_seconds or 1800.0

    return _chart(title, [row for row in rows if row.table == table], DELAYS, of)


def _chart(
    title: str, rows: Sequence[Row], scale: Scale, of: Callable[[Row], tuple[float, float, float] | None]
) -> str:
    """One line a scenario, a dot a rule, a bar from the second to the third number."""
    names = list(dict.fromkeys(row.scenario for row in rows))
    rules = [rule for rule in RULES if any(row.rule == rule for row in rows)]
    bottom = _TOP + _ROW * len(names)
    parts = [_text(16, 22, title, "start", "title")]
    parts += [_key(i, rule) for i, rule in enumerate(rules)]
    for value, label in scale.marks:
        parts += [_line(_x(scale, value), _TOP, bottom, "grid"), _text(_x(scale, value), bottom + 18, label, "middle")]
    if scale.limit:
        x = _x(scale, scale.limit[0])
        parts += [_line(x, _TOP, bottom, "limit"), _text(x + 4, bottom + 34, scale.limit[1], "start", "limit-text")]
    for i, name in enumerate(names):
        middle = _TOP + _ROW * (i + 0.5)
        parts.append(_text(_LEFT - 10, middle + 4, name, "end"))
        for row in rows:
            if row.scenario == name and row.rule in rules and (numbers := of(row)):
                offset = (rules.index(row.rule) - (len(rules) - 1) / 2) * (_ROW - 8) / len(rules)
                parts.append(_dot(scale, middle + offset, row, numbers))
    height = bottom + _FOOT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{html.escape(title)}"><style>{_STYLE}</style>{"".join(parts)}</svg>\n'
    )


def _x(scale: Scale, value: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * scale.at(value)


def _dot(scale: Scale, y: float, row: Row, numbers: tuple[float, float, float]) -> str:
    x, low, high = (_x(scale, value) for value in numbers)
    colour = _COLOURS[row.rule]
    return (
        f'<g stroke="{colour}" fill="{colour}"><title>{html.escape(row.rule)}: {row.rolled_back} of {row.runs}</title>'
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke-width="1.5"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{3.5 if row.rule == "sequential" else 2.5}"/></g>'
    )


def _key(i: int, rule: str) -> str:
    x, y = 24 + 220 * (i % 4), 38 + 14 * (i // 4)
    return f'<circle cx="{x}" cy="{y}" r="4" fill="{_COLOURS[rule]}"/>' + _text(x + 9, y + 4, rule, "start")


def _line(x: float, top: float, bottom: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{html.escape(text)}</text>'
