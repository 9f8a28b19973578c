"""A query in parts: each series in exactly one, parts of one size, and as many as the last answers ask for."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeployment.api.serving import SeriesIdentity
from modeldeployment.metrics.answer import Answer
from modeldeployment.metrics.identity import LABELS
from modeldeployment.metrics.sharding import SHARD_BYTES, SHARDS_MAX, Shards, parts

COUNTS = [1, 2, 4, 8, 16]
NAMES = st.one_of(
    st.text(alphabet="abz019-", max_size=12),
    st.from_regex(r"[a-z]{1,9}-[0-9a-f]{10}-[0-9a-z]{9}-[bcdfghjklmnpqrstvwxz2456789]{5}", fullmatch=True),
    st.from_regex(r"[a-z]{1,5}/[a-z]{1,9}-[0-9a-f]{10}(/[0-9]{1,4})?", fullmatch=True),
    st.from_regex(r"outbound\|80\|v?\|[a-z]{1,9}-[0-9a-f]{10}\.ml\.svc\.cluster\.local;?", fullmatch=True),
)


def matches(matcher: str, value: str) -> bool:
    """Whether a label of this value, "" for none, is selected, as Prometheus does it."""
    if not matcher:
        return True
    found = re.fullmatch(r'(\w+)(=~|!~)"(.*)"', matcher)
    assert found is not None, matcher
    return bool(re.fullmatch(found[3], value)) == (found[2] == "=~")


@given(value=NAMES, identity=st.sampled_from(SeriesIdentity), count=st.sampled_from(COUNTS))
def test_each_series_is_in_exactly_one_part(value: str, identity: SeriesIdentity, count: int) -> None:
    """Whatever its name is, or without one: never in two parts, which would count it twice, never in none."""
    assert sum(matches(part, value) for part in parts(identity, count)) == 1


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        (SeriesIdentity.POD, "fraud-{hex}-7d9c5b8f6d-{pod}"),
        (SeriesIdentity.WORKLOAD, "fraud-{hex}"),
        (SeriesIdentity.CLUSTER, "ml/fraud-{hex}/8080"),
        (SeriesIdentity.CLUSTER, "outbound|80||fraud-{hex}.ml.svc.cluster.local"),
    ],
)
def test_parts_are_of_one_size(identity: SeriesIdentity, name: str) -> None:
    """Names end at random, so no part has much more than its share."""
    chance = random.Random(7)
    names = [
        name.format(
            hex="".join(chance.choices("0123456789abcdef", k=10)),
            pod="".join(chance.choices("bcdfghjklmnpqrstvwxz2456789", k=5)),
        )
        for _ in range(8000)
    ]
    found = Counter(k for one in names for k, part in enumerate(parts(identity, 8)) if matches(part, one))
    assert len(found) == 8
    assert max(found.values()) < 1.5 * 8000 / 8


@pytest.mark.parametrize("identity", SeriesIdentity)
def test_sums_are_whole_in_every_part(identity: SeriesIdentity) -> None:
    """Parts are told apart by a label that the sum keeps: otherwise one sum would be halves in two of them."""
    for part in parts(identity, 4):
        assert re.split("[=!]", part)[0] in LABELS[identity], part


def answers(count: int, size: int) -> list[Answer]:
    """So many answers of so many bytes."""
    return [Answer("vector", [], [], size=size)] * count


def test_the_number_of_parts_follows_the_size_of_the_answers() -> None:
    """One as long as it is small; then so many that each is half full; not fewer again."""
    shards = Shards()
    counts = []
    for total in (1, SHARD_BYTES, SHARD_BYTES + 1, 3 * SHARD_BYTES, 5 * SHARD_BYTES, 99 * SHARD_BYTES, 1):
        now = shards.count("q")
        shards.learn("q", answers(now, total // now))
        counts.append(shards.count("q"))
    assert counts == [1, 1, 4, 4, 16, 16, 16]
    assert shards.count("another") == 1


def test_an_answer_that_cannot_be_read_is_asked_for_in_more_parts_up_to_a_limit() -> None:
    """Four times as many each time; at the limit there is no more to be done."""
    shards = Shards()
    grown = []
    while shards.grow("q"):
        grown.append(shards.count("q"))
    assert grown == [4, SHARDS_MAX]
    shards.learn("q", answers(SHARDS_MAX, 2 * SHARD_BYTES))
    assert shards.count("q") == SHARDS_MAX


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries that name models are others with every rollout."""
    monkeypatch.setattr("modeldeployment.metrics.sharding.REMEMBERED_MAX", 10)
    shards = Shards()
    for k in range(50):
        shards.grow(f"q{k}")
    assert [shards.count(f"q{k}") for k in (39, 40, 49)] == [1, 4, 4]
