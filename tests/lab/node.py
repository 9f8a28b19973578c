"""The node agent: plays scheduler and kubelet for every pod of the lab. Run as `python -m lab.node CONFIG`.

Test equipment. Containers are local processes without isolation: no volumes, no network of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import yaml

from lab import egress
from lab.container import now
from lab.images import ImageTable
from lab.kube import MERGE_PATCH, Key, Kube, KubeError, Store, key_of
from lab.kubelet_api import serve_logs
from lab.pod import OBJECTS_ONLY, NodeContext, Pod
from lab.podstatus import conditions
from lab.runner import Runner
from lab.schedule import Node, choose, quantity, requests_of
from lab.tasks import tell

Object = dict[str, Any]
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


class NodeAgent:
    """Registers the nodes, binds pods to them and runs the pods."""

    def __init__(self, config: Object) -> None:
        self._config = config
        self._folder = Path(config["folder"])
        self._kubeconfig = Path(config["kubeconfig"])
        self._kube = Kube(self._kubeconfig)
        self._runner = Runner()
        self._host = f"127.{config['block']}.0.1"
        allocatable = {name: quantity(amount) for name, amount in config["allocatable"].items()}
        self._nodes = [
            Node(name, {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}, allocatable, {})
            for name in config["nodes"]
        ]
        self._by_name = {node.name: node for node in self._nodes}
        self._context = NodeContext(
            kube=self._kube,
            runner=self._runner,
            images=ImageTable(Path(config["images"])),
            folder=self._folder,
            # not the address we listen on: a pod's status may hold it, but nothing ever connects to it
            host_ip=f"10.{config['block']}.0.1",
            backoff_scale=config["backoffScale"],
            kubeconfig_for=self._kubeconfig_for,
            record=self._record,
        )
        self._pods: dict[Key, Pod] = {}
        self._taken: dict[str, tuple[Node, dict[str, float]]] = {}  # by pod uid
        self._addresses = _addresses(config["block"])
        self._addresses_in_use: set[str] = set()
        self._unscheduled: dict[Key, str] = {}  # with the last message, to write it once
        self._tasks: set[asyncio.Task[None]] = set()
        self._store = Store(self._kube, "/api/v1/pods", self._on_pod)

    async def run(self) -> None:
        """Runs for ever."""
        await self._runner.start_zygote()
        await egress.serve(self._folder / "control-plane" / "egress.sock", self._config["block"])
        await asyncio.gather(*(self._register(node) for node in self._nodes))
        await serve_logs(self._host, self._folder / "control-plane" / "certs", self._log_file)
        await asyncio.gather(self._store.run(), self._heartbeat(), self._retry_unscheduled())

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            assert old is not None
            self._forget(old)
            return
        key, meta = key_of(new), new["metadata"]
        known = self._pods.get(key)
        if known is not None and known.uid != meta["uid"]:
            known.gone()
            known = None
        if known is not None:
            known.update(new)
        elif new["spec"].get("nodeName") in self._by_name:
            self._unscheduled.pop(key, None)
            if new.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
                self._spawn(self._run_pod(key, new))
        elif key not in self._unscheduled and _waits_for_a_node(new):
            self._unscheduled[key] = ""
            self._spawn(self._schedule(key))

    def _forget(self, pod: Object) -> None:
        self._unscheduled.pop(key_of(pod), None)
        self._release(pod["metadata"]["uid"])
        known = self._pods.get(key_of(pod))
        if known is not None and known.uid == pod["metadata"]["uid"]:
            known.gone()

    async def _run_pod(self, key: Key, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if uid not in self._taken:
            self._take(self._by_name[pod["spec"]["nodeName"]], pod)
        address = next(address for address in self._addresses if address not in self._addresses_in_use)
        self._addresses_in_use.add(address)
        worker = self._pods[key] = Pod(self._context, pod, address)
        latest = self._store.objects.get(key)
        if latest is None or latest["metadata"]["uid"] != uid:
            worker.gone()
        try:
            await worker.run()
        finally:
            self._addresses_in_use.discard(address)
            if self._pods.get(key) is worker:
                del self._pods[key]

    async def _schedule(self, key: Key) -> None:
        pod = self._store.objects.get(key)
        if pod is None or pod["spec"].get("nodeName"):
            self._unscheduled.pop(key, None)
            return
        if pod["metadata"]["uid"] in self._taken:  # it is being bound, or is and the watch has not told yet
            return
        node, message = choose(self._nodes, pod)
        path = f"/api/v1/namespaces/{key[0]}/pods/{key[1]}"
        if node is None:
            if self._unscheduled.get(key) != message:
                self._unscheduled[key] = message
                fact = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
                body = {"status": {"conditions": conditions(pod, [fact], now())}}
                await self._kube.persist("PATCH", f"{path}/status", body, MERGE_PATCH)
                self._record(pod, "Warning", "FailedScheduling", message)
            return
        self._take(node, pod)
        target = {"apiVersion": "v1", "kind": "Node", "name": node.name}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": key[1]}, "target": target}
        bound = None
        try:
            bound = await self._kube.persist("POST", f"{path}/binding", binding)
        finally:
            if bound is None:  # refused: it is tried again while the pod is there and has no node
                self._release(pod["metadata"]["uid"])

    async def _retry_unscheduled(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._try_unscheduled()

    def _try_unscheduled(self) -> None:
        for key in self._unscheduled:
            self._spawn(self._schedule(key))

    def _take(self, node: Node, pod: Object) -> None:
        requests = requests_of(pod)
        node.take(requests)
        self._taken[pod["metadata"]["uid"]] = (node, requests)

    def _release(self, uid: str) -> None:
        if uid in self._taken:
            node, requests = self._taken.pop(uid)
            node.take(requests, -1)

    async def _register(self, node: Node) -> None:
        amounts = {name: str(amount) for name, amount in self._config["allocatable"].items()}
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "the lab's node agent is ready",
            "lastHeartbeatTime": now(),
            "lastTransitionTime": now(),
        }
        status = {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [ready],
            "addresses": [
                {"type": "InternalIP", "address": self._host},
                {"type": "Hostname", "address": node.name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": {"kubeletVersion": "v1.37.2-lab", "operatingSystem": "linux"},
        }
        meta = {"name": node.name, "labels": node.labels}
        body = {"apiVersion": "v1", "kind": "Node", "metadata": meta}
        await self._kube.persist("POST", "/api/v1/nodes", body)
        await self._kube.persist("PATCH", f"/api/v1/nodes/{node.name}/status", {"status": status}, MERGE_PATCH)
        # The admission plugin TaintNodesByCondition taints a new node until it is ready.
        await self._kube.persist("PATCH", f"/api/v1/nodes/{node.name}", {"spec": {"taints": None}}, MERGE_PATCH)
        await self._renew_lease(node)

    async def _renew_lease(self, node: Node) -> None:
        renewed = now().replace("Z", ".000000Z")
        spec = {"holderIdentity": node.name, "leaseDurationSeconds": 40, "renewTime": renewed}
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": node.name}, "spec": spec}
        if await self._kube.persist("PATCH", f"{_LEASES}/{node.name}", {"spec": spec}, MERGE_PATCH) is None:
            await self._kube.persist("POST", _LEASES, body)

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(10)
            await asyncio.wait([self._spawn(self._renew_lease(node)) for node in self._nodes])

    async def _kubeconfig_for(self, account: str, namespace: str) -> Path:
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 86400},
        }
        token = (await self._kube.request("POST", path, body))["status"]["token"]
        config = yaml.safe_load(self._kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        config["contexts"][0]["context"]["namespace"] = namespace
        target = self._folder / f"pod.{namespace}.{account}.kubeconfig"
        target.touch(mode=0o600)
        target.write_text(yaml.safe_dump(config))
        return target

    def _record(self, pod: Object, kind: str, reason: str, message: str) -> None:
        """A core/v1 Event, as the kubelet posts them; that one is lost does not matter."""
        meta = pod["metadata"]
        if meta.get("annotations", {}).get(OBJECTS_ONLY) == "true":
            return
        reference = {"apiVersion": "v1", "kind": "Pod", "namespace": meta["namespace"], "name": meta["name"]}
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{meta['name']}.", "namespace": meta["namespace"]},
            "involvedObject": {**reference, "uid": meta["uid"]},
            "type": kind,
            "reason": reason,
            "message": message[:1024],
            "source": {"component": "kubelet", "host": pod["spec"].get("nodeName", "")},
            "firstTimestamp": now(),
            "lastTimestamp": now(),
            "count": 1,
        }

        async def post() -> None:
            with contextlib.suppress(KubeError):  # the namespace may be on its way out
                await self._kube.persist("POST", f"/api/v1/namespaces/{meta['namespace']}/events", event)

        self._spawn(post())

    def _log_file(self, namespace: str, pod: str, container: str) -> Path | None:
        known = self._pods.get((namespace, pod))
        return known.log_file(container) if known else None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Starts work of which an error is printed and ends nothing else."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(tell)
        return task


def _waits_for_a_node(pod: Object) -> bool:
    spec = pod["spec"]
    free = not spec.get("nodeName") and not spec.get("schedulingGates")
    return free and "deletionTimestamp" not in pod["metadata"]


def _addresses(block: int) -> Iterator[str]:
    """10.N.1.1 and up, over and over; never an address again at once, so that no stale series is revived."""
    network = ipaddress.ip_network(f"10.{block}.0.0/16")
    while True:
        for address in network:
            if address.packed[2] > 0 and 0 < address.packed[3] < 255:
                yield str(address)


async def main(config: Object) -> None:
    """Runs the agent for ever."""
    await NodeAgent(config).run()


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
