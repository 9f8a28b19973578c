"""Runs the cells on all cores, chunk by chunk: memory does not grow with the number of rollouts.

Every chunk draws from random numbers of its own, so a cell's figures depend on the seed and on how many rollouts it
has, not on how many processes there are, nor on which other cells run.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from bench.decisions import oracle
from bench.decisions.measures import Row, Sample, row
from bench.decisions.ours import NEVER, Looks, decide
from bench.decisions.peers import PEERS
from bench.decisions.scenarios import BOUND, Floats, Scenario, Table, generate, generator
from bench.decisions.watch import Watch, Watcher, WatchScenario, detect_and_compare, since_promotion
from modeldeployment.decision.hypothesis import Bound, Plan

CHUNK: Final = 250
WATCH_CHUNK: Final = 500
"""A day is 8,640 intervals of few numbers each: more rollouts at once cost less."""
RUNS: Final = 10_000
"""Rollouts of a cell that measures how often something wrong happens."""
DELAYS_OF: Final = 0.4
"""Share of those in a cell that measures how soon something right does."""
BURSTS_OF: Final = 0.4
"""The same in a cell of the grid of bursts, most of which are alike."""
WATCHES_OF: Final = 0.4
LATE_WATCHES_OF: Final = 0.1
"""The same in a cell of 24 h, of a good version and of one that turns bad."""

WATCH: Final = "watch"
"""Name of the table of what comes after promotion."""

WATCHERS: Final[Mapping[str, Watcher]] = {"sequential": detect_and_compare, "since promotion": since_promotion}
"""Rules after promotion, by name. One named `sequential` is what the bound on rollout and watch together is held to."""


@dataclass(frozen=True)
class Settings:
    """What is the same in all cells. alpha: of the rollout; watch_alpha: of the watch after it."""

    seed: int = 1
    runs: int = RUNS
    alpha: float = 0.04
    watch_alpha: float = 0.01
    beta: float = 0.05


Cell = Scenario | WatchScenario


@dataclass(frozen=True)
class Chunk:
    """Some rollouts of one cell."""

    cell: Cell
    number: int
    size: int
    settings: Settings


def runs_of(cell: Cell, settings: Settings) -> int:
    """Rollouts of a cell."""
    if isinstance(cell, WatchScenario):
        share = WATCHES_OF if cell.good else LATE_WATCHES_OF
    else:
        share = {Table.BAD: DELAYS_OF, Table.CLEAN: DELAYS_OF, Table.LATE: DELAYS_OF, Table.BURSTS: BURSTS_OF}.get(
            cell.table, 1.0
        )
    return max(1, round(settings.runs * share))


def run(cells: Sequence[Cell], settings: Settings, *, processes: int | None = None) -> list[Row]:
    """All rows, cell by cell; progress goes to standard error."""
    chunks = [chunk for cell in cells for chunk in _chunks(cell, settings)]
    missing = {cell.name: len(list(_chunks(cell, settings))) for cell in cells}
    if len(missing) != len(cells):
        raise ValueError("two cells have one name")
    parts: dict[str, dict[int, Mapping[str, Sample]]] = {name: {} for name in missing}
    rows: dict[str, list[Row]] = {}
    began = time.monotonic()
    for chunk, samples in _mapped(chunks, processes or len(os.sched_getaffinity(0))):
        name = chunk.cell.name
        parts[name][chunk.number] = samples
        if len(parts[name]) == missing[name]:
            rows[name] = _rows(chunk.cell, [parts[name][i] for i in sorted(parts[name])])
            parts[name] = {}
            done = f"{len(rows)}/{len(cells)}"
            print(f"{time.monotonic() - began:6.0f} s  {done:>7}  {name}", file=sys.stderr, flush=True)
    return [one for cell in cells for one in rows[cell.name]]


def _chunks(cell: Cell, settings: Settings) -> Iterator[Chunk]:
    runs = runs_of(cell, settings)
    size = WATCH_CHUNK if isinstance(cell, WatchScenario) else CHUNK
    for number, start in enumerate(range(0, runs, size)):
        yield Chunk(cell, number, min(size, runs - start), settings)


def _mapped(chunks: Sequence[Chunk], processes: int) -> Iterable[tuple[Chunk, Mapping[str, Sample]]]:
    if processes == 1:
        yield from map(_one, chunks)
        return
    with multiprocessing.Pool(processes) as pool:
        yield from pool.imap_unordered(_one, chunks)


def _one(chunk: Chunk) -> tuple[Chunk, Mapping[str, Sample]]:
    cell = chunk.cell
    samples = _watched(chunk, cell) if isinstance(cell, WatchScenario) else _rolled_out(chunk, cell)
    return chunk, samples


def _rolled_out(chunk: Chunk, scenario: Scenario) -> Mapping[str, Sample]:
    """Every rule on the same rollouts."""
    settings, key = chunk.settings, zlib.crc32(scenario.name.encode())
    batch = generate(scenario, chunk.size, generator(settings.seed, key, chunk.number, 0))
    plan = Plan(scenario.intervals, alpha=settings.alpha, beta=settings.beta)
    bound = Bound(BOUND, rho0=scenario.rho0)
    ours = decide(batch, plan, bound, stop=scenario.table is not Table.PROMOTION)
    bad = np.cumsum(batch.canary.arm[1], axis=1)
    samples = {rule: Sample(looks, _until(bad, looks)) for rule, looks in ours.looks.items()}
    samples["sequential"].proven = ours.proven
    if scenario.table is Table.PROMOTION:
        return {"sequential": samples["sequential"]}
    rng = generator(settings.seed, key, chunk.number, 1)
    rules: dict[str, Callable[[], Looks]] = {name: partial(peer.rule, batch, rng) for name, peer in PEERS.items()}
    if scenario.table in (Table.BAD, Table.CLEAN):
        rules["oracle vs stable"] = lambda: oracle.against_stable(batch, settings.alpha)
        rules["oracle vs both"] = lambda: oracle.against_both(batch, settings.alpha)
    for name, rule in rules.items():
        looks = rule()
        samples[name] = Sample(looks, _until(bad, looks))
    return samples


def _until(bad: Floats, looks: Looks) -> Floats:
    """Bad requests of the canary up to the rollback, or the end: from its running sum (runs, looks)."""
    return np.asarray(bad[np.arange(len(bad)), np.where(looks == NEVER, bad.shape[1] - 1, looks)])


def _watched(chunk: Chunk, scenario: WatchScenario) -> Mapping[str, Sample]:
    """Every rule on a world of its own, as each steers it, but from the same random numbers."""
    settings, key = chunk.settings, zlib.crc32(scenario.name.encode())
    samples = {}
    for name, watcher in WATCHERS.items():
        world = Watch(scenario, chunk.size, generator(settings.seed, key, chunk.number, 0))
        looks = watcher(world, settings.watch_alpha)
        samples[name] = Sample(looks, world.bad_until(looks))
    return samples


def _rows(cell: Cell, parts: Sequence[Mapping[str, Sample]]) -> list[Row]:
    table = WATCH if isinstance(cell, WatchScenario) else cell.table.value
    # A good version after promotion has no onset: any rollback counts.
    onset = 0.0 if cell.good else cell.onset
    return [
        row(
            Sample.join([part[rule] for part in parts]),
            scenario=cell.name,
            table=table,
            rule=rule,
            rps=cell.rps,
            onset=onset,
            good=cell.good,
        )
        for rule in parts[0]
    ]
