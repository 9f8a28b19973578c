"""A test's numbers as text, bit for bit: a version, ":" and base64 of little-endian float64."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Sequence


def pack(version: str, numbers: Sequence[float]) -> str:
    """The numbers as text, safe in JSON. 11 characters a number."""
    return f"{version}:{base64.b64encode(struct.pack(f'<{len(numbers)}d', *numbers)).decode('ascii')}"


def unpack(state: str, version: str) -> tuple[float, ...]:
    """Inverse of pack. ValueError for another version, a damaged text, or a number (NaN, +inf) that no test has."""
    written, _, body = state.partition(":")
    raw = base64.b64decode(body, validate=True)
    if written != version or len(raw) % 8:
        raise ValueError(f"state of version {written!r} and {len(raw)} bytes: written by another version")
    numbers = struct.unpack(f"<{len(raw) // 8}d", raw)
    if any(math.isnan(number) or number == math.inf for number in numbers):
        raise ValueError("state holds a number that no test has: it is damaged")
    return numbers
