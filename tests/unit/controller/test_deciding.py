"""Models whose turns come at the same time are decided upon together, and each comes to what it comes to alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from modeldeployment.controller import deciding
from modeldeployment.controller.deciding import Together
from modeldeployment.decision import sequential
from modeldeployment.decision.decide import decide, decide_all
from unit.decision.worlds import Behaviour, World


def worlds() -> list[World]:
    """Three models in mid-canary that do differently."""
    made = []
    for errors in (0.0, 0.02, 0.2):
        world = World(versions={"2": Behaviour(errors=errors)}, rps=20).serving()
        world.ask("2")
        made.append(world.until("CanaryRunning").run(30))
    return made


async def test_together_as_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call for all that ask in one round; the same decisions, bit for bit."""
    calls: list[int] = []

    def counted(looks):  # type: ignore[no-untyped-def]
        calls.append(len(looks))
        return decide_all(looks)

    monkeypatch.setattr(deciding, "decide_all", counted)
    asked = [(world.view(), world.memory) for world in worlds()]
    together = Together()
    decided = await asyncio.gather(*(together.decide(*one) for one in asked))
    assert calls == [3]
    assert list(decided) == [decide(*one) for one in asked]


async def test_numbers_that_cannot_be_updated_hurt_one_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The update of all raises: each is tried alone, so only the model whose numbers raise hears of it."""
    good, bad = worlds()[0], World(rps=70).serving()
    bad.ask("2")
    bad.until("CanaryRunning").run(30)
    update_all = sequential.update_all

    def broken(states, intervals):  # type: ignore[no-untyped-def]
        if errors in states:
            raise MemoryError("no room")
        return update_all(states, intervals)

    looks = []
    for world in (bad, good):
        world.now += timedelta(seconds=world.tick_seconds)
        world._requests()
        world._look()
        looks.append((world.view(), world.memory))
    errors = bad.memory.states["errors"]
    assert isinstance(errors, sequential.RuleState)
    expected = decide(*looks[1])
    monkeypatch.setattr(sequential, "update_all", broken)
    together = Together()
    first, second = await asyncio.gather(*(together.decide(*look) for look in looks), return_exceptions=True)
    assert isinstance(first, MemoryError) and second == expected


async def test_a_defect_of_one_is_its_own() -> None:
    """What one model's decision raises, the others do not see; a turn that was cancelled hurts nobody."""
    good, other, gone = worlds()
    view = good.view()
    broken = replace(view, spec=None)  # type: ignore[arg-type]
    together = Together()
    tasks = [
        asyncio.ensure_future(together.decide(*one))
        for one in ((broken, good.memory), (other.view(), other.memory), (gone.view(), gone.memory))
    ]
    await asyncio.sleep(0)
    tasks[2].cancel()
    bad, fine, cancelled = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(bad, AttributeError) and isinstance(cancelled, asyncio.CancelledError)
    assert fine == decide(other.view(), other.memory)
