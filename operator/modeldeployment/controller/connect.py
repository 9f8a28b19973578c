"""Where the API server is: an explicit kubeconfig, else the pod's service account, else ~/.kube/config."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes.aio import client, config

DEFAULT_KUBECONFIG = "~/.kube/config"
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach the API server.

    Attributes:
        configuration: of the client.
        namespace: the one that is meant when none is named.
    """

    configuration: client.Configuration
    namespace: str


async def connection(context: str | None = None) -> Connection:
    """$KUBECONFIG or a context of the kubeconfig is explicit, so it wins over a pod's service account, as in kubectl.

    Raises:
        kubernetes.aio.config.ConfigException: there is none of them, no such context, or it cannot be read.
    """
    explicit = os.environ.get("KUBECONFIG", "")
    if explicit or context is not None:
        return await _by_kubeconfig(explicit or DEFAULT_KUBECONFIG, context)
    made = client.Configuration()
    try:
        _untyped().load_incluster_config(client_configuration=made)
    except config.ConfigException as error:
        no_pod = str(error)
    else:
        return Connection(made, _namespace_of_pod())
    if not _exists(DEFAULT_KUBECONFIG):
        raise config.ConfigException(
            f"no cluster is named: there is neither $KUBECONFIG nor {DEFAULT_KUBECONFIG}, nor a service account "
            f"({no_pod.rstrip('.')})"
        )
    return await _by_kubeconfig(DEFAULT_KUBECONFIG, None)


async def configuration(context: str | None = None) -> client.Configuration:
    """The client configuration alone. Raises as `connection`."""
    return (await connection(context)).configuration


async def _by_kubeconfig(paths: str, context: str | None) -> Connection:
    if not _exists(paths):
        raise config.ConfigException(f"the kubeconfig {paths} does not exist")
    made = client.Configuration()
    try:
        loader = await _untyped().load_kube_config(config_file=paths, context=context, client_configuration=made)
        namespace = loader.current_context["context"].get("namespace")
    except config.ConfigException:
        raise
    except Exception as error:  # of YAML, of a missing key, of a file that may not be read: the loader lets all through
        raise config.ConfigException(f"the kubeconfig {paths} cannot be used: {error}") from error
    return Connection(made, str(namespace or DEFAULT_NAMESPACE))


def _exists(paths: str) -> bool:
    """Whether one of the files is there: the loader goes on without those that are not."""
    return any(Path(path).expanduser().exists() for path in paths.split(os.pathsep) if path)


def _namespace_of_pod() -> str:
    try:
        return NAMESPACE_FILE.read_text().strip() or DEFAULT_NAMESPACE
    except OSError:
        return DEFAULT_NAMESPACE


def _untyped() -> Any:
    return config  # generated code without types
