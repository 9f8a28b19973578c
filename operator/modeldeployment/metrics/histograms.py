"""A sample of a native histogram → plain cumulative counters at edges, as a classic one has them.

Read are the edges around each latency bound, of the sample's schema and of every coarser one: a client that coarsens
its schema as it runs leaves some of them, which were known before, and brings none that is new. Before it shows its
schema, which is before its first request, it counts exactly at all edges there are, so they are all read.

Custom bounds tell only where requests were: the bound itself where they leave it alone, else the ends of the bucket
that it lies in. Those are new once that bucket has its first request: counters.py counts nothing at them then.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from modeldeployment.api.serving import LatencyUnit, MetricsSource
from modeldeployment.decision.native import SCHEMA_MAX, SCHEMA_MIN, NativeHistogram, edges_around

_DIGITS: Final = 6  # a custom bound of 0.29 s is 290 ms and not 289.99999999999997


def slots(text: str, bounds: frozenset[float], source: MetricsSource) -> dict[float, float]:
    """Edge (ms) → requests not slower, and +Inf for all but NaN; of the edges around bounds (ms).

    text: a sample of `Answer.histograms`; of one that is no histogram there are none.
    """
    histogram, unit = _parse(text), _unit_ms(source)
    if histogram is None:
        return {}
    if histogram.custom:
        edges = {
            edge: bound if edge == bound / unit else round(edge * unit, _DIGITS)
            for bound in bounds
            for edge in histogram.around(bound / unit)
        }
    else:
        schema = histogram.schema
        edges = _edges(bounds, SCHEMA_MAX if schema is None else schema, unit)
        if schema is None:
            edges = edges | {bound / unit: bound for bound in bounds}
    return {edges.get(edge, math.inf): requests for edge, requests in histogram.cumulative(edges).items()}


def at(text: str, edges: Iterable[float], source: MetricsSource) -> dict[float, float]:
    """The same, of these edges (ms); without those that it does not count at."""
    histogram, unit = _parse(text), _unit_ms(source)
    if histogram is None:
        return {}
    mine = {edge / unit: edge for edge in edges}
    return {mine.get(edge, math.inf): requests for edge, requests in histogram.cumulative(mine).items()}


def _parse(text: str) -> NativeHistogram | None:
    try:
        return NativeHistogram.parse(json.loads(text))
    except ValueError:
        return None


def _unit_ms(source: MetricsSource) -> float:
    return 1000.0 if source.latency is not None and source.latency.unit is LatencyUnit.SECONDS else 1.0


@lru_cache(maxsize=1024)
def _edges(bounds: frozenset[float], schema: int, unit: float) -> dict[float, float]:
    """Edges of a schema and of all coarser ones → the same in ms."""
    around = (edges_around(bound / unit, s) for bound in bounds for s in range(SCHEMA_MIN, schema + 1))
    return {edge: edge * unit for edges in around for edge in edges}
