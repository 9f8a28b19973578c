"""Which counters each model is read by: the name in its spec → a built-in dialect's, the policy's, or Auto's choice.

The choice of Auto is in the status of the model: another leader goes on with it. It is made for the revision that
serves, holds for every revision that is compared with it, and is looked into again when another one serves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from modeldeployment.api.serving import Dialect, OwnDialect, SeriesIdentity
from modeldeployment.api.status import ChosenDialect
from modeldeployment.controller.entry import Entry
from modeldeployment.controller.policy import Policy
from modeldeployment.controller.store import Key
from modeldeployment.decision.evidence import DataState, Evidence
from modeldeployment.metrics import (
    Found,
    NoDialect,
    PrometheusClient,
    PrometheusError,
    Watched,
    choose,
    dialect_of,
    evaluation_instant,
    known,
    named,
    needs_of,
    probe,
)

_LOG = logging.getLogger(__name__)

PROBE_EVERY = timedelta(seconds=30)
"""All models that wait for Auto's choice are probed for together, this often at most."""


class Dialects:
    """Names the counters of every model, and probes for those that leave it to Auto."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._own: tuple[OwnDialect, ...] = ()
        self._waiting: dict[Key, Watched] = {}
        self._found: dict[Key, Found] = {}
        self._failure = ""
        self._probing: asyncio.Task[None] | None = None
        self._probe_after = datetime.min.replace(tzinfo=UTC)

    def forget(self, key: Key) -> None:
        """Drops what is known of a model."""
        self._waiting.pop(key, None)
        self._found.pop(key, None)

    def name(self, entry: Entry, watched: Watched, instant: datetime) -> Watched | Evidence:
        """The model with metrics that name their counters; or, where none can be named, why not as its evidence.

        What the revision that serves says counts for every revision of the model. Only if that names nothing, the
        spec's does: whoever mends a wrong name must not wait for evidence that it can never give.
        """
        if self._own != self._policy.dialects:
            self._own = self._policy.dialects
            self._found.clear()
        assert entry.spec is not None  # nobody asks for what does not parse
        problems: list[NoDialect] = []
        for asked in dict.fromkeys((watched.metrics, entry.spec.serving.metrics)):
            try:
                name = self._auto(entry, watched) if asked.dialect == Dialect.AUTO else asked.dialect
                metrics = named(asked, name, self._own)
            except NoDialect as error:
                problems.append(error)
                continue
            if asked.dialect != Dialect.AUTO:
                entry.dialect = None
                if not problems:
                    self.forget(entry.key)
            entry.by_pod = dialect_of(metrics).identity is SeriesIdentity.POD
            return replace(watched, metrics=metrics)
        first = problems[0]
        return Evidence(DataState.NO_DATA, str(first), instant, watched.subject, reason=first.reason)

    def start(self, now: datetime) -> None:
        """Starts a probe for the models that wait for one, unless one is under way or was just made."""
        prometheus = self._policy.prometheus
        busy = self._probing is not None and not self._probing.done()
        if self._waiting and prometheus is not None and not busy and now >= self._probe_after:
            self._probe_after = now + PROBE_EVERY
            self._probing = asyncio.create_task(self._probe(list(self._waiting.values()), now, prometheus))

    def cancel(self) -> None:
        """Ends what is under way."""
        if self._probing is not None:
            self._probing.cancel()

    async def _probe(self, models: Sequence[Watched], now: datetime, prometheus: PrometheusClient) -> None:
        own, self._failure = self._own, ""
        try:
            found = await probe(models, own, evaluation_instant(now, 1.0), prometheus)
        except PrometheusError as error:
            self._failure = str(error)
            return
        except Exception as error:
            self._failure = f"{type(error).__name__}: {error}"
            _LOG.exception("probe failed")
            return
        if own is self._own:
            waiting = self._waiting.keys()
            self._found |= {key: one.after(self._found.get(key)) for key, one in found.items() if key in waiting}

    def _auto(self, entry: Entry, watched: Watched) -> str:
        """The dialect that Auto stands for.

        Raises:
            NoDialect: none so far; it says why, and what to do.
        """
        key, serving, needs, dialects = watched.key, watched.serving, needs_of(watched), known(self._own)
        before = entry.dialect if entry.dialect and entry.dialect.name in dialects else None
        if before and before.revision != serving and _is_seen(entry, serving):
            before = entry.dialect = before.model_copy(update={"revision": serving})
        found = self._found.get(key)
        if found and (found.revision, found.needs) != (serving, needs):
            found = None
        if before and watched.control:
            return before.name
        if before and before.revision == serving and all(map(dialects[before.name].has, needs)):
            self._waiting.pop(key, None)
            return before.name
        if not serving:
            raise NoDialect("DialectPending", "no revision serves yet, so Auto has nothing to choose a dialect by")
        self._waiting[key] = watched
        try:
            if found is None:
                why = f"Auto has not asked Prometheus yet which series {serving} has"
                raise NoDialect("DialectPending", f"{why}: {self._failure}" if self._failure else why)
            choice = choose(found, self._own, before.name if before else "")
        except NoDialect:
            if before is None:
                raise
            return before.name
        entry.dialect = ChosenDialect(name=choice.name, revision=serving, message=choice.message)
        del self._waiting[key]
        return choice.name


def _is_seen(entry: Entry, revision: str) -> bool:
    """Whether the last look counted requests of this revision: it has the series of the dialect that it is read by."""
    evidence = entry.evidence
    return evidence is not None and evidence.state is DataState.FLOWING and evidence.subject == revision
