"""docs/dialects.md is what the dialects' data says."""

from __future__ import annotations

from pathlib import Path

from modeldeployment.api.dialects import presets
from modeldeployment.api.dialects_page import render

PAGE = Path(__file__).parents[3] / "docs" / "dialects.md"


def test_the_page_is_fresh() -> None:
    """The file is as it is generated now."""
    assert PAGE.read_text(encoding="utf-8") == render(), "docs/dialects.md is stale: run `make docs`"


def test_all_that_is_known_of_a_dialect_is_on_the_page() -> None:
    """Its selectors, its label of the model, its remedies and each of its notes; else nobody would read them."""
    page = PAGE.read_text(encoding="utf-8")
    for name, data in presets().items():
        signals = data.signals.model_dump(exclude_none=True).values()
        usable = (data.requests, data.errors, data.model_label, data.probe, data.endpoint, *signals)
        texts = (data.source, data.refusal, *data.enable.values(), *data.notes, *(() if data.refusal else usable))
        lost = [text for text in texts if text and text not in page]
        assert not lost, f"docs/dialects.md does not say of {name}: {lost}"
