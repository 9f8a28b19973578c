"""Latency bounds on histograms: which bucket edges count, exactly, the requests slower than a bound.

"p99 ≤ 800 ms" says: at most 1 % of requests are slower than 800 ms. A histogram counts at its edges only:
e⁻ = largest edge ≤ bound, e⁺ = smallest edge ≥ bound, x(e) = n − cumulative(le = e), so that
x(e⁺) ≤ true x ≤ x(e⁻). Fail uses x(e⁺) and Pass x(e⁻): log E of Fail rises in x and that of Pass falls, so
each is at most its value at the bound itself, and both error bounds hold.

Edges and bound are in one unit, the dialect's; `seconds_per_unit` is only for what people read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

# Edges are decimals that somebody multiplied or divided by 1000: the same edge may differ in the last bits.
_SAME: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Edges:
    """The two edges a bound is judged by. lower = 0 where no edge lies below the bound: then nothing can Pass."""

    lower: float
    upper: float

    @property
    def exact(self) -> bool:
        """The bound is an edge."""
        return self.lower == self.upper


@dataclass(frozen=True, slots=True)
class EdgeChoice:
    """Edges, or None when the bound cannot be judged; `message` says why, or what stays undecided ("" if exact)."""

    edges: Edges | None
    message: str


def choose_edges(edges: Iterable[float], bound: float, *, quantile: float, seconds_per_unit: float = 1.0) -> EdgeChoice:
    """The edges that `bound` is judged by. `edges` in any order, with or without +Inf."""
    finite = sorted(e for e in edges if math.isfinite(e) and e > 0)
    name, text = f"p{100 * quantile:g}", _say(bound * seconds_per_unit)
    if not finite:
        return EdgeChoice(None, f"{name} bound {text}: the histogram has no buckets")
    same = [e for e in finite if math.isclose(e, bound, rel_tol=_SAME)]
    if same:
        return EdgeChoice(Edges(same[0], same[0]), "")
    if bound > finite[-1]:
        last = _say(finite[-1] * seconds_per_unit)
        return EdgeChoice(
            None,
            f"{name} bound {text} is above the last bucket {last}: slower requests are not told apart, "
            "so it could never fail",
        )
    upper = min(e for e in finite if e > bound)
    above = _say(upper * seconds_per_unit)
    below = [e for e in finite if e < bound]
    if not below:
        return EdgeChoice(
            Edges(0.0, upper),
            f"{name} bound {text} lies below the first bucket {above}: it can fail but never pass",
        )
    return EdgeChoice(
        Edges(below[-1], upper),
        f"{name} bound {text} lies between the buckets {_say(below[-1] * seconds_per_unit)} and {above}: "
        f"a {name} between them stays Inconclusive",
    )


def shared_edges(*arms: Iterable[float]) -> frozenset[float]:
    """Edges that every arm has: the relative test may use no other."""
    sets = [frozenset(arm) for arm in arms]
    return frozenset.intersection(*sets) if sets else frozenset()


def slower(cumulative: Mapping[float, float], edge: float) -> float:
    """x(e) = n − cumulative(le = e): requests slower than an edge, n = cumulative(+Inf). All are slower than 0."""
    return cumulative[math.inf] - (cumulative[edge] if edge > 0 else 0.0)


def _say(seconds: float) -> str:
    return f"{seconds:g}s" if seconds >= 1 else f"{seconds * 1000:g}ms"
