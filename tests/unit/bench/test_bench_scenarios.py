"""The worlds of bench/decisions: rates, ICC and burst lengths are those asked for, gaps lose nothing, seeds repeat."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from bench.decisions import watch as watch_module
from bench.decisions.cells import ROLLOUTS, WATCHES
from bench.decisions.ours import NEVER, Interval
from bench.decisions.scenarios import (
    Batch,
    Burst,
    Counts,
    Floats,
    Scenario,
    Table,
    Unit,
    generate,
    generator,
    weights,
)
from bench.decisions.watch import Watch, WatchScenario, detect_and_compare

PLAIN = Scenario("plain", Table.GOOD, 20, history=600, past=600)
"""A short history: it is most of what there is to draw."""
WHOLE = 3 * 3600.0


def batch(scenario: Scenario = PLAIN, runs: int = 200, seed: int = 1, **changes: object) -> Batch:
    """Rollouts of a scenario, changed."""
    return generate(replace(scenario, **changes), runs, generator(seed))  # type: ignore[arg-type]


def rate(counts: Counts) -> float:
    """Share of bad requests."""
    return float(counts.x.sum() / counts.n.sum())


def test_seeds() -> None:
    """The same seed and key give the same rollouts; another seed or key others."""
    first, again, other, part = batch(), batch(), batch(seed=2), generate(PLAIN, 200, generator(1, 7))
    assert np.array_equal(first.canary.n, again.canary.n) and np.array_equal(first.history.x, again.history.x)
    assert not np.array_equal(first.canary.n, other.canary.n)
    assert not np.array_equal(first.canary.n, part.canary.n)


def test_traffic_is_shared_by_weight_and_pods() -> None:
    """20 rps × 10 s: 10, 25 and 50 % of 200 requests on 1, 3 and 5 pods; the rest on 10 stable ones; all before."""
    of = batch(runs=200, history=WHOLE, past=WHOLE)
    canary, stable = of.canary.n.mean(axis=0), of.stable.n.mean(axis=0)
    for t, weight, pods in ((30, 0.1, 1), (90, 0.25, 3), (150, 0.5, 5)):
        assert (canary[t] > 0).sum() == pods
        assert canary[t].sum() == pytest.approx(200 * weight, rel=0.05)
        assert stable[t].sum() == pytest.approx(200 * (1 - weight), rel=0.03)
    assert of.history.n.shape == (200, 1080, 10)
    assert of.history.n.mean() == pytest.approx(20, rel=0.01)


@pytest.mark.parametrize("rps", [1, 20, 1000])
def test_rates(rps: int) -> None:
    """The shares of bad requests are those asked for, at any traffic."""
    of = batch(rps=rps, rate=0.02, stable_rate=0.005, runs=400)
    assert rate(of.canary) == pytest.approx(0.02, rel=0.08)
    assert rate(of.stable) == pytest.approx(0.005, rel=0.08)
    assert rate(of.history) == pytest.approx(0.005, rel=0.08)


def test_counts_are_poisson() -> None:
    """Without bursts the variance of a count is its mean: requests of a pod, and bad ones of an arm."""
    n = batch(rps=1000, runs=100, history=WHOLE, past=WHOLE).history.n.astype(float)
    assert n.var() == pytest.approx(n.mean(), rel=0.02)
    x = batch(rps=200, runs=100, history=WHOLE, past=WHOLE).history.x.sum(axis=2).astype(float)
    assert x.var() == pytest.approx(x.mean(), rel=0.02)


def icc(n: Floats, x: Floats) -> float:
    """ICC of bad requests within groups, by moments: (Var(x/n)·n̄/(p(1−p)) − 1)/(n̄ − 1), n̄ the harmonic mean."""
    n, x = n[n > 0], x[n > 0]
    p, size = x.sum() / n.sum(), 1 / np.mean(1 / n)
    return float((np.var(x / n) * size / (p * (1 - p)) - 1) / (size - 1))


@pytest.mark.parametrize("asked", [0.001, 0.01, 0.05])
def test_icc_of_an_arm(asked: float) -> None:
    """Bad requests of an arm in an interval have the ICC asked for, and pods of one interval share its rate."""
    of = batch(rps=200, bursts=Burst(asked), runs=60, history=WHOLE, past=WHOLE).history
    n, x = of.n.astype(float), of.x.astype(float)
    assert icc(n.sum(axis=2), x.sum(axis=2)) == pytest.approx(asked, rel=0.15)
    assert icc(n, x) == pytest.approx(asked, rel=0.15)


def test_icc_of_pods() -> None:
    """Pod by pod the ICC is that asked for; over the ten pods of the arm it is a tenth."""
    of = batch(rps=200, bursts=Burst(0.05, Unit.POD), runs=60, history=WHOLE, past=WHOLE).history
    n, x = of.n.astype(float), of.x.astype(float)
    assert icc(n, x) == pytest.approx(0.05, rel=0.15)
    assert icc(n.sum(axis=2), x.sum(axis=2)) == pytest.approx(0.005, rel=0.2)


@pytest.mark.parametrize(
    ("bursts", "asked"),
    [
        (None, 0.0),
        (Burst(0.01), 0.01 / 30),
        (Burst(0.05, Unit.POD), 0.05 / 300),
        (Burst(0.01, seconds=60), 0.01 / 5),
        (Burst(0.01, seconds=300), 0.01 * 2 / 3),
    ],
)
def test_past_by_blocks(bursts: Burst | None, asked: float) -> None:
    """A day in blocks of 5 min has the rate and traffic of stable, and the bursts that are left over a block.

    Of bursts as long as a block, begun at any moment, two thirds: E[φ² + (1−φ)²].
    """
    of = batch(rps=200, bursts=bursts, runs=40, history=1800.0, past=86400.0).past
    assert of.n.shape == (40, 288, 10) and of.n.mean() == pytest.approx(6000, rel=0.01)
    assert rate(of) == pytest.approx(0.005, rel=0.06)
    found = icc(*(a.sum(axis=2).astype(float) for a in (of.n, of.x)))
    assert found == pytest.approx(asked, rel=0.2, abs=2e-6)


def test_past_ends_with_the_history() -> None:
    """Its last blocks are the last 3 h, look by look."""
    of = batch(runs=3, history=1800.0, past=3600.0)
    assert of.past.n.shape == (3, 12, 10) and of.history.n.shape == (3, 180, 10)
    assert np.array_equal(of.past.x[:, 6:], of.history.x.reshape(3, 6, 30, 10).sum(axis=2))


def correlation(a: Floats, b: Floats) -> float:
    """Of all their entries."""
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.mark.parametrize(("unit", "shared"), [(Unit.ARM, False), (Unit.POD, False), (Unit.COMMON, True)])
def test_only_common_bursts_are_shared(unit: Unit, shared: bool) -> None:
    """Rates of canary and stable move together in bursts of both arms, and not in others."""
    of = batch(rps=1000, bursts=Burst(0.05, unit), runs=60)
    (n_c, x_c), (n_s, x_s) = of.canary.arm, of.stable.arm
    found = correlation(x_c / n_c, x_s / n_s)
    assert (found > 0.9) if shared else (abs(found) < 0.05), f"correlation {found:.3f}"


@pytest.mark.parametrize("seconds", [10, 60, 300])
def test_length_of_bursts(seconds: int) -> None:
    """Rates d intervals apart correlate by the share of blocks that hold both: 1 − d/L within L, 0 beyond."""
    of = batch(rps=5000, bursts=Burst(0.05, seconds=seconds), runs=100, history=WHOLE, past=WHOLE).history
    p = of.x.sum(axis=2) / of.n.sum(axis=2)
    long = seconds // 10
    for apart in {1, long // 2, long, 2 * long} - {0}:
        expected = max(0.0, 1 - apart / long)
        assert correlation(p[:, :-apart], p[:, apart:]) == pytest.approx(expected, abs=0.06), f"{apart} apart"


def test_incident_is_shared_and_lasts_three_minutes() -> None:
    """×10 on both arms at once for 18 looks, once a rollout, never in history."""
    of = batch(rps=5000, incident=10.0, runs=20, history=WHOLE, past=WHOLE)
    (n_c, x_c), (n_s, x_s) = of.canary.arm, of.stable.arm
    high_c, high_s = x_c / n_c > 0.025, x_s / n_s > 0.025
    assert np.array_equal(high_c, high_s)
    assert (high_c.sum(axis=1) == 18).all()
    assert rate(of.history) == pytest.approx(0.005, rel=0.01)


def test_bad_minutes_of_each_arm_are_its_own_and_in_history() -> None:
    """One minute ×10 in every half hour of each arm; history of 3 h has six of stable's."""
    of = batch(rps=5000, bad_minutes=10.0, runs=20, history=WHOLE, past=WHOLE)
    high_c, high_s = ((x / n > 0.025) for n, x in (of.canary.arm, of.stable.arm))
    n, x = of.history.arm
    assert (high_c.sum(axis=1) == 6).all() and ((x / n > 0.025).sum(axis=1) == 36).all()
    assert (high_c & high_s).mean() < 0.5 * high_c.mean()


def test_alone_is_the_canarys() -> None:
    """One minute ×10 of the canary, none of stable or its history."""
    of = batch(rps=5000, alone=10.0, runs=20)
    high_c, high_s = ((x / n > 0.025) for n, x in (of.canary.arm, of.stable.arm))
    assert (high_c.sum(axis=1) == 6).all() and not high_s.any()


def test_onset() -> None:
    """Before minute 15 the canary is as stable, from then on as asked."""
    of = batch(rps=1000, rate=0.2, onset=900.0)
    n, x = of.canary.arm
    assert x[:, :90].sum() / n[:, :90].sum() == pytest.approx(0.005, rel=0.05)
    assert x[:, 90:].sum() / n[:, 90:].sum() == pytest.approx(0.2, rel=0.01)


def test_gaps_lose_nothing_but_the_end() -> None:
    """A fifth of the samples is missing; the next holds their counts and says how long it is."""
    of = batch(gaps=0.2, runs=400)
    assert of.observed.mean() == pytest.approx(0.8, abs=0.01)
    assert not of.canary.n[~of.observed].any() and not of.length[~of.observed].any()
    last = np.where(of.observed, np.arange(180), -1).max(axis=1)
    assert np.array_equal(of.length.sum(axis=1), last + 1)
    assert of.stable.n.sum() == pytest.approx(batch(runs=400).stable.n.sum(), rel=0.01)


def test_weight_that_moves_in_a_gap_is_in_the_next_sample() -> None:
    """`moved` says so of the interval in which the weight moved, or of the longer one that holds it."""
    plain, gaps = batch(runs=50), batch(gaps=0.5, runs=50)
    assert [t for t in range(180) if plain.moved[0, t]] == [60, 120]
    for run in range(50):
        seen = np.flatnonzero(gaps.observed[run])
        expected = {int(seen[seen >= t][0]) for t in (60, 120) if (seen >= t).any()}
        assert set(np.flatnonzero(gaps.moved[run])) == expected


def test_outage() -> None:
    """Prometheus is away for 12 looks in a row: no sample, and queries fail."""
    of = batch(outage=120.0, runs=50)
    assert (of.down.sum(axis=1) == 12).all() and not (of.observed & of.down).any()
    assert (of.length.max(axis=1) >= 12).any()


def test_restarts() -> None:
    """A pod that restarts is away for three looks, others take its traffic; what it had since the scrape is lost."""
    of = batch(rps=1000, restarts=6.0, runs=50)
    away = of.stable.n == 0
    assert away.mean() == pytest.approx(3 * 6 / 360, rel=0.15)
    n, _ = of.stable.arm
    whole = batch(rps=1000, runs=50).stable.arm[0].sum()
    # Half an interval of each restart is lost.
    assert n.sum() / whole == pytest.approx(1 - 0.5 * 6 / 360, abs=0.005)


def test_ramp_and_day() -> None:
    """Load grows tenfold and the shared rate doubles; over a day load swings by half, of both arms alike."""
    of = batch(ramp=True, rps=1000)
    n, x = (a + b for a, b in zip(of.canary.arm, of.stable.arm, strict=True))
    assert n[:, -10:].sum() / n[:, :10].sum() == pytest.approx(9.7 / 1.2 * 0.99, rel=0.25)
    assert (x[:, -10:].sum() / n[:, -10:].sum()) / (x[:, :10].sum() / n[:, :10].sum()) == pytest.approx(1.9, rel=0.1)
    day = batch(diurnal=True, rps=1000, runs=400).history.n.sum(axis=2)[:, 0]
    assert 4500 < day.min() < 5500 and 14500 < day.max() < 15500


def test_weights() -> None:
    """The canary's first interval is no move; where the weight moves, the interval has the mean of both."""
    weight, moved = weights(((0.0, 0.1), (20.0, 0.5)), 4)
    assert weight.tolist() == [0.1, 0.1, 0.3, 0.5] and moved.tolist() == [False, False, True, False]
    weight, moved = weights(((10.0, 0.1),), 3)
    assert weight.tolist() == [0.0, 0.1, 0.1] and not moved.any()


def test_names() -> None:
    """A scenario's name says which cell it is: no two have one."""
    names = [*(cell.name for cell in ROLLOUTS), *(cell.name for cell in WATCHES)]
    assert len(names) == len(set(names))


def test_watch_turns_bad_at_its_onset() -> None:
    """All traffic is on the new version; from the onset on it fails as asked, before as stable."""
    world = Watch(WatchScenario("w", 1000, rate=0.2, onset=100.0, incidents=0), 50, generator(1))
    drawn = [world.draw(t, np.ones(50)) for t in range(20)]
    before, after = ([d.x_c.sum() / d.n_c.sum() for d in part] for part in (drawn[:10], drawn[10:]))
    assert max(before) < 0.007 and min(after) > 0.19
    assert not any(d.n_s.any() or d.moved.any() for d in drawn)
    assert world.bad_until(np.full(50, 3)).mean() == pytest.approx(4 * 50, rel=0.05)


def test_watch_splits_where_it_is_told_to() -> None:
    """Half of the traffic goes back to stable in the rollouts that ask; the interval in which it moves says so."""
    world = Watch(WatchScenario("w", 1000, incidents=0), 2, generator(1))
    world.draw(0, np.ones(2))
    split = np.array([0.5, 1.0])
    moving, split_now = world.draw(1, split), world.draw(2, split)
    assert moving.moved.tolist() == [True, False] and not split_now.moved.any()
    assert moving.n_s.sum(axis=1) == pytest.approx([2500, 0], rel=0.1)
    assert split_now.n_s.sum(axis=1) == pytest.approx([5000, 0], rel=0.1)
    assert split_now.n_c.sum(axis=1) == pytest.approx([5000, 10000], rel=0.1)


def test_watch_takes_back_what_turns_bad() -> None:
    """The detector's alarm asks for a comparison, which proves 20 % errors.

    Two intervals until the alarm, one in which the weight moves, two until the proof.
    """
    bad = Watch(WatchScenario("bad", 200, rate=0.2, onset=1800.0, incidents=0, good=False), 20, generator(1))
    assert set(detect_and_compare(bad, 0.01).tolist()) == {184}


def test_watch_incidents_are_shared() -> None:
    """Four times ×10 for 3 min on both versions at once."""
    world = Watch(WatchScenario("w", 5000, onset=1e9), 1, generator(3))
    start = int(world.incidents[0, 0])
    world.draw(start - 30, np.array([0.5]))
    high = [world.draw(t, np.array([0.5])) for t in range(start, start + 18)]
    for arm in ((d.x_c.sum() / d.n_c.sum() for d in high), (d.x_s.sum() / d.n_s.sum() for d in high)):
        assert min(arm) > 0.04
    assert world.incidents.shape == (1, 4)


def weights_given(world: Watch, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The first rollout's weights, filled as the world is drawn."""
    given: list[float] = []
    draw = world.draw

    def noted(t: int, weight: Floats) -> Interval:
        given.append(float(weight[0]))
        return draw(t, weight)

    monkeypatch.setattr(world, "draw", noted)
    return given


def test_watch_forgives_an_incident_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten minutes of comparison prove nothing, and the version has all traffic again: 5 h with four incidents."""
    monkeypatch.setattr(watch_module, "INTERVALS", 1800)
    world = Watch(WatchScenario("good", 200, onset=1e9), 20, generator(1))
    given = weights_given(world, monkeypatch)
    assert (detect_and_compare(world, 0.01) == NEVER).all()
    lengths = [len(list(same)) for weight, same in itertools.groupby(given) if weight == 0.5]
    assert len(lengths) >= 2 and set(lengths[:-1]) == {60}, (
        "each comparison lasts ten minutes; the day may cut the last"
    )


def test_watch_rests_between_comparisons_of_an_endless_incident(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both fail 20 % for hours: comparisons 1 to 3 follow each other, before the fourth are 20 min, then 40."""
    monkeypatch.setattr(watch_module, "INTERVALS", 900)
    world = Watch(WatchScenario("endless", 200, rate=0.2, stable_rate=0.2, incidents=1, onset=0.0), 1, generator(1))
    given = weights_given(world, monkeypatch)
    assert (detect_and_compare(world, 0.01) == NEVER).all()
    rests = [len(list(same)) for weight, same in itertools.groupby(given) if weight == 1]
    assert rests[:3] == [2, 3, 3], "two intervals until an alarm, the moving one left out"
    assert rests[3:5] == [120, 240]
