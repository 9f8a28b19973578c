"""Which queries to send for a cohort of models: their number depends on the dialects in use, never on the models.

For each dialect at most three (requests, errors, buckets), one that tells when what was scraped, and one for each
distinct text of a PromQL objective; where some model of it has a trial, at most three more signals of those on trial
(queue, saturation, timeouts). An answer that would be too large is asked for in parts (sharding.py). Sums over label
children, of the counters themselves: no increase(), no rate(), which extrapolate and lose a series' first increments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from modeldeployment.api.serving import MetricsSource, SeriesIdentity
from modeldeployment.decision.rules import RuleKind
from modeldeployment.metrics.dialects import dialect_of, selectors_of
from modeldeployment.metrics.identity import ENDPOINT_LABELS, LABELS
from modeldeployment.metrics.sharding import parts
from modeldeployment.metrics.watched import Watched

NARROW_MAX: Final = 50
"""Up to so many revisions a query names them; for more it is cheaper to take all and throw away."""
MATCHERS_MAX: Final = 4096
"""Characters of matchers in a query."""
REPLICA_LABELS: Final = ("prometheus_replica", "replica", "__replica__")
"""By these a pair of Prometheus tells its members apart: an endpoint with two values of one would count twice."""

Parts = Callable[[int], tuple[str, ...]]
"""Number of parts → the texts that ask for them."""

_META = re.compile(r"[.+*?()|\[\]{}^$\\]")


class Indicator(StrEnum):
    """What is counted, or shown by a gauge."""

    REQUESTS = "requests"
    ERRORS = "errors"
    LATENCY = "latency"
    TIMEOUTS = "timeouts"
    QUEUE = "queue"
    SATURATION = "saturation"


GAUGES: Final = frozenset({Indicator.QUEUE, Indicator.SATURATION})


@dataclass(frozen=True)
class Group:
    """Models whose counters have the same names, and the queries for all of them.

    Attributes:
        source: the counters.
        models: who is asked for.
        scrapes: endpoint → when it was scraped last (unix seconds), 0 while its last scrape failed.
        counters: one query for each indicator that rules count.
        signals: one for each that tells a fault of capacity; nothing depends on their being answered.
        parts: text → how it is asked for in parts.
    """

    source: MetricsSource
    models: tuple[Watched, ...]
    scrapes: str
    counters: dict[Indicator, str]
    signals: dict[Indicator, str]
    parts: Mapping[str, Parts]

    def needs(self, model: Watched) -> frozenset[Indicator]:
        """What a model of this group cannot do without."""
        wanted = {Indicator.REQUESTS}
        if model.needs_errors:
            wanted.add(Indicator.ERRORS)
        if model.needs_latency:
            wanted.add(Indicator.LATENCY)
        return frozenset(wanted & self.counters.keys())

    def texts(self, model: Watched) -> tuple[str, ...]:
        """The queries without which nothing can be said of a model's counters."""
        return (self.scrapes, *(self.counters[i] for i in sorted(self.needs(model))))


@dataclass(frozen=True)
class Plan:
    """All queries of one look."""

    groups: tuple[Group, ...]
    promql: tuple[str, ...]

    def queries(self) -> dict[str, str]:
        """Text → purpose, each text once."""
        texts = dict.fromkeys(self.promql, "promql")
        for group in self.groups:
            texts |= {text: indicator.value for indicator, text in (group.counters | group.signals).items()}
            texts[group.scrapes] = "scrapes"
        return texts


def plan(models: Sequence[Watched]) -> Plan:
    """The queries for these models.

    Raises:
        ValueError: a model's dialect is Custom without `custom`; the CRD refuses that.
    """
    by_source: dict[MetricsSource, list[Watched]] = {}
    for model in models:
        by_source.setdefault(selectors_of(model.metrics), []).append(model)
    own_pods = matchers_of(
        SeriesIdentity.POD,
        [m for s, of in by_source.items() if not s.identity.of_gateway for m in of],
    )
    groups = tuple(_group(source, tuple(members), own_pods) for source, members in by_source.items())
    return Plan(groups, tuple(sorted({query for model in models for query in model.queries})))


def _group(source: MetricsSource, models: tuple[Watched, ...], own_pods: Sequence[str]) -> Group:
    matchers, own_pods = matchers_of(source.identity, models), own_pods or ('pod!=""',)
    on_trial = matchers_of(source.identity, [replace(m, revisions=(m.trial,)) for m in models if m.wants_signals])
    labels = LABELS[source.identity]
    split: dict[str, Parts] = {}

    def query(identity: SeriesIdentity, make: Callable[[tuple[str, ...]], str]) -> str:
        text = make(())
        split[text] = lambda count: tuple(make((part,) if part else ()) for part in parts(identity, count))
        return text

    def counter(selector: str, *more: str) -> str:
        return query(source.identity, lambda part: _sum((*labels, *more), narrow(selector, (*matchers, *part))))

    def signal(indicator: Indicator, selector: str) -> str:
        # How full an endpoint is, is no sum over its engines.
        over = "avg" if indicator is Indicator.SATURATION else "sum"
        return query(source.identity, lambda part: _over(over, labels, narrow(selector, (*on_trial, *part))))

    scrapes = query(SeriesIdentity.POD, lambda part: _scrapes(source, (*matchers, *part), (*own_pods, *part), part))
    counters = {Indicator.REQUESTS: counter(source.requests)}
    if source.errors is not None and any(m.needs_errors for m in models):
        counters[Indicator.ERRORS] = counter(source.errors)
    if source.latency is not None and any(m.needs_latency for m in models):
        counters[Indicator.LATENCY] = counter(source.latency.selector, *_le(source))
    signals = {indicator: signal(indicator, selector) for indicator, selector in _signals(models).items()}
    return Group(source, models, scrapes, counters, signals, split)


def _signals(models: Iterable[Watched]) -> dict[Indicator, str]:
    """The selectors of what tells a fault of capacity, of those kinds that a rule of a trial has a use for."""
    found: dict[Indicator, str] = {}
    for model in models:
        told = dialect_of(model.metrics).signals
        uses = (
            (Indicator.TIMEOUTS, told.timeouts, model.needs_errors),
            (Indicator.QUEUE, told.queue, model.needs_latency),
            (Indicator.SATURATION, told.saturation, model.needs_latency),
        )
        for indicator, selector, used in uses:
            if selector is not None and used and model.wants_signals:
                found.setdefault(indicator, selector)
    return found


def _scrapes(source: MetricsSource, matchers: Sequence[str], own_pods: Sequence[str], part: Sequence[str]) -> str:
    by = ", ".join((*ENDPOINT_LABELS, *REPLICA_LABELS))
    up = narrow("up", own_pods)
    # timestamp() tells a sample's own time only of a bare selector: of `up == 1` it would tell the evaluation's.
    pods = f"max by ({by}) (timestamp({up}) * {up})"
    if source.identity is SeriesIdentity.POD:
        return pods
    if source.identity.of_gateway:
        # Any cluster's series shows that its proxy was scraped; so this one is never narrowed to models.
        return _times(by, narrow(source.requests, part))
    # A sidecar is scraped with its pod, before it has counted anything; a waypoint shows by its series only.
    return f"{_times(by, narrow(source.requests, matchers))} or {pods}"


def _times(by: str, selector: str) -> str:
    """When endpoints that have these series were scraped."""
    if not selector.startswith("{"):
        return f"max by ({by}) (timestamp({selector}))"
    # timestamp() drops names, and of two series that differ in nothing else Prometheus refuses to make one.
    return f"max by ({by}) (timestamp(up) * up) and max by ({by}) ({selector})"


def _sum(labels: Sequence[str], selector: str) -> str:
    return _over("sum", labels, selector)


def _over(aggregation: str, labels: Sequence[str], selector: str) -> str:
    return f"{aggregation} by ({', '.join(labels)}) ({selector})"


def sources(model: Watched) -> dict[str, str]:
    """Kind of rule → the query that shows a person what the trial's rules of that kind count."""
    source = selectors_of(model.metrics)
    matchers = matchers_of(
        source.identity, [replace(model, revisions=tuple(r for r in (model.trial, model.control) if r))]
    )
    by = ("pod",) if source.identity is SeriesIdentity.POD else LABELS[source.identity][: -len(ENDPOINT_LABELS)]
    shown = {}
    if source.errors is not None and model.needs_errors:
        shown[RuleKind.ERRORS.value] = _sum(by, narrow(source.errors, matchers))
    if source.latency is not None and model.needs_latency:
        shown[RuleKind.SLOW.value] = _sum((*by, *_le(source)), narrow(source.latency.selector, matchers))
    return shown


def _le(source: MetricsSource) -> tuple[str, ...]:
    """The label of a classic histogram's buckets: native ones are added up whole, at the coarsest schema."""
    return ("le",) if source.latency is not None and source.latency.buckets else ()


def narrow(selector: str, matchers: Sequence[str]) -> str:
    """The selector with more label matchers."""
    if not matchers:
        return selector
    name, brace, rest = selector.partition("{")
    own = rest.rstrip().removesuffix("}").strip().rstrip(",") if brace else ""
    return f"{name}{{{', '.join((own, *matchers) if own else matchers)}}}"


def quote_regex(text: str) -> str:
    """The text as an RE2 expression that matches it alone, fit for a PromQL string in double quotes.

    A class of one character stands for an escape: no backslash needs to survive two parsers.
    """
    return _META.sub(lambda m: {"\\": r"\\\\", "^": r"\\^"}.get(m[0], f"[{m[0]}]"), text).replace('"', r"\"")


def matchers_of(identity: SeriesIdentity, models: Iterable[Watched]) -> tuple[str, ...]:
    """Matchers that name every revision; where they are too many, their namespaces; none where those are, too.

    None either where no label of one name has it.
    """
    revisions = sorted({(model.key[0], revision) for model in models for revision in model.revisions})
    if not revisions:
        return ()
    namespaces = sorted({namespace for namespace, _ in revisions})
    names = sorted({name for _, name in revisions})
    of_all = _named(identity, namespaces, names if len(revisions) <= NARROW_MAX else ())
    if sum(map(len, of_all)) > MATCHERS_MAX:
        of_all = _named(identity, namespaces, ())
    return of_all if len(namespaces) <= NARROW_MAX and sum(map(len, of_all)) <= MATCHERS_MAX else ()


def _named(identity: SeriesIdentity, namespaces: Sequence[str], revisions: Sequence[str]) -> tuple[str, ...]:
    """Matchers for revisions of these namespaces; without revisions, for whatever is in them."""
    within, names = ("|".join(map(quote_regex, of)) for of in (namespaces, revisions))
    match identity:
        case SeriesIdentity.POD:
            matchers = (f'namespace=~"{within}"', f'pod=~"({names})-.+"')
        case SeriesIdentity.WORKLOAD:
            matchers = (f'destination_workload_namespace=~"{within}"', f'destination_workload=~"{names}"')
        case SeriesIdentity.CLUSTER:
            if not revisions:
                return ()
            slashed = f"({within})/({names})(/.*)?"
            outbound = f"outbound[|].*[|]({names})[.]({within})[.].*"
            return (f'envoy_cluster_name=~"{slashed}|{outbound}"',)
        case SeriesIdentity.INGRESS:
            return ()  # which of its labels Prometheus renamed is not known
    return matchers if revisions else matchers[:1]
