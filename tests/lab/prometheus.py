"""A real Prometheus that finds pods the way the community's charts do: by the prometheus.io annotations."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from lab.binaries import binary
from lab.process import PATIENCE, Child, wait_until

Object = dict[str, Any]
_ANNOTATION = "__meta_kubernetes_pod_annotation_prometheus_io"


class Prometheus:
    """Starts, stops and reloads one Prometheus; its data stay from one start to the next."""

    def __init__(
        self,
        folder: Path,
        host: str,
        env: dict[str, str],
        *,
        api_url: str,
        token: str,
        ca_file: Path,
        scrape_interval: str,
        envoy_admin: str | None,
    ) -> None:
        self.folder = folder / "prometheus"
        self.folder.mkdir(mode=0o700)
        self.url = f"http://{host}:9090"
        (self.folder / "token").touch(mode=0o600)
        (self.folder / "token").write_text(token)
        self.config_file = self.folder / "prometheus.yml"
        self.config = _config(api_url, self.folder / "token", ca_file, scrape_interval, envoy_admin)
        flags = [
            f"--config.file={self.config_file}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            "--storage.tsdb.retention.time=30d",
            f"--web.listen-address={host}:9090",
            "--web.enable-lifecycle",
            "--web.enable-admin-api",
            "--log.level=warn",
        ]
        self.child = Child("prometheus", [binary("prometheus"), *flags], self.folder / "prometheus.log", env=env)

    def start(self, wait: bool = True) -> None:
        """Starts it, and waits until it answers queries."""
        self.config_file.write_text(yaml.safe_dump(self.config))
        self.child.start()
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Waits for /-/ready."""
        wait_until("prometheus ready", self._ready, PATIENCE, self.child)

    def stop(self) -> None:
        """Stops it in order, as a restart of its pod would."""
        self.child.stop(grace_seconds=20)

    def kill(self) -> None:
        """`kill -9`: what was not yet in its write-ahead log is lost."""
        self.child.kill()

    def reload(self) -> None:
        """Writes `config` anew and makes Prometheus read it. Raises HTTPError when it refuses it."""
        self.config_file.write_text(yaml.safe_dump(self.config))
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/-/reload", method="POST"), timeout=60).close()

    def query(self, promql: str, time: float | None = None) -> list[Object]:
        """An instant query: the result vector. Raises HTTPError for a bad query."""
        parameters = {"query": promql, **({} if time is None else {"time": f"{time:.3f}"})}
        url = f"{self.url}/api/v1/query?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            result: list[Object] = json.loads(answer.read())["data"]["result"]
        return result

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False


def _config(api_url: str, token: Path, ca_file: Path, interval: str, envoy_admin: str | None) -> Object:
    pods: Object = {
        "job_name": "kubernetes-pods",
        "kubernetes_sd_configs": [
            {
                "role": "pod",
                "api_server": api_url,
                "tls_config": {"ca_file": str(ca_file)},
                "authorization": {"credentials_file": str(token)},
            }
        ],
        "relabel_configs": _pod_relabelling(),
    }
    envoy = {
        "job_name": "envoy-gateway",
        "metrics_path": "/stats/prometheus",
        "static_configs": [{"targets": [envoy_admin]}],
    }
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "scrape_configs": [pods, *([envoy] if envoy_admin else [])],
    }


def _pod_relabelling() -> list[Object]:
    def take(source: str, target: str) -> Object:
        return {"source_labels": [source], "target_label": target}

    return [
        {"source_labels": [f"{_ANNOTATION}_scrape"], "regex": "true", "action": "keep"},
        {"source_labels": ["__meta_kubernetes_pod_phase"], "regex": "Pending|Succeeded|Failed", "action": "drop"},
        {"source_labels": ["__meta_kubernetes_pod_annotation_lab_objects_only"], "regex": "true", "action": "drop"},
        {"source_labels": [f"{_ANNOTATION}_path"], "regex": "(.+)", "target_label": "__metrics_path__"},
        # A pod without ports has one target, a pod with three has three: the annotation makes all of them
        # the same target, which Prometheus then keeps once.
        {
            "source_labels": ["__meta_kubernetes_pod_ip", f"{_ANNOTATION}_port"],
            "separator": ";",
            "regex": r"([^;]+);(\d+)",
            "replacement": "$1:$2",
            "target_label": "__address__",
        },
        # In the lab a pod's process listens on the loopback twin of its address.
        {
            "source_labels": ["__address__"],
            "regex": r"10\.(.*)",
            "replacement": "127.$1",
            "target_label": "__address__",
        },
        {"source_labels": ["__address__"], "regex": r"127\..*", "action": "keep"},  # nothing else, ever
        take("__meta_kubernetes_namespace", "namespace"),
        take("__meta_kubernetes_pod_name", "pod"),
        take("__meta_kubernetes_pod_node_name", "node"),
    ]
