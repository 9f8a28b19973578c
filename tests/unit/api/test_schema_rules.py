"""The generated CRDs follow the Kubernetes API conventions, and each lint that says so can fail."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from modeldeployment.api.conditions import ConditionType
from unit.api import lints
from unit.api.lints import LINTS, Lint, Schema

CRDS = sorted((Path(__file__).parents[3] / "crds").glob("*.yaml"))


def _load(path: Path) -> Schema:
    crd = yaml.safe_load(path.read_text())
    assert isinstance(crd, dict)
    return crd


def _hold(lint: Lint, crd: Path) -> None:
    wrong = lint(_load(crd))
    assert not wrong, f"crds/{crd.name} breaks the rule {lint.__doc__}\n  " + "\n  ".join(wrong)


every_crd = pytest.mark.parametrize("crd", CRDS, ids=lambda path: path.stem)


def test_there_are_crds() -> None:
    """The lints look at the three CRDs."""
    assert [path.stem for path in CRDS] == ["modeldeployments", "modelpolicies", "modelrevisions"]


@every_crd
def test_only_spec_and_status_at_the_top(crd: Path) -> None:
    """Rule 1: metadata, spec and status, and status has its own subresource."""
    _hold(lints.r01_spec_and_status, crd)


@every_crd
def test_no_phase(crd: Path) -> None:
    """Rule 3: there is no field `phase`."""
    _hold(lints.r03_no_phase, crd)


@every_crd
def test_conditions_come_first(crd: Path) -> None:
    """Rule 4: status begins with conditions, a list map by type."""
    _hold(lints.r04_conditions_first, crd)


def test_types_of_conditions_are_adjectives() -> None:
    """Rule 5: a condition's type is a PascalCase adjective or participle; Progressing is Kubernetes' own."""
    wrong = [
        t for t in ConditionType if not re.fullmatch(r"([A-Z][a-z]+)+", t) or (t.endswith("ing") and t != "Progressing")
    ]
    assert not wrong, f"types of conditions must be adjectives or participles in PascalCase: {wrong}"


@every_crd
def test_conditions_have_all_that_people_look_for(crd: Path) -> None:
    """Rules 6, 7 and 8: status is True, False or Unknown; reason, generation and time are required."""
    _hold(lints.r06_condition_status, crd)


@every_crd
def test_enums_are_camel_case(crd: Path) -> None:
    """Rule 13: values of enums are CamelCase, but for a short list of names that are written otherwise."""
    _hold(lints.r13_enums, crd)


@every_crd
def test_no_booleans(crd: Path) -> None:
    """Rule 14: there is no boolean."""
    _hold(lints.r14_no_booleans, crd)


@every_crd
def test_no_floats(crd: Path) -> None:
    """Rule 15: there is no float, and no integer that JSON cannot carry."""
    _hold(lints.r15_no_floats, crd)


@every_crd
def test_times_say_what_they_are(crd: Path) -> None:
    """Rule 16: moments end in Time, durations have a unit."""
    _hold(lints.r16_times, crd)


@every_crd
def test_named_items_are_list_maps(crd: Path) -> None:
    """Rule 17: lists of named items are merged by name; there are no maps of things."""
    _hold(lints.r17_lists_of_named, crd)


@every_crd
def test_unions_take_exactly_one(crd: Path) -> None:
    """Rule 17: of a union exactly one member may be set."""
    _hold(lints.r17_unions, crd)


@every_crd
def test_references_say_so(crd: Path) -> None:
    """Rule 18: what points at another object is called …Ref."""
    _hold(lints.r18_references, crd)


@every_crd
def test_optional_or_required(crd: Path) -> None:
    """Rule 19: only optional fields have defaults."""
    _hold(lints.r19_required_or_default, crd)


@every_crd
def test_everything_is_bounded(crd: Path) -> None:
    """Rule 19: strings, lists, maps and numbers have bounds."""
    _hold(lints.r19_bounds, crd)


@every_crd
def test_lists_have_a_type(crd: Path) -> None:
    """Rule 19: every list says how it is merged."""
    _hold(lints.r19_list_types, crd)


@every_crd
def test_messages_tell_the_fix(crd: Path) -> None:
    """Rule 19: a refusal is a sentence that tells the fix, without a regular expression in it."""
    _hold(lints.r19_messages, crd)


@every_crd
def test_rules_are_portable(crd: Path) -> None:
    """Rule 19: CEL rules compile on Kubernetes 1.30."""
    _hold(lints.r19_portable, crd)


@every_crd
def test_small_enough_to_apply(crd: Path) -> None:
    """Rule 20: a CRD fits into the annotation that client-side `kubectl apply` writes."""
    _hold(lints.r20_size, crd)
    assert crd.stat().st_size < lints.FILE_BYTES_MAX, f"{crd.name} must stay below 200 KiB"


@every_crd
def test_own_domain(crd: Path) -> None:
    """Rule 20: the API group is not one of Kubernetes' own."""
    _hold(lints.r20_group, crd)


@every_crd
def test_every_field_is_described(crd: Path) -> None:
    """Convention: kubectl explain has a sentence for every field and column."""
    _hold(lints.descriptions, crd)


@every_crd
def test_names_are_camel_case(crd: Path) -> None:
    """Convention: names of fields are camelCase."""
    _hold(lints.camel_case, crd)


def _sound() -> Schema:
    """A tiny CRD that breaks no rule."""
    text = {"type": "string", "maxLength": 9, "description": "A text."}
    condition = {
        "type": "object",
        "required": ["type", "status", "reason", "message", "observedGeneration", "lastTransitionTime"],
        "properties": {
            "type": text,
            "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether."},
            "reason": {**text, "minLength": 1},
            "message": text,
            "observedGeneration": _integer(),
            "lastTransitionTime": {"type": "string", "format": "date-time", "description": "When."},
        },
    }
    conditions = {
        "type": "array",
        "maxItems": 8,
        "items": condition,
        "description": "Conditions.",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    }
    spec = {"type": "object", "description": "Wanted.", "properties": {"text": text}, "required": ["text"]}
    status = {"type": "object", "description": "Seen.", "properties": {"conditions": conditions}}
    schema = {"type": "object", "properties": {"spec": spec, "status": status}}
    return {
        "spec": {
            "group": "example.io",
            "versions": [{"subresources": {"status": {}}, "schema": {"openAPIV3Schema": schema}}],
        }
    }


def _integer(**more: Any) -> Schema:
    return {"type": "integer", "format": "int32", "minimum": 0, "maximum": 9, "description": "A number.", **more}


def _object(*required: str, **properties: Schema) -> Schema:
    return {"type": "object", "description": "A thing.", "properties": properties, "required": [*required]}


def _list(*keys: str, **more: Any) -> Schema:
    how = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [*keys]} if keys else {}
    return {"type": "array", "maxItems": 9, "description": "Things.", **how, **more}


_TEXT: Schema = {"type": "string", "maxLength": 9, "description": "A text."}
_ATOMIC = {"x-kubernetes-list-type": "atomic"}
_LONG = "A long story. " * 20_000


def _rule(message: str, rule: str = "self == self") -> Schema:
    return {**_TEXT, "x-kubernetes-validations": [{"rule": rule, "message": message}]}


# Each: the lint, a field of spec that breaks its rule, and a word of what it says.
BROKEN_FIELDS: tuple[tuple[Lint, str, Schema, str], ...] = (
    (lints.r03_no_phase, "phase", _TEXT, "deprecated"),
    (lints.r03_no_phase, "rolloutPhase", _TEXT, "deprecated"),
    (lints.r13_enums, "mode", {**_TEXT, "enum": ["rolled_back"]}, "not CamelCase"),
    (lints.r13_enums, "mode", {**_TEXT, "enum": ["ALL"]}, "not CamelCase"),
    (lints.r13_enums, "level", _integer(enum=[3]), "not CamelCase"),
    (lints.r14_no_booleans, "auto", {"type": "boolean", "description": "No."}, "boolean"),
    (lints.r15_no_floats, "rate", {"type": "number", "description": "No."}, "float"),
    (lints.r15_no_floats, "any", {"x-kubernetes-preserve-unknown-fields": True, "description": "No."}, "any type"),
    (lints.r15_no_floats, "count", {"type": "integer", "description": "No."}, "int32"),
    (lints.r15_no_floats, "count", _integer(maximum=2**60), "2^53"),
    (lints.r16_times, "started", {"type": "string", "format": "date-time", "description": "No."}, "end in Time"),
    (lints.r16_times, "startTimestamp", _TEXT, "not Timestamp"),
    (lints.r16_times, "interval", _integer(), "unit"),
    (lints.r16_times, "bakeDuration", _TEXT, "any text"),
    (lints.r17_lists_of_named, "metrics", _list(items=_object("name", name=_TEXT), **_ATOMIC), "list map"),
    (lints.r17_lists_of_named, "metrics", {**_object(), "additionalProperties": _TEXT}, "use a list"),
    (lints.r17_unions, "traffic", _object(istio=_object(x=_TEXT), gateway=_object(x=_TEXT)), "looks like a union"),
    (lints.r17_unions, "traffic", _object("gateway", gateway=_object(x=_TEXT)), "neither required"),
    (lints.r17_unions, "serving", _object(template={**_object(x=_TEXT), "default": {}}), "neither required"),
    (lints.r18_references, "secret", _object(name=_TEXT, namespace=_TEXT), "end in Ref"),
    (lints.r19_required_or_default, "text", {**_TEXT, "default": "x"}, "never counts"),
    (lints.r19_bounds, "text", {"type": "string", "description": "No."}, "maxLength"),
    (lints.r19_bounds, "list", {"type": "array", "items": _TEXT}, "maxItems"),
    (lints.r19_bounds, "labels", {"type": "object", "additionalProperties": _TEXT}, "maxProperties"),
    (lints.r19_bounds, "count", {"type": "integer", "maximum": 3}, "minimum"),
    (lints.r19_bounds, "count", {"type": "integer", "minimum": 3}, "maximum"),
    (lints.r19_list_types, "list", _list(items=_TEXT), "x-kubernetes-list-type"),
    (lints.r19_messages, "text", _rule(""), "what to do"),
    (lints.r19_messages, "text", _rule("this is not a valid value"), "what to do"),
    (lints.r19_messages, "text", _rule("must match ^[a-z]+$ or be empty"), "regular expression"),
    (lints.r19_portable, "text", _rule("must be all equal", "self.all(i, x, x == 1)"), "newer"),
    (lints.r20_size, "text", {**_TEXT, "description": _LONG}, "larger than"),
    (lints.descriptions, "text", {"type": "string", "maxLength": 9}, "sentence"),
    (lints.descriptions, "text", {"type": "string", "maxLength": 9, "description": "a text"}, "full stop"),
    (lints.camel_case, "snake_case", _TEXT, "camelCase"),
    (lints.camel_case, "Capital", _TEXT, "camelCase"),
)


@pytest.mark.parametrize("lint", LINTS, ids=lambda lint: lint.__name__)
def test_a_sound_crd_passes(lint: Lint) -> None:
    """No lint finds fault with a CRD that follows the rules."""
    assert lint(_sound()) == [], f"{lint.__name__} finds fault with a CRD that follows the rule"


@pytest.mark.parametrize(
    ("lint", "name", "schema", "says"), BROKEN_FIELDS, ids=[f"{c[0].__name__}-{n}" for n, c in enumerate(BROKEN_FIELDS)]
)
def test_a_broken_field_is_found(lint: Lint, name: str, schema: Schema, says: str) -> None:
    """A lint can fail: a field that breaks its rule is found, and the finding says where and why."""
    crd = _sound()
    lints.root(crd)["properties"]["spec"]["properties"][name] = schema
    found = lint(crd)
    assert any(f"spec.{name}" in line or lint is lints.r20_size for line in found), (
        f"{lint.__name__} missed spec.{name}"
    )
    assert any(says in line for line in found), f"expected a finding with {says!r}, got {found}"


def _broken(lint: Lint, path: str, value: Any) -> list[str]:
    crd = _sound()
    node: Any = crd
    *parents, last = path.split("/")
    for step in parents:
        node = node[int(step)] if isinstance(node, list) else node[step]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return lint(crd)


_TOP = "spec/versions/0/schema/openAPIV3Schema/properties"
_CONDITIONS = f"{_TOP}/status/properties/conditions"


@pytest.mark.parametrize(
    ("lint", "path", "value", "says"),
    [
        (lints.r01_spec_and_status, f"{_TOP}/data", _TEXT, "only metadata"),
        (lints.r01_spec_and_status, "spec/versions/0/subresources", {}, "subresources.status is missing"),
        (lints.r04_conditions_first, f"{_TOP}/status/properties", {"a": _TEXT}, "first field"),
        (lints.r04_conditions_first, f"{_CONDITIONS}/x-kubernetes-list-type", "atomic", "list map by type"),
        (lints.r06_condition_status, f"{_CONDITIONS}/items/required", ["type"], "reason must be required"),
        (lints.r06_condition_status, f"{_CONDITIONS}/items/properties/status/enum", ["True", "False"], "Unknown"),
        (lints.r06_condition_status, f"{_CONDITIONS}/items/properties/reason/minLength", 0, "not be empty"),
        (lints.r06_condition_status, f"{_CONDITIONS}/items/properties/lastTransitionTime/format", None, "date-time"),
        (lints.r20_group, "spec/group", "ml.k8s.io", "reserved"),
    ],
)
def test_a_broken_frame_is_found(lint: Lint, path: str, value: Any, says: str) -> None:
    """A lint can fail: a CRD whose frame breaks its rule is found."""
    found = _broken(lint, path, value)
    assert any(says in line for line in found), f"expected a finding with {says!r}, got {found}"


def test_every_lint_was_seen_to_fail() -> None:
    """No lint goes without a broken example."""
    shown = {case[0] for case in BROKEN_FIELDS}
    frame = {lints.r01_spec_and_status, lints.r04_conditions_first, lints.r06_condition_status, lints.r20_group}
    assert {*LINTS} - shown - frame == set(), "these lints were never seen to fail"
