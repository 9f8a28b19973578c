"""How to reach a Prometheus: what a ModelPolicy and its Secret say, checked before anything is sent."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from modeldeployment.api.modelpolicy import Prometheus
from modeldeployment.api.quantities import seconds

_TOKEN = re.compile(r"[\x21-\x7e]+")
_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach one Prometheus. Equal ones can share a client.

    Attributes:
        url: base of its API, without /api/v1.
        token: bearer token; or username and password.
        ca: PEM text of a private certificate authority.
        tenant_header, tenant: the header of Mimir, Cortex or Thanos.
        timeout: seconds that one query may take, retries included.
    """

    url: str
    token: str = field(default="", repr=False)
    username: str = ""
    password: str = field(default="", repr=False)
    ca: str = field(default="", repr=False)
    tenant_header: str = ""
    tenant: str = ""
    timeout: float = 10.0


def connection(spec: Prometheus, secret: Mapping[str, str] | None = None) -> Connection:
    """What a ModelPolicy and its Secret (decoded) say.

    Raises:
        ValueError: the Secret has neither what a bearer nor what basic auth needs, a broken certificate, or something
            that a header cannot carry.
    """
    secret = secret or {}
    if spec.secret_ref is not None and not ({"token", "username", "ca.crt"} & secret.keys()):
        where = f"{spec.secret_ref.namespace}/{spec.secret_ref.name}"
        raise ValueError(
            f"Secret {where} has none of the keys token, username and password, ca.crt: add what Prometheus asks for"
        )
    if "username" in secret and "password" not in secret:
        raise ValueError("the Secret for Prometheus has a username but no password: add the key password")
    made = Connection(
        url=spec.url.rstrip("/"),
        token=secret.get("token", "").strip(),
        username=secret.get("username", "").strip(),
        password=secret.get("password", "").rstrip("\r\n"),
        ca=secret.get("ca.crt", ""),
        tenant_header=spec.tenant.header if spec.tenant else "",
        tenant=spec.tenant.value if spec.tenant else "",
        timeout=seconds(spec.timeout),
    )
    check(made)
    return made


def check(to: Connection) -> None:
    """Refuses what no request could be made of.

    Raises:
        ValueError: says which key or field, and what it must be.
    """
    # No value is in a message: these end up in a status that many may read.
    try:
        httpx.URL(to.url)
    except (httpx.InvalidURL, ValueError):
        raise ValueError("url of the ModelPolicy is no URL: it must be such as http://prometheus:9090") from None
    if to.token and not _TOKEN.fullmatch(to.token):
        raise ValueError(
            "key token of the Secret for Prometheus must be one line of printable ASCII: it has a line break, a space "
            "or another character that a header cannot carry"
        )
    if to.tenant_header and not _HEADER.fullmatch(to.tenant_header):
        raise ValueError("tenant.header of the ModelPolicy must be a header's name, such as X-Scope-OrgID")
    if to.tenant and not _VALUE.fullmatch(to.tenant):
        raise ValueError("tenant.value of the ModelPolicy must be printable ASCII, without a space at either end")
    if ":" in to.username:
        raise ValueError("key username of the Secret for Prometheus must not have a colon: basic auth ends it there")
    if to.ca:
        context(to.ca)


def context(ca: str) -> ssl.SSLContext:
    """Trust in a private certificate authority.

    Raises:
        ValueError: the text has no certificate in it.
    """
    # Bundles have comments, in any alphabet; Python takes ASCII alone.
    text = ca.encode("ascii", "ignore").decode()
    try:
        if "-----BEGIN CERTIFICATE-----" not in text:  # of none at all Python would make the machine's own
            raise ValueError("no certificate")
        return ssl.create_default_context(cadata=text)
    except (ssl.SSLError, ValueError, TypeError):
        raise ValueError(
            "ca.crt of the Secret for Prometheus is not a PEM certificate: it must begin with "
            "-----BEGIN CERTIFICATE-----"
        ) from None
