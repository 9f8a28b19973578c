"""Model servers with other histograms: a native one in protobuf, and a classic one as Prometheus makes it native.

Messages and field numbers are those of prometheus/client_model, io/prometheus/client/metrics.proto.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Mapping
from typing import Final

from integration.counted import EDGES, TEXT, Pod

HISTOGRAM: Final = "inference_latency"
PROTOBUF: Final = (
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores"
)
FAST, SLOW = 0.09, 0.4
"""Seconds that requests take: faster than the first edge, and between the edges."""
_COUNTER, _HISTOGRAM = 0, 4


class NativePod(Pod):
    """Its latency is a native histogram in seconds, there before the first request. `schema`: that it has now."""

    schema = 3

    def exposition(self) -> tuple[str, bytes]:
        """In protobuf: the text format has no native histograms."""
        families = [
            _family(name, _COUNTER, [_message(3, _double(1, float(value))) for value in values])
            for name, values in _counters(self.counts).items()
        ]
        fast, every = _fast(self.counts), _every(self.counts)
        histogram = _native({FAST: fast, SLOW: every - fast}, self.schema)
        families.append(_family(HISTOGRAM, _HISTOGRAM, [_message(7, histogram)]))
        return PROTOBUF, b"".join(_varint(len(family)) + family for family in families)


class ClassicPod(Pod):
    """Its latency is a classic histogram in ms, whole and with its type, as client libraries write it."""

    def exposition(self) -> tuple[str, bytes]:
        """As text."""
        lines = [f"{name} {value}" for name, value in self.counts.items() if "_bucket" not in name]
        if every := _every(self.counts):
            fast, (low, high) = _fast(self.counts), EDGES
            lines += [
                f"# TYPE {HISTOGRAM} histogram",
                f'{HISTOGRAM}_bucket{{le="{low:g}"}} {fast}',
                f'{HISTOGRAM}_bucket{{le="{high:g}"}} {every}',
                f'{HISTOGRAM}_bucket{{le="+Inf"}} {every}',
                f"{HISTOGRAM}_sum {every}",
                f"{HISTOGRAM}_count {every}",
            ]
        return TEXT, "".join(f"{line}\n" for line in lines).encode()


def _fast(counts: Mapping[str, int]) -> int:
    return counts.get('inference_latency_ms_bucket{le="100"}', 0)


def _every(counts: Mapping[str, int]) -> int:
    return counts.get('inference_latency_ms_bucket{le="+Inf"}', 0)


def _counters(counts: Mapping[str, int]) -> dict[str, list[int]]:
    """Counters by name, over all codes."""
    found: dict[str, list[int]] = {}
    for name, value in counts.items():
        family = name.partition("{")[0]
        if not family.endswith("_bucket"):
            found[family] = [sum(found.get(family, [])) + value]
    return found


def _native(observed: Mapping[float, int], schema: int) -> bytes:
    """A Histogram: bucket k holds what is in (f^(k−1), f^k] with f = 2^(2^−schema)."""
    buckets = Counter[int]()
    for seconds, requests in observed.items():
        if requests:
            buckets[math.ceil(math.log2(seconds) * 2.0**schema)] += requests
    spans, deltas, last, before = b"", b"", -1, 0
    for k, requests in sorted(buckets.items()):
        # The offset of the first span is its index, of another one the buckets that are left out before it.
        offset = k if not deltas else k - last - 1
        spans += _message(12, _number(1, _zigzag(offset)) + _number(2, 1))
        deltas += _varint(_zigzag(requests - before))
        last, before = k, requests
    return b"".join(
        (
            _number(1, sum(buckets.values())),
            _double(2, sum(seconds * requests for seconds, requests in observed.items())),
            _number(5, _zigzag(schema)),
            _double(6, 2.0**-128),
            _number(7, 0),
            spans or _message(12, _number(1, 0) + _number(2, 0)),
            _message(13, deltas) if deltas else b"",
        )
    )


def _family(name: str, kind: int, metrics: list[bytes]) -> bytes:
    return _message(1, name.encode()) + _number(3, kind) + b"".join(_message(4, metric) for metric in metrics)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def _zigzag(value: int) -> int:
    return 2 * value if value >= 0 else -2 * value - 1


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _message(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(body)) + body
