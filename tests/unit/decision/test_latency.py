"""Which bucket edges judge a latency bound. Edges in the dialect's unit (decision.md §5 Latency)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeployment.decision import kernel
from modeldeployment.decision.latency import Edges, choose_edges, shared_edges, slower

VECTORS = [
    v
    for v in json.loads(Path(__file__).with_name("decision_vectors.json").read_text())["vectors"]
    if v["test"] == "edges"
]
SECONDS = (0.25, 0.5, 1.0, 2.5, math.inf)


@pytest.mark.parametrize("vector", VECTORS)
def test_vectors(vector: dict[str, Any]) -> None:
    """Fail counts x(e⁺) = n − cumulative(le = e⁺) and Pass x(e⁻), then tests as for errors.

    Reference: mpmath, 60 digits. Buckets in seconds.
    """
    i = vector["inputs"]
    cumulative = {float(le): count for le, count in i["buckets"]}
    edges = choose_edges(cumulative, float(i["bound"]), quantile=0.99).edges
    assert edges is not None
    n, bound, theta = cumulative[math.inf], float(i["p0"]), float(i["theta"])
    if i["side"] == "fail":
        x = slower(cumulative, edges.upper)
        log_e = kernel.log_mean_exp(kernel.absolute_increments(n, x, bound=bound, theta=theta))
    else:
        x = slower(cumulative, edges.lower)
        detectable = float(i["detectable"])
        increments = kernel.pass_increments(n, x, bound=bound, detectable=detectable, theta=theta)
        log_e = kernel.log_mean_exp(increments)
    assert float(log_e) == pytest.approx(float(vector["log_e"]), rel=10.0 ** -vector["digits"], abs=1e-10)


def test_between_edges() -> None:
    """e⁻ = largest edge ≤ bound, e⁺ = smallest ≥ bound; what stays undecided is said."""
    choice = choose_edges(SECONDS, 0.8, quantile=0.99)
    assert choice.edges == Edges(0.5, 1.0)
    assert choice.message == (
        "p99 bound 800ms lies between the buckets 500ms and 1s: a p99 between them stays Inconclusive"
    )


@pytest.mark.parametrize(
    ("edges", "bound", "unit"),
    [((0.25, 0.8, 2.5), 0.8, 1.0), ((250.0, 800.0), 800.0, 0.001), ((0.1 + 0.2, 1.0), 0.3, 1.0)],
    ids=["seconds", "milliseconds", "last bits differ"],
)
def test_exact_edge(edges: tuple[float, ...], bound: float, unit: float) -> None:
    """A bound that is an edge, up to rounding, is judged exactly and needs no word; the edge is the dialect's."""
    choice = choose_edges(edges, bound, quantile=0.95, seconds_per_unit=unit)
    assert choice.edges is not None and choice.edges.exact and choice.edges.upper in edges
    assert choice.message == ""


@pytest.mark.parametrize(
    ("edges", "bound", "message"),
    [
        (
            SECONDS,
            3.0,
            "p99 bound 3s is above the last bucket 2.5s: slower requests are not told apart, so it could never fail",
        ),
        ((math.inf,), 0.8, "p99 bound 800ms: the histogram has no buckets"),
        ((), 0.8, "p99 bound 800ms: the histogram has no buckets"),
    ],
    ids=["above the last", "only +Inf", "none"],
)
def test_refused(edges: tuple[float, ...], bound: float, message: str) -> None:
    """x(+Inf) = 0 never fails: a bound above the last finite edge is refused, with the reason."""
    assert choose_edges(edges, bound, quantile=0.99) == type(choose_edges((), 1, quantile=0.5))(None, message)


def test_below_the_first_edge() -> None:
    """Without an edge below the bound, all requests may be slower: it can fail but never pass."""
    choice = choose_edges(SECONDS, 0.1, quantile=0.999)
    assert choice.edges == Edges(0.0, 0.25)
    assert choice.message == "p99.9 bound 100ms lies below the first bucket 250ms: it can fail but never pass"
    assert slower({0.25: 700, math.inf: 1000}, 0.0) == 1000


def test_milliseconds_are_said_as_people_write_them() -> None:
    """A dialect in milliseconds: the same sentence."""
    choice = choose_edges((500.0, 1000.0), 800.0, quantile=0.99, seconds_per_unit=0.001)
    assert "between the buckets 500ms and 1s" in choice.message


@given(
    times=st.lists(st.floats(0.01, 5.0), min_size=1, max_size=50),
    bound=st.floats(0.01, 2.5),
)
def test_bracket(times: list[float], bound: float) -> None:
    """x(e⁺) ≤ requests slower than the bound ≤ x(e⁻), for any latencies and any bound up to the last edge."""
    cumulative = {le: float(sum(t <= le for t in times)) for le in SECONDS}
    edges = choose_edges(SECONDS, bound, quantile=0.99).edges
    assert edges is not None
    if not edges.exact:
        true = sum(t > bound for t in times)
        assert slower(cumulative, edges.upper) <= true <= slower(cumulative, edges.lower)


def test_shared_edges() -> None:
    """The relative test compares arms at edges that both have."""
    assert shared_edges({0.5, 1.0, math.inf}, {0.5, 0.8, math.inf}) == {0.5, math.inf}
    assert shared_edges() == frozenset()
