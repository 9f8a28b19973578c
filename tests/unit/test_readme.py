"""What the README says is there is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from readme import blocks
from stand import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]


def test_the_manifest_is_a_model_deployment() -> None:
    """The first thing a reader copies is valid, and fits a screen."""
    manifest = blocks.manifest(README)
    spec = ModelDeploymentSpec.model_validate(manifest["spec"])
    assert spec.rollout.rollback_on is not None
    lines = README[README.index("```yaml") :].split("```")[1].count("\n")
    assert lines <= 24, f"the manifest has {lines} lines: the first screen has room for about 20"


@pytest.mark.parametrize("name", blocks.names(README))
def test_every_output_was_written_by_make_readme(name: str) -> None:
    """No block of output is empty, and each begins with the command that printed it."""
    assert "```console\n$ kubectl " in blocks.shown(README, name), f"{name} is empty: run `make readme`"


def test_every_make_target_exists() -> None:
    """Each `make …` in the documents is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    told = {t for d in DOCUMENTS for t in re.findall(r"`?\bmake ([a-z]+(?:-[a-z]+)*)", d.read_text("utf-8"))}
    missing = told - targets - {"sure", "sense"}
    assert not missing, f"the documents tell of `make {missing}`, which the Makefile does not have"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    """Relative links name files that exist."""

    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), f"{path.name} links to {target}, which does not exist"
