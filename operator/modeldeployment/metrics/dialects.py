"""The counters that a model is read by: a built-in dialect's, a policy's, or the spec's own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from modeldeployment.api.dialects import Capability, DialectData, presets
from modeldeployment.api.serving import Dialect, LatencyUnit, Metrics, MetricsSource, OwnDialect

_MS_PER_SECOND: Final = 1000.0
_EDGE_DIGITS: Final = 6  # an edge of 0.29 s is 290 ms and not 289.99999999999997, whoever wrote it


class NoDialect(LookupError):
    """There are no counters to read a model by. `reason`: why, in one CamelCase word; the sentence says what to do."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@lru_cache(maxsize=8)
def known(own: tuple[OwnDialect, ...]) -> Mapping[str, DialectData]:
    """Name → data of every dialect that can be used: a policy's own, then those that are built in."""
    mine = {dialect.name: _own(source_of(dialect), dialect.name) for dialect in own}
    return mine | {str(name): data for name, data in presets().items() if not data.refusal}


def named(metrics: Metrics, name: str, own: tuple[OwnDialect, ...]) -> Metrics:
    """How metrics are read by the dialect of this name: a policy's own comes with its counters.

    Raises:
        NoDialect: there is none of this name, or it is refused.
    """
    if name == Dialect.CUSTOM:
        return metrics
    for dialect in own:
        if dialect.name == name:
            return metrics.model_copy(update={"dialect": name, "custom": source_of(dialect)})
    if name not in presets():
        mine = ", ".join(dialect.name for dialect in own) or "none"
        raise NoDialect(
            "DialectUnknown",
            f"there is no metrics dialect {name}: the ModelPolicy has {mine}, built in are "
            f"{', '.join(known(()))}, Auto and Custom",
        )
    preset = presets()[Dialect(name)]
    if preset.refusal:
        why = f"dialect {name} cannot tell versions apart: {preset.refusal}. {preset.notes[0]}"
        raise NoDialect("DialectRefused", why)
    return metrics if metrics.dialect == name else metrics.model_copy(update={"dialect": name})


def source_of(source: MetricsSource) -> MetricsSource:
    """What is asked of Prometheus alone: equal for two models that can share their queries."""
    return MetricsSource(
        requests=source.requests, errors=source.errors, latency=source.latency, identity=source.identity
    )


@lru_cache(maxsize=1024)
def dialect_of(metrics: Metrics) -> DialectData:
    """The counters that metrics name, once they name any: `named` sees to that.

    Raises:
        ValueError: they name none.
    """
    if metrics.custom is not None:
        return _own(metrics.custom, "" if metrics.dialect == Dialect.CUSTOM else metrics.dialect)
    if metrics.dialect not in presets():
        raise ValueError(f"serving.metrics: dialect {metrics.dialect} names no counters")
    return presets()[Dialect(metrics.dialect)]


@lru_cache(maxsize=1024)
def selectors_of(metrics: Metrics) -> MetricsSource:
    """What is asked of Prometheus for a model.

    Raises:
        ValueError: as `dialect_of`.
    """
    return source_of(dialect_of(metrics))


def edge_ms(source: MetricsSource, le: str) -> float:
    """The value of the label `le` in milliseconds; +Inf is infinity.

    Raises:
        ValueError: it is no number.
    """
    edge = float(le)
    if source.latency is not None and source.latency.unit is LatencyUnit.SECONDS:
        return round(edge * _MS_PER_SECOND, _EDGE_DIGITS)
    return edge


def _own(source: MetricsSource, name: str) -> DialectData:
    where = f"the ModelPolicy's dialect {name}" if name else "serving.metrics.custom"
    enable: dict[Capability, str] = {"errors": f"add errors to {where}", "latency": f"add latency to {where}"}
    return DialectData(**dict(source), enable=enable)
