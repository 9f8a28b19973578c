"""`modeldeployment operator`: runs the operator."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Annotated

import typer
from kubernetes.aio.config import ConfigException

from modeldeployment.cli.cluster import fail
from modeldeployment.controller import logs
from modeldeployment.controller.app import Options, run
from modeldeployment.controller.leader import Timing


class LogLevel(StrEnum):
    """What is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def operator(
    namespace: Annotated[str, typer.Option(help="Namespace of the Lease.", envvar="POD_NAMESPACE")] = (
        "modeldeployment-system"
    ),
    host: Annotated[str, typer.Option(help="Address of /healthz, /readyz and /metrics.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(help="Port of /healthz, /readyz and /metrics.")] = 8080,
    log_level: Annotated[LogLevel, typer.Option(help="What is logged at least.")] = LogLevel.INFO,
    lease_seconds: Annotated[int, typer.Option(min=2, help="How long the Lease holds, once nobody renews it.")] = 15,
    relist_seconds: Annotated[float, typer.Option(help="How often watches are checked against lists.")] = 180.0,
) -> None:
    """Runs the operator with $KUBECONFIG if it is set, else the pod's service account, else ~/.kube/config."""
    logs.configure(log_level)
    timing = Timing(lease_seconds, max(1.3, lease_seconds * 2 / 3), max(1.0, lease_seconds / 7.5))
    options = Options(namespace, host, port, timing, relist_seconds)
    try:
        code = asyncio.run(run(options))
    except (ConfigException, OSError) as error:  # no cluster is named, or the port is taken
        fail(str(error))
    raise typer.Exit(code)
