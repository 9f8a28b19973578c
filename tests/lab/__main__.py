"""`python -m lab`: starts the lab and keeps it until Ctrl-C. With --binaries only gets its programs."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time

from lab import Lab, LabUnavailable
from lab.binaries import ensure_all, kubectl
from lab.mlserver import ensure_mlserver


def main() -> int:
    """The exit code: 0, or 1 when a program cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    parser.add_argument("--binaries", action="store_true", help="build or verify the programs, then end")
    parser.add_argument("--mlserver", action="store_true", help="also make MLServer's environment")
    parser.add_argument("--nodes", type=int, default=1, help="how many nodes (default 1)")
    parser.add_argument("--scrape-interval", default="2s", help="of Prometheus (default 2s)")
    options = parser.parse_args()
    try:
        ensure_all(thorough=options.binaries)
        if options.mlserver:
            ensure_mlserver()
        if not options.binaries:
            _serve(Lab(nodes=options.nodes, scrape_interval=options.scrape_interval))
    except LabUnavailable as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


def _serve(lab: Lab) -> None:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    started = time.monotonic()
    with lab:
        print(
            f"The lab is up after {time.monotonic() - started:.1f} s.\n\n"
            f"  export KUBECONFIG={lab.kubeconfig}\n"
            f"  kubectl     {kubectl()}\n"
            f"  Gateway     {lab.gateway_url}   (parentRefs: {lab.gateway_name} in {lab.gateway_namespace})\n"
            f"  Prometheus  {lab.prometheus_url}\n"
            f"  logs        {lab.folder}\n\n"
            "Ctrl-C ends it and removes everything.",
            flush=True,
        )
        stop.wait()


if __name__ == "__main__":
    sys.exit(main())
