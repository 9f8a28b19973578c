"""Reading the cost of a process: /proc for CPU and memory, its own metrics and the API server's for the rest."""

from __future__ import annotations

import math
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Samples:
    """Metrics as they were scraped at one moment."""

    series: Mapping[str, Sequence[tuple[Mapping[str, str], float]]]

    @classmethod
    def parse(cls, text: str, *names: str) -> Samples:
        """Of an exposition in text format; only these names, where any are given (an API server has many)."""
        series: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        for name, labels, value in _SAMPLE.findall(text):
            if not names or name in names:
                series.setdefault(name, []).append((dict(_LABEL.findall(labels)), float(value)))
        return cls(series)

    def sum(self, name: str, **labels: str) -> float:
        """Sum over all series of a name with these labels; 0 without any."""
        found = self.series.get(name, ())
        return sum(value for of, value in found if all(of.get(k) == v for k, v in labels.items()))

    def by(self, name: str, *labels: str) -> dict[str, float]:
        """Sums by the values of some labels."""
        sums: dict[str, float] = {}
        for of, value in self.series.get(name, ()):
            key = " ".join(of.get(label, "") for label in labels)
            sums[key] = sums.get(key, 0.0) + value
        return sums


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def memory_mb(pid: int, field: str = "VmRSS") -> float:
    """Resident memory (or VmHWM, its peak) in MiB."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found.group(1)) / 1024 if found else math.nan


def quantile(values: Sequence[float], q: float) -> float:
    """Nearest rank: the smallest value that at least a share q is not above; of a few values, p99 is the highest."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)] if ordered else math.nan


def machine() -> dict[str, object]:
    """What this runs on."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    total = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "cpu": model.group(1) if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(total.group(1)) / 1024**2, 1) if total else None,
        "kernel": platform.release(),
        "load_before": round(os.getloadavg()[0], 2),
    }
