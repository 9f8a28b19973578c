"""One ModelDeployment as the fleet holds it between looks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from zlib import crc32

import pydantic

from modeldeployment.api.base import JSON
from modeldeployment.api.modeldeployment import ModelDeploymentSpec, ModelDeploymentStatus
from modeldeployment.api.modelrevision import ModelRevisionSpec
from modeldeployment.api.owner import Owner
from modeldeployment.api.status import ChosenDialect
from modeldeployment.controller.resources import Resource
from modeldeployment.controller.store import Key, newer
from modeldeployment.decision.evidence import Evidence, History, Interval, Revision
from modeldeployment.decision.memory import Memory
from modeldeployment.serving.children import revision_of


@dataclass(slots=True)
class Entry:
    """A model's spec, its status as decided last (ahead of what is stored), and its tests.

    Attributes:
        key: namespace and name.
        obj: the object as stored, with the resourceVersion that the next status write must meet.
        spec: its spec, parsed once for each resourceVersion; None when it does not parse.
        target, content: the revision that the spec asks for.
        status: what was decided last.
        written, written_at: the status as this process wrote or read it last, and when.
        stored: the same as the API server has it: another one in `obj` is somebody else's.
        evidence: what the last look saw; its intervals are in `unused`.
        unused: intervals that no stored decision has taken in yet.
        history: the control's past, until a decision took it in.
        failures: decisions or writes that failed in a row.
        told_problem: the `problem` that was told last.
        refusal: why the API server did not take a child, in its words.
        turn: the decision that waits for the one under way to end.
        weights: revision → percent that the router was last seen to apply.
        made: children that were there once: one of them that is missing was deleted by somebody.
        as_wanted: revision → resourceVersion at which its Deployment's template was put right last; the same for the
            route, under the model's name.
        contents: revision with a part → what it serves: its ModelRevision may be deleted.
        dialect: the metrics dialect that Auto chose.
        by_pod: whether the metrics tell a revision by its pods.
    """

    key: Key
    obj: JSON
    spec: ModelDeploymentSpec | None = None
    target: Revision = field(default_factory=lambda: Revision("", ""))
    content: ModelRevisionSpec | None = None
    problem: str = ""
    status: ModelDeploymentStatus = field(default_factory=ModelDeploymentStatus)
    written: ModelDeploymentStatus = field(default_factory=ModelDeploymentStatus)
    written_at: datetime | None = None
    stored: JSON = field(default_factory=dict)
    failures: int = 0
    told_problem: str = ""
    memory: Memory = field(default_factory=Memory)
    evidence: Evidence | None = None
    unused: tuple[Interval, ...] = ()
    history: History | None = None
    refusal: str = ""
    weights: dict[str, int] = field(default_factory=dict)
    made: set[tuple[Resource, str]] = field(default_factory=set)
    as_wanted: dict[str, str] = field(default_factory=dict)
    contents: dict[str, ModelRevisionSpec] = field(default_factory=dict)
    dialect: ChosenDialect | None = None
    by_pod: bool = True
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    turn: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, key: Key, obj: JSON) -> Entry:
        """An entry that knows no more than the object says."""
        entry = cls(key, obj)
        entry.adopt(obj)
        entry.reset()
        return entry

    @property
    def owner(self) -> Owner:
        """What its children refer to."""
        return Owner(self.key[0], self.key[1], self.obj["metadata"]["uid"])

    @property
    def foreign(self) -> bool:
        """Whether somebody else wrote the status."""
        return (self.obj.get("status") or {}) != self.stored

    def wrote(self, stored: JSON, status: ModelDeploymentStatus, now: datetime) -> None:
        """A status write came through: `stored` is the API server's answer, which may be late."""
        self.written, self.written_at, self.stored = status, now, stored.get("status") or {}
        self.adopt(stored)

    def adopt(self, obj: JSON) -> None:
        """A newer object: its spec counts; its status is ours already, unless it is `foreign`. An older one is not."""
        had, has = self.obj["metadata"], obj["metadata"]
        if had["uid"] == has["uid"] and newer(had["resourceVersion"], than=has["resourceVersion"]):
            return
        same_spec = self.spec is not None and _spec_id(self.obj) == _spec_id(obj)
        self.obj = obj
        if same_spec:
            return
        try:
            self.spec = ModelDeploymentSpec.model_validate(obj["spec"])
        except pydantic.ValidationError as error:  # an object that a newer CRD let in
            self.spec, self.problem = None, str(error)
            return
        self.problem = ""
        name, self.content = revision_of(self.key[1], self.spec)
        self.target = Revision(name, self.spec.model.version)

    def reset(self) -> None:
        """Goes on from the stored status alone, as a new process would."""
        self.stored = self.obj.get("status") or {}
        self.status = self.written = ModelDeploymentStatus.model_validate(self.stored)
        self.memory, self.evidence, self.unused, self.history = Memory(), None, (), None
        self.dialect = self.status.dialect
        roles = (self.status.stable, self.status.canary, self.status.previous)
        self.weights = {r.revision: r.weight for r in roles if r is not None and r.weight is not None}


def _spec_id(obj: JSON) -> tuple[str, int]:
    """Generations begin anew with an object that was deleted and made again."""
    return obj["metadata"]["uid"], obj["metadata"]["generation"]


def share(key: Key) -> float:
    """A number from 0 to 1, always the same for a model: what is due once in a while is not due for all at once."""
    return crc32("/".join(key).encode()) / 2**32
