"""Long ranges of Prometheus' history, read at leisure with prometheus-api-client."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from modeldeployment.metrics import Connection, ServerFault, Unreachable
from modeldeployment.metrics.answer import Labels
from modeldeployment.replaying.finding import Series, numbers

INSTANTS_MAX: Final = 10_000
"""Prometheus refuses more than 11,000 a series."""

Fetch = Callable[[str, float, float, float], Series]
"""(query, start, end, step), times in unix seconds → what it had at start, start + step, …"""


class NotInstalledError(Exception):
    """prometheus-api-client is not there."""

    def __init__(self) -> None:
        super().__init__(
            "reading history needs prometheus-api-client, which is not installed: "
            "pip install 'modeldeployment-operator[history]'"
        )


def fetcher(to: Connection) -> Fetch:
    """Reads from one Prometheus.

    Raises:
        NotInstalledError: the package is not there. The fetcher itself raises PrometheusError.
    """
    try:
        import requests
        from prometheus_api_client import PrometheusConnect
        from prometheus_api_client.exceptions import PrometheusApiClientException
    except ImportError:
        raise NotInstalledError from None
    headers = {"Authorization": f"Bearer {to.token}"} if to.token else {}
    if to.tenant_header:
        headers[to.tenant_header] = to.tenant
    connect = PrometheusConnect(url=to.url, headers=headers, retry=0, timeout=to.timeout, method="POST")

    def once(query: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        try:
            answer: list[dict[str, Any]] = connect.custom_query_range(query, _utc(start), _utc(end), f"{step:g}")
        except PrometheusApiClientException as error:
            raise ServerFault(f"Prometheus at {to.url} does not answer a range: {str(error)[:300]}") from None
        except (ValueError, KeyError, TypeError):
            raise ServerFault(
                f"{to.url} answered, but not as Prometheus does: it must be the base of its API"
            ) from None
        except requests.RequestException as error:
            raise Unreachable(f"cannot reach Prometheus at {to.url}: {_root(error)}; check --prometheus") from None
        return answer

    return lambda query, start, end, step: _pieces(once, query, start, end, step)


def _pieces(once: Callable[..., list[dict[str, Any]]], query: str, start: float, end: float, step: float) -> Series:
    """As many ranges as it takes, put together."""
    found: dict[str, tuple[Labels, list[tuple[float, str]]]] = {}
    at = start
    while at <= end:
        for series in once(query, at, min(end, at + (INSTANTS_MAX - 1) * step), step):
            key = json.dumps(series["metric"], sort_keys=True)
            found.setdefault(key, (series["metric"], []))[1].extend((float(t), v) for t, v in series["values"])
        at += INSTANTS_MAX * step
    return numbers(found.values())


def _root(error: BaseException) -> str:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return " ".join(str(error).split())[:200] or type(error).__name__


def _utc(unix: float) -> datetime:
    return datetime.fromtimestamp(unix, UTC)
