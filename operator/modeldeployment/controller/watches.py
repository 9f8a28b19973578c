"""kopf gives the watches and nothing else: `on.event` handlers that put what they see into the store.

Handlers of other kinds (timers, daemons, changes, indexes) would write finalizers and annotations on people's
objects, or be quadratic in their number.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import kopf
from kubernetes.aio import client

from modeldeployment.api import names
from modeldeployment.controller.resources import WATCHED, Resource
from modeldeployment.controller.store import Store

RECONNECT_SECONDS = 70.0


def registry(store: Store) -> kopf.OperatorRegistry:
    """Handlers for every kind that is watched."""
    handlers = kopf.OperatorRegistry()
    for resource in WATCHED:
        _register(handlers, resource, store)
    return handlers


def _register(handlers: kopf.OperatorRegistry, resource: Resource, store: Store) -> None:
    @kopf.on.event(resource.group, resource.version, resource.plural, id=f"watch-{resource.plural}", registry=handlers)
    async def _put(event: kopf.RawEvent, **_: Any) -> None:
        obj: Any = dict(event["object"])
        if event["type"] == "DELETED":
            store.remove(resource, obj)
        else:
            store.put(resource, obj)


def settings() -> kopf.OperatorSettings:
    """kopf without anything that writes: no Events, no finalizers, no scanning for kinds."""
    options = kopf.OperatorSettings()
    options.posting.enabled = False
    options.scanning.disabled = True
    options.networking.request_timeout = 60.0
    options.networking.connect_timeout = 10.0
    options.watching.chunk_size = 500
    options.watching.inactivity_timeout = RECONNECT_SECONDS
    options.watching.server_timeout = 10 * 60
    for resource in WATCHED:
        if resource.managed:
            options.watching.label_selectors[resource.plural] = names.MANAGED_SELECTOR
    options.persistence.finalizer = f"{names.GROUP}/unused"
    options.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=names.GROUP)
    options.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=names.GROUP)
    return options


def login(handlers: kopf.OperatorRegistry, configuration: client.Configuration) -> None:
    """kopf talks to the same API server, as the same account, as the rest."""

    @kopf.on.login(registry=handlers)
    async def _login(**_: Any) -> kopf.ConnectionInfo:
        key: Any = configuration.get_api_key_with_prefix("BearerToken")
        token: str = (await key if inspect.isawaitable(key) else key) or ""
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert or None,
            insecure=not configuration.verify_ssl,
            scheme="Bearer" if token else None,
            token=token.split(" ", 1)[-1] or None,
            certificate_path=configuration.cert_file or None,
            private_key_path=configuration.key_file or None,
        )


async def watch(handlers: kopf.OperatorRegistry, ready: asyncio.Event, stop: asyncio.Event) -> None:
    """Runs kopf until `stop` is set."""
    await kopf.operator(
        registry=handlers,
        settings=settings(),
        clusterwide=True,
        standalone=True,
        ready_flag=ready,
        stop_flag=stop,
    )
