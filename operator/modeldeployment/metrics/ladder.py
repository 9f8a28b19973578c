"""What was spent of a budget: sums over windows of minutes to months, in memory that does not grow.

Each request is counted once in each of four rings, of 60 buckets a minute, 6 minutes, 72 minutes and a sixtieth of the
budget's period long. A window is summed over the finest ring that is as long: 5 minutes to a fifth, an hour to a
sixtieth, a day to a twentieth of its length.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from typing import Final

from modeldeployment.decision.evidence import Tally

BUCKETS: Final = 60
GRAINS: Final = (60.0, 360.0, 4320.0)
"""Lengths (s) of the buckets: rings of 1 hour, 6 hours and 3 days. The fourth ring is as long as the period."""

TRIES: Final = 3
"""After so many failures to read its past a budget is told without it."""
AGAIN, AGAIN_MAX = 15.0, 3600.0
"""After a failure reading is tried again so many seconds later, and each time later, up to so late."""

Spent = tuple[float, int, int]
"""An instant (unix seconds), the requests that were counted just before it, and the bad ones among them."""


class Ring:
    """The last 60 buckets, and the one that is being filled. `since`: when counting began (unix seconds)."""

    __slots__ = ("_bad", "_newest", "_requests", "grain", "since")

    def __init__(self, grain: float, since: float) -> None:
        self.grain, self.since = grain, since
        self._newest = self._bucket(since)
        self._requests, self._bad = (array("q", bytes(8 * (BUCKETS + 1))) for _ in range(2))

    def add(self, instant: float, requests: int, bad: int) -> None:
        """Counts that ended at an instant; what is older than the ring is forgotten."""
        bucket = self._bucket(instant)
        for new in range(max(self._newest + 1, bucket - BUCKETS), bucket + 1):
            self._requests[new % (BUCKETS + 1)] = self._bad[new % (BUCKETS + 1)] = 0
        self._newest = max(self._newest, bucket)
        if bucket >= self._newest - BUCKETS:
            self._requests[bucket % (BUCKETS + 1)] += requests
            self._bad[bucket % (BUCKETS + 1)] += bad

    def total(self, instant: float, length: float) -> Tally:
        """The last `length` seconds before an instant, and what else is in the first bucket of that."""
        first = max(math.floor((instant - length) / self.grain), self._newest - BUCKETS)
        last = min(self._bucket(instant), self._newest)
        known = min(length, max(0.0, instant - self.since))
        if first > last:
            return Tally(0, 0, known)
        begin, end = first % (BUCKETS + 1), last % (BUCKETS + 1)
        parts = (slice(begin, end + 1),) if begin <= end else (slice(begin, None), slice(end + 1))
        return Tally(sum(sum(self._requests[p]) for p in parts), sum(sum(self._bad[p]) for p in parts), known)

    def _bucket(self, instant: float) -> int:
        """Bucket k is (k · grain, (k + 1) · grain]."""
        return math.ceil(instant / self.grain) - 1


class Ladder:
    """The rings of one budget. period in seconds; `since`: when counting began (unix seconds).

    Attributes:
        rings: the finest first.
        missing: rings whose past, before `since`, nobody has read yet → how often that failed, and when (unix
            seconds) it may be tried again.
    """

    __slots__ = ("missing", "rings", "since")

    def __init__(self, period: float, since: float) -> None:
        self.since = since
        self.rings = tuple(Ring(grain, since) for grain in (*GRAINS, period / BUCKETS))
        self.missing = dict.fromkeys(self.rings, (0, since))

    def add(self, instant: float, requests: int, bad: int) -> None:
        """Counts that ended at an instant, after those before."""
        for ring in self.rings:
            ring.add(instant, requests, bad)

    def total(self, instant: float, window: float) -> Tally:
        """What was counted in the last `window` seconds before an instant."""
        return next(r for r in self.rings if r.grain * BUCKETS >= window).total(instant, window)

    def remember(self, ring: Ring, past: Iterable[Spent], since: float) -> None:
        """What a ring would have counted, had it begun at `since`."""
        for spent in past:
            ring.add(*spent)
        ring.since = min(ring.since, since)
        self.missing.pop(ring, None)

    def failed(self, ring: Ring, instant: float) -> None:
        """The past of a ring could not be read: it is left for a while, longer each time."""
        failures = self.missing[ring][0] + 1
        self.missing[ring] = failures, instant + min(AGAIN_MAX, AGAIN * 2**failures)

    @property
    def told(self) -> bool:
        """Whether the past is known, or so hard to come by that what is known must do meanwhile."""
        return all(failures >= TRIES for failures, _ in self.missing.values())
