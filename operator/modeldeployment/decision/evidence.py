"""What was seen, as plain values: counts per pod and interval, pods, routes. Counts, never opinions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from modeldeployment.decision.rules import Sli


class DataState(StrEnum):
    """What is known about a model's metrics. Only the first lets a rollout move on."""

    FLOWING = "DataFlowing"
    NO_TRAFFIC = "NoTraffic"
    NO_DATA = "NoData"
    STALE = "StaleData"
    QUERY_ERROR = "QueryError"
    NO_PROMETHEUS = "NoPrometheus"
    UNSUPPORTED = "DialectCannotAnswer"

    @property
    def measured(self) -> bool:
        """Whether the pods are scraped, so that what they counted is known."""
        return self in (DataState.FLOWING, DataState.NO_TRAFFIC)


@dataclass(frozen=True, slots=True)
class Delta:
    """Exact counter differences of one pod, or of several added up, over one stretch of time.

    Attributes:
        requests: requests.
        errors: failed requests; None where the dialect has no such counter.
        faster: requests not slower than an edge (ms) → count, cumulative as Prometheus has them; empty where
            there is no histogram, or no edge at which all of them were counted.
        timed: requests in the histogram (its bucket +Inf).
    """

    requests: int = 0
    errors: int | None = None
    faster: Mapping[float, int] = field(default_factory=dict)
    timed: int = 0

    def __add__(self, other: Delta) -> Delta:
        if self.timed and other.timed:
            faster: Mapping[float, int] = {e: n + other.faster[e] for e, n in self.faster.items() if e in other.faster}
        else:  # one of them counted nothing
            faster = (other.faster or self.faster) if other.timed else (self.faster or other.faster)
        errors = None if self.errors is None and other.errors is None else (self.errors or 0) + (other.errors or 0)
        return Delta(self.requests + other.requests, errors, faster, self.timed + other.timed)


@dataclass(frozen=True, slots=True)
class Strain:
    """How hard-pressed a pod was, as far as its dialect tells.

    Attributes:
        queue: requests that waited at the end of the interval; None: not known.
        saturation: how full it was then, from 0 to 1; None: not known.
        timeouts: requests that were given up or shed for lack of room in the interval; None: not known.
    """

    queue: float | None = None
    saturation: float | None = None
    timeouts: int | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """What a budget counted in a window, over all revisions of the model.

    Attributes:
        requests, bad: in the part of the window that is known.
        known: how long (s) that part is.
    """

    requests: int
    bad: int
    known: float


@dataclass(frozen=True, slots=True)
class Interval:
    """What both arms did in one interval.

    Attributes:
        start, end: the evaluation instants that bound it.
        oldest_start: scrape time of the oldest sample that the differences start from: requests since then are in.
        trial: pod → counts of the revision on trial.
        control: pod → counts of the stable revision; empty where there is none to compare with.
        strain: pod of the revision on trial → how hard-pressed it was; without those of which nothing is known.
    """

    start: datetime
    end: datetime
    oldest_start: datetime
    trial: Mapping[str, Delta]
    control: Mapping[str, Delta]
    strain: Mapping[str, Strain] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class History:
    """Intervals in which the stable revision was alone: lately one by one, and over a longer time in blocks of minutes.

    `by_blocks` may be empty: then the blocks of the near ones count.
    """

    near: tuple[Interval, ...] = ()
    by_blocks: tuple[Interval, ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that Prometheus said about one model at one instant.

    Attributes:
        state, message: what is known, and in words.
        time: the evaluation instant.
        subject: the revision that they speak of: the one on trial, else the one that serves; "" for none in particular.
        intervals: those closed since the last look, oldest first.
        history: what the stable revision did earlier, given once at the start of a trial.
        windows: window length (s) → what the serving revision did in the last such window.
        tallies: what a budget counts → window length (s) → what it counted; none before its past was read.
        data_age: age of the newest sample (s).
        values: (query, revision) → value; revision "" speaks for the whole model.
        query_errors: query → why it has no value: it concerns the rules of that query alone.
        sources: kind of rule ("Errors", "Slow") → the query that shows its counts to a person.
        last_traffic: revision → latest instant at which its requests were seen to rise.
        reason: why it is known no better, in one CamelCase word, where the state alone says less; else "".
    """

    state: DataState
    message: str
    time: datetime
    subject: str = ""
    intervals: tuple[Interval, ...] = ()
    history: History | None = None
    windows: Mapping[float, Delta] = field(default_factory=dict)
    tallies: Mapping[Sli, Mapping[float, Tally]] = field(default_factory=dict)
    data_age: float | None = None
    values: Mapping[tuple[str, str], float] = field(default_factory=dict)
    query_errors: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    last_traffic: Mapping[str, datetime] = field(default_factory=dict)
    reason: str = ""

    @property
    def word(self) -> str:
        """The state in one word, as a condition's reason."""
        return self.reason or self.state.value


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision that the spec asks for, or that once served."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Workload:
    """The pods of one revision as the API server shows them.

    Attributes:
        replicas: pods its Deployment asks for; None while it has no Deployment.
        ready: pods that are Ready.
        trouble: the pods' own reason why they are not, e.g. CrashLoopBackOff; "" if none.
        trouble_message: the same in a sentence.
        nodes: pod → the node it is on.
    """

    replicas: int | None = None
    ready: int = 0
    trouble: str = ""
    trouble_message: str = ""
    nodes: Mapping[str, str] = field(default_factory=dict)


class RouteState(StrEnum):
    """What the router did with the weights it was given last."""

    ABSENT = "RouteAbsent"
    PENDING = "WaitingForRouter"
    PROGRAMMED = "Programmed"
    REFUSED = "Refused"


@dataclass(frozen=True, slots=True)
class Route:
    """The route as the router reports it.

    Attributes:
        state: what became of the weights it was given last.
        weights: revision → percent that the router was last seen to apply.
        reason, message: the router's own words when it refused, or what is waited for.
    """

    state: RouteState = RouteState.ABSENT
    weights: Mapping[str, int] = field(default_factory=dict)
    reason: str = "RouteAbsent"
    message: str = "no route yet"
