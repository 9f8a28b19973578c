"""Signals of a fault of capacity: asked for of who is on trial, exact, and missed by nobody when they are not there."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest

from modeldeployment.api.rollout import Judge
from modeldeployment.api.serving import Dialect, Metrics
from modeldeployment.decision.evidence import DataState, Evidence, Interval, Strain
from modeldeployment.metrics import EvidenceStore
from modeldeployment.metrics.planning import plan
from modeldeployment.metrics.wanted import watched
from unit.decision.worlds import World
from unit.metrics.looking import CANARY_POD, MODEL, STABLE_POD, T0, TRIAL, at, look, look_at
from unit.metrics.simulated import Endpoint, Name, SimulatedPrometheus

VLLM = Metrics(dialect=Dialect.VLLM)
ASKED = replace(TRIAL, metrics=VLLM, needs_latency=True, wants_signals=True)
SIGNALS = ("vllm:num_requests_waiting", "vllm:kv_cache_usage_perc", "vllm:admission_rejections_total")


def counted(requests: float, queue: float, saturation: float, timeouts: float) -> dict[Name, float]:
    """What a server of vLLM shows."""
    rest = zip(SIGNALS, (queue, saturation, timeouts), strict=True)
    return {
        "http_requests_total": requests,
        ("vllm:e2e_request_latency_seconds_bucket", "+Inf"): requests,
        **dict(rest),
    }


def server() -> SimulatedPrometheus:
    """Both are scraped every 10 s, a second before the look; the queue is as long as the number of the scrape."""
    found = SimulatedPrometheus()
    scraped(found.pod(STABLE_POD, handler="/v1/completions"), first=-9)
    scraped(found.pod(CANARY_POD, handler="/v1/completions"))
    return found


def scraped(endpoint: Endpoint, first: int = 1) -> None:
    """10 requests in each 10 s, 3 of them refused."""
    since = first - 1
    endpoint.scrapes += [(T0 + 10 * k - 1, counted(10 * (k - since), k, 0.5, 3 * (k - since))) for k in range(first, 8)]


def closed(evidence: list[Evidence]) -> list[Interval]:
    """The intervals of all looks."""
    return [interval for one in evidence for interval in one.intervals]


def requests(intervals: list[Interval]) -> list[int]:
    """Of the canary, interval by interval."""
    return [interval.trial[CANARY_POD].requests for interval in intervals]


def test_only_the_revision_on_trial_is_asked_for_signals() -> None:
    """The exact texts: gauges as they are, and how full an endpoint is as the mean of its engines."""
    texts = {purpose: text for text, purpose in plan([ASKED, replace(MODEL, metrics=VLLM)]).queries().items()}
    by, of = "by (namespace, pod, instance, job)", '{namespace=~"ml", pod=~"(fraud-b)-.+"}'
    assert {what: texts[what] for what in ("queue", "saturation", "timeouts")} == {
        "queue": f"sum {by} (vllm:num_requests_waiting{of})",
        "saturation": f"avg {by} (vllm:kv_cache_usage_perc{of})",
        "timeouts": f"sum {by} (vllm:admission_rejections_total{of})",
    }


@pytest.mark.parametrize("models", [1, 100, 1000])
def test_signals_are_as_many_queries_for_any_number_of_models(models: int) -> None:
    """Three more than the four of a dialect, and none where nobody is on trial."""
    trials = [
        replace(ASKED, key=("ml", f"m{k}"), revisions=(f"m{k}-a", f"m{k}-b"), trial=f"m{k}-b") for k in range(models)
    ]
    assert len(plan(trials).queries()) == 7
    assert len(plan([replace(one, wants_signals=False) for one in trials]).queries()) == 4


@pytest.mark.parametrize(
    ("errors", "latency", "expected"),
    [(True, False, {"timeouts"}), (False, True, {"queue", "saturation"}), (False, False, set())],
)
def test_a_signal_is_asked_for_where_a_rule_has_a_use_for_it(errors: bool, latency: bool, expected: set[str]) -> None:
    """Timeouts tell of errors, queue and saturation of latency; a dialect without any signals has no such query."""
    model = replace(ASKED, needs_errors=errors, needs_latency=latency)
    kinds = {"queue", "saturation", "timeouts"}
    assert kinds & set(plan([model]).queries().values()) == expected
    assert not kinds & set(plan([replace(model, metrics=Metrics())]).queries().values())


async def test_an_interval_says_how_hard_pressed_the_canary_was() -> None:
    """Gauges as they are at the look, timeouts since the look before; nothing of stable."""
    intervals = closed(await look(server(), range(10, 50, 10), ASKED))
    assert [dict(one.strain) for one in intervals] == [{CANARY_POD: Strain(k, 0.5, 3)} for k in (1, 2, 3, 4)]


async def test_a_pod_that_two_jobs_scrape_waits_once() -> None:
    """Neither its queue nor its timeouts are added up."""
    ours = server()
    scraped(ours.pod(CANARY_POD, job="again", handler="/v1/completions"))
    intervals = closed(await look(ours, range(10, 40, 10), ASKED))
    assert [dict(one.strain) for one in intervals] == [{CANARY_POD: Strain(k, 0.5, 3)} for k in (1, 2, 3)]


@pytest.mark.parametrize("how", ["refused", "no series", "no number"])
async def test_without_signals_the_rest_is_as_it_was(how: str) -> None:
    """Their queries fail, find nothing, or find NaN: the same intervals, in which they are not known."""
    asked = range(10, 60, 10)
    expected = closed(await look(server(), asked, replace(ASKED, wants_signals=False)))
    ours = server()
    if how == "refused":
        ours.refuses = dict.fromkeys(SIGNALS, 422)
    for endpoint in ours.endpoints:
        for _, values in endpoint.scrapes:
            assert values is not None
            for name in SIGNALS if how != "refused" else ():
                if how == "no series":
                    del values[name]
                else:
                    values[name] = math.nan
    evidence = await look(ours, asked, ASKED)
    assert [one.state for one in evidence][1:] == [DataState.FLOWING] * 4
    known = None if how == "refused" else 0
    strain = {} if known is None else {CANARY_POD: Strain(timeouts=known)}
    assert closed(evidence) == [replace(one, strain=strain) for one in expected]


async def test_timeouts_after_a_failed_query_are_those_since_it() -> None:
    """What was counted meanwhile is not known, and nothing that was counted before comes in twice."""
    ours, store, found = server(), EvidenceStore(), []
    for t in range(10, 70, 10):
        ours.refuses = {"vllm:admission": 422} if t == 30 else {}
        found += await look(ours, [t], ASKED, store)
    assert [one.strain[CANARY_POD].timeouts for one in closed(found)] == [3, 3, None, 0, 3, 3]


async def test_nobody_waits_for_signals_that_hang() -> None:
    """They would be waited for until the end of the look, which is very far."""
    ours, store = server(), EvidenceStore()
    ours.held = {name: asyncio.Event() for name in SIGNALS}
    async with ours.client(timeout=1000) as client, asyncio.timeout(60):
        found = [(await look_at(store, [ASKED], at(t), client))[ASKED.key] for t in range(10, 40, 10)]
    assert requests(closed(found)) == [10, 10, 10]
    assert not any(one.strain for one in closed(found))


async def test_a_new_leader_counts_the_same_without_signals_of_the_past() -> None:
    """What it missed is replayed; its first own look begins the timeouts anew."""
    before = closed(await look(server(), range(10, 70, 10), ASKED))
    heir = replace(ASKED, evidence_time=at(20))
    after = closed(await look(server(), [50, 60], heir))
    assert requests(after) == requests(before)[2:]
    assert [dict(one.strain) for one in after] == [
        {},
        {},
        {CANARY_POD: Strain(5, 0.5, 0)},
        {CANARY_POD: Strain(6, 0.5, 3)},
    ]


async def test_an_endpoint_that_counts_timeouts_alone_holds_nothing_up() -> None:
    """It is none of the model server's, and is scraped no more."""
    ours = server()
    beside = ours.pod(CANARY_POD, job="beside", instance=f"{CANARY_POD}:9")
    beside.scrapes = [(T0 + 9, {SIGNALS[2]: 50.0})]
    intervals = closed(await look(ours, range(10, 50, 10), ASKED))
    assert requests(intervals) == [10, 10, 10, 10]
    assert [one.strain[CANARY_POD].timeouts for one in intervals] == [3, 3, 3, 3]


def test_only_a_comparison_by_evidence_wants_signals() -> None:
    """A canary does; nobody alone, before it or in the watch after it, nor one that is judged by thresholds."""
    world = World({"spec.rollout.canary": {"steps": [{"traffic": "50%"}]}})

    def wants(**changed: object) -> bool:
        spec = world.spec.model_copy(update=changed)
        return watched(
            ("ml", "fraud"),
            spec,
            world.status,
            (),
            metrics=VLLM,
            remembered=False,
            interval=10.0,
            pods={},
            started={},
            ports={},
        ).wants_signals

    world.serving()
    assert not wants()
    world.ask("2")
    world.until("CanaryRunning")
    assert wants()
    by_threshold = world.spec.rollout.analysis.model_copy(update={"judge": Judge.THRESHOLD})
    assert not wants(rollout=world.spec.rollout.model_copy(update={"analysis": by_threshold}))
    world.until("Watching")
    assert not wants()
