"""Answers too large for one query: asked for in parts at once, the same counts, and nothing is lost meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from modeldeployment.decision.evidence import DataState, Evidence, Interval
from modeldeployment.metrics import EvidenceStore
from unit.metrics.looking import CANARY, STABLE, T0, TRIAL, at, look
from unit.metrics.simulated import SimulatedPrometheus, counts

ENDS = "bcdfghjklmnpqrstvwxz2456789"
PODS = [f"{revision}-7d9c5b8f6d-{end * 5}" for revision in (STABLE, CANARY) for end in ENDS]
MODEL = replace(TRIAL, needs_latency=True, pods={pod: at(-9999) for pod in PODS})


def server(most: float = float("inf")) -> SimulatedPrometheus:
    """54 pods with three buckets each; a query of more than `most` series is refused."""
    found = SimulatedPrometheus(most=most)
    for number, pod in enumerate(PODS):
        found.pod(pod).scrapes = [
            (T0 + 10 * k - 1, counts(9 * k + 900, 0, le_100=number * k + 900, le_800=9 * k + 900, le_inf=9 * k + 900))
            for k in range(-40, 12)
        ]
    return found


def intervals(evidence: list[Evidence]) -> list[Interval]:
    """All that were closed."""
    return [interval for one in evidence for interval in one.intervals]


@pytest.mark.parametrize(("most", "parts"), [(100, [1, 1, 1, 4]), (30, [4, 4, 4, 16])])
async def test_evidence_in_parts_is_the_same(most: int, parts: list[int]) -> None:
    """Buckets alone, or everything: each interval is what it is in one answer, from the first look on; the next looks
    ask for as many parts as were enough, at once."""
    small, whole = server(most), server()
    store = EvidenceStore()
    found = await look(small, range(0, 60, 10), MODEL, store)
    assert [e.state for e in found] == [DataState.FLOWING] * 6
    assert intervals(found) == intervals(await look(whole, range(0, 60, 10), MODEL))
    small.asked.clear()
    await look(small, [60], MODEL, store)
    assert asked(small) == parts


def asked(of: SimulatedPrometheus) -> list[int]:
    """How many queries it got, by what they ask for."""
    return [len([q for q in of.asked if text in q]) for text in ("timestamp", "requests", "errors", "bucket")]


async def test_an_heir_that_remembers_no_parts_reads_the_same() -> None:
    """Its replay is refused in one answer, too, and goes on in parts at once."""
    ours, store = server(100), EvidenceStore()
    seen = await look(ours, range(0, 100, 10), MODEL, store)
    heir = await look(ours, [90], replace(MODEL, evidence_time=at(30)))
    assert intervals(heir) == [interval for interval in intervals(seen) if interval.end > at(30)]
    assert len(intervals(heir)) == 6


async def test_what_is_too_large_in_all_parts_is_told_and_loses_nothing() -> None:
    """Not even sixteenths are answered: the models that need it say so; once they are, one interval spans it all."""
    ours, store = server(), EvidenceStore()
    await look(ours, [0], MODEL, store)
    ours.most = 2
    blind = await look(ours, [10, 20], MODEL, store)
    assert [e.state for e in blind] == [DataState.QUERY_ERROR] * 2
    assert "too many samples" in blind[0].message
    ours.most = float("inf")
    (after,) = await look(ours, [30], MODEL, store)
    (interval,) = after.intervals
    assert (interval.start, interval.end) == (at(0), at(30))
    assert {delta.requests for delta in interval.trial.values()} == {27}


@pytest.fixture
def small_answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Answers of more than 4 kB are large, of more than 16 kB are not read."""
    monkeypatch.setattr("modeldeployment.metrics.sharding.SHARD_BYTES", 4096)
    monkeypatch.setattr("modeldeployment.metrics.client.ANSWER_MAX", 16384)
    yield


async def test_parts_follow_the_bytes_of_an_answer(small_answers: None) -> None:
    """What was large is asked for in more parts the next time; what is too large to be read, at once."""
    ours, store = server(), EvidenceStore()
    await look(ours, [0], MODEL, store)
    ours.asked.clear()
    (evidence,) = await look(ours, [10], MODEL, store)
    assert asked(ours) == [8, 4, 4, 16]
    assert evidence.state is DataState.FLOWING
    assert len(evidence.intervals) == 1


async def test_what_is_too_large_in_all_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """No number of parts makes the whole smaller: it is refused before it fills the memory."""
    monkeypatch.setattr("modeldeployment.metrics.asking.TOTAL_MAX", 20_000)
    first, second = await look(server(), [0, 10], MODEL, EvidenceStore())
    assert first.state is second.state is DataState.QUERY_ERROR
    assert "all that Prometheus answers is larger than" in second.message
