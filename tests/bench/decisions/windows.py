"""What a query over a window of the canary's requests answers at each look: the input of the peers' rules."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.decisions.scenarios import INTERVAL, Batch, Floats


class Answer(IntEnum):
    """What came back."""

    VALUE = 0
    """A vector of one value, which is NaN where there was no request."""
    EMPTY = 1
    """An empty vector: no sample in the window."""
    ERROR = 2
    """The query failed."""


class Answers(NamedTuple):
    """At each look: Answer and value, (runs, looks). The value means nothing where there is none."""

    kind: NDArray[np.int8]
    value: Floats


LOOK: Final = INTERVAL
"""Seconds between the columns of Answers."""


def looks(seconds: float) -> int:
    """A time as a number of looks."""
    return round(seconds / LOOK)


def in_window(counts: Floats, window: float) -> Floats:
    """Sums over the last `window` seconds at each look; less at the start, where there is less."""
    total = np.cumsum(counts, axis=1)
    width = looks(window)
    before = np.concatenate([np.zeros((len(total), min(width, total.shape[1]))), total[:, :-width]], axis=1)
    return np.asarray(total - before)


def error_share(batch: Batch, window: float) -> Answers:
    """Bad requests over all requests of the canary: `sum(rate(bad[w])) / sum(rate(all[w]))`."""
    n, x = batch.canary.arm
    n, x = in_window(n, window), in_window(x, window)
    samples = in_window(batch.observed.astype(np.float64), window)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = x / n
    kind = np.where(batch.down, Answer.ERROR, np.where(samples < 1, Answer.EMPTY, Answer.VALUE)).astype(np.int8)
    return Answers(kind, np.where(kind == Answer.VALUE, value, np.nan))
