"""A runtime that nobody here wrote, beside everything else: MLServer's canary, judged by MLServer's own metrics."""

from __future__ import annotations

import json
import threading
import time

from demo.acts import Act
from demo.stage import Stage, example
from lab import LabUnavailable
from lab.load import Load
from lab.mlserver import ensure_mlserver

NAME, HOST = "iris", "iris.example.com"
BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [[5.1, 3.5, 1.4, 0.2]]}]})


class SecondModel:
    """The act that goes on in the background while the others play."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.act = Act("MLServer beside it", "promoted by MLServer's own metrics (dialect MLServer)")
        self._thread = threading.Thread(target=self._play, name="mlserver", daemon=True)
        self._load: Load | None = None

    def start(self) -> None:
        """Begins; without Python 3.11 the act is skipped, and says so."""
        try:
            ensure_mlserver()
        except LabUnavailable as error:
            self.act.skipped = self.act.happened = f"skipped: MLServer {error}"
            return
        self._thread.start()

    def finish(self, seconds: float = 60) -> Act:
        """Waits for its end."""
        if not self.act.skipped:
            self._thread.join(seconds)
            if self._thread.is_alive():
                self.act.check("done in time", False)
        return self.act

    def _play(self) -> None:
        began, stand = time.time(), self._stage.stand
        try:
            self._ask_for("1.0.0")
            stand.wait("iris to serve", lambda: stand.state(NAME) == "RolloutComplete", 60)
            self._load = stand.lab.load(
                HOST, rate=20, path=f"/v2/models/{NAME}/infer", body=BODY, duration_seconds=300
            ).start()
            stand.wait("iris' health", lambda: stand.status(NAME).get("health") == "OK", 60)
            self._ask_for("1.1.0")
            stand.wait("iris' promotion", lambda: stand.state(NAME) == "Watching", 120)
            rules = {o["name"]: o for o in stand.status(NAME)["objectives"]}
            counted = stand.lab.prometheus.query(
                'sum(model_infer_request_success_total{namespace="default",pod=~"iris-.*"})'
            )
            self.act.check("MLServer counted the requests", float(counted[0]["value"][1]) > 100)
            self.act.check("both objectives have a value", all(rule["value"] for rule in rules.values()))
            self.act.check("no client saw an error", self._load.stop().bad == 0)
            self.act.happened = "1.1.0 promoted; " + "; ".join(f"{n} {o['value']}" for n, o in rules.items())
        except Exception as error:
            self.act.check(str(error), False)
            self.act.happened = str(error)
        self.act.decisions = stand.status(NAME).get("decisions", [])[::-1]
        self.act.seconds = round(time.time() - began, 1)

    def _ask_for(self, version: str) -> None:
        model = example("mlserver", version)
        model["spec"]["rollout"].update({"canary": {"traffic": "50%"}, "progressDeadline": "60s"})
        self._stage.stand.apply(model)
        self._stage.say(f"kubectl apply: MLServer's model iris, version {version}")
