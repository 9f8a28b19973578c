"""What Prometheus said about one model at one instant, sorted by endpoint."""

from __future__ import annotations

from dataclasses import dataclass, field

from modeldeployment.metrics.identity import Endpoint
from modeldeployment.metrics.planning import Indicator

Slot = Indicator | float
"""One counter of an endpoint: requests, errors, timeouts, or the bucket with this edge in ms (cumulative)."""

Gains = dict[Slot, int]
"""What was counted."""


@dataclass(slots=True)
class Snapshot:
    """What Prometheus said about one model at one instant.

    Attributes:
        instant: unix seconds.
        indicators: whose queries were answered.
        scrapes: endpoint → when it was scraped last, 0 while its last scrape failed. An endpoint that has readings
            and is not in here (pushed, or of another store) counts as scraped at the instant.
        readings: (revision, endpoint) → counters. An endpoint of a pod that was scraped and counted nothing yet is
            here with no counters.
        gauges: (revision, endpoint) → what its gauges show.
        dropped: (revision, endpoint) → counters whose sample was no number.
        native: its histograms are native ones, so that edges of them come and go.
        twice: which endpoint is there twice, and by which labels; "" if none. Its counters would count double.
    """

    instant: float
    indicators: frozenset[Indicator]
    scrapes: dict[Endpoint, float] = field(default_factory=dict)
    readings: dict[tuple[str, Endpoint], dict[Slot, float]] = field(default_factory=dict)
    gauges: dict[tuple[str, Endpoint], dict[Indicator, float]] = field(default_factory=dict)
    dropped: dict[tuple[str, Endpoint], set[Slot]] = field(default_factory=dict)
    native: bool = False
    twice: str = ""
