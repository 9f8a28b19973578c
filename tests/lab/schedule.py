"""A very small scheduler: which node takes a pod, or why none does, in kube-scheduler's words. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
_SUFFIXES = {
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


@dataclass
class Node:
    """A node's name, labels, room and what is taken of it (cpu in cores, memory in bytes, pods)."""

    name: str
    labels: dict[str, str]
    allocatable: dict[str, float]
    used: dict[str, float]

    def take(self, requests: dict[str, float], sign: int = 1) -> None:
        """Adds a pod's requests to what is used, or with sign -1 gives them back."""
        for resource, amount in requests.items():
            self.used[resource] = self.used.get(resource, 0) + sign * amount

    def obstacles(self, pod: Object, requests: dict[str, float]) -> list[str]:
        """Why this node cannot take the pod; empty when it can."""
        selector = pod["spec"].get("nodeSelector", {})
        if any(self.labels.get(key) != value for key, value in selector.items()):
            return ["node(s) didn't match Pod's node affinity/selector"]
        return [
            "Too many pods" if resource == "pods" else f"Insufficient {resource}"
            for resource, amount in requests.items()
            if amount and self.used.get(resource, 0) + amount > self.allocatable.get(resource, 0)
        ]


def choose(nodes: list[Node], pod: Object) -> tuple[Node | None, str]:
    """The fitting node with the fewest pods, or None and the message of kube-scheduler."""
    requests = requests_of(pod)
    obstacles = {node.name: node.obstacles(pod, requests) for node in nodes}
    fitting = [node for node in nodes if not obstacles[node.name]]
    if fitting:
        return min(fitting, key=lambda node: node.used.get("pods", 0)), ""
    counts: dict[str, int] = {}
    for reasons in obstacles.values():
        for reason in reasons:
            counts[reason] = counts.get(reason, 0) + 1
    words = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    total = len(nodes)
    return None, (
        f"0/{total} nodes are available: {words}. no new claims to deallocate, preemption: 0/{total} nodes are "
        f"available: {total} Preemption is not helpful for scheduling."
    )


def requests_of(pod: Object) -> dict[str, float]:
    """What the pod asks for: the sum over its containers, and one of `pods`."""
    total: dict[str, float] = {"pods": 1}
    for container in pod["spec"]["containers"]:
        for resource, amount in container.get("resources", {}).get("requests", {}).items():
            total[resource] = total.get(resource, 0) + quantity(amount)
    return total


def quantity(text: str | float) -> float:
    """A Kubernetes quantity as a number: 250m → 0.25, 1Gi → 1073741824."""
    text = str(text)
    for suffix in sorted(_SUFFIXES, key=len, reverse=True):
        if text.endswith(suffix):
            return float(text.removesuffix(suffix)) * _SUFFIXES[suffix]
    return float(text)
