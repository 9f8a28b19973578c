"""The evidence of all models: what Prometheus counted, as exact differences between the instants of looking."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from modeldeployment.decision.evidence import DataState, Evidence, History, Interval
from modeldeployment.metrics import readings, recall, replay, states
from modeldeployment.metrics.answer import Answer
from modeldeployment.metrics.asking import Asking
from modeldeployment.metrics.client import PrometheusClient
from modeldeployment.metrics.dialects import selectors_of
from modeldeployment.metrics.errors import PrometheusError
from modeldeployment.metrics.identity import Owners
from modeldeployment.metrics.model import ModelState, utc
from modeldeployment.metrics.planning import Indicator, Plan, plan, sources
from modeldeployment.metrics.sharding import Shards
from modeldeployment.metrics.snapshot import Snapshot
from modeldeployment.metrics.watched import ModelKey, Watched

REPLAYS_MAX: Final = 3
"""After so many failed replays, while other queries are answered, a model starts from now (the range is too much)."""
HISTORIES_MAX: Final = 40
"""Trials that get their history in one look; others in the next ones."""
IN_A_ROW: Final = 20
"""Models whose evidence is made before others have their turn."""
TIMEOUTS: Final = 2
"""The queries of a look have ended after so many times the timeout of one: scrapes are asked before counters."""
PATIENCE_SHARE, PATIENCE_MAX = 0.25, 1.0
"""A late query is waited for this share of an interval, at most so many seconds, before others have their evidence."""


class EvidenceStore:
    """Holds each model's counters between looks. `stale_after`: age (s) above which samples are stale."""

    def __init__(self, stale_after: float = 60.0) -> None:
        self.stale_after = stale_after
        self._states: dict[ModelKey, ModelState] = {}
        self._failed_replays: dict[ModelKey, int] = {}
        self._shards, self._past_shards = Shards(), Shards()
        self._recalling = False

    def forget(self, key: ModelKey) -> None:
        """Drops what is known of a model."""
        self._states.pop(key, None)
        self._failed_replays.pop(key, None)

    async def look(
        self, models: Sequence[Watched], instant: datetime, prometheus: PrometheusClient
    ) -> AsyncGenerator[dict[ModelKey, Evidence], None]:
        """The evidence of a cohort (models with one interval) at an instant, a multiple of that interval.

        In at most two batches: those whose queries were answered soon do not wait for the others, nor for the past of
        models that are new here. Which of the models have their evidence already may be looked at anew meanwhile.

        A query that fails, or is late, is told in the evidence of the models that need it: one for counters as their
        state, one of a PromQL objective beside it, since the counters' rules are judged without it. The next answer
        then spans more time, and nothing is lost. An instant that is not later than a model's last one brings it
        nothing new.
        """
        now, asked = readings.moment(instant.timestamp()), plan(models)

        async def ask(text: str, purpose: str) -> Answer:
            return await prometheus.instant(text, instant, purpose=purpose)

        patience = min(PATIENCE_MAX, PATIENCE_SHARE * min((m.interval for m in models), default=0.0))
        async with Asking(asked, ask, self._shards, TIMEOUTS * prometheus.connection.timeout) as asking:
            await asking.wait(seconds=patience)
            soon = {
                m.key
                for group in asked.groups
                for m in group.models
                if asking.ended((*group.texts(m), *m.queries)) and not (self._is_new(m) or self._wants_history(m))
            }
            if 0 < len(soon) < len(models):
                yield await self._told([m for m in models if m.key in soon], asked, asking, now, prometheus)
                models = [m for m in models if m.key not in soon]
            # Nobody waits any longer for signals: without them they are unknown.
            names = {model.key for model in models}
            needed = [(*g.texts(m), *m.queries) for g in asked.groups for m in g.models if m.key in names]
            await asking.wait(text for texts in needed for text in texts)
        yield await self._told(models, asked, asking, now, prometheus)

    async def _told(
        self, models: Sequence[Watched], asked: Plan, asking: Asking, now: float, prometheus: PrometheusClient
    ) -> dict[ModelKey, Evidence]:
        """The evidence of models all of whose queries have ended."""
        owners, keys = Owners(models), {model.key for model in models}
        members = [(group, [m for m in group.models if m.key in keys]) for group in asked.groups]
        whole = [m for group, some in members for m in some if asking.failure(group.texts(m)) is None]
        missed = await self._catch_up(whole, now, prometheus)
        history = await self._history(whole, now, prometheus)
        values = _values(models, asking, owners)
        evidence: dict[ModelKey, Evidence] = {}
        for group, some in members:
            found = asking.group(group) if some else None
            seen = await readings.snapshots(replace(group, models=tuple(some)), owners, *found, [now]) if found else {}
            for number, model in enumerate(some, start=1):
                if number % IN_A_ROW == 0:
                    await asyncio.sleep(0)
                caught_up = missed.get(model.key, ())
                error = asking.failure(group.texts(model))
                snapshot = seen[model.key][0] if error is None else None
                if isinstance(caught_up, PrometheusError):
                    error, caught_up = error or caught_up, ()
                elif snapshot is not None:
                    error = readings.doubled([snapshot])
                evidence[model.key] = self._evidence(
                    model,
                    now,
                    snapshot if error is None else None,
                    intervals=tuple(caught_up),
                    history=history.get(model.key),
                    values=values.get(model.key, {}),
                    query_errors=asking.failures(model.queries),
                    error=error,
                    indicators=group.needs(model),
                )
        return evidence

    async def recall(self, models: Sequence[Watched], instant: datetime, prometheus: PrometheusClient) -> None:
        """Reads the past of the models' budgets that are new here. Beside the looks: one reader at a time."""
        if self._recalling:
            return
        self._recalling = True
        try:
            known = [(m, state.ladders, state.counters) for m in models if (state := self._states.get(m.key))]
            await recall.recall(known, instant.timestamp(), prometheus)
        finally:
            self._recalling = False

    def _evidence(
        self,
        model: Watched,
        now: float,
        snapshot: Snapshot | None,
        *,
        intervals: tuple[Interval, ...],
        history: History | None,
        values: Mapping[tuple[str, str], float],
        query_errors: Mapping[str, str],
        error: PrometheusError | None,
        indicators: frozenset[Indicator],
    ) -> Evidence:
        state = self._states.get(model.key)
        if state is None:  # it never had an answer, or was forgotten meanwhile
            failed = (DataState.QUERY_ERROR, str(error or "the model began anew while it was looked at"))
            return Evidence(*failed, utc(now), model.subject, values=values, query_errors=query_errors)
        if snapshot is not None and now > state.instant:
            closed = state.step(model, snapshot)
            intervals = intervals if closed is None else (*intervals, closed)
            state.keep(model)
        told = (DataState.QUERY_ERROR, str(error)) if error else None
        if told is None:
            assert snapshot is not None  # no error
            told = states.judge(model, state, snapshot, self.stale_after)
        return Evidence(
            *told,
            utc(now),
            model.subject,
            intervals=intervals,
            history=history,
            windows=state.windows(model, now, indicators),
            tallies=state.tallies(),
            data_age=states.data_age(model, state, now),
            values=values,
            query_errors=query_errors,
            sources=sources(model) if model.trial else {},
            last_traffic={revision: utc(moment) for revision, moment in state.last_traffic.items()},
        )

    async def _catch_up(
        self, models: Sequence[Watched], now: float, prometheus: PrometheusClient
    ) -> dict[ModelKey, list[Interval] | PrometheusError]:
        """Makes the states of models that are new here; returns what each missed."""
        new = [m for m in models if self._is_new(m)]
        if not new:
            return {}
        made: dict[ModelKey, list[Interval] | PrometheusError] = {}
        intervals = {model.key: model.interval for model in new}
        source = replay.Past(prometheus, self._past_shards)
        for key, past in (await replay.replay(new, now, self.stale_after, source)).items():
            if not isinstance(past, PrometheusError):
                self._failed_replays.pop(key, None)
                self._states[key], made[key] = past
                continue
            self._failed_replays[key] = self._failed_replays.get(key, 0) + 1
            if self._failed_replays[key] < REPLAYS_MAX:
                made[key] = past
                self._states.pop(key, None)
            else:
                self._states[key] = ModelState(now - intervals[key])
        return made

    def _is_new(self, model: Watched) -> bool:
        state = self._states.get(model.key)
        if state is None or state.source not in (None, selectors_of(model.metrics)):
            return True
        # Status beyond what was seen here: another leader went on meanwhile.
        return model.evidence_time is not None and model.evidence_time.timestamp() > state.instant

    def _wants_history(self, model: Watched) -> bool:
        state = self._states.get(model.key)
        asked = model.wants_history and bool(model.control)
        return asked and state is not None and state.history_given != (model.trial, model.trial_start)

    async def _history(
        self, models: Sequence[Watched], now: float, prometheus: PrometheusClient
    ) -> dict[ModelKey, History]:
        wanting = [m for m in models if self._wants_history(m)][:HISTORIES_MAX]
        if not wanting:
            return {}
        given = await replay.history(wanting, now, replay.Past(prometheus, self._past_shards))
        for model in wanting:
            if model.key in given and model.key in self._states:
                self._states[model.key].history_given = (model.trial, model.trial_start)
        return given


def _values(models: Sequence[Watched], asking: Asking, owners: Owners) -> dict[ModelKey, dict[tuple[str, str], float]]:
    who: dict[str, list[ModelKey]] = {}
    for model in models:
        for query in model.queries:
            who.setdefault(query, []).append(model.key)
    found: dict[ModelKey, dict[tuple[str, str], float]] = {}
    for query, keys in who.items():
        answer = asking.answer(query)
        if answer is not None:
            for (key, revision), value in readings.values(answer, owners, keys).items():
                found.setdefault(key, {})[query, revision] = value
    return found
