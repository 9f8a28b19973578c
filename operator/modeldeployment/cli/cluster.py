"""What the verbs share: which object is meant, and how it is read and written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, NoReturn, TypeVar

import pydantic
import typer
from kubernetes.aio import client
from kubernetes.aio.config import ConfigException

from modeldeployment.api import names
from modeldeployment.api.base import JSON
from modeldeployment.api.modeldeployment import ModelDeploymentSpec, ModelDeploymentStatus
from modeldeployment.api.modelpolicy import ModelPolicySpec
from modeldeployment.controller import connect
from modeldeployment.controller.kube import ApiError, Kube
from modeldeployment.controller.resources import MODEL_DEPLOYMENTS, MODEL_POLICIES

T = TypeVar("T")

Name = Annotated[str, typer.Argument(help="Name of the ModelDeployment.")]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Its namespace; default: the kubeconfig's, or the pod's.")
]
Context = Annotated[str | None, typer.Option(help="The kubeconfig's context.")]
Reason = Annotated[str, typer.Option(help="Why: shown in the status.")]


@dataclass(frozen=True, slots=True)
class Seen:
    """A ModelDeployment as it was read. `stored` is its spec as the API server has it, in its `generation`."""

    stored: JSON
    status: ModelDeploymentStatus
    generation: int = 0

    @property
    def spec(self) -> ModelDeploymentSpec:
        """The spec, parsed. Raises pydantic.ValidationError."""
        return ModelDeploymentSpec.model_validate(self.stored)


@dataclass(frozen=True, slots=True)
class Target:
    """One ModelDeployment on a cluster."""

    kube: Kube
    namespace: str
    name: str

    async def see(self) -> Seen:
        """Reads it. Every verb does so first: server-side apply would make what is not there."""
        try:
            obj = await self.kube.get(MODEL_DEPLOYMENTS, self.namespace, self.name)
        except ApiError as error:
            if error.status != 404:
                raise
            kind = f"{MODEL_DEPLOYMENTS.plural}.{names.GROUP}"
            if error.reason == "NotFound":
                fail(f'{kind} "{self.name}" not found in namespace {self.namespace}')
            fail(f"the API server does not know {kind}: are the CRDs installed?")
        stored, status = _spec(obj), ModelDeploymentStatus.model_validate(obj.get("status") or {})
        return Seen(stored, status, (obj.get("metadata") or {}).get("generation", 0))

    async def policy(self) -> ModelPolicySpec | None:
        """The cluster's ModelPolicy; None where there is none, or one that a newer version made."""
        try:
            obj = await self.kube.get(MODEL_POLICIES, None, "default")
            return ModelPolicySpec.model_validate(obj["spec"])
        except ApiError as error:
            if error.status not in (403, 404):
                raise
        except pydantic.ValidationError:
            pass
        return None

    async def say(self, concern: str, spec: JSON) -> JSON:
        """Sets fields of the spec by server-side apply, under a manager of their own: Git need not have them.

        What this manager set before and the new `spec` lacks goes away. Returns the whole spec as it is then.
        """
        body = {
            "apiVersion": names.API_VERSION,
            "kind": MODEL_DEPLOYMENTS.kind,
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": spec,
        }
        return _spec(await self.kube.apply(MODEL_DEPLOYMENTS, body, f"{names.FIELD_MANAGER_PERSON}-{concern}"))


def _spec(answer: JSON) -> JSON:
    spec = answer.get("spec")
    if not isinstance(spec, dict):  # a proxy's page, or a list
        fail("the answer is no ModelDeployment: is it an API server, and is the name one?")
    return spec


@asynccontextmanager
async def reach(context: str | None) -> AsyncIterator[tuple[Kube, str]]:
    """The API server, and the namespace that is meant when none is named."""
    connection = await connect.connection(context)
    async with client.ApiClient(connection.configuration) as api:
        yield Kube(api), connection.namespace


def on(name: str, namespace: str | None, context: str | None, do: Callable[[Target], Awaitable[T]]) -> T:
    """Runs `do` on a ModelDeployment; what the API server says is what the person reads."""

    async def run() -> T:
        async with reach(context) as (kube, usual):
            return await do(Target(kube, namespace or usual, name))

    try:
        return asyncio.run(run())
    except ApiError as error:
        fail(error.message or str(error))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        fail(f"{name} cannot be read, is this command older than the CRDs? {where}: {first['msg']}")
    except (ConfigException, OSError, ValueError) as error:  # ValueError: a token or proxy that cannot be one
        fail(str(error))


def fail(message: str) -> NoReturn:
    """Says what is wrong, in one line, and exits with 1."""
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    raise typer.Exit(1)
