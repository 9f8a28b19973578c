"""What becomes of one HTTPRoute, seen by a watch of its own: neither by the gateway agent nor by who writes it."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from typing import Any

import httpx

from lab.controlplane import ControlPlane

Object = dict[str, Any]
ROUTES = "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes"
_LOST = (404, 410)


class RouteWatch:
    """Outlives API servers, and misses no change while the API server remembers it.

    Args:
        name: of the HTTPRoute, in the namespace `default`.
        see: called with each state of it, in a thread of its own; what it raises of httpx's errors, ValueError and
            KeyError has it called again.
    """

    def __init__(self, plane: ControlPlane, name: str, see: Callable[[Object], None]) -> None:
        self._name, self._see, self._stop = name, see, threading.Event()
        self.http = httpx.Client(
            base_url=plane.url,
            headers={"Authorization": f"Bearer {plane.tokens['admin']}"},
            verify=ssl.create_default_context(cafile=str(plane.ca_file)),
            timeout=httpx.Timeout(60, read=1),
            trust_env=False,
        )
        self._version = ""
        """Where the watch goes on; "": with a list."""
        self._thread = threading.Thread(target=self._run, name=f"route {name}", daemon=True)

    def start(self) -> None:
        """Begins with the route as it is."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the watch."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)
        self.http.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._watch()
            except httpx.ReadTimeout:
                pass  # nothing came for a second
            except (httpx.HTTPError, ValueError, KeyError) as error:
                # It goes on where it was: a new list would leave out what was in between.
                if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in _LOST:
                    self._version = ""
                self._stop.wait(0.05)

    def _list(self) -> None:
        listed = self.http.get(ROUTES).raise_for_status().json()
        for route in listed["items"]:
            self._tell(route)
        self._version = str(listed["metadata"]["resourceVersion"])

    def _watch(self) -> None:
        """Watches until nothing came for a second."""
        if not self._version:
            self._list()
        with self.http.stream("GET", ROUTES, params={"watch": "1", "resourceVersion": self._version}) as answer:
            for line in answer.raise_for_status().iter_lines():
                event = json.loads(line)
                if event["type"] == "ERROR":  # too old, most often
                    self._version = ""
                    return
                if event["type"] != "DELETED":
                    self._tell(event["object"])
                self._version = event["object"]["metadata"]["resourceVersion"]
                if self._stop.is_set():
                    return

    def _tell(self, route: Object) -> None:
        if route["metadata"]["name"] == self._name:
            self._see(route)


def accepted(route: Object) -> bool:
    """Whether every Gateway has accepted the route's present generation."""
    generation = route["metadata"]["generation"]
    parents = route.get("status", {}).get("parents", [])
    return bool(parents) and all(
        condition["status"] == "True" and condition["observedGeneration"] == generation
        for parent in parents
        for condition in parent["conditions"]
    )
