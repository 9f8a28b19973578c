"""What an image name means in the lab: a command on this machine.

The table is a JSON file, read again when it changes, so a test can "push" an image while a pod waits for it.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lab.gobuild import cache_root

_TESTS = Path(__file__).resolve().parents[1]
_EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@dataclass(frozen=True)
class Image:
    """An entry: a Python script (started by forking a process that has imported its libraries already, as
    most of a start is imports) or a command, and its environment.

    `kubeconfig` gives the container KUBECONFIG, with its own ServiceAccount's token, in place of the token
    that a real pod finds mounted.
    """

    command: list[str] = field(default_factory=list)
    script: str = ""
    env: dict[str, str] = field(default_factory=dict)
    kubeconfig: bool = False


def default_images() -> dict[str, Image]:
    """The images that every lab has."""
    # A pod has a home of its own; the environment of MLServer is in the cache of whoever started the lab.
    mlserver_env = {"PYTHONPATH": str(_TESTS), "XDG_CACHE_HOME": str(cache_root().parent)}
    return {
        "lab/model-server": Image(script=str(_EXAMPLES / "model-server" / "server.py")),
        "lab/mlserver": Image(command=[sys.executable, "-m", "lab.mlserver"], env=mlserver_env),
    }


def write_table(path: Path, images: dict[str, Image]) -> None:
    """Replaces the table at once: a reader never sees half of it."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({name: asdict(image) for name, image in images.items()}))
    fresh.rename(path)


class ImageTable:
    """The node agent's view of the table."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = 0
        self._images: dict[str, Image] = {}

    def find(self, reference: str) -> Image | None:
        """The image for `name:tag` or `name@digest`: the full reference wins over the bare name."""
        changed = os.stat(self._path).st_mtime_ns
        if changed != self._read_at:
            table = json.loads(self._path.read_text())
            self._images = {name: Image(**entry) for name, entry in table.items()}
            self._read_at = changed
        return self._images.get(reference) or self._images.get(bare_name(reference))


def bare_name(reference: str) -> str:
    """`lab/model-server:1.2@sha256:…` → `lab/model-server`."""
    name = reference.partition("@")[0]
    head, slash, tail = name.rpartition("/")
    return head + slash + tail.partition(":")[0]


def full_reference(reference: str) -> str:
    """As containerd writes it in its messages: `docker.io/lab/x:1`."""
    first = reference.partition("/")[0]
    has_registry = "/" in reference and ("." in first or ":" in first or first == "localhost")
    full = reference if has_registry else f"docker.io/{reference if '/' in reference else 'library/' + reference}"
    return full if ":" in full.rpartition("/")[2] else f"{full}:latest"
