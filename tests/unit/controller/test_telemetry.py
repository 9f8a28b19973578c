"""The operator's own metrics: a model's series are there while it is."""

from __future__ import annotations

from prometheus_client import generate_latest

from modeldeployment.api.status import Alert, BudgetStatus, ModelDeploymentStatus, ObjectiveStatus, Verdict
from modeldeployment.controller.telemetry import Telemetry


def status(**budgets: BudgetStatus | None) -> ModelDeploymentStatus:
    """A status with an objective for each budget."""
    return ModelDeploymentStatus(
        objectives=tuple(
            ObjectiveStatus(name=name, verdict=Verdict.PASS, reason="ProvenKept", bound="at most 1%", budget=budget)
            for name, budget in budgets.items()
        )
    )


def budgets(telemetry: Telemetry) -> list[str]:
    """The series about budgets."""
    lines = generate_latest(telemetry.registry).decode().splitlines()
    return [line for line in lines if line.startswith("modeldeployment_budget_")]


def test_budgets_are_metrics() -> None:
    """What is left and how fast it burns, so that Prometheus can page; an objective that is gone has no series."""
    telemetry = Telemetry()
    telemetry.show("ml", "fraud", status(errors=BudgetStatus(remaining="-5%", alert=Alert.PAGE), auc=None))
    labels = '{name="fraud",namespace="ml",objective="errors"}'
    assert budgets(telemetry) == [
        f"modeldeployment_budget_remaining_percent{labels} -5.0",
        f"modeldeployment_budget_alert{labels} 2.0",
    ]
    telemetry.show("ml", "fraud", status(latency=BudgetStatus(remaining="97%", alert=Alert.TICKET)))
    assert {line.partition(" ")[2] for line in budgets(telemetry)} == {"97.0", "1.0"}
    telemetry.forget("ml", "fraud")
    assert not budgets(telemetry)
