"""A runtime that nobody here wrote, beside everything else: MLServer's canary, judged by MLServer's own metrics."""

from __future__ import annotations

import json
import threading
from typing import Any

from demo.act import Act
from demo.stage import LOAD_SECONDS, Stage, example
from lab import LabUnavailable
from lab.load import Load
from lab.mlserver import ensure_mlserver

NAME, HOST, RATE = "iris", "iris.example.com", 20
BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [[5.1, 3.5, 1.4, 0.2]]}]})
START_SECONDS, PROMOTION_SECONDS = 90.0, 120.0


class SecondModel:
    """The act that goes on in the background while the others play."""

    def __init__(self, stage: Stage) -> None:
        self._stage, self._load = stage, None
        self.act = Act("MLServer beside it", "canary judged and promoted by MLServer's own metrics")
        self._thread = threading.Thread(target=self.act.play, args=(self._script,), name="mlserver", daemon=True)

    def start(self) -> None:
        """Begins; where MLServer cannot be had the act is skipped, and says why."""
        try:
            ensure_mlserver()
        except LabUnavailable as error:
            self.act.skipped = f"MLServer is {str(error).splitlines()[0]}"
            self.act.happened = f"skipped: {self.act.skipped}"
            return
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it is not over yet."""
        return self._thread.is_alive()

    def finish(self, seconds: float = 90) -> Act:
        """Waits for its end."""
        if not self.act.skipped:
            self._thread.join(seconds)
            if self._thread.is_alive():
                self.act.check("it ends in time", False, f"{seconds:g} s after all others it still runs")
                self.act.happened = f"NOT: it ends in time (STATE {self._stage.stand.state(NAME)})"
        return self.act

    def _script(self, act: Act) -> None:
        stage, stand = self._stage, self._stage.stand
        self._ask_for("1.0.0")
        stand.wait("iris to serve", lambda: stand.state(NAME) == "RolloutComplete", START_SECONDS)
        path = f"/v2/models/{NAME}/infer"
        load = stand.lab.load(HOST, rate=RATE, path=path, body=BODY, duration_seconds=LOAD_SECONDS).start()
        stage.timeline.did(f"clients: {RATE} requests a second to MLServer's model iris")
        stand.wait("iris' health to be OK", lambda: stand.status(NAME).get("health") == "OK", 40)
        self._ask_for("1.1.0")
        stand.wait("iris' promotion", lambda: self._stable() == "1.1.0", PROMOTION_SECONDS)
        stage.timeline.did("MLServer's canary 1.1.0 is promoted")
        stand.wait("iris at rest", lambda: stand.state(NAME) == "RolloutComplete", 30)
        self._check(act, load)

    def _check(self, act: Act, load: Load) -> None:
        stand, seen = self._stage.stand, load.snapshot()
        act.check("no client saw an error", seen.records and not seen.bad, f"{seen.bad} of {len(seen.records)} failed")
        counted = self._counted()
        both = len(counted) == 2 and all(counted.values())
        act.check("both versions' own counters rose", both, counted)
        passed = [d for d in stand.status(NAME)["decisions"] if d["effect"] == "StepPassed"]
        act.check("its canary passed by evidence", passed, [d["message"] for d in passed])
        act.decisions = stand.status(NAME)["decisions"][::-1]
        kept = ", ".join(f"{o['name']} {o['value']}" for o in stand.status(NAME)["objectives"])
        act.happened = f"1.1.0 promoted; {len(seen.records)} requests, none failed; its own metrics say {kept}"

    def _counted(self) -> dict[str, float]:
        """Revision → requests that MLServer counted itself, as Prometheus has them."""
        found = self._stage.stand.lab.prometheus.query(
            f'max_over_time(model_infer_request_success_total{{namespace="default",pod=~"{NAME}-.*"}}[10m])'
        )
        out: dict[str, float] = {}
        for series in found:
            revision = "-".join(series["metric"]["pod"].split("-")[:2])
            out[revision] = out.get(revision, 0) + float(series["value"][1])
        return out

    def _stable(self) -> Any:
        return (self._stage.stand.status(NAME).get("stable") or {}).get("version")

    def _ask_for(self, version: str) -> None:
        model = example("mlserver", version)
        model["spec"]["rollout"].update({"canary": {"traffic": "50%"}, "progressDeadline": "60s"})
        self._stage.timeline.did(f"kubectl apply: MLServer's model iris, version {version}")
        self._stage.stand.apply(model)
