"""Native histograms as cumulative counts at edges, judged by the same code as classic ones. Edges in seconds."""

from __future__ import annotations

import bisect
import json
import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from modeldeployment.decision.latency import Edges, choose_edges, slower
from modeldeployment.decision.native import Bucket, NativeHistogram, edges_around, exact_edges, factor

# As Prometheus 3.16 answered about its own prometheus_http_request_duration_seconds (growth factor 1.1, so schema 3).
RECORDED = json.loads("""
{"count": "16", "sum": "0.03796611600000001", "buckets": [
  [0, "0.001642375811042411", "0.0017910235218841233", "1"], [0, "0.0017910235218841233", "0.001953125", "2"],
  [0, "0.001953125", "0.0021298979153618314", "1"], [0, "0.0021298979153618314", "0.0023226701464896895", "4"],
  [0, "0.0023226701464896895", "0.002532889755177753", "5"], [0, "0.002532889755177753", "0.002762135864009951", "2"],
  [0, "0.004259795830723663", "0.004645340292979379", "1"]]}
""")
# The same with convert_classic_histograms_to_nhcb: the classic edges 0.1, 0.2, 0.4, … as custom bounds.
RECORDED_CUSTOM = {"count": "17", "sum": "0.040038076000000006", "buckets": [[3, "-Inf", "0.1", "17"]]}
# The example of Prometheus' util/jsonutil/marshal.go, schema 0.
DOCUMENTED = {
    "count": "42",
    "sum": "34593.34",
    "buckets": [[3, "-0.25", "0.25", "3"], [0, "0.25", "0.5", "12"], [0, "0.5", "1", "21"], [0, "2", "4", "6"]],
}

schemas = st.integers(-1, 4)
latencies = st.lists(st.floats(1e-4, 100.0), min_size=1, max_size=40)


def observed(times: list[float], schema: int, zero: float = 0.0) -> NativeHistogram:
    """What Prometheus would answer for these latencies: (lower, upper] at powers of f, [−zero, zero] in one bucket."""
    f = factor(schema)
    counts: dict[tuple[float, float], int] = {}
    small = sum(t <= zero for t in times)
    for t in times:
        if t > zero:
            k = math.ceil(math.log2(t) / math.log2(f))
            lower, upper = max(zero, f ** (k - 1)), f**k
            counts[lower, upper] = counts.get((lower, upper), 0) + 1
    rows: list[list[Any]] = [[0, str(low), str(up), str(n)] for (low, up), n in sorted(counts.items())]
    first = [[3, str(-zero), str(zero), str(small)]] if small else []
    return NativeHistogram.parse({"count": str(len(times)), "sum": str(sum(times)), "buckets": first + rows})


def test_recorded() -> None:
    """A real answer: schema 3, neighbouring edges a factor 1.09 apart, a bound judged between its two edges."""
    histogram = NativeHistogram.parse(RECORDED)
    assert histogram.schema == 3 and factor(3) == pytest.approx(1.0905, abs=1e-4)
    cumulative = histogram.cumulative()
    assert list(cumulative.values()) == [0, 1, 3, 4, 8, 13, 15, 15, 16, 16]
    choice = choose_edges(cumulative, 0.0025, quantile=0.99)
    assert choice.edges == Edges(0.0023226701464896895, 0.002532889755177753)
    assert choice.message.startswith("p99 bound 2.5ms lies between the buckets 2.32267ms and 2.53289ms")
    assert slower(cumulative, choice.edges.upper) == 3 and slower(cumulative, choice.edges.lower) == 8


def test_recorded_custom_bounds() -> None:
    """Classic buckets that Prometheus stored as custom bounds: rule 3 from −Inf, no schema, edges that had requests."""
    histogram = NativeHistogram.parse(RECORDED_CUSTOM)
    assert histogram.schema is None
    assert histogram.cumulative() == {0.1: 17, math.inf: 17}
    custom = {
        "count": "9",
        "sum": "1",
        "buckets": [[0, "0.5", "1", "4"], [0, "1", "2.5", "3"], [0, "2.5", "+Inf", "2"]],
    }
    parsed = NativeHistogram.parse(custom)
    assert parsed.schema is None
    assert parsed.cumulative() == {0.5: 0, 1.0: 4, 2.5: 7, math.inf: 9}
    refused = choose_edges(parsed.cumulative(), 3.0, quantile=0.99)
    assert refused.edges is None and "above the last bucket 2.5s" in refused.message


def test_documented_example() -> None:
    """The zero bucket counts to its upper edge; an empty bucket's edges are known where neighbours' are."""
    histogram = NativeHistogram.parse(DOCUMENTED)
    assert histogram.schema == 0
    assert histogram.cumulative() == {0.25: 3, 0.5: 15, 1.0: 36, 2.0: 36, 4.0: 42, math.inf: 42}
    assert histogram.cumulative([1.3, 3.0, 0.1, 8.0]) == {1.3: 36, 8.0: 42, math.inf: 42}  # 3.0 and 0.1 cut a bucket


@pytest.mark.parametrize("schema", range(-4, 9))
def test_factors(schema: int) -> None:
    """f = 2^(2^−n): 65,536 at −4, 2 at 0, 1.0027 at 8 (Prometheus' native histograms); edges at its powers."""
    f = factor(schema)
    assert f ** (2.0**schema) == pytest.approx(2.0)
    lower, upper = edges_around(0.8, schema)
    assert lower < 0.8 < upper and upper / lower == pytest.approx(f)
    assert edges_around(1.0, schema) == (1.0,) and edges_around(f, schema) == pytest.approx((f,))


def test_edges_of_this_schema_are_prometheus_own() -> None:
    """Our powers of f and the edges that Prometheus printed are the same edges, to the last bits."""
    printed = NativeHistogram.parse(RECORDED)
    for edge in printed.edges:
        assert edges_around(edge, 3) == pytest.approx((edge,), rel=1e-12)
    around = edges_around(0.0025, 3)
    assert list(printed.cumulative(around).values()) == [8, 13, 16]


@given(times=latencies, schema=schemas, bound=st.floats(2e-3, 50.0), zero=st.sampled_from([0.0, 1e-3]))
def test_bracket(times: list[float], schema: int, bound: float, zero: float) -> None:
    """x(e⁺) ≤ requests slower than the bound ≤ x(e⁻), by choose_edges on the edges around it, unchanged."""
    histogram, around = observed(times, schema, zero), edges_around(bound, schema)
    assume(min(around) > zero)
    cumulative = histogram.cumulative(around)
    assert set(around) <= set(cumulative), "edges of the schema are exact whatever was observed"
    edges = choose_edges(cumulative, bound, quantile=0.99).edges
    assert edges is not None
    true = sum(t > bound for t in times)
    if edges.exact:
        assert slower(cumulative, edges.upper) == pytest.approx(true, abs=sum(math.isclose(t, bound) for t in times))
    else:
        assert slower(cumulative, edges.upper) <= true <= slower(cumulative, edges.lower)
        assert edges.upper / edges.lower == pytest.approx(factor(schema))


@given(times=latencies, schema=schemas)
def test_never_interpolates(times: list[float], schema: int) -> None:
    """Every count it gives is the number of latencies ≤ the edge, and a schema is recognised if it shows."""
    histogram = observed(times, schema)
    ordered = sorted(times)
    for edge, count in histogram.cumulative().items():
        near = sum(math.isclose(t, edge, rel_tol=1e-9) for t in times)
        assert count == pytest.approx(bisect.bisect_right(ordered, edge), abs=near)
    assert histogram.schema == schema and histogram.observed == len(times)


@given(times=latencies, more=latencies, schema=st.integers(0, 4))
def test_differences_over_a_coarser_schema(times: list[float], more: list[float], schema: int) -> None:
    """A client that coarsens as it runs: the difference at edges exact in both is what happened between."""
    before, after = observed(times, schema), observed(times + more, schema - 1)
    edges = exact_edges((before, after), *edges_around(0.8, schema - 1))
    assert set(edges_around(0.8, schema - 1)) <= edges
    first, second = before.cumulative(edges), after.cumulative(edges)
    assert first.keys() == second.keys() == {*edges, math.inf}
    for edge in first:
        near = sum(math.isclose(t, edge, rel_tol=1e-9) for t in times + more)
        assert second[edge] - first[edge] == pytest.approx(sum(t <= edge for t in more), abs=near)


def test_nothing_and_nan() -> None:
    """No requests: no buckets. NaN observations are counted by Prometheus, but are neither fast nor slow."""
    empty = NativeHistogram.parse({"count": "0", "sum": "0"})
    assert (empty.cumulative(), empty.schema, empty.edges) == ({math.inf: 0}, None, frozenset())
    nan = NativeHistogram.parse({"count": "5", "sum": "NaN", "buckets": [[0, "1", "2", "3"]]})
    assert nan.count == 5 and nan.observed == 3 and nan.cumulative() == {1.0: 0, 2.0: 3, math.inf: 3}
    assert exact_edges(()) == frozenset()


@pytest.mark.parametrize(
    ("rule", "at_lower"), [(0, True), (1, False), (2, True), (3, False)], ids=["upper", "lower", "none", "both"]
)
def test_boundary_rules(rule: int, at_lower: bool) -> None:
    """Every rule is exact at the upper edge; not so at the lower one where requests of just that latency belong."""
    histogram = NativeHistogram(4, (Bucket(rule, 1.0, 2.0, 4.0),))
    assert (histogram.exact(1.0), histogram.exact(2.0)) == (at_lower, True)
    assert not histogram.exact(1.5) and histogram.exact(0.5) and histogram.exact(3.0)


@pytest.mark.parametrize(
    "histogram",
    [
        {},
        {"count": "x"},
        {"count": "1", "buckets": [[0, "1", "2"]]},
        {"count": "1", "buckets": [[4, "1", "2", "1"]]},
        {"count": "1", "buckets": [[0, "2", "1", "1"]]},
        {"count": "1", "buckets": [[0, "1", "2", "NaN"]]},
        {"count": "1", "buckets": [[0, "1", "2", "-1"]]},
        {"count": "2", "buckets": [[0, "2", "4", "1"], [0, "1", "3", "1"]]},
        {"count": "1", "buckets": 7},
    ],
)
def test_what_is_no_native_histogram_is_refused(histogram: dict[str, Any]) -> None:
    """ValueError in words, never a guess."""
    with pytest.raises(ValueError, match="native histogram"):
        NativeHistogram.parse(histogram)


@pytest.mark.parametrize("schema", [-5, 9])
def test_schemas_beyond_prometheus_are_refused(schema: int) -> None:
    """−4 … 8."""
    with pytest.raises(ValueError, match="schemas -4 to 8"):
        factor(schema)
