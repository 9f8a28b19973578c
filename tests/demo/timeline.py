"""The live timeline: a line whenever something changes, and samples of it all for the page."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from demo import terminal
from demo.witness import Clients, Route
from stand import Stand

JSON = dict[str, Any]
SAMPLE_SECONDS = 0.2
WAITING_SECONDS = 6.0
"""While only numbers change, a line at most this often."""
BACKWARD = frozenset(
    {
        "RolledBack",
        "ProgressDeadlineExceeded",
        "RolloutCancelled",
        "RolloutReplaced",
        "Reverted",
        "Aborted",
        "StableUnavailable",
        "CanaryUnavailable",
        "Inconclusive",
    }
)
BLIND = frozenset({"QueryError", "StaleData", "NoPrometheus"})
_EVIDENCE = re.compile(r"against stable (?P<worse>.+?) of .* that it is good (?P<good>.+?) of ")


@dataclass(frozen=True)
class Sample:
    """What the operator said at one moment.

    Attributes:
        at: wall-clock seconds.
        worse: the largest e-value, over the rules, that the canary is worse than stable; None without a trial.
        good: the smallest e-value, over the rules, that it is good.
    """

    at: float
    state: str
    message: str
    verdict: str
    worse: float | None = None
    good: float | None = None


@dataclass(frozen=True)
class Note:
    """Something that was done to the system, or that an act says."""

    at: float
    text: str


class Timeline:
    """Watches one ModelDeployment, prints what changes, and remembers it."""

    def __init__(self, stand: Stand, name: str, route: Route) -> None:
        self._stand, self._name, self._route = stand, name, route
        self.began = time.time()
        self.samples: list[Sample] = []
        self.notes: list[Note] = []
        self.clients: Clients | None = None
        self._decisions: dict[tuple[str, str, str], JSON] = {}
        self._told: tuple[object, ...] = ()
        self._told_at = 0.0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="timeline", daemon=True)

    def start(self) -> None:
        """Begins to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def say(self, text: str, colour: str = "") -> None:
        """A line with the time since the beginning."""
        terminal.line(f"{time.time() - self.began:6.1f}s  {text}", colour)

    def did(self, text: str) -> None:
        """Says and remembers what was done to the system."""
        self.notes.append(Note(time.time(), text))
        self.say(f"» {text}", "blue")

    def decided(self, since: float) -> list[JSON]:
        """Decisions taken at `since` or later, oldest first."""
        self.look()
        taken = [decision for decision in self._decisions.values() if moment(decision["time"]) >= since]
        return sorted(taken, key=lambda decision: str(decision["time"]))

    def look(self) -> None:
        """Looks once, now."""
        with self._lock:
            self._take(self._stand.status(self._name))

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            try:
                self.look()
            except Exception:  # before the first act there is nothing, and at the end things go away
                continue

    def _take(self, status: JSON) -> None:
        conditions: dict[str, JSON] = {c["type"]: c for c in status.get("conditions", ())}
        progressing, rollout = conditions.get("Progressing", {}), status.get("rollout") or {}
        worse, good = _evidence(rollout)
        sample = Sample(
            time.time(),
            progressing.get("reason", ""),
            progressing.get("message", ""),
            str(rollout.get("verdict", "")),
            worse,
            good,
        )
        self.samples.append(sample)
        for decision in reversed(status.get("decisions", ())):
            key = (decision["time"], decision["revision"], decision["effect"])
            if key not in self._decisions:
                self._decisions[key] = decision
                self._say_decision(decision)
        if sample.state:
            evidence = conditions.get("EvidenceAvailable", {})
            self._say_state(sample, status.get("health", ""), evidence)

    def _say_decision(self, decision: JSON) -> None:
        back = decision["effect"] in BACKWARD
        rule = f" by {decision['rule']}" if decision.get("rule") else ""
        words = decision["message"].removeprefix(f"{decision['version']}: ")
        self.say(f"{'✖' if back else '✔'} {decision['effect']} {decision['version']}{rule}: {words}", _mood(decision))

    def _say_state(self, sample: Sample, health: str, evidence: JSON) -> None:
        weights = self._route.weights
        blind = evidence.get("status") == "False" and evidence.get("reason") in BLIND
        state = f"{sample.state} ({evidence['reason']})" if blind else sample.state
        now = (state, tuple(weights.items()), sample.verdict, health)
        numbers = (*now, sample.message)
        due = sample.state == "CanaryRunning" and sample.at - self._told_at >= WAITING_SECONDS
        if self._told[:4] == now and not (due and self._told != numbers):
            return
        self._told, self._told_at = numbers, sample.at
        shares = " ".join(f"{version} {weight}%" for version, weight in weights.items()) or "no route"
        verdict = f"{sample.verdict}: " if sample.verdict else ""
        words = evidence["message"] if blind else sample.message
        self.say(
            f"{state:<24} {shares:<20} {self._rates():<24} {health:<8} {verdict}{words}", "" if not blind else "warn"
        )

    def _rates(self) -> str:
        if self.clients is None:
            return ""
        parts = []
        for version, (rate, bad) in self.clients.rates().items():
            parts.append(f"{version} {rate:.0f}/s" + (f" {bad:.0%} bad" if bad else ""))
        return ", ".join(parts)


def _mood(decision: JSON) -> str:
    if decision["effect"] in BACKWARD:
        return "bad"
    return "good" if decision["effect"] in ("Promoted", "FirstVersionServes") else ""


def _evidence(rollout: JSON) -> tuple[float | None, float | None]:
    return e_values(rule["message"] for rule in rollout.get("rules", ()))


def e_values(messages: Iterable[str]) -> tuple[float | None, float | None]:
    """From the operator's sentences: the largest e-value that it is worse, and the smallest that it is good."""
    found = [match for message in messages if (match := _EVIDENCE.search(message))]
    if not found:
        return None, None
    return max(_number(m["worse"]) for m in found), min(_number(m["good"]) for m in found)


def _number(words: str) -> float:
    try:
        return float(words.replace(",", ""))
    except ValueError:
        return 1e6  # "over a million"


def moment(text: str) -> float:
    """An RFC 3339 time as wall-clock seconds."""
    return datetime.fromisoformat(text).timestamp()
