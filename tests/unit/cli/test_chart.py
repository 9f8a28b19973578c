"""The chart of `kubectl model explain`, line by line."""

from __future__ import annotations

import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeployment.api.status import TRAIL_POINTS_MAX
from modeldeployment.cli import chart
from modeldeployment.decision.trail import Point

POINTS = (
    Point(0, 10, -1.4, -1.3),
    Point(10, 10, -1.4, -0.8),
    Point(20, 50, -1.0, -1.0),
    Point(40, 50, -0.1, -2.9),
    Point(50, 0, 0.2, -9.9),
)

IN_UNICODE = """\
        ┤
 decides┤╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌●●●●●●●●●●
        ┤                                        ●●●●●●●●●●
    1/10┤          ○○○○○○○○○○◉◉◉◉◉◉◉◉◉◉◉◉◉◉◉◉◉◉◉◉
        ┤◉◉◉◉◉◉◉◉◉◉●●●●●●●●●●
   1/100┤
        ┤
 1/1,000┤                                        ○○○○○○○○○○○○○○○○○○○○
  weight┤▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄           0%
        └────────────────────────────────────────────────────────────
         0s                                                       50s"""

IN_ASCII = """\
        |
 decides|--------------------------------------------------##########
        |                                        ##########
    1/10|          oooooooooo@@@@@@@@@@@@@@@@@@@@
        |@@@@@@@@@@##########
   1/100|
        |
 1/1,000|                                        oooooooooooooooooooo
  weight|11111111111111111111444444444444444444444444444444           0%
        +------------------------------------------------------------
         0s                                                       50s"""


@pytest.mark.parametrize(
    ("marks", "expected"), [(chart.UNICODE, IN_UNICODE), (chart.ASCII, IN_ASCII)], ids=["UTF-8", "any terminal"]
)
def test_the_chart(marks: chart.Marks, expected: str) -> None:
    """Both lines of evidence, the line that decides, the weight; a stretch without a look holds the last value."""
    assert "\n".join(chart.draw(POINTS, 10, marks)) == expected


def test_what_falls_short_by_little_stays_below_the_line() -> None:
    """0.1 below what decides is not on the line; exactly there is."""
    short, enough = (chart.draw([Point(0, 10, worse, -1.0)], 10) for worse in (-0.1, 0.0))
    assert "●" not in next(line for line in short if "decides" in line)
    assert "●" in next(line for line in enough if "decides" in line)


def test_without_e_values_there_is_the_weight_alone() -> None:
    """The threshold judge and queries."""
    assert chart.draw([Point(0, 100, None, None)], 10)[0] == "  weight┤" + "█" * 60 + " 100%"


def test_without_points_there_is_no_chart() -> None:
    """Nothing was judged yet."""
    assert chart.draw([], 10) == []


_place = operator.itemgetter(0)
_log = st.none() | st.integers(-99, 99).map(lambda tenths: tenths / 10)
_points = st.lists(
    st.tuples(st.integers(0, TRAIL_POINTS_MAX - 1), st.integers(0, 100), _log, _log),
    min_size=1,
    unique_by=_place,
).map(
    lambda rows: [Point(3600 * place, weight, worse, good) for place, weight, worse, good in sorted(rows, key=_place)]
)


@given(_points, st.sampled_from([chart.UNICODE, chart.ASCII]))
def test_any_trail_fits_a_terminal(points: list[Point], marks: chart.Marks) -> None:
    """At most 80 columns and a dozen lines and a half; in ASCII nothing but ASCII."""
    lines = chart.draw(points, 3600, marks)
    assert max(map(len, lines)) <= 80, "a line is longer than a terminal"
    assert len(lines) <= 14
    assert marks is chart.UNICODE or all(line.isascii() for line in lines)
