"""`modeldeployment operator`: runs the operator."""

from __future__ import annotations

import asyncio
import contextlib
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from kubernetes.aio.config import ConfigException

from modeldeployment.cli.cluster import fail
from modeldeployment.controller import logs
from modeldeployment.controller.leader import Timing
from modeldeployment.replaying.journal import Journal, untold


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
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Writes what every decision was taken on into this folder, for `replay` and `backtest`."
        ),
    ] = None,
    record_mib: Annotated[
        int, typer.Option("--record-mib", min=1, help="The most of that for one model; its oldest file goes first.")
    ] = 64,
    record_total_mib: Annotated[
        int, typer.Option("--record-total-mib", min=1, help="The most of that in all; what was written last stays.")
    ] = 2048,
) -> None:
    """Runs the operator with $KUBECONFIG if it is set, else the pod's service account, else ~/.kube/config."""
    from modeldeployment.controller.app import Options, run  # kopf takes a second that no other verb should

    logs.configure(log_level)
    timing = Timing(lease_seconds, max(1.3, lease_seconds * 2 / 3), max(1.0, lease_seconds / 7.5))
    try:
        limits = (record_mib * 2**20, record_total_mib * 2**20)
        with Journal(record, *limits) if record else contextlib.nullcontext() as journal:
            took = journal.took if journal else untold
            code = asyncio.run(run(Options(namespace, host, port, timing, relist_seconds, took)))
    except (
        ConfigException,
        OSError,
    ) as error:  # no cluster is named, the port is taken, or the folder cannot be written to
        fail(str(error))
    raise typer.Exit(code)
