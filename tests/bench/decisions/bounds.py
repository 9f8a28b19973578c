"""What the benchmark must show, held against what it showed: met or not, and by how much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from bench.decisions.cells import INSIDE
from bench.decisions.measures import Row, wilson
from bench.decisions.run import WATCH, Settings
from bench.decisions.scenarios import INTERVAL

OURS: Final = "sequential"
INSIDE_AT_MOST: Final = 0.25
"""A version inside its bound but worse than stable: P(E_abs ever ≥ 4), by theorem."""
DELAY_AT_MOST: Final = 1.5
DELAY_AT_MOST_SLOW: Final = 2.2
"""At 1 rps."""
_SLOW_RPS: Final = 20


class Held(NamedTuple):
    """One bound in one scenario. `met` is None where it was not measured, or where it is shown and not promised."""

    bound: str
    scenario: str
    met: bool | None
    measured: str

    def __str__(self) -> str:
        word = {True: "met", False: "NOT MET", None: "shown"}[self.met]
        return f"{word:8} {self.bound}: {self.scenario}: {self.measured}"


def held(rows: Sequence[Row], settings: Settings) -> list[Held]:
    """Every bound in every scenario that ran."""
    ours = [row for row in rows if row.rule == OURS]
    return [
        *_false_rollbacks([row for row in ours if row.table in ("good", "bursts")], settings),
        *_limits([row for row in ours if row.table == "limit"], settings),
        *_with_watch(rows, settings),
        *_delays(rows),
        *_promotions([row for row in ours if row.table == "promotion"], settings),
        *(_before(row, settings) for row in ours if row.table == "late"),
    ]


def summary(all_held: Sequence[Held]) -> str:
    """Those not met first, then the others."""
    order = {False: 0, None: 1, True: 2}
    lines = [str(one) for one in sorted(all_held, key=lambda one: order[one.met])]
    missed = sum(one.met is False for one in all_held)
    return "\n".join([*lines, f"{sum(one.met is True for one in all_held)} met, {missed} not met"])


def _rate(hits: int, runs: int, limit: float) -> tuple[bool, str]:
    low, high = wilson(hits, runs)
    margin = f"{abs(limit - hits / runs):.2%} {'below' if hits / runs <= limit else 'ABOVE'} {limit:.0%}"
    return hits / runs <= limit, f"{hits / runs:.2%} [{low:.2%}, {high:.2%}], {margin}"


def _false_rollbacks(rows: Sequence[Row], settings: Settings) -> list[Held]:
    """A version no worse than stable: ≤ α. One that is worse but inside its bound: ≤ 25 %."""
    found = []
    for row in rows:
        inside = row.scenario in INSIDE
        limit = INSIDE_AT_MOST if inside else settings.alpha
        name = "rolled back though inside its bound" if inside else "false rollbacks ≤ α"
        found.append(Held(name, row.scenario, *_rate(row.rolled_back, row.runs, limit)))
    return found


def _limits(rows: Sequence[Row], settings: Settings) -> list[Held]:
    found = []
    for row in rows:
        under, said = _rate(row.rolled_back, row.runs, settings.alpha)
        name = "false rollbacks ≤ α, 5-min bursts" if row.good else "a canary that fails alone for a minute"
        promised = row.good and "known" not in row.scenario  # three hours and a day are, where it is not said
        found.append(Held(name, row.scenario, under if promised else None, said))
    return found


def _with_watch(rows: Sequence[Row], settings: Settings) -> list[Held]:
    """Rollout and watch together, of a good version at the same traffic: ≤ α of both."""
    limit, name = settings.alpha + settings.watch_alpha, "false rollbacks over rollout and 24 h watch ≤ α"
    found = []
    for row in rows:
        if row.table != WATCH or not row.good:
            continue
        if row.rule != OURS:
            found.append(
                Held(name, row.scenario, None, f"rule {row.rule}: {_rate(row.rolled_back, row.runs, limit)[1]}")
            )
            continue
        rollouts = [r for r in rows if r.table == "good" and r.rule == OURS and r.rps == row.rps]
        worst = max((r.share for r in rollouts if r.scenario not in INSIDE), default=None)
        if worst is None:
            found.append(Held(name, row.scenario, None, f"watch {row.share:.2%}; no rollout at this traffic was run"))
            continue
        total = worst + row.share
        said = f"worst rollout {worst:.2%} + watch {row.share:.2%} = {total:.2%}, allowed {limit:.0%}"
        found.append(Held(name, row.scenario, total <= limit, said))
    return found


def _delays(rows: Sequence[Row]) -> list[Held]:
    """Median ≤ 1.5 × that of the oracle that needs both, in intervals rounded up; at 1 rps ≤ 2.2 ×.

    Beside a stable version that never fails it is held where a day of it is known.
    """
    cells = {(row.scenario, row.rule): row for row in rows if row.table in ("bad", "clean")}
    found = []
    for (scenario, rule), row in cells.items():
        best = cells.get((scenario, "oracle vs both"))
        if rule != OURS or best is None:
            continue
        factor = DELAY_AT_MOST if row.rps >= _SLOW_RPS else DELAY_AT_MOST_SLOW
        name = f"median delay ≤ {factor} × the oracle's"
        if row.median_seconds is None or best.median_seconds is None:
            said = f"median beyond the rollout; caught {row.share:.1%}, oracle {best.share:.1%}"
            found.append(Held(name, scenario, None if best.median_seconds is None else False, said))
            continue
        allowed = math.ceil(factor * best.median_seconds / INTERVAL - 1e-9) * INTERVAL
        ratio = row.median_seconds / best.median_seconds
        said = f"{row.median_seconds:g} s, oracle {best.median_seconds:g} s, {ratio:.2f} ×, allowed {allowed:g} s"
        shown = "ICC" in scenario or (row.table == "clean" and "24 h known" not in scenario)
        found.append(Held(name, scenario, None if shown else row.median_seconds <= allowed, said))
    return found


def _promotions(rows: Sequence[Row], settings: Settings) -> list[Held]:
    """A version at detectable × bound: proven good enough in all steps ≤ β, were it never rolled back."""
    return [Held("promotions ≤ β", row.scenario, *_rate(row.proven or 0, row.runs, settings.beta)) for row in rows]


def _before(row: Row, settings: Settings) -> Held:
    return Held(
        "false rollbacks ≤ α before it turns bad", row.scenario, *_rate(row.before_onset, row.runs, settings.alpha)
    )
