"""Error budgets: the workbook's figures, what is no burn, and an incident from its first failure to its last alert."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from modeldeployment.api.conditions import ConditionType
from modeldeployment.api.status import Alert, BudgetStatus, BurnStatus, Health, ObjectiveStatus, Verdict
from modeldeployment.decision import budget
from modeldeployment.decision.budget import PAIRS, WINDOWS, burn_rate, factor, fires, remaining
from modeldeployment.decision.decide import decide
from modeldeployment.decision.evidence import DataState, Tally
from modeldeployment.decision.memory import Memory
from modeldeployment.decision.rules import objective_rules
from modeldeployment.metrics.ladder import Ladder
from unit.decision.worlds import BLIND, Behaviour, World

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR, DAY, MONTH = 3600.0, 86_400.0, 30 * 86_400.0
BY_NAME = {pair.name: pair for pair in PAIRS}
FAST, SLOW = BY_NAME["1h/5m"], BY_NAME["3d/6h"]


def tallies(share: float, rps: float = 10.0, known: float = MONTH, period: float = MONTH) -> dict[float, Tally]:
    """Steady traffic of which a share is bad, known for so many seconds."""
    counted = {window: round(rps * min(window, known)) for window in (*WINDOWS, period)}
    return {w: Tally(n, round(share * n), min(w, known)) for w, n in counted.items()}


# --- the workbook's table --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "burn", "spent", "alert"),
    [
        ("1h/5m", 14.4, 0.02, Alert.PAGE),
        ("6h/30m", 6.0, 0.05, Alert.PAGE),
        ("1d/2h", 3.0, 0.10, Alert.TICKET),
        ("3d/6h", 1.0, 0.10, Alert.TICKET),
    ],
)
def test_the_workbooks_table(name: str, burn: float, spent: float, alert: Alert) -> None:
    """30 days: 14.4, 6, 3 and 1 times too fast spend 2, 5, 10 and 10 % of the budget over the longer window."""
    pair = BY_NAME[name]
    assert factor(pair, MONTH, 0.001) == pytest.approx(burn, rel=1e-12)
    assert pair.alert is alert
    # So long at that rate, after nothing: that share is gone from a budget of which nothing else was spent.
    bad = Tally(round(MONTH), round(pair.long * burn * 0.001), MONTH)
    assert 1 - remaining(bad, MONTH, 0.001) == pytest.approx(spent, rel=0.01)


@pytest.mark.parametrize(("burn", "days"), [(1, 30), (2, 15), (10, 3), (1000, 43 / 1440)])
def test_a_burn_rate_says_when_the_budget_is_gone(burn: float, days: float) -> None:
    """The workbook's table 5-1: at 99.9 %, 0.1, 0.2, 1 and 100 % of errors spend 30 days' budget in 30, 15, 3 days and
    in 43 minutes."""
    length = days * DAY
    spent = Tally(round(MONTH * 100), round(length * 100 * burn * 0.001), MONTH)
    assert remaining(spent, MONTH, 0.001) == pytest.approx(0, abs=0.005)


@pytest.mark.parametrize(
    ("days", "factors"), [(28, (13.44, 5.6, 2.8, 28 / 30)), (7, (3.36, 1.4, 0.7, 7 / 30)), (90, (43.2, 18, 9, 3))]
)
def test_other_periods_have_exact_factors(days: int, factors: tuple[float, ...]) -> None:
    """Of other periods the share of the budget is the same, not the factor (Pyrra's are 14, 7, 2 and 1 for each); one
    below 1 would fire while the budget lasts."""
    found = [factor(pair, days * DAY, 0.001) for pair in PAIRS]
    assert found == pytest.approx([max(1.0, f) for f in factors], rel=1e-12)


@pytest.mark.parametrize("allowed", [0.05, 0.1, 0.5, 0.9])
def test_a_loose_bound_can_still_fire(allowed: float) -> None:
    """14.4 times half of the requests is more than all of them: then nine tenths of the way to everything is enough."""
    assert fires(FAST, tallies(1.0), MONTH, allowed), "everything fails"
    assert not fires(FAST, tallies(allowed), MONTH, allowed), "the objective is kept"
    assert factor(FAST, MONTH, allowed) * allowed < 1


# --- what is no burn -------------------------------------------------------------------------------------------------


def test_both_windows_must_burn() -> None:
    """Long over: the hour is full of errors, the last 5 minutes are not. Just begun: the other way round."""
    burning, calm = tallies(0.3), tallies(0.0)
    for quiet in (FAST.short, FAST.long):
        mixed = {**burning, quiet: calm[quiet]}
        assert not fires(FAST, mixed, MONTH, 0.01), f"nothing burnt over {quiet:g} s"
    assert fires(FAST, burning, MONTH, 0.01)


def test_idle_windows_are_no_burn_and_no_nan() -> None:
    """0 of 0 requests burn nothing, in whichever window; and 20 idle minutes leave the rest of the period known."""
    idle = {window: Tally(0, 0, MONTH) for window in (*WINDOWS, MONTH)}
    told = budget.status(idle, MONTH, 0.01, NOW)
    assert (told.remaining, told.alert, told.burning) == ("100%", None, ())
    just_now = {**tallies(0.005), FAST.short: Tally(0, 0, FAST.short)}
    assert budget.status(just_now, MONTH, 0.01, NOW).remaining == "50%"


def test_traffic_has_weight() -> None:
    """Half of the hours fail all of 10 requests, the others 1 % of 9,990: 1.1 % of all are bad, and not 50 %."""
    ladder, start = Ladder(MONTH, 0.0), 0.0
    for hour in range(24):
        quiet = hour % 2 == 0
        ladder.add(start + (hour + 1) * HOUR, 10 if quiet else 9_990, 10 if quiet else 100)
    day = ladder.total(24 * HOUR, DAY)
    assert (day.requests, day.bad) == (120_000, 1_320)
    assert burn_rate(day, DAY, 0.01) == pytest.approx(1.1)


@pytest.mark.parametrize(("bad", "word"), [(0, None), (1, None), (3, None), (4, Alert.PAGE)])
def test_one_error_of_few_requests_pages_nobody(bad: int, word: Alert | None) -> None:
    """20 requests an hour, 5 % and more of them bad: it takes 4 bad ones to prove anything at 14.4 times 1 %."""
    hour = Tally(20, bad, HOUR)
    few = {**tallies(0.0, rps=20 / HOUR), FAST.long: hour, FAST.short: Tally(2, min(bad, 2), FAST.short)}
    assert budget.status(few, MONTH, 0.01, NOW).alert is word


@pytest.mark.parametrize(("pair", "least"), [(FAST, 4), (SLOW, 37)])
def test_how_many_bad_requests_an_alert_takes(pair: budget.Pair, least: int) -> None:
    """The fewest that fire a pair at exactly its factor: as the module's docstring says."""
    share = factor(pair, MONTH, 0.01) * 0.01

    def firing(bad: int) -> bool:
        counted = {w: Tally(math.floor(bad / share), bad, w) for w in (*WINDOWS, MONTH)}
        return fires(pair, counted, MONTH, 0.01)

    assert next(bad for bad in range(1, 100) if firing(bad)) == least


def test_a_kept_objective_fires_seldom() -> None:
    """A window fires its pair with a probability below 1 % while the rate is what the e-test must disprove: the bound,
    or half of it where the factor is 1. Exactly enumerated."""
    for pair in PAIRS:
        for requests in (5, 20, 60, 300, 1000):
            limit = min(0.01, 0.01 * factor(pair, MONTH, 0.01) / 2)
            chance = 0.0
            for bad in range(min(requests, 80) + 1):
                counted = {w: Tally(requests, bad, w) for w in (*WINDOWS, MONTH)}
                if fires(pair, counted, MONTH, 0.01):
                    ways = math.comb(requests, bad)
                    chance += ways * limit**bad * (1 - limit) ** (requests - bad)
            assert chance <= 0.01, f"{pair.name} with {requests} requests fires with probability {chance:.3g}"


# --- what is left ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "known", "left"),
    [
        (0.0, MONTH, "100%"),
        (0.0003, MONTH, "97%"),
        (0.00031, MONTH, "96%"),
        (0.01, MONTH, "0%"),
        (0.0101, MONTH, "-1%"),
        (0.02, MONTH, "-100%"),
        (1.0, MONTH, "-999%"),
        (1.0, HOUR, "86%"),
        (0.01, 4 * DAY, "86%"),
    ],
)
def test_what_is_left(share: float, known: float, left: str) -> None:
    """Rounded down; in a time that is not known nothing was spent: an hour of outage at 1 % is 100/720 of a month's."""
    told = budget.status(tallies(share, rps=100, known=known), MONTH, 0.01, NOW)
    assert told.remaining == left
    assert told.since == (None if known == MONTH else NOW - timedelta(seconds=known))


def test_overspent_is_proven() -> None:
    """2 bad ones of 50 requests in a month are no broken promise of 1 %: below 0 % only what is proven."""
    few = {w: Tally(50, 2, w) for w in (*WINDOWS, MONTH)}
    assert budget.status(few, MONTH, 0.01, NOW).remaining == "0%"
    many = {w: Tally(50_000, 2_000, w) for w in (*WINDOWS, MONTH)}
    assert budget.status(many, MONTH, 0.01, NOW).remaining == "-300%"


COUNTS = st.integers(0, 10**9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


@given(
    counts=st.lists(COUNTS, min_size=len(WINDOWS) + 1, max_size=len(WINDOWS) + 1),
    known=st.floats(0, MONTH),
    allowed=st.floats(1e-6, 0.99),
)
def test_any_counts_have_a_budget(counts: list[tuple[int, int]], known: float, allowed: float) -> None:
    """Whatever was counted, also nothing: a status that fits its schema, and never NaN."""
    counted = {w: Tally(n, x, min(w, known)) for w, (n, x) in zip((*WINDOWS, MONTH), counts, strict=True)}
    told = budget.status(counted, MONTH, allowed, NOW)
    assert BudgetStatus.model_validate(json.loads(json.dumps(told.to_json()))) == told
    assert -999 <= int(told.remaining.rstrip("%")) <= 100
    assert (told.alert is None) == (not told.burning)
    assert told.alert is not Alert.TICKET or not any(BY_NAME[b.name].alert is Alert.PAGE for b in told.burning)


@given(n=st.integers(1, 10**6), x=st.integers(0, 10**6), more=st.integers(1, 10**6), allowed=st.floats(1e-4, 0.5))
def test_more_bad_requests_leave_less(n: int, x: int, more: int, allowed: float) -> None:
    """One bad request more never leaves more, one good request more never less."""
    assume(x + more <= n)
    whole = Tally(n, x, MONTH)
    assert remaining(replace(whole, bad=x + more), MONTH, allowed) < remaining(whole, MONTH, allowed)
    assert remaining(replace(whole, requests=n + more), MONTH, allowed) >= remaining(whole, MONTH, allowed)


def test_an_alert_that_hovers_is_one_alert() -> None:
    """At its factor a pair begins, and goes on until a rate is a tenth below it."""
    at, below, gone = (tallies(f * 14.4 * 0.001, rps=100) for f in (1.0, 0.95, 0.89))
    before = BudgetStatus(remaining="9%", alert=Alert.PAGE, burning=(BurnStatus(name="1h/5m", rate="14.4"),))
    assert "1h/5m" in {b.name for b in budget.status(at, MONTH, 0.001, NOW).burning}
    assert "1h/5m" not in {b.name for b in budget.status(below, MONTH, 0.001, NOW).burning}
    assert "1h/5m" in {b.name for b in budget.status(below, MONTH, 0.001, NOW, before).burning}
    assert "1h/5m" not in {b.name for b in budget.status(gone, MONTH, 0.001, NOW, before).burning}


# --- an incident, by a virtual clock ---------------------------------------------------------------------------------

LOOK = 60.0


def incident(rate: float, lasts: float, *, after: float, allowed: float = 0.01) -> Mapping[str, tuple[float, float]]:
    """10 requests a second for `after` seconds, then a share of them fails for `lasts` seconds, then none for a day.

    Returns pair → when it fired first and last (seconds from the first failure).
    """
    start = 1_795_608_000.0
    ladder, told = Ladder(MONTH, start - after), None
    found: dict[str, tuple[float, float]] = {}
    for k in range(1, round((after + lasts + DAY) / LOOK) + 1):
        now = k * LOOK - after
        bad = round(600 * rate) if 0 < now <= lasts else 0
        ladder.add(start + now, 600, bad)
        if now < -HOUR:
            continue
        counted = {w: ladder.total(start + now, w) for w in (*WINDOWS, MONTH)}
        told = budget.status(counted, MONTH, allowed, NOW + timedelta(seconds=now), told)
        for burn in told.burning:
            found[burn.name] = (found.get(burn.name, (now, now))[0], now)
    return found


@pytest.mark.parametrize("after", [HOUR, 4 * DAY], ids=["a young model", "an old one"])
@pytest.mark.parametrize("rate", [1.0, 0.5, 0.2])
def test_alerts_come_when_they_are_predicted(rate: float, after: float) -> None:
    """Each pair fires factor · (1 − SLO) · long / rate seconds after the first failure: to a look, and to the twentieth
    of a day that a bucket may make that window longer. 8.6 minutes for an outage, as the workbook says."""
    found = incident(rate, 8 * HOUR, after=after)
    for pair in PAIRS:
        predicted = factor(pair, MONTH, 0.01) * 0.01 * pair.long / rate
        if predicted > 8 * HOUR:
            continue
        late = found[pair.name][0] - predicted
        assert abs(late) <= LOOK + predicted / 20, f"{pair.name} fired {late:.0f} s off, and not at {predicted:.0f} s"
    if rate == 1.0:
        assert 510 <= found["1h/5m"][0] <= 580


def test_an_alert_ends_soon_after_the_incident() -> None:
    """The short windows end it: a page within 5 minutes and a bucket, however full of errors the hour is."""
    found = incident(0.5, 2 * HOUR, after=DAY)
    over = {name: last - 2 * HOUR for name, (_, last) in found.items()}
    assert 0 < over["1h/5m"] <= 300 + 60 and 0 < over["6h/30m"] <= 1800 + 60
    assert over["1h/5m"] < over["6h/30m"] < over["1d/2h"] <= 2 * HOUR + 360


def test_a_short_incident_pages_nobody() -> None:
    """A minute of everything failing is 14 % of an hour's budget at 14.4: no page, and no ticket."""
    assert not incident(1.0, 60.0, after=DAY)


# --- what a person sees ----------------------------------------------------------------------------------------------


ERRORS = {"name": "errors", "errorRate": {"max": "1%"}}
ONE = {
    "spec.rollout.rollbackOn": None,
    "spec.rollout.analysis": {"interval": "60s"},
    "spec.objectives": [ERRORS],
}


def told(world: World) -> BudgetStatus:
    """The budget of the first objective, which must be there."""
    shown = world.status.objectives[0].budget
    assert shown is not None, "the objective shows no budget"
    return shown


def test_a_model_with_an_incident() -> None:
    """Critical as soon as it is proven broken; a page follows; when it is over, the page ends and the budget tells."""
    world = World(ONE, tick=60.0).serving().run(600)
    assert world.status.budget == told(world).remaining == "100%"
    world.does("1").errors = 0.5
    began = world.elapsed
    world.until(lambda: world.status.health is Health.CRITICAL)
    assert world.condition(ConditionType.HEALTHY).reason == "ObjectiveBroken" and told(world).alert is None
    world.until(lambda: told(world).alert is Alert.PAGE)
    assert world.elapsed - began == pytest.approx(14.4 * 0.01 * HOUR / 0.5, rel=0.1), "not as predicted"
    world.does("1").errors = 0.0
    world.run(300)
    healthy = world.condition(ConditionType.HEALTHY)
    assert world.status.health is Health.OK, f"the incident is over, and Healthy is {healthy.reason}"
    assert (world.status.budget, told(world).alert) == ("97%", None), "17 minutes at 50 % are 2 % of the budget"


def test_a_canary_spends_the_models_budget() -> None:
    """The budget is the model's: what a version spent that was taken back is gone, and stable's health is its own."""
    world = World(versions={"2": Behaviour(errors=1.0)}, rps=1000).serving().run(600)
    world.ask("2")
    world.until("RolledBack")
    world.run(300)
    assert world.status.budget == "99%" and world.status.health is Health.OK


def test_a_restart_forgets_no_budget() -> None:
    """Until the past is read again, what the last operator wrote stands."""
    world = World(ONE, tick=60.0).serving().run(600)
    world.does("1").errors = 1.0
    world.until(lambda: told(world).alert is Alert.PAGE)
    before = told(world)
    evidence = replace(world.view().evidence, tallies={})
    world.restart()
    status = decide(replace(world.view(), evidence=evidence), Memory()).status
    assert status.objectives[0].budget == before and status.budget == before.remaining


@pytest.mark.parametrize("state", BLIND)
def test_a_budget_stands_still_while_nothing_is_seen(state: DataState) -> None:
    """Windows that pass by unseen are no recovery: an alert stays until requests are counted again."""
    world = World(ONE, tick=60.0).serving().run(600)
    world.does("1").errors = 1.0
    world.until(lambda: told(world).alert is Alert.PAGE)
    world.run(60)
    before, evidence = told(world), world.view().evidence
    idle = {sli: {w: Tally(0, 0, w) for w in windows} for sli, windows in evidence.tallies.items()}
    blind = replace(evidence, state=state, message="why", tallies=idle)
    assert decide(replace(world.view(), evidence=blind), Memory()).status.objectives[0].budget == before
    seen = replace(blind, state=DataState.FLOWING)
    after = decide(replace(world.view(), evidence=seen), Memory()).status.objectives[0].budget
    assert after is not None and after.alert is None, "requests are counted, and no budget burns"


def test_another_bound_is_another_budget() -> None:
    """What was left of 1 % says nothing about what is left of 2 %, nor about an objective that counts nothing."""
    world = World(ONE, tick=60.0).serving().run(600)
    query = {"name": "auc", "promql": {"query": "auc", "min": "0.8"}}
    world.change({"spec.objectives": [{**ERRORS, "errorRate": {"max": "2%"}}, query]})
    evidence = replace(world.view().evidence, tallies={})
    objectives = decide(replace(world.view(), evidence=evidence), Memory()).status.objectives
    assert [o.budget for o in objectives] == [None, None]


_SHARES: dict[str, tuple[float, float, Health, str]] = {
    "a page": (0.07, 0.07, Health.CRITICAL, "BudgetBurning"),
    "a ticket": (0.0112, 0.0112, Health.WARNING, "BudgetBurning"),
    "spent, and not burning": (0.0, 0.0112, Health.WARNING, "BudgetExhausted"),
    "kept": (0.005, 0.005, Health.OK, "ObjectivesKept"),
}


@pytest.mark.parametrize(("lately", "in_all", "word", "reason"), _SHARES.values(), ids=_SHARES)
def test_health_hears_of_budgets(lately: float, in_all: float, word: Health, reason: str) -> None:
    """Where no window of minutes is broken: a page is Critical, a ticket and a spent budget are Warnings."""
    world = World({"spec.rollout.rollbackOn": None}).serving().run(300)
    sli = objective_rules(world.spec)[0].sli
    assert sli is not None
    counted = {**tallies(lately, rps=100), MONTH: tallies(in_all, rps=100)[MONTH]}
    view = world.view()
    status = decide(replace(view, evidence=replace(view.evidence, tallies={sli: counted})), Memory()).status
    healthy = next(c for c in status.conditions if c.type == ConditionType.HEALTHY)
    assert (status.health, healthy.reason) == (word, reason), healthy.message
    assert healthy.status == ("False" if word is Health.CRITICAL else "True")
    if word is not Health.OK:
        assert "of the budget left" in healthy.message


def test_the_column_shows_the_budget_of_which_least_is_left() -> None:
    """As numbers, not as texts: -5% is less than 9% and that less than 80%."""
    objectives = [
        ObjectiveStatus(
            name=f"o{i}",
            verdict=Verdict.PASS,
            reason="ProvenKept",
            bound="at most 1%",
            budget=BudgetStatus(remaining=left) if left else None,
        )
        for i, left in enumerate(("80%", "", "9%", "-5%", "100%"))
    ]
    assert budget.lowest(objectives) == "-5%"
    assert budget.lowest(objectives[:3]) == "9%"
    assert budget.lowest(objectives[1:2]) == ""
