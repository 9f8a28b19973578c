"""From the looks at which rollouts were rolled back to a row of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from bench.decisions.ours import NEVER, Looks
from bench.decisions.scenarios import INTERVAL, Bools, Floats

_Z: Final = NormalDist().inv_cdf(0.975)


def wilson(hits: int, runs: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    if runs == 0:
        return 0.0, 1.0
    p, z2 = hits / runs, _Z * _Z
    middle = (p + z2 / (2 * runs)) / (1 + z2 / runs)
    half = _Z * math.sqrt(p * (1 - p) / runs + z2 / (4 * runs * runs)) / (1 + z2 / runs)
    return (0.0 if hits == 0 else middle - half), (1.0 if hits == runs else middle + half)


@dataclass(frozen=True)
class Row:
    """One rule in one scenario.

    Attributes:
        scenario, table, rule: names; `table` says which of the report's tables it is in.
        rps: requests per second.
        runs: rollouts.
        rolled_back: how many of them the rule rolled back.
        ci_low, ci_high: 95 % Wilson interval of rolled_back / runs.
        median_seconds, p90_seconds: from the onset to the rollback, over rollouts not rolled back before it, those
            never rolled back counted as infinitely late; None: infinite.
        median_low, median_high: 95 % interval of the median, from its order statistics.
        bad_requests: failed requests of the canary until it was rolled back, or to the end; mean over rollouts.
        good: whether rolling back is wrong.
        before_onset: how many were rolled back before the version turned bad.
        promoted: how many were proven good enough in each step and not rolled back; None where it was not asked.
        proven: how many were proven good enough in each step, rolled back or not.
    """

    scenario: str
    table: str
    rule: str
    rps: float
    runs: int
    rolled_back: int
    ci_low: float
    ci_high: float
    median_seconds: float | None
    p90_seconds: float | None
    bad_requests: float
    good: bool
    median_low: float | None = None
    median_high: float | None = None
    before_onset: int = 0
    promoted: int | None = None
    proven: int | None = None

    @property
    def share(self) -> float:
        """Share of rollouts rolled back."""
        return self.rolled_back / self.runs

    def to_json(self) -> dict[str, Any]:
        """As the report has it."""
        return {**asdict(self), "rolled_back_share": self.share}


@dataclass
class Sample:
    """What one rule did in some rollouts of one scenario: look of the rollback, bad requests until then."""

    looks: Looks
    bad: Floats
    proven: Bools | None = None

    @classmethod
    def join(cls, parts: Sequence[Sample]) -> Sample:
        """Rollouts of several chunks."""
        proven = [part.proven for part in parts if part.proven is not None]
        return cls(
            np.concatenate([part.looks for part in parts]),
            np.concatenate([part.bad for part in parts]),
            np.concatenate(proven) if proven else None,
        )


def row(sample: Sample, *, scenario: str, table: str, rule: str, rps: float, onset: float, good: bool) -> Row:
    """Counts, intervals and delays of one sample."""
    at = np.where(sample.looks == NEVER, math.inf, (sample.looks + 1) * INTERVAL)
    rolled_back, before = int(np.sum(at < math.inf)), int(np.sum(at <= onset))
    delays = np.sort(at[at > onset] - onset)
    low, high = wilson(rolled_back, len(at))
    # Ranks of the median's interval: binomial(n, ½), normal approximation.
    half = _Z * math.sqrt(len(delays)) / 2
    proven = sample.proven
    return Row(
        scenario=scenario,
        table=table,
        rule=rule,
        rps=rps,
        runs=len(at),
        rolled_back=rolled_back,
        ci_low=low,
        ci_high=high,
        median_seconds=_rank(delays, len(delays) / 2),
        p90_seconds=_rank(delays, 0.9 * len(delays)),
        bad_requests=round(float(np.mean(sample.bad)), 2),
        good=good,
        median_low=_rank(delays, len(delays) / 2 - half),
        median_high=_rank(delays, len(delays) / 2 + half + 1),
        before_onset=before,
        promoted=None if proven is None else int(np.sum(proven & (sample.looks == NEVER))),
        proven=None if proven is None else int(np.sum(proven)),
    )


def _rank(ordered: Floats, rank: float) -> float | None:
    """The rank-th smallest, from 1, rounded up; None if that is infinite or there is none."""
    if not len(ordered):
        return None
    value = float(ordered[min(max(math.ceil(rank), 1), len(ordered)) - 1])
    return value if math.isfinite(value) else None
