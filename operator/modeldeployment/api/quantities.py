"""Percentages, durations and comparisons as people write them, and what they mean.

Each is a string held by a CEL rule, so that `kubectl apply` refuses a wrong unit with a sentence instead of
a regular expression. Durations follow Gateway API (GEP-2257). Nothing in the API is a float.
"""

from __future__ import annotations

import re
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from modeldeployment.api.base import JSON, extend, rule

_DURATION = re.compile(r"([0-9]{1,5})(h|ms|m|s)")
_DURATION_WHOLE = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"
_PERCENTAGE = r"^(100(\.0{1,4})?|[0-9]{1,2}(\.[0-9]{1,4})?)%$"
_WEIGHT = r"^([1-9]|[1-9][0-9]|100)%$"
_ABOVE_PERCENTAGE = r"^> ?(100(\.0{1,4})?|[0-9]{1,2}(\.[0-9]{1,4})?)%$"
_ABOVE_MILLISECONDS = r"^> ?[0-9]{1,7}$"
_DECIMAL = r"^-?[0-9]{1,12}(\.[0-9]{1,9})?$"
_UNIT_MS: Final = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


def _cel(pattern: str) -> str:
    return "self.matches(r'" + pattern + "')"


def _typed(pattern: str, message: str) -> JSON:
    """The rule of a type; a field adds its own beside it."""
    return {"x-type-rules": [rule(_cel(pattern), message)]}


def _checked(pattern: str, message: str) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(message)
        return value

    return AfterValidator(check)


_DURATION_SAYS = "must be a duration such as 500ms, 30s, 5m or 1h30m (whole numbers with the units h, m, s, ms)"
_PERCENTAGE_SAYS = 'must be a percentage between 0% and 100% such as "1%" or "99.5%" (with the percent sign)'
_WEIGHT_SAYS = "must be a whole percentage from 1% to 100% such as 10%"
_ABOVE_PERCENTAGE_SAYS = 'must be ">" and a percentage, such as ">1%": roll back when the error rate is above it'
_ABOVE_MS_SAYS = 'must be ">" and whole milliseconds without a unit, such as ">800"'
_DECIMAL_SAYS = 'must be a decimal number as a string, such as "0.2"'

Duration = Annotated[
    str,
    Field(
        max_length=24,
        json_schema_extra=_typed(_DURATION_WHOLE, _DURATION_SAYS),
    ),
    _checked(_DURATION_WHOLE, _DURATION_SAYS),
]
Percentage = Annotated[
    str,
    Field(max_length=9, json_schema_extra=_typed(_PERCENTAGE, _PERCENTAGE_SAYS)),
    _checked(_PERCENTAGE, _PERCENTAGE_SAYS),
]
Weight = Annotated[
    str,
    Field(max_length=4, json_schema_extra=_typed(_WEIGHT, _WEIGHT_SAYS)),
    _checked(_WEIGHT, _WEIGHT_SAYS),
]
AbovePercentage = Annotated[
    str,
    Field(max_length=11, json_schema_extra=_typed(_ABOVE_PERCENTAGE, _ABOVE_PERCENTAGE_SAYS)),
    _checked(_ABOVE_PERCENTAGE, _ABOVE_PERCENTAGE_SAYS),
]
AboveMilliseconds = Annotated[
    str,
    Field(max_length=9, json_schema_extra=_typed(_ABOVE_MILLISECONDS, _ABOVE_MS_SAYS)),
    _checked(_ABOVE_MILLISECONDS, _ABOVE_MS_SAYS),
]
Decimal = Annotated[
    str,
    Field(max_length=24, json_schema_extra=_typed(_DECIMAL, _DECIMAL_SAYS)),
    _checked(_DECIMAL, _DECIMAL_SAYS),
]


def is_duration(path: str) -> str:
    """CEL: whether a field is a duration at all."""
    return f"{path}.matches(r'{_DURATION_WHOLE}')"


def possible_share(example: str) -> JSON:
    """`json_schema_extra` of a bound on a share: 0% can never be proven kept, 100% never be broken."""
    number = "double(self.replace('>', '').replace(' ', '').replace('%', ''))"
    known = f"({_cel(_PERCENTAGE)} || {_cel(_ABOVE_PERCENTAGE)})"
    return extend(
        rule(
            f"!{known} || ({number} > 0.0 && {number} < 100.0)",
            f"must be above 0% and below 100%, such as {example}: nothing can prove that no request ever fails",
        )
    )


def between(low: str, high: str) -> JSON:
    """`json_schema_extra` of a duration with limits; a text that is no duration is left to its own rule."""
    return extend(
        rule(
            f"!{is_duration('self')} || (duration(self) >= duration('{low}') && duration(self) <= duration('{high}'))",
            f"must be from {low} to {high}",
        )
    )


def duration(text: str) -> timedelta:
    """The length of a GEP-2257 duration.

    Raises:
        ValueError: the text is not one.
    """
    if not re.fullmatch(_DURATION_WHOLE, text):
        raise ValueError(f"{text!r} {_DURATION_SAYS}")
    return timedelta(milliseconds=sum(int(n) * _UNIT_MS[unit] for n, unit in _DURATION.findall(text)))


@lru_cache(maxsize=4096)
def seconds(text: str) -> float:
    """The same in seconds."""
    return duration(text).total_seconds()


def fraction(text: str) -> float:
    """`"1%"` → 0.01, `">1%"` → 0.01."""
    return float(text.lstrip("> ").rstrip("%")) / 100


def whole_percent(text: str) -> int:
    """`"10%"` → 10."""
    return int(text.rstrip("%"))


def milliseconds(text: str) -> float:
    """`">800"` → 800."""
    return float(text.lstrip("> "))


def say_duration(length: float) -> str:
    """Seconds in words a person reads at a glance: 45s, 4m10s, 2h5m."""
    whole = round(length)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s" if whole % 60 else f"{whole // 60}m"
    minutes = (whole % 3600) // 60
    return f"{whole // 3600}h{minutes:02d}m" if minutes else f"{whole // 3600}h"
