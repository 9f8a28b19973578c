"""The lab's agents go on when one object cannot be dealt with, and say what went wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab import gateway, node
from lab.container import Container, Surroundings
from lab.images import Image, ImageTable
from lab.kube import KubeError, Store
from lab.pod import NodeContext, Pod
from lab.runner import Runner, clear_group

Object = dict[str, Any]
REFUSED = KubeError(403, "forbidden")
UNBOUND: Object = {
    "metadata": {"namespace": "ml", "name": "iris", "uid": "u1", "resourceVersion": "1"},
    "spec": {"containers": [{"name": "model", "image": "lab/model"}]},
}


class Api:
    """Stands for lab.kube.Kube: writes down what it is asked, and answers what it was given, then {}."""

    def __init__(self, *answers: Object | Exception | None) -> None:
        self.asked: list[tuple[str, str]] = []
        self.answers = list(answers)

    async def persist(self, method: str, path: str, *_: object) -> Object | None:
        """As Kube's."""
        self.asked.append((method, path))
        answer = self.answers.pop(0) if self.answers else {}
        if isinstance(answer, Exception):
            raise answer
        return answer

    request = persist


class Process:
    """Stands for a container's process: runs until it is killed."""

    pid = 4001

    def __init__(self) -> None:
        self.signals: list[int] = []
        self.cleared = 0
        self._end = asyncio.Event()

    async def wait(self) -> int:
        """As Running's."""
        await self._end.wait()
        return 137

    def signal(self, number: int) -> None:
        """As Running's."""
        self.signals.append(number)
        self._end.set()

    def clear(self) -> None:
        """As Running's."""
        self.cleared += 1


class SlowRunner(Runner):
    """Starts a process when it is let."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process, self.asked, self.may = process, asyncio.Event(), asyncio.Event()

    async def execute(self, command: list[str], env: dict[str, str], cwd: Path, log: Path) -> Process:
        """As Runner's."""
        self.asked.set()
        await self.may.wait()
        return self.process


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    """One image."""
    path = tmp_path / "images.json"
    path.write_text(json.dumps({"lab/model": vars(Image(["server"]))}))
    return ImageTable(path)


def agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, api: Api) -> node.NodeAgent:
    """A node agent of one node in front of this API server."""
    monkeypatch.setattr(node, "Kube", lambda _: api)
    config = {
        "folder": str(tmp_path),
        "kubeconfig": "",
        "block": 1,
        "nodes": ["node-0"],
        "images": "",
        "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"},
        "backoffScale": 1,
    }
    return node.NodeAgent(config)


def see(agent: node.NodeAgent, pod: Object) -> None:
    """The watch tells of a pod."""
    agent._store._set(("ml", "iris"), pod)


async def settled(agent: node.NodeAgent) -> None:
    """All that the agent began is done."""
    while agent._tasks:
        await asyncio.gather(*agent._tasks, return_exceptions=True)
        await asyncio.sleep(0)


@pytest.mark.parametrize("answer", [None, REFUSED])
async def test_a_pod_of_which_the_binding_was_refused_is_bound_at_the_next_try(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: Exception | None
) -> None:
    """And takes its place on the node once."""
    api = Api(answer)
    own = agent(monkeypatch, tmp_path, api)
    see(own, UNBOUND)
    await settled(own)
    assert own._taken == {}, "what is not bound takes a place"
    own._try_unscheduled()
    await settled(own)
    assert [path.rpartition("/")[2] for _, path in api.asked] == ["binding", "binding"]
    assert list(own._taken) == ["u1"]


async def test_a_pod_that_is_being_bound_is_not_bound_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The watch may take longer than the next try."""
    api = Api()
    own = agent(monkeypatch, tmp_path, api)
    see(own, UNBOUND)
    own._try_unscheduled()
    await settled(own)
    own._try_unscheduled()
    await settled(own)
    assert [method for method, _ in api.asked] == ["POST"]


async def test_a_refused_lease_is_told_and_renewed_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The agent goes on."""
    api = Api(REFUSED)
    own = agent(monkeypatch, tmp_path, api)
    renewed = asyncio.Event()
    beats = 0

    async def sleep(_: float) -> None:
        nonlocal beats
        beats += 1
        if beats == 3:
            renewed.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "sleep", sleep)
    heart = asyncio.create_task(own._heartbeat())
    await asyncio.wait([heart, asyncio.create_task(renewed.wait())], timeout=10, return_when=asyncio.FIRST_COMPLETED)
    assert not heart.done(), "no heartbeat any more"
    heart.cancel()
    assert [method for method, _ in api.asked] == ["PATCH", "PATCH"]
    assert "403: forbidden" in capsys.readouterr().err


async def test_an_object_that_cannot_be_dealt_with_does_not_end_the_watch(capsys: pytest.CaptureFixture[str]) -> None:
    """The next one is told of all the same."""
    told: list[str] = []

    def changed(_: Object | None, new: Object | None) -> None:
        assert new is not None
        told.append(new["metadata"]["name"])
        raise LookupError(told[-1])

    items = [{"metadata": {"name": name, "resourceVersion": "1"}} for name in ("a", "b")]
    store = Store(Api({"items": items, "metadata": {"resourceVersion": "7"}}), "/pods", changed)  # type: ignore[arg-type]
    assert await store._list() == "7"
    assert told == ["a", "b"]
    assert "LookupError: a" in capsys.readouterr().err


async def test_an_answer_that_is_no_list_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And told of."""
    api = Api({}, {"items": [], "metadata": {"resourceVersion": "7"}})
    store = Store(api, "/pods", lambda old, new: None)  # type: ignore[arg-type]

    async def watch(_: str) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(store, "_watch", watch)
    run = asyncio.create_task(store.run())
    await asyncio.wait([run, asyncio.create_task(store.synced.wait())], timeout=10, return_when=asyncio.FIRST_COMPLETED)
    assert not run.done(), "nothing is watched any more"
    run.cancel()
    assert "KeyError: 'items'" in capsys.readouterr().err


def context(
    tmp_path: Path, table: ImageTable, api: Api, runner: Runner, record: Callable[[Object, str, str, str], None]
) -> NodeContext:
    """What a pod needs of its node."""
    return NodeContext(
        kube=api,  # type: ignore[arg-type]
        runner=runner,
        images=table,
        folder=tmp_path,
        host_ip="10.1.0.1",
        backoff_scale=1,
        kubeconfig_for=lambda account, namespace: None,
        record=record,
    )


async def test_a_pod_of_which_a_container_cannot_be_stopped_is_deleted(
    tmp_path: Path, table: ImageTable, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its process is killed, its object goes, and the error is told."""
    process, api, started = Process(), Api(), asyncio.Event()

    def record(_pod: Object, _kind: str, reason: str, _message: str) -> None:
        if reason == "Started":
            started.set()

    runner = SlowRunner(process)
    runner.may.set()
    hook: Object = {"preStop": {"sleep": {}}}
    spec = {"containers": [{"name": "model", "image": "lab/model", "lifecycle": hook}]}
    pod = Pod(context(tmp_path, table, api, runner, record), {**UNBOUND, "spec": spec}, "10.1.1.1")
    run = asyncio.create_task(pod.run())
    await asyncio.wait_for(started.wait(), 10)
    pod.update({**UNBOUND, "spec": spec, "metadata": {**UNBOUND["metadata"], "deletionTimestamp": "now"}})
    await asyncio.wait_for(run, 10)
    assert process.signals == [signal.SIGKILL], "its process goes on"
    assert api.asked[-1] == ("DELETE", "/api/v1/namespaces/ml/pods/iris"), "it stays Terminating for ever"
    assert "KeyError: 'seconds'" in capsys.readouterr().err


async def test_a_container_stopped_while_it_starts_does_not_run_on(tmp_path: Path, table: ImageTable) -> None:
    """Its process comes after the stop, and is killed; with it goes what it left behind."""
    process = Process()
    runner = SlowRunner(process)

    async def environment(*_: object) -> dict[str, str]:
        return {}

    nothing: Callable[..., None] = lambda *_: None  # noqa: E731
    surroundings = Surroundings("", "127.1.1.1", tmp_path, "Always", 1, table, runner, environment, nothing, nothing)
    container = Container({"name": "model", "image": "lab/model"}, surroundings)
    run = asyncio.create_task(container.run())
    await asyncio.wait_for(runner.asked.wait(), 10)
    await container.stop(30)
    runner.may.set()
    await asyncio.wait_for(run, 10)
    assert process.signals == [signal.SIGKILL]
    assert process.cleared == 1


def test_what_a_process_leaves_behind_is_killed() -> None:
    """A container's processes end with its first one."""
    with subprocess.Popen(["sh", "-c", "sleep 1000 &"], stdout=subprocess.PIPE, start_new_session=True) as leader:
        try:
            assert leader.wait(60) == 0
            assert not ended(leader, 0), "nothing was left behind"
            clear_group(leader.pid)
            assert ended(leader, 60), "what it left behind goes on"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(leader.pid, signal.SIGKILL)


def ended(leader: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether nobody has its output open any more."""
    assert leader.stdout is not None
    return bool(select.select([leader.stdout], [], [], seconds)[0])


async def test_a_refused_status_does_not_end_the_gateway(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told, and the routes of others go on."""
    monkeypatch.setattr(gateway, "Kube", lambda _: Api(REFUSED))
    own = gateway.GatewayAgent({"host": "127.0.0.1", "kubeconfig": "", "folder": str(tmp_path)})
    await own._write("/routes/iris", UNBOUND, {"parents": []})
    await own._envoy._session.close()
    assert "403: forbidden" in capsys.readouterr().err
