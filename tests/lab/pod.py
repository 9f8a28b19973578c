"""One pod on the lab's node: its containers, its status, its end."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.container import Container, Surroundings, now
from lab.images import Image, ImageTable
from lab.kube import MERGE_PATCH, Kube, KubeError
from lab.podstatus import bare_status, pod_status
from lab.runner import Runner
from lab.scratch import listen_address
from lab.tasks import tell

Object = dict[str, Any]
OBJECTS_ONLY = "lab/objects-only"
# From the lab's own environment a container gets nothing but these.
_PASSED_ON = ("LANG", "TZ", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MODELDEPLOYMENT_LAB_ID")


@dataclass(frozen=True)
class NodeContext:
    """What all pods of a node agent share."""

    kube: Kube
    runner: Runner
    images: ImageTable
    folder: Path
    host_ip: str
    backoff_scale: float
    kubeconfig_for: Callable[[str, str], Any]
    record: Callable[[Object, str, str, str], None]


class Pod:
    """Runs a pod from the moment it is bound to the node until its object is gone."""

    def __init__(self, node: NodeContext, pod: Object, pod_ip: str) -> None:
        self._node, self._object, self._ip = node, pod, pod_ip
        meta = pod["metadata"]
        self.uid: str = meta["uid"]
        self._path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        self._folder = node.folder / "pods" / f"{meta['namespace']}_{meta['name']}_{self.uid[:8]}"
        self._dirty = asyncio.Event()
        self._terminate = asyncio.Event()
        self._terminating = False
        self._initialized = False
        self._gone = False
        self._start_time = now()
        self._conditions: list[Object] = []
        surroundings = Surroundings(
            pod_label=f"{meta['name']}_{meta['namespace']}({self.uid})",
            address=listen_address(pod_ip),
            folder=self._folder,
            restart_policy=pod["spec"].get("restartPolicy", "Always"),
            backoff_scale=node.backoff_scale,
            images=node.images,
            runner=node.runner,
            environment=self._environment,
            changed=self._dirty.set,
            record=lambda kind, reason, message: node.record(self._object, kind, reason, message),
        )
        self._containers = [Container(spec, surroundings) for spec in pod["spec"]["containers"]]
        # An init container runs to its end, whatever the pod does afterwards.
        once = Surroundings(**{**vars(surroundings), "restart_policy": "OnFailure"})
        self._init_containers = [Container(spec, once) for spec in pod["spec"].get("initContainers", [])]

    def update(self, pod: Object) -> None:
        """A newer object of the same pod."""
        self._object = pod
        if "deletionTimestamp" in pod["metadata"]:
            self._terminate.set()

    def gone(self) -> None:
        """The object vanished: deleted by force."""
        self._gone = True
        self._terminate.set()

    def log_file(self, container: str) -> Path:
        """The log of a container, of the only one for ''."""
        return self._folder / f"{container or self._containers[0].name}.log"

    async def run(self) -> None:
        """Returns when the pod's object is deleted and its processes are gone."""
        self.update(self._object)
        if self._object["metadata"].get("annotations", {}).get(OBJECTS_ONLY) == "true":
            await self._run_object_only()
        else:
            await self._run_processes()
        await self._delete_object()

    async def _run_processes(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        writer = asyncio.create_task(self._write_statuses())
        work = asyncio.create_task(self._run_containers())
        for task in (work, writer):
            task.add_done_callback(tell)
        await self._terminate.wait()
        await self._stop_containers()
        for task in (work, writer):
            task.cancel()
        await asyncio.gather(work, writer, return_exceptions=True)  # the pod's object goes, whatever went wrong

    async def _run_containers(self) -> None:
        self._dirty.set()
        for container in self._init_containers:
            await container.run()
        self._initialized = True
        self._dirty.set()
        await asyncio.gather(*(container.run() for container in self._containers))

    async def _stop_containers(self) -> None:
        running = [*self._init_containers, *self._containers]
        if self._gone:
            for container in running:
                container.kill()
            return
        self._terminating = True
        self._dirty.set()  # not ready is said before anything stops
        spec, meta = self._object["spec"], self._object["metadata"]
        grace = meta.get("deletionGracePeriodSeconds", spec.get("terminationGracePeriodSeconds", 30))
        for ended in await asyncio.gather(*(container.stop(grace) for container in running), return_exceptions=True):
            if isinstance(ended, Exception):
                traceback.print_exception(ended)
        for container in running:
            container.kill()  # what could not be stopped in order

    async def _run_object_only(self) -> None:
        if not self._terminate.is_set():
            self._dirty.clear()
            status = bare_status(self._object, self._ip, self._node.host_ip, now())
            await self._patch_status(status)
        await self._terminate.wait()

    async def _delete_object(self) -> None:
        if self._gone:
            return
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        await self._node.kube.persist("DELETE", self._path, options)

    async def _write_statuses(self) -> None:
        """Writes the status when it changed, one write at a time: the newest state wins."""
        written: Object = {}
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            status = pod_status(
                self._with_own_conditions(),
                self._containers,
                self._init_containers,
                initialized=self._initialized,
                terminating=self._terminating,
                pod_ip=self._ip,
                host_ip=self._node.host_ip,
                start_time=self._start_time,
                now=now(),
            )
            if status != written:
                self._conditions = status["conditions"]
                await self._patch_status(status)
                written = status

    async def _patch_status(self, status: Object) -> None:
        # The uid makes the API server refuse this for a successor of the same name.
        body = {"metadata": {"uid": self.uid}, "status": status}
        try:
            await self._node.kube.persist("PATCH", f"{self._path}/status", body, MERGE_PATCH)
        except KubeError as error:
            print(f"{self._path}: status refused: {error}", flush=True)

    def _with_own_conditions(self) -> Object:
        """The object, with our own conditions as last written: the watch may lag behind our writes."""
        seen = {item["type"]: item for item in self._object.get("status", {}).get("conditions", [])}
        ours = {"PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"}
        seen |= {item["type"]: item for item in self._conditions if item["type"] in ours}
        return {**self._object, "status": {"conditions": list(seen.values())}}

    async def _environment(self, container: Object, image: Image) -> dict[str, str]:
        """The container's variables, in the order of a kubelet: the image's, envFrom, env; then the lab's."""
        path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
        values = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        values |= {"PATH": path, "HOME": str(self._folder), "HOSTNAME": self._object["metadata"]["name"]}
        values |= image.env
        if image.kubeconfig:
            namespace = self._object["metadata"]["namespace"]
            account = self._object["spec"].get("serviceAccountName", "default")
            values["KUBECONFIG"] = str(await self._node.kubeconfig_for(account, namespace))
        for source in container.get("envFrom", []):
            values |= await self._whole_source(source)
        for variable in container.get("env", []):
            value = await self._value(variable)
            if value is not None:
                for name, known in values.items():
                    value = value.replace(f"$({name})", known)
                values[variable["name"]] = value
        # Without a network of its own, the process must listen on its pod's address and no other.
        address = listen_address(self._ip)
        return {**values, "HOST": address, "LAB_BIND_ADDRESS": address}

    async def _value(self, variable: Object) -> str | None:
        if "value" in variable or "valueFrom" not in variable:
            return str(variable.get("value", ""))
        source = variable["valueFrom"]
        if "fieldRef" in source:
            return self._field(source["fieldRef"]["fieldPath"])
        for kind in ("configMapKeyRef", "secretKeyRef"):
            if reference := source.get(kind):
                data = await self._data(kind, reference)
                return data.get(reference["key"])
        return None

    async def _whole_source(self, source: Object) -> dict[str, str]:
        for kind in ("configMapRef", "secretRef"):
            if reference := source.get(kind):
                data = await self._data(kind, reference)
                return {source.get("prefix", "") + key: value for key, value in data.items()}
        return {}

    async def _data(self, kind: str, reference: Object) -> dict[str, str]:
        collection = "configmaps" if kind.startswith("configMap") else "secrets"
        namespace = self._object["metadata"]["namespace"]
        path = f"/api/v1/namespaces/{namespace}/{collection}/{reference['name']}"
        try:
            data: dict[str, str] = (await self._node.kube.request("GET", path)).get("data", {})
        except KubeError as error:
            if error.status == 404 and reference.get("optional"):
                return {}
            raise KeyError(f'{collection[:-1]} "{reference["name"]}" not found') from error
        if collection == "secrets":
            return {key: base64.b64decode(value).decode() for key, value in data.items()}
        return data

    def _field(self, path: str) -> str:
        meta = self._object["metadata"]
        known = {
            "metadata.name": meta["name"],
            "metadata.namespace": meta["namespace"],
            "metadata.uid": self.uid,
            "spec.nodeName": self._object["spec"].get("nodeName", ""),
            "spec.serviceAccountName": self._object["spec"].get("serviceAccountName", ""),
            "status.podIP": self._ip,
            "status.podIPs": self._ip,
            "status.hostIP": self._node.host_ip,
        }
        for part in ("labels", "annotations"):
            if path.startswith(f"metadata.{part}['"):
                return str(meta.get(part, {}).get(path.partition("'")[2].rstrip("']"), ""))
        return str(known[path])
