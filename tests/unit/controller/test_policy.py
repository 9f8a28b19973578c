"""The ModelPolicy over a fake API server: what it says of Prometheus, and that no trouble ends the fleet's loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from builders import ABSENT, model_policy
from modeldeployment.api.base import JSON
from modeldeployment.controller import policy as module
from modeldeployment.controller.kube import ApiError, NotLeaderError
from modeldeployment.controller.policy import OUTCOME_STANDS, POLICY, SECRET_AGAIN, SECRET_EVERY, STATUS_AGAIN, Policy
from modeldeployment.controller.resources import MODEL_POLICIES, SECRETS
from modeldeployment.controller.store import Store
from modeldeployment.metrics import QueryRecord
from unit.controller.fake_kube import FakeKube

NOW = datetime(2026, 11, 24, tzinfo=UTC)
LOOK = timedelta(seconds=30)
OPEN = {"spec.prometheus.secretRef": ABSENT, "spec.steadyInterval": "30s"}


class Rig:
    """A policy, its store and a fake API server."""

    def __init__(self) -> None:
        self.kube = FakeKube()
        self.store = Store(lambda key: None, lambda: None)
        self.policy = Policy(self.store, self.kube, lambda record: None)
        self.now = NOW

    def see(self, overrides: dict[str, Any]) -> None:
        """The policy is edited, and the watch shows it."""
        obj = model_policy(overrides)
        obj["metadata"] |= {"uid": "uid-policy", "generation": 1}
        self.store.put(MODEL_POLICIES, self.kube.hold(MODEL_POLICIES, obj))

    async def refresh(self, later: timedelta = timedelta(0)) -> None:
        """A round of the fleet's loop, and whatever it began."""
        self.now += later
        await self.policy.refresh(self.now)
        if self.policy._telling is not None:
            await asyncio.wait([self.policy._telling])

    async def look(self, *outcomes: str, later: timedelta = LOOK) -> None:
        """A look whose queries fared like this, and a round after it."""
        self.now += later
        await self.policy.refresh(self.now)
        for number, outcome in enumerate(outcomes):
            self.policy.observe(QueryRecord(f"query {number}", outcome, 0.1, 0))
        await self.refresh()

    @property
    def writes(self) -> int:
        """Status writes so far."""
        return sum(kind == "ModelPolicy" for _, kind, _ in self.kube.writes)

    @property
    def condition(self) -> JSON:
        """PrometheusReachable as stored; {} before the first."""
        conditions = self.kube.objects[MODEL_POLICIES][POLICY].get("status", {}).get("conditions", [{}])
        return dict(conditions[0])

    @property
    def told(self) -> tuple[str, str]:
        """Its status and reason."""
        return self.condition.get("status", ""), self.condition.get("reason", "")


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A policy whose Prometheus asks for nothing."""
    made = Rig()
    made.see(OPEN)
    await made.refresh()
    yield made
    await made.policy.aclose()


# --- PrometheusReachable ----------------------------------------------------------------------------------------


async def test_nothing_is_said_before_the_first_query(rig: Rig) -> None:
    """What was not asked has not answered."""
    assert rig.condition == {}
    await rig.look("ok")
    assert rig.told == ("True", "QueriesAnswered")


@pytest.mark.parametrize(
    ("outcomes", "status", "reason"),
    [
        (("ok", "timeout", "ok"), "False", "QueryTimeout"),
        (("timeout", "refused", "ok"), "False", "QueryRefused"),
        (("auth", "server"), "False", "QueryAuth"),
        (("bad_query", "ok"), "True", "QueriesAnswered"),
        (("cancelled", "ok"), "True", "QueriesAnswered"),
    ],
)
async def test_worst_of_a_look_is_told(rig: Rig, outcomes: tuple[str, ...], status: str, reason: str) -> None:
    """Whatever was asked last; a refused query was answered, and a cancelled one says nothing."""
    await rig.look(*outcomes)
    assert rig.told == (status, reason)


async def test_one_query_that_fails_beside_others_does_not_flap(rig: Rig) -> None:
    """Looks that fare alike are one status write, in whatever order their queries end."""
    for _ in range(5):
        await rig.look("ok", "timeout")
        await rig.look("timeout", "ok")
    assert rig.told == ("False", "QueryTimeout")
    assert rig.condition["message"] == "a query (query 1) failed: timeout"
    assert rig.writes == 1


async def test_what_failed_is_over_after_looks_without_failure(rig: Rig) -> None:
    """Prometheus is back: the condition says so, once."""
    await rig.look("refused")
    for _ in range(OUTCOME_STANDS + 1):
        await rig.look("ok")
    assert rig.told == ("True", "QueriesAnswered")
    assert rig.writes == 2


async def test_another_prometheus_begins_with_nothing_known(rig: Rig) -> None:
    """What the one before did is not held against it."""
    await rig.look("refused")
    rig.see({**OPEN, "spec.prometheus.url": "http://other:9090"})
    await rig.refresh()
    await rig.look("ok")
    assert rig.told == ("True", "QueriesAnswered")


async def test_status_of_another_version_is_written_anew(rig: Rig) -> None:
    """A condition that this version cannot read keeps it from nothing."""
    held = rig.kube.objects[MODEL_POLICIES][POLICY]
    rig.store.put(MODEL_POLICIES, rig.kube.hold(MODEL_POLICIES, {**held, "status": {"newer": 1}}))
    await rig.look("ok")
    assert rig.told == ("True", "QueriesAnswered")


# --- a status that cannot be written ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ApiError(403, "Forbidden", "no"), ApiError(0, "Unreachable", "gone"), NotLeaderError("no")], ids=repr
)
async def test_refused_status_is_left_alone_for_a_while(
    rig: Rig, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounds of the loop do not repeat it; after the back-off it is written."""
    tries = 0
    with monkeypatch.context() as patched:

        async def fail(*_: object) -> None:
            nonlocal tries
            tries += 1
            raise error

        patched.setattr(rig.kube, "put_status", fail)
        await rig.look("ok")
        for _ in range(20):
            await rig.refresh(timedelta(seconds=1))
    assert tries == 1
    await rig.refresh(STATUS_AGAIN)
    assert rig.told == ("True", "QueriesAnswered")


async def test_fleet_does_not_wait_for_the_status(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that takes for ever delays no round, and is the only one under way."""
    began, never = 0, asyncio.Event()

    async def hang(*_: object) -> None:
        nonlocal began
        began += 1
        await never.wait()

    monkeypatch.setattr(rig.kube, "put_status", hang)
    rig.policy.observe(QueryRecord("errors", "ok", 0.1, 0))
    for _ in range(5):
        rig.now += STATUS_AGAIN
        await rig.policy.refresh(rig.now)
        rig.policy.observe(QueryRecord("errors", "ok", 0.1, 0))
        await asyncio.sleep(0)
    assert began == 1


# --- policies and Secrets that cannot be used -------------------------------------------------------------------


async def test_secret_that_cannot_be_read_leaves_the_client_of_before(rig: Rig) -> None:
    """A moment's trouble makes nobody blind: the condition tells, the evidence goes on."""
    before = rig.policy.prometheus
    rig.see({"spec.steadyInterval": "30s"})
    await rig.refresh()
    assert rig.policy.prometheus is before is not None
    assert rig.told == ("False", "PolicyNotUsable")
    assert "cannot be read" in rig.condition["message"]


async def test_secret_is_asked_for_soon_while_there_is_no_client() -> None:
    """A process that starts in a bad moment is blind for seconds, not for a minute."""
    rig = Rig()
    rig.see({})
    await rig.refresh()
    assert rig.policy.prometheus is None and "cannot be read" in rig.policy.problem
    reference = model_policy()["spec"]["prometheus"]["secretRef"]
    rig.kube.hold(SECRETS, {"metadata": dict(reference), "data": {"token": "dG9rZW4="}})
    await rig.refresh(SECRET_AGAIN)
    assert rig.policy.problem == "" and rig.policy.prometheus is not None
    await rig.policy.aclose()


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError("reset"), KeyError("data")], ids=repr)
async def test_refresh_never_raises(rig: Rig, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever reading the Secret runs into is a problem that is told, and over when it is over."""
    rig.see({"spec.steadyInterval": "30s"})
    with monkeypatch.context() as patched:

        async def fail(*_: object) -> None:
            raise error

        patched.setattr(rig.kube, "get", fail)
        await rig.refresh()
    assert rig.policy.problem
    reference = model_policy()["spec"]["prometheus"]["secretRef"]
    rig.kube.hold(SECRETS, {"metadata": dict(reference), "data": {"token": "dG9rZW4="}})
    await rig.refresh(SECRET_EVERY)
    assert rig.policy.problem == ""


async def test_secret_that_is_never_answered_does_not_hold_up_the_loop(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop goes on with the client of before."""
    monkeypatch.setattr(module, "SECRET_SECONDS_MAX", 0.01)
    monkeypatch.setattr(rig.kube, "get", lambda *_: asyncio.Event().wait())
    rig.see({"spec.steadyInterval": "30s"})
    await asyncio.wait_for(rig.refresh(), 60)
    assert "no answer within" in rig.policy.problem
    assert rig.policy.prometheus is not None


async def test_problem_longer_than_a_condition_may_be_is_cut(rig: Rig) -> None:
    """A policy of another version can be wrong in many fields."""
    rig.see({**OPEN, **{f"spec.unknown{number}": 1 for number in range(40)}})
    await rig.refresh()
    assert rig.told == ("False", "PolicyNotUsable")
