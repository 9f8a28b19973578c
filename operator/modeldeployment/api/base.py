"""What every resource model shares: camelCase names, refusal of unknown fields, Kubernetes extensions.

A field of the API is a pydantic field with a description; what JSON Schema cannot say (list types,
CEL rules, printer columns) goes into `extend()`, and `api.crd` turns the whole into a structural schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from annotated_types import MaxLen
from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel

JSON = dict[str, Any]


def cut(text: str, bytes_max: int) -> str:
    """The text, or as much of its beginning as fits into so many bytes of UTF-8, and "…"."""
    if len(text.encode()) <= bytes_max:
        return text
    return text.encode()[: bytes_max - len("…".encode())].decode(errors="ignore") + "…"


class Model(BaseModel):
    """A part of a resource. Immutable: a new status is a new object."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=False,
        ser_json_inf_nan="constants",
    )

    def to_json(self) -> JSON:
        """As the API server stores it: camelCase, nothing that is unset."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class StatusModel(Model):
    """A part of a status. Fields of a newer version are dropped, not refused: a rollback of the operator reads them.

    A `message` that is too long is cut: other people's words (an API server's, a pod's) must never make the whole
    status too large to be written. Names and reasons are never cut: half of a name is another name.
    """

    model_config = ConfigDict(extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _cut_message(cls, data: Any) -> Any:
        return cls._cut(data) if isinstance(data, dict) else data

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's, which validates nothing: so the message is cut here too."""
        return super().model_copy(update=None if update is None else self._cut(update), deep=deep)

    @classmethod
    def _cut(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        text = data.get("message")
        if not isinstance(text, str):  # asked first: model_fields is slow
            return data
        field = cls.model_fields.get("message")
        if field is None:
            return data
        limit = next(m.max_length for m in field.metadata if isinstance(m, MaxLen))
        return {**data, "message": cut(text, limit)}


def rule(expression: str, message: str, *, reason: str | None = None, field_path: str | None = None) -> JSON:
    """One CEL rule for `x-kubernetes-validations`; the message names the field and the fix."""
    out: JSON = {"rule": expression, "message": message}
    if reason:
        out["reason"] = reason
    if field_path:
        out["fieldPath"] = field_path
    return out


def extend(
    *rules: JSON,
    list_map_keys: tuple[str, ...] = (),
    list_type: str | None = None,
    map_type: str | None = None,
    any_fields: bool = False,
    **extra: Any,
) -> JSON:
    """`json_schema_extra` with the Kubernetes extensions of a field or a model."""
    out: JSON = dict(extra)
    if rules:
        out["x-kubernetes-validations"] = list(rules)
    if list_map_keys:
        out["x-kubernetes-list-type"] = "map"
        out["x-kubernetes-list-map-keys"] = list(list_map_keys)
    elif list_type:
        out["x-kubernetes-list-type"] = list_type
    if map_type:
        out["x-kubernetes-map-type"] = map_type
    if any_fields:
        out["x-kubernetes-preserve-unknown-fields"] = True
    return out


def exactly_one(*fields: str, of: str) -> JSON:
    """A union: one member set and no other."""
    if len(fields) == 1:
        return rule(f"has(self.{fields[0]})", f"{of}: set {fields[0]}, the only kind there is so far")
    count = " + ".join(f"(has(self.{name}) ? 1 : 0)" for name in fields)
    return rule(f"{count} == 1", f"{of}: set exactly one of {', '.join(fields)}")
