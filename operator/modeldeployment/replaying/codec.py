"""Values of the decision core ↔ JSON, exact: what is read equals what was written, to the last bit.

Floats are written as Python's repr, the shortest text that reads back as the same number (NaN and infinities as text);
datetimes in ISO 8601 with microseconds; a mapping whose keys are no text as pairs. A dataclass is an object of its
fields, without those that have their default. What a union holds, and what `object` may be, is named.
"""

from __future__ import annotations

import base64
import dataclasses
import math
import types
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, Final, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from modeldeployment.api.base import Model
from modeldeployment.api.rollout import Analysis
from modeldeployment.decision.hypothesis import Plan
from modeldeployment.decision.query import QueryState
from modeldeployment.decision.rules import Rule
from modeldeployment.decision.sequential import RuleState
from modeldeployment.decision.threshold import ThresholdState

T = TypeVar("T")
NAMED: Final[dict[str, type]] = {
    one.__name__: one for one in (datetime, Analysis, Plan, Rule, QueryState, RuleState, ThresholdState)
}
"""Types that are written with their name where the place alone does not tell which it is."""


class Pair(NamedTuple):
    """How a type is written, and read."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def encode(value: object, type_: Any = None) -> Any:
    """The value as JSON can hold it; `type_` where its class does not say all (a generic, a union)."""
    return _pair(type_ or type(value)).write(value)


def decode(type_: type[T], data: Any) -> T:
    """Inverse of `encode`.

    Raises:
        ValueError, TypeError, KeyError: the data is no such value.
    """
    read: T = _pair(type_).read(data)
    return read


def _same(value: Any) -> Any:
    return value


def _pair(type_: Any) -> Pair:
    return _made(type_)


@cache
def _made(type_: Any) -> Pair:
    if type_ in (str, int, bool, type(None)):
        return Pair(_same, _same)
    if type_ is float:
        return Pair(
            lambda v: v if math.isfinite(v) else repr(float(v)), lambda d: float(d) if isinstance(d, str) else d
        )
    if type_ is object:
        return Pair(_write_named, _read_named)
    if get_origin(type_) is np.ndarray:
        return Pair(_write_array, _read_array)
    if get_origin(type_) is not None:
        return _generic(get_origin(type_), get_args(type_))
    if issubclass(type_, Enum):
        return Pair(lambda v: v.value, type_)
    if issubclass(type_, datetime):
        return Pair(datetime.isoformat, datetime.fromisoformat)
    if issubclass(type_, bytes):
        return Pair(lambda v: base64.b64encode(v).decode("ascii"), lambda d: base64.b64decode(d, validate=True))
    if issubclass(type_, Model):
        return Pair(Model.to_json, type_.model_validate)
    if dataclasses.is_dataclass(type_):
        return _dataclass(type_)
    raise TypeError(f"no way to write {type_}")


def _generic(origin: Any, args: tuple[Any, ...]) -> Pair:
    if origin in (Union, types.UnionType):
        return _union(tuple(arg for arg in args if arg is not type(None)))
    if origin is tuple and args[-1] is Ellipsis:
        each = _pair(args[0])
        return Pair(lambda v: [each.write(one) for one in v], lambda d: tuple([each.read(one) for one in d]))
    if origin is tuple:
        places = [_pair(arg) for arg in args]
        return Pair(
            lambda v: [p.write(one) for p, one in zip(places, v, strict=True)],
            lambda d: tuple([p.read(one) for p, one in zip(places, d, strict=True)]),
        )
    if issubclass(origin, Mapping):
        key, value = _pair(args[0]), _pair(args[1])
        if args[0] is str:
            return Pair(
                lambda v: {k: value.write(one) for k, one in v.items()},
                lambda d: {k: value.read(one) for k, one in d.items()},
            )
        return Pair(
            lambda v: [[key.write(k), value.write(one)] for k, one in v.items()],
            lambda d: {key.read(k): value.read(one) for k, one in d},
        )
    raise TypeError(f"no way to write {origin}")


def _union(members: tuple[Any, ...]) -> Pair:
    """One type or nothing; else what it is, by name."""
    if len(members) > 1:
        return Pair(_write_named, _read_named)
    one = _pair(members[0])
    return Pair(lambda v: None if v is None else one.write(v), lambda d: None if d is None else one.read(d))


def _dataclass(type_: Any) -> Pair:
    hints = get_type_hints(type_)
    fields = [field for field in dataclasses.fields(type_) if field.init]
    pairs = {field.name: _pair(hints[field.name]) for field in fields}
    defaults = {field.name: _default(field) for field in fields}

    def write(value: Any) -> Any:
        found = ((name, getattr(value, name), pair) for name, pair in pairs.items())
        return {name: pair.write(has) for name, has, pair in found if not _is(has, defaults[name])}

    def read(data: Any) -> Any:
        return type_(**{name: pairs[name].read(has) for name, has in data.items()})

    return Pair(write, read)


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is dict or field.default_factory is tuple:
        return field.default_factory()
    return field.default


def _is(value: Any, default: Any) -> bool:
    """Whether it is the default, and not only equal to it: 0.0 is not 0 where bits count."""
    return type(value) is type(default) and (value is default or value == default)


def _write_named(value: Any) -> Any:
    if value is None or type(value) in (str, int, bool):
        return value
    name = type(value).__name__
    return {name: _pair(NAMED[name]).write(value)}


def _read_named(data: Any) -> Any:
    if not isinstance(data, dict):
        return data
    ((name, inner),) = data.items()
    return _pair(NAMED[name]).read(inner)


def _write_array(value: Any) -> Any:
    return {"shape": list(value.shape), "float64": base64.b64encode(value.astype("<f8").tobytes()).decode("ascii")}


def _read_array(data: Any) -> Any:
    raw = base64.b64decode(data["float64"], validate=True)
    return np.frombuffer(raw, "<f8").reshape(data["shape"]).astype(np.float64)
