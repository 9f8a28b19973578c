"""What came of it: a row for each rollout, the totals of both judges, a table for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.rollouts.judging import LIMITS, Counts, broken, exact_interval, rolled_back_in

JSON = dict[str, Any]
PROMOTED = frozenset({"Promoted"})
BACK = frozenset({"RolledBack", "RolledBackInconclusive", "ProgressDeadlineExceeded", "Aborted"})
UNDECIDED = "Undecided"


@dataclass(frozen=True)
class Rollout:
    """One canary rollout of a good version.

    Attributes:
        name, version: of the ModelDeployment, and of what it was asked for.
        seed: what the canary's errors were drawn with.
        result: effect of the operator's decision about the version, or Undecided.
        message: its words.
        seconds: from the canary's first requests to the decision.
        canary, stable: what both arms did in that time.
        looks: intervals that the operator's rules had.
        windows: the canary's counts in whole windows.
        clients: version → the same as its clients counted it, by when they sent.
        judged: the numbers that the operator's last verdict stood on, as its record has them.
    """

    name: str
    version: str
    seed: str
    result: str
    message: str
    seconds: float
    canary: Counts
    stable: Counts
    looks: int
    windows: tuple[Counts, ...]
    clients: Mapping[str, Counts] = field(default_factory=dict)
    judged: JSON | None = None

    def to_json(self, bound: float) -> JSON:
        """As the report has it; windows as [requests, errors]."""
        over = broken(self.windows, bound)
        return {
            **asdict(self),
            "windows": [[window.requests, window.errors] for window in self.windows],
            "windows_broken": len(over),
            "threshold_rolled_back_in_window": {
                f"f={limit}": rolled_back_in(self.windows, bound, limit) for limit in LIMITS
            },
        }


@dataclass(frozen=True)
class Totals:
    """One judge over all rollouts. `ci_low`, `ci_high`: exact 95 % interval of rolled_back / runs."""

    judge: str
    runs: int
    rolled_back: int
    promoted: int
    undecided: int
    ci_low: float
    ci_high: float

    @classmethod
    def of(cls, rollouts: Sequence[Rollout], bound: float, limits: Sequence[int] = LIMITS) -> list[Totals]:
        """The operator's rules, then the plain threshold at each limit, which promotes what it does not roll back."""
        promoted = sum(rollout.result in PROMOTED for rollout in rollouts)
        undecided = sum(rollout.result == UNDECIDED for rollout in rollouts)
        made = [cls._made("sequential (the operator)", len(rollouts), promoted, undecided)]
        for limit in limits:
            back = sum(rolled_back_in(rollout.windows, bound, limit) is not None for rollout in rollouts)
            made.append(cls._made(f"threshold, f = {limit}", len(rollouts), len(rollouts) - back, 0))
        return made

    @classmethod
    def _made(cls, judge: str, runs: int, promoted: int, undecided: int) -> Totals:
        back = runs - promoted - undecided
        low, high = exact_interval(back, runs)
        return cls(judge, runs, back, promoted, undecided, round(low, 4), round(high, 4))


def table(rollouts: Sequence[Rollout], totals: Sequence[Totals], bound: float) -> str:
    """Rollouts, then judges."""
    head = ("rollout", "canary", "errors", "stable", "errors", "looks", "windows broken", "seconds", "result")
    rows = [
        (
            rollout.name,
            f"{rollout.canary.requests:,}",
            f"{rollout.canary.errors} ({rollout.canary.share:.2%})",
            f"{rollout.stable.requests:,}",
            f"{rollout.stable.errors} ({rollout.stable.share:.2%})",
            str(rollout.looks),
            f"{len(broken(rollout.windows, bound))} of {len(rollout.windows)}",
            f"{rollout.seconds:.0f}",
            rollout.result,
        )
        for rollout in rollouts
    ]
    judges = [
        (t.judge, f"{t.rolled_back} of {t.runs}", f"{t.ci_low:.0%}-{t.ci_high:.0%}", str(t.promoted), str(t.undecided))
        for t in totals
    ]
    heads = ("judge", "rolled back", "95 % interval", "promoted", "undecided")
    return f"{_aligned(head, rows)}\n\n{_aligned(heads, judges)}"


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    )
