"""What a query returned, and how it is read: series by series, so that no answer holds up everything else for long.

`json.loads` keeps the interpreter's lock from its first byte to its last, in whatever thread it runs. Here the lock is
free for others between two series: of an answer of 10 MB the event loop feels 20 ms instead of 100.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_DECODER: Final = json.JSONDecoder()
_RESULT: Final = re.compile(r'"result"\s*:\s*\[\s*')
"""Where the series begin. No text inside JSON can look like it: a quote in there has a backslash before it."""
_BETWEEN: Final = re.compile(r"\s*(?:,\s*|(?=\]))")

Labels = Mapping[str, str]
Series = tuple[Labels, list[tuple[float, str]]]
"""Labels and samples; a sample is (unix seconds, value as text)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query returned.

    Attributes:
        kind: vector, matrix, scalar or string.
        series: those found. A scalar is one series without labels.
        warnings: what Prometheus had to say beside it.
        size: bytes it was read from.
    """

    kind: str
    series: list[Series]
    warnings: tuple[str, ...] = ()
    size: int = 0

    @property
    def in_part(self) -> str:
        """The warning that says some store did not answer; "" if none. Remarks on PromQL itself are not meant."""
        return next((w for w in self.warnings if not w.startswith(("PromQL warning", "PromQL info"))), "")


def read(content: bytes) -> Answer:
    """The body of an answer of Prometheus' query API.

    Raises:
        ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError: it is no such body.
    """
    text = content.decode()
    begin = _RESULT.search(text)
    if begin is None:
        raise ValueError("there is no result")
    found: list[Any] = []
    end = begin.end()
    for one, end in _elements(text, begin.end()):  # noqa: B007
        found.append(one)
    body = json.loads(f"{text[: begin.end()]}{text[end:]}")
    data = body["data"]
    warnings = list(body.get("warnings") or ())
    if body.get("isPartial"):  # VictoriaMetrics
        warnings.append("isPartial, as some of its stores did not answer")
    return Answer(data["resultType"], _series(data["resultType"], found), tuple(warnings), len(content))


def _elements(text: str, at: int) -> Iterator[tuple[Any, int]]:
    """The elements of a list whose first would be here, each with where the next would be."""
    while text[at] != "]":
        one, at = _DECODER.raw_decode(text, at)
        between = _BETWEEN.match(text, at)
        if between is None:
            raise ValueError("the list does not go on")
        at = between.end()
        yield one, at


def _series(kind: str, result: list[Any]) -> list[Series]:
    match kind:
        case "vector":
            # A native histogram has no "value": no selector of ours is meant to find one, so it is left out.
            return [(s["metric"], [s["value"]]) for s in result if "value" in s]
        case "matrix":
            return [(s["metric"], s["values"]) for s in result if "values" in s]
        case "scalar" | "string":
            return [({}, [(result[0], result[1])])]
        case other:
            raise ValueError(f"no result type of Prometheus: {other}")
