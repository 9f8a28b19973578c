"""What the verbs share: which object is meant, and how it is read and written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, NoReturn, TypeVar

import typer
from kubernetes.aio import client
from kubernetes.aio.config import ConfigException

from modeldeployment.api import names
from modeldeployment.api.base import JSON
from modeldeployment.api.modeldeployment import ModelDeploymentStatus
from modeldeployment.controller import connect
from modeldeployment.controller.kube import ApiError, Kube
from modeldeployment.controller.resources import MODEL_DEPLOYMENTS

T = TypeVar("T")

Name = Annotated[str, typer.Argument(help="Name of the ModelDeployment.")]
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Its namespace; default: the kubeconfig's.")]
Context = Annotated[str | None, typer.Option(help="The kubeconfig's context.")]
Reason = Annotated[str, typer.Option(help="Why: shown in the status.")]


@dataclass(frozen=True, slots=True)
class Target:
    """One ModelDeployment on a cluster."""

    kube: Kube
    namespace: str
    name: str

    async def read(self) -> JSON:
        """The object as stored."""
        return await self.kube.get(MODEL_DEPLOYMENTS, self.namespace, self.name)

    async def status(self) -> ModelDeploymentStatus:
        """Its status."""
        return ModelDeploymentStatus.model_validate((await self.read()).get("status") or {})

    async def say(self, concern: str, spec: JSON) -> None:
        """Sets fields of the spec by server-side apply, under a manager of their own: Git need not have them."""
        body = {
            "apiVersion": names.API_VERSION,
            "kind": MODEL_DEPLOYMENTS.kind,
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": spec,
        }
        await self.kube.apply(MODEL_DEPLOYMENTS, body, f"{names.FIELD_MANAGER_PERSON}-{concern}")


def on(name: str, namespace: str | None, context: str | None, do: Callable[[Target], Awaitable[T]]) -> T:
    """Runs `do` on a ModelDeployment; what the API server says is what the person reads."""

    async def run() -> T:
        configuration = await connect.configuration(context)
        async with client.ApiClient(configuration) as api:
            where = namespace or await connect.default_namespace(context)
            return await do(Target(Kube(api), where, name))

    try:
        return asyncio.run(run())
    except ApiError as error:
        fail(error.message)
    except (ConfigException, OSError) as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """Says what is wrong and exits with 1."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(1)
