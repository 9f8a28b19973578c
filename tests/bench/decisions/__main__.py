"""How often rollout rules roll back good versions, and how soon bad ones: ours, and those of other tools.

Run as `make bench-decisions`: prints tables and which bounds are met, writes build/bench-decisions.json and charts.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.decisions import bounds, charts, tables
from bench.decisions.cells import ROLLOUTS, WATCHES
from bench.decisions.measures import Row
from bench.decisions.peers import PEERS
from bench.decisions.run import RUNS, WATCH, Cell, Settings, run
from bench.decisions.scenarios import Scenario, Table
from bench.probe import machine
from modeldeployment import __version__

ROOT = Path(__file__).parents[3]


def chosen(only: Sequence[str]) -> list[Cell]:
    """The cells of a table (`watch`: those of 24 h) or with a word in their name; all of them without words."""
    cells: list[Cell] = [*ROLLOUTS, *WATCHES]
    return [cell for cell in cells if not only or any(_means(word, cell) for word in only)]


def _means(word: str, cell: Cell) -> bool:
    table = cell.table.value if isinstance(cell, Scenario) else WATCH
    return word == table or (word not in (*Table, WATCH) and word in cell.name)


def draw(rows: Sequence[Row], settings: Settings, directory: Path) -> list[Path]:
    """Writes the charts that have rows."""
    found = {row.table for row in rows}
    drawn = {
        "good": charts.false_rollbacks(rows, settings.alpha),
        "bad": charts.delays(rows, "bad", "Bad from the start: seconds to rollback, median and p90"),
        "late": charts.delays(rows, "late", "Turns bad at minute 15: seconds to rollback, median and p90"),
    }
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for table, svg in drawn.items():
        if table in found:
            written.append(directory / f"decisions-{table}.svg")
            written[-1].write_text(svg)
    return written


def main() -> int:
    """Runs the benchmark; 1 when a bound is not met."""
    parser = argparse.ArgumentParser(prog="python -m bench.decisions", description=__doc__)
    parser.add_argument(
        "--runs", type=int, default=RUNS, help="rollouts of a cell; fewer where only delays are measured"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="tables, or words in scenarios' names")
    parser.add_argument("--alpha", type=float, default=0.04, help="false rollbacks allowed over a rollout")
    parser.add_argument("--processes", type=int, default=None, help="all cores without")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench-decisions.json")
    parser.add_argument(
        "--charts", type=Path, help="directory; of a full run docs/benchmarks, else build/bench-decisions"
    )
    options = parser.parse_args()
    settings = Settings(seed=options.seed, runs=options.runs, alpha=options.alpha)
    before = machine()
    cells = chosen(options.only)
    if not cells:
        parser.error(f"--only {' '.join(options.only)}: no scenario has such a name, nor such a table")
    rows = run(cells, settings, processes=options.processes)
    held = bounds.held(rows, settings)
    report = {
        "machine": before,
        "versions": {
            "modeldeployment": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        "seed": options.seed,
        "rows": [row.to_json() for row in rows],
        "alpha": settings.alpha,
        "bounds": [one._asdict() for one in held],
        "follows": {name: peer.follows for name, peer in PEERS.items()},
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    full = not options.only and options.runs >= RUNS
    usual = ROOT / "docs" / "benchmarks" if full else ROOT / "build" / "bench-decisions"
    written = draw(rows, settings, options.charts or usual)
    print(tables.report(rows))
    print("\nRules: " + "; ".join(f"{name}: {peer.follows}" for name, peer in PEERS.items()))
    print(f"\nBounds (α = {settings.alpha:.0%} over a rollout, seed {options.seed}):\n{bounds.summary(held)}")
    print("Exact values, and all outcomes of small trees: tests/unit/decision, by `make test-unit`.")
    print("\nWritten: " + ", ".join(map(str, [options.output, *written])))
    return 1 if any(one.met is False for one in held) else 0


if __name__ == "__main__":
    sys.exit(main())
