"""A plan's queries sent side by side; one that fails is a value like any other, and hurts only who needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from modeldeployment.metrics.client import Answer
from modeldeployment.metrics.errors import BadQuery, PrometheusError, ServerFault
from modeldeployment.metrics.planning import Group, Indicator, Plan

Ask = Callable[[str, str], Awaitable[Answer]]
"""Sends one query: text and purpose."""


_KINDS: Final = {"matrix": "range vector", "string": "string"}


@dataclass(frozen=True)
class Answers:
    """Text of a query → its answer, or why there is none."""

    by_text: Mapping[str, Answer | PrometheusError]

    def failure(self, texts: list[str]) -> PrometheusError | None:
        """The first of these queries that failed."""
        answers = (self.by_text[text] for text in texts)
        return next((answer for answer in answers if isinstance(answer, PrometheusError)), None)

    def failures(self, texts: Iterable[str]) -> dict[str, str]:
        """Those of these queries that failed, each with a sentence why."""
        return {text: str(error) for text in sorted(texts) if (error := self.failure([text])) is not None}

    def answer(self, text: str) -> Answer | None:
        """The answer; None if there is none."""
        answer = self.by_text.get(text)
        return answer if isinstance(answer, Answer) else None

    def group(self, group: Group) -> tuple[Answer, dict[Indicator, Answer]] | None:
        """Scrapes and counters of a group, without what failed; None when scrapes or requests failed."""
        scrapes = self.answer(group.scrapes)
        counters = {i: a for i, text in group.counters.items() if (a := self.answer(text)) is not None}
        if scrapes is None or Indicator.REQUESTS not in counters:
            return None
        return scrapes, counters


async def ask_all(plan: Plan, ask: Ask) -> Answers:
    """All answers of a plan.

    When something was scraped is asked before what it had counted: a scrape that comes in between is then seen with
    its counters but not yet as a scrape. The other way round an old pod would seem to have been scraped without any
    counters, and they would all count as new.
    """
    purposes = plan.queries()
    first = {text: purpose for text, purpose in purposes.items() if purpose == "scrapes"}
    answers = await _side_by_side(first, ask)
    rest = {text: purpose for text, purpose in purposes.items() if text not in first}
    return Answers(answers | await _side_by_side(rest, ask))


async def _side_by_side(purposes: Mapping[str, str], ask: Ask) -> dict[str, Answer | PrometheusError]:
    async def one(text: str, purpose: str) -> Answer | PrometheusError:
        try:
            answer = await ask(text, purpose)
        except PrometheusError as error:
            return error
        if purpose == "promql" and answer.kind not in ("vector", "scalar"):
            return BadQuery(f"the query must give an instant vector or a scalar, and gives a {_KINDS[answer.kind]}")
        if answer.in_part and purpose != "promql":
            # Half an answer looks like endpoints that had nothing to count; later they would count from zero.
            return ServerFault(f"Prometheus answered in part only: {answer.in_part}")
        return answer

    return dict(zip(purposes, await asyncio.gather(*(one(*item) for item in purposes.items())), strict=True))
