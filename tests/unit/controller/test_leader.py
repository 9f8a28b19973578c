"""The Lease against an API server that goes silent, and what a process that ends leaves behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from aiohttp import web
from kubernetes.aio import client

from modeldeployment.api.base import JSON
from modeldeployment.controller import app, connect, leader, watches
from modeldeployment.controller.kube import Kube
from modeldeployment.controller.resources import HTTP_ROUTES

TIMING = leader.Timing(lease=2, renew=1.5, retry=1.0)
PATIENT = leader.Timing(lease=60, renew=40.0, retry=1.0)
GENEROUS = 60.0
"""Seconds that tests wait for what comes within 3; the library alone would wait for 300."""
FRAUD = {"uid": "uid-fraud", "name": "fraud", "namespace": "ml"}


class ApiServer:
    """Leases, empty lists, and writes that wait while `held`. `silent` answers nothing any more."""

    def __init__(self) -> None:
        self.lease: JSON = {}
        self.answered: list[str] = []
        self.asked = asyncio.Queue[str]()
        self.silent, self.free = False, asyncio.Event()
        self.free.set()
        self.configuration = client.Configuration()

    async def answer(self, request: web.Request) -> web.Response:
        """Any request."""
        verb = f"{request.method} {request.path.rsplit('/', 2)[-2 if request.method != 'POST' else -1]}"
        body = await request.json() if request.can_read_body else {}
        self.asked.put_nowait(verb)
        if self.silent:
            await asyncio.Event().wait()
        if request.path.rsplit("/", 1)[-1] == leader.LEASE_NAME or verb == "POST leases":
            return self._lease(verb, body)
        if request.method == "GET":
            return web.json_response({"items": [], "metadata": {}})
        await self.free.wait()
        self.answered.append(verb)
        return web.json_response({**body, "metadata": {"name": "x", "resourceVersion": "2"}})

    def _lease(self, verb: str, body: JSON) -> web.Response:
        if verb.startswith("GET"):
            return web.json_response(self.lease or {"kind": "Status", "code": 404}, status=200 if self.lease else 404)
        self.lease = body
        if not body["spec"].get("holderIdentity"):
            self.answered.append("released")
        return web.json_response(body)

    @property
    def holder(self) -> str:
        """Who has the Lease."""
        return str((self.lease.get("spec") or {}).get("holderIdentity") or "")


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    """A server on loopback."""
    made = ApiServer()
    application = web.Application()
    application.router.add_route("*", "/{any:.*}", made.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def once(server: ApiServer) -> AsyncIterator[client.ApiClient]:
    """A client of it that tries nothing again."""
    async with client.ApiClient(server.configuration) as made:
        yield made


class Work:
    """What a leader does."""

    def __init__(self) -> None:
        self.began, self.lost, self.ended = asyncio.Event(), asyncio.Event(), False

    async def do(self) -> None:
        """Goes on until cancelled, and then needs a moment."""
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            self.ended = True

    async def lose(self) -> None:
        """The Lease is lost."""
        self.lost.set()


async def test_leadership_ends_when_the_api_server_goes_silent(server: ApiServer, once: client.ApiClient) -> None:
    """A request that is never answered holds up nothing: work is ended, and then the loss is told."""
    lease, work = leader.FencedLease("ns", "me", once, TIMING), Work()
    leading = asyncio.create_task(leader.lead(lease, TIMING, work.do, work.lose))
    await asyncio.wait_for(work.began.wait(), GENEROUS)
    assert lease.holds() and lease.lapsed == 0
    server.silent = True
    await asyncio.wait_for(work.lost.wait(), GENEROUS)
    assert work.ended
    assert not lease.holds()
    await leading


async def test_follower_outlives_a_silent_api_server(server: ApiServer, once: client.ApiClient) -> None:
    """A request without an answer is given up, and once the server answers again the Lease is taken."""
    lease, work = leader.FencedLease("ns", "me", once, TIMING), Work()
    server.silent = True
    leading = asyncio.create_task(leader.lead(lease, TIMING, work.do, work.lose))
    for _ in range(2):  # the second is sent only because the first was given up
        await asyncio.wait_for(server.asked.get(), GENEROUS)
    assert not work.began.is_set()
    server.silent = False
    await asyncio.wait_for(work.began.wait(), GENEROUS)
    leading.cancel()
    await asyncio.wait([leading])


async def test_work_has_ended_when_leading_has(server: ApiServer, once: client.ApiClient) -> None:
    """Who stops leading can give the Lease up: nothing goes on behind it, and it was not lost."""
    lease, work = leader.FencedLease("ns", "me", once, PATIENT), Work()
    leading = asyncio.create_task(leader.lead(lease, PATIENT, work.do, work.lose))
    await asyncio.wait_for(work.began.wait(), GENEROUS)
    leading.cancel()
    await asyncio.wait([leading])
    assert work.ended
    assert not work.lost.is_set()
    assert lease.holds() and server.holder == "me"
    await lease.release()
    assert not lease.holds() and server.holder == ""
    assert lease.lapsed == 0  # given up, not lost


async def test_lapsed_counts_from_when_the_lease_was_last_held(
    server: ApiServer, once: client.ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Liveness has the seconds since the end of `renew`."""
    now = 1_000.0
    monkeypatch.setattr(leader, "_clock", lambda: now)
    lease, work = leader.FencedLease("ns", "me", once, PATIENT), Work()
    assert lease.lapsed == 0  # never held
    leading = asyncio.create_task(leader.lead(lease, PATIENT, work.do, work.lose))
    await asyncio.wait_for(work.began.wait(), GENEROUS)
    leading.cancel()
    await asyncio.wait([leading])
    assert lease.left == PATIENT.renew
    now += PATIENT.renew + 7
    assert (lease.left, lease.lapsed) == (0, 7)


async def test_write_that_was_sent_outlives_whoever_asked(server: ApiServer, once: client.ApiClient) -> None:
    """A cancelled task's write goes on, and can be waited for."""
    async with leader.Requests(server.configuration, once) as requests:
        server.free.clear()
        writing = asyncio.create_task(Kube(requests).merge(HTTP_ROUTES, "ml", "fraud", {}))
        assert await asyncio.wait_for(server.asked.get(), GENEROUS) == "PATCH httproutes"
        writing.cancel()
        await asyncio.wait([writing])
        assert writing.cancelled()
        settling = asyncio.create_task(requests.settle(GENEROUS))
        await asyncio.sleep(0)
        assert not settling.done()
        server.free.set()
        await settling
        assert server.answered == ["PATCH httproutes"]


async def test_write_that_is_never_answered_is_given_up(server: ApiServer, once: client.ApiClient) -> None:
    """Settling ends all the same."""
    async with leader.Requests(server.configuration, once) as requests:
        server.silent = True
        writing = asyncio.create_task(Kube(requests).merge(HTTP_ROUTES, "ml", "fraud", {}))
        await asyncio.wait_for(server.asked.get(), GENEROUS)
        await asyncio.wait_for(requests.settle(0.01), GENEROUS)
        await asyncio.wait([writing], timeout=GENEROUS)
        assert writing.cancelled()


# --- the whole operator, without watches ------------------------------------------------------------------------


@pytest.fixture
async def operator(
    server: ApiServer, once: client.ApiClient, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[app._Operator]:
    """An operator whose work is one write to a route and an Event."""

    async def watch(_: object, ready: asyncio.Event, stop: asyncio.Event) -> None:
        ready.set()
        await stop.wait()

    monkeypatch.setattr(watches, "watch", watch)
    options = app.Options("ns", "127.0.0.1", 0, PATIENT)
    async with leader.Requests(server.configuration, once) as requests:
        lease = leader.FencedLease("ns", "me", once, PATIENT)
        made = app._Operator(options, server.configuration, requests, lease)

        async def work() -> None:
            await made._kube.merge(HTTP_ROUTES, "ml", "fraud", {})
            raise AssertionError("the write should be under way when the end comes")

        monkeypatch.setattr(made._fleet, "run", work)
        yield made


async def test_sigterm_gives_the_lease_up_last(server: ApiServer, operator: app._Operator) -> None:
    """The write under way is answered, the queued Event is written, then the next may lead; exit code 0."""
    server.free.clear()
    running = asyncio.create_task(operator.run())
    while await asyncio.wait_for(server.asked.get(), GENEROUS) != "PATCH httproutes":
        pass
    operator._recorder.tell({"metadata": FRAUD}, "Normal", "Promoted", "2 serves", datetime.now(UTC))
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(operator._stop.wait(), GENEROUS)
    await asyncio.sleep(0.05)
    assert server.answered == []
    assert server.holder == "me"
    server.free.set()
    assert await asyncio.wait_for(running, GENEROUS) == 0
    assert server.answered[-1] == "released"
    assert sorted(server.answered[:-1]) == ["PATCH httproutes", "POST events"]


async def test_liveness_tells_of_a_leader_without_a_lease(
    operator: app._Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever keeps it from ending: what leads and has not held the Lease for long is to be killed."""
    assert operator._alive() == ""
    monkeypatch.setattr(leader.FencedLease, "lapsed", PATIENT.lease + 30.0)
    assert operator._alive() == "leads, but has not held the Lease for 90s"


async def test_nothing_but_reads_is_sent_again(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients that `run` makes: only the one for reads repeats requests by itself."""
    made: list[tuple[object, object]] = []

    async def run(self: app._Operator) -> int:
        reads, writes = self._requests.rest_client, self._requests._once.rest_client
        made.append((reads._effective_retry_options, writes._effective_retry_options))
        return 0

    async def configuration() -> client.Configuration:
        return server.configuration

    monkeypatch.setattr(connect, "configuration", configuration)
    monkeypatch.setattr(app._Operator, "run", run)
    assert await app.run(app.Options()) == 0
    ((reads, writes),) = made
    assert reads is not None and writes is None
