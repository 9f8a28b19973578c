"""The chart, and the helm that the lab built."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from lab import binaries
from stand import ROOT

CHART = ROOT / "charts" / "modeldeployment-operator"
NAME, NAMESPACE = "modeldeployment-operator", "modeldeployment-system"


def helm(*args: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the lab's helm; the caller looks at the exit code. Its own `--timeout` must be shorter than this one's."""
    command = [binaries.binary("helm"), *args]
    whole = {**os.environ, **(env or {})}
    return subprocess.run(command, capture_output=True, text=True, timeout=400, env=whole, check=False)
