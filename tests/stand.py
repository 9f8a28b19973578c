"""The lab with the operator in it: what the integration tests, the demo and the benchmarks stand on."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx

from lab import Lab
from lab.images import default_images
from lab.process import PATIENCE, Child

ROOT = Path(__file__).resolve().parent.parent
OPERATOR_NAMESPACE = "modeldeployment-system"
PLURALS = ("modeldeployments", "modelrevisions", "modelpolicies")
FIRST_PORT = 18080
JSON = dict[str, Any]


class Stand:
    """A lab with CRDs, a ModelPolicy and, once started, operators.

    Args:
        lab: a lab; it is started and stopped by this.
        steady_interval, stale_after: of the ModelPolicy.
    """

    def __init__(self, lab: Lab | None = None, *, steady_interval: str = "2s", stale_after: str = "10s") -> None:
        self.lab = lab or Lab()
        self._steady_interval, self._stale_after = steady_interval, stale_after
        self._ports: dict[str, int] = {}

    def __enter__(self) -> Self:
        self.lab.start()
        try:
            self._install()
        except BaseException:
            self.lab.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.lab.stop()

    def _install(self) -> None:
        # The images of the examples, as their Dockerfiles would build them.
        for image, lab_image in (("model-server", "lab/model-server"), ("mlserver", "lab/mlserver")):
            as_here = default_images()[lab_image]
            script = Path(as_here.script) if as_here.script else None
            self.lab.add_image(image, command=as_here.command, script=script, env=as_here.env)
        self.lab.apply(ROOT / "crds")
        for plural in PLURALS:
            self.lab.kubectl(
                "wait", "--for=condition=Established", f"crd/{plural}.modeldeployment.io", "--timeout=300s"
            )
        self.lab.kubectl("create", "namespace", OPERATOR_NAMESPACE)
        self.policy()

    def policy(self, **prometheus: Any) -> None:
        """Applies the ModelPolicy; keywords replace fields of spec.prometheus."""
        where = {"url": self.lab.prometheus_url, "staleAfter": self._stale_after, **prometheus}
        self.apply(
            {
                "apiVersion": "modeldeployment.io/v1alpha1",
                "kind": "ModelPolicy",
                "metadata": {"name": "default"},
                "spec": {"prometheus": where, "steadyInterval": self._steady_interval},
            }
        )

    def operator(
        self,
        name: str = "operator",
        *,
        kubeconfig: Path | None = None,
        lease_seconds: int = 15,
        relist_seconds: float = 180,
        record: Path | None = None,
    ) -> Child:
        """Starts an operator process; again under the same name after it was killed. `record`: folder of recordings."""
        port = self._ports.setdefault(name, FIRST_PORT + len(self._ports))
        child = self.lab.process(
            name,
            [
                sys.executable,
                "-m",
                "modeldeployment.cli",
                "operator",
                f"--namespace={OPERATOR_NAMESPACE}",
                f"--host={self.lab.host}",
                f"--port={port}",
                f"--lease-seconds={lease_seconds}",
                f"--relist-seconds={relist_seconds:g}",
                *([f"--record={record}"] if record else []),
            ],
            env={"PYTHONPATH": str(ROOT / "operator"), "KUBECONFIG": str(kubeconfig or self.lab.kubeconfig)},
        )
        child.start()
        return child

    def kill_operator(self, name: str = "operator") -> None:
        """SIGKILL, and its Lease is let go: the next one need not wait until it is over (test_handover.py's two do)."""
        self.lab.process(name).kill()
        self.lab.kubectl("delete", "lease", "--all", "-n", OPERATOR_NAMESPACE)

    def probe(self, path: str, name: str = "operator") -> httpx.Response:
        """GET on an operator's own server: /healthz, /readyz, /metrics."""
        return httpx.get(f"http://{self.lab.host}:{self._ports[name]}{path}", timeout=60)

    def metric(self, sample: str, name: str = "operator") -> float:
        """The value of one of the operator's own series, by its text up to the value; 0 where it is absent."""
        found = re.search(rf"^{re.escape(sample)} (\S+)$", self.probe("/metrics", name).text, re.MULTILINE)
        return float(found.group(1)) if found else 0.0

    def leads(self, name: str = "operator") -> bool:
        """Whether this operator answers and says that it acts."""
        try:
            return self.metric("modeldeployment_leader", name) == 1
        except httpx.HTTPError:
            return False

    def apply(self, *manifests: JSON) -> None:
        """`kubectl apply`, client-side, as a person does it."""
        text = "\n---\n".join(json.dumps(manifest) for manifest in manifests)
        self.lab.kubectl("apply", "-f", "-", input=text)

    def get(self, name: str, namespace: str = "default", plural: str = "modeldeployments") -> JSON:
        """An object of this operator's kinds."""
        return self.lab.api.get(f"/apis/modeldeployment.io/v1alpha1/namespaces/{namespace}/{plural}/{name}")

    def status(self, name: str, namespace: str = "default") -> JSON:
        """A ModelDeployment's status; {} before the first."""
        status: JSON = self.get(name, namespace).get("status") or {}
        return status

    def condition(self, name: str, type_: str, namespace: str = "default") -> JSON:
        """One condition; {} if it is not there."""
        conditions = self.status(name, namespace).get("conditions", ())
        return next((c for c in conditions if c["type"] == type_), {})

    def state(self, name: str, namespace: str = "default") -> str:
        """The column STATE."""
        return str(self.condition(name, "Progressing", namespace).get("reason", ""))

    def wait(self, what: str, check: Callable[[], Any], seconds: float = PATIENCE, every: float = 0.1) -> Any:
        """Waits until `check` returns something true, and returns that.

        Raises:
            AssertionError: it did not within `seconds`; says `what` was waited for, and what is there instead.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := check():
                return found
            self.lab.check_parts()
            time.sleep(every)
        shown = self.lab.kubectl("get", "modeldeployments", "-A", "-o", "wide", check=False).stdout
        raise AssertionError(f"not within {seconds:g}s: {what}\n{shown}\n{self.lab.failures()}")
