"""Whose fault a broken bound is: the version's, everybody's, one pod's or node's, or that of too many requests.

Only proofs speak for the version: what is not proven to be another's fault is the canary's own, as nothing is safer
than to take it back. The tests are those of the rule, on the counts of its pods (kernel.py):

- Pod, Node: without the worst pod (or node) the others are proven good, log mean E_pass ≥ ln(1/β), and it is proven
  worse than they are, log mean E_rel ≥ ln(k/α) of k pods to choose from.
- Capacity: each pod of the canary gets at least LOAD_RATIO times the requests that one of stable's would have with all
  of the traffic, and they are proven slower. LOAD_RATIO_PRESSED is enough where its runtime says that they are full or
  requests wait; for errors, where nearly all of them are those that it counts as given up or shed for lack of room. A
  queue alone blames nobody but the version: one that is slower fills its own at the same load.
- Shared: within a block under way (blocks.py) both arms are proven above the bound, log mean E_abs ≥ ln(2/α) each, of
  the two blocks that overlap; or both were above detectable × bound in the last minutes (RuleState.bad_now). That
  proves less: it only holds, and what is proven worse than stable is taken back all the same.

What was found stays found until something else is proven, so that a restart, which forgets the pods, takes nobody back:
Pod and Node until the others are proven above the bound, too (log mean E_abs ≥ ln(1/α)); Capacity until its pods get
less than LOAD_RATIO_RELIEVED times the requests (a queue is there at one moment and not at the next), or other failures
come; Shared while both arms are above it. Once the pod is gone or healed, or there are enough pods, the tests begin
anew: nobody is taken back for what somebody put right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from modeldeployment.api.status import Cause
from modeldeployment.decision import kernel
from modeldeployment.decision.arms import Counts, Interval
from modeldeployment.decision.sequential import RuleState

LOAD_RATIO: Final = 1.5
LOAD_RATIO_PRESSED: Final = 1.1
LOAD_RATIO_RELIEVED: Final = 1.0
QUEUE_MIN: Final = 1.0
"""Requests that wait in each pod of the canary, from which on its pods are pressed."""
SATURATION_MIN: Final = 0.9
"""How full its pods are, from which on they are pressed."""
TIMEOUTS_SHARE: Final = 0.9
"""Share of its failed requests that are given up or shed for lack of room, at least."""
LOAD_REQUESTS_MIN: Final = 30
"""Requests of each arm in the last interval that a load is told from."""


@dataclass(frozen=True, slots=True)
class Pods:
    """What is kept for the question of the cause: only in memory, so after a restart it begins anew.

    Attributes:
        canary: pod of the revision on trial → what it counted in all.
        intervals: in how many intervals.
        load: requests of one pod of the canary over those of one of stable's with all of the traffic, in the last
            interval; None: cannot tell.
        queue: requests that wait in each pod of the canary, at the end of the last interval; None: not known.
        saturation: how full each is then, from 0 to 1; None: not known.
        timeouts: requests of the canary that were given up or shed for lack of room, as far as that is known.
        told: bad requests in those intervals in which it is.
    """

    canary: Mapping[str, Counts] = field(default_factory=dict)
    intervals: int = 0
    load: float | None = None
    queue: float | None = None
    saturation: float | None = None
    timeouts: int = 0
    told: float = 0.0

    def add(self, interval: Interval) -> Pods:
        """One interval; one in which the weight moved tells nothing."""
        if interval.weight_moved:
            return self
        strain = interval.strain.values()
        timeouts = {pod: one.timeouts for pod, one in interval.strain.items() if one.timeouts is not None}
        return Pods(
            canary={**self.canary, **{p: self.canary.get(p, Counts()) + c for p, c in interval.canary.items()}},
            intervals=self.intervals + 1,
            load=_load(interval),
            queue=_mean(one.queue for one in strain),
            saturation=_mean(one.saturation for one in strain),
            timeouts=self.timeouts + sum(timeouts.values()),
            told=self.told + sum(c.low for pod, c in interval.canary.items() if pod in timeouts),
        )


def _load(interval: Interval) -> float | None:
    arms = [[c.n for c in arm.values() if c.n > 0] for arm in (interval.canary, interval.stable)]
    if min(sum(arm) for arm in arms) < LOAD_REQUESTS_MIN:
        return None
    # Stable keeps its pods while the canary takes some of its traffic: all of it is what a pod is meant to bear.
    canary, meant = sum(arms[0]) / len(arms[0]), sum(map(sum, arms)) / len(arms[1])
    return canary / meant


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


class Blame(NamedTuple):
    """A cause, and its evidence in a sentence."""

    cause: Cause
    message: str


def blame(
    state: RuleState,
    pods: Pods,
    nodes: Mapping[str, str],
    *,
    slow: bool,
    say: Callable[[Counts], str],
    before: Cause | None = None,
) -> Blame:
    """Whose fault it is that the rule failed.

    `nodes`: pod → node. `say`: counts in words, `1.2% failed (5 of 412)`. `before`: what was found at the last look.
    """
    by_node = _by_node(pods.canary, nodes)
    if found := _apart(state, pods.canary, pods.intervals):
        pod, own, others = found
        where = f" on node {nodes[pod]}" if pod in nodes else ""
        message = f"pod {pod}{where} alone: {say(own)}; its other pods are good: {say(others)}; delete it"
        return Blame(Cause.POD, message)
    if found := _apart(state, by_node, pods.intervals):
        node, own, others = found
        message = f"its pods on node {node} alone: {say(own)}; those elsewhere are good: {say(others)}; drain that node"
        return Blame(Cause.NODE, message)
    if message := _overloaded(pods, slow=slow, before=before is Cause.CAPACITY):
        return Blame(Cause.CAPACITY, message)
    if before is Cause.POD and not _others_bad(state, pods.canary, pods.intervals):
        return Blame(before, "one of its pods alone was proven bad, and the others are not since")
    if before is Cause.NODE and not _others_bad(state, by_node, pods.intervals):
        return Blame(before, "its pods on one node alone were proven bad, and the others are not since")
    return Blame(Cause.CANARY, "it is worse than the stable version at the same time")


def apart(state: RuleState, pods: Pods, nodes: Mapping[str, str]) -> bool:
    """Whether one pod, or the pods on one node, differ from all others. `nodes`: pod → node."""
    groups = (pods.canary, _by_node(pods.canary, nodes))
    return any(_apart(state, of, pods.intervals) is not None for of in groups)


def healed(state: RuleState, pods: Pods) -> bool:
    """Whether all pods together, as far as they are known, are proven to keep the bound itself."""
    whole, bound, theta = sum(pods.canary.values(), Counts()), state.bound.share, _theta(state, pods.intervals)
    good = kernel.pass_increments(whole.n, whole.high, bound=bound, detectable=1.0, theta=theta)
    return float(kernel.log_mean_exp(good)) >= math.log(1 / state.plan.beta)


def relieved(pods: Pods) -> bool:
    """Whether each pod of the canary gets no more requests than it is meant to bear, any more."""
    return pods.load is not None and pods.load < LOAD_RATIO_RELIEVED


def shared(state: RuleState, *, before: bool = False) -> bool:
    """Whether both arms break the bound now. `before`: whether they did at the last look."""
    counts, theta = state.row["blocks"]["counts"][0], state.row["blocks"]["theta"][0]
    share, proof = state.bound.share, math.log(len(counts) / state.plan.alpha)
    longer = counts[np.argmax(counts[:, 0])]
    if all(state.bad_now) or (before and longer[::2].all() and (longer[1::2] >= share * longer[::2]).all()):
        return True

    def broken(n: float, x: float, of: float) -> bool:
        by = kernel.absolute_increments(n, x, bound=share, theta=of)
        return x > share * n and float(kernel.log_mean_exp(by)) >= proof

    return any(
        broken(n_c, x_c, theta_c) and broken(n_s, x_s, theta_s)
        for (n_c, x_c, n_s, x_s), (theta_c, theta_s) in zip(counts.tolist(), theta.tolist(), strict=True)
    )


def _overloaded(pods: Pods, *, slow: bool, before: bool) -> str:
    """How its pods have too many requests, in a sentence; "" if they have not. `before`: they had, at the last look."""
    kept = before and (slow or pods.timeouts >= TIMEOUTS_SHARE * pods.told)
    if pods.load is None:
        return "each of its pods got too many requests; give it more pods" if kept else ""
    signs = _pressed(pods) if slow else _given_up(pods)
    least = LOAD_RATIO_RELIEVED if kept else LOAD_RATIO_PRESSED if signs else LOAD_RATIO
    if pods.load < least or not (slow or signs or kept):
        return ""
    often = f"each of its pods gets {pods.load:.1f} times the requests that one of stable's would have"
    return f"{', and '.join((often, *signs))}; give it more pods"


def _pressed(pods: Pods) -> list[str]:
    signs = []
    if pods.queue is not None and pods.queue >= QUEUE_MIN:
        signs.append(f"{pods.queue:.1f} wait in each")
    if pods.saturation is not None and pods.saturation >= SATURATION_MIN:
        signs.append(f"each is {pods.saturation:.0%} full")
    return signs


def _given_up(pods: Pods) -> list[str]:
    bad = sum(counts.low for counts in pods.canary.values())
    # Far more of them than failed requests are something that this rule does not count (answered 429, say).
    if not 0 < TIMEOUTS_SHARE * bad <= pods.timeouts <= bad / TIMEOUTS_SHARE:
        return []
    return [f"{min(pods.timeouts, bad):.0f} of its {bad:.0f} failed requests were given up or shed for lack of room"]


def _by_node(pods: Mapping[str, Counts], nodes: Mapping[str, str]) -> dict[str, Counts]:
    by_node: dict[str, Counts] = {}
    for pod, counts in pods.items():
        if pod in nodes:
            by_node[nodes[pod]] = by_node.get(nodes[pod], Counts()) + counts
    return by_node


def _apart(state: RuleState, groups: Mapping[str, Counts], intervals: int) -> tuple[str, Counts, Counts] | None:
    """The one group that differs from all others, its counts and theirs; None if it is not so clear."""
    found = _worst(groups)
    if found is None:
        return None
    _, own, others = found
    bound, plan, theta = state.bound, state.plan, _theta(state, intervals)
    good = kernel.pass_increments(others.n, others.high, bound=bound.share, detectable=bound.detectable, theta=theta)
    worse = kernel.relative_increments(own.n, own.low, others.n, others.low, theta_c=theta, theta_s=theta)
    if float(kernel.log_mean_exp(good)) < math.log(1 / plan.beta):
        return None
    if float(kernel.log_mean_exp(worse)) < math.log(sum(c.n > 0 for c in groups.values()) / plan.alpha):
        return None
    return found


def _others_bad(state: RuleState, groups: Mapping[str, Counts], intervals: int) -> bool:
    """Whether all but the worst group are proven above the bound, too."""
    found = _worst(groups)
    if found is None:
        return False
    others, theta = found[2], _theta(state, intervals)
    bad = kernel.absolute_increments(others.n, others.low, bound=state.bound.share, theta=theta)
    return float(kernel.log_mean_exp(bad)) >= math.log(1 / state.plan.alpha)


def _worst(groups: Mapping[str, Counts]) -> tuple[str, Counts, Counts] | None:
    """The group with the most bad requests beyond its share, its counts, those of the others; None of a single one."""
    groups = {name: counts for name, counts in groups.items() if counts.n > 0}
    if len(groups) < 2:
        return None
    whole = sum(groups.values(), Counts())
    # By name where they tie, so that two leaders blame the same one.
    worst = max(sorted(groups), key=lambda name: groups[name].low - groups[name].n * whole.low / whole.n)
    return worst, groups[worst], sum((counts for name, counts in groups.items() if name != worst), Counts())


def _theta(state: RuleState, intervals: int) -> float:
    """θ of sums over T intervals, which stand for the intervals one by one, as if they were alike: b = n·θ/T."""
    return state.thetas[0] / max(1, intervals)
