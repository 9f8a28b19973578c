"""Native histograms of Prometheus as cumulative counts at edges, so that latency.py judges them like classic ones.

metrics/histograms.py reads each sample of one at the edges around a model's latency bounds.

A sample of the HTTP API has `"histogram": [time, {"count", "sum", "buckets"}]` in place of `"value"` (`"histograms"`
in a matrix), all numbers as strings, and each bucket [rule, lower, upper, count] where rule says which boundaries
belong to it: 0 the upper, 1 the lower, 2 none, 3 both (Prometheus docs/querying/api.md, "Native histograms"; read with
3.14 and seen with 3.16). Empty buckets are left out, and so is `buckets` when all are. Latencies lie in buckets of rule
0, in the zero bucket [−z, z] of rule 3, or, for histograms with custom bounds, in a first bucket [−Inf, e] of rule 3:
all of them count "≤ upper", as `le` does.

Exponential schemas n = −4 … 8 have their edges at all powers of f = 2^(2^−n): 1.09 at schema 3, 2 at 0. What lies
inside a bucket is not known and never interpolated: a bound between two edges is judged at both
(latency.choose_edges), so it is known to a factor f. A count at an edge is exact when no bucket with requests reaches
across it. A client may coarsen its schema as it runs; edges of a coarser schema are edges of every finer one, so what
both samples know is compared.

NaN observations are in `count` but in no bucket: they are neither fast nor slow and left out of n. Use raw counters:
`rate` and `increase` extrapolate each bucket, and `sum by` over schemas takes the coarsest.
Units: the histogram's own (seconds by convention), requests.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, Final, NamedTuple

SCHEMA_MIN: Final = -4
SCHEMA_MAX: Final = 8

# Servers print edges in full, but they and we may compute a power of two differently in its last bits.
_SAME: Final = 1e-9

_BOTH: Final = 3
_LOWER_BELONGS: Final = frozenset((1, _BOTH))


class Bucket(NamedTuple):
    """One bucket with requests in it. `rule`: which boundaries belong to it, 0 to 3."""

    rule: int
    lower: float
    upper: float
    requests: float


@dataclass(frozen=True, slots=True)
class NativeHistogram:
    """A native histogram at one time: its buckets, from low to high, and all observations, NaN ones included."""

    count: float
    buckets: tuple[Bucket, ...] = ()

    @classmethod
    def parse(cls, histogram: Mapping[str, Any]) -> NativeHistogram:
        """From the API's object. ValueError, in words, for what is not one."""
        try:
            rows = histogram.get("buckets", ())
            buckets = tuple(Bucket(int(rule), float(low), float(high), float(n)) for rule, low, high, n in rows)
            count = float(histogram["count"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a native histogram of Prometheus' API: {error!r}") from error
        for bucket in buckets:
            empty = bucket.lower > bucket.upper or (bucket.lower == bucket.upper and bucket.rule != _BOTH)
            if bucket.rule not in range(4) or empty or not 0 <= bucket.requests < math.inf:
                raise ValueError(f"a native histogram's bucket must be [0 to 3, lower, upper, count], not {bucket}")
        if any(right.lower < left.upper for left, right in pairwise(buckets)):
            raise ValueError("a native histogram's buckets must not overlap, and rise")
        return cls(count, buckets)

    @property
    def observed(self) -> float:
        """Observations that are in a bucket: all but NaN."""
        return sum(bucket.requests for bucket in self.buckets)

    @property
    def schema(self) -> int | None:
        """n of f = 2^(2^−n), from the boundaries of its buckets; None where they tell none: custom bounds, no bucket.

        Custom bounds that are all powers of one f look like a schema, and are edges of it: until their first or last
        bucket has a request, which no schema has (short of one that took forever).
        """
        if self.buckets and (self.buckets[0].lower == -math.inf or self.buckets[-1].upper == math.inf):
            return None  # the first or the last of custom bounds
        usual = [b for b in self.buckets if b.rule == 0 and b.lower > 0 and math.isfinite(b.upper)]
        if len(usual) > 1 and _schema(usual[0].lower, usual[0].upper) is None:
            usual = usual[1:]  # the zero bucket may reach into the lowest one
        schemas = {_schema(bucket.lower, bucket.upper) for bucket in usual}
        return schemas.pop() if len(schemas) == 1 else None

    @property
    def custom(self) -> bool:
        """Whether it has bounds of its own: buckets, beside the zero bucket, that are of no schema."""
        return self.schema is None and any(bucket.lower != -bucket.upper for bucket in self.buckets)

    @property
    def edges(self) -> frozenset[float]:
        """Positive finite boundaries at which the cumulative count is exact: those of buckets with requests."""
        ends = {end for bucket in self.buckets for end in (bucket.lower, bucket.upper)}
        return frozenset(end for end in ends if 0 < end < math.inf and self.exact(end))

    def exact(self, edge: float) -> bool:
        """Whether the requests no slower than `edge` are counted exactly: no bucket with requests reaches across it."""
        return not any(_across(bucket, edge) for bucket in self.buckets if bucket.requests > 0)

    def cumulative(self, edges: Iterable[float] | None = None) -> dict[float, float]:
        """Requests no slower than each edge > 0 (default: its own), and +Inf for all; inexact edges are left out.

        Any edge will do, of whatever schema, so that two samples, or two arms, can be read at the same ones.
        """
        filled = [bucket for bucket in self.buckets if bucket.requests > 0]
        uppers = [bucket.upper for bucket in filled]
        sums = list(accumulate((bucket.requests for bucket in filled), initial=0.0))
        at: dict[float, float] = {}
        for edge in sorted(self.edges if edges is None else edges):
            below = bisect_right(uppers, edge * (1 + _SAME))
            if edge < math.inf and (below == len(filled) or not _across(filled[below], edge)):
                at[edge] = sums[below]
        return {**at, math.inf: sums[-1]}

    def around(self, bound: float) -> tuple[float, ...]:
        """The bound itself if it is counted exactly, else the positive finite ends of the bucket that it lies in."""
        inside = next((b for b in self.buckets if b.requests > 0 and _across(b, bound)), None)
        if inside is None:
            return (bound,)
        return tuple([end for end in (inside.lower, inside.upper) if 0 < end < math.inf])


def factor(schema: int) -> float:
    """f = 2^(2^−n), between neighbouring edges. ValueError outside −4 … 8."""
    _check(schema)
    return float(2.0**2.0**-schema)


def edges_around(bound: float, schema: int) -> tuple[float, ...]:
    """The edges of a schema next to `bound` > 0: the one below and the one above, or the bound's own.

    Whether or not they had requests: with them among the edges, a bound is judged by the same ones at every time.
    """
    _check(schema)
    steps = 2.0**-schema  # exact, so that an edge of two schemas is one number
    k = math.log2(bound) / steps
    near = round(k)
    if math.isclose(2.0 ** (near * steps), bound, rel_tol=_SAME):
        return (2.0 ** (near * steps),)
    return 2.0 ** (math.floor(k) * steps), 2.0 ** (math.ceil(k) * steps)


def exact_edges(histograms: Iterable[NativeHistogram], *more: float) -> frozenset[float]:
    """Edges at which every one of these samples counts exactly: of any of them, or `more` (edges_around)."""
    samples = tuple(histograms)
    candidates = frozenset(more).union(*(sample.edges for sample in samples))
    return frozenset(edge for edge in candidates if all(sample.exact(edge) for sample in samples))


def _check(schema: int) -> None:
    if not SCHEMA_MIN <= schema <= SCHEMA_MAX:
        raise ValueError(f"native histograms have schemas {SCHEMA_MIN} to {SCHEMA_MAX}, not {schema}")


@lru_cache(maxsize=4096)
def _schema(lower: float, upper: float) -> int | None:
    ratio = math.log2(upper / lower)
    schema = round(-math.log2(ratio))
    usual = SCHEMA_MIN <= schema <= SCHEMA_MAX and math.isclose(ratio, 2.0**-schema, rel_tol=1e-6)
    # A custom bound may be f times its neighbour by chance; seldom is it a power of f too.
    steps = math.log2(upper) * 2.0**schema
    return schema if usual and math.isclose(steps, round(steps), abs_tol=1e-6) else None


def _across(bucket: Bucket, edge: float) -> bool:
    """Whether some of a bucket's values are ≤ edge and others may be above it."""
    if math.isclose(bucket.upper, edge, rel_tol=_SAME):
        return False
    if math.isclose(bucket.lower, edge, rel_tol=_SAME):
        return bucket.rule in _LOWER_BELONGS
    return bucket.lower < edge < bucket.upper
