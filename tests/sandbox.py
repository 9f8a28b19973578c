"""`make lab`: the lab with CRDs, a ModelPolicy and an operator, kept until Ctrl-C, so that the examples work in it."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading

from lab import Lab, LabUnavailable
from lab.binaries import ensure_all, kubectl
from lab.mlserver import ensure_mlserver
from stand import Stand


def main() -> int:
    """The exit code: 0, or 1 when a program cannot be had."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        ensure_all(thorough=False)
        with contextlib.suppress(LabUnavailable):  # it needs a Python 3.11; the rest does not
            ensure_mlserver()
        with Stand(Lab()) as stand:
            stand.operator()
            print(_told(stand), flush=True)
            stop.wait()
    except LabUnavailable as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


def _told(stand: Stand) -> str:
    lab = stand.lab
    body = '{"instances": [[5.1, 3.5, 1.4, 0.2]]}'
    send = f"curl -s -H 'Host: fraud.example.com' -d '{body}' {lab.gateway_url}/v1/predict"
    return f"""\
The lab is up: API server, Prometheus, Gateway, one node, CRDs, ModelPolicy and an operator.

  export KUBECONFIG={lab.kubeconfig}
  export PATH={kubectl().parent}:$PATH      # kubectl, and kubectl model
  kubectl apply -f examples/fraud.yaml
  kubectl get md --watch

A load, so that there is something to judge:  while sleep 0.02; do {send} > /dev/null; done
A bad version: another spec.model.version in the file, and under the container
  env: [{{name: FAULT_ERROR_RATE, value: "0.2"}}]      (or FAULT_LATENCY_MS; see examples/model-server)

  Gateway     {lab.gateway_url}   (parentRefs: {lab.gateway_name} in {lab.gateway_namespace})
  Prometheus  {lab.prometheus_url}
  operator    {lab.process("operator").log}
  all logs    {lab.folder}

Ctrl-C ends it and removes everything."""


if __name__ == "__main__":
    sys.exit(main())
