"""What deciding costs: 1,000 to 10,000 models in rollout with 4 rules each, on one core, nothing but the decision core.

Run as `make bench-decide`. Each model has one canary pod and three stable ones, and its own counts (seeded). A round is
one look at every model, in the batches that the operator makes. Measured are the updates of the rules' tests alone
(sequential.update_all), and whole decisions (decide_all: counting, tests, verdicts, status with all its sentences and
the tests as text). CPU time, not wall time, so that what else runs here does not count.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np

from bench.probe import machine
from modeldeployment import __version__
from modeldeployment.controller.fleet import IN_A_ROW
from modeldeployment.decision.arms import Counts, Interval
from modeldeployment.decision.decide import Decision, decide_all
from modeldeployment.decision.evidence import Delta
from modeldeployment.decision.evidence import Interval as Seen
from modeldeployment.decision.hypothesis import Bound, Plan
from modeldeployment.decision.memory import Memory
from modeldeployment.decision.sequential import RuleState, update_all
from modeldeployment.decision.view import View
from stand import ROOT
from unit.decision.worlds import World

FLEETS = (1_000, 2_500, 5_000, 10_000)
RULES, PODS = 4, 3
ROUNDS = 5
UPDATES_MIN = 50_000
"""Rule updates a second that one core must make."""
OBJECTIVES = [
    {"name": "errors", "errorRate": {"max": "1%"}},
    {"name": "availability", "availability": {"min": "99.5%"}},
    {"name": "p99", "latency": {"quantile": 0.99, "max": "800ms"}},
    {"name": "p50", "latency": {"quantile": 0.5, "max": "100ms"}},
]
EDGES = (50.0, 100.0, 200.0, 400.0, 800.0, 1600.0)


@dataclass(frozen=True)
class Row:
    """One fleet. Times are CPU seconds; memory is of the models' own states and statuses."""

    models: int
    rules: int
    updates_per_second: float
    decisions_per_second: float
    microseconds_per_update: float
    microseconds_per_decision: float
    bytes_per_model: float
    state_characters_per_rule: float


def main() -> None:
    """Measures and writes build/bench-decide.json; exits with 1 where a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--models", type=int, nargs="*", default=list(FLEETS))
    asked = parser.parse_args()
    before, rows = machine(), []
    print("models  rules  updates/s  µs/update  decisions/s  µs/decision  kB/model")
    for models in asked.models:
        row = measure(models, np.random.default_rng(asked.seed))
        rows.append(row)
        told = (row.updates_per_second, row.microseconds_per_update, row.decisions_per_second)
        print(f"{models:6,}  {RULES:5}  {told[0]:9,.0f}  {told[1]:9.1f}  {told[2]:11,.0f}", end="")
        print(f"  {row.microseconds_per_decision:11.0f}  {row.bytes_per_model / 1e3:8.1f}", flush=True)
    costs = [row.microseconds_per_decision for row in rows]
    linear = max(costs) / min(costs)
    fast = min(row.updates_per_second for row in rows)
    print(f"cost of a model, dearest fleet over cheapest: {linear:.2f} (1 is linear)")
    print(f"rule updates a second on one core: at least {fast:,.0f}; asked: {UPDATES_MIN:,}")
    out = Path(ROOT / "build" / "bench-decide.json")
    out.parent.mkdir(exist_ok=True)
    versions = {"modeldeployment": __version__, "python": sys.version.split()[0], "numpy": np.__version__}
    facts = {"machine": before, "versions": versions, "seed": asked.seed, "batch": IN_A_ROW, "pods": 1 + PODS}
    out.write_text(json.dumps({**facts, "linear": linear, "rows": [asdict(row) for row in rows]}, indent=2) + "\n")
    print(f"written: {out.relative_to(ROOT)}")
    sys.exit(0 if fast >= UPDATES_MIN else 1)


def measure(models: int, rng: np.random.Generator) -> Row:
    """One fleet of so many models."""
    updates = _seconds_of_updates(models, rng)
    decisions, size, text = _of_decisions(models, rng)
    return Row(
        models=models,
        rules=RULES,
        updates_per_second=models * RULES / updates,
        decisions_per_second=models / decisions,
        microseconds_per_update=1e6 * updates / models / RULES,
        microseconds_per_decision=1e6 * decisions / models,
        bytes_per_model=size,
        state_characters_per_rule=text,
    )


def _batches(count: int, size: int) -> list[slice]:
    return [slice(at, min(count, at + size)) for at in range(0, count, size)]


def _timed(work: Callable[[], None]) -> float:
    gc.collect()
    began = time.process_time()
    work()
    return time.process_time() - began


def _seconds_of_updates(models: int, rng: np.random.Generator) -> float:
    """CPU seconds of one round of updates, the median of ROUNDS."""
    states = [RuleState(Bound(0.01), Plan(720)) for _ in range(models * RULES)]
    times = []
    for _ in range(ROUNDS):
        n = rng.poisson(60, (len(states), 1 + PODS))
        x = rng.binomial(n, 0.005)
        fed = [_interval(*one) for one in zip(n.tolist(), x.tolist(), strict=True)]

        def work(fed: Sequence[Interval] = fed) -> None:
            for of in _batches(len(states), IN_A_ROW * RULES):
                states[of] = update_all(states[of], fed[of])

        times.append(_timed(work))
    return float(np.median(times))


def _interval(n: Sequence[float], x: Sequence[float]) -> Interval:
    canary, *stable = (Counts(*one) for one in zip(n, x, x, strict=True))
    return Interval({"canary": canary}, {f"stable-{i}": counts for i, counts in enumerate(stable)})


def _of_decisions(models: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """CPU seconds of one round of decisions (median), bytes a model, characters of a rule's state."""
    world = World({"spec.objectives": OBJECTIVES, "spec.rollout.rollbackOn": None}, rps=1).serving()
    world.ask("2")
    world.until("CanaryRunning").run(20)
    view, memory = world.view(), world.memory
    tracemalloc.start()
    looks = [(_evidence(view, rng, 0), replace(memory)) for _ in range(models)]
    times = []
    for number in range(1, ROUNDS + 1):
        decided: list[Decision] = []

        def work(asked: list[tuple[View, Memory]] = looks, decided: list[Decision] = decided) -> None:
            for of in _batches(len(asked), IN_A_ROW):
                decided.extend(one for one in decide_all(asked[of]) if isinstance(one, Decision))

        if number == 1:
            work()  # grows to its size under tracemalloc, which slows it: not timed
            size = tracemalloc.get_traced_memory()[0] / models
            tracemalloc.stop()
        else:
            times.append(_timed(work))
        assert len(decided) == models, "a decision met a defect"
        looks = [
            (_evidence(old.with_status(new.status), rng, number), new.memory)
            for (old, _), new in zip(looks, decided, strict=True)
        ]
    rollout = looks[0][0].status.rollout
    assert rollout is not None and len(rollout.rules) == RULES
    return float(np.median(times)), size, float(np.mean([len(rule.state) for rule in rollout.rules]))


def _evidence(view: View, rng: np.random.Generator, number: int) -> View:
    """The same model one look later, with counts of its own."""
    start, end = (view.evidence.time + timedelta(seconds=10 * (number + i)) for i in (0, 1))
    assert view.status.canary and view.status.stable
    trial = {f"{view.status.canary.revision}-pod": _delta(rng)}
    control = {f"{view.status.stable.revision}-{i}": _delta(rng) for i in range(PODS)}
    intervals = (Seen(start, end, start, trial, control),)
    return replace(view, evidence=replace(view.evidence, intervals=intervals), now=end)


def _delta(rng: np.random.Generator) -> Delta:
    n = int(rng.poisson(20))
    return Delta(n, int(rng.binomial(n, 0.003)), dict.fromkeys(EDGES, n), n)


if __name__ == "__main__":
    main()
