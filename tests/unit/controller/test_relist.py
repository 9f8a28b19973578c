"""Lists against a watch that lies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from modeldeployment.api.base import JSON
from modeldeployment.controller.kube import ApiError
from modeldeployment.controller.relist import Relist
from modeldeployment.controller.resources import GATEWAYS, MODEL_DEPLOYMENTS, PODS, Resource
from modeldeployment.controller.telemetry import Telemetry
from unit.controller.fake_kube import FakeKube
from unit.controller.test_store_and_entry import FRAUD, Marks, obj


class PagedKube(FakeKube):
    """A list is of one moment, and something happens while its pages are read."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], object] = int

    async def pages(self, resource: Resource) -> AsyncIterator[list[JSON]]:
        """The pages of one moment."""
        for page in [page async for page in super().pages(resource)]:
            yield page
        self.meanwhile()


class Lists:
    """A store, a fake API server, and the comparison between them; `pause` runs while objects are in flight."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.marks, self.kube = Marks(), PagedKube()
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


@pytest.mark.parametrize("resource", [PODS, MODEL_DEPLOYMENTS], ids=lambda r: r.kind)
@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
async def test_object_deleted_during_the_list_is_no_drift(lists: Lists, resource: Resource, known: bool) -> None:
    """The watch is well and said so: nothing comes back from the dead, and nobody kills the operator."""
    held = lists.kube.hold(resource, obj("a"))
    if known:
        lists.marks.store.put(resource, held)

    def deleted() -> None:
        lists.kube.objects[resource].pop(("ml", "a"), None)
        lists.marks.store.put(resource, held)
        lists.marks.store.remove(resource, {**held, "metadata": {**held["metadata"], "resourceVersion": "999"}})

    lists.kube.meanwhile = deleted
    assert await lists.relist.compare(resource) == 0
    assert lists.marks.store.get(resource, ("ml", "a")) is None and lists.relist.dead == ""


async def test_object_that_came_and_went_unseen_is_no_drift(lists: Lists) -> None:
    """Never shown, and not there any more when it is looked for again: nothing that a watch must have shown."""
    lists.kube.hold(PODS, obj("a"))
    lists.pause = lambda: lists.kube.objects[PODS].clear()
    assert await lists.relist.compare(PODS) == 0
    assert lists.marks.store.get(PODS, ("ml", "a")) is None and lists.relist.dead == ""


async def test_successor_made_after_the_list_is_no_drift(lists: Lists) -> None:
    """The one that the list showed is gone, and its successor is too young to be missed."""
    lists.kube.hold(PODS, obj("a", uid="first"))
    lists.pause = lambda: lists.kube.hold(PODS, obj("a", uid="second"))
    assert await lists.relist.compare(PODS) == 0 and lists.relist.dead == ""


async def test_object_shown_and_deleted_while_it_is_looked_for_again_is_no_drift(lists: Lists) -> None:
    """The watch was late, and well: what it showed last counts, whatever the second list had."""
    held = lists.kube.hold(PODS, obj("a"))

    def shown() -> None:
        lists.marks.store.put(PODS, held)
        lists.marks.store.remove(PODS, {**held, "metadata": {**held["metadata"], "resourceVersion": "999"}})

    def paused() -> None:
        lists.kube.meanwhile = shown

    lists.pause = paused
    assert await lists.relist.compare(PODS) == 0
    assert lists.marks.store.get(PODS, ("ml", "a")) is None and lists.relist.dead == ""
