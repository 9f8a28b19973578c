"""`kubectl model status`."""

from __future__ import annotations

from datetime import UTC, datetime

from typer.testing import CliRunner

from modeldeployment.api.conditions import Condition
from modeldeployment.api.modeldeployment import ModelDeploymentStatus
from modeldeployment.api.status import (
    Alert,
    BudgetStatus,
    BurnStatus,
    Cause,
    DecisionRecord,
    Health,
    Numbers,
    ObjectiveStatus,
    RevisionStatus,
    RolloutStatus,
    RuleStatus,
    Verdict,
)
from modeldeployment.cli.app import app
from modeldeployment.cli.status import render

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def test_it_says_who_serves_and_what_is_waited_for() -> None:
    """State, message, weights as seen and as wanted, pods and decisions are all there."""
    progressing = Condition(
        type="Progressing",
        status="True",
        reason="CanaryRunning",
        message="waiting for evidence",
        observed_generation=1,
        last_transition_time=NOW,
    )
    status = ModelDeploymentStatus(
        health=Health.OK,
        conditions=(progressing,),
        stable=RevisionStatus(revision="fraud-1", version="1.3", weight=100, wanted_weight=90, replicas=2),
        canary=RevisionStatus(revision="fraud-2", version="1.4", weight=0, wanted_weight=10, ready_replicas=1),
        decisions=(DecisionRecord(time=NOW, revision="fraud-2", version="1.4", effect="WeightRaised", message="10%"),),
    )
    text = render("fraud", status)
    assert "fraud  OK  CanaryRunning" in text
    assert "waiting for evidence" in text
    assert "100% (wanted 90%), 0 of 2 pods Ready" in text
    assert "2026-11-25 12:00:00  WeightRaised" in text


def test_it_shows_budgets() -> None:
    """What is left, since when that is known, and which windows burn; nothing for an objective without a budget."""
    burning = (BurnStatus(name="1h/5m", rate="16.2"),)
    budget = BudgetStatus(remaining="91%", since=NOW, alert=Alert.PAGE, burning=burning)
    errors = ObjectiveStatus(
        name="errors", verdict=Verdict.FAIL, reason="ProvenBroken", value="20%", bound="at most 1%"
    )
    status = ModelDeploymentStatus(
        health=Health.CRITICAL,
        budget="91%",
        objectives=(errors.model_copy(update={"budget": budget}), errors.model_copy(update={"name": "auc"})),
    )
    text = render("fraud", status)
    assert text.startswith("fraud  Critical  not looked at yet  budget 91%\n")
    assert "Page: 91% of its budget left, known since 2026-11-25 12:00; burns 16.2 times too fast over 1h/5m" in text
    assert text.count("of its budget left") == 1


def test_a_model_nobody_looked_at_yet_is_said_to_be_so() -> None:
    """Before the first look there is one line, not a stack trace."""
    assert render("fraud", ModelDeploymentStatus()) == "fraud  Unknown  not looked at yet"


def test_every_verb_has_a_help_text() -> None:
    """`--help` lists each verb with what it does."""
    shown = CliRunner().invoke(app, ["--help"]).output
    for verb in ("status", "explain", "pause", "resume", "abort", "promote", "retry", "operator"):
        assert f"  {verb} " in shown, f"{verb} is missing in --help"


def test_rules_are_told_by_their_numbers() -> None:
    """Counts of both sides, the bound, what is missing, and a cause that is not the version's own."""
    numbers = Numbers(bound="at most 1%", requests=37, bad=7, stable_requests=461, stable_bad=0)
    rules = (
        RuleStatus(name="errors", verdict=Verdict.FAIL, cause=Cause.POD, numbers=numbers, message="long"),
        RuleStatus(
            name="latency",
            verdict=Verdict.INCONCLUSIVE,
            numbers=numbers.model_copy(update={"bad": 0}),
            needs="225 more requests, 45s",
            message="long",
        ),
        RuleStatus(
            name="drift",
            verdict=Verdict.INCONCLUSIVE,
            numbers=Numbers(bound="at most 0.2", value="0.3"),
            message="drift: 0.3; bound at most 0.2",
        ),
    )
    trial = RolloutStatus(revision="fraud-2", version="1.4", start_time=NOW, rules=rules)
    stable, canary = (RevisionStatus(revision=f"fraud-{n}", version=f"1.{n}") for n in (3, 4))
    held = DecisionRecord(
        time=NOW, revision="fraud-4", version="1.4", effect="PodFault", cause=Cause.POD, message="held"
    )
    text = render("fraud", ModelDeploymentStatus(stable=stable, canary=canary, rollout=trial, decisions=(held,)))
    for line in (
        "├── Fail         [Pod] errors: 7 of 37 bad (18.9%), 1.3 0 of 461 bad (0%); at most 1%",
        "├── Inconclusive latency: 0 of 37 bad (0%), 1.3 0 of 461 bad (0%); at most 1%; needs about 225 more requests, "
        "45s at this traffic",
        "├── Inconclusive drift: 0.3; bound at most 0.2",
        "PodFault            1.4             [Pod] held",
    ):
        assert line in text, f"it does not say: {line}\n{text}"
