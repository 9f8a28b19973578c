"""Error budgets: how much of the allowed bad requests is left, and whether they are spent too fast.

An objective allows a share a of requests to be bad. Over the budget's period T, which ends now, those are its error
budget. Of a window of w seconds with n requests, x of them bad:

    burn rate           b = (x / n) / a        at b = 1 the budget lasts exactly for its period
    share of the budget    b · w / T           what such a window spends
    remaining              1 − b over T

Alerts (Google, The Site Reliability Workbook, 2018, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts"; the pair 1d/2h is
Sloth's): a pair of windows fires while b is at least the factor f = c · T / w over both; c is the share of the budget
that is spent by then, w the longer window. The shorter one ends the alert soon after the burn. Of 30 days, f = 14.4,
6, 3 and 1, and errors at a rate p that begin suddenly are noticed after f · a · w / p seconds.

- Requests and bad ones are summed over the window and divided then. An average of ratios would weigh a quiet night like
  a busy noon (Sloth #241, #332); and a window without requests burns nothing, where 0/0 would be NaN for as long as it
  is in the period (Sloth #231).
- Of a window that is known for k < w seconds only, the rest is taken for time without bad requests, at the same
  traffic: b is k/w of what it was in these k seconds. So a young model's budget is not spent by its first minutes, and
  a burn is noticed as late as in an old one.
- Of few requests one bad one is a high rate: a pair fires only once the e-test of the absolute rule (decision.md §3;
  one look at one window) proves the rate of the longer window to be above a, or above a · f/2 where that is less. It
  takes 4 bad requests at f = 14.4, and 37 at f = 1. A budget is said to be overspent by the same rule.
- A factor whose rate nothing could reach (a · f ≥ 1) would never fire, and f < 1 would fire while the budget lasts: f
  is kept from 1 to nine tenths of the way from the bound to everything failing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from modeldeployment.api.quantities import say_duration
from modeldeployment.api.status import Alert, BudgetStatus, BurnStatus, ObjectiveStatus
from modeldeployment.decision import kernel
from modeldeployment.decision.evidence import Tally


@dataclass(frozen=True, slots=True)
class Pair:
    """Two windows (s), the share of the budget that is spent when they fire, and what that asks for."""

    name: str
    long: float
    short: float
    share: float
    alert: Alert


_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86_400.0
PAIRS: Final = (
    Pair("1h/5m", _HOUR, 5 * _MINUTE, 0.02, Alert.PAGE),
    Pair("6h/30m", 6 * _HOUR, 30 * _MINUTE, 0.05, Alert.PAGE),
    Pair("1d/2h", _DAY, 2 * _HOUR, 0.10, Alert.TICKET),
    Pair("3d/6h", 3 * _DAY, 6 * _HOUR, 0.10, Alert.TICKET),
)
WINDOWS: Final = tuple(sorted({window for pair in PAIRS for window in (pair.long, pair.short)}))
"""All windows (s) of the pairs."""

_REACHABLE: Final = 0.9
_GOES_ON: Final = 0.9
"""A pair that fires goes on until a rate falls below this share of its factor: one that hovers there is one alert."""
_PROOF: Final = math.log(1 / 0.01)
_ROUNDING: Final = 1e-9
_LEAST, _MOST = -999, 9999
"""Percent and burn rate beyond which status shows these."""


def factor(pair: Pair, period: float, allowed: float) -> float:
    """The burn rate at which a pair fires. period in seconds; allowed is the share of requests that may be bad."""
    wanted = max(1.0, pair.share * period / pair.long)
    return min(wanted, 1 - _REACHABLE + _REACHABLE / allowed)


def burn_rate(tally: Tally, window: float, allowed: float) -> float:
    """How many times faster than allowed requests failed over a window (s); 0 without requests."""
    if tally.requests <= 0:
        return 0.0
    return tally.bad / tally.requests / allowed * min(1.0, tally.known / window)


def remaining(tally: Tally, period: float, allowed: float) -> float:
    """Share of the budget that is left, of what was counted over its period (s): 1 when nothing is spent."""
    return 1 - burn_rate(tally, period, allowed)


def fires(pair: Pair, tallies: Mapping[float, Tally], period: float, allowed: float, *, before: bool = False) -> bool:
    """Whether the budget burns too fast over both windows of a pair. `before`: whether it did at the last look."""
    wanted = factor(pair, period, allowed)
    least = wanted * (_GOES_ON if before else 1 - _ROUNDING)
    long, short = tallies[pair.long], tallies[pair.short]
    if min(burn_rate(long, pair.long, allowed), burn_rate(short, pair.short, allowed)) < least:
        return False
    return before or _proven(long, wanted, allowed)


def status(
    tallies: Mapping[float, Tally], period: float, allowed: float, now: datetime, before: BudgetStatus | None = None
) -> BudgetStatus:
    """The budget as status shows it. tallies: of WINDOWS and the period; `before`: what it showed at the last look."""
    firing = {burn.name for burn in before.burning} if before else set()
    burning = [p for p in PAIRS if fires(p, tallies, period, allowed, before=p.name in firing)]
    whole = tallies[period]
    left = remaining(whole, period, allowed)
    if left < 0 and not _proven(whole, 1.0, allowed):
        left = 0.0
    return BudgetStatus(
        remaining=f"{max(_LEAST, math.floor(round(100 * left, 6)))}%",
        since=now - timedelta(seconds=round(whole.known)) if whole.known < period else None,
        alert=min((pair.alert for pair in burning), key=list(Alert).index, default=None),
        burning=tuple(
            BurnStatus(name=p.name, rate=f"{min(_MOST, burn_rate(tallies[p.long], p.long, allowed)):.4g}")
            for p in burning
        ),
    )


def lowest(objectives: Iterable[ObjectiveStatus]) -> str:
    """What is left of the budget of which least is left; "" where none is known."""
    left = (o.budget.remaining for o in objectives if o.budget)
    return min(left, key=_percent, default="")


def overspent(budget: BudgetStatus) -> bool:
    """Whether more bad requests were counted than the period allows, proven."""
    return _percent(budget.remaining) < 0


def say(budget: BudgetStatus, now: datetime) -> str:
    """`97% left of the budget, known for 96h`, with the burn rates that fire."""
    known = f", known for {say_duration((now - budget.since).total_seconds())}" if budget.since else ""
    burning = "".join(f", burning {b.rate} times too fast over {b.name}" for b in budget.burning)
    return f"{budget.remaining} of the budget left{known}{burning}"


def _percent(text: str) -> int:
    return int(text.rstrip("%"))


def _proven(tally: Tally, wanted: float, allowed: float) -> bool:
    """Whether the counts alone prove a rate above the bound, or above half of the factor's where that is less."""
    bound = allowed * min(1.0, wanted / 2)
    return float(kernel.log_mean_exp(kernel.absolute_increments(tally.requests, tally.bad, bound=bound))) >= _PROOF
