"""The rules of `research/style.md` ("Kubernetes API conventions our CRD must follow") that a CRD can be held to.

A lint takes a CRD and returns what is wrong with it, in words; its number is that of the rule. Rules 2 (level-based),
9 to 12 (which conditions there are, and when) and the first half of 20 (few writes) are about behaviour, not schemas.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

Schema = dict[str, Any]
Lint = Callable[[Schema], list[str]]

FILE_BYTES_MAX: Final = 200 * 1024
ANNOTATIONS_BYTES_MAX: Final = 262_144
"""Of an object's annotations: client-side `kubectl apply` writes the whole CRD into one of them."""

WORDS_OF_THEIR_OWN: Final = {
    "OK": "what a person expects in the column HEALTH; nobody says Ok",
    "LLM": "an abbreviation, written as everybody writes it",
    "RAG": "an abbreviation, written as everybody writes it",
    "MLServer": "the name of the product",
    "KServe": "the name of the product",
}
MOMENTS_WITHOUT_TIME: Final = {
    "time": "of a record: the record's name says of what",
    "since": "reads as a moment, and Kubernetes knows it (sinceTime is of logs)",
    "until": "reads as a moment",
    "unavailableSince": "reads as a moment; unavailableSeconds stands beside it",
}
MAPS_OF_KUBERNETES: Final = ("labels", "annotations")
ANY_TYPE: Final = {
    "quantile": "0.99 is how everybody writes it; an enum holds it, so no float is ever compared or rounded"
}
BOUNDED_BY_THE_SERVER: Final = ("apiVersion", "kind", "metadata")
UNIONS: Final = {
    "spec.serving": ("template",),
    "spec.traffic": ("gateway",),
    "spec.rollout.canary": ("traffic", "steps"),
    "spec.objectives[]": ("errorRate", "latency", "availability", "promql"),
    "spec.objectives[].promql": ("max", "min"),
}
_TELLS_THE_FIX = re.compile(r"\b(must|set|leave|write|use|change|may|each)\b")
_REGULAR_EXPRESSION = re.compile(r"\^|\$|\\|\[[a-zA-Z0-9]-|\(\?|\{\d+,|\)[*+]|\]\*|\]\+")
_CEL_OF_NEWER_SERVERS = re.compile(r"optional|\.transformList|\.transformMap|\.all\(\s*\w+\s*,\s*\w+\s*,|cel\.bind")


@dataclass(frozen=True)
class Node:
    """One schema inside a CRD; `name` is "" for items and for values of maps, `parent` the object that has it."""

    path: str
    name: str
    schema: Schema
    parent: Schema


def version(crd: Schema) -> Schema:
    """The only version."""
    (only,) = crd["spec"]["versions"]
    assert isinstance(only, dict)
    return only


def root(crd: Schema) -> Schema:
    """The schema of the whole object."""
    schema = version(crd)["schema"]["openAPIV3Schema"]
    assert isinstance(schema, dict)
    return schema


def nodes(schema: Schema, path: str = "") -> Iterator[Node]:
    """Every schema below this one."""
    for name, child in schema.get("properties", {}).items():
        below = f"{path}.{name}".lstrip(".")
        yield Node(below, name, child, schema)
        yield from nodes(child, below)
    for keyword, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if keyword in schema:
            yield Node(path + mark, "", schema[keyword], schema)
            yield from nodes(schema[keyword], path + mark)


def _ours(crd: Schema) -> Iterator[Node]:
    return (node for node in nodes(root(crd)) if node.path not in BOUNDED_BY_THE_SERVER)


def _rules(crd: Schema) -> Iterator[tuple[str, Schema]]:
    everything = [Node("", "", root(crd), {}), *_ours(crd)]
    return ((n.path or "(root)", r) for n in everything for r in n.schema.get("x-kubernetes-validations", ()))


def r01_spec_and_status(crd: Schema) -> list[str]:
    """1: nothing but metadata, spec and status at the top, and status is a subresource."""
    wrong = [f"{name}: only metadata, spec and status may be at the top" for name in root(crd)["properties"]]
    wrong = [w for w in wrong if w.partition(":")[0] not in (*BOUNDED_BY_THE_SERVER, "spec", "status")]
    if version(crd).get("subresources", {}).get("status") != {}:
        wrong.append("subresources.status is missing: whoever may write spec could write status")
    return wrong


def r03_no_phase(crd: Schema) -> list[str]:
    """3: no phase."""
    return [f"{n.path}: a phase is deprecated; use conditions" for n in _ours(crd) if n.name.lower().endswith("phase")]


def r04_conditions_first(crd: Schema) -> list[str]:
    """4: conditions are the first field of status, a list map by type."""
    status = root(crd)["properties"]["status"]["properties"]
    conditions = status.get("conditions", {})
    wrong = [] if next(iter(status)) == "conditions" else ["status: conditions must be its first field"]
    if conditions.get("x-kubernetes-list-type") != "map" or conditions.get("x-kubernetes-list-map-keys") != ["type"]:
        wrong.append("status.conditions must be a list map by type")
    return wrong


def r06_condition_status(crd: Schema) -> list[str]:
    """6, 7, 8: a condition has type, status (True, False, Unknown), reason, message, both of generation and time."""
    conditions = root(crd)["properties"]["status"]["properties"].get("conditions", {}).get("items", {})
    members = conditions.get("properties", {})
    wanted = {"type", "status", "reason", "message", "observedGeneration", "lastTransitionTime"}
    wrong = [f"status.conditions[]: {name} must be required" for name in sorted(wanted - {*conditions["required"]})]
    if members.get("status", {}).get("enum") != ["True", "False", "Unknown"]:
        wrong.append("status.conditions[].status must be True, False or Unknown, as strings")
    if members.get("reason", {}).get("minLength") != 1:
        wrong.append("status.conditions[].reason must not be empty")
    if members.get("lastTransitionTime", {}).get("format") != "date-time":
        wrong.append("status.conditions[].lastTransitionTime must be a date-time")
    return wrong


def r13_enums(crd: Schema) -> list[str]:
    """13: values of enums are CamelCase strings."""
    camel = re.compile(r"([A-Z][a-z0-9]+)+")
    return [
        f"{n.path}: {value!r} is not CamelCase, nor a documented exception"
        for n in _ours(crd)
        for value in (() if n.name in ANY_TYPE else n.schema.get("enum", ()))
        if not (isinstance(value, str) and (camel.fullmatch(value) or value in WORDS_OF_THEIR_OWN))
    ]


def r14_no_booleans(crd: Schema) -> list[str]:
    """14: no booleans, which never get a third value."""
    return [f"{n.path}: a boolean; use an enum" for n in _ours(crd) if n.schema.get("type") == "boolean"]


def r15_no_floats(crd: Schema) -> list[str]:
    """15: no floats; integers have a format and stay within what JSON carries exactly."""
    wrong = []
    for n in _ours(crd):
        of_type = n.schema.get("type")
        if of_type == "number":
            wrong.append(f"{n.path}: a float; use a decimal string")
        if of_type is None and n.name not in ANY_TYPE:
            wrong.append(f"{n.path}: of any type, and no documented exception")
        if of_type == "integer" and n.schema.get("format") not in ("int32", "int64"):
            wrong.append(f"{n.path}: format must be int32 or int64")
        if of_type == "integer" and n.schema.get("maximum", 0) > 2**53:
            wrong.append(f"{n.path}: numbers past 2^53 are not exact in JSON")
    return wrong


def r16_times(crd: Schema) -> list[str]:
    """16: moments end in Time; a number that lasts says its unit; a text that lasts is held by a rule."""
    wrong = []
    for n in _ours(crd):
        moment = n.schema.get("format") == "date-time"
        if moment and not (n.name.endswith("Time") or n.name in MOMENTS_WITHOUT_TIME):
            wrong.append(f"{n.path}: a moment's name must end in Time")
        if "timestamp" in n.name.lower():
            wrong.append(f"{n.path}: say Time, not Timestamp")
        lasts = re.search(r"(^|[a-z])(duration|interval|deadline|timeout|window|Duration|Interval|Deadline)$", n.name)
        if lasts and n.schema.get("type") == "integer":
            wrong.append(f"{n.path}: an integer that lasts must end in its unit, such as Seconds")
        if lasts and n.schema.get("type") == "string" and "x-kubernetes-validations" not in n.schema:
            wrong.append(f"{n.path}: any text would be taken for a duration; use the type Duration")
    return wrong


def r17_lists_of_named(crd: Schema) -> list[str]:
    """17: named items are a list map keyed by name, and never a map."""
    wrong = []
    for n in _ours(crd):
        members = n.schema.get("items", {}).get("properties", {})
        for key in ("name", "type", "revision"):
            if n.name in ("decisions", "parentRefs"):  # a history, and references that may repeat: not keyed
                break
            if key in members:
                if n.schema.get("x-kubernetes-list-map-keys") != [key]:
                    wrong.append(f"{n.path}: items have a {key}; it must be the key of a list map")
                break
        if "additionalProperties" in n.schema and n.name not in MAPS_OF_KUBERNETES:
            wrong.append(f"{n.path}: a map; use a list of named items")
    return wrong


def r17_unions(crd: Schema) -> list[str]:
    """17: of a union's members exactly one may be set, and none is required or has a default."""
    wrong = []
    found = {n.path: n.schema for n in _ours(crd)}
    for path, schema in found.items():
        members = {k: v for k, v in schema.get("properties", {}).items() if v.get("type") == "object"}
        only_objects = len(members) == len(schema.get("properties", {})) and not schema.get("required")
        is_map = any("additionalProperties" in v for v in members.values())
        if members and only_objects and not is_map and path != "status" and not _one_of(schema, tuple(members)):
            wrong.append(f"{path}: looks like a union of {', '.join(members)}, but any number may be set")
    for path, union in UNIONS.items():
        if path not in found:
            continue
        if not _one_of(found[path], union):
            wrong.append(f"{path}: a rule must ask for exactly one of {', '.join(union)}")
        wrong += [
            f"{path}.{member}: a member of a union is neither required nor has it a default"
            for member in union
            if member in found[path].get("required", ()) or "default" in found[path]["properties"].get(member, {})
        ]
    return wrong


def _one_of(schema: Schema, members: tuple[str, ...]) -> bool:
    every = [{*re.findall(r"has\(self\.(\w+)\)", r["rule"])} for r in schema.get("x-kubernetes-validations", ())]
    single = {f"has(self.{members[0]})"} if len(members) == 1 else set()
    texts = {r["rule"] for r in schema.get("x-kubernetes-validations", ())}
    return bool(single & texts) or any(
        {*members} == names and text.endswith("== 1")
        for names, text in zip(every, (r["rule"] for r in schema.get("x-kubernetes-validations", ())), strict=True)
    )


def r18_references(crd: Schema) -> list[str]:
    """18: what points at another object is called …Ref."""
    return [
        f"{n.path}: points at another object; its name must end in Ref"
        for n in _ours(crd)
        if n.name
        and {"name", "namespace"} <= {*n.schema.get("items", n.schema).get("properties", ())}
        and not re.search(r"Refs?$", n.name)
    ]


def r19_required_or_default(crd: Schema) -> list[str]:
    """19: a field is either optional or required; a default is for an optional one."""
    return [
        f"{n.path}: required, so its default never counts"
        for n in _ours(crd)
        if n.name in n.parent.get("required", ()) and "default" in n.schema
    ]


def r19_bounds(crd: Schema) -> list[str]:
    """19: every string, list, map and number has a bound, so that rules have a price and objects a size."""
    wrong = []
    needed = {"string": ("maxLength",), "array": ("maxItems",), "integer": ("minimum", "maximum")}
    for n in _ours(crd):
        of_type = n.schema.get("type", "")
        if "enum" in n.schema or n.schema.get("format") == "date-time":
            continue
        keywords = ("maxProperties",) if "additionalProperties" in n.schema else needed.get(of_type, ())
        wrong += [f"{n.path}: {keyword} is missing" for keyword in keywords if keyword not in n.schema]
    return wrong


def r19_list_types(crd: Schema) -> list[str]:
    """19: every list says how server-side apply merges it."""
    return [
        f"{n.path}: x-kubernetes-list-type is missing"
        for n in _ours(crd)
        if n.schema.get("type") == "array" and "x-kubernetes-list-type" not in n.schema
    ]


def r19_messages(crd: Schema) -> list[str]:
    """19: every rule has a message: a sentence with the fix in it, for people, and no regular expression."""
    wrong = []
    for path, rule in _rules(crd):
        message = rule.get("message", "")
        if len(message.split()) < 4 or not _TELLS_THE_FIX.search(message):
            wrong.append(f"{path}: {message!r} does not say what to do")
        if _REGULAR_EXPRESSION.search(message):
            wrong.append(f"{path}: {message!r} shows people a regular expression")
        if "messageExpression" in rule:
            wrong.append(f"{path}: a messageExpression costs, and may fail where message cannot")
    return wrong


def r19_portable(crd: Schema) -> list[str]:
    """19: rules use only what Kubernetes 1.30 has (no comprehensions of two variables, no optionals)."""
    return [
        f"{p}: {r['rule']!r} needs a newer API server"
        for p, r in _rules(crd)
        if _CEL_OF_NEWER_SERVERS.search(r["rule"])
    ]


def r20_size(crd: Schema) -> list[str]:
    """20: small enough for client-side `kubectl apply`, which keeps a copy in an annotation."""
    wrong = []
    if len(yaml.safe_dump(crd).encode()) > FILE_BYTES_MAX:
        wrong.append(f"the file is larger than {FILE_BYTES_MAX} bytes")
    if len(json.dumps(crd).encode()) > ANNOTATIONS_BYTES_MAX * 3 // 4:
        wrong.append(f"as JSON it comes near {ANNOTATIONS_BYTES_MAX} bytes, the limit of all annotations together")
    return wrong


def r20_group(crd: Schema) -> list[str]:
    """20: the API group is a domain of our own."""
    group = crd["spec"]["group"]
    reserved = group.endswith((".k8s.io", ".kubernetes.io")) or "." not in group
    return [f"group {group}: reserved for Kubernetes itself"] if reserved else []


def descriptions(crd: Schema) -> list[str]:
    """`kubectl explain` has a sentence for every field and every column."""
    fields = [(n.path, n.schema) for n in _ours(crd) if n.name]
    columns = [(f"column {c['name']}", c) for c in version(crd).get("additionalPrinterColumns", ())]
    return [
        f"{path}: description must be a sentence that ends in a full stop"
        for path, schema in (*fields, *columns)
        if not re.search(r"\S{2,}.*\.$", schema.get("description", ""), re.DOTALL)
    ]


def camel_case(crd: Schema) -> list[str]:
    """Names of fields are camelCase."""
    return [
        f"{n.path}: must be camelCase"
        for n in _ours(crd)
        if n.name and not re.fullmatch(r"[a-z]+([A-Z][a-z0-9]+|\d+)*|promql", n.name)
    ]


LINTS: Final[tuple[Lint, ...]] = (
    *(r01_spec_and_status, r03_no_phase, r04_conditions_first, r06_condition_status, r13_enums, r14_no_booleans),
    *(r15_no_floats, r16_times, r17_lists_of_named, r17_unions, r18_references, r19_required_or_default),
    *(r19_bounds, r19_list_types, r19_messages, r19_portable, r20_size, r20_group, descriptions, camel_case),
)
