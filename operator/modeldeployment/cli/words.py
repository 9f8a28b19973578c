"""What the words in a status mean, for a person who has not read the documentation.

Templates take `new` (the version on trial, or taken back), `old` (the one it is compared with), `weight` (percent of
the traffic that `new` is to have).
"""

from __future__ import annotations

import math
from typing import Final

from modeldeployment.api.modeldeployment import SuspendMode
from modeldeployment.api.rollout import OnInconclusive
from modeldeployment.api.status import Cause, Verdict
from modeldeployment.decision.due import Clock

NOT_SEEN: Final = "The operator has not looked at it yet: does it run?"
UNKNOWN_STATE: Final = "A state that this command does not know; is it older than the operator?"

STATES: Final = {
    "Initializing": "{new} is the first version and has no Ready pod yet. Once it has one it gets all of the traffic: "
    "there is nothing to compare it with.",
    "RolloutComplete": "{old} serves all of the traffic. It is what the spec asks for; nothing is on trial.",
    "CanaryStarting": "{new} is on trial beside {old}, and waits for the pods that its next weight needs.",
    "Promoting": "{new} has passed every step, and waits for the pods that all of the traffic needs.",
    "WaitingForMetrics": "{new} is Ready, and gets no traffic before Prometheus scrapes its pods: nobody could judge "
    "it.",
    "WaitingForRouter": "Weights were asked for, and no Gateway is seen to have taken them yet. Until then nothing "
    "rises.",
    "CanaryRunning": "{new} is on trial: it gets {weight}% of the traffic, {old} the rest, and both are compared.",
    "CanaryUnavailable": "{new} lost all of its Ready pods. Its traffic went back to {old} until it has some.",
    "Inconclusive": "The time for a verdict on {new} is over, and the evidence is neither good nor bad enough. It is "
    "held at {weight}% (onInconclusive: Hold).",
    "Watching": "{new} was promoted and serves all of the traffic. {old} is kept warm, to return to at once.",
    "Comparing": "A bound began to break after the promotion of {new}. Half of the traffic goes to {old} for a while, "
    "to tell whose fault it is: only if {new} is proven worse is it taken back.",
    "WaitingForPrevious": "{new} breaks a bound, and {old}, the version before, cannot take traffic now. Until it can, "
    "nothing is compared or taken back.",
    "WaitingForStable": "{new} is to be taken back, and {old} has no Ready pod to return to. Until it has, {new} keeps "
    "its {weight}%.",
    "RolledBack": "{new} was taken back on evidence, and is kept out.",
    "ProgressDeadlineExceeded": "{new} was taken back and is kept out: its pods were not Ready for too long.",
    "RolledBackInconclusive": "{new} was taken back and is kept out: there was no verdict in time (onInconclusive: "
    "Rollback).",
    "Aborted": "A person aborted {new}. It is kept out.",
    "StableUnavailable": "{new} lost all of its pods after its promotion. The version before took over, and {new} is "
    "kept out.",
    "Suspended": "A person suspended the rollout.",
    **{
        f"{cause}Fault": "A bound is broken, and {new} is held at {weight}%: rollout.rollbackOnCauses does not say "
        f"that it is taken back for the cause {cause}."
        for cause in Cause
    },
}
"""State (the reason of the condition Progressing) → what it means."""

FIRST_IS_LATE: Final = (
    "{new} is the first version, and its pods are not Ready for too long. Nothing else can serve, so it is tried on."
)
NOTHING_SERVES: Final = "No version serves: nothing stands beside it."

REASONS: Final = {
    "NoObjectives": "Nothing says what good is, so it can neither pass nor fail.",
    "NotEnoughEvidence": "The evidence does not decide yet, either way.",
    "NoTraffic": "No requests arrive, so there is nothing to judge. That neither promotes nor rolls back.",
    "NoData": "Prometheus has no series of it. That neither promotes nor rolls back.",
    "StaleData": "The newest samples are too old. That neither promotes nor rolls back.",
    "QueryError": "A query to Prometheus failed. That neither promotes nor rolls back.",
    "NoPrometheus": "Prometheus does not answer. That neither promotes nor rolls back.",
    "DialectCannotAnswer": "Its metrics cannot answer an objective: see the message.",
    "ObjectiveBroken": "A bound is proven broken, by its own fault.",
    "ObjectivesKept": "Every rule is proven kept.",
    "WatchAlarm": "A bound begins to break.",
}
"""Reason of the trial's verdict → what it means. Those that end in Fault are told by the state."""

CAUSES: Final = {
    Cause.CANARY: "its own: it is worse than the other version at the same time",
    Cause.SHARED: "shared: both versions break the bound, so look for what they have in common (a dependency, clients)",
    Cause.POD: "one pod of it alone: delete that pod",
    Cause.NODE: "its pods on one node alone: drain that node",
    Cause.CAPACITY: "capacity: its pods get too many requests each; give it more of them",
    Cause.DATA: "the requests: they are not what the model was made for",
    Cause.PLATFORM: "the platform: its pods do not come up, or went away",
}

VERDICTS: Final = {
    Verdict.PASS: "proven good",
    Verdict.FAIL: "proven broken",
    Verdict.INCONCLUSIVE: "open",
}

SUSPENDED: Final = {
    SuspendMode.ADVANCE: "It is suspended (Advance): nothing starts, rises or is promoted; a bad version is still "
    "taken back.",
    SuspendMode.ALL: "It is suspended (All): nothing moves at all, and not even a bad version is taken back.",
}

CLOCKS: Final = {
    Clock.PODS: "too few Ready pods: past this it is taken back (rollout.progressDeadline)",
    Clock.STEP: "the step lasts at least until then, however good the evidence",
    Clock.ROLLOUT: "without a verdict by then {inconclusive} (rollout.onInconclusive)",
    Clock.COMPARISON: "the comparison ends, and without a proof the traffic goes back",
    Clock.NEXT_COMPARISON: "before then no alarm starts another comparison",
    Clock.WATCH: "the watch ends, and the version before is archived",
}

INCONCLUSIVE: Final = {
    OnInconclusive.HOLD: "it is held at its weight",
    OnInconclusive.ROLLBACK: "it is taken back",
    OnInconclusive.PROMOTE: "it is promoted, if it was measured",
}

FIRST_PODS: Final = "no Ready pod: past this it is said to be late (rollout.progressDeadline), and tried on"
WATCHED_PODS: Final = "no Ready pod: past this the version before takes over, if it has one"

MILLION: Final = "over a million"
WEAK: Final = 2.0
"""An e-value below this is no evidence worth a sentence about chances."""


def evidence(null: str, e_value: str, decides: float | None, what: str) -> str:
    """An e-value in words. `null`: a clause that the evidence is against; `what`: what happens where it decides.

    `decides` None: that is not told.

    By Ville's inequality an e-process exceeds e with a chance of at most 1/e, at any time, if `null` is so.
    """
    needs = f"; 1 of {decides:,.4g} {what}" if decides else ""
    if e_value == MILLION:
        return f"{null}, evidence this strong would come up in fewer than 1 of a million rollouts{needs}"
    value = float(e_value)
    if value < WEAK:
        return f"{null}, evidence like this would be nothing unusual (e-value {e_value}){needs}"
    return f"{null}, evidence this strong would come up in at most 1 of {math.floor(value):,} rollouts{needs}"


def alarm(e_value: str, alarms: int) -> str:
    """The detector of the watch in words: a sum of e-processes, so no chance, but a time between false alarms."""
    return (
        f"that it breaks its bound: {e_value}; at {alarms:,} half of the traffic goes back to compare, falsely once a "
        "day at most, on average"
    )


def share_of_decides(log10: float) -> str:
    """log10 of e-value over what decides → how far that is, in words."""
    if log10 >= 3:
        return "over 1,000 times what decides"
    if log10 >= 0:
        return "enough to decide" if log10 < 0.3 else f"about {10**log10:,.0f} times what decides"
    return f"about 1/{10**-log10:,.0f} of what decides" if log10 > -3 else "under 1/1,000 of what decides"
