"""The lab: a Kubernetes control plane, Prometheus, Envoy and pods as processes, on loopback, without root."""

from __future__ import annotations

import atexit
import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from lab import binaries, envoy, gatewayapi
from lab.api import Api, Object
from lab.controlplane import ControlPlane
from lab.images import Image, default_images, write_table
from lab.load import Load
from lab.process import LAB_ID, PATIENCE, Child, Warden, check_alive, python_env, wait_until
from lab.prometheus import Prometheus
from lab.scratch import AddressBlock, make_folder


class Lab:
    """A cluster for tests and demos, as a context manager; everything is gone when it ends, however it ends.

    `nodes` is how many nodes there are, 0 for none; `gateway` and `prometheus` leave that part out.
    `backoff_scale` shortens the waits of CrashLoopBackOff and ImagePullBackOff (1 is a kubelet's 10 s and up);
    `allocatable` is what each node can take (more than that leaves pods Unschedulable). `apiserver_flags` come on top
    of the API server's own.
    """

    def __init__(
        self,
        *,
        prometheus: bool = True,
        gateway: bool = True,
        nodes: int = 1,
        scrape_interval: str = "2s",
        backoff_scale: float = 0.1,
        allocatable: Mapping[str, str] | None = None,
        apiserver_flags: Sequence[str] = (),
    ) -> None:
        self._wanted = {"prometheus": prometheus, "gateway": gateway, "nodes": nodes}
        self._scrape_interval = scrape_interval
        self._backoff_scale = backoff_scale
        self._apiserver_flags = apiserver_flags
        self._allocatable = {"cpu": "64", "memory": "256Gi", "pods": "20000", **(allocatable or {})}
        self._images = default_images()
        self.id = secrets.token_hex(8)
        self._children: dict[str, Child] = {}
        self._parts: list[Child] = []
        self._stopped = True

    def start(self) -> Lab:
        """Starts everything and returns when it answers. Raises LabUnavailable when a program cannot be had."""
        self._stopped = False
        self.folder = make_folder()
        self._block = AddressBlock()
        self._warden = Warden(self.id, self.folder)
        atexit.register(self.stop)
        try:
            self._start_parts()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stops every process of the lab and removes its folder. Safe to call twice."""
        if self._stopped:
            return
        self._stopped = True
        atexit.unregister(self.stop)
        if hasattr(self, "api"):
            self.api.close()
        for child in reversed(self._children.values()):
            child.kill()
        if hasattr(self, "control_plane"):
            self.control_plane.stop()
        self._warden.dismiss()
        self._block.release()

    def __enter__(self) -> Lab:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def host(self) -> str:
        """The loopback address of the lab's servers (its pods have others in the same /16)."""
        return self._block.host

    @property
    def prometheus_url(self) -> str:
        """Where Prometheus answers."""
        return self.prometheus.url

    @property
    def gateway_url(self) -> str:
        """Where the Gateway takes requests; the header Host says for whom."""
        return f"http://{self.host}:{gatewayapi.GATEWAY_PORT}"

    @property
    def gateway_name(self) -> str:
        """The Gateway to name in parentRefs, in the namespace `gateway_namespace`."""
        return gatewayapi.GATEWAY_NAME

    @property
    def gateway_namespace(self) -> str:
        """The Gateway's namespace."""
        return gatewayapi.GATEWAY_NAMESPACE

    def child_env(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of the lab's children: the lab's id, and the way to the package `lab`."""
        return python_env({LAB_ID: self.id, **(extra or {})})

    def process(
        self,
        name: str,
        command: Sequence[str | Path] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Child:
        """A child of the lab by name: with a command a new one, not yet started; without, the one of before.

        Its output is appended to `<folder>/<name>.log` (`child.log`), and it ends with the lab.
        """
        if command is not None:
            if name in self._children and self._children[name].alive:
                raise RuntimeError(f"{name} runs already")
            log = self.folder / f"{name}.log"
            self._children[name] = Child(name, command, log, env=self.child_env(env), cwd=cwd)
        return self._children[name]

    def kubectl(
        self,
        *args: str,
        input: str | None = None,  # noqa: A002  (as in subprocess.run)
        check: bool = True,
        timeout_seconds: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Runs kubectl as admin. Raises CalledProcessError, with the output in it, unless `check` is False."""
        done = subprocess.run(
            [binaries.kubectl(), *args],
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            env=self.child_env({"KUBECONFIG": str(self.kubeconfig), "HOME": str(self.folder)}),
            check=False,
        )
        if check and done.returncode != 0:
            error = subprocess.CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)
            error.add_note(done.stderr)
            raise error
        return done

    def apply(self, manifests: str | Path) -> None:
        """`kubectl apply --server-side` of a file, a folder, or YAML text."""
        command = ("apply", "--server-side", "--force-conflicts", "-f")
        if isinstance(manifests, Path):
            self.kubectl(*command, str(manifests))
        else:
            self.kubectl(*command, "-", input=manifests)

    def kubeconfig_for(self, service_account: str, namespace: str, seconds: int = 3600) -> Path:
        """A kubeconfig with a token of that ServiceAccount (TokenRequest), so that only its RBAC holds."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token"
        request: Object = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        token = self.api.create(path, request)["status"]["token"]
        return self.control_plane.kubeconfig(f"{namespace}.{service_account}", token, namespace)

    def add_image(
        self,
        name: str,
        *,
        command: Sequence[str | Path] = (),
        script: Path | None = None,
        env: Mapping[str, str] | None = None,
        kubeconfig: bool = False,
    ) -> None:
        """Makes an image name stand for a command or a Python script on this machine (see `lab.images`).

        `name` may carry a tag, which then wins over the bare name. Pods that wait for it find it at their
        next try. `kubeconfig` gives the container its ServiceAccount's rights in the variable KUBECONFIG.
        """
        parts = [str(part) for part in command]
        self._images[name] = Image(parts, str(script or ""), dict(env or {}), kubeconfig)
        write_table(self._image_table, self._images)

    def remove_image(self, name: str) -> None:
        """Takes an image away: the next container that wants it waits in ImagePullBackOff."""
        del self._images[name]
        write_table(self._image_table, self._images)

    def load(self, hostname: str, rate: float = 100, **options: Any) -> Load:
        """A load generator against the Gateway, not yet started (see `lab.load.Load`)."""
        number = sum(name.startswith("load-") for name in self._children)
        load = Load(self.gateway_url, self.folder / f"load-{number}", self.child_env(), hostname, rate, **options)
        self._children[f"load-{number}"] = load.child
        return load

    def failures(self) -> str:
        """Which processes ended by themselves, not well, and their last words; "" if none did.

        One that was ended through its `Child` is not among them.
        """
        plane = getattr(self, "control_plane", None)
        own = (plane.etcd, plane.apiserver, plane.controller_manager) if plane else ()
        failed = [child for child in (*own, *list(self._children.values())) if child.failed]
        return "\n".join(f"--- {child.name} ended with {child.returncode}:\n{child.tail()}" for child in failed)

    def check_parts(self) -> None:
        """Raises RuntimeError if one of the lab's own agents has ended: what is waited for would not come."""
        check_alive(*self._parts)

    def wait_until(self, what: str, check: Callable[[], bool], timeout_seconds: float = PATIENCE) -> None:
        """Polls until `check` is true. Raises TimeoutError naming `what`, or RuntimeError if the lab broke."""
        try:
            wait_until(what, check, timeout_seconds, *self._parts)
        except TimeoutError as error:
            error.add_note(self.failures())
            raise

    @property
    def _image_table(self) -> Path:
        return self.folder / "images.json"

    def _start_parts(self) -> None:
        plane = ControlPlane(self.folder, self.host, self.child_env(), self._apiserver_flags)
        self.control_plane = plane
        plane.start()
        self.kubeconfig = plane.kubeconfig("admin", plane.tokens["admin"])
        self.api = Api(plane.url, plane.tokens["admin"], plane.ca_file)
        # Everything is started before anything is waited for.
        if self._wanted["gateway"]:
            self._start_gateway()
        if self._wanted["prometheus"]:
            self._start_prometheus()
        if self._wanted["nodes"]:
            self._start_nodes()
        if self._wanted["gateway"]:
            gatewayapi.install_crds(self.api)
            self.wait_until("the Gateway API's CRDs", lambda: gatewayapi.established(self.api))
            gatewayapi.create_gateway(self.api)
        self._wait_for_default_service_account()
        if self._wanted["nodes"]:
            self.wait_until("the nodes", self._nodes_ready)
        if self._wanted["gateway"]:
            self.wait_until("the Gateway", lambda: gatewayapi.programmed(self.api))
        if self._wanted["prometheus"]:
            self.prometheus.wait_ready()

    def _start_prometheus(self) -> None:
        plane = self.control_plane
        self.prometheus = Prometheus(
            self.folder,
            self.host,
            self.child_env(),
            api_url=plane.url,
            token=plane.tokens["lab-prometheus"],
            ca_file=plane.ca_file,
            scrape_interval=self._scrape_interval,
            envoy_admin=f"{self.host}:9901" if self._wanted["gateway"] else None,
        )
        self._children["prometheus"] = self.prometheus.child
        self.prometheus.start(wait=False)

    def _start_gateway(self) -> None:
        folder = self.folder / "envoy"
        folder.mkdir(mode=0o700)
        flags = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
        command: list[str | Path] = [binaries.envoy(), "-c", envoy.prepare(folder, self.host), *flags]
        self.process("envoy", command).start()
        token = self.control_plane.tokens["lab-gateway"]
        config = {
            "kubeconfig": str(self.control_plane.kubeconfig("lab-gateway", token)),
            "folder": str(folder),
            "host": self.host,
        }
        self._start_agent("gateway", config)

    def _start_nodes(self) -> None:
        write_table(self._image_table, self._images)
        token = self.control_plane.tokens["lab-node"]
        config = {
            "kubeconfig": str(self.control_plane.kubeconfig("lab-node", token)),
            "folder": str(self.folder),
            "block": self._block.number,
            "nodes": [f"lab-node-{number}" for number in range(self._wanted["nodes"])],
            "images": str(self._image_table),
            "allocatable": self._allocatable,
            "backoffScale": self._backoff_scale,
        }
        self._start_agent("node", config)

    def _start_agent(self, name: str, config: Object) -> None:
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(config))
        self._parts.append(self.process(name, [sys.executable, "-m", f"lab.{name}", path]).start())

    def _nodes_ready(self) -> bool:
        return len(self.api.list("/api/v1/nodes")) == self._wanted["nodes"]

    def _wait_for_default_service_account(self) -> None:
        """Pods are refused before the controller manager has made their ServiceAccount."""
        path = "/api/v1/namespaces/default/serviceaccounts/default"
        plane = self.control_plane
        wait_until(
            "the default ServiceAccount",
            lambda: self.api.find(path) is not None,
            PATIENCE,
            plane.apiserver,
            plane.controller_manager,
        )
