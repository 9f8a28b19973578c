"""How a store that does not know a model yet gets to where one would be that had looked at it all the time.

The same expressions over a range, evaluated at the same instants, give the same samples: so the same steps are made,
and the same intervals come out after `evidence_time`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from modeldeployment.decision import blocks
from modeldeployment.decision.evidence import History, Interval
from modeldeployment.metrics.answer import Answer
from modeldeployment.metrics.asking import Asking
from modeldeployment.metrics.client import PrometheusClient
from modeldeployment.metrics.counters import STUCK_AFTER, Counters
from modeldeployment.metrics.errors import PrometheusError
from modeldeployment.metrics.identity import Owners
from modeldeployment.metrics.model import ModelState, as_history, utc
from modeldeployment.metrics.planning import Plan, plan
from modeldeployment.metrics.readings import doubled, moment, snapshots
from modeldeployment.metrics.restarts import starts_of
from modeldeployment.metrics.sharding import Shards
from modeldeployment.metrics.snapshot import Snapshot
from modeldeployment.metrics.watched import ModelKey, Watched
from modeldeployment.metrics.windows import ENTRIES_MAX

MARGIN: Final = 6
"""Instants before evidence_time that are read for the counters' starting points: a scrape may be missed just there."""
INSTANTS_MAX: Final = 720
"""Instants of a replay. Of a longer absence (2 h at 10 s) the older part is a gap."""
HISTORY: Final = 3 * 3600.0
"""Seconds of the control's past that its dispersion is learned from (decision.md §2)."""
HISTORY_BY_BLOCKS: Final = 24 * 3600.0
"""The same in blocks of minutes, of which three hours hold too few (ADR 0005)."""
HISTORY_INSTANTS_MAX: Final = 10_000
"""Prometheus refuses more than 11,000 a series."""
TOGETHER_MAX: Final = 20
"""Models in one query over a long range: bounds the memory of an answer."""
TIMEOUTS: Final = 4
"""The queries of one range have ended after so many times the timeout of one."""


@dataclass(frozen=True)
class Past:
    """Where the past is read: a Prometheus, and in how many parts each of its ranges is asked for."""

    prometheus: PrometheusClient
    shards: Shards


@dataclass(frozen=True)
class Grid:
    """Instants `step` seconds apart, both ends in it (unix seconds)."""

    start: float
    end: float
    step: float

    @property
    def instants(self) -> list[float]:
        """All of them."""
        return [moment(self.start + k * self.step) for k in range(round((self.end - self.start) / self.step) + 1)]


async def replay(
    models: Sequence[Watched], instant: float, stale_after: float, source: Past
) -> dict[ModelKey, tuple[ModelState, list[Interval]] | PrometheusError]:
    """The states of models that nobody looked at yet, up to the instant before this one, and what they missed."""
    grids = {model.key: _grid(model, instant, stale_after) for model in models}
    states = {key: ModelState(grid.start) for key, grid in grids.items()}
    await _fill_windows(models, grids, states, source)
    made: dict[ModelKey, tuple[ModelState, list[Interval]] | PrometheusError] = {}
    by_grid: dict[Grid, list[Watched]] = {}
    for model in models:
        by_grid.setdefault(grids[model.key], []).append(model)
    for grid, members in by_grid.items():
        # Signals of back then are unknown: what they told was found, or it was not.
        found = await _read(plan([replace(m, queries=frozenset(), wants_signals=False) for m in members]), grid, source)
        for model in members:
            past, state = found[model.key], states[model.key]
            if isinstance(past, PrometheusError):
                made[model.key] = past
                continue
            # Budgets begin with the first look, and are told of their past by another reader.
            without = replace(model, slis=frozenset())
            steps = [state.step(without, snapshot) for snapshot in past]
            made[model.key] = state, [interval for interval in steps if interval is not None]
            await asyncio.sleep(0)
    return made


async def history(models: Sequence[Watched], instant: float, source: Past) -> dict[ModelKey, History]:
    """What the control of each model did before its trial; none where it failed.

    Lately at the interval of the trial, and over a longer time in blocks of minutes (decision/blocks.py).
    """
    given: dict[ModelKey, History] = {}
    for some in _together(models):
        near = await _past_of_control(some, instant, HISTORY, lambda model: model.interval, source)
        far = await _past_of_control(some, instant, HISTORY_BY_BLOCKS, _block_seconds, source)
        given |= {key: History(intervals, far.get(key, ())) for key, intervals in near.items()}
    return given


async def _past_of_control(
    models: Sequence[Watched],
    instant: float,
    length: float,
    step_of: Callable[[Watched], float],
    source: Past,
) -> dict[ModelKey, tuple[Interval, ...]]:
    given: dict[ModelKey, tuple[Interval, ...]] = {}
    grids: dict[Grid, list[Watched]] = {}
    for model in models:
        step = step_of(model)
        start = model.trial_start.timestamp() if model.trial_start else instant
        end = math.floor(min(start, instant) / step) * step
        count = min(HISTORY_INSTANTS_MAX, round(length / step))
        alone = replace(
            model,
            revisions=(model.control,),
            trial=model.control,
            control="",
            queries=frozenset(),
            wants_signals=False,
        )
        grids.setdefault(Grid(end - count * step, end, step), []).append(alone)
    for grid, members in grids.items():
        found = await _read(plan(members), grid, source)
        for model in members:
            past = found[model.key]
            if isinstance(past, PrometheusError):
                continue
            state = ModelState(grid.start)
            since = utc(grid.start)
            asked = replace(model, trial_start=None, evidence_time=since, windows=frozenset(), slis=frozenset())
            steps = [state.step(asked, snapshot) for snapshot in past]
            given[model.key] = tuple(as_history(step) for step in steps if step is not None)
            await asyncio.sleep(0)
    return given


def _block_seconds(model: Watched) -> float:
    """A block of minutes in whole intervals, as the trial's plan has it."""
    return max(1, round(blocks.SECONDS / model.interval)) * model.interval


def _grid(model: Watched, instant: float, stale_after: float) -> Grid:
    """From where a model's past is read: instants are multiples of the interval, as every leader's are."""
    short = [w for w in model.windows if w <= ENTRIES_MAX * model.interval]
    steps = max(stale_after, *short, 0.0) / model.interval
    if model.trial and model.since > -math.inf:
        # The heir must know as well as its predecessor since when the control has not been scraped.
        margin = max(MARGIN, STUCK_AFTER / model.interval)
        steps = max(steps, (instant - model.since) / model.interval + margin)
    count = min(INSTANTS_MAX, max(1, math.ceil(steps)))
    return Grid(instant - count * model.interval, instant - model.interval, model.interval)


async def _read(asked: Plan, grid: Grid, source: Past) -> dict[ModelKey, list[Snapshot] | PrometheusError]:
    prometheus = source.prometheus

    async def ask(text: str, purpose: str) -> Answer:
        return await prometheus.range(text, utc(grid.start), utc(grid.end), grid.step, purpose=f"past {purpose}")

    async with Asking(asked, ask, source.shards, TIMEOUTS * prometheus.connection.timeout) as asking:
        await asking.wait()
    owners = Owners(model for group in asked.groups for model in group.models)
    found: dict[ModelKey, list[Snapshot] | PrometheusError] = {}
    for group in asked.groups:
        if (error := asking.failure([group.scrapes, *group.counters.values()])) is not None:
            found |= {model.key: error for model in group.models}
            continue
        of_group = asking.group(group)
        assert of_group is not None  # nothing failed
        for key, past in (await snapshots(group, owners, *of_group, grid.instants)).items():
            found[key] = doubled(past) or past
    return found


async def _fill_windows(
    models: Sequence[Watched],
    grids: Mapping[ModelKey, Grid],
    states: Mapping[ModelKey, ModelState],
    source: Past,
) -> None:
    """Windows too long for the replay's step, from a coarser one; a failure leaves them to fill with time."""
    wanted: dict[Grid, list[Watched]] = {}
    for model in models:
        near = grids[model.key]
        for length in model.windows:
            step = math.ceil(length / ENTRIES_MAX / model.interval) * model.interval
            count = math.ceil((length - (near.end - near.start)) / step)
            if length > ENTRIES_MAX * model.interval and count > 0:
                grid = Grid(near.start - count * step, near.start, step)
                alone = replace(model, queries=frozenset(), windows=frozenset({length}), wants_signals=False)
                wanted.setdefault(grid, []).append(alone)
    for grid, members in wanted.items():
        found = await _read(plan(members), grid, source)
        for model in members:
            past, counters = found[model.key], Counters(grid.start)
            if isinstance(past, PrometheusError):
                continue
            created = {pod: born.timestamp() for pod, born in model.pods.items()}
            for snapshot in past:
                for revision, gains in counters.observe(snapshot, created, starts_of(model)).items():
                    states[model.key].count(
                        model, revision, snapshot.instant, gains, counters.natively(snapshot, revision)
                    )
            await asyncio.sleep(0)


def _together(models: Sequence[Watched]) -> list[Sequence[Watched]]:
    return [models[i : i + TOGETHER_MAX] for i in range(0, len(models), TOGETHER_MAX)]
