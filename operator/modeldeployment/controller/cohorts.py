"""Models by how often they are looked at: those of one interval are looked at together, at the same instants."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime

from modeldeployment.controller.store import Key
from modeldeployment.metrics import evaluation_instant
from modeldeployment.metrics.watched import settle_of


class Cohorts:
    """Interval (s) → models, kept so that nobody has to go through all of them.

    Attributes:
        delay: by how much (s) every look is later still: samples may take a detour.
    """

    def __init__(self) -> None:
        self.delay = 0.0
        self._intervals: dict[Key, float] = {}
        self._members: dict[float, set[Key]] = defaultdict(set)
        self._looked: dict[float, float] = {}

    def clear(self) -> None:
        """Nobody is known."""
        self._intervals.clear()
        self._members.clear()

    def assign(self, key: Key, interval: float) -> None:
        """Puts a model where it belongs; 0: nowhere."""
        before = self._intervals.pop(key, 0.0)
        if before and before != interval:
            self._members[before].discard(key)
            if not self._members[before]:
                del self._members[before]
        if interval:
            self._intervals[key] = interval
            self._members[interval].add(key)

    def due(self, now: datetime) -> Iterator[tuple[float, datetime, float]]:
        """Cohorts whose instant has come and was not looked at: interval, instant, and how late (s) it is."""
        for gone in self._looked.keys() - self._members.keys():
            del self._looked[gone]
        for interval in self._members:
            instant = evaluation_instant(now, interval, settle=self._settle(interval))
            if self._looked.get(interval) != instant.timestamp():
                yield interval, instant, max(0.0, now.timestamp() - instant.timestamp() - self._settle(interval))

    def members(self, interval: float) -> list[Key]:
        """Who is in a cohort."""
        return sorted(self._members[interval])

    def looked(self, interval: float, instant: datetime) -> None:
        """Notes that a cohort is being looked at."""
        self._looked[interval] = instant.timestamp()

    def wait(self, now: datetime) -> float:
        """Seconds until the next instant; infinite without a cohort."""
        moment = now.timestamp()
        waits = (
            (math.floor((moment - self._settle(interval)) / interval) + 1) * interval + self._settle(interval) - moment
            for interval in self._looked
        )
        return min(waits, default=math.inf)

    def _settle(self, interval: float) -> float:
        return settle_of(interval, self.delay)
