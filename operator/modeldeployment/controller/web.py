"""/healthz, /readyz and /metrics of the operator."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST


async def serve(
    host: str, port: int, registry: CollectorRegistry, alive: Callable[[], str], ready: Callable[[], str]
) -> web.AppRunner:
    """Starts the server. `alive` and `ready` return "" or why not, which is answered as 503."""

    def check(why: Callable[[], str]) -> Callable[[web.Request], object]:
        async def handler(_: web.Request) -> web.Response:
            problem = why()
            return web.Response(text=problem or "ok", status=503 if problem else 200)

        return handler

    async def metrics(request: web.Request) -> web.Response:
        names = request.query.getall("name[]", [])  # as Prometheus' own libraries have it
        wanted = registry.restricted_registry(names) if names else registry
        return web.Response(body=generate_latest(wanted), headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application()
    application.add_routes(
        [
            web.get("/healthz", check(alive)),  # type: ignore[arg-type]
            web.get("/readyz", check(ready)),  # type: ignore[arg-type]
            web.get("/metrics", metrics),
        ]
    )
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
