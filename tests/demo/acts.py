"""The acts. Each makes something happen, and checks it by what clients and API server saw, not the operator alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from demo.act import Act
from demo.stage import BOUND_MS, LEASE_SECONDS, PROGRESS_DEADLINE, RATE, SCRAPE_SECONDS, Stage, of
from demo.witness import IN_FLIGHT_SECONDS, answered_at
from lab.load import Snapshot

HELD_SECONDS = 4.0
"""How long nobody may move a weight while a part is away."""
POD_SECONDS = 45.0
PROMOTION_SECONDS = 90.0
DETECTION_SECONDS = 45.0


@dataclass(frozen=True)
class Part:
    """One act of the play."""

    name: str
    expected: str
    script: Callable[[Stage, Act], None]


def live(stage: Stage, act: Act) -> None:
    """Version 1 goes live."""
    stage.ask_for("1.0.0")
    at = stage.wait_weights({"1.0.0": 100}, POD_SECONDS)
    stage.start_load()
    stage.wait_state("RolloutComplete", seconds=20)
    stage.stand.wait("the first requests to be answered", lambda: stage.clients.saw().records, 15)
    since = time.time()
    time.sleep(3)
    stage.show()
    seen = stage.clients.saw(since)
    weights = [s.weights for s in stage.route.history if s.accepted]
    act.check("straight to 100%, no canary", weights == [{"1.0.0": 100}], weights)
    _only(act, seen, "1.0.0")
    act.check(f"about {RATE} requests a second arrive", len(seen.records) >= 2 * RATE, f"{len(seen.records)} in 3 s")
    act.happened = (
        f"serving {at - act.began:.1f} s after kubectl apply; {len(seen.records)} requests in 3 s, none failed"
    )


def promoted(stage: Stage, act: Act) -> None:
    """Version 2 is good: canary, evidence, promotion, watch."""
    stage.ask_for("2.0.0")
    at = stage.wait_weights({"1.0.0": 90, "2.0.0": 10}, POD_SECONDS)
    time.sleep(2.5)
    stage.show()
    until = stage.wait_weights({"2.0.0": 100}, PROMOTION_SECONDS)
    canary = stage.clients.saw(at + IN_FLIGHT_SECONDS, until)
    share = canary.share("2.0.0")
    act.check("a tenth of the requests went to the canary", 0.06 <= share <= 0.14, f"{share:.1%}")
    effects = [d["effect"] for d in stage.timeline.decided(act.began)]
    by_evidence = "StepPassed" in effects and "PromotedInconclusive" not in effects
    act.check("promoted by its evidence, not by the clock", by_evidence, effects)
    stage.wait_state("RolloutComplete", seconds=30)
    _only(act, stage.clients.saw(until + IN_FLIGHT_SECONDS), "2.0.0")
    act.check("after the watch the version before loses its pods", stage.wait_scaled_down("1.0.0"))
    _none_failed(act, stage.clients.saw(act.began))
    count = canary.versions()["2.0.0"]
    act.happened = f"promoted {until - at:.0f} s after its first traffic, on {count} good answers at {share:.0%}"


def errors_rolled_back(stage: Stage, act: Act) -> None:
    """Version 3 fails a fifth of its requests."""
    _taken_back(stage, act, "3.0.0", "errors", within=3 * SCRAPE_SECONDS, FAULT_ERROR_RATE="0.2")


def slow_rolled_back(stage: Stage, act: Act) -> None:
    """Version 4 answers in 900 ms where p99 may be 800 ms."""
    # What is slow is seen later by its own latency, and its last answers come that much later too.
    _taken_back(stage, act, "4.0.0", "latency", within=3 * SCRAPE_SECONDS + 2, FAULT_LATENCY_MS="900")


def _taken_back(stage: Stage, act: Act, version: str, rule: str, *, within: float, **faults: str) -> None:
    clients, stable = stage.clients, stage.served
    stage.ask_for(version, **faults)
    at = stage.wait_weights({stable: 90, version: 10}, POD_SECONDS)
    time.sleep(1.5)
    stage.show()
    stage.wait_weights({stable: 100}, DETECTION_SECONDS)
    zero = stage.route.zero(version, at)
    assert zero is not None, f"the route to send {version} nothing\nit sends {stage.route.weights}"
    stage.wait_state("RolledBack", seconds=15)
    time.sleep(max(0.0, zero + 2 - time.time()))
    stage.show()
    seen = clients.saw(act.began)
    own = [record for record in seen.records if record.version == version]
    failures = [record for record in own if clients.is_bad(record)]
    act.requests_bad = len(failures)
    act.check("clients saw it fail", failures, f"{len(failures)} of {len(own)} answers were bad")
    if failures:
        first, last = min(map(answered_at, failures)), max(map(answered_at, own))
        act.seconds_bad_to_zero = round(max(last, zero) - first, 2)
        took = act.seconds_bad_to_zero
        act.check(f"weight 0 and its last answer at most {within:g} s after the first bad one", took <= within, took)
    late = [record for record in own if record.sent > zero + IN_FLIGHT_SECONDS]
    act.check("no request reached it after that", not late, f"{len(late)} did")
    others = [record for record in seen.records if record.version != version and clients.is_bad(record)]
    act.check("the version that serves failed nobody", not others, f"{len(others)} bad answers")
    blamed = [d for d in stage.timeline.decided(act.began) if d["effect"] == "RolledBack"]
    act.check(f"blamed: {rule}", [d.get("rule") for d in blamed] == [rule], [d.get("rule") for d in blamed])
    quarantined = stage.status()["quarantined"][0]["version"]
    act.check("quarantined: nobody has to revert Git", quarantined == version, quarantined)
    act.check("its pods are gone", stage.wait_scaled_down(version))
    act.happened = (
        f"weight 0 {act.seconds_bad_to_zero} s after the first bad answer; {len(failures)} bad answers in all"
    )


def cannot_start(stage: Stage, act: Act) -> None:
    """Version 5 crashes at its start."""
    stage.ask_for("5.0.0", FAULT_CRASH="1")
    stage.stand.wait("a crashed container", lambda: _restarts(stage, "5.0.0") >= 1, 20)
    stage.show()
    stage.wait_state("ProgressDeadlineExceeded", seconds=PROGRESS_DEADLINE + 20)
    waited = time.time() - act.began
    stage.show()
    condition = stage.stand.condition("fraud", "RolledBack")
    message = condition.get("message", "")
    told = condition.get("reason") == "ProgressDeadlineExceeded" and "CrashLoopBackOff" in message
    act.check("the condition tells the pods' own reason", told, message)
    act.check("given up at the deadline, not before", waited >= PROGRESS_DEADLINE - 1, f"{waited:.1f} s")
    act.check("it never had any weight", stage.route.ever("5.0.0") == 0, f"{stage.route.ever('5.0.0')}%")
    seen = stage.clients.saw(act.began)
    _only(act, seen, stage.served)
    act.check("its pods are gone", stage.wait_scaled_down("5.0.0"))
    act.happened = f"no request in {waited:.0f} s; {message.partition(': ')[2] or message}"


def operator_killed(stage: Stage, act: Act) -> None:
    """SIGKILL in mid-canary; started again, the rollout goes on."""
    stable, version = stage.served, "6.0.0"
    at = _canary(stage, version)
    begun = (stage.status().get("rollout") or {}).get("startTime")
    killed = time.time()
    stage.operator.kill()
    stage.timeline.did(f"operator: SIGKILL (exit code {stage.operator.returncode})")
    time.sleep(HELD_SECONDS)
    share = stage.clients.saw(killed).share(version)
    restarted = time.time()
    moved = stage.route.asked(killed, restarted)
    stage.operator = stage.stand.operator(lease_seconds=LEASE_SECONDS)
    stage.timeline.did("operator: started again")
    act.check("no weight moved while it was away", moved == [{stable: 75, version: 25}], moved)
    act.check("the clients' requests went on as before", 0.15 <= share <= 0.35, f"{share:.0%} to the canary")
    stage.stand.wait("an operator that acts", stage.operator_acts, 20)
    again = (stage.status().get("rollout") or {}).get("startTime", "it is over")
    act.check("the same rollout goes on", again in (begun, "it is over"), f"began {begun}, then {again}")
    until = stage.wait_weights({version: 100}, PROMOTION_SECONDS)
    weights = stage.route.asked(at + 0.01, until + 0.01)
    act.check("from there straight to promotion", weights == [{stable: 75, version: 25}, {version: 100}], weights)
    starts = sum(d["effect"] == "RolloutStarted" for d in stage.timeline.decided(act.began))
    act.check("it did not start anew", starts == 1, f"{starts} starts")
    stage.wait_state("RolloutComplete", seconds=30)
    _none_failed(act, stage.clients.saw(act.began))
    act.happened = (
        f"weights held {restarted - killed:.1f} s without it; promoted {until - restarted:.0f} s after its return"
    )


def prometheus_stopped(stage: Stage, act: Act) -> None:
    """No Prometheus in mid-canary: everything stays; started again, the rollout goes on."""
    stable, version = stage.served, "7.0.0"
    _canary(stage, version)
    stage.stand.lab.prometheus.stop()
    stopped = time.time()
    stage.timeline.did("Prometheus: stopped")
    stage.stand.wait("EvidenceAvailable to be False (QueryError)", lambda: _evidence(stage)[1] == "QueryError", 20)
    status, reason, why = _evidence(stage)
    stage.show()
    time.sleep(HELD_SECONDS)
    restarted = time.time()
    moved = stage.route.asked(stopped, restarted)
    stage.stand.lab.prometheus.start()
    stage.timeline.did("Prometheus: started again")
    act.check("the weights hold", moved == [{stable: 75, version: 25}], moved)
    act.check("the status says why", status == "False" and "Prometheus" in why, f"{status}, {reason}: {why}")
    until = stage.wait_weights({version: 100}, PROMOTION_SECONDS)
    stage.wait_state("RolloutComplete", seconds=30)
    act.check("evidence flows again", _evidence(stage)[0] == "True", _evidence(stage))
    starts = sum(d["effect"] == "RolloutStarted" for d in stage.timeline.decided(act.began))
    act.check("it did not start anew", starts == 1, f"{starts} starts")
    _none_failed(act, stage.clients.saw(act.began))
    act.happened = f"held {restarted - stopped:.1f} s ({reason}); promoted {until - restarted:.0f} s after its return"


def spec_put_back(stage: Stage, act: Act) -> None:
    """The spec goes back to stable in mid-canary: weight 0 at once."""
    stable, version = stage.served, "8.0.0"
    _canary(stage, version)
    back = time.time()
    stage.ask_for(stable)
    returned = time.time()  # kubectl's own start-up is no part of it
    zero = stage.wait_weights({stable: 100}, 10)
    took = max(0.0, zero - returned)
    stage.wait_state("RolloutComplete", seconds=20)
    time.sleep(max(0.0, zero + 2 - time.time()))
    stage.show()
    words = f"{took:.2f} s after kubectl apply returned, {zero - back:.2f} s after it was started"
    act.check("weight 0 at most 1.5 s after kubectl apply returned", took <= 1.5, words)
    _only(act, stage.clients.saw(zero + IN_FLIGHT_SECONDS), stable)
    effects = [d["effect"] for d in stage.timeline.decided(back)]
    act.check("a clean end: cancelled, not failed", effects[:1] == ["RolloutCancelled"], effects)
    held = [q["version"] for q in stage.status().get("quarantined", ())]
    act.check("it may come again: not quarantined", version not in held, held)
    act.check("its pods are gone", stage.wait_scaled_down(version))
    _none_failed(act, stage.clients.saw(act.began))
    act.happened = f"weight 0 {words}; no request failed"


def _canary(stage: Stage, version: str) -> float:
    """Brings a good version into mid-canary; since when it has its weight."""
    stage.ask_for(version, traffic="25%")
    at = stage.wait_weights({stage.served: 75, version: 25}, POD_SECONDS)
    stage.wait_state("CanaryRunning", seconds=20)
    time.sleep(max(0.0, at + 2 - time.time()))
    stage.show()
    return at


def _only(act: Act, seen: Snapshot, version: str) -> None:
    """Every request was answered, by this version."""
    counts = seen.counts()
    held = bool(seen.records) and set(counts) == {(version, 200)}
    act.check(f"clients get answers of {version} and no other, all of them good", held, dict(counts))


def _none_failed(act: Act, seen: Snapshot) -> None:
    act.check("no client saw an error", seen.records and not seen.bad, f"{seen.bad} of {len(seen.records)} failed")


def _evidence(stage: Stage) -> tuple[str, str, str]:
    found = stage.stand.condition("fraud", "EvidenceAvailable")
    return found.get("status", ""), found.get("reason", ""), found.get("message", "")


def _restarts(stage: Stage, version: str) -> int:
    pods = stage.stand.lab.api.list("/api/v1/namespaces/default/pods", labelSelector=of(version))
    return sum(c["restartCount"] for pod in pods for c in pod.get("status", {}).get("containerStatuses", ()))


PLAY = (
    Part("v1 goes live", "straight to 100 %, once Ready", live),
    Part("v2 is good", "canary at 10 %, promoted by evidence, watched", promoted),
    Part(
        "v3 fails 20 % of its requests",
        f"weight 0 at most 3 scrape intervals ({3 * SCRAPE_SECONDS:g} s) after the first bad answer, quarantined",
        errors_rolled_back,
    ),
    Part(f"v4 is slow (900 ms, p99 bound {BOUND_MS:g} ms)", "rolled back by its latency", slow_rolled_back),
    Part("v5 cannot start", "never gets traffic; given up at the deadline, with the pods' own reason", cannot_start),
    Part("operator killed in mid-canary", "no weight moves; started again, the rollout goes on", operator_killed),
    Part("Prometheus stopped in mid-canary", "weights hold, the status says why; then it goes on", prometheus_stopped),
    Part("spec put back in mid-canary", "weight 0 at once, a clean end", spec_put_back),
)
