"""Expositions as Prometheus reads them, and the series that a selector finds there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from modeldeployment.api.serving import MetricsSource
from modeldeployment.metrics.dialects import edge_ms

Series = tuple[dict[str, str], float]
"""Labels, the name as __name__, and the value."""

_MATCHER = re.compile(r"""\s*([a-zA-Z_]\w*)\s*(=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')\s*,?""")


@dataclass(frozen=True)
class Counted:
    """What a source's selectors find: sums over all series. faster: edge (ms) → requests not slower, +Inf included."""

    requests: float
    errors: float | None = None
    faster: dict[float, float] = field(default_factory=dict)


def series_of(exposition: str) -> list[Series]:
    """Every series of an exposition, by the name that it has there.

    Types are left out: this parser calls a counter `..._total` whatever its name is, and Prometheus does not.
    """
    lines = (line for line in exposition.splitlines(keepends=True) if not line.startswith("#"))
    return [
        ({**sample.labels, "__name__": sample.name}, sample.value)
        for family in text_string_to_metric_families("".join(lines))
        for sample in family.samples
    ]


def select(series: Iterable[Series], selector: str) -> list[Series]:
    """The series that a PromQL vector selector finds.

    Raises:
        ValueError: it is none.
    """
    name, brace, rest = selector.strip().partition("{")
    matchers = [("__name__", "=", name)] if name else []
    while brace and rest.strip() != "}":
        match = _MATCHER.match(rest)
        if match is None:
            raise ValueError(f"{selector!r} is no vector selector: at {rest!r}")
        matchers.append((match[1], match[2], match[3][1:-1].replace("\\\\", "\\")))
        rest = rest[match.end() :]
    if not matchers:
        raise ValueError("an empty selector finds everything")
    return [(labels, value) for labels, value in series if all(_holds(labels, *matcher) for matcher in matchers)]


def counted(series: Iterable[Series], source: MetricsSource) -> Counted:
    """What a dialect makes of an exposition."""
    series = list(series)
    requests = sum(value for _, value in select(series, source.requests))
    errors = None if source.errors is None else sum(value for _, value in select(series, source.errors))
    faster: dict[float, float] = {}
    if source.latency is not None:
        for labels, value in select(series, source.latency.selector):
            edge = edge_ms(source, labels["le"])
            faster[edge] = faster.get(edge, 0.0) + value
    return Counted(requests, errors, faster)


def _holds(labels: dict[str, str], name: str, operator: str, wanted: str) -> bool:
    value = labels.get(name, "")
    match operator:
        case "=":
            return value == wanted
        case "!=":
            return value != wanted
        case "=~":
            return re.fullmatch(wanted, value) is not None
    return re.fullmatch(wanted, value) is None
