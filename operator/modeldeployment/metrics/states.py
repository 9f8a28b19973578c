"""What is known about a model's metrics, and what a person can do about it: one state, one sentence."""

from __future__ import annotations

from modeldeployment.api.dialects import Capability
from modeldeployment.api.quantities import say_duration
from modeldeployment.api.serving import MetricsSource, SeriesIdentity
from modeldeployment.decision.evidence import DataState
from modeldeployment.metrics.dialects import dialect_of
from modeldeployment.metrics.model import ModelState
from modeldeployment.metrics.planning import Indicator
from modeldeployment.metrics.snapshot import Snapshot
from modeldeployment.metrics.watched import Watched

Told = tuple[DataState, str]

_GATEWAYS = {
    SeriesIdentity.CLUSTER: "Prometheus scrapes the Envoys and that their cluster names say <namespace>/<service>",
    SeriesIdentity.INGRESS: "Prometheus scrapes the ingress controllers and that an Ingress names the Service",
}


def judge(model: Watched, state: ModelState, snapshot: Snapshot, stale_after: float) -> Told:
    """The state of a model whose queries were all answered. stale_after in seconds."""
    checks = (_no_data, _stale, _unsupported, _no_traffic)
    told = (check(model, state, snapshot, stale_after) for check in checks)
    return next((one for one in told if one is not None), _flowing(model, state, snapshot))


def data_age(model: Watched, state: ModelState, instant: float) -> float | None:
    """Seconds since the revision in question was scraped last; None if it never was."""
    newest = state.counters.newest(model.subject)
    return None if newest is None else max(0.0, instant - newest)


def _no_data(model: Watched, state: ModelState, snapshot: Snapshot, stale_after: float) -> Told | None:
    source, subject = dialect_of(model.metrics), model.subject
    if not subject:
        return DataState.NO_DATA, "no revision serves yet, so there is nothing to measure"
    series = f"no series {_series(source, model.key[0], subject)}"
    newest = state.counters.newest(subject)
    if newest is None:
        if down := _down(subject, snapshot):
            return (
                DataState.NO_DATA,
                f"Prometheus finds the pods of {subject} but cannot scrape them (up is 0 for {down}): "
                f"check that they answer on the path {model.metrics.path} of the metrics port, and network policies",
            )
        if source.identity.of_gateway:
            return DataState.NO_DATA, f"{series}: check that {_GATEWAYS[source.identity]}"
        if not any(pod.startswith(f"{subject}-") for pod in model.pods):
            return DataState.NO_DATA, f"{subject} has no pods yet, so there is nothing to scrape"
        return (
            DataState.NO_DATA,
            f"Prometheus does not scrape the pods of {subject} ({series}): check that it discovers pods by "
            "prometheus.io annotations or a PodMonitor",
        )
    if not state.counters.has(Indicator.REQUESTS, model.revisions):
        return (
            DataState.NO_DATA,
            f"Prometheus scrapes the pods of {subject}, but there is {series}: either no request came yet, or the "
            f"runtime's metrics have other names than dialect {model.metrics.dialect} says",
        )
    return None


def _stale(model: Watched, state: ModelState, snapshot: Snapshot, stale_after: float) -> Told | None:
    age = data_age(model, state, snapshot.instant)
    if age is None or age <= stale_after:
        return None
    down = _down(model.subject, snapshot)
    return (
        DataState.STALE,
        f"the newest sample of {model.subject} is {say_duration(age)} old, older than {say_duration(stale_after)}"
        f"{f' (up is 0 for {down})' if down else ''}: "
        "check that Prometheus still scrapes its pods and that they answer in time",
    )


def _unsupported(model: Watched, state: ModelState, snapshot: Snapshot, stale_after: float) -> Told | None:
    """Only when no rule can be judged; what some rule lacks is told beside the state."""
    lacks = _lacking(model)
    if not lacks or len(lacks) < model.needs_errors + model.needs_latency or model.queries:
        return None
    return DataState.UNSUPPORTED, f"dialect {model.metrics.dialect} has no {lacks[0]}, or remove the objective"


def _lacking(model: Watched) -> list[str]:
    """What some rule wants and the dialect does not have."""
    source = dialect_of(model.metrics)
    wants: tuple[tuple[bool, Capability, str], ...] = (
        (model.needs_errors, "errors", "counter of errors, so error rates cannot be told"),
        (model.needs_latency, "latency", "latency histogram, so quantiles cannot be told"),
    )
    return [
        f"{what}: {source.remedy(capability)}"
        for wanted, capability, what in wants
        if wanted and not source.has(capability)
    ]


def _no_traffic(model: Watched, state: ModelState, snapshot: Snapshot, stale_after: float) -> Told | None:
    last = state.last_traffic.get(model.subject)
    if last is not None and snapshot.instant - last <= stale_after:
        return None
    lately = "yet" if last is None else f"for {say_duration(snapshot.instant - last)}"
    return (
        DataState.NO_TRAFFIC,
        f"{model.subject} is scraped and had no request {lately}; if this lasts, check that clients send to the route",
    )


def _flowing(model: Watched, state: ModelState, snapshot: Snapshot) -> Told:
    source, counters = dialect_of(model.metrics), state.counters
    message = f"requests of {model.subject} are counted"
    message += "".join(f"; dialect {model.metrics.dialect} has no {what}" for what in _lacking(model))
    if model.needs_errors and source.errors and not counters.has(Indicator.ERRORS, model.revisions):
        message += f"; no series {source.errors} so far, taken as no error yet"
    if model.needs_latency and not counters.has_buckets(model.subject) and source.latency:
        native = "" if source.latency.buckets else ": check that Prometheus has scrape_native_histograms set"
        message += f"; no series {source.latency.selector}, so latency cannot be judged{native}"
    if snapshot.dropped:
        samples = sum(map(len, snapshot.dropped.values()))
        message += f"; samples that were no number (NaN) are left out: {samples}"
    return DataState.FLOWING, message


def _series(source: MetricsSource, namespace: str, revision: str) -> str:
    match source.identity:
        case SeriesIdentity.POD:
            labels = f"namespace={namespace}, pod=~{revision}-.*"
        case SeriesIdentity.WORKLOAD:
            labels = f"destination_workload_namespace={namespace}, destination_workload={revision}"
        case SeriesIdentity.CLUSTER:
            labels = f"envoy_cluster_name=~{namespace}/{revision}(/.*)?"
        case SeriesIdentity.INGRESS:
            labels = f"namespace={namespace}, service={revision}, or canary={namespace}-{revision}-<port>"
    return f"{source.requests} with {labels}"


def _down(subject: str, snapshot: Snapshot) -> str:
    """The pods of a revision whose last scrape failed."""
    return _some([e[0] for e, seen in snapshot.scrapes.items() if not seen and e[0].startswith(f"{subject}-")])


def _some(names: list[str], most: int = 3) -> str:
    more = len(names) - most
    return ", ".join(sorted(names)[:most]) + (f" and {more} more" if more > 0 else "")
