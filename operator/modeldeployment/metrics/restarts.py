"""Whether a process began anew between two scrapes: its counters tell, else what the kubelet says of its container.

The kubelet's word is of container `model` alone, cut to whole seconds, and by the clock of its node. So it is believed
only of endpoints that are that container's own, once for each start, and only where no reading speaks against it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from modeldeployment.api.serving import SeriesIdentity
from modeldeployment.metrics.dialects import selectors_of
from modeldeployment.metrics.identity import Endpoint
from modeldeployment.metrics.planning import Indicator
from modeldeployment.metrics.snapshot import Slot
from modeldeployment.metrics.watched import Watched

GRAIN: Final = 1.0
"""Kubernetes cuts times to whole seconds: a process that started at 5.9 s says 5 s."""
SKEW: Final = 10.0
"""Seconds that a start may be told too late, or too early: then it is the one that the counters have shown already."""
TELLING: Final = (Indicator.REQUESTS, math.inf)
"""Counters that every request raises: when one of them fell, it is the process that is another."""


@dataclass(frozen=True, slots=True)
class Starts:
    """When containers `model` started last.

    Attributes:
        at: pod → unix seconds.
        ports: pod → ports of that container, none where it is alone in its pod. Of a pod that is not in here it is
            not known which endpoints are the container's.
    """

    at: Mapping[str, float] = field(default_factory=dict)
    ports: Mapping[str, frozenset[int]] = field(default_factory=dict)

    def own(self, endpoint: Endpoint) -> bool | None:
        """Whether the endpoint is of container `model`; None if that is not known."""
        ports = self.ports.get(endpoint[0])
        if not ports:
            return None if ports is None else True
        port = endpoint[1].rpartition(":")[2]
        return port.isdecimal() and int(port) in ports


NO_STARTS: Final = Starts()


def starts_of(model: Watched) -> Starts:
    """The starts that concern a model's counters: none where a proxy counts, which lives on."""
    if selectors_of(model.metrics).identity is not SeriesIdentity.POD:
        return NO_STARTS
    return Starts({pod: moment.timestamp() for pod, moment in model.started.items()}, model.ports)


@dataclass(slots=True)
class Process:
    """What is known of the restarts behind one endpoint.

    Attributes:
        start: the latest start that was made up one's mind about.
        fell: scrape that showed another process, whose start was not told yet.
    """

    start: float = 0.0
    fell: float = -math.inf

    def began_anew(
        self,
        before: Mapping[Slot, float],
        reading: Mapping[Slot, float],
        scrapes: tuple[float, float],
        endpoint: Endpoint,
        starts: Starts,
    ) -> bool:
        """Whether all that the reading shows was counted since the scrape before. scrapes: that one, and this."""
        last, seen = scrapes
        start = starts.at.get(endpoint[0], 0.0)
        told = start > self.start
        new = not last
        if new or (seen > last and any(reading.get(slot, math.inf) < before.get(slot, 0.0) for slot in TELLING)):
            if told and start <= seen + SKEW:
                self.start, self.fell = start, -math.inf
            else:
                self.fell = seen
            return not new
        if not told or seen < start + GRAIN:
            return False
        self.start = start
        if last >= start or abs(start - self.fell) <= SKEW:
            return False
        own = starts.own(endpoint)
        if any(value > before.get(slot, value) for slot, value in reading.items()):
            return own is True and last + GRAIN <= start
        return own is not False
