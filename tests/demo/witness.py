"""Witnesses that are not the operator: the clients' own records, and the HTTPRoute as the API server has it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lab import Lab
from lab.load import Load, Record, Snapshot
from lab.routewatch import RouteWatch, accepted

JSON = dict[str, Any]
REVISIONS = "/apis/modeldeployment.io/v1alpha1/namespaces/default/modelrevisions"
IN_FLIGHT_SECONDS = 0.25
"""A request that was on its way when the weight went to 0 may still be answered."""


@dataclass(frozen=True)
class Programmed:
    """What the route asked for from a moment on, and whether the gateway had accepted that.

    Attributes:
        at: wall-clock seconds.
        weights: version → percent; versions of weight 0 are left out.
        accepted: whether every Gateway has accepted this generation of the route.
    """

    at: float
    weights: dict[str, int]
    accepted: bool


class Route:
    """Every change of one HTTPRoute, by a watch of its own."""

    def __init__(self, lab: Lab, name: str) -> None:
        self._seen: list[Programmed] = []
        self._versions: dict[str, str] = {}
        self._watch = RouteWatch(lab.control_plane, name, self._note)

    def start(self) -> Route:
        """Begins to watch."""
        self._watch.start()
        return self

    def stop(self) -> None:
        """Ends the watch."""
        self._watch.stop()

    @property
    def history(self) -> tuple[Programmed, ...]:
        """All changes so far, oldest first."""
        return tuple(self._seen)

    @property
    def weights(self) -> dict[str, int]:
        """The weights that the gateway was last seen to have accepted."""
        return next((seen.weights for seen in reversed(self.history) if seen.accepted), {})

    def asked(self, since: float, until: float) -> list[dict[str, int]]:
        """The weights that the route asked for between two moments; one element: nothing moved."""
        before = [seen for seen in self.history if seen.at < since][-1:]
        out: list[dict[str, int]] = []
        for seen in (*before, *(seen for seen in self.history if since <= seen.at < until)):
            if not out or out[-1] != seen.weights:
                out.append(seen.weights)
        return out

    def ever(self, version: str) -> int:
        """The highest weight that a version ever had."""
        return max((seen.weights.get(version, 0) for seen in self.history), default=0)

    def zero(self, version: str, since: float) -> float | None:
        """When the gateway was first seen, at `since` or later, to have accepted a route without this version."""
        if self.history and self.history[-1].at < since and self.history[-1].accepted:
            return None if version in self.history[-1].weights else since
        found = (s.at for s in self.history if s.at >= since and s.accepted and version not in s.weights)
        return next(found, None)

    def _note(self, route: JSON) -> None:
        at = time.time()
        backends = route["spec"]["rules"][0]["backendRefs"]
        weights = {self._version(b["name"]): b["weight"] for b in backends if b["weight"]}
        seen = Programmed(at, weights, accepted(route))
        last = self._seen[-1] if self._seen else None
        if last is None or (last.weights, last.accepted) != (seen.weights, seen.accepted):
            self._seen.append(seen)

    def _version(self, revision: str) -> str:
        if revision not in self._versions:
            found = self._watch.http.get(f"{REVISIONS}/{revision}").raise_for_status().json()
            self._versions[revision] = str(found["spec"]["model"]["version"])
        return self._versions[revision]


class Clients:
    """What the clients saw. Safe to ask from several threads."""

    def __init__(self, load: Load, bound_ms: float) -> None:
        self._load, self._bound = load, bound_ms / 1000
        self._lock = threading.Lock()

    def saw(self, since: float = 0.0, until: float = float("inf")) -> Snapshot:
        """The requests sent between two moments and answered by now."""
        with self._lock:
            return self._load.snapshot().between(since, until)

    def is_bad(self, record: Record) -> bool:
        """Failed, or answered later than the bound."""
        return record.bad or record.seconds > self._bound

    def rates(self, seconds: float = 2.0) -> dict[str, tuple[float, float]]:
        """Version → (requests a second, share of bad ones) over the last moments."""
        now = time.time()
        return rates(self.saw(now - seconds - 1, now - 1).records, seconds, self.is_bad)


def rates(records: Iterable[Record], seconds: float, is_bad: Any) -> dict[str, tuple[float, float]]:
    """Version → (requests a second, share of bad ones)."""
    total: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    for record in records:
        total[record.version or str(record.status)] += 1
        bad[record.version or str(record.status)] += is_bad(record)
    return {version: (count / seconds, bad[version] / count) for version, count in sorted(total.items())}


def answered_at(record: Record) -> float:
    """When the client had its answer (wall-clock seconds)."""
    return record.sent + record.seconds
