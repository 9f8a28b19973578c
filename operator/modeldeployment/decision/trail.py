"""How the evidence of a trial went: a few points in the status, for people.

A point is the last look within a stretch of time. Once there would be more than TRAIL_POINTS_MAX stretches, they become
twice as long, and of two points that fall into one the later stays: so the newest is always there, and a trial of any
length fits. A new phase (rollout, watch, comparison) begins anew; the last trail stays until then, so also after a
rollback.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from modeldeployment.api.quantities import seconds
from modeldeployment.api.status import TRAIL_POINTS_MAX, RolloutStatus, Trail
from modeldeployment.decision import kernel, sequential
from modeldeployment.decision.hypothesis import Compare, Plan
from modeldeployment.decision.memory import Memory, plan
from modeldeployment.decision.view import View

LIMIT: Final = 99
"""Tenths of log10 beyond which nothing is told apart."""


class Point(NamedTuple):
    """One look.

    `after`: seconds since the trail began, to `every_seconds`. `weight`: percent of the traffic. `worse`, `good`:
    log10 of the e-value over what decides (0 decides); None where no such test is made.
    """

    after: int
    weight: int
    worse: float | None
    good: float | None


def follow(view: View, rollout: RolloutStatus, memory: Memory) -> Trail | None:
    """The trail with this look; as it was while there is no evidence."""
    kept, states = view.status.trail, memory.states
    if not states:
        return kept
    began = max(t for t in (rollout.start_time, rollout.promotion_time, rollout.compare_time) if t)
    if kept is None or kept.revision != rollout.revision or kept.start_time < began:
        every = max(1, round(seconds(view.spec.rollout.analysis.interval)))
        kept = Trail(revision=rollout.revision, version=rollout.version, start_time=view.now, every_seconds=every)
    every, rows = kept.every_seconds, _rows(kept.points)
    since = max(0.0, (view.now - kept.start_time).total_seconds())
    while since >= every * TRAIL_POINTS_MAX:
        every, rows = 2 * every, {place // 2: row for place, row in rows.items()}
    on_trial = view.status.canary or view.status.stable
    assert on_trial is not None  # somebody is on trial
    known = {name: state for name, state in states.items() if isinstance(state, sequential.RuleState)}
    worse, good = _evidence(known, plan(view.spec, rollout))
    place = int(since // every)
    rows.pop(place, None)  # the newest is the last
    rows[place] = f"{place},{on_trial.weight or 0},{_tenths(worse)},{_tenths(good)}"
    points = " ".join(f"{place},{row.partition(',')[2]}" for place, row in rows.items())
    return kept.model_copy(update={"every_seconds": every, "points": points})


def points(trail: Trail) -> tuple[Point, ...]:
    """The points, oldest first. Raises ValueError where the text is none of `follow`."""
    out = []
    for row in trail.points.split():
        place, weight, worse, good = row.split(",")
        if not (0 <= int(place) < TRAIL_POINTS_MAX and 0 <= int(weight) <= 100):
            raise ValueError(f"no point of a trail: {row}")
        out.append(Point(int(place) * trail.every_seconds, int(weight), _parsed(worse), _parsed(good)))
    return tuple(out)


def _rows(text: str) -> dict[int, str]:
    """Place → point as text; none where a person wrote something else there."""
    try:
        return {int(row.partition(",")[0]): row for row in text.split()}
    except ValueError:
        return {}


def _evidence(states: Mapping[str, sequential.RuleState], of: Plan) -> tuple[float | None, float | None]:
    """log of the evidence of all rules together over what decides: that it is worse, and that it is good."""
    if not states:
        return None, None
    good = min(state.passing for state in states.values()) - math.log(1 / of.beta)
    able = [state for state in states.values() if state.bound.rolls_back]
    watching = [state.alarm for state in able if state.bound.compare is Compare.WATCH]
    if watching:
        return float(kernel.log_mean_exp(watching)) - math.log(of.day), good
    if not able:
        return None, good
    decides = math.log(1 / of.alpha)
    joint = sequential.judge(states, of).log_e - decides
    # A rule whose gate against the bound is shut adds nothing; how near it is shows all the same.
    shares = math.log(len(able)) + decides
    shut = [min(s.worse - shares, s.absolute - s.log_gate) for s in able if s.log_e_fail == -math.inf]
    return max(joint, *shut) if shut else joint, good


def _tenths(log_e: float | None) -> str:
    """Rounded down: what falls short by little does not decide."""
    return "" if log_e is None else str(math.floor(max(-LIMIT, min(LIMIT, 10 * log_e / math.log(10)))))


def _parsed(tenths: str) -> float | None:
    return int(tenths) / 10 if tenths else None
