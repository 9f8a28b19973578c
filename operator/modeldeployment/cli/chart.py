"""The evidence over time as lines of text, at most 80 columns wide; no colour, so that it can be piped and pasted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from modeldeployment.api.quantities import say_duration
from modeldeployment.decision.trail import Point

WIDTH: Final = 60
"""Columns of the plot itself; the labels take ten more."""
ROWS_A_DECADE: Final = 2
LOWEST, HIGHEST = -3 * ROWS_A_DECADE, 2 * ROWS_A_DECADE
"""Rows from what decides: beyond them the chart is cut."""


class Marks(NamedTuple):
    """What a chart is drawn with."""

    worse: str
    good: str
    both: str
    decides: str
    times: str
    side: str
    corner: str
    bottom: str
    weights: str


UNICODE: Final = Marks("●", "○", "◉", "╌", "×", "┤", "└", "─", " ▁▂▃▄▅▆▇█")
ASCII: Final = Marks("#", "o", "@", "-", "x", "|", "+", "-", " 12345678")
"""For a terminal that is not UTF-8. Weights are eighths."""


def draw(points: Sequence[Point], every: int, marks: Marks = UNICODE) -> list[str]:
    """The chart. `every`: seconds between two places of points. None at all: no lines."""
    if not points:
        return []
    columns = _columns(points, every)
    lines = [*_plot(columns, marks), _weights(columns, marks)]
    length = say_duration(points[-1].after)
    axis = marks.corner + marks.bottom * len(columns)
    return [*lines, f"{'':8}{axis}", f"{'':9}0s{length:>{max(1, len(columns) - 2)}}"]


def _columns(points: Sequence[Point], every: int) -> list[Point]:
    """The point that stands in each column: the last one up to its place."""
    places = points[-1].after // every + 1
    wide = max(1, WIDTH // places)
    out: list[Point] = []
    rest = list(points)
    now = rest.pop(0)
    for place in range(places):
        while rest and rest[0].after <= place * every:
            now = rest.pop(0)
        out += [now] * wide
    return out[:WIDTH]


def _plot(columns: Sequence[Point], marks: Marks) -> list[str]:
    worse = [_row(point.worse) for point in columns]
    good = [_row(point.good) for point in columns]
    known = [row for row in (*worse, *good) if row is not None]
    if not known:
        return []
    return [
        f"{_label(row, marks):>8}{marks.side}"
        + "".join(_mark(row, *at, marks) for at in zip(worse, good, strict=True)).rstrip()
        for row in range(max(1, *known), min(-ROWS_A_DECADE, *known) - 1, -1)
    ]


def _row(log10: float | None) -> int | None:
    """Rows above what decides; rounded down, so that what does not decide stays below the line."""
    return None if log10 is None else max(LOWEST, min(HIGHEST, math.floor(ROWS_A_DECADE * log10)))


def _mark(row: int, worse: int | None, good: int | None, marks: Marks) -> str:
    match worse == row, good == row:
        case True, True:
            return marks.both
        case True, False:
            return marks.worse
        case False, True:
            return marks.good
    return marks.decides if row == 0 else " "


def _label(row: int, marks: Marks) -> str:
    decade, between = divmod(row, ROWS_A_DECADE)
    if between:
        return ""
    return "decides" if decade == 0 else f"{marks.times}{10**decade}" if decade > 0 else f"1/{10**-decade:,}"


def _weights(columns: Sequence[Point], marks: Marks) -> str:
    """Percent of the traffic as small bars: any weight above 0 is seen."""
    bars = "".join(marks.weights[math.ceil(point.weight / 100 * (len(marks.weights) - 1))] for point in columns)
    return f"{'weight':>8}{marks.side}{bars} {columns[-1].weight}%"
