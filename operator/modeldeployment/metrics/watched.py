"""What the store is asked to look at, and at which instants."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from modeldeployment.api.serving import Metrics
from modeldeployment.decision.rules import Sli

ModelKey = tuple[str, str]
"""Namespace and name of a ModelDeployment."""

SETTLE: Final = 1.0
"""Seconds after which a scrape that began is taken to be in Prometheus' store."""
SETTLE_SHARE: Final = 0.1
"""A look is this share of its interval (at most SETTLE) late, so that the scrapes before it are stored."""


@dataclass(frozen=True)
class Watched:
    """One model as its evidence is gathered.

    Attributes:
        key: namespace and name.
        metrics: how its metrics are read.
        revisions: revisions that may have traffic: serving, on trial, previous, draining.
        serving: the revision that serves; "" before the first.
        trial: the revision on trial or being watched; "" if none.
        control: the revision it is compared with; "" if none: then an interval needs the trial's arm only.
        trial_start: when the trial began. Another one is another trial: intervals start anew.
        evidence_time: the states in status hold everything up to here. Read only when the store does not know the
            model, or another leader went on from here meanwhile.
        wants_signals: ask for what tells a fault of capacity of the revision on trial (queue, saturation, timeouts).
        wants_history: hand out what the control did before the trial, once for each trial.
        interval: seconds between two looks.
        windows: window lengths (s) over which the serving revision is summed.
        slis: what the error budgets count.
        queries: PromQL objectives.
        bounds: latency bounds (ms) at which a native histogram is read.
        needs_errors, needs_latency: whether some rule counts errors, or slow requests.
        pods: pod → when it was created.
        started: pod → when its container `model` last started. Optional: with it a restart is known even where
            the new process has counted past the old one by the next scrape.
        ports: pod → ports on which container `model` listens; an empty set where the pod has no other container, so
            that all its endpoints are the container's. Optional: without it a start is believed only of an endpoint
            none of whose counters rose over it.
    """

    key: ModelKey
    metrics: Metrics
    revisions: tuple[str, ...]
    serving: str = ""
    trial: str = ""
    control: str = ""
    trial_start: datetime | None = None
    evidence_time: datetime | None = None
    wants_signals: bool = False
    wants_history: bool = False
    interval: float = 10.0
    windows: frozenset[float] = frozenset()
    slis: frozenset[Sli] = frozenset()
    bounds: frozenset[float] = frozenset()
    queries: frozenset[str] = frozenset()
    needs_errors: bool = False
    needs_latency: bool = False
    pods: Mapping[str, datetime] = field(default_factory=dict)
    started: Mapping[str, datetime] = field(default_factory=dict)
    ports: Mapping[str, frozenset[int]] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        """The revision that the state of the data speaks about."""
        return self.trial or self.serving

    @property
    def since(self) -> float:
        """Unix time up to which nothing more is wanted of a trial."""
        moment = self.evidence_time or self.trial_start
        return moment.timestamp() if moment else -math.inf


def evaluation_instant(now: datetime, interval: float, settle: float = SETTLE) -> datetime:
    """The latest multiple of the interval (s) that is at least `settle` seconds old.

    Every leader asks at these instants, so all see the same samples. A scrape that began before an instant may
    reach Prometheus' store after it; `settle` waits for that.
    """
    return datetime.fromtimestamp(math.floor((now.timestamp() - settle) / interval) * interval, UTC)


def settle_of(interval: float, delay: float = 0.0) -> float:
    """Seconds after its instant at which a look is made. `delay`: by how much (s) every look is later still."""
    return delay + min(SETTLE, SETTLE_SHARE * interval)
