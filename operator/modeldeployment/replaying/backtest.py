"""What a policy would have done in past rollouts: all of them together, and as a table or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from modeldeployment.api.base import JSON
from modeldeployment.api.quantities import say_duration
from modeldeployment.replaying.judging import Came, Judged
from modeldeployment.replaying.render import table

ASSUMPTION: Final = (
    "Counts are as they were, at the weights as they were: what a version would have counted at another weight nobody "
    "knows. Pods are taken to be Ready, and the router to be quick. What the watch took back counts as rolled back; a "
    "policy's own watch is not judged."
)
NO_LATER: Final = "Undecided: the counts end with the real decision, before this policy would have decided."


@dataclass(frozen=True, slots=True)
class Backtest:
    """A policy's judgements.

    Attributes:
        policy: what it is called: the file's name.
        source: where the counts come from.
        judged: of each rollout, oldest first.
        notes: what a reader must know beside.
    """

    policy: str
    source: str
    judged: tuple[Judged, ...]
    notes: tuple[str, ...] = ()

    def happened(self, came: Came) -> int:
        """How many rollouts came to this."""
        return sum(one.rollout.came is came for one in self.judged)

    def would(self, came: Came) -> int:
        """How many would have."""
        return sum(one.came is came for one in self.judged)

    def bad(self) -> dict[str, float]:
        """Rule → bad requests added (above zero) or spared, in all."""
        total: dict[str, float] = {}
        for one in self.judged:
            for rule, change in one.bad.items():
                total[rule] = total.get(rule, 0.0) + change
        return total


def to_json(done: Backtest) -> JSON:
    """All of it."""
    return {
        "policy": done.policy,
        "source": done.source,
        "assumption": ASSUMPTION,
        "notes": list(done.notes),
        "summary": {
            "rollouts": len(done.judged),
            "changed": sum(one.changed for one in done.judged),
            "happened": {came.value: done.happened(came) for came in Came},
            "policy": {came.value: done.would(came) for came in Came},
            "badRequests": {rule: round(change) for rule, change in done.bad().items()},
        },
        "rollouts": [_one_json(one) for one in done.judged],
    }


def _one_json(one: Judged) -> JSON:
    rollout = one.rollout
    return {
        "namespace": rollout.key[0],
        "name": rollout.key[1],
        "revision": rollout.revision,
        "version": rollout.version,
        "control": rollout.control,
        "start": rollout.start.isoformat(),
        "end": rollout.end.isoformat(),
        "happened": rollout.came.value,
        "why": rollout.why,
        "policy": one.came.value,
        "time": one.time and one.time.isoformat(),
        "secondsEarlier": one.earlier,
        "changed": one.changed,
        "rule": one.rule,
        "message": one.message,
        "numbers": one.numbers and one.numbers.to_json(),
        "requests": one.requests,
        "counted": one.counted,
        "badRequests": {rule: round(change) for rule, change in one.bad.items()},
    }


def to_text(done: Backtest) -> str:
    """The rollouts as a table, and all together."""
    head = ("START", "MODEL", "REVISION", "HAPPENED", "AFTER", "POLICY", "AFTER", "BAD REQUESTS", "WHY")
    lines = table([head, *map(_row, done.judged)])
    return "\n".join([*lines, "", *summary(done), ASSUMPTION, *done.notes])


def summary(done: Backtest) -> list[str]:
    """All together, in sentences."""
    said = [f"{len(done.judged)} rollouts of {done.source}; {sum(o.changed for o in done.judged)} end otherwise."]
    for name, count in (("happened", done.happened), (f"by {done.policy}", done.would)):
        said.append(f"{name}: " + ", ".join(f"{count(came)} {came.value}" for came in Came))
    for rule, change in done.bad().items():
        said.append(f"{rule}: {bad_words(change)}")
    if done.would(Came.UNDECIDED):
        said.append(NO_LATER)
    return said


def bad_words(change: float) -> str:
    """So many bad requests more or fewer."""
    number = round(change)
    if not number:
        return "no bad request more or fewer"
    return f"{number:,} bad requests added" if number > 0 else f"{-number:,} bad requests spared"


def after(one: Judged) -> str:
    """How long after its beginning the policy decides."""
    return "" if one.time is None else say_duration(max(0.0, (one.time - one.rollout.start).total_seconds()))


def lasted(one: Judged) -> str:
    """How long the rollout took."""
    return say_duration(max(0.0, (one.rollout.end - one.rollout.start).total_seconds()))


def changes(one: Judged) -> str:
    """Rule by rule, in short."""
    return ", ".join(f"{rule} {round(change):+,}" for rule, change in one.bad.items() if round(change))


def _row(one: Judged) -> Sequence[str]:
    rollout = one.rollout
    return (
        f"{rollout.start:%Y-%m-%d %H:%M:%S}",
        "/".join(rollout.key),
        rollout.revision,
        rollout.came.value,
        lasted(one),
        one.came.value + (" *" if one.changed else ""),
        after(one),
        changes(one),
        one.message if len(one.message) <= 120 else one.message[:119] + "…",
    )
