"""From samples to rows, tables, charts and bounds; and the benchmark as a whole, small."""

from __future__ import annotations

import json
import math
import sys
import xml.dom.minidom
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.decisions import __main__ as command
from bench.decisions import bounds, charts, tables
from bench.decisions.cells import ROLLOUTS, WATCHES
from bench.decisions.measures import Row, Sample, row, wilson
from bench.decisions.ours import NEVER
from bench.decisions.peers import PEERS
from bench.decisions.run import Settings, run
from bench.decisions.scenarios import Scenario, Table
from bench.decisions.watch import WatchScenario


@pytest.mark.parametrize(
    ("hits", "runs", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (40, 4000, 0.0074, 0.0136)],
)
def test_wilson(hits: int, runs: int, low: float, high: float) -> None:
    """Known intervals (Newcombe 1998)."""
    assert wilson(hits, runs) == pytest.approx((low, high), abs=1e-4)


def of(looks: list[int], *, onset: float = 0.0, good: bool = False) -> Row:
    """A row of these looks."""
    sample = Sample(np.array(looks), np.full(len(looks), 3.0), np.array([look == NEVER for look in looks]))
    return row(sample, scenario="s", table="bad", rule="sequential", rps=20, onset=onset, good=good)


def test_delays() -> None:
    """Look i is at 10·(i+1) s; never counts as infinitely late; ranks are the smallest that a share is not above."""
    found = of([0, 1, 2, 3, 4, 5, 6, 7, 8, NEVER])
    assert (found.rolled_back, found.median_seconds, found.p90_seconds) == (9, 50.0, 90.0)
    assert of([0, NEVER, NEVER]).median_seconds is None
    assert (of([2] * 9 + [NEVER]).p90_seconds, of([2] * 8 + [NEVER] * 2).p90_seconds) == (30.0, None)


def test_delays_from_the_onset() -> None:
    """What was rolled back before the onset is counted, and is no delay."""
    found = of([0, 1, 5, 6, 7], onset=40.0)
    assert (found.before_onset, found.rolled_back, found.median_seconds) == (2, 5, 30.0)


def test_promoted_is_proven_and_not_rolled_back() -> None:
    """Proven in each step, of which some were rolled back all the same."""
    sample = Sample(np.array([NEVER, 3, NEVER]), np.zeros(3), np.array([True, True, False]))
    found = row(sample, scenario="s", table="good", rule="sequential", rps=1, onset=0, good=True)
    assert (found.proven, found.promoted) == (2, 1)


def verdicts(*rows: Row) -> dict[str, bool | None]:
    """Each bound that was held against these rows."""
    return {one.bound: one.met for one in bounds.held(rows, Settings())}


def good(rolled_back: int, scenario: str = "good, 20 rps", table: str = "good", rule: str = "sequential") -> Row:
    """Of 1,000 good rollouts."""
    low, high = wilson(rolled_back, 1000)
    return Row(scenario, table, rule, 20, 1000, rolled_back, low, high, None, None, 1.0, good=True, proven=rolled_back)


def test_bounds_on_false_rollbacks() -> None:
    """≤ α of a version no worse than stable; ≤ 25 % of one inside its bound; only our default rule is held to it."""
    name, inside = "false rollbacks ≤ α", "rolled back though inside its bound"
    assert verdicts(good(40)) == {name: True} and verdicts(good(41)) == {name: False}
    assert verdicts(good(900, rule="argo")) == {}
    worse = "worse but inside: 0.8 vs 0.2 %, 20 rps"
    assert verdicts(good(250, worse)) == {inside: True} and verdicts(good(251, worse)) == {inside: False}


def test_bounds_on_limits_watch_promotions_and_onset() -> None:
    """Each has a line; a watch without our rule is shown, not met."""
    assert verdicts(good(100, "bursts of 5 min", "limit")) == {"false rollbacks ≤ α, 5-min bursts": False}
    assert verdicts(good(50, table="promotion")) == {"promotions ≤ β": True}
    assert verdicts(good(51, table="promotion")) == {"promotions ≤ β": False}
    assert verdicts(replace(good(900, table="late"), good=False, before_onset=41)) == {
        "false rollbacks ≤ α before it turns bad": False
    }
    both = "false rollbacks over rollout and 24 h watch ≤ α"
    watched = good(9, "w", "watch")
    assert verdicts(good(40), watched)[both] is True
    assert verdicts(good(40), replace(watched, rolled_back=11))[both] is False
    assert verdicts(watched)[both] is None, "no rollout to add it to"
    assert verdicts(good(40), replace(watched, rule="since promotion"))[both] is None


@pytest.mark.parametrize(
    ("rps", "oracle", "ours", "met"), [(20, 40, 60, True), (20, 30, 50, True), (20, 40, 70, False), (1, 100, 220, True)]
)
def test_bounds_on_delay(rps: float, oracle: float, ours: float, met: bool) -> None:
    """1.5 × the oracle's, in intervals rounded up (30 s → 45 → 50 s); 2.2 × at 1 rps."""

    def delay(rule: str, seconds: float) -> Row:
        return replace(good(1000, "5 %", "bad", rule), rps=rps, good=False, median_seconds=seconds)

    assert list(verdicts(delay("sequential", ours), delay("oracle vs both", oracle)).values()) == [met]


def test_summary_begins_with_what_is_not_met() -> None:
    """So that nobody has to look for it."""
    text = bounds.summary(bounds.held([good(10), good(300, "incident")], Settings()))
    assert text.startswith("NOT MET") and "26.00% ABOVE 4%" in text and text.endswith("1 met, 1 not met")


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Four cells with few rollouts."""
    names = ("good, 20 rps", "20 %, 200 rps", "20 % from minute 15, 200 rps", "both 2 %, 20 rps")
    return run([cell for cell in ROLLOUTS if cell.name in names], Settings(runs=20), processes=1)


def test_rows_are_the_same_whatever_the_number_of_processes(rows: list[Row]) -> None:
    """Every chunk has random numbers of its own."""
    again = run([cell for cell in ROLLOUTS if cell.name == "20 %, 200 rps"], Settings(runs=20), processes=2)
    assert again == [row_ for row_ in rows if row_.scenario == "20 %, 200 rps"]
    other = run([cell for cell in ROLLOUTS if cell.name == "20 %, 200 rps"], Settings(runs=20, seed=2), processes=1)
    assert [r.bad_requests for r in other] != [r.bad_requests for r in again]


def test_rules_of_each_table(rows: list[Row]) -> None:
    """Ours and the peers' everywhere, the oracle where a version is bad from the start."""
    rules = {name: {r.rule for r in rows if r.scenario == name} for name in {r.scenario for r in rows}}
    everyone = {"sequential", "relative", "poisson", *PEERS}
    assert rules == {
        "good, 20 rps": everyone,
        "20 %, 200 rps": everyone | {"oracle vs stable", "oracle vs both"},
        "20 % from minute 15, 200 rps": everyone,
        "both 2 %, 20 rps": {"sequential"},
    }


def test_tables_and_charts(rows: list[Row]) -> None:
    """Every scenario is in the report and in its chart, which is well-formed."""
    report = tables.report(rows)
    assert all(f"| {name} " in report for name in {r.scenario for r in rows})
    assert "20 (20)" in next(line for line in report.splitlines() if line.startswith("| 20 %, 200 rps"))
    svg = charts.delays(rows, "bad", "Bad & late")
    assert xml.dom.minidom.parseString(svg).getElementsByTagName("svg").length == 1
    assert "20 %, 200 rps" in svg and "sequential: 8 of 8" in svg


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m bench.decisions`: tables and bounds on stdout, progress on stderr, JSON and charts as files."""
    output, drawn = tmp_path / "bench.json", tmp_path / "charts"
    arguments = ["--runs", "4", "--only", "good, 20 rps", "--processes", "1", "--seed", "7"]
    monkeypatch.setattr(sys, "argv", ["x", *arguments, "--output", str(output), "--charts", str(drawn)])
    assert command.main() == 0
    printed = capsys.readouterr()
    assert "GOOD canary, rolled back %" in printed.out and "1 met, 0 not met" in printed.out
    assert "1/1  good, 20 rps" in printed.err
    report = json.loads(output.read_text())
    assert report["seed"] == 7 and report["machine"]["cores"] >= 1 and set(report["versions"]) >= {"python", "numpy"}
    ours = next(r for r in report["rows"] if r["rule"] == "sequential")
    asked = ("scenario", "rule", "runs", "rolled_back", "ci_low", "ci_high", "median_seconds", "p90_seconds")
    assert set(ours) >= {*asked, "bad_requests", "good"}
    assert (ours["runs"], ours["rolled_back"], ours["good"]) == (4, 0, True) and math.isclose(ours["ci_low"], 0.0)
    assert [path.name for path in drawn.iterdir()] == ["decisions-good.svg"]


def test_only() -> None:
    """The name of a table is that table; any other word is looked for in the names of scenarios."""
    assert {cell.table for cell in command.chosen(["bad"]) if isinstance(cell, Scenario)} == {Table.BAD}
    assert len(command.chosen(["bad", "late"])) == 14 + 9
    assert [cell.name for cell in command.chosen(["0.01 %"])] == ["both 0.01 %, 1,000 rps"]
    assert all(isinstance(cell, WatchScenario) for cell in command.chosen(["watch"]))
    assert len(command.chosen([])) == len(ROLLOUTS) + len(WATCHES)


def test_command_refuses_a_scenario_that_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt --only runs nothing rather than all."""
    monkeypatch.setattr(sys, "argv", ["x", "--only", "godo"])
    with pytest.raises(SystemExit):
        command.main()
    assert "godo: no scenario has such a name" in capsys.readouterr().err
