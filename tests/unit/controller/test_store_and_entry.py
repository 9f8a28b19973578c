"""What the watches said; one model between looks; when a status is worth a write; lists against a watch that lies."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from builders import model_deployment
from modeldeployment.api import names
from modeldeployment.api.base import JSON
from modeldeployment.api.conditions import Condition
from modeldeployment.api.status import (
    ModelDeploymentStatus,
    ObjectiveStatus,
    RevisionStatus,
    RolloutStatus,
    RuleStatus,
    Verdict,
)
from modeldeployment.controller.entry import Entry
from modeldeployment.controller.kube import ApiError
from modeldeployment.controller.material import IN_TRIAL, STEADY, worth_writing
from modeldeployment.controller.relist import Relist
from modeldeployment.controller.resources import (
    DEPLOYMENTS,
    GATEWAYS,
    MODEL_DEPLOYMENTS,
    MODEL_POLICIES,
    PODS,
    Resource,
)
from modeldeployment.controller.store import Key, Store
from modeldeployment.controller.telemetry import Telemetry
from unit.controller.fake_kube import FakeKube

NOW = datetime(2026, 11, 24, tzinfo=UTC)
FRAUD = ("ml", "fraud")


class Marks:
    """A store, and what it told."""

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self.everything = 0
        self.store = Store(self.keys.append, self._everything)

    def _everything(self) -> None:
        self.everything += 1


def obj(name: str = "p", version: int = 1, uid: str = "u", owner: str | None = "fraud", **more: Any) -> JSON:
    """A child of a model, at a version."""
    labels = {names.LABEL_NAME: owner} if owner else {}
    metadata = {"name": name, "namespace": "ml", "uid": uid, "resourceVersion": str(version), "labels": labels}
    return {"metadata": metadata, **more}


# --- the store --------------------------------------------------------------------------------------------------


def test_store_marks_the_model_that_a_change_belongs_to() -> None:
    """A child marks its owner, a model itself, a policy or a Gateway everything."""
    marks = Marks()
    marks.store.put(PODS, obj())
    marks.store.put(MODEL_DEPLOYMENTS, obj("fraud", owner=None))
    assert marks.keys == [FRAUD, FRAUD] and marks.everything == 0
    marks.store.put(MODEL_POLICIES, obj("default", owner=None))
    marks.store.put(GATEWAYS, obj("public", owner=None))
    assert marks.everything == 2


def test_store_ignores_what_is_older() -> None:
    """Watch, list and the answers of writes come in any order; the newest version stays."""
    marks = Marks()
    marks.store.put(PODS, obj(version=9, a=2))
    marks.store.put(PODS, obj(version=8, a=1))
    marks.store.put(PODS, obj(version=9, a=3))
    found = marks.store.get(PODS, ("ml", "p"))
    assert found is not None and found["a"] == 2 and len(marks.keys) == 1


def test_store_compares_versions_as_numbers() -> None:
    """10 is newer than 9."""
    marks = Marks()
    marks.store.put(PODS, obj(version=9, a=1))
    marks.store.put(PODS, obj(version=10, a=2))
    found = marks.store.get(PODS, ("ml", "p"))
    assert found is not None and found["a"] == 2


def test_store_takes_a_successor_of_the_same_name() -> None:
    """Deleted and made anew: another uid counts, whatever its version, and an old deletion does not remove it."""
    marks = Marks()
    old = obj(version=9, uid="old")
    marks.store.put(PODS, old)
    marks.store.put(PODS, obj(version=3, uid="new"))
    marks.store.remove(PODS, old)
    found = marks.store.get(PODS, ("ml", "p"))
    assert found is not None and found["metadata"]["uid"] == "new"


def test_store_knows_the_children_of_a_model() -> None:
    """By label, and no longer once they are gone."""
    marks = Marks()
    child, other = obj("a"), obj("b", owner="other")
    marks.store.put(PODS, child)
    marks.store.put(PODS, other)
    marks.store.put(PODS, obj("stray", owner=None))
    assert list(marks.store.children(PODS, FRAUD)) == [child]
    marks.store.remove(PODS, child)
    assert list(marks.store.children(PODS, FRAUD)) == []


def test_store_parses_each_version_once() -> None:
    """A spec is read once for each resourceVersion."""
    marks, calls = Marks(), list[Any]()
    first = obj(spec=1)
    for each in (first, first, obj(version=2, spec=2)):
        marks.store.parsed(DEPLOYMENTS, each, lambda spec: calls.append(spec))
    assert calls == [1, 2]


# --- an entry ---------------------------------------------------------------------------------------------------


def model(generation: int = 1, overrides: JSON | None = None, status: JSON | None = None) -> JSON:
    """A ModelDeployment as stored."""
    made = model_deployment(overrides)
    made["metadata"] |= {"uid": "u", "generation": generation, "resourceVersion": str(generation)}
    return {**made, "status": status} if status else made


def test_entry_goes_on_from_the_stored_status() -> None:
    """A new process knows what the object says, and what the router was last seen to do."""
    status = ModelDeploymentStatus(
        stable=RevisionStatus(revision="a", version="1", weight=90, wanted_weight=100),
        canary=RevisionStatus(revision="b", version="2", weight=10),
        previous=RevisionStatus(revision="c", version="0"),
    )
    entry = Entry.of(FRAUD, model(status=status.to_json()))
    assert entry.status == entry.written == status
    assert entry.weights == {"a": 90, "b": 10}, "not seen is not zero"


def test_entry_takes_a_new_spec_and_keeps_its_status() -> None:
    """An edit of the spec counts at once; what was decided and not written yet stays."""
    entry = Entry.of(FRAUD, model())
    decided = entry.status = ModelDeploymentStatus(stable=RevisionStatus(revision="a", version="1"))
    before = entry.target
    entry.adopt(model(2, {"spec.model.version": "9"}))
    assert entry.target.version == "9" and entry.target != before and entry.status == decided


def test_entry_parses_a_spec_once() -> None:
    """A status write brings a new object with the same generation: the spec is not read again."""
    entry = Entry.of(FRAUD, model())
    spec = entry.spec
    entry.adopt({**model(), "spec": {"nonsense": True}})
    assert entry.spec is spec


def test_entry_reads_an_object_that_was_made_anew() -> None:
    """Deleted and made again under the same name: its generation is 1 as before, its spec is another."""
    entry = Entry.of(FRAUD, model())
    anew = model(overrides={"spec.model.version": "9"})
    anew["metadata"]["uid"] = "another"
    entry.adopt(anew)
    assert entry.target.version == "9", "the spec of the object that was deleted is still in use"


def test_entry_says_what_it_cannot_read() -> None:
    """A spec that a newer CRD let in stops this model, not the operator; a later one is read again."""
    entry = Entry.of(FRAUD, {**model(), "spec": {"nonsense": True}})
    assert entry.spec is None and "nonsense" in entry.problem
    entry.adopt(model(2))
    assert entry.spec is not None and entry.problem == ""


# --- worth writing ----------------------------------------------------------------------------------------------

_RULE = RuleStatus(name="errors", verdict=Verdict.INCONCLUSIVE, message="1 of 10", state="a")
_ROLLOUT = RolloutStatus(revision="b", version="2", start_time=NOW, rules=(_RULE,))
_CONDITION = Condition(
    type="Ready", status="True", reason="Serving", message="m", observed_generation=1, last_transition_time=NOW
)
_OBJECTIVE = ObjectiveStatus(
    name="errors", verdict=Verdict.PASS, reason="WithinBound", bound="at most 1%", value="0.1%"
)
_ROLE = RevisionStatus(revision="b", version="2", wanted_weight=10)
BASE = ModelDeploymentStatus(
    conditions=(_CONDITION,), canary=_ROLE, stable=_ROLE, rollout=_ROLLOUT, objectives=(_OBJECTIVE,)
)


def with_(part: str, **update: Any) -> ModelDeploymentStatus:
    """The status with one thing changed."""
    old = getattr(BASE, part)
    new = (old[0].model_copy(update=update),) if isinstance(old, tuple) else old.model_copy(update=update)
    return BASE.model_copy(update={part: new})


_MATERIAL: dict[str, ModelDeploymentStatus] = {
    "a condition flips": with_("conditions", status="False"),
    "another reason": with_("conditions", reason="NoReadyPods"),
    "another generation": with_("conditions", observed_generation=2),
    "a wanted weight": with_("canary", wanted_weight=20),
    "a seen weight": with_("canary", weight=10),
    "Ready pods": with_("stable", ready_replicas=1),
    "a verdict": with_("rollout", verdict=Verdict.FAIL),
    "a rule's verdict": with_("rollout", rules=(_RULE.model_copy(update={"verdict": Verdict.PASS}),)),
    "the clock of the deadline stops": with_("rollout", unavailable_since=NOW),
    "an objective's verdict": with_("objectives", verdict=Verdict.FAIL),
    "a decision more": BASE.model_copy(update={"draining": ()}).model_copy(update={"observed_generation": 3}),
}
_WOBBLES: dict[str, ModelDeploymentStatus] = {
    "a value": with_("objectives", value="0.2%", samples=7, data_age_seconds=3),
    "within or beyond a bound": with_("objectives", reason="BeyondBound"),
    "a sentence": with_("conditions", message="other"),
    "evidence": with_("rollout", evidence_time=NOW, message="more"),
    "the state of a test": with_("rollout", rules=(_RULE.model_copy(update={"state": "b", "message": "2 of 20"}),)),
}


@pytest.mark.parametrize("new", _MATERIAL.values(), ids=_MATERIAL)
def test_what_a_person_cares_about_is_written_at_once(new: ModelDeploymentStatus) -> None:
    """Whenever the last write was."""
    assert worth_writing(new, BASE, NOW, NOW)


@pytest.mark.parametrize("new", _WOBBLES.values(), ids=_WOBBLES)
def test_what_only_wobbles_is_written_at_a_bounded_rate(new: ModelDeploymentStatus) -> None:
    """Every few seconds in a trial, every few minutes otherwise."""
    assert not worth_writing(new, BASE, NOW, NOW + IN_TRIAL - timedelta(milliseconds=1))
    assert worth_writing(new, BASE, NOW, NOW + IN_TRIAL)
    quiet, before = (s.model_copy(update={"canary": None}) for s in (new, BASE))
    assert not worth_writing(quiet, before, NOW, NOW + STEADY - timedelta(seconds=1))
    assert worth_writing(quiet, before, NOW, NOW + STEADY)


def test_nothing_new_is_never_written() -> None:
    """However long ago."""
    assert not worth_writing(BASE, BASE, None, NOW + timedelta(days=1))


# --- lists against the watch ------------------------------------------------------------------------------------


class Lists:
    """A store, a fake API server, and the comparison between them; `pause` runs while objects are in flight."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.marks, self.kube = Marks(), FakeKube()
        self.relist = Relist(self.marks.store, self.kube, Telemetry())
        self.pause: Callable[[], object] = int
        monkeypatch.setattr("modeldeployment.controller.relist.asyncio.sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.pause()

    def both(self, resource: Resource, name: str) -> JSON:
        """An object that is there, and known."""
        held = self.kube.hold(resource, {**obj(name, uid=name), "kind": resource.kind})
        self.marks.store.put(resource, held)
        return held


@pytest.fixture
def lists(monkeypatch: pytest.MonkeyPatch) -> Lists:
    """See Lists."""
    return Lists(monkeypatch)


async def test_list_that_agrees_changes_nothing(lists: Lists) -> None:
    """No drift, no mark, no dead watch."""
    lists.both(PODS, "a")
    lists.marks.keys.clear()
    assert await lists.relist.compare(PODS) == 0
    assert lists.marks.keys == [] and lists.relist.dead == ""


async def test_object_that_vanished_unseen_is_removed(lists: Lists) -> None:
    """kopf never tells what vanished during a lost watch: the list does. That alone is no dead watch."""
    held = lists.both(PODS, "a")
    del lists.kube.objects[PODS]["ml", "a"]
    assert await lists.relist.compare(PODS) == 1
    assert lists.marks.store.get(PODS, ("ml", "a")) is None and lists.relist.dead == ""
    assert lists.marks.keys[-1] == FRAUD and held


async def test_object_that_the_watch_never_showed_means_it_is_dead(lists: Lists) -> None:
    """It is put into the store, with what a list does not say, and liveness learns of it."""
    lists.kube.hold(PODS, obj("a"))
    assert await lists.relist.compare(PODS) == 1
    found = lists.marks.store.get(PODS, ("ml", "a"))
    assert found is not None and (found["apiVersion"], found["kind"]) == ("v1", "Pod")
    assert lists.relist.dead == "pods"


async def test_newer_version_that_the_watch_never_showed_means_it_is_dead(lists: Lists) -> None:
    """A watch that shows deletions and additions but no changes is dead too."""
    lists.both(PODS, "a")
    lists.kube.hold(PODS, {**obj("a", uid="a"), "new": True})
    assert await lists.relist.compare(PODS) == 1 and lists.relist.dead == "pods"


async def test_what_was_in_flight_is_no_drift(lists: Lists) -> None:
    """The watch shows it a moment after the list: all is well."""
    held = lists.kube.hold(PODS, obj("a"))
    lists.pause = lambda: lists.marks.store.put(PODS, held)
    assert await lists.relist.compare(PODS) == 0 and lists.relist.dead == ""


async def test_object_made_during_the_list_is_kept(lists: Lists) -> None:
    """Its page was read before it was there: not in the list is not gone."""
    gone = lists.both(PODS, "a")
    del lists.kube.objects[PODS]["ml", "a"]
    lists.pause = lambda: lists.marks.store.put(PODS, obj("a", version=999, uid="successor"))
    assert await lists.relist.compare(PODS) == 0 and gone
    found = lists.marks.store.get(PODS, ("ml", "a"))
    assert found is not None and found["metadata"]["uid"] == "successor"


async def test_kind_that_the_cluster_does_not_have_is_no_error(lists: Lists) -> None:
    """No Gateway API: nothing to compare. Any other refusal is told."""
    lists.kube.refuses["LIST", "Gateway"] = ApiError(404, "NotFound", "no such kind")
    assert await lists.relist.compare(GATEWAYS) == 0
    lists.kube.refuses["LIST", "Gateway"] = ApiError(403, "Forbidden", "no")
    with pytest.raises(ApiError):
        await lists.relist.compare(GATEWAYS)


async def test_load_tries_again_until_the_api_server_answers(lists: Lists) -> None:
    """Nothing is decided on half of what there is."""
    lists.kube.hold(PODS, obj("a"))
    lists.kube.refuses["LIST", "Pod"] = ApiError(503, "Unavailable", "starting")
    lists.pause = lists.kube.refuses.clear
    await lists.relist.load()
    assert lists.marks.store.get(PODS, ("ml", "a")) is not None
