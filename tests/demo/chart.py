"""Charts over one time axis, as SVG text: acts as bands behind them, marks as lines with hover text."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from demo.history import Lines, Recording

WIDTH, LEFT, RIGHT, HEAD, FOOT = 1160, 58, 12, 8, 22
LANE = 34
"""Height above the first chart for the acts' numbers and the marks."""
GLYPHS = {"forward": "▲", "backward": "▼", "done": "●"}


@dataclass(frozen=True)
class Axis:
    """A vertical axis from 0 to `top`, at these (value, label)."""

    top: float
    ticks: Sequence[tuple[float, str]]
    logarithmic: bool = False
    rules: Sequence[tuple[float, str]] = ()

    def at(self, value: float) -> float:
        """0 at the bottom, 1 at the top."""
        if self.logarithmic:
            return min(1.0, max(0.0, math.log10(max(value, 1.0)) / math.log10(self.top)))
        return min(1.0, max(0.0, value / self.top))


class Chart:
    """One chart; `svg` puts it together."""

    def __init__(self, recording: Recording, title: str, axis: Axis, *, height: int = 130, lane: bool = False) -> None:
        self._recording, self._title, self._axis = recording, title, axis
        self._head = HEAD + (LANE if lane else 0)
        self._height = height + self._head + FOOT
        self._lane = lane
        self._parts: list[str] = []
        self._frame()

    def x(self, seconds: float) -> float:
        """Seconds → pixels."""
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(seconds, 0.0), self._recording.end) / self._recording.end

    def y(self, value: float) -> float:
        """A value → pixels."""
        return self._head + (self._height - self._head - FOOT) * (1 - self._axis.at(value))

    def stacked(self, colour: dict[str, str]) -> None:
        """The weights, one upon the other, as they were at each moment."""
        steps = [*self._recording.weights]
        ends = [*(at for at, _ in steps[1:]), self._recording.end]
        widest: dict[str, tuple[float, float, float]] = {}
        for (at, weights), end in zip(steps, ends, strict=True):
            below = 0.0
            for version in sorted(weights):
                share = weights[version]
                top, bottom = self.y(below + share), self.y(below)
                left, right = self.x(at), self.x(end)
                self._parts.append(
                    f'<rect class="{colour[version]} area" x="{left:.1f}" y="{top:.1f}" '
                    f'width="{max(0.0, right - left):.1f}" height="{bottom - top:.1f}">'
                    f"<title>{html.escape(version)}: {share}% from {at:.1f} s to {end:.1f} s</title></rect>"
                )
                if right - left > widest.get(version, (0.0, 0.0, 0.0))[0] and bottom - top > 11:
                    widest[version] = (right - left, (left + right) / 2, (top + bottom) / 2)
                below += share
        for version, (room, middle, height) in widest.items():
            if room > 7 * len(version):
                self._text(middle, height + 4, version, "middle", "inside")

    def lines(self, lines: Lines, colour: dict[str, str]) -> None:
        """One path for each line, broken where there is no value."""
        for name, points in sorted(lines.items()):
            if path := self._path(points):
                style = colour.get(name, "c0")
                self._parts.append(f'<path class="{style} line" d="{path}"><title>{html.escape(name)}</title></path>')

    def svg(self) -> str:
        """The chart, with the marks on top of it."""
        top, bottom = (self._head - 12 if self._lane else self._head), self._height - FOOT
        for mark in self._recording.marks:
            at = self.x(mark.at)
            hover = html.escape(f"{mark.at:.1f} s: {mark.title}" + (f"\n{mark.text}" if mark.text else ""))
            glyph = f'<text x="{at:.1f}" y="{top + 4}" text-anchor="middle">{GLYPHS[mark.kind]}</text>'
            self._parts.append(
                f'<g class="mark {mark.kind}"><title>{hover}</title>'
                f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{self._head}" y2="{bottom}"/>'
                f'<line class="wide" x1="{at:.1f}" x2="{at:.1f}" y1="{top - 6}" y2="{bottom}"/>'
                f"{glyph if self._lane else ''}</g>"
            )
        return (
            f'<svg viewBox="0 0 {WIDTH} {self._height}" role="img" aria-label="{html.escape(self._title)}">'
            f"{''.join(self._parts)}</svg>"
        )

    def _frame(self) -> None:
        bottom = self._height - FOOT
        for span in self._recording.spans:
            left, right = self.x(span.start), self.x(span.end)
            shade = "band odd" if span.number % 2 else "band"
            hover = html.escape(f"{span.number}. {span.name}")
            self._parts.append(
                f'<rect class="{shade}" x="{left:.1f}" y="{0 if self._lane else self._head}" '
                f'width="{right - left:.1f}" height="{bottom - (0 if self._lane else self._head):.1f}">'
                f"<title>{hover}</title></rect>"
            )
            if self._lane:
                kind = "act" if span.ok else "act bad"
                self._text((left + right) / 2, 13, f"{span.number}", "middle", kind)
        for value, text in self._axis.ticks:
            y = self.y(value)
            self._parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            self._text(LEFT - 6, y + 4, text, "end")
        for value, text in self._axis.rules:
            y = self.y(value)
            self._parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            self._text(LEFT + 4, y - 4, text, "start")
        for second in range(0, int(self._recording.end) + 1, 20):
            self._text(self.x(second), self._height - 7, f"{second // 60}:{second % 60:02d}", "middle")

    def _text(self, x: float, y: float, text: str, anchor: str, kind: str = "") -> None:
        style = f' class="{kind}"' if kind else ""
        self._parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{html.escape(text)}</text>')

    def _path(self, points: Sequence[tuple[float, float]]) -> str:
        out: list[str] = []
        pen, last = False, (0.0, math.nan)
        for at, value in points:
            if math.isnan(value):
                pen = False
                continue
            here = (round(self.x(at), 1), round(self.y(value), 1))
            if not pen:
                out.append(f"M{here[0]:g} {here[1]:g}")
            elif here != last:
                out.append(f"L{here[0]:g} {here[1]:g}")
            pen, last = True, here
        return "".join(out)


def legend(names: dict[str, str]) -> str:
    """Name → colour, as a row above a chart."""
    items = (f'<span><i class="{style}"></i>{html.escape(name)}</span>' for name, style in names.items())
    return f'<div class="legend">{"".join(items)}</div>'
