"""A query too large for one answer, asked in parts: by the last character of a name that ends at random.

Kubernetes ends the names of pods, and this operator those of revisions, with random characters; so shards are of about
one size, whoever asks, and each series is in exactly one. Sums stay whole, since the name is a label that they keep.
What is remembered is only how many parts to ask for: all counts give the same series, so a leader that remembers
nothing reads the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from modeldeployment.api.serving import SeriesIdentity
from modeldeployment.metrics.answer import Answer

SHARDS_MAX: Final = 16
"""Parts of a query at most: a power of two, and no more than a revision's name has last characters."""
SHARD_BYTES: Final = 4 * 1024 * 1024
"""Bytes of an answer above which it is asked for in more parts the next time."""
REMEMBERED_MAX: Final = 1000
"""Queries whose number of parts is remembered."""

_POD_ENDS: Final = "bcdfghjklmnpqrstvwxz2456789"
"""Characters that end a pod's name (k8s.io/apimachinery, util/rand)."""
_REVISION_ENDS: Final = "0123456789abcdef"
_LABELS: Final = {
    SeriesIdentity.POD: ("pod", _POD_ENDS, ".*[{}]"),
    SeriesIdentity.WORKLOAD: ("destination_workload", _REVISION_ENDS, ".*[{}]"),
    SeriesIdentity.CLUSTER: (
        "envoy_cluster_name",
        _REVISION_ENDS,
        "[^/]*/[^/]*[{0}](/.*)?|outbound[|].*[|][^.|]*[{0}][.].*",
    ),
    # Requests that a canary Ingress diverted have the stable Service there, and are in its part.
    SeriesIdentity.INGRESS: ("exported_service", _REVISION_ENDS, ".*[{}]"),
}


def parts(identity: SeriesIdentity, count: int) -> list[str]:
    """`count` matchers, each series matched by one of them: the first takes what ends otherwise, or has no label."""
    if count == 1:
        return [""]
    label, ends, pattern = _LABELS[identity]
    mine = [ends[k * len(ends) // count : (k + 1) * len(ends) // count] for k in range(count)]
    rest = f'{label}!~"{pattern.format("".join(mine[1:]))}"'
    return [rest, *(f'{label}=~"{pattern.format(some)}"' for some in mine[1:])]


class Shards:
    """In how many parts each query is asked for. It never becomes fewer: what was too large may be so again."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def count(self, query: str) -> int:
        """In how many it is asked for now."""
        return self._counts.get(query, 1)

    def grow(self, query: str) -> bool:
        """Four times as many, as an answer was too large to be read; False if there cannot be more."""
        count = self.count(query)
        self._keep(query, 4 * count)
        return count < SHARDS_MAX

    def learn(self, query: str, answers: Sequence[Answer]) -> None:
        """More parts after a large answer: so many that each is half as large as it may be."""
        if max(answer.size for answer in answers) > SHARD_BYTES:
            wanted = math.ceil(2 * sum(answer.size for answer in answers) / SHARD_BYTES)
            self._keep(query, max(2 * self.count(query), 1 << (wanted - 1).bit_length()))

    def _keep(self, query: str, count: int) -> None:
        self._counts.pop(query, None)
        self._counts[query] = min(SHARDS_MAX, count)
        if len(self._counts) > REMEMBERED_MAX:
            del self._counts[next(iter(self._counts))]
