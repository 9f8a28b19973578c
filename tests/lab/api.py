"""A small synchronous client of the API server, for tests: by path, no models, nothing hidden."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import httpx

Object = dict[str, Any]
Objects = list[Object]


class ApiError(RuntimeError):
    """The API server refused a request; `status` is the HTTP code, `body` its Status object."""

    def __init__(self, status: int, body: Object) -> None:
        super().__init__(f"{status} {body.get('reason', '')}: {body.get('message', body)}")
        self.status = status
        self.body = body


class Api:
    """get, list, create, apply, patch and delete by path, e.g. `/apis/apps/v1/namespaces/ml/deployments/x`."""

    def __init__(self, url: str, token: str, ca_file: Path, field_manager: str = "lab") -> None:
        self._field_manager = field_manager
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            verify=ssl.create_default_context(cafile=str(ca_file)),
            timeout=30,
            trust_env=False,  # a proxy of the machine has no business with loopback
        )

    def request(self, method: str, path: str, **arguments: Any) -> Object:
        """One request; the answer's JSON. Raises ApiError for 4xx and 5xx."""
        answer = self._http.request(method, path, **arguments)
        try:
            body = answer.json()
        except ValueError:
            body = {"message": answer.text}
        if answer.is_error:
            raise ApiError(answer.status_code, body)
        assert isinstance(body, dict)
        return body

    def get(self, path: str) -> Object:
        """Reads one object. Raises ApiError with status 404 when there is none."""
        return self.request("GET", path)

    def find(self, path: str) -> Object | None:
        """Reads one object, None when there is none."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(self, path: str, **query: str) -> Objects:
        """The items of a collection, e.g. `list("/api/v1/pods", labelSelector="app=x")`."""
        items = self.request("GET", path, params=query)["items"]
        assert isinstance(items, list)
        return items

    def create(self, path: str, body: Object) -> Object:
        """POST of an object to its collection's path."""
        return self.request("POST", path, json=body)

    def apply(self, path: str, body: Object, force: bool = True, field_manager: str = "") -> Object:
        """Server-side apply of an object at its own path (`…/status` for its status)."""
        query = {"fieldManager": field_manager or self._field_manager, "force": str(force).lower()}
        headers = {"Content-Type": "application/apply-patch+yaml"}
        return self.request("PATCH", path, params=query, json=body, headers=headers)

    def patch(self, path: str, body: Object) -> Object:
        """JSON merge patch."""
        headers = {"Content-Type": "application/merge-patch+json"}
        return self.request("PATCH", path, json=body, headers=headers)

    def replace(self, path: str, body: Object) -> Object:
        """PUT."""
        return self.request("PUT", path, json=body)

    def delete(self, path: str, **options: Any) -> Object:
        """Deletes an object; options as in DeleteOptions, e.g. `gracePeriodSeconds=0`."""
        return self.request("DELETE", path, json=options or None)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()
