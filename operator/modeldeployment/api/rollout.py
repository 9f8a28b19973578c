"""`spec.rollout`: how a new version comes, what takes it back, and what happens when nothing can be told."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import ConfigDict, Field

from modeldeployment.api.base import Model, exactly_one, extend, rule
from modeldeployment.api.quantities import (
    AboveMilliseconds,
    AbovePercentage,
    Decimal,
    Duration,
    Percentage,
    Weight,
    between,
    is_duration,
    possible_share,
    seconds,
    whole_percent,
)
from modeldeployment.api.status import Cause


class Judge(StrEnum):
    """How a bound is judged."""

    SEQUENTIAL = "Sequential"
    """A bound counts as broken when that is proven, however often one looks."""
    THRESHOLD = "Threshold"
    """Each window compared with the bound, as other tools do."""


class Counting(StrEnum):
    """Which failed windows add up."""

    CONSECUTIVE = "Consecutive"
    CUMULATIVE = "Cumulative"


class OnInconclusive(StrEnum):
    """What happens to a canary whose deadline passes without a verdict."""

    HOLD = "Hold"
    PROMOTE = "Promote"
    ROLLBACK = "Rollback"


class OverrideAction(StrEnum):
    """What a person wants done with one revision."""

    ABORT = "Abort"
    PROMOTE = "Promote"


class BlameCause(StrEnum):
    """Causes of a broken bound that a spec may have a canary taken back for."""

    CANARY = Cause.CANARY.value
    SHARED = Cause.SHARED.value
    POD = Cause.POD.value
    NODE = Cause.NODE.value
    CAPACITY = Cause.CAPACITY.value
    DATA = Cause.DATA.value


class Step(Model):
    """One weight of the canary."""

    traffic: Weight = Field(description="Share of requests that the canary gets, e.g. 25%.")
    duration: Duration = Field(
        default="0s",
        description="The canary stays here at least this long, and until its evidence is enough.",
        json_schema_extra=between("0s", "72h"),
    )


class Canary(Model):
    """The canary's share of the traffic: one weight, or steps."""

    model_config = ConfigDict(json_schema_extra=extend(exactly_one("traffic", "steps", of="rollout.canary")))

    traffic: Weight | None = Field(default=None, description="One step at this share, then promotion, e.g. 10%.")
    steps: list[Step] | None = Field(
        default=None,
        min_length=1,
        max_length=20,
        description="Rising shares; promotion follows the last.",
        json_schema_extra=extend(
            rule(
                "!self.all(s, s.traffic.matches(r'^[0-9]{1,3}%$')) || "
                "(self.map(s, int(s.traffic.replace('%', ''))).isSorted() && "
                "self.all(s, self.exists_one(o, o.traffic == s.traffic)))",
                "each step must send more traffic than the one before, such as 5%, 25%, 50%",
            ),
            list_type="atomic",
        ),
    )

    def plan(self) -> list[tuple[int, float]]:
        """The steps as (percent of the traffic, least seconds there)."""
        if self.traffic is not None:
            return [(whole_percent(self.traffic), 0.0)]
        return [(whole_percent(step.traffic), seconds(step.duration)) for step in self.steps or ()]


class Comparison(StrEnum):
    """What a canary must be proven, to be taken back."""

    STABLE_AND_BOUND = "StableAndBound"
    """Worse than stable, and with some evidence beyond its bound: a version inside its bound stays."""
    STRICT = "Strict"
    """Both, each with full proof."""
    STABLE = "Stable"
    """Worse than stable by more than `tolerance`, whatever the bound says."""


class Sequential(Model):
    """Error bounds of the sequential tests. They hold over the whole rollout, however often one looks."""

    false_rollback: Percentage = Field(
        default="5%",
        description="Highest chance of rolling back a version that is no worse than stable: four fifths of it during "
        "the rollout, one fifth in the comparisons of the watch.",
        json_schema_extra=extend(
            rule(
                "!self.matches(r'^[0-9]{1,3}(\\.[0-9]{1,4})?%$') || "
                "(double(self.replace('%', '')) > 0.0 && double(self.replace('%', '')) <= 20.0)",
                "must be above 0% and at most 20%, e.g. 5%",
            )
        ),
    )
    compare: Comparison = Field(
        default=Comparison.STABLE_AND_BOUND,
        description="What takes a canary back. StableAndBound: it is proven worse than stable, and there is evidence "
        "that it breaks its bound. Strict: both are proven. Stable: it is proven worse than stable, even inside its "
        "bound.",
    )
    tolerance: Decimal = Field(
        default="1",
        description="How many times stable's rate of bad requests a canary may have before it counts as worse, e.g. "
        '"1.5".',
        json_schema_extra=extend(
            rule(
                "!self.matches(r'^[0-9]+(\\.[0-9]+)?$') || (double(self) >= 1.0 && double(self) <= 10.0)",
                'must be from "1" to "10", e.g. "1.5"',
            )
        ),
    )
    detectable: Decimal = Field(
        default="2",
        description="A step passes when a rate of this many times the bound is ruled out: 1 proves the bound itself "
        "and takes much longer.",
        json_schema_extra=extend(
            rule(
                "!self.matches(r'^[0-9]+(\\.[0-9]+)?$') || (double(self) >= 1.0 && double(self) <= 10.0)",
                'must be from "1" to "10", e.g. "2"',
            )
        ),
    )


class Threshold(Model):
    """What other tools do, written out: each window compared with the bound."""

    window: Duration = Field(default="1m", description="Length of a window.", json_schema_extra=between("1s", "1h"))
    min_samples: int = Field(
        default=100,
        ge=1,
        le=10_000_000,
        description="A window with fewer requests of the canary is not judged.",
    )
    failures: int = Field(default=3, ge=1, le=100, description="Roll back at this many failed windows.")
    passes: int = Field(
        default=3, ge=1, le=1000, description="A step is passed after this many passed windows in a row."
    )
    counting: Counting = Field(
        default=Counting.CONSECUTIVE, description="Whether a passed window forgets the failed ones before it."
    )


class Analysis(Model):
    """How evidence is gathered and judged."""

    model_config = ConfigDict(
        json_schema_extra=extend(
            rule(
                "self.judge == 'Threshold' || !has(self.threshold)",
                "has settings of the judge Threshold, but judge is Sequential: set judge to Threshold, or leave "
                "threshold out",
                field_path=".threshold",
            ),
            rule(
                "self.judge == 'Sequential' || !has(self.sequential)",
                "has settings of the judge Sequential, but judge is Threshold: set judge to Sequential, or leave "
                "sequential out",
                field_path=".sequential",
            ),
            rule(
                f"self.judge != 'Threshold' || !has(self.interval) || !{is_duration('self.interval')} || "
                f"(has(self.threshold) && !{is_duration('self.threshold.window')}) || duration(self.interval) <= "
                "(has(self.threshold) ? duration(self.threshold.window) : duration('1m'))",
                "must not be longer than threshold.window (default 1m): each window needs at least one reading",
                field_path=".interval",
            ),
        )
    )

    interval: Duration = Field(
        default="10s",
        description="How often the evidence is read. Shorter than Prometheus' scrape interval makes nothing sooner.",
        json_schema_extra=between("1s", "5m"),
    )
    judge: Judge = Field(
        default=Judge.SEQUENTIAL,
        description="Sequential: a bound counts as broken when that is proven. Threshold: each window is compared.",
    )
    sequential: Sequential | None = Field(default=None, description="Error bounds of the sequential tests.")
    threshold: Threshold | None = Field(default=None, description="Windows of the threshold judge.")


_ABOVE_ZERO = extend(
    rule(
        "!self.matches(r'^> ?[0-9]{1,7}$') || self.matches(r'[1-9]')",
        'must be above zero, such as ">800": every request takes longer than 0 ms',
    )
)


class RollbackOn(Model):
    """What takes a canary back."""

    model_config = ConfigDict(
        json_schema_extra=extend(
            rule(
                "has(self.errorRate) || has(self.p50LatencyMs) || has(self.p90LatencyMs) || has(self.p95LatencyMs)"
                " || has(self.p99LatencyMs)",
                'rollbackOn: set at least one bound, such as errorRate: ">1%", or leave rollbackOn out',
            )
        )
    )

    error_rate: AbovePercentage | None = Field(
        default=None,
        description='Roll back when the share of failed requests is proven above this, e.g. ">1%".',
        json_schema_extra=possible_share('">1%"'),
    )
    p50_latency_ms: AboveMilliseconds | None = Field(
        default=None,
        alias="p50LatencyMs",
        description='The same for the median in milliseconds, e.g. ">100".',
        json_schema_extra=_ABOVE_ZERO,
    )
    p90_latency_ms: AboveMilliseconds | None = Field(
        default=None,
        alias="p90LatencyMs",
        description='The same for p90 in milliseconds, e.g. ">200".',
        json_schema_extra=_ABOVE_ZERO,
    )
    p95_latency_ms: AboveMilliseconds | None = Field(
        default=None,
        alias="p95LatencyMs",
        description='The same for p95 in milliseconds, e.g. ">300".',
        json_schema_extra=_ABOVE_ZERO,
    )
    p99_latency_ms: AboveMilliseconds | None = Field(
        default=None,
        alias="p99LatencyMs",
        description='The same for p99 in milliseconds, e.g. ">800".',
        json_schema_extra=_ABOVE_ZERO,
    )

    def latencies(self) -> dict[float, str]:
        """The latency bounds that are set, by quantile."""
        bounds = {
            0.5: self.p50_latency_ms,
            0.9: self.p90_latency_ms,
            0.95: self.p95_latency_ms,
            0.99: self.p99_latency_ms,
        }
        return {quantile: bound for quantile, bound in bounds.items() if bound is not None}


class Override(Model):
    """A person's word on one revision. It says nothing about another one."""

    revision: str = Field(
        max_length=63,
        description="Name of the ModelRevision meant, as status.canary.revision shows it.",
        json_schema_extra=extend(
            rule(
                r"self.matches(r'^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                "must be the name of a ModelRevision such as fraud-0123456789, as status.canary.revision shows it",
            )
        ),
    )
    action: OverrideAction = Field(description="Abort: take it back and keep it out. Promote: skip what is left.")
    request_time: datetime | None = Field(
        default=None,
        description="When it was said: it counts for a rollout that began before, and for no later one of the same "
        "revision. Left out, it counts for every rollout of the revision. kubectl model sets it.",
    )


class Rollout(Model):
    """How a new version comes, and what takes it back."""

    model_config = ConfigDict(
        json_schema_extra=extend(
            rule(
                "!has(self.canary) || !has(self.canary.steps) || !has(self.deadline) || "
                f"!self.canary.steps.all(s, {is_duration('s.duration')}) || "
                f"!{is_duration('self.deadline')} || "
                "self.canary.steps.map(s, duration(s.duration)).sum() < duration(self.deadline)",
                "must be longer than the durations of all canary.steps together: past it, no step is passed any more",
                field_path=".deadline",
            ),
            rule(
                "!has(self.analysis) || !has(self.analysis.interval) || !has(self.deadline) || "
                f"!{is_duration('self.analysis.interval')} || !{is_duration('self.deadline')} || "
                "duration(self.analysis.interval) < duration(self.deadline)",
                "must be longer than analysis.interval: before it, nothing would have been read",
                field_path=".deadline",
            ),
        )
    )

    canary: Canary = Field(
        default_factory=lambda: Canary(traffic="10%"),
        # No default in the schema: it would be stored, and stand beside the steps that somebody adds later.
        description="The share of traffic a new version gets before it is promoted. Left out: traffic 10%.",
        json_schema_extra={"default": None},
    )
    analysis: Analysis = Field(
        default_factory=Analysis,
        description="How evidence is gathered and judged.",
        json_schema_extra={"default": {"judge": "Sequential"}},
    )
    rollback_on: RollbackOn | None = Field(
        default=None,
        description="What takes a canary back. Left out: every objective does.",
    )
    rollback_on_causes: list[BlameCause] = Field(
        default_factory=lambda: [BlameCause.CANARY],
        max_length=6,
        description="Whose fault must take a canary back; for any other it is held at its weight, and that is said. "
        "Canary: proven worse than stable. Shared: both break the bound. Pod, Node: one pod's or one node's alone. "
        "Capacity: too many requests for its pods. Data: requests it was not made for. Pods that do not come up have "
        "their own deadline, progressDeadline.",
        json_schema_extra=extend(list_type="set", default=["Canary"]),
    )
    progress_deadline: Duration = Field(
        default="10m",
        description="A new version whose pods were not Ready for this long in all is taken back, with the pods' "
        "reason.",
        json_schema_extra=between("1s", "24h"),
    )
    deadline: Duration = Field(
        default="2h",
        description="A canary without a verdict after this long gets what onInconclusive says. Time during which a "
        "person suspended it does not count.",
        json_schema_extra=between("10s", "168h"),
    )
    on_inconclusive: OnInconclusive = Field(
        default=OnInconclusive.HOLD,
        description="What happens to a canary whose deadline passes without a verdict.",
    )
    watch: Duration = Field(
        default="24h",
        description="How long the previous version is kept warm, and the new one watched, after promotion.",
        json_schema_extra=between("0s", "72h"),
    )
    attempt: int = Field(
        default=1,
        ge=1,
        le=1_000_000,
        description="Which attempt at the current version this is. Raise it to try a quarantined version again "
        "(kubectl model retry).",
    )
    override: Override | None = Field(
        default=None,
        description="A person's word on one revision (kubectl model abort, kubectl model promote).",
    )
