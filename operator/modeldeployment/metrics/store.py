"""The evidence of all models: what Prometheus counted, as exact differences between the instants of looking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from modeldeployment.decision.evidence import DataState, Evidence, History, Interval
from modeldeployment.metrics import readings, replay, states
from modeldeployment.metrics.asking import Answers, ask_all
from modeldeployment.metrics.client import Answer, PrometheusClient
from modeldeployment.metrics.dialects import selectors_of
from modeldeployment.metrics.errors import PrometheusError
from modeldeployment.metrics.identity import Owners
from modeldeployment.metrics.model import ModelState, utc
from modeldeployment.metrics.planning import Group, Indicator, plan, sources
from modeldeployment.metrics.snapshot import Snapshot
from modeldeployment.metrics.watched import ModelKey, Watched

REPLAYS_MAX: Final = 3
"""After so many failed replays, while other queries are answered, a model starts from now (the range is too much)."""
HISTORIES_MAX: Final = 40
"""Trials that get their history in one look; others in the next ones."""


class EvidenceStore:
    """Holds each model's counters between looks. `stale_after`: age (s) above which samples are stale."""

    def __init__(self, stale_after: float = 60.0) -> None:
        self.stale_after = stale_after
        self._states: dict[ModelKey, ModelState] = {}
        self._failed_replays: dict[ModelKey, int] = {}

    def forget(self, key: ModelKey) -> None:
        """Drops what is known of a model."""
        self._states.pop(key, None)
        self._failed_replays.pop(key, None)

    async def look(
        self, models: Sequence[Watched], instant: datetime, prometheus: PrometheusClient
    ) -> dict[ModelKey, Evidence]:
        """The evidence of a cohort (models with one interval) at an instant, a multiple of that interval.

        A query that fails is told in the evidence of the models that need it: one for counters as their state, one of a
        PromQL objective beside it, since the counters' rules are judged without it. An instant that is not later than a
        model's last one brings it nothing new.
        """
        now = readings.moment(instant.timestamp())
        asked = plan(models)

        async def ask(text: str, purpose: str) -> Answer:
            return await prometheus.instant(text, instant, purpose=purpose)

        answers = await ask_all(asked, ask)
        owners = Owners(models)
        whole = [m for group in asked.groups for m in group.models if not _counters_failed(group, m, answers)]
        missed = await self._catch_up(whole, now, prometheus)
        history = await self._history(whole, now, prometheus)
        values = _values(models, answers, owners)
        evidence: dict[ModelKey, Evidence] = {}
        for group in asked.groups:
            found = answers.group(group)
            seen = readings.snapshots(group, owners, *found, [now]) if found else {}
            for model in group.models:
                caught_up = missed.get(model.key, ())
                error = _counters_failed(group, model, answers)
                if isinstance(caught_up, PrometheusError):
                    error, caught_up = error or caught_up, ()
                snapshot = seen[model.key][0] if error is None else None
                evidence[model.key] = self._evidence(
                    model,
                    now,
                    snapshot,
                    intervals=tuple(caught_up),
                    history=history.get(model.key),
                    values=values.get(model.key, {}),
                    query_errors=answers.failures(model.queries),
                    error=error,
                    indicators=group.needs(model),
                )
        return evidence

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
        if state is None:  # it never had an answer
            failed = (DataState.QUERY_ERROR, str(error))
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
        for key, past in (await replay.replay(new, now, self.stale_after, prometheus)).items():
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

    async def _history(
        self, models: Sequence[Watched], now: float, prometheus: PrometheusClient
    ) -> dict[ModelKey, History]:
        wanting = [
            m
            for m in models
            if m.wants_history
            and m.control
            and (state := self._states.get(m.key)) is not None
            and state.history_given != (m.trial, m.trial_start)
        ][:HISTORIES_MAX]
        if not wanting:
            return {}
        given = await replay.history(wanting, now, prometheus)
        for model in wanting:
            if model.key in given:
                self._states[model.key].history_given = (model.trial, model.trial_start)
        return given


def _counters_failed(group: Group, model: Watched, answers: Answers) -> PrometheusError | None:
    """Why a model's own counters cannot be told."""
    return answers.failure([group.scrapes, *(group.counters[i] for i in sorted(group.needs(model)))])


def _values(
    models: Sequence[Watched], answers: Answers, owners: Owners
) -> dict[ModelKey, dict[tuple[str, str], float]]:
    asking: dict[str, list[ModelKey]] = {}
    for model in models:
        for query in model.queries:
            asking.setdefault(query, []).append(model.key)
    found: dict[ModelKey, dict[tuple[str, str], float]] = {}
    for query, keys in asking.items():
        answer = answers.answer(query)
        if answer is not None:
            for (key, revision), value in readings.values(answer, owners, keys).items():
                found.setdefault(key, {})[query, revision] = value
    return found
