"""Decisions of models whose turns have come at the same time are made together: their tests are one table."""

from __future__ import annotations

import asyncio

from modeldeployment.decision.decide import Decision, decide_all
from modeldeployment.decision.memory import Memory
from modeldeployment.decision.view import View


class Together:
    """`decide`, for whoever asks within one round of the event loop."""

    def __init__(self) -> None:
        self._asked: list[tuple[View, Memory, asyncio.Future[Decision]]] = []

    async def decide(self, view: View, memory: Memory) -> Decision:
        """What `decide` comes to. Raises what it raises: a defect of one model is nobody else's."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Decision] = loop.create_future()
        self._asked.append((view, memory, answer))
        if len(self._asked) == 1:
            loop.call_soon(self._answer)
        return await answer

    def _answer(self) -> None:
        asked, self._asked = self._asked, []
        decided = decide_all([(view, memory) for view, memory, _ in asked])
        for (_, _, answer), decision in zip(asked, decided, strict=True):
            if answer.done():  # its turn was cancelled
                continue
            if isinstance(decision, Exception):
                answer.set_exception(decision)
            else:
                answer.set_result(decision)
