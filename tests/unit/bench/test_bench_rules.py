"""Windows, simple rules, the oracle and the tools' rules as the benchmark runs them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bench.decisions import kayenta, naive, oracle
from bench.decisions.ours import NEVER
from bench.decisions.peers import PEERS, kayenta_judge
from bench.decisions.scenarios import Batch, Counts, Floats, Scenario, Table, generate, generator
from bench.decisions.windows import Answer, error_share, in_window

PLAIN = Scenario("plain", Table.GOOD, 20)


def counts(n: Floats, x: Floats) -> Counts:
    """One pod an arm."""
    return Counts(n[..., None].astype(np.int32), x[..., None].astype(np.int32))


def world(x_c: Floats, n: float = 100.0, x_s: float = 0.0, **changes: object) -> Batch:
    """Rollouts with these bad requests of the canary at each look, n requests an arm and look."""
    looks = np.ones_like(x_c)
    none = np.zeros((len(x_c), 0, 1), dtype=np.int32)
    batch = Batch(
        replace(PLAIN, steps=((0.0, 0.1),)),
        history=Counts(none, none),
        past=Counts(none, none),
        canary=counts(looks * n, x_c),
        stable=counts(looks * n, looks * x_s),
        observed=looks > 0,
        length=looks.astype(np.int64),
        moved=looks < 0,
        down=looks < 0,
    )
    return replace(batch, **changes)  # type: ignore[arg-type]


def minutes(*bad: float) -> Floats:
    """Bad requests of whole minutes, all at their first look: (1, looks)."""
    x = np.zeros((1, 6 * len(bad)))
    x[0, ::6] = bad
    return x


def test_windows() -> None:
    """Sums over the last 30 s, less at the start."""
    assert in_window(np.array([[1.0, 2.0, 4.0, 8.0]]), 30).tolist() == [[1, 3, 7, 14]]
    assert in_window(np.array([[1.0, 2.0]]), 300).tolist() == [[1, 3]]


def test_answers() -> None:
    """A share; NaN without requests; empty where the window has no sample; an error where the query fails."""
    x = np.array([[0.0, 10.0, 0.0, 0.0]])
    seen = np.array([[True, True, False, True]])
    of = world(x, observed=seen, down=np.array([[False, False, False, True]]))
    assert error_share(of, 20).value[0, :3] == pytest.approx([0.0, 0.05, 0.05])
    assert error_share(of, 10).kind.tolist() == [[Answer.VALUE, Answer.VALUE, Answer.EMPTY, Answer.ERROR]]
    idle = error_share(world(np.zeros((1, 1)), n=0), 10)
    assert idle.kind.tolist() == [[Answer.VALUE]] and math.isnan(idle.value[0, 0])


@pytest.mark.parametrize(("failures", "look"), [(0, 5), (1, 17), (3, NEVER)])
def test_windows_over(failures: int, look: int) -> None:
    """Of 600 requests a minute, 7 break 1 % and 6 do not; rolled back at the minute's end once more than f did."""
    of = world(minutes(7, 6, 7, 0, 7))
    assert naive.windows_over(of, failures).tolist() == [look]


def test_peeked_z() -> None:
    """z of 20 in 1,000 against 10 in 1,000 is 1.84, above 1.645; of 19, 1.68; of 18, 1.52."""
    for bad, look in ((20, 0), (19, 0), (18, NEVER)):
        assert naive.peeked_z(world(np.array([[float(bad)]]), n=1000, x_s=10)).tolist() == [look]


def test_mann_whitney_of_five_minutes() -> None:
    """Equal for 5 min, then all of the canary's shares above all of stable's: at minute 10."""
    x = np.concatenate([np.full((1, 30), 1.0), np.full((1, 30), 2.0)], axis=1)
    assert naive.mann_whitney(world(x, x_s=1)).tolist() == [59]
    assert naive.mann_whitney(world(x[:, :30], x_s=1)).tolist() == [NEVER]


def test_oracle_is_walds_test() -> None:
    """ln(1/α) of x·ln(p₁/p₀) − n(p₁ − p₀): told 5 % against 0.5 %, each bad request adds 2.30, each request −0.045."""
    scenario = Scenario("bad", Table.BAD, 20, rate=0.05, good=False)
    of = replace(world(np.array([[1.0, 1.0, 1.0, 1.0]]), n=10), scenario=scenario)
    ratio = np.array([k * math.log(10) - 10 * k * 0.045 for k in (1, 2, 3, 4)])
    look = int(np.argmax(ratio >= math.log(25)))
    assert oracle.against_stable(of, 0.04).tolist() == [look] and look == 1
    bound = np.array([k * math.log(5) - 10 * k * 0.04 for k in (1, 2, 3, 4)])
    both = int(np.argmax((ratio >= math.log(25)) & (bound >= math.log(25))))
    assert oracle.against_both(of, 0.04).tolist() == [both] and both == 2


def peer(name: str, batch: Batch) -> int:
    """Look at which a tool rolls the first rollout back."""
    return int(PEERS[name].rule(batch, np.random.default_rng(1))[0])


def test_tools_on_one_bad_minute() -> None:
    """Minute 3 breaks the bound: Argo at once, Flagger a minute later, neither with the settings documented."""
    of = world(minutes(0, 0, 60, *[0] * 27))
    found = {name: peer(name, of) for name in ("argo", "flagger", "argo documented", "flagger documented 5")}
    assert found == {"argo": 17, "flagger": 23, "argo documented": NEVER, "flagger documented 5": NEVER}


def test_tools_on_a_version_that_fails_a_fifth() -> None:
    """Documented: Argo's fourth failed measurement of 5 min is at minute 20; Flagger's fifth check at minute 5."""
    of = world(np.full((1, 180), 20.0), x_s=0.5)
    found = {name: peer(name, of) for name in PEERS if name.startswith(("argo", "flagger", "kayenta"))}
    assert found == {
        "argo": 5,
        "argo documented": 119,
        "flagger": 11,
        "flagger documented 5": 35,
        "flagger documented 10": 65,
        "kayenta": 179,
        "kayenta documented": 179,
        "kayenta each 10 min": 59,
    }


def test_tools_when_prometheus_is_away() -> None:
    """Queries fail for 2 min from minute 5: Argo aborts at its fifth error, Flagger counts two failed checks."""
    down = np.zeros((1, 180), dtype=bool)
    down[0, 29:41] = True
    of = world(np.zeros((1, 180)), down=down, observed=~down)
    found = {name: peer(name, of) for name in ("argo", "argo documented", "flagger", "flagger documented 5", "thr 0")}
    assert found == {"argo": 33, "argo documented": 33, "flagger": 35, "flagger documented 5": NEVER, "thr 0": NEVER}


def test_tools_without_traffic() -> None:
    """0/0 is NaN: a failure for Argo's successCondition and for Flagger; guarded, and for Kayenta's errors, none."""
    of = world(np.zeros((1, 180)), n=0)
    found = {name: peer(name, of) for name in ("argo", "argo documented", "flagger", "thr 0", "z peeked", "M-W")}
    assert found == {
        "argo": 5,
        "argo documented": NEVER,
        "flagger": 11,
        "thr 0": NEVER,
        "z peeked": NEVER,
        "M-W": NEVER,
    }
    # No data in all of its metrics is a score of 0.
    assert peer("kayenta", of) == 179


def test_kayenta_documented_takes_a_baseline_of_the_canarys_size() -> None:
    """One pod of stable fails always, so production fails 10 %: a canary that fails 5 % is bad beside other pods only.

    At 10 to 50 % the canary has 1 to 5 pods, and the baseline is the first as many.
    """
    scenario = replace(PLAIN, rps=200, rate=0.05, history=600, past=600)
    batch = generate(scenario, 1, generator(1))
    x = batch.stable.x.copy()
    x[:, :, 9] = batch.stable.n[:, :, 9]
    broken = replace(batch, stable=Counts(batch.stable.n, x))
    assert peer("kayenta documented", broken) == 179
    config = kayenta.Config(direction=kayenta.Direction.INCREASE)
    rng = np.random.default_rng(1)
    against_all = kayenta_judge(broken, rng, config, step=30, every=1800, baseline=False)
    assert against_all.tolist() == [NEVER]


def test_every_rule_says_what_it_follows() -> None:
    """For the report."""
    assert all(len(peer_.follows) > 20 for peer_ in PEERS.values())
