"""What each built-in dialect says: the counters of a serving runtime or a proxy, as data (dialects.yaml)."""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Literal

import yaml
from pydantic import Field, TypeAdapter

from modeldeployment.api.base import Model
from modeldeployment.api.serving import Dialect, MetricsSource, Selector

Capability = Literal["metrics", "errors", "latency"]
"""What an option of the runtime may turn on: its metrics at all, the counter of errors, the latency histogram."""


class Layer(StrEnum):
    """Who counts."""

    SERVER = "Server"
    """The model server itself."""
    PROXY = "Proxy"
    """What stands before it: a sidecar, a mesh, a gateway."""


class Signals(Model):
    """What else the runtime tells, beside requests, errors and latency.

    Queue, saturation and timeouts say whether a fault is one of capacity (decision/cause.py).
    """

    tokens: Selector | None = Field(default=None, description="Counter of generated tokens.")
    queue: Selector | None = Field(default=None, description="Gauge of requests that wait.")
    saturation: Selector | None = Field(
        default=None, description="Gauge of how full it is, from 0 to 1; of several engines their mean counts."
    )
    timeouts: Selector | None = Field(
        default=None, description="Counter of requests given up or shed for lack of room."
    )


class DialectData(MetricsSource):
    """The counters of one runtime, with where they are documented and what to know about them."""

    runtime: str = Field(default="", description="Whose metrics these are, with the versions they were read of.")
    source: str = Field(default="", description="Where the names are documented.")
    probe: Selector | None = Field(
        default=None, description="Series that no other runtime has, where the one of requests could be anybody's."
    )
    layer: Layer = Field(default=Layer.SERVER, description="Who counts.")
    endpoint: str = Field(default="", description="Port and path where the runtime serves them by default.")
    model_label: str = Field(default="", description="Label that names the model; empty if none does.")
    signals: Signals = Field(default_factory=Signals, description="What else it tells.")
    enable: dict[Capability, str] = Field(
        default_factory=dict, description="What a person does about something that is missing: an imperative."
    )
    refusal: str = Field(default="", description="Why it cannot tell revisions apart, and is refused; empty if it can.")
    notes: tuple[str, ...] = Field(default=(), description="What to know before relying on it.")

    @property
    def telling(self) -> str:
        """Selector of the series by which Auto knows it."""
        return self.probe or self.requests

    def has(self, capability: Capability) -> bool:
        """Whether it counts this."""
        return capability == "metrics" or getattr(self, capability) is not None

    def remedy(self, lacking: Capability) -> str:
        """What a person does where the runtime does not count this."""
        return self.enable.get(lacking, "set serving.metrics.dialect to one that has it, such as Istio or Envoy")


@cache
def presets() -> dict[Dialect, DialectData]:
    """Every dialect of dialects.yaml, validated, in the file's order; also those that are refused."""
    text = files("modeldeployment.api").joinpath("dialects.yaml").read_text(encoding="utf-8")
    return TypeAdapter(dict[Dialect, DialectData]).validate_python(yaml.safe_load(text))
