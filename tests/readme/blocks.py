"""The README's manifest, and its blocks of output."""

from __future__ import annotations

import re
from typing import Any

import yaml

_BLOCK = r"(<!-- output: {name} -->\n).*?(<!-- /output -->)"


def manifest(readme: str) -> dict[str, Any]:
    """The first YAML block: a ModelDeployment."""
    found = re.search(r"```yaml\n(.*?)```", readme, re.DOTALL)
    assert found, "the README shows a manifest"
    parsed: dict[str, Any] = yaml.safe_load(found.group(1))
    return parsed


def names(readme: str) -> list[str]:
    """The outputs that the README wants."""
    return re.findall(r"<!-- output: (\w+) -->", readme)


def shown(readme: str, name: str) -> str:
    """The output that a block shows now."""
    found = re.search(_BLOCK.format(name=name), readme, re.DOTALL)
    return found.group(0) if found else ""


def put(readme: str, name: str, output: str) -> str:
    """The README with a block's output replaced."""
    body = f"```console\n{output.rstrip()}\n```\n"
    return re.sub(
        _BLOCK.format(name=name), lambda found: found.group(1) + body + found.group(2), readme, flags=re.DOTALL
    )
