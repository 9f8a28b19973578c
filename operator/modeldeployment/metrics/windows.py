"""A rolling sum over about the last so many seconds, in bounded memory."""

from __future__ import annotations

from collections import deque
from typing import Final

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

    def add(self, instant: float, gains: Gains) -> None:
        """Counts that ended at an instant (unix seconds), which never goes back."""
        if self._entries and instant - self._entries[-1][0] < self._grain:
            _into(self._entries[-1][1], gains, 1)
        else:
            self._entries.append((instant, dict(gains)))
        _into(self._sum, gains, 1)

    def total(self, instant: float) -> dict[Slot, int]:
        """The sum at an instant; what is older is forgotten."""
        while self._entries and self._entries[0][0] <= instant - self.length:
            _into(self._sum, self._entries.popleft()[1], -1)
        return self._sum


def _into(total: Gains, gains: Gains, sign: int) -> None:
    for slot, gain in gains.items():
        total[slot] = total.get(slot, 0) + sign * gain
