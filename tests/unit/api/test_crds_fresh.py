"""The files in crds/ are what the models say."""

from __future__ import annotations

from pathlib import Path

from modeldeployment.api.crd import all_crds, render

FOLDER = Path(__file__).parents[3] / "crds"


def test_crds_are_fresh() -> None:
    """crds/ has every CRD, no other file, and each as it is generated now."""
    wanted = {name: render(crd) for name, crd in all_crds().items()}
    found = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.yaml")}
    stale = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    assert not stale, f"stale, missing or left over in crds/: {', '.join(stale)}; run `make crds`"


def test_the_files_warn_against_editing() -> None:
    """Who opens a generated file is told so in its first line."""
    for path in FOLDER.glob("*.yaml"):
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        assert first.startswith("# Code generated") and "DO NOT EDIT" in first, f"{path.name} begins with {first!r}"
