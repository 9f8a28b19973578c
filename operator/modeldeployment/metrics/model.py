"""One model's counters over time: closes intervals, keeps windows, remembers who had traffic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from modeldeployment.api.serving import MetricsSource
from modeldeployment.decision import budget
from modeldeployment.decision.counting import count, edges_of
from modeldeployment.decision.evidence import Delta, Interval, Strain, Tally
from modeldeployment.decision.rules import RuleKind, Sli
from modeldeployment.metrics.counters import STUCK_AFTER, Counters, Edges, Taken
from modeldeployment.metrics.dialects import selectors_of
from modeldeployment.metrics.identity import pod_of
from modeldeployment.metrics.ladder import Ladder
from modeldeployment.metrics.planning import Indicator
from modeldeployment.metrics.restarts import starts_of
from modeldeployment.metrics.snapshot import Gains, Snapshot
from modeldeployment.metrics.watched import Watched
from modeldeployment.metrics.windows import Window


class ModelState:
    """What is remembered of one model between two looks. `known_from`: instant of its first snapshot (unix seconds).

    Attributes:
        source: what its counters were read by, once they were: others count something else, and must begin anew.
        ladders: what a budget counts → what it counted.
    """

    def __init__(self, known_from: float) -> None:
        self.counters = Counters(known_from)
        self.instant = known_from
        self.last_traffic: dict[str, float] = {}
        self.history_given: object = None
        self.source: MetricsSource | None = None
        self.ladders: dict[Sli, Ladder] = {}
        self._closed = known_from
        self._known_from = known_from
        self._control_absent = False
        self._trial: object = None
        self._windows: dict[tuple[str, float], Window] = {}

    def step(self, model: Watched, snapshot: Snapshot) -> Interval | None:
        """Takes in a snapshot later than the one before; returns the interval that it closes.

        An interval closes once every live endpoint of both arms was scraped since the last close (ADR 0003). Until then
        differences add up: pods are scraped at different times, and an interval may be shorter than the time between
        scrapes. A control that is not scraped at all holds nothing up for longer than STUCK_AFTER.
        """
        if self._trial != (trial := (model.trial, model.trial_start)):
            self.counters.skip()
            self._trial, self._closed = trial, self.instant
        created = {pod: moment.timestamp() for pod, moment in model.pods.items()}
        gained = self.counters.observe(snapshot, created, starts_of(model))
        for revision, gains in gained.items():
            self.count(model, revision, snapshot.instant, gains, self.counters.natively(snapshot, revision))
        self._spend(model, snapshot, gained)
        self.instant = snapshot.instant
        return self._close(model, snapshot)

    def count(self, model: Watched, revision: str, instant: float, gains: Gains, edges: Edges | None = None) -> None:
        """Adds to the windows of a revision, and to what is known of its traffic.

        edges: at which a native histogram counted all of it.
        """
        if gains.get(Indicator.REQUESTS) or gains.get(Indicator.ERRORS):
            self.last_traffic[revision] = max(instant, self.last_traffic.get(revision, 0.0))
        for length in model.windows:
            key = (revision, length)
            if key not in self._windows:
                self._windows[key] = Window(length)
            self._windows[key].add(instant, gains, edges)

    def keep(self, model: Watched) -> None:
        """Forgets what is no longer asked for, and notes what the rest was read by."""
        self.source = selectors_of(model.metrics)
        self.counters.keep(model.revisions, model.pods)
        if self.last_traffic.keys() - set(model.revisions):
            self.last_traffic = {r: t for r, t in self.last_traffic.items() if r in model.revisions}
        kept = {(r, w) for r in model.revisions for w in model.windows}
        for key in self._windows.keys() - kept:
            del self._windows[key]
        for sli in self.ladders.keys() - model.slis:
            del self.ladders[sli]

    def windows(self, model: Watched, instant: float, indicators: frozenset[Indicator]) -> dict[float, Delta]:
        """What the serving revision did in each window; none before it was scraped at all."""
        if self.counters.newest(model.serving) is None:
            return {}
        edges = self.counters.edges(model.serving)
        found = {length: self._windows.get((model.serving, length)) for length in model.windows}
        return {
            length: delta(window.total(instant), window.edges(edges), indicators)
            if window
            else delta({}, edges, indicators)
            for length, window in found.items()
        }

    def tallies(self) -> dict[Sli, dict[float, Tally]]:
        """What each budget counted up to the last snapshot, in each window; none of those whose past is still read."""
        return {
            sli: {window: ladder.total(self.instant, window) for window in (*budget.WINDOWS, sli.period)}
            for sli, ladder in self.ladders.items()
            if ladder.told
        }

    def _spend(self, model: Watched, snapshot: Snapshot, gained: Mapping[str, Gains]) -> None:
        """Adds to the budgets, which are the model's: all its revisions spend them."""
        for sli in model.slis - self.ladders.keys():
            if sli.kind is RuleKind.SLOW or Indicator.ERRORS in snapshot.indicators:  # else nobody counts errors
                self.ladders[sli] = Ladder(sli.period, self.instant)
        if not self.ladders:
            return
        for revision, gains in gained.items():
            counted = delta(gains, self.counters.edges(revision), snapshot.indicators)
            for sli, ladder in self.ladders.items():
                counts = count(sli, counted, edges_of(sli, [counted])[0])
                if counts is not None:
                    ladder.add(snapshot.instant, int(counts.n), int(counts.low))

    def _close(self, model: Watched, snapshot: Snapshot) -> Interval | None:
        counters, absent = self.counters, self._is_absent(model, snapshot.instant)
        if absent:
            counters.give_up(model.control)
        if not model.trial or snapshot.instant <= model.since:
            counters.skip()
            self._closed, self._control_absent = snapshot.instant, absent
            return None
        if not (counters.fresh(model.trial) and (not model.control or absent or counters.fresh(model.control))):
            return None
        trial = counters.take(model.trial)
        # In the interval in which the control comes back it is seen for a shorter time than the trial.
        alone = not model.control or absent or self._control_absent
        control = Taken({}, {}, None) if alone else counters.take(model.control)
        counters.skip()
        self._control_absent = absent
        starts = [moment for moment in (trial.oldest, control.oldest) if moment is not None]
        interval = Interval(
            start=utc(self._closed),
            end=utc(snapshot.instant),
            oldest_start=utc(min(starts)),
            trial=_deltas(trial, snapshot.indicators),
            control=_deltas(control, snapshot.indicators),
            strain=_strain(model.trial, trial, snapshot),
        )
        self._closed = snapshot.instant
        return interval

    def _is_absent(self, model: Watched, instant: float) -> bool:
        """Whether no endpoint of the control was scraped for so long that the trial must be judged without it."""
        began = model.trial_start.timestamp() if model.trial_start else -math.inf
        seen = self.counters.newest(model.control) or -math.inf
        return bool(model.control) and instant - max(seen, began, self._known_from) > STUCK_AFTER


def as_history(interval: Interval) -> Interval:
    """An interval of one revision alone, as what the control did."""
    return replace(interval, trial={}, control=interval.trial)


def delta(gains: Gains, edges: Edges, indicators: frozenset[Indicator]) -> Delta:
    """Counts in the decision's own terms. Errors are None where nobody asked for them, or nobody counts them."""
    timed = Indicator.LATENCY in indicators and bool(edges)
    return Delta(
        requests=gains.get(Indicator.REQUESTS, 0),
        errors=gains.get(Indicator.ERRORS, 0) if Indicator.ERRORS in indicators else None,
        faster={edge: gains.get(edge, 0) for edge in edges if edge < math.inf} if timed else {},
        timed=gains.get(math.inf, 0) if timed else 0,
    )


def utc(moment: float) -> datetime:
    """Unix seconds as a time."""
    return datetime.fromtimestamp(moment, UTC)


def _deltas(taken: Taken, indicators: frozenset[Indicator]) -> Mapping[str, Delta]:
    return {pod: delta(gains, taken.edges.get(pod, ()), indicators) for pod, gains in taken.pods.items()}


def _strain(revision: str, taken: Taken, snapshot: Snapshot) -> dict[str, Strain]:
    """How hard-pressed the pods are that counted. Of two jobs that scrape one pod the larger gauge counts."""
    shown: dict[tuple[str, Indicator], float] = {}
    for (of, endpoint), gauges in snapshot.gauges.items():
        for indicator, value in gauges.items() if of == revision else ():
            key = pod_of(endpoint), indicator
            shown[key] = max(value, shown.get(key, value))
    strain = {
        pod: Strain(
            queue=shown.get((pod, Indicator.QUEUE)),
            saturation=shown.get((pod, Indicator.SATURATION)),
            timeouts=gains.get(Indicator.TIMEOUTS, 0) if Indicator.TIMEOUTS in snapshot.indicators else None,
        )
        for pod, gains in taken.pods.items()
    }
    return {pod: one for pod, one in strain.items() if one != Strain()}
