"""A small asynchronous client for the lab's agents: requests, and a store kept by LIST and WATCH."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import yaml

Object = dict[str, Any]
Key = tuple[str, str]
MERGE_PATCH = "application/merge-patch+json"


class KubeError(RuntimeError):
    """The API server's refusal, with its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Kube:
    """A connection to the API server, from a kubeconfig with a token."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self.server: str = cluster["server"]
        self._session = aiohttp.ClientSession(
            base_url=self.server,
            headers={"Authorization": f"Bearer {user['token']}", "User-Agent": user_agent(kubeconfig)},
            connector=aiohttp.TCPConnector(
                ssl=ssl.create_default_context(cadata=authority), limit=40, keepalive_timeout=60
            ),
            json_serialize=json.dumps,
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._session.close()

    async def request(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> Object:
        """One request and its JSON. Raises KubeError, or aiohttp.ClientError without an API server."""
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type}
        async with self._session.request(method, path, data=data, headers=headers) as answer:
            text = await answer.text()
            if answer.status >= 400:
                raise KubeError(answer.status, text[:500])
            result: Object = json.loads(text)
            return result

    async def persist(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> Object | None:
        """As `request`, but waits for an API server that is away. None when the object is gone (404, 409)."""
        while True:
            try:
                return await self.request(method, path, body, content_type)
            except KubeError as error:
                if error.status in (404, 409):
                    return None
                if error.status < 500 and error.status != 429:
                    raise
            except (aiohttp.ClientError, OSError):
                pass
            await asyncio.sleep(0.2)

    def stream(self, path: str, query: dict[str, str]) -> Any:
        """An open response to read a watch from."""
        timeout = aiohttp.ClientTimeout(total=None, sock_read=330, sock_connect=5)
        return self._session.get(path, params=query, timeout=timeout)


class Store:
    """All objects of one collection, held up to date; `changed(old, new)` is called for each difference.

    Differences come from comparing, not from event types: so after a broken watch and a new LIST nothing
    that vanished meanwhile is missed. An error of `changed` is printed: one object's must not end the watch of all.
    """

    def __init__(
        self, kube: Kube, path: str, changed: Callable[[Object | None, Object | None], None], selector: str = ""
    ) -> None:
        self.objects: dict[Key, Object] = {}
        self.synced = asyncio.Event()
        self._kube, self._path, self._changed = kube, path, changed
        self._query = {"fieldSelector": selector} if selector else {}

    async def run(self) -> None:
        """Runs for ever."""
        while True:
            try:
                version = await self._list()
                self.synced.set()
                await self._watch(version)
            except (KubeError, aiohttp.ClientError, OSError):
                pass
            except (KeyError, TypeError, ValueError):  # an answer that is no list, or an event that is none
                traceback.print_exc()
            await asyncio.sleep(0.1)

    async def _list(self) -> str:
        query = "&".join(f"{key}={value}" for key, value in self._query.items())
        # resourceVersion 0 lets the API server answer from its watch cache
        answer = await self._kube.request("GET", f"{self._path}?resourceVersion=0&{query}".rstrip("&"))
        fresh = {key_of(item): item for item in answer["items"]}
        for key in self.objects.keys() - fresh.keys():
            self._set(key, None)
        for key, item in fresh.items():
            self._set(key, item)
        version: str = answer["metadata"]["resourceVersion"]
        return version

    async def _watch(self, version: str) -> None:
        query = {**self._query, "watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true"}
        async with self._kube.stream(self._path, query) as answer:
            if answer.status >= 400:
                raise KubeError(answer.status, await answer.text())
            buffer = b""
            # readline() has a limit on a line's length, which a large object may pass
            async for chunk in answer.content.iter_any():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    self._event(json.loads(line))

    def _event(self, event: Object) -> None:
        if event["type"] == "ERROR":
            raise KubeError(event["object"].get("code", 500), str(event["object"].get("message")))
        if event["type"] != "BOOKMARK":
            item = event["object"]
            self._set(key_of(item), None if event["type"] == "DELETED" else item)

    def _set(self, key: Key, item: Object | None) -> None:
        old = self.objects.get(key)
        if item is None:
            self.objects.pop(key, None)
        else:
            if old and old["metadata"]["resourceVersion"] == item["metadata"]["resourceVersion"]:
                return
            self.objects[key] = item
        try:
            self._changed(old, item)
        except Exception:
            traceback.print_exc()


def key_of(item: Object) -> Key:
    """(namespace, name)."""
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def user_agent(kubeconfig: Path) -> str:
    """The API server takes the field manager's name from here."""
    return kubeconfig.name.removesuffix(".kubeconfig")
