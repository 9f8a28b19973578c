"""Dialect Auto: what Prometheus has series of, and the dialect that follows from it.

A probe is one query for each dialect that there is, whatever the number of models that ask. Its answer says by which
dialects requests of the serving revision were counted; the choice among them is pure, so that it comes out the same
again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from modeldeployment.api.dialects import Capability, DialectData, Layer
from modeldeployment.api.serving import OwnDialect
from modeldeployment.metrics.client import PrometheusClient
from modeldeployment.metrics.dialects import NoDialect, known
from modeldeployment.metrics.errors import BadQuery, ServerFault
from modeldeployment.metrics.identity import LABELS, Owners
from modeldeployment.metrics.planning import matchers_of, narrow
from modeldeployment.metrics.watched import ModelKey, Watched

_OF_PROCESS = ("instance", "job")
_OWN, _SERVER, _PROXY = range(3)


@dataclass(frozen=True, slots=True)
class Found:
    """What a probe found of one model.

    Attributes:
        revision: the revision that served, and was asked about.
        needs: what the model's rules needed then.
        names: the dialects that counted requests of it, in the order of `known`.
        times: probes in a row that found just this.
    """

    revision: str
    needs: frozenset[Capability]
    names: tuple[str, ...]
    times: int = 1

    def after(self, before: Found | None) -> Found:
        """This, found after that."""
        same = before is not None and replace(before, times=self.times) == self
        return replace(self, times=before.times + 1) if before and same else self


@dataclass(frozen=True, slots=True)
class Choice:
    """A dialect, and why, in a sentence."""

    name: str
    message: str


def needs_of(model: Watched) -> frozenset[Capability]:
    """What the model's rules need of a dialect."""
    wants: tuple[tuple[bool, Capability], ...] = ((model.needs_errors, "errors"), (model.needs_latency, "latency"))
    return frozenset(capability for wanted, capability in wants if wanted)


def queries(models: Sequence[Watched], own: tuple[OwnDialect, ...]) -> dict[str, str]:
    """Dialect → the query that finds who has its series."""
    found = {}
    for name, data in known(own).items():
        by = ", ".join(label for label in LABELS[data.identity] if label not in _OF_PROCESS)
        # A gateway may show a backend before its first request, and a server not: who counted none decides nothing.
        found[name] = f"sum by ({by}) ({narrow(data.telling, matchers_of(data.identity, models))}) > 0"
    return found


async def probe(
    models: Sequence[Watched], own: tuple[OwnDialect, ...], instant: datetime, prometheus: PrometheusClient
) -> dict[ModelKey, Found]:
    """By which dialects requests of each model's serving revision were counted.

    One query after the other: looks at the evidence need the connections more.

    Raises:
        PrometheusError: Prometheus does not answer, or not in full. A query that it refuses finds nothing.
    """
    owners, dialects = Owners(models), known(own)
    seen: dict[tuple[ModelKey, str], list[str]] = {}
    for name, query in queries(models, own).items():
        try:
            answer = await prometheus.instant(query, instant, purpose="dialects")
        except BadQuery:
            continue
        if answer.in_part:
            raise ServerFault(f"Prometheus answered in part only: {answer.in_part}")
        for owner in {owners.of(dialects[name].identity, labels) for labels, _ in answer.series} - {None}:
            assert owner is not None  # taken out
            seen.setdefault(owner, []).append(name)
    return {m.key: Found(m.serving, needs_of(m), tuple(seen.get((m.key, m.serving), ()))) for m in models}


def choose(found: Found, own: tuple[OwnDialect, ...], before: str = "") -> Choice:
    """The dialect to read a model by. `before`: the one that it has been read by so far; it stays while it will do.

    Of those that have what the rules need: the policy's own, then a model server's, whose counters tell pods apart,
    then a proxy's. Of a policy's own and of proxies the first counts; two model servers in one pod are ambiguous, as
    only one of them talks to the clients. A proxy that is found alone must be so twice: it may just have been scraped
    before the server.

    Raises:
        NoDialect: nothing was found, too little so far, or it is ambiguous.
    """
    dialects = known(own)
    there = {name: dialects[name] for name in found.names if name in dialects}
    if not there:
        raise NoDialect(
            "DialectNotFound",
            f"Auto finds no dialect: Prometheus has counted no request of {found.revision} by {', '.join(dialects)}. "
            "If it had no request yet, wait; else check that its pods are scraped, or set "
            "serving.metrics.dialect",
        )
    able = {name: data for name, data in there.items() if all(data.has(need) for need in found.needs)} or there
    if before in able:
        return Choice(before, _because(before, there, found))
    mine = {dialect.name for dialect in own}
    first = min(_rank(name, data, mine) for name, data in able.items())
    best = [name for name, data in able.items() if _rank(name, data, mine) == first]
    if first == _SERVER and len(best) > 1:
        raise NoDialect(
            "DialectAmbiguous",
            f"Auto finds series of several model servers on {found.revision}, {' and '.join(best)}, and cannot tell "
            "which of them clients talk to: set serving.metrics.dialect to that one",
        )
    if first == _PROXY and found.times < 2:
        raise NoDialect(
            "DialectPending", f"{_because(best[0], there, found)}, unless the server's own counters come up"
        )
    return Choice(best[0], _because(best[0], there, found))


def _rank(name: str, data: DialectData, mine: set[str]) -> int:
    if name in mine:
        return _OWN
    return _SERVER if data.layer is Layer.SERVER else _PROXY


def _because(name: str, there: Mapping[str, DialectData], found: Found) -> str:
    others = [other for other in there if other != name]
    beside = f" (and of {', '.join(others)})" if others else ""
    return f"dialect Auto reads it as {name}, as {found.revision} has series {there[name].telling}{beside}"
