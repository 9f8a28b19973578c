"""Which queries to send for a cohort of models: their number depends on the dialects in use, never on the models.

For each dialect at most three (requests, errors, buckets), one that tells when what was scraped, and one for each
distinct text of a PromQL objective. Sums over label children, of the counters themselves: no increase(), no rate(),
which extrapolate and lose a series' first increments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from modeldeployment.api.serving import MetricsSource, SeriesIdentity
from modeldeployment.decision.rules import RuleKind
from modeldeployment.metrics.dialects import selectors_of
from modeldeployment.metrics.identity import ENDPOINT_LABELS, LABELS
from modeldeployment.metrics.watched import Watched

NARROW_MAX: Final = 50
"""Up to so many revisions a query names them; for more it is cheaper to take all and throw away."""
MATCHERS_MAX: Final = 4096
"""Characters of matchers in a query."""

_META = re.compile(r"[.+*?()|\[\]{}^$\\]")


class Indicator(StrEnum):
    """What is counted."""

    REQUESTS = "requests"
    ERRORS = "errors"
    LATENCY = "latency"


@dataclass(frozen=True)
class Group:
    """Models whose counters have the same names, and the queries for all of them.

    Attributes:
        source: the counters.
        models: who is asked for.
        scrapes: endpoint → when it was scraped last (unix seconds), 0 while its last scrape failed.
        counters: one query for each indicator.
    """

    source: MetricsSource
    models: tuple[Watched, ...]
    scrapes: str
    counters: dict[Indicator, str]

    def needs(self, model: Watched) -> frozenset[Indicator]:
        """What a model of this group cannot do without."""
        wanted = {Indicator.REQUESTS}
        if model.needs_errors:
            wanted.add(Indicator.ERRORS)
        if model.needs_latency:
            wanted.add(Indicator.LATENCY)
        return frozenset(wanted & self.counters.keys())


@dataclass(frozen=True)
class Plan:
    """All queries of one look."""

    groups: tuple[Group, ...]
    promql: tuple[str, ...]

    def queries(self) -> dict[str, str]:
        """Text → purpose, each text once."""
        texts = dict.fromkeys(self.promql, "promql")
        for group in self.groups:
            texts |= {text: indicator.value for indicator, text in group.counters.items()}
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
    matchers = matchers_of(source.identity, models)
    labels = LABELS[source.identity]
    counters = {Indicator.REQUESTS: _sum(labels, narrow(source.requests, matchers))}
    if source.errors is not None and any(m.needs_errors for m in models):
        counters[Indicator.ERRORS] = _sum(labels, narrow(source.errors, matchers))
    if source.latency is not None and any(m.needs_latency for m in models):
        counters[Indicator.LATENCY] = _sum((*labels, "le"), narrow(source.latency.buckets, matchers))
    return Group(source, models, _scrapes(source, matchers, own_pods), counters)


def _scrapes(source: MetricsSource, matchers: Sequence[str], own_pods: Sequence[str]) -> str:
    by = ", ".join(ENDPOINT_LABELS)
    up = narrow("up", own_pods or ('pod!=""',))
    # timestamp() tells a sample's own time only of a bare selector: of `up == 1` it would tell the evaluation's.
    pods = f"max by ({by}) (timestamp({up}) * {up})"
    if source.identity is SeriesIdentity.POD:
        return pods
    if source.identity.of_gateway:
        # Any cluster's series shows that its proxy was scraped; so this one is never narrowed.
        return _times(by, source.requests)
    # A sidecar is scraped with its pod, before it has counted anything; a waypoint shows by its series only.
    return f"{_times(by, narrow(source.requests, matchers))} or {pods}"


def _times(by: str, selector: str) -> str:
    """When endpoints that have these series were scraped."""
    if not selector.startswith("{"):
        return f"max by ({by}) (timestamp({selector}))"
    # timestamp() drops names, and of two series that differ in nothing else Prometheus refuses to make one.
    return f"max by ({by}) (timestamp(up) * up) and max by ({by}) ({selector})"


def _sum(labels: Sequence[str], selector: str) -> str:
    return f"sum by ({', '.join(labels)}) ({selector})"


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
        shown[RuleKind.SLOW.value] = _sum((*by, "le"), narrow(source.latency.buckets, matchers))
    return shown


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
    """Matchers that name every revision; none where they are too many, or no label of one name has it."""
    revisions = sorted({(model.key[0], revision) for model in models for revision in model.revisions})
    if not 0 < len(revisions) <= NARROW_MAX:
        return ()
    namespaces = "|".join(sorted({quote_regex(namespace) for namespace, _ in revisions}))
    names = "|".join(sorted({quote_regex(revision) for _, revision in revisions}))
    matchers: tuple[str, ...]
    match identity:
        case SeriesIdentity.POD:
            matchers = (f'namespace=~"{namespaces}"', f'pod=~"({names})-.+"')
        case SeriesIdentity.WORKLOAD:
            matchers = (
                f'destination_workload_namespace=~"{namespaces}"',
                f'destination_workload=~"{names}"',
            )
        case SeriesIdentity.CLUSTER:
            slashed = f"({namespaces})/({names})(/.*)?"
            outbound = f"outbound[|].*[|]({names})[.]({namespaces})[.].*"
            matchers = (f'envoy_cluster_name=~"{slashed}|{outbound}"',)
        case SeriesIdentity.INGRESS:
            matchers = ()  # which of its labels Prometheus renamed is not known
    return matchers if sum(map(len, matchers)) <= MATCHERS_MAX else ()
