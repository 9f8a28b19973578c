"""The cells of the benchmark: every scenario of every table, in the order of the tables."""

from __future__ import annotations

from typing import Final

from bench.decisions.scenarios import BOUND, Burst, Scenario, Table, Unit
from bench.decisions.watch import WatchScenario

DETECTABLE: Final = 2.0
ONSET: Final = 900.0
_WANDERING: Final = tuple((60.0 * i, (0.1, 0.3, 0.2, 0.5, 0.05, 0.4)[i % 6]) for i in range(30))
"""A weight that moves every minute."""


def _good() -> list[Scenario]:
    table = Table.GOOD
    return [
        *(Scenario(f"good, {rps:,} rps", table, rps) for rps in (1, 20, 200, 1000)),
        *(Scenario(f"bursts per arm, ICC 0.01, {rps:,} rps", table, rps, bursts=Burst(0.01)) for rps in (20, 1000)),
        Scenario("bursts per pod, ICC 0.05, 1,000 rps", table, 1000, bursts=Burst(0.05, Unit.POD)),
        *(
            Scenario(f"bursts of 1 min, ICC 0.01, {rps:,} rps", table, rps, bursts=Burst(0.01, seconds=60))
            for rps in (20, 200, 1000)
        ),
        Scenario("one bad minute ×10 in each arm, 200 rps", table, 200, bad_minutes=10),
        *(Scenario(f"incident ×10, 3 min, both, {rps} rps", table, rps, incident=10) for rps in (20, 200)),
        Scenario("diurnal, 20 rps", table, 20, diurnal=True),
        Scenario("20 % gaps, 20 rps", table, 20, gaps=0.2),
        Scenario("ramp, 20 rps", table, 20, ramp=True),
        Scenario("pods restart twice an hour, 20 rps", table, 20, restarts=2),
        Scenario("weight moves every minute, diurnal, 20 rps", table, 20, steps=_WANDERING, diurnal=True),
        Scenario("Prometheus down for 2 min, 20 rps", table, 20, outage=120),
        Scenario("both 0.01 %, 1,000 rps", table, 1000, rate=1e-4, stable_rate=1e-4),
        Scenario("exactly at ρ0 = 1.5, 20 rps", table, 20, rate=0.0075, rho0=1.5),
        Scenario("worse but inside: 0.8 vs 0.2 %, 20 rps", table, 20, rate=0.008, stable_rate=0.002),
        Scenario("worse, exactly at the bound: 1 vs 0.2 %, 20 rps", table, 20, rate=BOUND, stable_rate=0.002),
    ]


def _bursts() -> list[Scenario]:
    grid = [
        Scenario(f"bursts {of}, ICC {icc:g}, {rps:,} rps", Table.BURSTS, rps, bursts=Burst(icc, unit))
        for unit, of in ((Unit.ARM, "per arm"), (Unit.POD, "per pod"), (Unit.COMMON, "of both arms"))
        for icc in (0.001, 0.01, 0.05)
        for rps in (1, 20, 200, 1000)
    ]
    known = {scenario.name for scenario in _good()}
    return [
        *(scenario for scenario in grid if scenario.name not in known),
        *(
            Scenario(
                f"bursts of 1 min per {unit}, ICC {icc:g}, 200 rps",
                Table.BURSTS,
                200,
                bursts=Burst(icc, unit, seconds=60),
            )
            for unit, icc in ((Unit.ARM, 0.001), (Unit.ARM, 0.05), (Unit.POD, 0.05))
        ),
        Scenario("bursts per arm, ICC 0.9, 20 rps", Table.BURSTS, 20, bursts=Burst(0.9)),
    ]


def _limits() -> list[Scenario]:
    table = Table.LIMIT
    return [
        *(
            Scenario(f"bursts of 5 min, ICC 0.01, {rps:,} rps", table, rps, bursts=Burst(0.01, seconds=300))
            for rps in (20, 200, 1000)
        ),
        *(
            Scenario(
                f"bursts of 5 min, ICC 0.01, {rps:,} rps, {name}",
                table,
                rps,
                bursts=Burst(0.01, seconds=300),
                history=known,
                past=known,
            )
            for name, known in (("nothing known", 0.0), ("1 h known", 3600.0))
            for rps in (20, 200, 1000)
        ),
        *(
            Scenario(f"one bad minute ×10, canary alone, {rps} rps", table, rps, alone=10, good=False)
            for rps in (20, 200)
        ),
    ]


def _bad() -> list[Scenario]:
    table = Table.BAD
    return [
        *(
            Scenario(f"{rate:.0%}, {rps:,} rps".replace("%", " %"), table, rps, rate=rate, good=False)
            for rps in (1, 20, 200, 1000)
            for rate in (0.02, 0.05, 0.20)
        ),
        *(
            Scenario(f"2 %, {rps:,} rps, ICC 0.01 per arm", table, rps, rate=0.02, good=False, bursts=Burst(0.01))
            for rps in (20, 1000)
        ),
    ]


def _clean() -> list[Scenario]:
    return [
        Scenario(
            f"{rate:.0%}, stable 0 %, {rps:,} rps, {name}".replace("%,", " %,", 1),
            Table.CLEAN,
            rps,
            rate=rate,
            stable_rate=0.0,
            good=False,
            history=min(known, 3 * 3600.0),
            past=known,
        )
        for name, known in (("nothing known", 0.0), ("1 h known", 3600.0), ("24 h known", 86400.0))
        for rate, rps in ((0.02, 1000), (0.05, 20), (0.05, 200), (0.20, 20))
    ]


def _late() -> list[Scenario]:
    return [
        Scenario(
            f"{rate:.0%} from minute 15, {rps:,} rps".replace("%", " %"),
            Table.LATE,
            rps,
            rate=rate,
            good=False,
            onset=ONSET,
        )
        for rps in (20, 200, 1000)
        for rate in (0.02, 0.05, 0.20)
    ]


def _promotion() -> list[Scenario]:
    rate = DETECTABLE * BOUND
    return [
        Scenario(f"both {rate:.0%}, {rps:,} rps".replace("%", " %"), Table.PROMOTION, rps, rate=rate, stable_rate=rate)
        for rps in (1, 20, 200, 1000)
    ]


def _watch() -> list[WatchScenario]:
    return [
        *(WatchScenario(f"watch: good, four shared incidents ×10, {rps} rps", rps) for rps in (1, 20, 200)),
        *(
            WatchScenario(
                f"watch: {rate:.0%} from hour 6, {rps} rps".replace("%", " %"), rps, rate=rate, incidents=0, good=False
            )
            for rps in (1, 20, 200)
            for rate in (0.02, 0.05, 0.20)
        ),
    ]


ROLLOUTS: Final = (*_good(), *_bursts(), *_limits(), *_bad(), *_clean(), *_late(), *_promotion())
WATCHES: Final = tuple(_watch())
INSIDE: Final = frozenset(s.name for s in ROLLOUTS if s.table is Table.GOOD and s.rate > s.rho0 * s.stable_rate)
"""Good ones that are worse than stable: kept from rollback by E_abs ≥ 4 alone, so ≤ 25 % by theorem, not ≤ α."""
