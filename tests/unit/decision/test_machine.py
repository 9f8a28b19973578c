"""Anything may happen at any time: random events over the simulator, and what must hold whatever they are."""

from __future__ import annotations

import copy
import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from modeldeployment.decision.decide import wanted_weights
from modeldeployment.decision.evidence import DataState
from unit.decision.worlds import BLIND, Behaviour, World

VERSIONS = ("1", "2", "3")
PLANS: tuple[list[dict[str, str]], ...] = (
    [{"traffic": "10%"}],
    [{"traffic": "5%"}, {"traffic": "50%"}],
    [{"traffic": "20%", "duration": "30s"}, {"traffic": "100%"}],
)
SHORT: dict[str, Any] = {
    "spec.rollout.watch": "3m",
    "spec.rollout.deadline": "5m",
    "spec.rollout.progressDeadline": "1m",
    "spec.serving.replicas": 2,
    "spec.rollout.canary": {"steps": PLANS[0]},
}
versions = st.sampled_from(VERSIONS)
lengths = st.sampled_from([10, 30, 90])


class Anything(RuleBasedStateMachine):
    """One world, and a twin of it whose operator is killed after every tick: both must decide the same.

    `World.check` holds the invariants of a single look: weights add up to 100 and rise only onto Ready pods, by a
    router that takes them, by a step of the plan; nothing with traffic is scaled down; a look twice is the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.world = World(SHORT)
        self.twin = World(SHORT)
        self.twin.restarts_each_tick = True
        for world in self._both():
            world.fleeting_pods = True
            world.serving().ask("2")

    def _both(self) -> tuple[World, World]:
        return self.world, self.twin

    def _change(self, overrides: dict[str, Any]) -> None:
        for world in self._both():
            world.change(copy.deepcopy(overrides))

    @rule(version=versions, then=lengths)
    def ask(self, version: str, then: int) -> None:
        """Another version, or the same."""
        self._change({"spec.model.version": version})
        self._pass(then)

    @rule(plan=st.sampled_from(PLANS), then=lengths)
    def edit_plan(self, plan: list[dict[str, str]], then: int) -> None:
        """Other steps, in mid-rollout or not."""
        self._change({"spec.rollout.canary": {"steps": plan}})
        self._pass(then)

    @rule(by=st.sampled_from([1, 1, -1]), then=lengths)
    def edit_attempt(self, by: int, then: int) -> None:
        """A retry, or Git going back to an earlier attempt."""
        self._change({"spec.rollout.attempt": max(1, self.world.spec.rollout.attempt + by)})
        self._pass(then)

    @rule(bound=st.sampled_from(["1%", "5%"]), then=lengths)
    def edit_bound(self, bound: str, then: int) -> None:
        """What good is."""
        self._change({"spec.objectives[0].errorRate.max": bound, "spec.rollout.rollbackOn.errorRate": f">{bound}"})
        self._pass(then)

    @rule(asked=st.sampled_from(["Hold", "Promote", "Rollback"]), then=lengths)
    def edit_inconclusive(self, asked: str, then: int) -> None:
        """What happens at the deadline."""
        self._change({"spec.rollout.onInconclusive": asked})
        self._pass(then)

    @rule(mode=st.sampled_from([None, "Advance", "All"]), then=lengths)
    def suspend(self, mode: str | None, then: int) -> None:
        """A person's pause, or its end."""
        self._change({"spec.suspend": mode and {"mode": mode}})
        self._pass(then)

    @rule(version=versions, action=st.sampled_from(["Abort", "Promote"]), then=lengths)
    def override(self, version: str, action: str, then: int) -> None:
        """A person's word on one revision."""
        name = self.world.names.get(version)
        self._change({"spec.rollout.override": name and {"revision": name, "action": action}})
        self._pass(then)

    @rule(version=versions, dead=st.booleans(), then=lengths)
    def pods(self, version: str, dead: bool, then: int) -> None:
        """All pods of a version die, or recover."""
        for world in self._both():
            world.does(version).dead = dead
        self._pass(then)

    @rule(
        version=versions,
        does=st.sampled_from(
            [
                Behaviour(),
                Behaviour(errors=0.003),
                Behaviour(errors=0.3),
                Behaviour(slow=0.3),
                Behaviour(ready_after=None, trouble=("ImagePullBackOff", "no such image")),
                Behaviour(crash=(25.0, 35.0), trouble=("CrashLoopBackOff", "back-off")),
            ]
        ),
        then=lengths,
    )
    def turns(self, version: str, does: Behaviour, then: int) -> None:
        """A version turns good, bad, slow, or will not start."""
        for world in self._both():
            world.behaviours[version] = copy.copy(does)
        self._pass(then)

    @rule(delay=st.sampled_from([0.0, 15.0, 60.0]), refuses=st.booleans(), then=lengths)
    def router(self, delay: float, refuses: bool, then: int) -> None:
        """The router is quick, slow, or takes nothing."""
        for world in self._both():
            world.router.delay = delay
            world.router.refusal = ("GatewayNotFound", "no such Gateway") if refuses else None
        self._pass(then)

    @rule(state=st.sampled_from([None, *BLIND, DataState.UNSUPPORTED]), then=lengths)
    def data(self, state: DataState | None, then: int) -> None:
        """Prometheus answers, or not, in one of its ways."""
        for world in self._both():
            world.data = state
        self._pass(then)

    @rule(rps=st.sampled_from([0.0, 1.0, 200.0]), then=lengths)
    def load(self, rps: float, then: int) -> None:
        """Clients come and go."""
        for world in self._both():
            world.rps = rps
        self._pass(then)

    @precondition(lambda self: self.world.status.stable)
    @rule(conflict=st.booleans(), then=lengths)
    def conflict(self, conflict: bool, then: int) -> None:
        """Another ModelDeployment has the host name, or gave it up."""
        for world in self._both():
            world.conflict = "it belongs to ModelDeployment default/older" if conflict else ""
        self._pass(then)

    @rule(then=lengths)
    def nothing_happens(self, then: int) -> None:
        """The clock alone, and all that it brings."""
        self._pass(then)

    def _pass(self, length: int) -> None:
        for world in self._both():
            self._run(world, length)

    def _run(self, world: World, length: int) -> None:
        for _ in range(length // 10):
            before, records = world.status, len(world.records)
            decision = world.tick()
            new = world.records[records:]
            blind = world.data is not None
            for record in new:
                judged = record.effect in ("StepPassed", "PromotedInconclusive", "RolledBack")
                unsupported = record.effect == "PromotedInconclusive" and world.data is DataState.UNSUPPORTED
                assert not (judged and blind) or unsupported, f"{record.effect} without evidence: {world.data}"
                if record.effect == "Promoted":
                    rollout = before.rollout
                    passed = {"StepPassed", "PromotedInconclusive", "PromotionRequested"}
                    asked = rollout is not None and rollout.step >= rollout.steps
                    assert asked or passed & {r.effect for r in new}, "promoted, and no step was passed"
            self._kept_out(world, before_weights=wanted_weights(before), after=wanted_weights(decision.status))

    def _kept_out(self, world: World, before_weights: dict[str, int], after: dict[str, int]) -> None:
        """A quarantined attempt gets no weight that it did not have."""
        stable = world.status.stable
        for entry in world.status.quarantined:
            rising = after.get(entry.revision, 0) > before_weights.get(entry.revision, 0)
            serves = stable is not None and stable.revision == entry.revision
            rollout = world.status.rollout
            retried = rollout is not None and rollout.revision == entry.revision and rollout.attempt > entry.attempt
            assert not rising or serves or retried, f"{entry.revision} is kept out and gets traffic"

    def teardown(self) -> None:
        """Whatever happened: once all is well again, what the spec asks for comes to serve everything."""
        world = self.world
        world.change(
            {"spec.suspend": None, "spec.rollout.override": None, **SHORT, "spec.rollout.canary": self._plan()}
        )
        world.behaviours.clear()
        world.router.delay, world.router.refusal, world.data, world.conflict, world.rps = 0.0, None, None, "", 200.0
        target = world.target.version

        def serves() -> bool:
            return world.weight(target) == 100 and world.state in ("RolloutComplete", "Watching")

        def kept_out() -> bool:
            return world.view().quarantine(world.name(target)) is not None and not serves()

        for _ in range(3):  # what it did before may still take it back, and then a person retries
            world.until(lambda: serves() or kept_out(), most=1800)
            if serves():
                return
            world.change({"spec.rollout.attempt": max(q.attempt for q in world.status.quarantined) + 1})
        raise AssertionError(f"{target} does not come to serve: {world.state}: {world.message}")

    def _plan(self) -> dict[str, Any]:
        plan: dict[str, Any] = self.world.overrides["spec.rollout.canary"]
        return plan

    @invariant()
    def a_restart_changes_nothing(self) -> None:
        """The operator that is killed all the time took the same decisions as the one that lives."""
        lives = [(r.time, r.revision, r.effect, r.rule) for r in self.world.records]
        dies = [(r.time, r.revision, r.effect, r.rule) for r in self.twin.records]
        assert lives == dies, f"only one of the two: {set(lives) ^ set(dies)}"
        assert wanted_weights(self.world.status) == wanted_weights(self.twin.status)
        assert self.world.state == self.twin.state


Anything.TestCase.settings = settings(
    max_examples=int(os.environ.get("MACHINE_EXAMPLES", "40")),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestAnything = Anything.TestCase
