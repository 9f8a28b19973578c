"""Why a query has no answer.

PrometheusError
├── QueryTimeout   timeout     it took longer than allowed
├── Unreachable    refused     no connection: address, DNS, TLS, or nobody listens
├── Unauthorized   auth        Prometheus, or a proxy before it, wants other credentials
├── BadQuery       bad_query   Prometheus refuses the query itself; its own words are in the message
├── TooLarge       too_large   the answer, or what it is made of, is more than one query may ask for
└── ServerFault    server      everything else: 5xx, an answer in part, one that is not Prometheus' at all
"""

from __future__ import annotations

from typing import ClassVar


class PrometheusError(Exception):
    """A query without an answer. `str()` is a sentence for people."""

    kind: ClassVar[str] = "error"


class QueryTimeout(PrometheusError):
    """It took longer than allowed."""

    kind = "timeout"


class Unreachable(PrometheusError):
    """No connection."""

    kind = "refused"


class Unauthorized(PrometheusError):
    """Other credentials are wanted."""

    kind = "auth"


class BadQuery(PrometheusError):
    """The query itself is refused."""

    kind = "bad_query"


class TooLarge(PrometheusError):
    """One query asks for too much: it may be asked in parts."""

    kind = "too_large"


class ServerFault(PrometheusError):
    """The server could not answer, or not as Prometheus does."""

    kind = "server"
