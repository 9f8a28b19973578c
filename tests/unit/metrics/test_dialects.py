"""Presets against what real servers expose: recorded in expositions/, where each file says of which and how."""

from __future__ import annotations

import re
from pathlib import Path

from modeldeployment.api.dialects import presets
from modeldeployment.api.serving import Dialect

RECORDED = Path(__file__).parent / "expositions"


def found(exposition: str, selector: str) -> dict[str, float]:
    """Cluster → sum of the series that a selector of a name and equal labels finds."""
    name, _, matchers = selector.partition("{")
    wanted = set(filter(None, matchers.removesuffix("}").split(",")))
    sums: dict[str, float] = {}
    for line in exposition.splitlines():
        series = re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line)
        if series and series[1] == name and wanted <= set(series[2].split(",")):
            cluster = re.search(r'envoy_cluster_name="([^"]*)"', series[2])
            assert cluster is not None
            sums[cluster[1]] = sums.get(cluster[1], 0.0) + float(series[3])
    return sums


def test_envoy_counts_answers_that_it_gave_itself() -> None:
    """Refused, without endpoint, timed out, retried: one request each, and an error; so no error without a request."""
    exposition, envoy = (RECORDED / "envoy.txt").read_text(encoding="utf-8"), presets()[Dialect.ENVOY]
    assert envoy.errors is not None
    assert envoy.latency is not None
    assert found(exposition, envoy.requests) == {f"ml/{name}": 5 for name in ("ok", "dead", "again", "none", "slow")}
    assert found(exposition, envoy.errors) == {f"ml/{name}": 5 for name in ("dead", "again", "none", "slow")}
    assert set(found(exposition, envoy.latency.buckets)) == {"ml/ok"}, "the histogram has answers of the model alone"
