"""`status` of a ModelDeployment: small, slow, and never a guess.

All that must outlive the operator's process is here or in Prometheus; the operator keeps no other memory.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from modeldeployment.api.base import StatusModel, extend
from modeldeployment.api.conditions import Condition

OBJECTIVES_MAX = 16
ROLLBACK_ON_MAX = 5
"""Keys of rollbackOn: each may become a rule beside those of the objectives."""
DECISIONS_MAX = 10
QUARANTINED_MAX = 10
TRAIL_POINTS_MAX = 48
QUERY_MAX = 512
STATUS_BYTES_MAX = 98_304
"""A status is never larger than this as JSON; a test fills every list and text to its bound. Two or three kilobytes
of that are usual while nothing goes on, and under 8 KiB during a rollout."""

_COUNT_MAX = 2**53


class Health(StrEnum):
    """How the version that serves does, in one word."""

    OK = "OK"
    WARNING = "Warning"
    CRITICAL = "Critical"
    UNKNOWN = "Unknown"


class Verdict(StrEnum):
    """What the evidence says."""

    PASS = "Pass"
    FAIL = "Fail"
    INCONCLUSIVE = "Inconclusive"


class Cause(StrEnum):
    """Whose fault a broken bound is."""

    CANARY = "Canary"
    """The version on trial is proven worse than the stable one."""
    SHARED = "Shared"
    """Both versions break the bound at the same time."""
    POD = "Pod"
    """One pod of the version alone; its others are proven good."""
    NODE = "Node"
    """The pods on one node alone; the others are proven good."""
    CAPACITY = "Capacity"
    """Too many requests for the pods there are."""
    DATA = "Data"
    """The requests are not what the model was made for."""
    PLATFORM = "Platform"
    """The pods do not come up, or went away: image, scheduling, probes, crashes."""


class Alert(StrEnum):
    """How soon somebody should look at a budget that burns."""

    PAGE = "Page"
    """Now: it is spent within days, or hours."""
    TICKET = "Ticket"
    """In the next days: it will not last for its period."""


class RevisionStatus(StatusModel):
    """A revision that has a part in serving."""

    revision: str = Field(max_length=63, description="Name of the ModelRevision, its Deployment and its Service.")
    version: str = Field(max_length=63, description="Its version.")
    weight: int | None = Field(
        default=None, ge=0, le=100, description="Percent of the traffic that the router was seen to send it."
    )
    wanted_weight: int = Field(default=0, ge=0, le=100, description="Percent of the traffic that it should get.")
    replicas: int = Field(default=0, ge=0, le=100_000, description="Pods it has.")
    ready_replicas: int = Field(default=0, ge=0, le=100_000, description="Pods of it that are Ready.")
    until: datetime | None = Field(default=None, description="Kept warm until then.")


class Draining(StatusModel):
    """A revision that gets no traffic any more and is about to be scaled down."""

    revision: str = Field(max_length=63, description="Name of the ModelRevision.")
    since: datetime = Field(description="When its weight went to 0.")


class Quarantined(StatusModel):
    """A revision that was taken back; it is not tried again until someone asks."""

    revision: str = Field(max_length=63, description="Name of the ModelRevision.")
    version: str = Field(max_length=63, description="Its version.")
    attempt: int = Field(ge=1, le=1_000_000, description="The attempt that failed.")
    reason: str = Field(max_length=64, description="Why, in one word.")
    message: str = Field(max_length=384, description="Why, in a sentence.")
    time: datetime = Field(description="When.")


class Numbers(StatusModel):
    """The numbers that a rule was judged on."""

    requests: int = Field(default=0, ge=0, le=_COUNT_MAX, description="Requests of the revision on trial.")
    bad: int = Field(default=0, ge=0, le=_COUNT_MAX, description="Bad ones among them: failed, or too slow.")
    stable_requests: int | None = Field(
        default=None, ge=0, le=_COUNT_MAX, description="Requests of the version that it is compared with."
    )
    stable_bad: int | None = Field(default=None, ge=0, le=_COUNT_MAX, description="Bad ones among them.")
    value: str | None = Field(default=None, max_length=32, description="For a query, its value.")
    bound: str = Field(max_length=48, description="The bound.")
    e_worse: str | None = Field(
        default=None, max_length=16, description="Evidence that it is worse than that version, as an e-value."
    )
    e_broken: str | None = Field(
        default=None, max_length=16, description="Evidence that it breaks its bound, as an e-value."
    )
    e_good: str | None = Field(default=None, max_length=16, description="Evidence that it is good, as an e-value.")


class RuleStatus(StatusModel):
    """What the evidence says by one rule, and the state of its test."""

    name: str = Field(max_length=63, description="The objective's name, or rollbackOn's key.")
    verdict: Verdict = Field(description="What this rule says of the revision on trial.")
    cause: Cause | None = Field(default=None, description="Whose fault it is, if it says Fail.")
    numbers: Numbers | None = Field(default=None, description="The numbers it is judged on.")
    message: str = Field(max_length=320, description="The numbers, in a sentence.")
    needs: str = Field(
        default="",
        max_length=40,
        description="What it still needs to pass, if it is open, and how long that takes at this traffic.",
    )
    state: str = Field(
        default="", max_length=1232, description="The test's state, opaque: what a new leader goes on from."
    )


class RolloutStatus(StatusModel):
    """The revision on trial: a canary, or a promoted version under watch."""

    revision: str = Field(max_length=63, description="The ModelRevision on trial.")
    version: str = Field(max_length=63, description="Its version.")
    attempt: int = Field(default=1, ge=1, le=1_000_000, description="Which attempt at it this is.")
    start_time: datetime = Field(description="When the rollout began.")
    step: int = Field(
        default=0,
        ge=0,
        le=20,
        description="Which step it is at or on its way to, from 0; `steps`: promotion.",
    )
    steps: int = Field(default=0, ge=0, le=20, description="How many steps there are.")
    weight_time: datetime | None = Field(
        default=None,
        description="Since when the router was seen to send its present weight; unset while the weight moves.",
    )
    promotion_time: datetime | None = Field(default=None, description="When it was promoted; the watch runs from then.")
    alarms: int = Field(default=0, ge=0, le=1000, description="How often a bound began to break during the watch.")
    next_compare_time: datetime | None = Field(
        default=None,
        description="When an alarm may ask for the next comparison: after several that proved nothing, each waits "
        "longer.",
    )
    compare_time: datetime | None = Field(
        default=None,
        description="Since when half of the traffic goes to the version before, to tell whether this one is worse; "
        "unset while it does not.",
    )
    unavailable_since: datetime | None = Field(
        default=None, description="Since when it has had too few Ready pods, unless it has enough."
    )
    unavailable_seconds: int = Field(
        default=0, ge=0, le=10_000_000, description="How long it had too few Ready pods before that, in all."
    )
    suspend_time: datetime | None = Field(
        default=None, description="When a person suspended it, if it is suspended: the deadline does not run."
    )
    suspended_seconds: int = Field(
        default=0, ge=0, le=1_000_000_000, description="How long it was suspended before that, in all."
    )
    verdict: Verdict = Field(default=Verdict.INCONCLUSIVE, description="What the evidence says of it.")
    reason: str = Field(default="NotEnoughEvidence", max_length=64, description="Why, in one word.")
    message: str = Field(default="", max_length=1024, description="What it waits for, in a sentence.")
    evidence_time: datetime | None = Field(
        default=None, description="The instant up to which the states of the rules hold all evidence."
    )
    errors_query: str = Field(default="", max_length=QUERY_MAX, description="The query that shows failed requests.")
    latency_query: str = Field(default="", max_length=QUERY_MAX, description="The query that shows slow requests.")
    rules: tuple[RuleStatus, ...] = Field(
        default=(),
        max_length=OBJECTIVES_MAX + ROLLBACK_ON_MAX,
        description="The rules it is judged by.",
        json_schema_extra=extend(list_map_keys=("name",)),
    )


class BurnStatus(StatusModel):
    """A pair of windows over both of which a budget burns too fast."""

    name: str = Field(max_length=6, description="Both windows, such as 1h/5m.")
    rate: str = Field(
        max_length=6,
        description="Burn rate over the longer one: how many times faster than a budget that just lasts for its "
        "period, e.g. 14.4.",
    )


class BudgetStatus(StatusModel):
    """The error budget of one objective, over all versions that served."""

    remaining: str = Field(
        max_length=5,
        description="What is left of the budget, rounded down, e.g. 97%; below 0% once it is proven to be overspent.",
    )
    since: datetime | None = Field(
        default=None,
        description="Since when requests are known, if that is less than the budget's period. What was before is taken "
        "for time without bad requests, at the same traffic.",
    )
    alert: Alert | None = Field(
        default=None,
        description="Page: it burns so fast that somebody should look now. Ticket: it will not last for its period.",
    )
    burning: tuple[BurnStatus, ...] = Field(
        default=(),
        max_length=4,
        description="The pairs of windows over both of which it burns too fast.",
        json_schema_extra=extend(list_map_keys=("name",)),
    )


class Trail(StatusModel):
    """How the evidence of a trial went, in few points: twice as far apart whenever there would be too many."""

    revision: str = Field(max_length=63, description="The ModelRevision that was, or is, on trial.")
    version: str = Field(max_length=63, description="Its version.")
    start_time: datetime = Field(description="When the first point was taken.")
    every_seconds: int = Field(ge=1, le=1_000_000_000, description="Seconds from one point's place to the next.")
    points: str = Field(
        default="",
        max_length=TRAIL_POINTS_MAX * len("47,100,-99,-99 "),
        description="Points place,weight,worse,good with spaces between: the last look in each stretch of everySeconds "
        "since startTime (place 0, 1, ...), percent of the traffic, and the evidence that it is worse and that it is "
        "good, in tenths of log10 of the e-value over what decides (0 decides; -99 to 99; empty without such a test).",
    )


class ObjectiveStatus(StatusModel):
    """How the version that serves keeps one objective."""

    name: str = Field(max_length=63, description="The objective's name.")
    verdict: Verdict = Field(description="Pass: kept. Fail: proven broken. Inconclusive: cannot be told yet.")
    reason: str = Field(max_length=64, description="Why, in one word.")
    value: str = Field(default="", max_length=32, description="The value over the objective's window.")
    bound: str = Field(max_length=48, description="The bound.")
    samples: int = Field(default=0, ge=0, le=_COUNT_MAX, description="Requests that the value stands on.")
    data_age_seconds: int | None = Field(
        default=None, ge=0, le=100_000_000, description="Age of the newest sample when this was written."
    )
    breach_time: datetime | None = Field(
        default=None, description="For a query: since when its value has been beyond the bound, if it is."
    )
    message: str = Field(default="", max_length=256, description="More, in a sentence.")
    budget: BudgetStatus | None = Field(
        default=None, description="Its error budget; unset for a promql objective, and while nothing is known of it."
    )


class ChosenDialect(StatusModel):
    """The metrics dialect that Auto chose: it stays as long as a version is compared with another."""

    name: str = Field(max_length=63, description="Its name.")
    revision: str = Field(max_length=63, description="The revision whose series it was chosen by.")
    message: str = Field(default="", max_length=192, description="What was found, and why this one.")


class DecisionRecord(StatusModel):
    """One decision, with the numbers it was taken on."""

    time: datetime = Field(description="When.")
    revision: str = Field(max_length=63, description="About which ModelRevision.")
    version: str = Field(max_length=63, description="Its version.")
    effect: str = Field(max_length=64, description="What was done, in one word, such as RolledBack or Promoted.")
    rule: str = Field(default="", max_length=63, description="The rule that decided, if one did.")
    verdict: Verdict | None = Field(default=None, description="What it said.")
    cause: Cause | None = Field(default=None, description="Whose fault it is.")
    numbers: Numbers | None = Field(default=None, description="The numbers that decided.")
    query: str = Field(default="", max_length=QUERY_MAX, description="The query that the numbers come from.")
    message: str = Field(max_length=384, description="The numbers and bounds, in a sentence.")


class ModelDeploymentStatus(StatusModel):
    """What the operator saw and decided."""

    conditions: tuple[Condition, ...] = Field(
        default=(),
        max_length=10,
        description="Ready, Progressing (its reason is the state), Healthy, EvidenceAvailable, RouteProgrammed; "
        "Stalled and RolledBack only while true.",
        json_schema_extra=extend(list_map_keys=("type",)),
    )
    observed_generation: int = Field(
        default=0, ge=0, le=2**53, description="The generation of the spec that this status is about."
    )
    health: Health = Field(
        default=Health.UNKNOWN,
        description="How the version that serves does: OK, Warning, Critical or Unknown.",
    )
    budget: str = Field(
        default="",
        max_length=5,
        description="What is left of the error budget of which least is left, e.g. 97%; empty while none is known.",
    )
    stable: RevisionStatus | None = Field(default=None, description="The version that serves.")
    canary: RevisionStatus | None = Field(default=None, description="The version on trial.")
    previous: RevisionStatus | None = Field(
        default=None, description="The version before, kept warm while the new one is watched."
    )
    draining: tuple[Draining, ...] = Field(
        default=(),
        max_length=8,
        description="Revisions that get no traffic any more and are about to be scaled down.",
        json_schema_extra=extend(list_map_keys=("revision",)),
    )
    rollout: RolloutStatus | None = Field(default=None, description="The trial that is going on.")
    objectives: tuple[ObjectiveStatus, ...] = Field(
        default=(),
        max_length=OBJECTIVES_MAX,
        description="How the version that serves keeps each objective.",
        json_schema_extra=extend(list_map_keys=("name",)),
    )
    quarantined: tuple[Quarantined, ...] = Field(
        default=(),
        max_length=QUARANTINED_MAX,
        description="Revisions that were taken back, the newest first.",
        json_schema_extra=extend(list_map_keys=("revision",)),
    )
    decisions: tuple[DecisionRecord, ...] = Field(
        default=(),
        max_length=DECISIONS_MAX,
        description="The last decisions, the newest first.",
        json_schema_extra=extend(list_type="atomic"),
    )
    trail: Trail | None = Field(default=None, description="How the evidence of the last trial went.")
    dialect: ChosenDialect | None = Field(
        default=None, description="The metrics dialect that Auto chose, where serving.metrics.dialect is Auto."
    )
    replicas: int = Field(default=0, ge=0, le=100_000, description="Pods of the version that serves.")
    selector: str = Field(
        default="", max_length=256, description="Label selector of those pods, for the scale subresource."
    )
