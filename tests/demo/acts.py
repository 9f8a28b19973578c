"""The acts. Each says what is expected, makes it happen, and checks it by what others saw: clients and router."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from demo.stage import NAME, SCRAPE_SECONDS, Stage, answered, bad

SETTLE_SECONDS = 3.0
"""How long a held weight is looked at."""


@dataclass
class Act:
    """One act and what came of it.

    Attributes:
        checks: what was expected in detail → whether it was so.
        seconds_bad_to_zero: from the first bad answer a client got to the last answer of that version, or to weight
            0 in the route if that was later.
        requests_bad: bad answers of the version in question.
    """

    name: str
    expected: str
    checks: dict[str, bool] = field(default_factory=dict)
    happened: str = ""
    seconds: float = 0.0
    seconds_bad_to_zero: float | None = None
    requests_bad: int = 0
    decisions: list[dict[str, Any]] = field(default_factory=list)
    skipped: str = ""

    @property
    def ok(self) -> bool:
        """Whether all of it happened."""
        return bool(self.skipped) or (bool(self.checks) and all(self.checks.values()))

    def check(self, what: str, held: bool) -> None:
        """Notes an expectation and whether it held."""
        self.checks[what] = bool(held)


def live(stage: Stage, act: Act) -> None:
    """Version 1 goes live."""
    stage.ask_for("1.0.0")
    stage.wait_state("RolloutComplete", 40)
    since = time.time()
    stage.start_load()
    time.sleep(SETTLE_SECONDS + 1)
    seen = stage.requests(since)
    act.check("the route sends it everything", stage.weights() == {"1.0.0": 100})
    act.check("clients get answers of 1.0.0 only", set(answered(seen)) == {"1.0.0"} and not seen.bad)
    act.happened = f"1.0.0 answers {len(seen.records)} of {len(seen.records)} requests"


def promoted(stage: Stage, act: Act) -> None:
    """Version 2 is good: canary, evidence, promotion, watch."""
    since = time.time()
    stage.ask_for("2.0.0")
    stage.wait_state("CanaryRunning", 30)
    canary_from = time.time()
    stage.show()
    stage.wait_state("Watching", 90)
    canary = stage.requests(canary_from)
    share = canary.share("2.0.0")
    act.check("the canary got about a tenth of the requests", 0.05 <= share <= 0.15)
    time.sleep(1)
    after = stage.requests(time.time() - 0.7)
    act.check("then it got all of them", set(answered(after)) == {"2.0.0"})
    stage.wait_state("RolloutComplete", 30)
    failed = stage.requests(since).bad
    act.check("no client saw an error", failed == 0)
    act.happened = f"promoted after {len(canary.records)} requests, {share:.0%} of them to the canary; {failed} failed"


def errors_rolled_back(stage: Stage, act: Act) -> None:
    """Version 3 fails a fifth of its requests."""
    _taken_back(stage, act, "3.0.0", within=3 * SCRAPE_SECONDS, FAULT_ERROR_RATE="0.2")


def slow_rolled_back(stage: Stage, act: Act) -> None:
    """Version 4 answers in 900 ms, its bound is 800 ms at p99."""
    _taken_back(stage, act, "4.0.0", within=4 * SCRAPE_SECONDS, FAULT_LATENCY_MS="900")


def _taken_back(stage: Stage, act: Act, version: str, *, within: float, **faults: str) -> None:
    since = time.time()
    stage.ask_for(version, **faults)
    stage.wait_state("CanaryRunning", 30)
    stage.wait_state("RolledBack", 60)
    stage.show()
    time.sleep(1.5)
    seen = stage.requests(since)
    failures = bad(seen, version)
    act.requests_bad = len(failures)
    act.check("clients saw it fail", bool(failures))
    zero = stage.zero_since(version, failures[0]) if failures else None
    act.check("the route sends it nothing", zero is not None)
    if failures and zero is not None:
        last = max(record.sent for record in seen.records if record.version == version)
        act.seconds_bad_to_zero = round(max(last, zero) - failures[0], 2)
        act.check(f"within {within:g} s of the first bad answer", act.seconds_bad_to_zero <= within)
    others = sum(record.bad for record in seen.records if record.version != version)
    act.check("the version that serves failed nobody", others == 0)
    act.check("quarantined", stage.stand.status(NAME)["quarantined"][0]["version"] == version)
    act.happened = f"weight 0 after {act.seconds_bad_to_zero} s and {len(failures)} bad answers"


def cannot_start(stage: Stage, act: Act) -> None:
    """Version 5 crashes at its start."""
    since = time.time()
    stage.ask_for("5.0.0", FAULT_CRASH="1")
    stage.wait_state("ProgressDeadlineExceeded", 40)
    stage.show()
    message = stage.stand.condition(NAME, "RolledBack").get("message", "")
    seen = stage.requests(since)
    act.check("the condition tells the pods' own reason", "CrashLoopBackOff" in message)
    act.check("it never got a request", answered(seen)["5.0.0"] == 0)
    act.check("no client saw an error", seen.bad == 0)
    act.happened = message


def operator_killed(stage: Stage, act: Act) -> None:
    """SIGKILL in mid-canary; started again, the rollout goes on."""
    since = time.time()
    stage.ask_for("6.0.0")
    stage.wait_state("CanaryRunning", 30)
    time.sleep(SETTLE_SECONDS)
    before = stage.weights()
    stage.stand.lab.process("operator").kill()
    stage.say("operator: SIGKILL")
    held = _held(stage, before, SETTLE_SECONDS)
    stage.stand.operator()
    stage.say("operator: started again")
    act.check("no weight moved while it was away", held and before.get("6.0.0") == 10)
    stage.wait_state("Watching", 90)
    started = [d for d in stage.decided(since) if d["effect"] == "RolloutStarted"]
    act.check("the rollout went on, it did not start anew", len(started) == 1)
    stage.wait_state("RolloutComplete", 30)
    act.check("no client saw an error", stage.requests(since).bad == 0)
    act.happened = "weights held for the time it was away; then promoted, in the same rollout"


def prometheus_stopped(stage: Stage, act: Act) -> None:
    """No Prometheus in mid-canary: everything stays; started again, the rollout goes on."""
    since = time.time()
    stage.ask_for("7.0.0")
    stage.wait_state("CanaryRunning", 30)
    time.sleep(SETTLE_SECONDS)
    before = stage.weights()
    stage.stand.lab.prometheus.stop()
    stage.say("Prometheus: stopped")
    stage.stand.wait(
        "the condition EvidenceAvailable to say QueryError",
        lambda: stage.stand.condition(NAME, "EvidenceAvailable").get("reason") == "QueryError",
        15,
    )
    why = stage.stand.condition(NAME, "EvidenceAvailable")["message"]
    held = _held(stage, before, SETTLE_SECONDS)
    stage.show()
    stage.stand.lab.prometheus.start()
    stage.say("Prometheus: started again")
    act.check("weights held", held and before.get("7.0.0") == 10)
    act.check("the status says why", "cannot reach Prometheus" in why)
    stage.wait_state("Watching", 90)
    stage.wait_state("RolloutComplete", 30)
    act.check("no client saw an error", stage.requests(since).bad == 0)
    act.happened = f"held ({why[:60]}…), then promoted"


def spec_put_back(stage: Stage, act: Act) -> None:
    """The spec goes back to stable in mid-canary: weight 0 at once."""
    stage.ask_for("8.0.0")
    stage.wait_state("CanaryRunning", 30)
    time.sleep(SETTLE_SECONDS)
    stage.ask_for("7.0.0")
    since = time.time()
    stage.stand.wait("weight 0", lambda: not stage.weights().get("8.0.0"), 10, every=0.02)
    took = time.time() - since
    stage.wait_state("RolloutComplete", 20)
    time.sleep(1)
    late = answered(stage.requests(since + took + 0.3))
    act.check("weight 0 within a second", took <= 1.0)
    act.check("no request went to it after that", late["8.0.0"] == 0 and late["7.0.0"] > 0)
    act.check("it is not quarantined", stage.stand.status(NAME)["quarantined"][0]["version"] != "8.0.0")
    act.seconds_bad_to_zero = round(took, 2)
    act.happened = f"weight 0 after {took:.2f} s; {stage.state()}"


def _held(stage: Stage, weights: dict[str, int], seconds: float) -> bool:
    until = time.time() + seconds
    while time.time() < until:
        if stage.weights() != weights:
            return False
        time.sleep(0.05)
    return True


PLAY: tuple[tuple[str, str, Callable[[Stage, Act], None]], ...] = (
    ("v1 goes live", "straight to 100 %, once Ready", live),
    ("v2 is good", "canary at 10 %, promoted by evidence, watched", promoted),
    ("v3 fails 20 % of its requests", "rolled back within 3 scrape intervals, quarantined", errors_rolled_back),
    ("v4 is slow (900 ms, bound 800 ms)", "rolled back by its latency", slow_rolled_back),
    ("v5 cannot start", "never gets traffic; deadline, with the pods' own reason", cannot_start),
    ("operator killed in mid-canary", "no weight moves; started again, the rollout goes on", operator_killed),
    ("Prometheus stopped in mid-canary", "weights hold, the status says why; then it goes on", prometheus_stopped),
    ("spec put back in mid-canary", "weight 0 at once, a clean end", spec_put_back),
)
