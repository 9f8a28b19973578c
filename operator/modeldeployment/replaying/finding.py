"""Past rollouts in what Prometheus counted: a revision's first traffic while another one had some. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from modeldeployment.api.modelrevision import revision_pattern
from modeldeployment.api.serving import Metrics, SeriesIdentity
from modeldeployment.metrics.answer import Labels
from modeldeployment.metrics.dialects import selectors_of
from modeldeployment.metrics.identity import service_of_cluster, service_of_ingress
from modeldeployment.metrics.planning import narrow

PAUSE_SECONDS: Final = 900.0
"""A revision without a request for so long has no traffic any more; one that has some again is in another rollout."""

Series = Sequence[tuple[Labels, Sequence[tuple[float, float]]]]
"""(labels, samples); a sample is (unix seconds, value)."""


class End(StrEnum):
    """How a past rollout ended, as far as traffic tells."""

    PROMOTED = "Promoted"
    TAKEN_BACK = "TakenBack"
    GOES_ON = "GoesOn"


@dataclass(frozen=True, slots=True)
class Found:
    """One past rollout.

    Attributes:
        revision, control: the new revision, and the one that served.
        start: the last instant without a request of the new one (unix seconds).
        end: the last instant with requests of both.
        how: who had traffic after that.
    """

    revision: str
    control: str
    start: float
    end: float
    how: End


def query(namespace: str, name: str, metrics: Metrics, over: str = "") -> str:
    """Requests of each pod, workload or cluster of a model. `over`: length of a window, such as "60000ms", of which the
    last sample counts: so that nothing that was there for a shorter time is missed."""
    source = selectors_of(metrics)
    which = revision_pattern(name)
    matchers: tuple[str, ...]
    match source.identity:
        case SeriesIdentity.POD:
            by, matchers = "namespace, pod", (f'namespace="{namespace}"', f'pod=~"{which}-.+"')
        case SeriesIdentity.WORKLOAD:
            by = "destination_workload_namespace, destination_workload"
            matchers = (f'destination_workload_namespace="{namespace}"', f'destination_workload=~"{which}"')
        case SeriesIdentity.CLUSTER:
            by = "envoy_cluster_name"
            matchers = (f'envoy_cluster_name=~"{namespace}/{which}(/.*)?|outbound[|].*[|]{which}[.]{namespace}[.].*"',)
        case SeriesIdentity.INGRESS:  # which of its labels Prometheus renamed is not known
            by, matchers = "exported_namespace, exported_service, namespace, service, canary", ()
    selector = narrow(source.requests, matchers)
    return f"sum by ({by}) (last_over_time({selector}[{over}]))" if over else f"sum by ({by}) ({selector})"


def revision_in(labels: Labels, name: str) -> str:
    """The revision that a series is of; "" if it is of no revision of this model."""
    if "envoy_cluster_name" in labels:
        service = service_of_cluster(labels["envoy_cluster_name"])
        found = service[1] if service else ""
    elif "exported_service" in labels or "service" in labels:
        found = service_of_ingress(labels)[1]
    else:
        found = labels.get("destination_workload") or labels.get("pod", "").rpartition("-")[0].rpartition("-")[0]
    return found if re.fullmatch(revision_pattern(name), found) else ""


def numbers(series: Iterable[tuple[Labels, Sequence[tuple[float, str]]]]) -> Series:
    """Samples as Prometheus writes them, as numbers; NaN is none."""
    return [
        (labels, [(at, value) for at, text in samples if not math.isnan(value := float(text))])
        for labels, samples in series
    ]


def rises(series: Series, name: str) -> dict[str, list[float]]:
    """Revision → instants at which its requests had risen since the one before, in order.

    A counter that is new counts from zero. What the first instant of all shows had risen by then.
    """
    found: dict[str, set[float]] = {}
    for labels, samples in series:
        revision = revision_in(labels, name)
        if not revision:
            continue
        at = found.setdefault(revision, set())
        before = 0.0
        for time, value in samples:
            if value > before or (value < before and value > 0):
                at.add(time)
            before = value
    return {revision: sorted(times) for revision, times in found.items() if times}


def rollouts(risen: Mapping[str, Sequence[float]], step: float, last: float) -> list[Found]:
    """The rollouts, oldest first. `step`: seconds between instants; `last`: the last instant (unix seconds)."""
    runs = sorted(
        (start, end, revision)
        for revision, times in risen.items()
        for start, end in _runs(times, max(PAUSE_SECONDS, step))
    )
    found = []
    for start, end, revision in runs:
        served = [(s, e, r) for s, e, r in runs if r != revision and s < start and e >= start]
        if not served:
            continue
        _, until, control = max(served, key=lambda run: (sum(t < start for t in risen[run[2]]), run[2]))
        how = End.PROMOTED if until < end else End.TAKEN_BACK
        if min(until, end) + 2 * step >= last:
            how = End.GOES_ON
        found.append(Found(revision, control, start - step, min(until, end), how))
    return found


def _runs(times: Sequence[float], pause: float) -> Iterable[tuple[float, float]]:
    """Stretches without a longer pause."""
    start = before = times[0]
    for time in times[1:]:
        if time - before > pause:
            yield start, before
            start = time
        before = time
    yield start, before
