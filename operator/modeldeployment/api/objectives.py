"""`spec.objectives`: how good the model must be. Named, each one kind of bound."""

from __future__ import annotations

from pydantic import ConfigDict, Field, field_validator

from modeldeployment.api.base import Model, exactly_one, extend, rule
from modeldeployment.api.quantities import Decimal, Duration, Percentage, between, possible_share

BUDGET_PERIOD = "720h"
"""Over how long a budget lasts unless it says so: 30 days, as in the Google SRE workbook."""
QUANTILES: tuple[float, ...] = (0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)


class ErrorRate(Model):
    """Failed requests over all requests."""

    max: Percentage = Field(
        description="Highest share of failed requests, e.g. 1%.",
        json_schema_extra=possible_share("1%"),
    )


class Availability(Model):
    """Requests answered without a server's error over all requests."""

    min: Percentage = Field(
        description="Lowest share of requests answered without an error, e.g. 99.5%.",
        json_schema_extra=extend(
            rule(
                "!self.matches(r'^[0-9]{1,3}(\\.[0-9]{1,4})?%$') || self.matches(r'^([5-9][0-9](\\.[0-9]{1,4})?)%$')",
                "must be from 50% up to below 100%, such as 99.5%",
            )
        ),
    )


class Latency(Model):
    """A quantile of request durations."""

    quantile: float | str = Field(
        description="Which quantile, as a fraction: 0.99 for p99. Read as the share of requests that must be faster "
        "than max.",
        json_schema_extra={"x-one-of": [*QUANTILES, *map(str, QUANTILES)]},
    )
    max: Duration = Field(
        description="Longest duration at that quantile, e.g. 800ms.",
        json_schema_extra=between("1ms", "24h"),
    )

    @field_validator("quantile")
    @classmethod
    def _known(cls, value: float | str) -> float:
        if float(value) not in QUANTILES:
            raise ValueError(f"must be one of {', '.join(map(str, QUANTILES))}")
        return float(value)


class PromQL(Model):
    """Any query with a bound, compared as it is: a number without a sample size proves nothing either way."""

    model_config = ConfigDict(
        json_schema_extra=extend(
            exactly_one("max", "min", of="promql"),
        )
    )

    query: str = Field(
        min_length=1,
        max_length=2048,
        description="An instant query. Series with the labels namespace and pod are told apart by revision and "
        "averaged over its pods; a single series without them speaks for the whole model, and so for its health "
        "only, never for a canary.",
    )
    max: Decimal | None = Field(default=None, description='Highest value, e.g. "0.2".')
    min: Decimal | None = Field(default=None, description='Lowest value, e.g. "0.8".')
    sustained: Duration = Field(
        default="1m",
        description="How long the value must be on one side of the bound before that counts.",
        json_schema_extra=between("0s", "24h"),
    )


class Budget(Model):
    """An error budget: the bad requests that the bound allows, counted over a longer time."""

    period: Duration = Field(
        default=BUDGET_PERIOD,
        description="Over how long the allowed bad requests may be spent, up to now, e.g. 720h for 30 days (durations "
        "have no days).",
        json_schema_extra=between("168h", "2160h"),
    )


class Objective(Model):
    """One bound that the model must keep."""

    model_config = ConfigDict(
        json_schema_extra=extend(
            exactly_one("errorRate", "latency", "availability", "promql", of="objective"),
            rule(
                "!has(self.budget) || !has(self.promql)",
                "a promql objective counts no requests, so it has no error budget: leave budget out",
                field_path=".budget",
            ),
        )
    )

    name: str = Field(
        max_length=63,
        description="Name of the objective, unique in the list.",
        json_schema_extra=extend(
            rule(
                r"self.matches(r'^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
                "must be lower-case letters, digits and -, such as errors or latency-p99",
            )
        ),
    )
    error_rate: ErrorRate | None = Field(default=None, description="Bound on the share of failed requests.")
    latency: Latency | None = Field(default=None, description="Bound on a quantile of request durations.")
    availability: Availability | None = Field(
        default=None, description="Bound on the share of requests answered without an error."
    )
    promql: PromQL | None = Field(default=None, description="Bound on the value of a query.")
    window: Duration = Field(
        default="5m",
        description="Over how long the value shown in status, and the health of the stable version, are taken.",
        json_schema_extra=between("10s", "24h"),
    )
    budget: Budget | None = Field(
        default=None,
        description="Error budget of the model, whichever versions served: what is left of the bad requests that the "
        "bound allows, and how fast they are spent. Unset: over 720h. A promql objective has none.",
    )
