"""What the watches said; one model between looks; when a status is worth a write."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from builders import model_deployment
from modeldeployment.api import names
from modeldeployment.api.base import JSON
from modeldeployment.api.conditions import Condition
from modeldeployment.api.status import (
    Alert,
    BudgetStatus,
    BurnStatus,
    Health,
    ModelDeploymentStatus,
    ObjectiveStatus,
    RevisionStatus,
    RolloutStatus,
    RuleStatus,
    Verdict,
)
from modeldeployment.controller.entry import Entry
from modeldeployment.controller.material import IN_TRIAL, STEADY, UNKNOWN, worth_writing
from modeldeployment.controller.observing import watched_of
from modeldeployment.controller.resources import (
    DEPLOYMENTS,
    GATEWAYS,
    MODEL_DEPLOYMENTS,
    MODEL_POLICIES,
    PODS,
)
from modeldeployment.controller.store import Key, Store
from unit.api.filled import filled_status

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
    """Deleted and made anew: another uid counts, and an old deletion does not remove it."""
    marks = Marks()
    old = obj(version=9, uid="old")
    marks.store.put(PODS, old)
    marks.store.put(PODS, obj(version=12, uid="new"))
    marks.store.remove(PODS, {**old, "metadata": {**old["metadata"], "resourceVersion": "11"}})
    assert uid(marks) == "new"


def uid(marks: Marks) -> str | None:
    """Of the Pod `p` that is known."""
    found = marks.store.get(PODS, ("ml", "p"))
    return None if found is None else str(found["metadata"]["uid"])


def test_store_does_not_bring_back_what_was_deleted() -> None:
    """The answer of a write that comes after the deletion is no news."""
    marks = Marks()
    marks.store.put(PODS, obj(version=5))
    marks.store.remove(PODS, obj(version=7))
    marks.store.put(PODS, obj(version=6))
    assert uid(marks) is None


def test_store_knows_a_deletion_of_what_it_never_had() -> None:
    """An object that came and went before a list was read to its end."""
    marks = Marks()
    marks.store.remove(PODS, obj(version=7))
    marks.store.put(PODS, obj(version=6))
    assert uid(marks) is None


def test_store_keeps_the_newer_of_two_objects_of_one_name() -> None:
    """What the predecessor's last write answered does not replace the successor, neither now nor after its end."""
    marks = Marks()
    marks.store.put(PODS, obj(version=5, uid="old"))
    marks.store.put(PODS, obj(version=9, uid="new"))
    marks.store.put(PODS, obj(version=6, uid="old"))
    assert uid(marks) == "new"
    marks.store.remove(PODS, obj(version=10, uid="new"))
    marks.store.put(PODS, obj(version=6, uid="old"))
    assert uid(marks) is None


def test_store_takes_an_object_that_got_its_label_back() -> None:
    """The watch tells a label that is taken off as a deletion; with the label the same object is there again."""
    marks = Marks()
    marks.store.put(PODS, obj(version=5))
    marks.store.remove(PODS, obj(version=7))
    marks.store.put(PODS, obj(version=8))
    assert uid(marks) == "u"
    marks.store.remove(PODS, obj(version=7))
    assert uid(marks) == "u", "a deletion that is older than what is known"


def test_store_remembers_so_many_deletions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest; a limit on everything."""
    monkeypatch.setattr("modeldeployment.controller.store.DELETIONS_KEPT", 2)
    marks = Marks()
    for number in range(3):
        marks.store.remove(PODS, obj(uid=str(number)))
    assert [marks.store.is_gone(obj(uid=str(number))) for number in range(3)] == [False, True, True]


@pytest.mark.parametrize("owner", ["other", None])
def test_child_whose_label_changes_leaves_its_owner(owner: str | None) -> None:
    """And both learn of it."""
    marks = Marks()
    marks.store.put(PODS, obj(version=5))
    marks.keys.clear()
    marks.store.put(PODS, obj(version=6, owner=owner))
    assert list(marks.store.children(PODS, FRAUD)) == []
    assert marks.keys == ([FRAUD, ("ml", "other")] if owner else [FRAUD])
    marks.store.remove(PODS, obj(version=7, owner=owner))
    assert list(marks.store.children(PODS, ("ml", "other"))) == []


def generation(number: int, version: int, name: str = "default") -> JSON:
    """A policy or a Gateway of a generation."""
    made = obj(name, version, owner=None)
    made["metadata"]["generation"] = number
    return made


def test_gateway_that_comes_or_goes_concerns_everyone() -> None:
    """Its status, which changes with every route, and its spec concern nobody."""
    marks = Marks()
    marks.store.put(GATEWAYS, generation(1, 1))
    marks.store.put(GATEWAYS, generation(1, 2))
    marks.store.put(GATEWAYS, generation(2, 3))
    assert marks.everything == 1
    marks.store.remove(GATEWAYS, generation(2, 4))
    assert marks.everything == 2


def test_policy_that_says_something_else_concerns_everyone() -> None:
    """Its status does not, nor does a policy of another name, which nobody reads."""
    marks = Marks()
    marks.store.put(MODEL_POLICIES, generation(1, 1))
    marks.store.put(MODEL_POLICIES, generation(1, 2))
    assert marks.everything == 1
    marks.store.put(MODEL_POLICIES, generation(2, 3))
    assert marks.everything == 2
    marks.store.remove(MODEL_POLICIES, generation(2, 4))
    assert marks.everything == 3
    marks.store.put(MODEL_POLICIES, generation(1, 5, "other"))
    assert marks.everything == 3


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
_ROLLOUT = RolloutStatus(revision="b", version="2", start_time=NOW, verdict=Verdict.PASS, rules=(_RULE,))
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


def first(part: Any) -> Any:
    """The part, or the first of a list of them."""
    return part[0] if isinstance(part, tuple) else part


FULL = ModelDeploymentStatus.model_validate(filled_status())
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
    "an alert of a budget": with_("objectives", budget=BudgetStatus(remaining="97%", alert=Alert.PAGE)),
    "the first word of a budget": with_("objectives", budget=BudgetStatus(remaining="100%")),
}
_WOBBLES: dict[str, ModelDeploymentStatus] = {
    "a value": with_("objectives", value="0.2%", samples=7, data_age_seconds=3),
    "within or beyond a bound": with_("objectives", reason="BeyondBound"),
    "a sentence": with_("conditions", message="other"),
    "what is left of a budget": BASE.model_copy(update={"budget": "97%"}),
    "evidence": with_("rollout", evidence_time=NOW, message="more"),
    "a point of the trail": BASE.model_copy(update={"trail": FULL.trail}),
    "the state of a test": with_("rollout", rules=(_RULE.model_copy(update={"state": "b", "message": "2 of 20"}),)),
}


@pytest.mark.parametrize("new", _MATERIAL.values(), ids=_MATERIAL)
def test_what_a_person_cares_about_is_written_at_once(new: ModelDeploymentStatus) -> None:
    """Whenever the last write was."""
    assert worth_writing(new, BASE, NOW, NOW)


@pytest.mark.parametrize("new", _WOBBLES.values(), ids=_WOBBLES)
def test_what_only_wobbles_is_written_at_a_bounded_rate(new: ModelDeploymentStatus) -> None:
    """Every few seconds in a trial, every few minutes otherwise; sooner while nobody knows how it does."""
    assert not worth_writing(new, BASE, NOW, NOW + IN_TRIAL - timedelta(milliseconds=1))
    assert worth_writing(new, BASE, NOW, NOW + IN_TRIAL)
    for health, every in ((Health.OK, STEADY), (Health.UNKNOWN, UNKNOWN)):
        quiet, before = (s.model_copy(update={"canary": None, "health": health}) for s in (new, BASE))
        assert not worth_writing(quiet, before, NOW, NOW + every - timedelta(seconds=1))
        assert worth_writing(quiet, before, NOW, NOW + every)


_MAY_WAIT = {
    "rollout": {"errors_query", "evidence_time", "latency_query", "message", "unavailable_seconds"},
    "objectives": {"value", "samples", "data_age_seconds", "message", "reason"},
    "conditions": {"message", "last_transition_time"},
}
_PARTS = [
    (part, field)
    for part in ("conditions", "stable", "canary", "rollout", "objectives")
    for field in type(first(getattr(BASE, part))).model_fields
]


@pytest.mark.parametrize("field", sorted(ModelDeploymentStatus.model_fields.keys() - {"budget", "trail"}))
def test_every_field_of_the_status_is_material(field: str) -> None:
    """A quarantine, a decision, one that drains: none may be held back."""
    assert getattr(FULL, field) != getattr(BASE, field)
    assert worth_writing(BASE.model_copy(update={field: getattr(FULL, field)}), BASE, NOW, NOW)


@pytest.mark.parametrize(("part", "field"), _PARTS, ids=[".".join(where) for where in _PARTS])
def test_every_field_of_a_part_is_material_but_those_that_wobble(part: str, field: str) -> None:
    """A field that is new is written at once until somebody says that it may wait."""
    other = getattr(first(getattr(FULL, part)), field)
    assert other != getattr(first(getattr(BASE, part)), field)
    assert worth_writing(with_(part, **{field: other}), BASE, NOW, NOW) is (field not in _MAY_WAIT.get(part, ()))


def test_numbers_of_a_budget_may_wait() -> None:
    """What is left, how fast it burns over which windows, and since when that is known: written with the rest."""
    old = with_("objectives", budget=BudgetStatus(remaining="98%", alert=Alert.PAGE))
    burning = (BurnStatus(name="1h/5m", rate="16.2"),)
    new = with_("objectives", budget=BudgetStatus(remaining="97%", alert=Alert.PAGE, burning=burning, since=NOW))
    assert not worth_writing(new, old, NOW, NOW)
    assert worth_writing(new, old, NOW, NOW + STEADY)


def test_nothing_new_is_never_written() -> None:
    """However long ago."""
    assert not worth_writing(BASE, BASE, None, NOW + timedelta(days=1))


_SIDECAR = {"name": "istio-proxy", "ports": [{"containerPort": 15020}]}
_MODEL = {"name": "model", "ports": [{"containerPort": 8080}]}


@pytest.mark.parametrize(
    ("spec", "ports"),
    [
        ({"containers": [_MODEL]}, set()),
        ({"containers": [_MODEL, _SIDECAR]}, {8080, 9000}),
        ({"containers": [_MODEL], "initContainers": [{**_SIDECAR, "restartPolicy": "Always"}]}, {8080, 9000}),
        ({"containers": [_MODEL], "initContainers": [_SIDECAR]}, set()),
        ({"containers": [_MODEL, {"name": "exporter", "ports": [{"containerPort": 9000}]}]}, {8080}),
    ],
    ids=["alone", "a sidecar", "a native sidecar", "an init container", "metrics are a sidecar's"],
)
def test_a_restart_of_the_model_is_of_its_own_ports(spec: JSON, ports: set[int]) -> None:
    """A start of the container model says nothing about the counters that another container keeps."""
    obj = model(overrides={"spec.serving.metrics": {"port": 9000}})
    entry = Entry.of(FRAUD, obj)
    store = Store(lambda key: None, lambda: None)
    labels = {"modeldeployment.io/name": FRAUD[1]}
    metadata = {"name": "p", "namespace": FRAUD[0], "uid": "p", "resourceVersion": "1", "labels": labels}
    store.put(PODS, {"metadata": {**metadata, "creationTimestamp": "2026-11-24T12:00:00Z"}, "spec": spec})
    assert watched_of(entry, store, (), 30.0).ports["p"] == ports
