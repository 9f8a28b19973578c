"""The fleet's loop over a fake API server: who wins, what is not lost, what one model cannot do to the others."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from builders import ABSENT, model_deployment, model_policy
from modeldeployment.api.base import JSON
from modeldeployment.api.conditions import find
from modeldeployment.api.status import RevisionStatus
from modeldeployment.controller import fleet as module
from modeldeployment.controller.fleet import Fleet
from modeldeployment.controller.kube import ApiError
from modeldeployment.controller.policy import Policy
from modeldeployment.controller.recorder import Recorder
from modeldeployment.controller.resources import (
    DEPLOYMENTS,
    MODEL_DEPLOYMENTS,
    MODEL_POLICIES,
    MODEL_REVISIONS,
    Resource,
)
from modeldeployment.controller.store import Store
from modeldeployment.controller.telemetry import Telemetry
from modeldeployment.decision.evidence import DataState, Evidence
from unit.controller.fake_kube import FakeKube

FRAUD = ("default", "fraud")


class Rig:
    """A fleet that runs, and the API server that it sees."""

    def __init__(self, kube: FakeKube | None = None) -> None:
        self.kube = kube or FakeKube()
        self.store = Store(lambda key: self.fleet.mark(key), lambda: self.fleet.mark_all())
        self.policy = Policy(self.store, self.kube, lambda record: None)
        self.telemetry = Telemetry()
        self.fleet = Fleet(self.store, self.kube, self.policy, Recorder(self.kube), self.telemetry)

    def model(self, name: str = "fraud", overrides: JSON | None = None) -> None:
        """Somebody applies a ModelDeployment."""
        hosts = {"spec.traffic.gateway.hostnames": [f"{name}.example.com"]}
        obj = model_deployment({**hosts, **(overrides or {})}, name=name)
        obj["metadata"]["generation"] = 1
        self.see(MODEL_DEPLOYMENTS, obj)

    def see(self, resource: Resource, obj: JSON) -> JSON:
        """The API server has an object, and the watch shows it."""
        held = self.kube.hold(resource, obj)
        self.store.put(resource, held)
        return held

    def stored(self, resource: Resource = MODEL_DEPLOYMENTS, name: str = "fraud") -> JSON:
        """A copy of what the API server has."""
        return copy.deepcopy(self.kube.objects[resource]["default", name])

    def entry(self, name: str = "fraud") -> Any:
        """What the fleet knows of a model."""
        return self.fleet._entries["default", name]

    def state(self, name: str = "fraud") -> str:
        """The reason of Progressing, as stored."""
        conditions = self.stored(name=name).get("status", {}).get("conditions", ())
        return next((c["reason"] for c in conditions if c["type"] == "Progressing"), "")


@asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[Rig]:
    """The loop goes round while the block runs."""
    task = asyncio.create_task(rig.fleet.run())
    try:
        yield rig
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(what: str, check: Callable[[], Any], rounds: int = 1_000) -> None:
    """Waits; fails in words."""
    for _ in range(rounds):
        if check():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"never: {what}")


def _touch(rig: Rig) -> None:
    """Something happens to a child that the operator must decide upon."""
    deployment = rig.stored(DEPLOYMENTS, rig.entry().target.name)
    deployment["spec"]["replicas"] = 2
    rig.see(DEPLOYMENTS, deployment)


async def test_a_status_that_somebody_else_wrote_is_gone_on_from() -> None:
    """Another leader quarantined the revision, and the watch showed it: this one does not write over it."""
    rig = Rig()
    rig.model()
    async with running(rig):
        await until("a first version", lambda: rig.state() == "Initializing")
        obj = rig.stored()
        entry = {"revision": rig.entry().target.name, "version": "1", "attempt": 1, "reason": "Aborted"}
        obj["status"]["quarantined"] = [{**entry, "message": "by another", "time": "2026-01-01T00:00:00Z"}]
        obj["status"].pop("canary"), obj["status"].pop("rollout")
        rig.see(MODEL_DEPLOYMENTS, obj)
        await until("it is seen", lambda: rig.entry().status.quarantined)
        _touch(rig)
        await until("a decision upon it", lambda: rig.state() == "Aborted")
        assert rig.stored()["status"]["quarantined"][0]["message"] == "by another"
        assert "canary" not in rig.stored()["status"]


async def test_a_spec_edit_is_not_lost_behind_a_late_answer() -> None:
    """A person pauses the model while the answer of a status write is on its way: the pause counts."""
    late: list[int] = []

    class Late(FakeKube):
        async def put_status(self, resource: Resource, obj: JSON, status: JSON) -> JSON:
            answer = await super().put_status(resource, obj, status)
            if resource is MODEL_DEPLOYMENTS and rig.state() and not late:
                late.append(1)
                rig.store.put(MODEL_DEPLOYMENTS, copy.deepcopy(answer))
                edited = rig.stored()
                edited["spec"]["suspend"] = {"mode": "All"}
                edited["metadata"]["generation"] = 2
                rig.see(MODEL_DEPLOYMENTS, edited)
                await asyncio.sleep(0.1)
            return answer

    rig = Rig(Late())
    rig.model()
    async with running(rig):
        await until("the pause to be seen", lambda: rig.stored().get("status", {}).get("observedGeneration") == 2)
        assert rig.entry().spec.suspend is not None
        assert rig.state() == "Suspended"


async def test_a_deadline_is_met_between_looks() -> None:
    """The analysis interval is five minutes, the progress deadline a second: nobody waits for the next look."""
    rig = Rig()
    rig.model(overrides={"spec.rollout.progressDeadline": "1s", "spec.rollout.analysis": {"interval": "5m"}})
    async with running(rig):
        await until("the deadline", lambda: rig.state() == "ProgressDeadlineExceeded")


async def test_one_model_that_cannot_be_told_leaves_the_others_their_look() -> None:
    """A ModelRevision of a newer version, which does not parse: the other models are asked for, and it is too."""
    rig = Rig()
    for name in ("good", "bad"):
        rig.model(name)
    async with running(rig):
        await until("both", lambda: rig.state("good") and rig.state("bad"))
        bad = rig.entry("bad")
        revision = rig.stored(MODEL_REVISIONS, bad.target.name)
        revision["spec"]["fieldOfANewerVersion"] = 1
        rig.see(MODEL_REVISIONS, revision)
        bad.status = bad.status.model_copy(update={"stable": RevisionStatus(revision=bad.target.name, version="1")})
        asked = _fake_look(rig)
        await rig.fleet._look([rig.entry("good"), bad], datetime.now(UTC), 30.0)
        assert {key[1] for key in asked} == {"bad", "good"}


async def test_a_look_that_waits_for_one_model_holds_up_no_other() -> None:
    """One model's query hangs for looks and looks: the others are looked at meanwhile, it is not asked for twice at
    once; and when its look has ended, it is one of them again."""
    rig = Rig()
    for name in ("good", "slow"):
        rig.model(name, {"spec.rollout.analysis": {"interval": "1s"}})
    async with running(rig):
        await until("both", lambda: rig.state("good") and rig.state("slow"))
        hangs, asked = asyncio.Event(), list[list[str]]()

        async def look(watched: Iterable[Any], instant: datetime, _: Any) -> AsyncIterator[dict[Any, Evidence]]:
            keys = [model.key for model in watched]
            asked.append([key[1] for key in keys])
            nothing = Evidence(DataState.NO_TRAFFIC, "none", instant)
            yield {key: nothing for key in keys if key[1] == "good"}
            if ("default", "slow") in keys:
                await hangs.wait()
                yield {key: nothing for key in keys if key[1] == "slow"}

        rig.policy.prometheus = object()  # type: ignore[assignment]
        rig.fleet._evidence.look = look  # type: ignore[method-assign,assignment]
        await until("looks at the other", lambda: asked[-2:] == [["good"]] * 2)
        assert asked[:-2] == [["good", "slow"]]
        assert rig.entry("good").evidence.state is DataState.NO_TRAFFIC
        assert rig.entry("slow").evidence is None or rig.entry("slow").evidence.state is not DataState.NO_TRAFFIC
        hangs.set()
        await until("a look at both", lambda: asked[-1] == ["good", "slow"])
        await until("its evidence", lambda: rig.entry("slow").evidence.state is DataState.NO_TRAFFIC)


async def test_looks_are_as_late_as_the_policy_says() -> None:
    """The delay of the ModelPolicy reaches the instants that are asked for."""
    rig = Rig()
    rig.model(overrides={"spec.rollout.analysis": {"interval": "1s"}})
    policy = model_policy({"spec.prometheus.secretRef": ABSENT, "spec.prometheus.delay": "40s"})
    policy["metadata"] |= {"uid": "uid-policy", "generation": 1}
    rig.see(MODEL_POLICIES, policy)
    async with running(rig):
        ages: list[float] = []

        async def look(watched: Iterable[Any], instant: datetime, _: Any) -> AsyncIterator[dict[Any, Evidence]]:
            ages.append((datetime.now(UTC) - instant).total_seconds())
            yield {}

        rig.fleet._evidence.look = look  # type: ignore[method-assign,assignment]
        await until("two looks", lambda: len(ages) > 1)
    assert min(ages) >= 40.0


async def test_a_dialect_that_nobody_knows_is_said_and_asks_for_nothing() -> None:
    """The others are looked at; this one's evidence names the dialects that there are."""
    rig = Rig()
    rig.model("good")
    rig.model("odd", {"spec.serving.metrics": {"dialect": "acme"}})
    async with running(rig):
        await until("both", lambda: rig.state("good") and rig.state("odd"))
        asked = _fake_look(rig)
        await rig.fleet._look([rig.entry("good"), rig.entry("odd")], datetime.now(UTC), 30.0)
        assert {key[1] for key in asked} == {"good"}
        evidence = rig.entry("odd").evidence
        assert evidence.state is DataState.NO_DATA
        assert "there is no metrics dialect acme: the ModelPolicy has none" in evidence.message


async def test_a_look_that_fails_is_a_query_error_and_not_silence() -> None:
    """A defect in a look: every model of it says so, it is counted, and the next look comes."""
    rig = Rig()
    rig.model()
    async with running(rig):
        await until("it is known", lambda: rig.state())

        async def broken(*_: Any) -> AsyncIterator[dict[Any, Evidence]]:
            raise ValueError("a defect")
            yield {}

        rig.policy.prometheus = object()  # type: ignore[assignment]
        rig.fleet._evidence.look = broken  # type: ignore[method-assign,assignment]
        await rig.fleet._look([rig.entry()], datetime.now(UTC), 30.0)
        evidence = rig.entry().evidence
        assert evidence.state is DataState.QUERY_ERROR and "a defect" in evidence.message
        assert rig.telemetry.errors.labels("look")._value.get() >= 1


async def test_refused_writes_come_less_and_less_often() -> None:
    """An API server that answers 429 is asked again after the time it asks for, and others later each time."""
    rig = Rig()
    rig.kube.refuses["STATUS", "ModelDeployment"] = ApiError(429, "TooManyRequests", "slow down", retry_after=120.0)
    rig.model()
    async with running(rig):
        await until("a refusal", lambda: rig.fleet._again)
        assert rig.fleet._again[FRAUD] - asyncio.get_running_loop().time() > 100
        waits = []
        for _ in range(8):
            rig.fleet._failed(rig.entry(), "api", ApiError(422, "Invalid", "no"))
            waits.append(round(rig.fleet._again[FRAUD] - asyncio.get_running_loop().time()))
    assert waits == sorted(waits) and waits[-1] <= 1.25 * module.RETRY_MAX


async def test_a_spec_that_cannot_be_read_is_told_once() -> None:
    """A field of a newer CRD: nothing is done, and an Event and a count say so."""
    rig = Rig()
    rig.model()
    async with running(rig):
        await until("it is known", lambda: rig.state())
        obj = rig.stored()
        obj["spec"]["fieldOfANewerVersion"], obj["metadata"]["generation"] = 1, 2
        rig.see(MODEL_DEPLOYMENTS, obj)
        await until("it is told", lambda: rig.telemetry.errors.labels("spec")._value.get())
        rig.fleet.mark(FRAUD)
        await asyncio.sleep(0.1)
        assert rig.telemetry.errors.labels("spec")._value.get() == 1
        assert "fieldOfANewerVersion" in rig.entry().problem
        assert find(rig.entry().status.conditions, "Progressing") is not None


def _fake_look(rig: Rig) -> list[tuple[str, str]]:
    """Stands for Prometheus; returns the list of models that are asked for."""
    asked: list[tuple[str, str]] = []

    async def look(watched: Iterable[Any], *_: Any) -> AsyncIterator[dict[Any, Evidence]]:
        asked.extend(model.key for model in watched)
        yield {}

    rig.policy.prometheus = object()  # type: ignore[assignment]
    rig.fleet._evidence.look = look  # type: ignore[method-assign,assignment]
    return asked
