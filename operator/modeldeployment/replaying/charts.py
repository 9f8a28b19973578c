"""Charts of a past rollout as SVG text: what both arms answered, and what the policy's rules proved."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from modeldeployment.replaying.judging import MILLION, Judged, Point

WIDTH, HEIGHT, LEFT, RIGHT, TOP, FOOT = 1160, 170, 58, 12, 22, 22
TICKS_MAX: Final = 8
_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


def shares(one: Judged) -> str:
    """Bad requests of each look, percent of each arm."""
    values = [v for p in one.points for v in (p.canary, p.stable) if v is not None]
    top = next((t for t in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if max(values, default=0.0) <= t), 1.0)
    ticks = [(0.0, "0"), (top / 2, f"{50 * top:g}"), (top, f"{100 * top:g}%")]
    chart = _Chart(one, "Bad requests", lambda value: value / top, ticks)
    chart.line("stable", lambda point: point.stable)
    chart.line("canary", lambda point: point.canary)
    return chart.svg()


def evidence(one: Judged) -> str:
    """E-values after each look, logarithmic."""
    scale = math.log(MILLION)
    ticks = [(1.0, "1"), (100.0, "100"), (10_000.0, "10,000"), (MILLION, "1,000,000")]
    chart = _Chart(one, "Evidence", lambda value: math.log(max(1.0, value)) / scale, ticks)
    chart.line("bad", lambda point: point.worse)
    chart.line("ok", lambda point: point.good)
    return chart.svg()


class _Chart:
    def __init__(
        self, one: Judged, title: str, place: Callable[[float], float], ticks: Sequence[tuple[float, str]]
    ) -> None:
        self._one, self._title, self._place = one, title, place
        rollout = one.rollout
        self._start = rollout.start
        times = [rollout.end, *(point.time for point in one.points)]
        self._seconds = max(1.0, *((time - rollout.start).total_seconds() for time in times))
        self._parts: list[str] = []
        for value, text in ticks:
            y = self._y(value)
            self._parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            self._text(LEFT - 6, y + 4, text, "end")
        step = next((s for s in _STEPS if self._seconds / s <= TICKS_MAX), self._seconds / TICKS_MAX)
        for number in range(int(self._seconds // step) + 1):
            self._text(self._at(number * step), HEIGHT - 6, _clock(number * step), "middle")

    def line(self, style: str, value: Callable[[Point], float | None]) -> None:
        """One line, broken where there is no value."""
        path, pen = [], "M"
        for point in self._one.points:
            has = value(point)
            if has is None:
                pen = "M"
                continue
            path.append(f"{pen}{self._x(point.time):.1f} {self._y(has):.1f}")
            pen = "L"
        self._parts.append(f'<path class="{style} line" d="{"".join(path)}"/>')

    def svg(self) -> str:
        """The chart, with what happened and what the policy would have done."""
        self._mark("canary", self._one.rollout.end, f"happened: {self._one.rollout.came.value}")
        if self._one.time is not None:
            self._mark("policy", self._one.time, f"policy: {self._one.came.value}")
        inside = "".join(self._parts)
        return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(self._title)}">{inside}</svg>'

    def _mark(self, style: str, time: datetime, told: str) -> None:
        x = self._x(time)
        anchor = "end" if x > WIDTH / 2 else "start"
        y = TOP - 8 if style == "policy" else TOP + 6
        self._parts.append(
            f'<g class="{style}"><line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{HEIGHT - FOOT}"/>'
            f'<text class="told" x="{x + (-5 if anchor == "end" else 5):.1f}" y="{y}" text-anchor="{anchor}">'
            f"{html.escape(told)}</text></g>"
        )

    def _x(self, time: datetime) -> float:
        return self._at((time - self._start).total_seconds())

    def _at(self, seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * max(0.0, seconds) / self._seconds

    def _y(self, value: float) -> float:
        return TOP + (HEIGHT - TOP - FOOT) * (1 - min(1.0, max(0.0, self._place(value))))

    def _text(self, x: float, y: float, text: str, anchor: str) -> None:
        self._parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>')


def _clock(seconds: float) -> str:
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"
