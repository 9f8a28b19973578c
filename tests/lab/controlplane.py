"""A real control plane as three processes: etcd, kube-apiserver, kube-controller-manager.

RBAC and admission are those of a real cluster, and so are tokens of ServiceAccounts. What is missing: a
scheduler and kubelets, which `lab.node` plays, and anything that needs root.
"""

from __future__ import annotations

import base64
import json
import secrets
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import yaml

from lab.binaries import binary
from lab.egress import configuration
from lab.process import PATIENCE, Child, wait_until

_PEM_BEGIN = "-----BEGIN CERTIFICATE-----"
# A user for each part of the lab, so that managed fields and audit logs tell who wrote what.
_USERS = ("admin", "lab-node", "lab-gateway", "lab-prometheus", "kube-controller-manager")


class ControlPlane:
    """etcd, kube-apiserver and kube-controller-manager on one loopback address, below one folder."""

    def __init__(self, folder: Path, host: str, env: dict[str, str], apiserver_flags: Sequence[str] = ()) -> None:
        self.folder = folder / "control-plane"
        self.folder.mkdir(mode=0o700)
        self.host = host
        self.url = f"https://{host}:6443"
        self._env = env
        self.tokens = {user: secrets.token_urlsafe(24) for user in _USERS}
        self.etcd = self._child("etcd", self._etcd_flags())
        self.apiserver = self._child("kube-apiserver", [*self._apiserver_flags(), *apiserver_flags])
        self.controller_manager = self._child("kube-controller-manager", self._controller_manager_flags())

    @property
    def ca_file(self) -> Path:
        """The certificate of the authority that the API server made for itself, once it has started."""
        return self.folder / "ca.crt"

    def start(self) -> None:
        """Starts all three, and returns when the API server is ready."""
        self._write_secrets()
        self.etcd.start()
        self.apiserver.start()  # it waits for etcd by itself
        self.wait_ready()
        self.kubeconfig("kube-controller-manager", self.tokens["kube-controller-manager"])
        self.controller_manager.start()

    def stop(self) -> None:
        """Stops all three at once: the lab's data are thrown away, nothing needs to be flushed."""
        for child in (self.controller_manager, self.apiserver, self.etcd):
            child.kill()

    def wait_ready(self, timeout_seconds: float = PATIENCE) -> None:
        """Waits for /readyz of the API server."""
        wait_until("kube-apiserver ready", self._ready, timeout_seconds, self.etcd, self.apiserver)

    def kill_apiserver(self) -> None:
        """`kill -9` of the API server: watches break at once, as SIGTERM would not make them."""
        self.apiserver.kill()

    def start_apiserver(self) -> None:
        """Starts the API server again on the same address and waits until it is ready."""
        self.apiserver.start()
        self.wait_ready()

    def kubeconfig(self, name: str, token: str, namespace: str = "default") -> Path:
        """Writes `<name>.kubeconfig` for a bearer token and returns its path (mode 600)."""
        authority = base64.b64encode(self.ca_file.read_bytes()).decode()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": {"server": self.url, "certificate-authority-data": authority}}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": name, "namespace": namespace}}],
        }
        path = self.folder / f"{name}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
        return path

    def _child(self, name: str, flags: list[str]) -> Child:
        return Child(name, [binary(name), *flags], self.folder / f"{name}.log", env=self._env)

    def _write_secrets(self) -> None:
        users = "".join(f'{token},{user},{user},"system:masters"\n' for user, token in self.tokens.items())
        egress = json.dumps(configuration(self.folder / "egress.sock"))
        contents = {"egress.json": egress, "tokens.csv": users, "service-accounts.key": _elliptic_curve_key()}
        for name, content in contents.items():
            path = self.folder / name
            path.touch(mode=0o600)
            path.write_text(content)

    def _ready(self) -> bool:
        try:
            # The server writes its own certificate first, then that of the authority that signed it.
            chain = (self.folder / "certs" / "apiserver.crt").read_text()
            self.ca_file.write_text(chain[chain.index(_PEM_BEGIN, 1) :])
            context = ssl.create_default_context(cafile=str(self.ca_file))
            request = urllib.request.Request(
                f"{self.url}/readyz", headers={"Authorization": f"Bearer {self.tokens['admin']}"}
            )
            with urllib.request.urlopen(request, context=context, timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, ValueError, urllib.error.URLError):
            return False

    def _etcd_flags(self) -> list[str]:
        client, peer = f"http://{self.host}:2379", f"http://{self.host}:2380"
        return [
            "--name=lab",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=lab={peer}",
            "--unsafe-no-fsync",  # the data need not survive the machine, only the processes
            "--quota-backend-bytes=4294967296",
            "--log-level=warn",
        ]

    def _apiserver_flags(self) -> list[str]:
        keys = self.folder / "service-accounts.key"
        return [
            f"--etcd-servers=http://{self.host}:2379",
            f"--bind-address={self.host}",
            f"--advertise-address={self.host}",
            "--secure-port=6443",
            f"--cert-dir={self.folder / 'certs'}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC",
            f"--service-account-issuer={self.url}",
            f"--service-account-key-file={keys}",
            f"--service-account-signing-key-file={keys}",
            "--service-cluster-ip-range=10.96.0.0/16",
            # Endpoints of the Service `kubernetes` may not be loopback addresses, and nothing uses them here.
            "--endpoint-reconciler-type=none",
            "--allow-privileged=true",
            # Connections to pods go to their endpoints, through the lab's proxy: never to 10.x addresses.
            f"--egress-selector-config-file={self.folder / 'egress.json'}",
            "--enable-aggregator-routing=true",
            # For `kubectl logs`: a node's host name would be looked up in the machine's DNS.
            "--kubelet-preferred-address-types=InternalIP",
            "--profiling=false",
        ]

    def _controller_manager_flags(self) -> list[str]:
        return [
            f"--kubeconfig={self.folder / 'kube-controller-manager.kubeconfig'}",
            f"--service-account-private-key-file={self.folder / 'service-accounts.key'}",
            f"--root-ca-file={self.ca_file}",
            "--leader-elect=false",
            "--secure-port=0",
            # A real cluster's defaults (20 a second) would make a fleet of a thousand take minutes to appear.
            "--kube-api-qps=1000",
            "--kube-api-burst=2000",
            "--concurrent-deployment-syncs=10",
            "--concurrent-replicaset-syncs=10",
            "--concurrent-service-endpoint-syncs=10",
        ]


def _elliptic_curve_key() -> str:
    """A fresh P-256 private key as PEM, to sign ServiceAccount tokens.

    RFC 5915: a sequence of version 1, the 32 bytes of the key, and the curve's name. The public key is
    optional there and Go computes it, so this needs no cryptography library.
    """
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    number = secrets.randbelow(order - 1) + 1
    curve_name = bytes.fromhex("a00a06082a8648ce3d030107")
    body = bytes.fromhex("0201010420") + number.to_bytes(32, "big") + curve_name
    encoded = base64.b64encode(bytes([0x30, len(body)]) + body).decode()
    lines = [encoded[i : i + 64] for i in range(0, len(encoded), 64)]
    return "\n".join(["-----BEGIN EC PRIVATE KEY-----", *lines, "-----END EC PRIVATE KEY-----", ""])
