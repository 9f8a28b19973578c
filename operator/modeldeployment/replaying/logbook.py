"""The decision log, cut into trials: what Prometheus does not know of a rollout, and when it was so."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from modeldeployment.api.status import DecisionRecord

EVIDENT: Final = frozenset(
    {
        "StepPassed",
        "RolledBack",
        "WatchAlarm",
        "ComparisonEnded",
        "Inconclusive",
        "RolledBackInconclusive",
        "PromotedInconclusive",
    }
)
"""Effects that follow from a look at the evidence; beside them every `…Fault`."""
MOVES: Final = frozenset(
    {"WeightRaised", "WeightLowered", "Promoted", "CanaryUnavailable", "WatchAlarm", "ComparisonEnded"}
)
"""Effects after which the router gets other weights, and the trial goes on."""
ENDS: Final = frozenset(
    {
        "RolledBack",
        "RolledBackInconclusive",
        "Aborted",
        "ProgressDeadlineExceeded",
        "StableUnavailable",
        "RolloutCancelled",
        "RolloutReplaced",
        "Reverted",
        "WatchEnded",
    }
)
"""Effects that end a trial."""
_BESIDE: Final = re.compile(r"starting .+ beside (.+), at 0%")


@dataclass(frozen=True, slots=True)
class Trial:
    """One rollout and its watch, as the log has it.

    Attributes:
        records: its decisions, oldest first; the first is RolloutStarted.
        next: the decision that began the next rollout, if one did.
    """

    records: tuple[DecisionRecord, ...]
    next: DecisionRecord | None = None

    @property
    def revision(self) -> str:
        """The revision on trial."""
        return self.records[0].revision

    @property
    def version(self) -> str:
        """Its version."""
        return self.records[0].version

    @property
    def stable_version(self) -> str:
        """The version that served before; the sentence of the first decision names it."""
        found = _BESIDE.fullmatch(self.records[0].message)
        return found[1] if found else ""

    @property
    def start(self) -> datetime:
        """When it began."""
        return self.records[0].time

    @property
    def end(self) -> datetime | None:
        """When it ended; None while it goes on."""
        last = self.records[-1]
        if last.effect in ENDS:
            return last.time
        return self.next.time if self.next else None

    def time_of(self, effect: str) -> datetime | None:
        """When something was decided first; None: never."""
        return next((r.time for r in self.records if r.effect == effect), None)


def evident(effect: str) -> bool:
    """Whether such a decision follows from a look at the evidence."""
    return effect in EVIDENT or effect.endswith("Fault")


def trials(log: Iterable[DecisionRecord], since: datetime | None = None) -> list[Trial]:
    """The trials of a log that is oldest first, whose beginning is in it; those that ended before `since` are not."""
    found: list[list[DecisionRecord]] = []
    for record in log:
        if record.effect == "RolloutStarted":
            found.append([record])
        elif found and record.revision == found[-1][0].revision and found[-1][-1].effect not in ENDS:
            found[-1].append(record)
    cut = [
        Trial(tuple(records), after[0] if after else None)
        for records, after in zip(found, [*found[1:], []], strict=False)
    ]
    return [t for t in cut if since is None or t.end is None or t.end >= since]


def look_times(trial: Trial, looks: Sequence[datetime], usual: Callable[[datetime], datetime]) -> list[datetime]:
    """When each look was decided upon: as the log has it, else when that is `usual` for its instant."""
    told = [r.time for r in trial.records if evident(r.effect)]
    times = []
    for number, look in enumerate(looks):
        least = usual(look)
        most = usual(looks[number + 1]) if number + 1 < len(looks) else None
        in_log = (time for time in told if least <= time and (most is None or time < most))
        times.append(next(in_log, least))
    return times
