"""Manifests and fragments of them from a file: a ModelDeployment, a ModelPolicy beside it, or a bare policy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import pydantic
import yaml

from modeldeployment.api.base import JSON, Model
from modeldeployment.api.modeldeployment import ModelDeploymentSpec, ModelDeploymentStatus
from modeldeployment.api.modelpolicy import ModelPolicySpec
from modeldeployment.api.objectives import Objective
from modeldeployment.api.quantities import seconds
from modeldeployment.decision.rules import trial_rules
from modeldeployment.replaying.history import Reading

M = TypeVar("M", bound=Model)
PARTS: Final = ("objectives", "rollout", "serving")
"""What a fragment may have: the policy itself, and in `serving.metrics` how its metrics are read."""
_REST: Final[JSON] = {
    "model": {"version": "policy"},
    "serving": {"template": {"spec": {"containers": [{"name": "model", "image": "none"}]}}},
    "traffic": {"gateway": {"parentRefs": [{"name": "none"}], "hostnames": ["none.example.com"]}},
}
"""What a fragment need not have: none of it plays a part in a judgement."""


class ManifestError(Exception):
    """A file that says no such thing. `str()` is a sentence for people, and names the field."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a file says.

    Attributes:
        name, namespace: of the ModelDeployment; "" in a fragment.
        spec: its spec.
        status: its status, if it is there.
        defaults: objectives of a ModelPolicy in the same file.
        reading: how that policy has metrics read.
    """

    name: str
    namespace: str
    spec: ModelDeploymentSpec
    status: ModelDeploymentStatus
    defaults: tuple[Objective, ...] = ()
    reading: Reading = field(default_factory=Reading)


def load(text: str) -> Manifest:
    """The manifest in a text of one or more YAML documents.

    Raises:
        ManifestError: it is no YAML, no ModelDeployment or fragment of one, or has a field that cannot be.
    """
    try:
        documents = [one for one in yaml.safe_load_all(text) if one is not None]
    except yaml.YAMLError as error:
        raise ManifestError(f"is no YAML: {' '.join(str(error).split())}") from None
    main: JSON | None = None
    policy: JSON | None = None
    for document in documents:
        if not isinstance(document, dict):
            raise ManifestError("holds a document that is no object: a ModelDeployment is expected, or its parts")
        kind = document.get("kind", "")
        if kind not in ("ModelDeployment", "ModelPolicy", ""):
            raise ManifestError(f"holds a {kind}: a ModelDeployment is expected, or its parts objectives and rollout")
        if kind == "ModelPolicy":
            policy = document
        elif main is not None:
            raise ManifestError("holds more than one ModelDeployment: leave one of them")
        else:
            main = document
    if main is None:
        raise ManifestError("holds no ModelDeployment, and none of its parts objectives and rollout")
    return _manifest(main, policy)


def _manifest(main: JSON, policy: JSON | None) -> Manifest:
    metadata = main.get("metadata") or {}
    whole, has_spec = bool(main.get("kind")), "spec" in main
    if whole and not has_spec:
        raise ManifestError("has no spec")
    spec = spec_of(main["spec"] if has_spec else main, fragment=not whole, where="spec." if has_spec else "")
    defaults: tuple[Objective, ...] = ()
    reading = Reading()
    if policy is not None:
        decided = _validated(ModelPolicySpec, policy.get("spec") or {}, "ModelPolicy: spec.")
        _check_objectives(decided.objectives, "ModelPolicy: spec.")
        defaults, reading = tuple(decided.objectives), Reading.of(decided)
    if not trial_rules(spec, defaults):
        raise ManifestError("has neither objectives nor rollout.rollbackOn: nothing says what good is")
    status = _validated(ModelDeploymentStatus, main.get("status") or {}, "status.")
    return Manifest(str(metadata.get("name", "")), str(metadata.get("namespace", "")), spec, status, defaults, reading)


def spec_of(stored: Any, *, fragment: bool, where: str = "spec.") -> ModelDeploymentSpec:
    """The spec of a manifest, or of a fragment, in which only the policy is there.

    Raises:
        ManifestError: a field cannot be; names it, with `where` before it.
    """
    if not isinstance(stored, dict):
        raise ManifestError(f"{where.rstrip('.') or 'it'} is no object")
    if fragment:
        stored = {key: value for key, value in stored.items() if key not in ("metadata", "apiVersion")}
        known = {**dict.fromkeys(PARTS), **_REST}
        if unknown := sorted(stored.keys() - known.keys() - {"suspend"}):
            raise ManifestError(f"{where}{unknown[0]} is no part of a policy: objectives, rollout, serving.metrics are")
        serving = stored.get("serving") or {}
        if not isinstance(serving, dict):
            raise ManifestError(f"{where}serving is no object")
        stored = {**_REST, **stored, "serving": {**_REST["serving"], **serving}}
    spec = _validated(ModelDeploymentSpec, stored, where)
    _check_objectives(spec.objectives, where)
    _check_rollout(spec, f"{where}rollout.")
    return spec


def _validated(type_: type[M], data: Any, where: str) -> M:
    try:
        return type_.model_validate(data)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in first["loc"]).lstrip(".")
        said = first["msg"].removeprefix("Value error, ")
        shown = "" if isinstance(first["input"], dict | list) else f" (is {first['input']!r})"
        raise ManifestError(f"{where}{path}: {said}{shown}") from None


def _check_objectives(objectives: list[Objective], where: str) -> None:
    """What the API server would refuse by CEL, and a judgement stumbles over."""
    seen = set()
    for number, objective in enumerate(objectives):
        at = f"{where}objectives[{number}]"
        kinds = (objective.error_rate, objective.latency, objective.availability, objective.promql)
        if sum(kind is not None for kind in kinds) != 1:
            raise ManifestError(f"{at}: set exactly one of errorRate, latency, availability, promql")
        if objective.promql and (objective.promql.max is None) == (objective.promql.min is None):
            raise ManifestError(f"{at}.promql: set exactly one of max, min")
        if objective.name in seen:
            raise ManifestError(f"{at}.name: {objective.name} is there twice")
        seen.add(objective.name)
        if objective.error_rate:
            _share(objective.error_rate.max, f"{at}.errorRate.max")
        if objective.availability:
            _share(objective.availability.min, f"{at}.availability.min")


def _check_rollout(spec: ModelDeploymentSpec, where: str) -> None:
    rollout = spec.rollout
    if (rollout.canary.traffic is None) == (not rollout.canary.steps):
        raise ManifestError(f"{where}canary: set exactly one of traffic, steps")
    weights = [weight for weight, _ in rollout.canary.plan()]
    if weights != sorted(set(weights)):
        raise ManifestError(f"{where}canary.steps: each step must send more traffic than the one before")
    if rollout.rollback_on and rollout.rollback_on.error_rate:
        _share(rollout.rollback_on.error_rate, f"{where}rollbackOn.errorRate")
    if rollout.rollback_on and any(not re.search("[1-9]", bound) for bound in rollout.rollback_on.latencies().values()):
        raise ManifestError(f"{where}rollbackOn: a latency bound must be above zero")
    for what, length in _durations(spec):
        if seconds(length) <= 0:
            raise ManifestError(f"{where}{what}: must be longer than nothing")
    sequential = rollout.analysis.sequential
    if sequential is None:
        return
    if not 0 < float(sequential.false_rollback.removesuffix("%")) <= 20:
        raise ManifestError(f"{where}analysis.sequential.falseRollback: must be above 0% and at most 20%, e.g. 5%")
    for name in ("detectable", "tolerance"):
        if not 1 <= float(getattr(sequential, name)) <= 10:
            raise ManifestError(f'{where}analysis.sequential.{name}: must be from "1" to "10"')


def _durations(spec: ModelDeploymentSpec) -> Iterator[tuple[str, str]]:
    yield "analysis.interval", spec.rollout.analysis.interval
    yield "deadline", spec.rollout.deadline
    if spec.rollout.analysis.threshold:
        yield "analysis.threshold.window", spec.rollout.analysis.threshold.window


def _share(text: str, where: str) -> None:
    if not 0 < float(text.strip("> %")) < 100:
        raise ManifestError(f"{where}: must be above 0% and below 100%: nothing can prove that no request ever fails")
