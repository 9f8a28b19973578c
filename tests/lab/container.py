"""One container: pull, start, probe, restart with back-off, and report all of it in the kubelet's words."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from lab.images import Image, ImageTable, full_reference
from lab.kube import KubeError
from lab.probes import Probe
from lab.runner import SIGKILL, SIGTERM, Runner, Running

Object = dict[str, Any]
Record = Callable[[str, str, str], None]
BACKOFF_SECONDS, BACKOFF_MAX_SECONDS, BACKOFF_RESET_SECONDS = 10.0, 300.0, 600.0


@dataclass
class Surroundings:
    """What a container needs of its pod and node."""

    pod_label: str  # name_namespace(uid), as the kubelet writes it in messages
    address: str
    folder: Path
    restart_policy: str
    backoff_scale: float
    images: ImageTable
    runner: Runner
    environment: Callable[[Object, Image], Awaitable[dict[str, str]]]
    changed: Callable[[], None]
    record: Record


class Container:
    """Runs one container of a pod; `status()` is its entry in containerStatuses."""

    def __init__(self, spec: Object, pod: Surroundings) -> None:
        self.spec, self._pod = spec, pod
        self.name: str = spec["name"]
        self.ready = False
        self.started = False
        self.finished: int | None = None  # the exit code with which it ended for good
        self._state: Object = {"waiting": {"reason": "ContainerCreating"}}
        self._last_state: Object = {}
        self._restarts = 0
        self._id = ""
        self._process: Running | None = None
        self._stopping = False
        self._environment: dict[str, str] = {}
        self._backoff = 0.0

    def status(self) -> Object:
        """As v1.ContainerStatus."""
        image_id = f"lab@{full_reference(self.spec['image'])}" if self._id else ""
        status = {
            "name": self.name,
            "image": self.spec["image"],
            "imageID": image_id,
            "ready": self.ready,
            "started": self.started,
            "restartCount": self._restarts,
            "state": self._state,
            "lastState": self._last_state,
        }
        return {**status, "containerID": self._id} if self._id else status

    @property
    def running(self) -> bool:
        """True while there is a process."""
        return "running" in self._state

    async def run(self) -> None:
        """Runs until the container has ended for good. Cancel it only after `stop`."""
        while not self._stopping:
            image = await self._pull()
            if image is not None and not self._stopping:
                code = await self._run_once(image)
                if self._stopping or not self._restarts_after(code):
                    self.finished = code
                    self._pod.changed()
                    return
                await self._back_off()

    async def stop(self, grace_seconds: float) -> None:
        """preStop, SIGTERM, and SIGKILL when the grace period is over."""
        self._stopping = True
        deadline = time.monotonic() + grace_seconds
        if self._process is not None:
            await self._pre_stop(grace_seconds)
            await self._terminate(self._process, deadline - time.monotonic())

    def kill(self) -> None:
        """SIGKILL at once."""
        self._stopping = True
        if self._process is not None:
            self._process.signal(SIGKILL)

    async def _pull(self) -> Image | None:
        """Finds the image, waiting with a kubelet's back-off for one that does not exist."""
        reference, delay = self.spec["image"], BACKOFF_SECONDS * self._pod.backoff_scale
        while not self._stopping:
            image = self._pod.images.find(reference)
            if image is None and self.spec.get("command") and not reference.startswith("lab/"):
                image = Image()
            if image is not None:
                return image
            full = full_reference(reference)
            error = (
                f'rpc error: code = NotFound desc = failed to pull and unpack image "{full}": '
                f'failed to resolve reference "{full}": {full}: not found'
            )
            self._wait("ErrImagePull", error)
            self._pod.record("Warning", "Failed", f'Failed to pull image "{reference}": {error}')
            await asyncio.sleep(min(1.0, delay / 2))
            message = f'Back-off pulling image "{reference}"'
            self._wait("ImagePullBackOff", f"{message}: ErrImagePull: {error}")
            self._pod.record("Normal", "BackOff", message)
            await asyncio.sleep(delay)
            delay = min(delay * 2, BACKOFF_MAX_SECONDS * self._pod.backoff_scale)
        return None

    async def _run_once(self, image: Image) -> int:
        started = now()
        self._id = f"lab://{secrets.token_hex(32)}"
        try:
            process = await self._start(image)
        except (OSError, KeyError, KubeError, aiohttp.ClientError) as error:
            self._pod.record("Warning", "Failed", f"Error: {error}")
            self._end(128, "StartError", started, f"failed to create task for container: {error}")
            return 128
        self._process = process
        if self._stopping:  # `stop` came while it was being started, and found nothing to stop
            process.signal(SIGKILL)
        self._state = {"running": {"startedAt": started}}
        self._pod.record("Normal", "Started", "Container started")
        probes = asyncio.create_task(self._probe())
        self._pod.changed()
        code = await process.wait()
        process.clear()
        self._process = None
        probes.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await probes
        self._end(code, "Completed" if code == 0 else "Error", started)
        return code

    async def _start(self, image: Image) -> Running:
        self._environment = await self._pod.environment(self.spec, image)
        folder, log = self._pod.folder, self._pod.folder / f"{self.name}.log"
        arguments = [_expand(part, self._environment) for part in self.spec.get("args", [])]
        command = [_expand(part, self._environment) for part in self.spec.get("command", [])]
        if command:
            return await self._pod.runner.execute(command + arguments, self._environment, folder, log)
        if image.script:
            return await self._pod.runner.fork([image.script, *arguments], self._environment, folder, log)
        return await self._pod.runner.execute(image.command + arguments, self._environment, folder, log)

    async def _probe(self) -> None:
        if startup := self._make_probe("startupProbe"):
            await self._until_started(startup)
        self.started = True
        watching = []
        if liveness := self._make_probe("livenessProbe"):
            watching.append(asyncio.create_task(liveness.run(self._on_liveness)))
        if readiness := self._make_probe("readinessProbe"):
            watching.append(asyncio.create_task(readiness.run(self._on_readiness)))
        else:
            self.ready = not self._stopping
        self._pod.changed()
        try:
            await asyncio.gather(*watching)
        finally:
            for task in watching:
                task.cancel()

    async def _until_started(self, probe: Probe) -> None:
        passed = asyncio.Event()

        def report(ok: bool, message: str) -> None:
            if ok:
                passed.set()
            else:
                self._restart_for("startup", message)

        task = asyncio.create_task(probe.run(report))
        try:
            await passed.wait()
        finally:
            task.cancel()

    def _on_readiness(self, ok: bool, message: str) -> None:
        ok = ok and not self._stopping
        if self.ready != ok:
            self.ready = ok
            if not ok and not self._stopping:
                self._pod.record("Warning", "Unhealthy", f"Readiness probe failed: {message}")
            self._pod.changed()

    def _on_liveness(self, ok: bool, message: str) -> None:
        if not ok:
            self._restart_for("liveness", message)

    def _restart_for(self, kind: str, message: str) -> None:
        if self._process is None or self._stopping:
            return
        self._pod.record("Warning", "Unhealthy", f"{kind.capitalize()} probe failed: {message}")
        text = f"Container {self.name} failed {kind} probe, will be restarted"
        self._pod.record("Normal", "Killing", text)
        grace: float = self.spec.get(f"{kind}Probe", {}).get("terminationGracePeriodSeconds", 30)
        process = self._process
        self._killing = asyncio.create_task(self._terminate(process, grace))

    def _make_probe(self, kind: str) -> Probe | None:
        ports = {port["name"]: port["containerPort"] for port in self.spec.get("ports", []) if "name" in port}
        spec = self.spec.get(kind)
        return Probe(spec, self._pod.address, ports, self._execute) if spec else None

    async def _execute(self, command: list[str]) -> int:
        log = self._pod.folder / f"{self.name}.exec.log"
        process = await self._pod.runner.execute(command, self._environment, self._pod.folder, log)
        return await process.wait()

    async def _pre_stop(self, grace_seconds: float) -> None:
        hook: Object = self.spec.get("lifecycle", {}).get("preStop", {})
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(grace_seconds):
                if "sleep" in hook:
                    await asyncio.sleep(hook["sleep"]["seconds"])
                elif "exec" in hook:
                    await self._execute(hook["exec"]["command"])

    async def _terminate(self, process: Running, grace_seconds: float) -> None:
        process.signal(SIGTERM)
        try:
            async with asyncio.timeout(max(grace_seconds, 0)):
                await process.wait()
        except TimeoutError:
            process.signal(SIGKILL)
            await process.wait()

    async def _back_off(self) -> None:
        """Waits before the next start: not at all after the first end, then 10 s, doubling up to 5 min."""
        terminated = self._state["terminated"]
        ran_seconds = self._ended_at - self._started_at
        scale = self._pod.backoff_scale
        if ran_seconds > BACKOFF_RESET_SECONDS * scale:
            self._backoff = 0
        if self._backoff:
            self._last_state = {"terminated": terminated}
            delay = self._backoff * scale
            message = f"back-off {go_duration(delay)} restarting failed container={self.name} pod={self._pod.pod_label}"
            self._wait("CrashLoopBackOff", message)
            self._pod.record("Warning", "BackOff", f"Back-off restarting failed container {self.name}")
            await asyncio.sleep(delay)
        self._last_state = {"terminated": terminated}
        self._backoff = min(self._backoff * 2 or BACKOFF_SECONDS, BACKOFF_MAX_SECONDS)
        self._restarts += 1

    def _restarts_after(self, code: int) -> bool:
        policy = self._pod.restart_policy
        return policy == "Always" or (policy == "OnFailure" and code != 0)

    def _wait(self, reason: str, message: str) -> None:
        self._state = {"waiting": {"reason": reason, "message": message}}
        self._pod.changed()

    def _end(self, code: int, reason: str, started: str, message: str = "") -> None:
        self.ready = self.started = False
        self._started_at = datetime.fromisoformat(started).timestamp()
        self._ended_at = time.time()
        terminated = {
            "exitCode": code,
            "reason": reason,
            "startedAt": started,
            "finishedAt": now(),
            "containerID": self._id,
        }
        self._state = {"terminated": {**terminated, "message": message} if message else terminated}
        self._pod.changed()


def now() -> str:
    """The time as metav1.Time writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def go_duration(seconds: float) -> str:
    """As Go prints a duration: 10s, 2m40s, 500ms."""
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:g}m{rest:g}s" if minutes else f"{rest:g}s"


def _expand(text: str, environment: dict[str, str]) -> str:
    """$(NAME) of the container's environment, as the kubelet expands it."""
    for name, value in environment.items():
        text = text.replace(f"$({name})", value)
    return text
