"""The API server, as few verbs as are needed. Every write asks first whether this process may still act."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiClient

from modeldeployment.api import names
from modeldeployment.api.base import JSON
from modeldeployment.controller.resources import HTTP_ROUTES, Resource

PAGE = 500
TIMEOUT_SECONDS = 20.0
AT_ONCE = 16
"""Writes under way at most, and as many that are urgent: what is not sent yet cannot time out."""


class ApiError(Exception):
    """The API server refused, or could not be reached (`status` 0).

    Attributes:
        status: the HTTP status.
        reason, message: its own words.
        retry_after: seconds that it asks to be left alone.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after: float = 0.0) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status, self.reason, self.message, self.retry_after = status, reason, message, retry_after


class NotLeaderError(Exception):
    """A write was asked for after the Lease was lost: nothing was sent."""


class Kube:
    """Requests to the API server.

    Args:
        client: a configured `kubernetes.aio` client.
        may_write: asked before every write; False raises NotLeaderError.
        count: told (verb, plural, status) of every request, for metrics.
    """

    def __init__(
        self,
        client: ApiClient,
        *,
        may_write: Callable[[], bool] = lambda: True,
        count: Callable[[str, str, int], None] = lambda verb, plural, status: None,
    ) -> None:
        self._client, self._may_write, self._count = client, may_write, count
        self._slots = {urgent: asyncio.Semaphore(AT_ONCE) for urgent in (True, False)}

    async def get(self, resource: Resource, namespace: str | None, name: str) -> JSON:
        """One object. Raises ApiError."""
        return await self._request("GET", resource, resource.path(namespace, name))

    async def pages(self, resource: Resource) -> AsyncIterator[list[JSON]]:
        """All objects of the cluster, page by page; only managed ones where the resource says so."""
        query: dict[str, str] = {"limit": str(PAGE)}
        if resource.managed:
            query["labelSelector"] = names.MANAGED_SELECTOR
        while True:
            page = await self._request("GET", resource, resource.path(), query=query)
            yield page["items"]
            token = page["metadata"].get("continue")
            if not token:
                return
            query["continue"] = token

    async def create(self, resource: Resource, body: JSON) -> JSON:
        """Makes an object. Raises ApiError: 409 when it is there already, 400 for a field that does not exist."""
        path = resource.path(body["metadata"].get("namespace"))
        # A typo in a person's pod template is refused with its name, and not dropped in silence.
        return await self._write("POST", resource, path, body, "application/json", fieldValidation="Strict")

    async def apply(self, resource: Resource, body: JSON, manager: str = names.FIELD_MANAGER) -> JSON:
        """Server-side apply under a field manager; what it owns it takes back."""
        metadata = body["metadata"]
        path = resource.path(metadata.get("namespace"), metadata["name"])
        return await self._write("PATCH", resource, path, body, "application/apply-patch+yaml", manager, force="true")

    async def merge(self, resource: Resource, namespace: str, name: str, body: JSON) -> JSON:
        """JSON merge patch."""
        path = resource.path(namespace, name)
        return await self._write("PATCH", resource, path, body, "application/merge-patch+json")

    async def json_patch(self, resource: Resource, namespace: str, name: str, operations: list[JSON]) -> JSON:
        """JSON patch."""
        path = resource.path(namespace, name)
        return await self._write("PATCH", resource, path, operations, "application/json-patch+json")

    async def put_status(self, resource: Resource, obj: JSON, status: JSON) -> JSON:
        """The whole status, at the resourceVersion of `obj` only: another writer makes it 409."""
        metadata = obj["metadata"]
        path = resource.path(metadata.get("namespace"), metadata["name"], "status")
        operations = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
            {"op": "add", "path": "/status", "value": status},
        ]
        return await self._write("PATCH", resource, path, operations, "application/json-patch+json")

    async def delete(self, resource: Resource, namespace: str, name: str) -> None:
        """Deletes an object and, in the background, what it owns; one that is gone is fine."""
        try:
            await self._write(
                "DELETE",
                resource,
                resource.path(namespace, name),
                {"propagationPolicy": "Background"},
                "application/json",
            )
        except ApiError as error:
            if error.status != 404:
                raise

    async def _write(
        self,
        verb: str,
        resource: Resource,
        path: str,
        body: Any,
        content_type: str,
        field_manager: str = names.FIELD_MANAGER,
        **query: str,
    ) -> JSON:
        manager = {} if verb == "DELETE" else {"fieldManager": field_manager}
        # A rollback is a status and a route: it waits for no other model's children.
        async with self._slots[resource is HTTP_ROUTES or path.endswith("/status")]:
            if not self._may_write():
                raise NotLeaderError(f"{verb} {path} not sent: the Lease is not held any more")
            return await self._request(
                verb, resource, path, query={**manager, **query}, body=body, content_type=content_type
            )

    async def _request(
        self,
        verb: str,
        resource: Resource,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> JSON:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        client: Any = self._client  # generated code without types
        request = await client.param_serialize(
            verb,
            path,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = await client.call_api(*request, _request_timeout=TIMEOUT_SECONDS)
            raw = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._count(verb, resource.plural, 0)
            why = str(error) or type(error).__name__
            raise ApiError(0, "Unreachable", f"the API server cannot be reached: {why}") from error
        self._count(verb, resource.plural, response.status)
        parsed = _parse(raw)
        if response.status >= 400:
            reason = str(parsed.get("reason") or response.reason or "")
            after = response.headers.get("Retry-After", "")
            message = str(parsed.get("message") or _text(raw))
            raise ApiError(response.status, reason, message, float(after) if after.isdigit() else 0.0)
        return parsed


def _text(raw: bytes | str) -> str:
    text = raw.decode(errors="replace") if isinstance(raw, bytes) else raw
    return text.strip()[:500]


def _parse(raw: bytes | str) -> JSON:
    """The answer; a proxy's HTML page is not one, and then only its status counts."""
    try:
        parsed = json.loads(raw)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
