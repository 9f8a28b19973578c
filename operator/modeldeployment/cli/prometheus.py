"""Options of the verbs that read Prometheus' history."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from modeldeployment.cli.cluster import fail
from modeldeployment.metrics import Connection, PrometheusError
from modeldeployment.metrics.connecting import check

T = TypeVar("T")
_SINCE = re.compile(r"(\d{1,5})(m|h|d|w)")
_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Output(StrEnum):
    """How a result is shown."""

    TABLE = "table"
    JSON = "json"
    HTML = "html"


Url = Annotated[
    str | None, typer.Option("--prometheus", metavar="URL", help="Base URL of the Prometheus that has the history.")
]
Since = Annotated[str, typer.Option(metavar="AGO", help="How far to look back, such as 45m, 2h, 30d.")]
TokenFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Bearer token for Prometheus.")]
CaFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate authority of Prometheus, as PEM.")]
TenantHeader = Annotated[
    str | None, typer.Option("--tenant", metavar="HEADER=VALUE", help="Tenant header of Mimir, Cortex or Thanos.")
]
Format = Annotated[Output, typer.Option("--output", "-o", help="How the result is shown.")]


def connection(url: str, token_file: Path | None, ca_file: Path | None, tenant: str | None) -> Connection:
    """How to reach Prometheus, or the end of the command with what is wrong."""
    header, equals, value = (tenant or "").partition("=")
    if tenant and not (header and equals and value):
        fail(f"--tenant {tenant}: must be a header and its value, such as X-Scope-OrgID=team-a")
    if not re.match(r"https?://[^/?#@]+(/|$)", url):
        fail(f"--prometheus {url}: must be http:// or https:// and a host, such as http://prometheus:9090")
    to = Connection(
        url=url.rstrip("/"),
        token=read_text(token_file).strip() if token_file else "",
        ca=read_text(ca_file) if ca_file else "",
        tenant_header=header,
        tenant=value,
        timeout=60.0,
    )
    try:
        check(to)
    except ValueError as error:
        fail(str(error))
    return to


def read_text(path: Path) -> str:
    """A file's text, or the end of the command."""
    try:
        return path.read_text()
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror or error}")
    except UnicodeDecodeError:
        fail(f"{path} cannot be read: it is no text in UTF-8")


def ago(since: str, now: datetime) -> datetime:
    """The moment that `--since` means."""
    found = _SINCE.fullmatch(since)
    if not found or not int(found[1]):
        fail(f"--since {since}: must be a whole number and m, h, d or w, such as 45m, 2h or 30d")
    return now - timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def ask(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs what asks Prometheus; what it says is what the person reads."""
    try:
        return asyncio.run(work())
    except PrometheusError as error:
        fail(f"{error}")
