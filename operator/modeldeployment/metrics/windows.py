"""A rolling sum over about the last so many seconds, in bounded memory."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from modeldeployment.metrics.counters import Edges
from modeldeployment.metrics.snapshot import Gains, Slot

ENTRIES_MAX: Final = 60
"""Entries of a window: it is exact to a sixtieth of its length."""


class Window:
    """What was counted in the last `length` seconds."""

    def __init__(self, length: float) -> None:
        self.length = length
        self._grain = length / ENTRIES_MAX
        self._entries: deque[tuple[float, Gains]] = deque()
        self._sum: Gains = {}
        self._known: deque[tuple[float, Edges]] = deque()

    def add(self, instant: float, gains: Gains, edges: Edges | None = None) -> None:
        """Counts that ended at an instant (unix seconds), which never goes back.

        edges: at which a native histogram counted all of them.
        """
        if edges is not None and gains.get(math.inf):
            last, of = self._known[-1] if self._known else (-math.inf, edges)
            if self._known and (of == edges or instant - last < self._grain):
                self._known.pop()
                edges = tuple([edge for edge in edges if edge in of])
            self._known.append((instant, edges))
        if self._entries and instant - self._entries[-1][0] < self._grain:
            _into(self._entries[-1][1], gains, 1)
        else:
            self._entries.append((instant, dict(gains)))
        _into(self._sum, gains, 1)

    def total(self, instant: float) -> dict[Slot, int]:
        """The sum at an instant; what is older is forgotten."""
        while self._entries and self._entries[0][0] <= instant - self.length:
            _into(self._sum, self._entries.popleft()[1], -1)
        while self._known and self._known[0][0] <= instant - self.length:
            self._known.popleft()
        return self._sum

    def edges(self, edges: Edges) -> Edges:
        """Those of the edges that counted all of the sum."""
        return tuple([edge for edge in edges if all(edge in of for _, of in self._known)])


def _into(total: Gains, gains: Gains, sign: int) -> None:
    for slot, gain in gains.items():
        total[slot] = total.get(slot, 0) + sign * gain
