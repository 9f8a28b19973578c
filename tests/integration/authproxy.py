"""Test equipment: a proxy before Prometheus that asks for credentials, as an ingress or Mimir's gateway does."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class AuthProxy:
    """Lets queries with the right headers through. As a context manager it listens.

    Attributes:
        wanted: the headers that every request must have; may be changed at any time.
        counts: answers so far, by status.
    """

    def __init__(self, host: str, port: int, upstream: str) -> None:
        self.wanted: dict[str, str] = {}
        self.counts: Counter[int] = Counter()
        self.url = f"http://{host}:{port}"
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(b"")

            def do_POST(self) -> None:
                self._answer(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

            def _answer(self, body: bytes) -> None:
                allowed = all(self.headers.get(name) == value for name, value in proxy.wanted.items())
                status, answer = (
                    _forward(f"{upstream}{self.path}", body) if allowed else (401, b"credentials are wanted")
                )
                proxy.counts[status] += 1
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True

    def __enter__(self) -> AuthProxy:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _forward(url: str, body: bytes) -> tuple[int, bytes]:
    request = urllib.request.Request(
        url, data=body or None, headers={"Content-Type": "application/x-www-form-urlencoded"} if body else {}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError:
        return 502, b"no Prometheus"
