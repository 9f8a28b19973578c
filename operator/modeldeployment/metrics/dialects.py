"""Presets of the metrics that serving runtimes expose, and the user's own: which counters say how a model does."""

from __future__ import annotations

from functools import cache, lru_cache
from importlib.resources import files
from typing import Final

import yaml
from pydantic import Field, TypeAdapter

from modeldeployment.api.serving import Dialect, LatencyUnit, Metrics, MetricsSource

_MS_PER_SECOND: Final = 1000.0
_EDGE_DIGITS: Final = 6  # an edge of 0.29 s is 290 ms and not 289.99999999999997, whoever wrote it


class DialectData(MetricsSource):
    """The counters of one runtime, with where they are documented and what to know about them."""

    source: str = Field(default="", description="Where the names are documented.")
    model_label: str = Field(default="", description="Label that names the model; empty if none does.")
    notes: tuple[str, ...] = Field(default=(), description="What to know before relying on it.")

    @property
    def has_errors(self) -> bool:
        """Whether failed requests are counted."""
        return self.errors is not None

    @property
    def has_histogram(self) -> bool:
        """Whether requests slower than a bound can be counted."""
        return self.latency is not None


@cache
def presets() -> dict[Dialect, DialectData]:
    """Every preset of dialects.yaml, validated."""
    text = files("modeldeployment.metrics").joinpath("dialects.yaml").read_text(encoding="utf-8")
    return TypeAdapter(dict[Dialect, DialectData]).validate_python(yaml.safe_load(text))


@lru_cache(maxsize=1024)
def dialect_of(metrics: Metrics) -> DialectData:
    """The counters that `spec.serving.metrics` names.

    Raises:
        ValueError: the dialect is Custom and `custom` is missing; the CRD refuses that.
    """
    if metrics.dialect is not Dialect.CUSTOM:
        return presets()[metrics.dialect]
    if metrics.custom is None:
        raise ValueError('serving.metrics: set custom when dialect is "Custom"')
    return DialectData(**dict(metrics.custom))


@lru_cache(maxsize=1024)
def selectors_of(metrics: Metrics) -> MetricsSource:
    """What is asked of Prometheus alone: equal for two models that can share their queries.

    Raises:
        ValueError: as `dialect_of`.
    """
    of = dialect_of(metrics)
    return MetricsSource(requests=of.requests, errors=of.errors, latency=of.latency, identity=of.identity)


def edge_ms(source: MetricsSource, le: str) -> float:
    """The value of the label `le` in milliseconds; +Inf is infinity.

    Raises:
        ValueError: it is no number.
    """
    edge = float(le)
    if source.latency is not None and source.latency.unit is LatencyUnit.SECONDS:
        return round(edge * _MS_PER_SECOND, _EDGE_DIGITS)
    return edge
