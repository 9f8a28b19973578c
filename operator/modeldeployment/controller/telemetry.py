"""The operator's own metrics. Labels name models, roles and outcomes only; a model's series go when it goes."""

from __future__ import annotations

import contextlib
from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from modeldeployment.api.status import Alert, Health, ModelDeploymentStatus

_HEALTH = {Health.OK: 0, Health.WARNING: 1, Health.CRITICAL: 2, Health.UNKNOWN: 3}
_ALERTS = {None: 0, Alert.TICKET: 1, Alert.PAGE: 2}
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Telemetry:
    """Counters, gauges and histograms of one operator."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._budgets: dict[tuple[str, str], frozenset[str]] = {}
        prefix = "modeldeployment"
        self.tick_seconds = Histogram(
            f"{prefix}_tick_seconds",
            "Time of one look at all models with an interval; cohort is steady or trial.",
            ["cohort"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.tick_models = Gauge(
            f"{prefix}_tick_models", "Models that the last look had evidence of.", ["cohort"], registry=registry
        )
        self.tick_time = Gauge(
            f"{prefix}_tick_timestamp_seconds", "When the last look ended.", ["cohort"], registry=registry
        )
        self.tick_late_seconds = Histogram(
            f"{prefix}_tick_late_seconds", "How late a look began.", buckets=_SECONDS, registry=registry
        )
        self.ticks = Counter(f"{prefix}_ticks", "Looks at a cohort.", registry=registry)
        self.queries = Counter(f"{prefix}_queries", "Queries to Prometheus.", ["purpose", "outcome"], registry=registry)
        self.query_seconds = Histogram(
            f"{prefix}_query_seconds", "Time of a query to Prometheus.", buckets=_SECONDS, registry=registry
        )
        self.api_requests = Counter(
            f"{prefix}_api_requests", "Requests to the API server.", ["verb", "resource", "code"], registry=registry
        )
        self.errors = Counter(f"{prefix}_errors", "Looks or writes that failed, by kind.", ["kind"], registry=registry)
        self.decisions = Counter(f"{prefix}_decisions", "Decisions, by effect.", ["effect"], registry=registry)
        self.drift = Counter(
            f"{prefix}_store_drift",
            "Objects that a list showed otherwise than the watch.",
            ["resource"],
            registry=registry,
        )
        self.leader = Gauge(f"{prefix}_leader", "1 while this process acts.", registry=registry)
        self.models = Gauge(f"{prefix}_models", "ModelDeployments known.", registry=registry)
        self.health = Gauge(
            f"{prefix}_health",
            "0 OK, 1 Warning, 2 Critical, 3 Unknown.",
            ["namespace", "name"],
            registry=registry,
        )
        self.budget = Gauge(
            f"{prefix}_budget_remaining_percent",
            "What is left of an objective's error budget, rounded down; below 0 once it is overspent.",
            ["namespace", "name", "objective"],
            registry=registry,
        )
        self.alert = Gauge(
            f"{prefix}_budget_alert",
            "How fast an objective's error budget burns: 0 it lasts, 1 Ticket, 2 Page.",
            ["namespace", "name", "objective"],
            registry=registry,
        )
        self.weight = Gauge(
            f"{prefix}_weight_percent",
            "Percent of the traffic that the router was seen to send.",
            ["namespace", "name", "role"],
            registry=registry,
        )

    def looked(self, cohort: str, models: int, seconds: float) -> None:
        """A look that ended: models it had evidence of, and how long it took."""
        self.ticks.inc()
        self.tick_seconds.labels(cohort).observe(seconds)
        self.tick_models.labels(cohort).set(models)
        self.tick_time.labels(cohort).set_to_current_time()

    def show(self, namespace: str, name: str, status: ModelDeploymentStatus) -> None:
        """A model's gauges, after a look."""
        self.health.labels(namespace, name).set(_HEALTH[status.health])
        for role in ("stable", "canary", "previous"):
            seen = getattr(status, role)
            if seen is not None and seen.weight is not None:
                self.weight.labels(namespace, name, role).set(seen.weight)
            else:
                self._drop(self.weight, namespace, name, role)
        budgets = {o.name: o.budget for o in status.objectives if o.budget}
        self._forget_budgets(namespace, name, but=budgets)
        for objective, budget in budgets.items():
            self.budget.labels(namespace, name, objective).set(int(budget.remaining.rstrip("%")))
            self.alert.labels(namespace, name, objective).set(_ALERTS[budget.alert])
        self._budgets[namespace, name] = frozenset(budgets)

    def forget(self, namespace: str, name: str) -> None:
        """Removes a model's series."""
        self._drop(self.health, namespace, name)
        self._forget_budgets(namespace, name)
        for role in ("stable", "canary", "previous"):
            self._drop(self.weight, namespace, name, role)

    def _forget_budgets(self, namespace: str, name: str, but: Collection[str] = ()) -> None:
        for objective in self._budgets.pop((namespace, name), frozenset()).difference(but):
            self._drop(self.budget, namespace, name, objective)
            self._drop(self.alert, namespace, name, objective)

    @staticmethod
    def _drop(gauge: Gauge, *labels: str) -> None:
        with contextlib.suppress(KeyError):
            gauge.remove(*labels)
