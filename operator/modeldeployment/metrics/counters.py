"""Exact differences of counters, endpoint by endpoint. Pure: snapshots in, whole numbers out.

- A counter that fell was reset: what it shows was counted since. When requests fell, the process began anew, and with
  it all its counters (restarts.py).
- A counter that was absent in an earlier snapshot in which its endpoint had been scraped starts from zero. So does one
  of a pod that is younger than what is known. Any other starts from its first reading.
- An edge that is new to a native histogram which had requests, as its schema or a bound changed, counts from its
  first reading, and is not used for a time that began before.
- One address is counted once, by the job that first brought counters of it. Endpoints that have none (a sidecar's, a
  prober's) hold nothing up and hide nothing, as long as others have some.
- An endpoint that vanishes keeps what it had, and goes on from there if it comes back.
- What is absent is never taken for zero, and NaN is absent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from modeldeployment.metrics.identity import Endpoint, pod_of
from modeldeployment.metrics.planning import Indicator
from modeldeployment.metrics.restarts import NO_STARTS, Process, Starts
from modeldeployment.metrics.snapshot import Gains, Slot, Snapshot

CREATED_GRAIN: Final = 1.0
"""Kubernetes cuts times to whole seconds: a pod created at 5.9 s says 5 s."""
OTHER_JOB_AFTER: Final = 300.0
"""Seconds after which another job's copy of the same endpoint is taken, the first having vanished (a job renamed)."""
STUCK_AFTER: Final = 75.0
"""Seconds after which an endpoint that is scraped no more, and has not vanished either, holds no interval up."""
FORGET_AFTER: Final = 86_400.0
"""Seconds after which an endpoint that vanished, and whose pod is gone, is forgotten."""


Edges = tuple[float, ...]
"""Edges (ms) of a histogram, +Inf among them; empty where there is none."""


@dataclass(slots=True)
class Target:
    """One endpoint's counters of one revision.

    Attributes:
        values: as read last.
        scrape: when it was scraped last.
        base: scrape that `pending` starts from.
        pending: counted since `base`.
        edges: edges (ms) of a native histogram at which all of `pending` was counted; None: those of `values`.
        process: what is known of its restarts.
        lost: its arm was given up: what it counts until it is read again is of times that nobody compares.
    """

    scrape: float
    base: float
    values: dict[Slot, float] = field(default_factory=dict)
    pending: Gains = field(default_factory=dict)
    edges: Edges | None = None
    process: Process = field(default_factory=Process)
    lost: bool = False

    @property
    def fresh(self) -> bool:
        """Whether it was scraped since its differences were taken last."""
        return self.scrape > self.base

    def begin(self) -> None:
        """Drops the differences so far, and begins new ones."""
        self.base, self.pending, self.edges = self.scrape, {}, None


@dataclass(frozen=True, slots=True)
class Taken:
    """Differences of one revision since they were taken last.

    Attributes:
        pods: pod → what it counted; a pod that was scraped and had nothing to count is in here, too.
        edges: pod → the edges at which its histogram counted all the time.
        oldest: scrape that the oldest of them starts from; None without any.
    """

    pods: Mapping[str, Gains]
    edges: Mapping[str, Edges]
    oldest: float | None


class Counters:
    """Counters of one model's endpoints. `known_from`: the instant of its first snapshot (unix seconds)."""

    def __init__(self, known_from: float) -> None:
        self.known_from = known_from
        self.targets: dict[str, dict[Endpoint, Target]] = {}
        self._scraped: dict[Endpoint, tuple[frozenset[Indicator], float]] = {}
        self._jobs: dict[tuple[str, str, str], str] = {}
        self._edges: dict[str, Edges] = {}
        self._instant = known_from
        self._live: set[Endpoint] = set()

    def observe(
        self,
        snapshot: Snapshot,
        created: Mapping[str, float] | None = None,
        starts: Starts = NO_STARTS,
    ) -> dict[str, Gains]:
        """Takes a snapshot in; returns revision → what it counted since the one before, over all its pods.

        created: pod → when it was created (unix seconds).
        """
        gained: dict[str, Gains] = {}
        known: dict[str, Edges] = {}
        for (revision, endpoint), reading in self._in_order(snapshot):
            seen = snapshot.scrapes.get(endpoint, snapshot.instant)
            target = self._target(revision, endpoint, seen, snapshot, created or {})
            if target is None:
                continue
            renewed = seen > target.scrape and endpoint in snapshot.scrapes
            scrapes = (target.scrape, seen if renewed else target.scrape)
            anew = target.process.began_anew(target.values, reading, scrapes, endpoint, starts)
            if anew:
                target.values = {}
            target.scrape = max(target.scrape, seen)
            lost, target.lost = target.lost, False
            if lost:
                target.begin()
            if reading == target.values:
                continue
            if anew:
                gains = {slot: round(value) for slot, value in reading.items() if value}
            else:
                gains = self._difference(revision, endpoint, target.values, reading, created or {}, snapshot.native)
            # A counter that a scrape did not bring is gone, and begins anew when it is back. Without a scrape of its
            # own (pushed, or a proxy that forgot the cluster) or as NaN it is only silent.
            silent = snapshot.dropped.get((revision, endpoint), ()) if renewed else target.values.keys()
            before = target.values
            target.values = {**{s: v for s, v in before.items() if s in silent}, **reading}
            if snapshot.native and (edges := _known(_edges(reading), before, reading)):
                known[revision] = _common(known.get(revision), edges)
                target.edges = None if lost else _common(target.edges, edges)
            if gains:
                if not lost:
                    _add(target.pending, gains)
                _add(gained.setdefault(revision, {}), gains)
        self._edges |= known
        self._remember(snapshot)
        return gained

    def fresh(self, revision: str) -> bool:
        """Whether every live endpoint of the revision was scraped since its differences were taken last.

        Were one enough, a lone canary's counts would always be newer than those of stable's many pods, and an
        incident that both have would look like the canary's (ADR 0003).
        """
        counting = self._counting(revision)
        return all(t.fresh for e, t in counting.items() if e in self._live) and any(t.fresh for t in counting.values())

    def take(self, revision: str) -> Taken:
        """Hands out the differences of a revision, and begins new ones."""
        pods: dict[str, Gains] = {}
        edges: dict[str, Edges] = {}
        oldest: float | None = None
        counting = self._counting(revision)
        for endpoint, target in self.targets.get(revision, {}).items():
            if target.pending or (target.fresh and endpoint in counting):
                pod = pod_of(endpoint)
                oldest = target.base if oldest is None else min(oldest, target.base)
                _add(pods.setdefault(pod, {}), target.pending)
                if mine := _edges(target.values) if target.edges is None else target.edges:
                    edges[pod] = _common(edges.get(pod), mine)
            target.begin()
        return Taken(pods, edges, oldest)

    def skip(self) -> None:
        """Drops the differences so far."""
        for targets in self.targets.values():
            for target in targets.values():
                target.begin()

    def give_up(self, revision: str) -> None:
        """Begins a revision's endpoints anew when they are read again, as they would for who never knew them."""
        for target in self.targets.get(revision, {}).values():
            target.lost, target.pending, target.edges = True, {}, None

    def keep(self, revisions: Iterable[str], pods: Mapping[str, object]) -> None:
        """Forgets other revisions, and endpoints that vanished long ago with their pods."""
        for gone in self.targets.keys() - set(revisions):
            del self.targets[gone]
            self._edges.pop(gone, None)
            self._jobs = {key: job for key, job in self._jobs.items() if key[0] != gone}
        limit = self._instant - FORGET_AFTER
        old = [e for e, (_, seen) in self._scraped.items() if seen < limit and e[0] not in pods]
        for endpoint in old:
            del self._scraped[endpoint]
            for revision, targets in self.targets.items():
                targets.pop(endpoint, None)
                if self._jobs.get(address := (revision, *endpoint[:2])) == endpoint[2]:
                    del self._jobs[address]

    def newest(self, revision: str) -> float | None:
        """When the revision was scraped last (unix seconds); None: never."""
        return max((t.scrape for t in self._counting(revision).values() if t.scrape), default=None)

    def has(self, slot: Indicator, revisions: Iterable[str]) -> bool:
        """Whether some endpoint of these revisions has the counter."""
        return any(slot in t.values for r in revisions for t in self.targets.get(r, {}).values())

    def edges(self, revision: str) -> Edges:
        """The edges of the revision's histogram; of a native one those at which `observe` counted all the last time."""
        if revision in self._edges:
            return self._edges[revision]
        return next((e for t in self.targets.get(revision, {}).values() if (e := _edges(t.values))), ())

    def natively(self, snapshot: Snapshot, revision: str) -> Edges | None:
        """The same after this snapshot where its histograms are native; None for classic ones, whose edges stay."""
        return self.edges(revision) if snapshot.native else None

    def has_buckets(self, revision: str) -> bool:
        """Whether some endpoint of the revision has a histogram."""
        return bool(self.edges(revision))

    def _in_order(self, snapshot: Snapshot) -> Iterator[tuple[tuple[str, Endpoint], dict[Slot, float]]]:
        """Owners first, others by name: which of two jobs comes first must not depend on an answer's order."""
        new = []
        for key, reading in snapshot.readings.items():
            revision, (pod, instance, job) = key
            if self._jobs.get((revision, pod, instance)) == job:
                yield key, reading
            else:
                new.append(key)
        for key in sorted(new):
            yield key, snapshot.readings[key]

    def _target(
        self,
        revision: str,
        endpoint: Endpoint,
        seen: float,
        snapshot: Snapshot,
        created: Mapping[str, float],
    ) -> Target | None:
        """The target; None if another job scrapes the same endpoint, whose counters would count twice."""
        targets = self.targets.setdefault(revision, {})
        target, reading = targets.get(endpoint), snapshot.readings[revision, endpoint]
        address = (revision, *endpoint[:2])
        owner = self._jobs.get(address)
        if owner == endpoint[2] and target is not None:
            return target
        if owner is not None and owner != endpoint[2]:
            rival = (*endpoint[:2], owner)
            other = targets.get(rival)
            if not reading or (other is not None and self._goes_on(other, snapshot, (revision, rival))):
                return None
            self._jobs[address] = endpoint[2]
            target = targets[endpoint] = Target(seen, seen, dict(reading))
            if other is not None:
                del targets[rival]
                target.base, target.pending, target.edges = other.base, other.pending, other.edges
            return target
        if reading:
            self._jobs[address] = endpoint[2]
            for bare in [e for e, t in targets.items() if e[:2] == endpoint[:2] and e != endpoint and not t.values]:
                del targets[bare]
        if target is None:
            target = targets[endpoint] = Target(0.0, self._base(revision, endpoint, seen, created))
        return target

    @staticmethod
    def _goes_on(owner: Target, snapshot: Snapshot, key: tuple[str, Endpoint]) -> bool:
        """Whether the job that counts an address still does."""
        counts = bool(owner.values or snapshot.readings.get(key))
        return counts and snapshot.instant - owner.scrape <= OTHER_JOB_AFTER

    def _counting(self, revision: str) -> Mapping[Endpoint, Target]:
        """The endpoints that count for the revision, or may: not those beside one that does, nor their whole job."""
        found: dict[Endpoint, Target] = {}
        counting: set[str] = set()
        bare: set[str] = set()
        for of, targets in self.targets.items():
            pods = {e[0] for e, t in targets.items() if t.values}
            counting |= {e[2] for e, t in targets.items() if t.values}
            bare |= {e[2] for e, t in targets.items() if not t.values and e[0] in pods}
            if of == revision:
                found = {e: t for e, t in targets.items() if t.values or e[0] not in pods}
        bare -= counting
        return {e: t for e, t in found.items() if t.values or e[2] not in bare} if bare else found

    def _base(self, revision: str, endpoint: Endpoint, seen: float, created: Mapping[str, float]) -> float:
        if endpoint in self._scraped:
            return self._scraped[endpoint][1]
        if not self._young(endpoint, created):
            return seen
        return min(seen, created.get(endpoint[0], self._instant))

    def _difference(
        self,
        revision: str,
        endpoint: Endpoint,
        last: Mapping[Slot, float],
        reading: Mapping[Slot, float],
        created: Mapping[str, float],
        native: bool,
    ) -> Gains:
        fell = {_indicator(slot) for slot, value in reading.items() if value < last.get(slot, 0.0)}
        gains: Gains = {}
        strange = native and _is_old(last, reading)
        for slot, value in reading.items():
            before = last.get(slot)
            if _indicator(slot) in fell:
                gain = value
            elif before is not None:
                gain = value - before
            elif strange and isinstance(slot, float):
                gain = 0.0
            else:
                gain = value if self._from_zero(slot, revision, endpoint, created) else 0.0
            if gain:
                gains[slot] = round(gain)
        return gains

    def _from_zero(self, slot: Slot, revision: str, endpoint: Endpoint, created: Mapping[str, float]) -> bool:
        """Whether a counter that is new here had counted nothing when its endpoint was scraped before."""
        scraped = self._scraped.get(endpoint)
        return _indicator(slot) in scraped[0] if scraped else self._young(endpoint, created)

    def _young(self, endpoint: Endpoint, created: Mapping[str, float]) -> bool:
        """Whether the endpoint cannot have counted before the first snapshot."""
        born = created.get(endpoint[0])
        # One of unknown age (a proxy, a pod that is gone again) may be an old one that is scraped since now, with all
        # it ever counted: that must not count.
        return born is not None and born + CREATED_GRAIN > self.known_from

    def _remember(self, snapshot: Snapshot) -> None:
        unscraped = {endpoint for _, endpoint in snapshot.readings if endpoint not in snapshot.scrapes}
        scraped = {e for e, seen in snapshot.scrapes.items() if seen and snapshot.instant - seen <= STUCK_AFTER}
        self._live = scraped | unscraped
        for endpoint, seen in snapshot.scrapes.items():
            if seen:
                self._scraped[endpoint] = (snapshot.indicators, seen)
        for endpoint in unscraped:
            self._scraped[endpoint] = (snapshot.indicators, snapshot.instant)
        self._instant = snapshot.instant


def _indicator(slot: Slot) -> Indicator:
    return slot if isinstance(slot, Indicator) else Indicator.LATENCY


def _edges(values: Mapping[Slot, float]) -> Edges:
    return tuple([slot for slot in values if isinstance(slot, float)])


def _known(edges: Edges, before: Mapping[Slot, float], reading: Mapping[Slot, float]) -> Edges:
    """Those edges of a reading at which the difference to the reading before is known."""
    if not before.get(math.inf) or any(reading[edge] < before.get(edge, 0.0) for edge in edges):
        return edges  # it counts from zero, or not yet
    return edges if all(edge in before for edge in edges) else tuple([edge for edge in edges if edge in before])


def _is_old(last: Mapping[Slot, float], reading: Mapping[Slot, float]) -> bool:
    """Whether a native histogram had requests before, so that an edge that is new may have counted any of them.

    One that is new as a whole had them if it shows more than came meanwhile: Prometheus scrapes it since now.
    """
    if math.inf in last or Indicator.REQUESTS not in last:
        return last.get(math.inf, 0.0) > 0
    came = reading.get(Indicator.REQUESTS, math.inf) - last[Indicator.REQUESTS]
    return reading.get(math.inf, 0.0) > came


def _common(some: Edges | None, others: Edges) -> Edges:
    """What both have."""
    if some is None or some == others:
        return others
    return tuple([edge for edge in some if edge in others])


def _add(to: Gains, gains: Mapping[Slot, int]) -> None:
    for slot, gain in gains.items():
        to[slot] = to.get(slot, 0) + gain
