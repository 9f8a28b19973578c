"""Dialects' data: selectors that Prometheus takes, remedies where something is missing, and what Envoy counts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from modeldeployment.api.dialects import Capability, DialectData, presets
from modeldeployment.api.serving import REFUSED, Dialect, Metrics, OwnDialect
from modeldeployment.metrics import dialect_of, named
from modeldeployment.metrics.dialects import selectors_of
from unit.metrics.exposition import Series, counted, select, series_of

RECORDED = Path(__file__).parent / "expositions"
EVERY = pytest.mark.parametrize("data", presets().values(), ids=map(str, presets()))


def selectors(data: DialectData) -> dict[str, str]:
    """All selectors of a dialect."""
    of = {"requests": data.requests, "errors": data.errors, "probe": data.probe, **data.signals.model_dump()}
    of["buckets"] = data.latency.buckets if data.latency else None
    return {name: text for name, text in of.items() if text}


@EVERY
def test_every_selector_can_be_read(data: DialectData) -> None:
    """By the rule that a user's own has to keep, and by the evaluation that recorded expositions are tested with."""
    (rule,) = OwnDialect.model_json_schema()["properties"]["requests"]["x-kubernetes-validations"]
    allowed = re.compile(rule["rule"].removeprefix("self.matches(r'").removesuffix("')"))
    for name, text in selectors(data).items():
        assert allowed.match(text), f"{name}: {text!r} would be refused in a ModelPolicy"
        select([], text)


@EVERY
def test_what_is_missing_has_a_remedy(data: DialectData) -> None:
    """A dialect without errors or histogram says which option turns it on, or what to use instead."""
    lacking: tuple[Capability, ...] = ("errors", "latency")
    for capability in lacking:
        assert data.has(capability) or data.refusal or data.enable.get(capability), f"no remedy for {capability}"


def test_the_refused_ones_are_those_that_tell_no_versions_apart() -> None:
    """The names that the schema leaves out of its list are those that the data refuses."""
    assert {name for name, data in presets().items() if data.refusal} == set(REFUSED)


def test_a_dialect_of_ones_own_cannot_hide_a_built_in_one() -> None:
    """Names differ, so the counters of a model never change by an edit of the policy alone, but for its own."""
    own = OwnDialect(name="acme", requests="acme_total")
    assert {str(name) for name in Dialect}.isdisjoint({own.name})
    assert selectors_of(named(Metrics(dialect="acme"), "acme", (own,))).requests == "acme_total"
    remedy = dialect_of(named(Metrics(dialect="acme"), "acme", (own,))).remedy("errors")
    assert remedy == "add errors to the ModelPolicy's dialect acme"


def test_envoy_counts_answers_that_it_gave_itself() -> None:
    """Refused, without endpoint, timed out, retried: one request each, and an error; so no error without a request."""
    series, envoy = series_of((RECORDED / "envoy.txt").read_text(encoding="utf-8")), presets()[Dialect.ENVOY]
    clusters = ("ok", "dead", "again", "none", "slow")
    by_cluster = {name: counted(_of(series, f"ml/{name}"), envoy) for name in clusters}
    assert {name: of.requests for name, of in by_cluster.items()} == dict.fromkeys(clusters, 5)
    assert {name: of.errors for name, of in by_cluster.items()} == {**dict.fromkeys(clusters, 5), "ok": 0}
    assert [name for name, of in by_cluster.items() if of.faster] == ["ok"], (
        "the histogram has the model's answers alone"
    )


def _of(series: list[Series], cluster: str) -> list[Series]:
    return [one for one in series if one[0].get("envoy_cluster_name") == cluster]
