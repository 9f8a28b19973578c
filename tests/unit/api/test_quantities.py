"""Percentages, durations and bounds: what they mean, and that Python and the CRD take the same texts."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from modeldeployment.api import quantities
from modeldeployment.api.quantities import duration, fraction, milliseconds, say_duration, seconds, whole_percent

PARTS = st.lists(st.tuples(st.integers(0, 99_999), st.sampled_from(["h", "m", "s", "ms"])), min_size=1, max_size=4)
UNIT = {"h": timedelta(hours=1), "m": timedelta(minutes=1), "s": timedelta(seconds=1), "ms": timedelta(milliseconds=1)}


def _accepts(type_: Any, text: object) -> bool:
    try:
        TypeAdapter(type_).validate_python(text)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("0s", timedelta()),
        ("500ms", timedelta(milliseconds=500)),
        ("30s", timedelta(seconds=30)),
        ("5m", timedelta(minutes=5)),
        ("1h30m", timedelta(minutes=90)),
        ("24h", timedelta(days=1)),
        ("1h1m1s1ms", timedelta(hours=1, minutes=1, seconds=1, milliseconds=1)),
        ("99999h", timedelta(hours=99_999)),
        ("1m1m", timedelta(minutes=2)),
    ],
)
def test_a_duration_is_what_gateway_api_says(text: str, length: timedelta) -> None:
    """Durations are those of GEP-2257; `m` is minutes and never eats the m of ms."""
    assert duration(text) == length
    assert seconds(text) == length.total_seconds()


@pytest.mark.parametrize(
    "text", ["", "5", "m", "1.5h", "-5m", "5 m", " 5m", "5m ", "5m\n", "1d", "1us", "5M", "5min", "1000000s"]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    """A text that is no duration is refused in words that show how one is written."""
    with pytest.raises(ValueError, match="must be a duration such as 500ms, 30s, 5m or 1h30m"):
        duration(text)
    assert not _accepts(quantities.Duration, text), f"{text!r} was taken for a duration by the model"


@given(PARTS)
def test_durations_add_up(parts: list[tuple[int, str]]) -> None:
    """A duration is the sum of its parts, in whatever order and however often a unit comes."""
    text = "".join(f"{number}{unit}" for number, unit in parts)
    assert duration(text) == sum((number * UNIT[unit] for number, unit in parts), timedelta())


@given(st.text(alphabet="0123456789hms. -+d\n", max_size=12))
def test_model_and_function_agree_on_durations(text: str) -> None:
    """What the model takes for a duration has a length, and what it refuses has none."""
    try:
        duration(text)
        has_length = True
    except ValueError:
        has_length = False
    assert _accepts(quantities.Duration, text) == has_length, f"{text!r}"


@pytest.mark.parametrize(
    ("text", "value"),
    [("1%", 0.01), (">1%", 0.01), ("> 0.5%", 0.005), ("99.5%", 0.995), ("100%", 1.0), ("0.0001%", 1e-6)],
)
def test_a_percentage_is_a_fraction_of_one(text: str, value: float) -> None:
    """1% is 0.01, with or without a comparison before it."""
    assert fraction(text) == pytest.approx(value, rel=1e-12)


def test_weights_and_milliseconds_are_numbers() -> None:
    """10% of the traffic is 10, and >800 is 800 ms."""
    assert whole_percent("10%") == 10
    assert milliseconds(">800") == 800.0
    assert milliseconds("> 1500") == 1500.0


WRONG_UNITS = {
    "Percentage": ["1", "0.01", "1 %", "1,5%", "-1%", "101%", "100.1%", "%", "1%\n", "1.00000%", "1e1%"],
    "Weight": ["10", "0.1", "0%", "101%", "110%", "2.5%", "-5%", "010%", "1%%", " 10%", "10%\n"],
    "AbovePercentage": ["1%", "<1%", ">=1%", ">1", ">101%", "> ", ">>1%", ">  1%", ">1%\n"],
    "AboveMilliseconds": ["800", ">800ms", ">0.8s", ">=800", "<800", ">", ">12345678", ">800.5", ">800\n"],
    "Decimal": ["", "1.", ".5", "1e3", "0x1", "20%", "1,5", "+1", "NaN", "Inf", "1\n"],
}
RIGHT = {
    "Percentage": ["0%", "1%", "01%", "99.5%", "0.0001%", "100%", "100.0%"],
    "Weight": ["1%", "10%", "99%", "100%"],
    "AbovePercentage": [">1%", "> 1%", ">0.5%", ">100%"],
    "AboveMilliseconds": [">0", ">800", "> 800", ">9999999"],
    "Decimal": ["0", "0.2", "-1", "-0.5", "999999999999.999999999"],
}


def _cases(table: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(name, text) for name, texts in table.items() for text in texts]


@pytest.mark.parametrize(("name", "text"), _cases(RIGHT))
def test_right_texts_are_taken(name: str, text: str) -> None:
    """What people write with the right unit is taken."""
    assert _accepts(getattr(quantities, name), text), f"{text!r} should be a {name}"


@pytest.mark.parametrize(("name", "text"), _cases(WRONG_UNITS))
def test_wrong_units_are_refused(name: str, text: str) -> None:
    """A missing or foreign unit is refused, and never guessed at."""
    assert not _accepts(getattr(quantities, name), text), f"{text!r} was taken for a {name}"


@pytest.mark.parametrize("name", sorted({*RIGHT, "Duration"}))
def test_the_crd_and_the_model_say_the_same(name: str) -> None:
    """The sentence that the API server answers is the one that the model raises."""
    schema = TypeAdapter(getattr(quantities, name)).json_schema()
    (rule,) = schema["x-type-rules"]
    with pytest.raises(ValidationError, match=re.escape(rule["message"])):
        TypeAdapter(getattr(quantities, name)).validate_python("?")


@pytest.mark.parametrize(
    ("length", "says"),
    [
        (0, "0s"),
        (0.4, "0s"),
        (45, "45s"),
        (59.6, "1m"),
        (60, "1m"),
        (250, "4m10s"),
        (3599.7, "1h"),
        (3600, "1h"),
        (7500, "2h05m"),
        (90_000, "25h"),
    ],
)
def test_durations_are_said_shortly(length: float, says: str) -> None:
    """Seconds are said in at most two units, rounded once."""
    assert say_duration(length) == says


@given(st.integers(0, 99_999 * 3600))
def test_what_is_said_can_be_read(length: int) -> None:
    """What is said is itself a duration, at most a minute shorter than the truth (from an hour on)."""
    read = seconds(say_duration(length))
    assert read <= length and length - read < (60 if length >= 3600 else 1)
