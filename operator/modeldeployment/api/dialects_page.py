"""`python -m modeldeployment.api.dialects_page FILE`: writes docs/dialects.md from the dialects' data."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from modeldeployment.api.dialects import DialectData, presets
from modeldeployment.api.serving import SeriesIdentity

_TOLD_BY: Final = {
    SeriesIdentity.POD: "pod",
    SeriesIdentity.WORKLOAD: "destination workload",
    SeriesIdentity.CLUSTER: "upstream cluster",
    SeriesIdentity.INGRESS: "backend Service",
}
_UNITS: Final = {"Seconds": "s", "Milliseconds": "ms"}
_INTRODUCTION: Final = """\
<!-- Generated from operator/modeldeployment/api/dialects.yaml by `make docs`. DO NOT EDIT. -->
# Metrics dialects

A dialect says which counters of Prometheus tell how a model does. `spec.serving.metrics.dialect` names one:

- **one of the table**, for a runtime that exposes its own metrics, or a proxy before it;
- **Auto**: the operator asks Prometheus by which dialects requests of the revision that serves were counted, and takes
  one that has what the objectives need: of the ModelPolicy's own the first, else the model server's, else the first
  proxy's in the order of the table. What it took and why is in `status.dialect` and in the condition EvidenceAvailable.
  It stays while a version is compared with another, so that both are measured alike, and is looked into again when
  another version serves. Where it takes none, the condition's reason says why: DialectPending (it asks within half a
  minute, and once more before it takes a proxy's), DialectNotFound, or DialectAmbiguous (two model servers in one pod);
- **a name of your own**, defined once for the cluster in the ModelPolicy (a name that it does not have is
  DialectUnknown):

  ```yaml
  spec:
    dialects:
      - name: acme-tabular
        requests: acme_predictions_total
        errors: acme_predictions_total{outcome="error"}
        latency: {buckets: acme_prediction_seconds_bucket, unit: Seconds}
        identity: Pod        # or Workload, Cluster, Ingress: which labels say whose series it is
  ```

- **Custom**: the same fields in the ModelDeployment itself, in `serving.metrics.custom`.

Where a runtime exposes a native histogram in place of a classic one, name that, without an ending:
`latency: {histogram: acme_prediction_seconds, unit: Seconds}`. Prometheus must be told to scrape those
(`scrape_native_histograms: true`). A bound is judged at the two bucket edges around it, which a native histogram of
schema 3 has 9% apart, one of schema 0 a factor 2; powers of two of its unit (500ms or 1s of one in seconds) are edges
of both. With custom bounds (`convert_classic_histograms_to_nhcb`) an edge is known only once its bucket had a request,
so take one of these bounds. `requests` stays a counter: a native histogram has no series that ends in _count.

An objective that a dialect cannot answer is refused when it is applied; for Auto and names of your own,
EvidenceAvailable says so. Whatever the dialect, a version under comparison is measured as the version that serves is.

Queue, saturation and timeouts tell a fault of capacity (cause `Capacity`). A slow canary is held rather than taken
back where each of its pods gets 1.5 times the requests that one of stable's would have, or 1.1 times while one request
or more waits in each, or they are 90% full; one that fails, where it is 1.1 times and 90% of its failed requests are
timeouts. A queue at the same load is the version's own. Without these signals nothing else is missing.
"""


def render() -> str:
    """The page as the file has it."""
    usable = {str(name): data for name, data in presets().items() if not data.refusal}
    refused = {str(name): data for name, data in presets().items() if data.refusal}
    lines = [_INTRODUCTION, *_table(usable), ""]
    for name, data in usable.items():
        lines += [f"## {name}", "", *_section(data), ""]
    lines += ["## Not usable", ""]
    for name, data in refused.items():
        lines += [f"- **{name}** is refused: {data.refusal}. {' '.join(data.notes)} ([source]({data.source}))"]
    return "\n".join(lines) + "\n"


def _table(some: dict[str, DialectData]) -> Iterator[str]:
    yield "| Dialect | Counted by | A revision is told by | Errors | Latency | Tokens | Queue | Saturation | Timeouts |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, data in some.items():
        latency = _UNITS[data.latency.unit] if data.latency else "–"
        signals = (data.signals.tokens, data.signals.queue, data.signals.saturation, data.signals.timeouts)
        told = ["yes" if data.errors else "–", latency, *("yes" if signal else "–" for signal in signals)]
        cells = [f"[{name}](#{name.lower()})", data.layer.lower(), _TOLD_BY[data.identity], *told]
        yield f"| {' | '.join(cells)} |"


def _section(data: DialectData) -> Iterator[str]:
    served = f" Served on {data.endpoint} by default." if data.endpoint else ""
    label = f" The label `{data.model_label}` names the model." if data.model_label else ""
    yield f"{data.runtime} ([source]({data.source})).{served}{label}"
    yield ""
    selectors = {
        "requests": data.requests,
        "errors": data.errors,
        "latency": data.latency and f"{data.latency.selector} ({_UNITS[data.latency.unit]})",
        "known to Auto by": data.probe,
        "tokens": data.signals.tokens,
        "queue": data.signals.queue,
        "saturation": data.signals.saturation,
        "timeouts": data.signals.timeouts,
    }
    yield "```"
    yield from (f"{what}: {selector}" for what, selector in selectors.items() if selector)
    yield "```"
    yield ""
    subjects = {"metrics": "To have metrics at all", "errors": "No errors", "latency": "No latency histogram"}
    yield from (f"- {subjects[kind]}: {remedy}." for kind, remedy in data.enable.items())
    yield from (f"- {note}" for note in data.notes)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
