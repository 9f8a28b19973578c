"""An answer read series by series is what a reader of all of it would have found."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeployment.metrics.answer import read

LABELS = st.dictionaries(st.text(max_size=5), st.one_of(st.text(max_size=8), st.just('"result":[')), max_size=3)
SAMPLE = st.tuples(st.floats(0, 2e9).map(lambda at: round(at, 3)), st.sampled_from(["1", "NaN", "+Inf", "0.5"]))
SHAPES = [(",", ":"), (", ", ": "), (" ,\n ", " :\t")]


@given(series=st.lists(st.tuples(LABELS, SAMPLE), max_size=4), shape=st.sampled_from(SHAPES), plain=st.booleans())
def test_any_labels_in_any_layout_are_read(
    series: list[tuple[dict[str, str], tuple[float, str]]], shape: tuple[str, str], plain: bool
) -> None:
    """Quotes, brackets and the word `result` in a label, any spaces, what comes before and after."""
    data = {"stats": {"n": 1}, "resultType": "vector", "result": [{"metric": m, "value": v} for m, v in series]}
    body = json.dumps(
        {"status": "success", "data": data, "warnings": ["w"]}, separators=shape, ensure_ascii=plain
    ).encode()
    answer = read(body)
    assert [(labels, [tuple(s) for s in samples]) for labels, samples in answer.series] == [(m, [v]) for m, v in series]
    assert (answer.kind, answer.warnings, answer.size) == ("vector", ("w",), len(body))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"data":{"resultType":"vector","result":[',
        b'{"data":{"resultType":"vector","result":[{"metric":{},"value":[1,"2"]}',
        b'{"data":{"resultType":"vector","result":[{"metric":{},"value":[1,"2"]}}',
        b'{"data":{"resultType":"vector","result":[{"metric":{},"value":[1,"2"]} {}]}}',
        b'{"data":{"resultType":"vector","result":[]}',
        b'{"data":{"resultType":"streams","result":[]}}',
        b'{"data":{"resultType":"vector","result":{}}}',
        b'\xff{"data":{"resultType":"vector","result":[]}}',
    ],
)
def test_what_is_broken_is_not_read(body: bytes) -> None:
    """An answer that was cut off, or is none, is never half an answer."""
    with pytest.raises((ValueError, IndexError, KeyError, TypeError)):
        read(body)
