"""Where the API server is: the pod's service account, else the current kubeconfig."""

from __future__ import annotations

from typing import Any

from kubernetes.aio import client, config


async def configuration(context: str | None = None) -> client.Configuration:
    """A client configuration.

    Raises:
        kubernetes.aio.config.ConfigException: there is neither, or no such context.
    """
    made, generated = client.Configuration(), _untyped()
    if context is None:
        try:
            generated.load_incluster_config(client_configuration=made)
        except config.ConfigException:
            pass
        else:
            return made
    await generated.load_kube_config(client_configuration=made, context=context)
    return made


async def default_namespace(context: str | None = None) -> str:
    """The namespace of the kubeconfig's context, as kubectl has it."""
    contexts, current = _untyped().list_kube_config_contexts()
    chosen = next((c for c in contexts if c["name"] == context), current)
    return str(chosen["context"].get("namespace") or "default")


def _untyped() -> Any:
    return config  # generated code without types
