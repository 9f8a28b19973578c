"""A plan's queries sent side by side; one that fails or is late is a value like any other, and hurts only who needs it.

When something was scraped is asked before what it had counted: a scrape that comes in between is then seen with its
counters but not yet as a scrape. The other way round an old pod would seem to have been scraped without any counters,
and they would all count as new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Self

from modeldeployment.metrics.answer import Answer
from modeldeployment.metrics.errors import BadQuery, PrometheusError, QueryTimeout, ServerFault, TooLarge
from modeldeployment.metrics.planning import Group, Indicator, Parts, Plan
from modeldeployment.metrics.sharding import Shards

Ask = Callable[[str, str], Awaitable[Answer]]
"""Sends one query: text and purpose."""

TOTAL_MAX: Final = 128 * 1024 * 1024
"""Bytes of all parts of an answer together, which are kept in 2.5 times as much memory while they are sorted."""

_KINDS: Final = {"matrix": "range vector", "string": "string"}


class Asking:
    """The queries of a plan, under way from the start; as a context manager none outlives it.

    Args:
        shards: in how many parts each query is asked for; what is learned of that is kept in it.
        seconds: after so long what has no answer has failed: waiting for others of this process counts.
    """

    def __init__(self, plan: Plan, ask: Ask, shards: Shards, seconds: float) -> None:
        self._ask, self._shards, self._seconds = ask, shards, seconds
        self._parts: dict[str, Parts] = {}
        for group in plan.groups:
            self._parts |= group.parts
        self._deadline = asyncio.get_running_loop().time() + seconds
        queries, before = plan.queries(), _before(plan)
        self._tasks: dict[str, asyncio.Task[Answer | PrometheusError]] = {}
        for text in sorted(queries, key=lambda text: len(before.get(text, ()))):
            first = [self._tasks[scrapes] for scrapes in before.get(text, ())]
            self._tasks[text] = asyncio.create_task(self._one(text, queries[text], first))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def wait(self, texts: Iterable[str] | None = None, seconds: float | None = None) -> None:
        """Until all of these queries have ended (None: all there are), or so long."""
        tasks = [*self._tasks.values()] if texts is None else [self._tasks[text] for text in {*texts}]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        for task in self._tasks.values():
            if task.done():
                task.result()  # a defect is told where it is waited for

    def ended(self, texts: Iterable[str]) -> bool:
        """Whether all of these queries have been answered, or have failed."""
        return all(self._tasks[text].done() for text in texts)

    def failure(self, texts: Iterable[str]) -> PrometheusError | None:
        """The first of these queries, which have ended, that failed."""
        results = (self._tasks[text].result() for text in texts)
        return next((result for result in results if isinstance(result, PrometheusError)), None)

    def failures(self, texts: Iterable[str]) -> dict[str, str]:
        """Those of these queries that failed, each with a sentence why."""
        return {text: str(error) for text in sorted(texts) if (error := self.failure([text])) is not None}

    def answer(self, text: str) -> Answer | None:
        """The answer; None if there is none, or not yet, or nobody waited for it any longer."""
        task = self._tasks[text]
        result = task.result() if task.done() and not task.cancelled() else None
        return result if isinstance(result, Answer) else None

    def group(self, group: Group) -> tuple[Answer, dict[Indicator, Answer]] | None:
        """Scrapes, and counters and signals of a group, without what failed; None when scrapes or requests did."""
        scrapes = self.answer(group.scrapes)
        asked = group.counters | group.signals
        counters = {i: a for i, text in asked.items() if (a := self.answer(text)) is not None}
        if scrapes is None or Indicator.REQUESTS not in counters:
            return None
        return scrapes, counters

    async def _one(
        self, text: str, purpose: str, first: Sequence[asyncio.Task[Answer | PrometheusError]]
    ) -> Answer | PrometheusError:
        try:
            async with asyncio.timeout_at(self._deadline):
                if first:
                    await asyncio.wait(first)
                return await self._whole(text, purpose)
        except PrometheusError as error:
            return error
        except TimeoutError:
            return QueryTimeout(
                f"no answer within the {self._seconds:g}s of a look: Prometheus is too slow for what it is asked"
            )

    async def _whole(self, text: str, purpose: str) -> Answer:
        """The answer, put together if it is asked for in parts; in more of them at once if it is too large."""
        parts = self._parts.get(text)
        if parts is None:
            return _fit(await self._ask(text, purpose), purpose)
        while True:
            answers = await self._gather(parts(self._shards.count(text)), purpose)
            errors = [answer for answer in answers if isinstance(answer, BaseException)]
            if not errors:
                break
            too_large = next((error for error in errors if isinstance(error, TooLarge)), None)
            if too_large is None or not self._shards.grow(text):
                raise too_large or errors[0]
        found = [_fit(answer, purpose) for answer in answers if isinstance(answer, Answer)]
        self._shards.learn(text, found)
        if len(found) == 1:
            return found[0]
        warnings = tuple(dict.fromkeys(warning for answer in found for warning in answer.warnings))
        labels = [one for answer in found for one in answer.labels]
        samples = [one for answer in found for one in answer.samples]
        native = [one for answer in found for one in answer.histograms]
        return Answer(found[0].kind, labels, samples, warnings, sum(answer.size for answer in found), native)

    async def _gather(self, texts: Sequence[str], purpose: str) -> list[Answer | BaseException]:
        total = 0

        async def one(text: str) -> Answer:
            nonlocal total
            if total <= TOTAL_MAX:
                answer = await self._ask(text, purpose)
                total += answer.size
            if total > TOTAL_MAX:
                raise TooLarge(
                    f"all that Prometheus answers is larger than {TOTAL_MAX // 2**20} MiB: fewer buckets in the "
                    "runtime's histogram make it smaller"
                )
            return answer

        return await asyncio.gather(*map(one, texts), return_exceptions=True)


def _before(plan: Plan) -> dict[str, list[str]]:
    """Counters → the queries of scrapes that must have ended before."""
    before: dict[str, list[str]] = {}
    for group in plan.groups:
        for text in (*group.counters.values(), *group.signals.values()):
            known = before.setdefault(text, [])
            if group.scrapes not in known:
                known.append(group.scrapes)
    return before


def _fit(answer: Answer, purpose: str) -> Answer:
    """The answer, if it can be used.

    Raises:
        PrometheusError: it is of another kind, or half of it is missing.
    """
    if purpose == "promql" and answer.kind not in ("vector", "scalar"):
        raise BadQuery(f"the query must give an instant vector or a scalar, and gives a {_KINDS[answer.kind]}")
    if answer.in_part and purpose != "promql":
        # Half an answer looks like endpoints that had nothing to count; later they would count from zero.
        raise ServerFault(f"Prometheus answered in part only: {answer.in_part}")
    return answer
