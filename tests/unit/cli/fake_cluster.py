"""A cluster for the verbs: a fake API server that knows whose field is whose, and `kubectl model …` against it."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from typer.testing import CliRunner

from builders import model_deployment
from modeldeployment.api import names
from modeldeployment.api.base import JSON
from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.cli import cluster
from modeldeployment.cli.app import app
from modeldeployment.controller.kube import ApiError, Kube
from modeldeployment.controller.resources import MODEL_DEPLOYMENTS, Resource
from modeldeployment.serving.children import revision_of
from unit.controller.fake_kube import FakeKube


class Cluster(FakeKube):
    """One ModelDeployment, `fraud` in `team`. `said`: (manager, spec) of each apply; `answer`: to every read instead.

    As in server-side apply, what a manager set before and leaves out now goes, unless Git (the spec at first) has it
    too. Only as deep as the verbs go: maps of values.
    """

    def __init__(self, spec: JSON | None = None, status: JSON | None = None) -> None:
        super().__init__()
        obj = model_deployment({f"spec.{path}": value for path, value in (spec or {}).items()}, namespace="team")
        self.git = copy.deepcopy(obj["spec"])
        self.hold(MODEL_DEPLOYMENTS, {**obj, **({"status": status} if status else {})})
        self.said: list[tuple[str, JSON]] = []
        self.context: str | None = ""
        self.answer: JSON | ApiError | None = None

    @property
    def spec(self) -> JSON:
        """The spec as stored."""
        spec: JSON = self.objects[MODEL_DEPLOYMENTS][("team", "fraud")]["spec"]
        return spec

    @property
    def target(self) -> str:
        """The revision that the spec asks for."""
        return revision_of("fraud", ModelDeploymentSpec.model_validate(self.spec))[0]

    def tell(self, status: JSON) -> None:
        """The operator writes a status."""
        obj = self.objects[MODEL_DEPLOYMENTS][("team", "fraud")]
        self.hold(MODEL_DEPLOYMENTS, {**obj, "status": status})

    async def get(self, resource: Resource, namespace: str | None, name: str) -> JSON:
        """The object, or what was put in its place."""
        if isinstance(self.answer, ApiError):
            raise self.answer
        return await super().get(resource, namespace, name) if self.answer is None else self.answer

    async def apply(self, resource: Resource, body: JSON, manager: str = names.FIELD_MANAGER) -> JSON:
        """Server-side apply of a spec."""
        self._record("APPLY", resource, body["metadata"]["name"])
        known = self._found(resource, (body["metadata"]["namespace"], body["metadata"]["name"]))
        before = [spec for who, spec in self.said if who == manager]
        self.said.append((manager, copy.deepcopy(body["spec"])))
        kept = _without(known["spec"], before[-1]) if before else known["spec"]
        return self.hold(resource, {**known, "spec": _laid(_laid(kept, self.git), body["spec"])})

    def run(self, *args: str, charset: str = "utf-8") -> tuple[int, str]:
        """`kubectl model …`: exit code, and what the person reads, on a terminal of that character set."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cluster, "reach", self._reach)
            result = CliRunner(charset=charset).invoke(app, args)
        assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
        return result.exit_code, result.output.strip()

    @asynccontextmanager
    async def _reach(self, context: str | None) -> AsyncIterator[tuple[Kube, str]]:
        self.context = context
        yield self, "team"


def _laid(below: JSON, above: JSON) -> JSON:
    out = dict(below)
    for key, value in above.items():
        out[key] = _laid(out.get(key) or {}, value) if isinstance(value, dict) else value
    return out


def _without(obj: JSON, gone: JSON) -> JSON:
    out = {}
    for key, value in obj.items():
        if key not in gone:
            out[key] = value
        elif isinstance(value, dict) and (left := _without(value, gone[key])):
            out[key] = left
    return out
