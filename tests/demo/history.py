"""What the page draws: the route's and the clients' records, the operator's words, and Prometheus' own history."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from prometheus_api_client import PrometheusConnect

from demo.act import Act
from demo.stage import BOUND_MS, SCRAPE_SECONDS, Stage
from demo.timeline import BACKWARD, e_values, moment

Point = tuple[float, float]
Lines = dict[str, list[Point]]
_WINDOW = f"{4 * SCRAPE_SECONDS:g}s"
_PODS = 'namespace="default",pod=~"fraud-.*"'


@dataclass(frozen=True)
class Mark:
    """Something that happened at a moment. `kind`: forward, backward or done (to the system, by a person)."""

    at: float
    kind: str
    title: str
    text: str


@dataclass(frozen=True)
class Span:
    """An act on the time axis."""

    number: int
    name: str
    start: float
    end: float
    ok: bool


@dataclass
class Recording:
    """All of it; times in seconds since the demo began, shares in percent, NaN where there was no value."""

    end: float = 1.0
    spans: list[Span] = field(default_factory=list)
    weights: list[tuple[float, dict[str, int]]] = field(default_factory=list)
    failed: Lines = field(default_factory=dict)
    slow: Lines = field(default_factory=dict)
    evidence: Lines = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)
    missing: str = ""

    @property
    def versions(self) -> list[str]:
        """Every version that had traffic."""
        return sorted({version for _, weights in self.weights for version in weights})


def record(stage: Stage, acts: list[Act]) -> Recording:
    """The recording of a play that is over; the lab still runs."""
    timeline = stage.timeline
    made = Recording(end=datetime.now(UTC).timestamp() - timeline.began)
    main = [act for act in acts if act.name != "MLServer beside it"]
    made.spans = [
        Span(number, act.name, act.began - timeline.began, act.began - timeline.began + act.seconds, act.ok)
        for number, act in enumerate(main, start=1)
    ]
    made.weights = [(s.at - timeline.began, s.weights) for s in stage.route.history if s.accepted]
    decisions = timeline.decided(timeline.began)
    seen = [(s.at, s.worse, s.good) for s in timeline.samples]
    # What decided is in no sample any more: the trial was over with it.
    seen += [(moment(d["time"]), *e_values([d["message"]])) for d in decisions]
    seen.sort(key=lambda values: values[0])
    made.evidence = {
        "that the canary is worse than stable": [(at - timeline.began, _value(worse)) for at, worse, _ in seen],
        "that it is good": [(at - timeline.began, _value(good)) for at, _, good in seen],
    }
    for decision in decisions:
        kind = "backward" if decision["effect"] in BACKWARD else "forward"
        title = f"{decision['effect']} {decision['version']}"
        made.marks.append(Mark(moment(decision["time"]) - timeline.began, kind, title, decision["message"]))
    made.marks += [Mark(note.at - timeline.began, "done", note.text, "") for note in timeline.notes]
    made.marks.sort(key=lambda mark: mark.at)
    try:
        made.failed = _shares(stage, _failed())
        made.slow = _shares(stage, _slow())
    except Exception as error:  # an act that failed may have left Prometheus stopped: the rest is drawn all the same
        made.missing = f"Prometheus' history could not be read: {error}"[:300]
    return made


def _value(e_value: float | None) -> float:
    return math.nan if e_value is None else e_value


def _failed() -> str:
    return (
        f"100 * sum by (version) (rate(inference_errors_total{{{_PODS}}}[{_WINDOW}])) "
        f"/ sum by (version) (rate(inference_requests_total{{{_PODS}}}[{_WINDOW}]))"
    )


def _slow() -> str:
    within = f'sum by (version) (rate(inference_latency_ms_bucket{{{_PODS},le="{BOUND_MS:.1f}"}}[{_WINDOW}]))'
    return f"100 * (1 - {within} / sum by (version) (rate(inference_latency_ms_count{{{_PODS}}}[{_WINDOW}])))"


def _shares(stage: Stage, query: str) -> Lines:
    """Version → percent over time, by one range query over the whole demo."""
    began = stage.timeline.began
    prometheus = PrometheusConnect(url=stage.stand.lab.prometheus_url, disable_ssl=True, timeout=20)
    answer: list[dict[str, Any]] = prometheus.custom_query_range(
        query,
        start_time=datetime.fromtimestamp(began, UTC),
        end_time=datetime.now(UTC),
        step=f"{SCRAPE_SECONDS:g}s",
    )
    return {
        series["metric"].get("version", "?"): _with_gaps([(float(t) - began, float(v)) for t, v in series["values"]])
        for series in answer
    }


def _with_gaps(points: list[Point]) -> list[Point]:
    """The points, with a NaN wherever samples are missing, so that no line is drawn across."""
    out: list[Point] = []
    for t, v in points:
        if out and t - out[-1][0] > 1.5 * SCRAPE_SECONDS:
            out.append((out[-1][0] + SCRAPE_SECONDS, math.nan))
        out.append((t, v))
    return out
