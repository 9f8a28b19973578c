"""Which bounds a metrics dialect can answer: CEL rules of a ModelDeployment, generated from the dialects' data.

A bound that the runtime cannot answer would never pass and never fail. So it is refused when it is written, with what
a person can do. Dialects that are known at run time only (Auto, a ModelPolicy's own) say it in EvidenceAvailable.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from modeldeployment.api.base import JSON, rule
from modeldeployment.api.dialects import Capability, presets


@dataclass(frozen=True)
class _Bound:
    """Bounds that need one capability.

    Attributes:
        needs: the capability; also the member of `custom` that gives it.
        free: CEL, whether an objective `o` needs it not.
        keys: keys of rollbackOn that need it.
        what: how a person calls what is missing.
        objectives, bounds: how a person calls the objectives, and rollbackOn's keys.
        path: the field that a refusal of rollbackOn's names.
    """

    needs: Capability
    free: str
    keys: tuple[str, ...]
    what: str
    objectives: str
    bounds: str
    path: str

    def asked_by_objectives(self, unless: str) -> str:
        """Holds if no objective needs it, or `unless`."""
        return f"!has(self.objectives) || self.objectives.all(o, {self.free}) || !has(self.serving.metrics) || {unless}"

    def asked_by_rollback(self, unless: str) -> str:
        """Holds if no key of rollbackOn needs it, or `unless`."""
        of = "self.rollout.rollbackOn"
        some = " || ".join(f"has({of}.{key})" for key in self.keys)
        return f"!has(self.rollout) || !has({of}) || !({some}) || !has(self.serving.metrics) || {unless}"


_BOUNDS: Final = (
    _Bound(
        needs="errors",
        free="!has(o.errorRate) && !has(o.availability)",
        keys=("errorRate",),
        what="counter of errors",
        objectives="errorRate and availability",
        bounds="errorRate",
        path=".rollout.rollbackOn.errorRate",
    ),
    _Bound(
        needs="latency",
        free="!has(o.latency)",
        keys=("p50LatencyMs", "p90LatencyMs", "p95LatencyMs", "p99LatencyMs"),
        what="latency histogram",
        objectives="latency objectives",
        bounds="latency bounds",
        path=".rollout.rollbackOn",
    ),
)


def answerable() -> list[JSON]:
    """The rules, for the schema of a ModelDeployment's spec."""
    return [*_refused(), *(one for bound in _BOUNDS for one in (*_of_dialects(bound), *_of_custom(bound)))]


def _refused() -> Iterator[JSON]:
    """Dialects that cannot tell two versions apart."""
    for name, data in presets().items():
        if data.refusal:
            yield rule(
                f"!has(self.serving.metrics) || self.serving.metrics.dialect != '{name}'",
                f"must not be {name}: {data.refusal}. {data.notes[0]}",
                field_path=".serving.metrics.dialect",
            )


def _of_dialects(bound: _Bound) -> Iterator[JSON]:
    for name, data in presets().items():
        if data.refusal or data.has(bound.needs):
            continue
        unless = f"self.serving.metrics.dialect != '{name}'"
        lacks = f"the metrics dialect {name} has no {bound.what}"
        yield rule(
            bound.asked_by_objectives(unless),
            f"{lacks}, so {bound.objectives} cannot be told: {data.remedy(bound.needs)}, or leave these objectives out",
            field_path=".objectives",
        )
        yield rule(
            bound.asked_by_rollback(unless),
            f"{lacks}: {data.remedy(bound.needs)}, or leave {bound.bounds} out",
            field_path=bound.path,
        )


def _of_custom(bound: _Bound) -> Iterator[JSON]:
    custom = "self.serving.metrics.custom"
    unless = f"!has({custom}) || has({custom}.{bound.needs})"
    lacks = f"serving.metrics.custom has no {bound.what}"
    yield rule(
        bound.asked_by_objectives(unless),
        f"{lacks}, so {bound.objectives} cannot be told: set serving.metrics.custom.{bound.needs}, or leave these "
        "objectives out",
        field_path=".objectives",
    )
    yield rule(
        bound.asked_by_rollback(unless),
        f"{lacks}: set serving.metrics.custom.{bound.needs}, or leave {bound.bounds} out",
        field_path=bound.path,
    )
