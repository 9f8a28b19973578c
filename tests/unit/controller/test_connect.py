"""Which API server, and which namespace."""

from __future__ import annotations

from pathlib import Path

import pytest
from kubernetes.aio.config import ConfigException, incluster_config

from modeldeployment.controller import connect

KUBECONFIG = """\
current-context: blue
contexts:
  - {name: blue, context: {cluster: blue, user: me, namespace: team}}
  - {name: green, context: {cluster: green, user: me}}
clusters:
  - {name: blue, cluster: {server: "https://blue.example.com"}}
  - {name: green, cluster: {server: "https://green.example.com"}}
users: [{name: me, user: {token: x}}]
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a kubeconfig, outside of a pod."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(connect, "NAMESPACE_FILE", tmp_path / "namespace")
    return tmp_path


@pytest.fixture
def pod(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In a pod: a service account is mounted."""
    for name, text in {"token": "x", "ca.crt": "x", "namespace": "pods-own\n"}.items():
        (home / name).write_text(text)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(home / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(home / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return home


def at_home(home: Path) -> None:
    """A kubeconfig where it is without $KUBECONFIG."""
    (home / ".kube").mkdir()
    (home / ".kube" / "config").write_text(KUBECONFIG)


def explicit(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kubeconfig by $KUBECONFIG, beside one that is not there."""
    (home / "mine").write_text(KUBECONFIG)
    monkeypatch.setenv("KUBECONFIG", f"{home / 'none'}:{home / 'mine'}")


async def where(context: str | None = None) -> tuple[str, str]:
    """The API server and the namespace."""
    found = await connect.connection(context)
    assert (await connect.configuration(context)).host == found.configuration.host
    return str(found.configuration.host), found.namespace


async def test_a_pod_has_its_service_account_and_its_namespace(pod: Path) -> None:
    """Without $KUBECONFIG, and even where the image's home has a kubeconfig: the operator is who the chart says."""
    assert await where() == ("https://10.0.0.1:443", "pods-own")
    at_home(pod)
    assert await where() == ("https://10.0.0.1:443", "pods-own")


async def test_an_explicit_kubeconfig_wins_in_a_pod(pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in kubectl; its namespace is the kubeconfig's too."""
    explicit(pod, monkeypatch)
    assert await where() == ("https://blue.example.com", "team")


async def test_a_context_wins_in_a_pod(pod: Path) -> None:
    """It is one of the kubeconfig at home; a context without a namespace means `default`."""
    at_home(pod)
    assert await where("green") == ("https://green.example.com", "default")


async def test_outside_of_a_pod_it_is_the_kubeconfig(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$KUBECONFIG, which may be empty, or the one at home."""
    at_home(home)
    monkeypatch.setenv("KUBECONFIG", "")
    assert await where() == ("https://blue.example.com", "team")


async def test_a_context_needs_no_current_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--context is enough where the kubeconfig has no current-context."""
    at_home(home)
    text = KUBECONFIG.replace("current-context: blue\n", "")
    (home / ".kube" / "config").write_text(text)
    assert await where("blue") == ("https://blue.example.com", "team")


async def test_no_cluster_at_all_says_what_was_looked_for(home: Path) -> None:
    """Neither kubeconfig nor service account."""
    with pytest.raises(ConfigException, match=r"neither \$KUBECONFIG nor ~/.kube/config, nor a service account"):
        await connect.connection()


async def test_an_explicit_kubeconfig_that_is_not_there_is_an_error_in_a_pod_too(
    pod: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typo in $KUBECONFIG must not make it another cluster."""
    monkeypatch.setenv("KUBECONFIG", str(pod / "typo"))
    with pytest.raises(ConfigException, match="typo does not exist"):
        await connect.connection()


@pytest.mark.parametrize("text", ["", "a: [", "- 1", KUBECONFIG.replace("cluster: blue,", "")])
async def test_a_kubeconfig_that_cannot_be_read_is_one_kind_of_error(
    home: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Whatever the loader raises: nothing in it, no YAML, no map, a context without a cluster."""
    (home / "bad").write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(home / "bad"))
    with pytest.raises(ConfigException):
        await connect.connection()


async def test_a_context_that_is_not_there_is_an_error(home: Path) -> None:
    """Not the current one instead."""
    at_home(home)
    with pytest.raises(ConfigException, match="red"):
        await connect.connection("red")
