"""The one part of a kubelet's own API that people miss at once: container logs, for `kubectl logs`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

from aiohttp import web


async def serve_logs(host: str, certificates: Path, find: Callable[[str, str, str], Path | None]) -> None:
    """Serves /containerLogs on port 10250, with the certificate that the API server made for itself."""

    async def logs(request: web.Request) -> web.StreamResponse:
        info = request.match_info
        path = find(info["namespace"], info["pod"], info["container"])
        if path is None or not path.exists():
            return web.Response(status=404, text="no such log: the lab keeps those of pods that exist\n")
        answer = web.StreamResponse()
        await answer.prepare(request)
        with path.open("rb") as file:
            lines = file.readlines()
            tail = int(request.query.get("tailLines", len(lines)))
            await answer.write(b"".join(lines[len(lines) - tail :] if tail < len(lines) else lines))
            while request.query.get("follow") == "true":
                await answer.write(file.read())
                await asyncio.sleep(0.2)
        return answer

    app = web.Application()
    app.add_routes([web.get("/containerLogs/{namespace}/{pod}/{container}", logs)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "apiserver.crt", certificates / "apiserver.key")
    await web.TCPSite(runner, host, 10250, ssl_context=context).start()
