"""`make readme`."""

from __future__ import annotations

import sys

from modeldeployment.api.modeldeployment import ModelDeploymentStatus
from modeldeployment.cli.status import render
from readme import blocks
from stand import ROOT, Stand

README = ROOT / "README.md"
HOST = "fraud.example.com"


def main() -> None:
    """Rolls the README's model out, and a bad version after it."""
    text = README.read_text(encoding="utf-8")
    outputs = _play(text)
    for name in blocks.names(text):
        text = blocks.put(text, name, outputs[name])
    README.write_text(text, encoding="utf-8")
    print("README.md written", file=sys.stderr)


def _play(text: str) -> dict[str, str]:
    model = blocks.manifest(text)
    outputs: dict[str, str] = {}
    with Stand(steady_interval="5s", stale_after="30s") as stand:
        stand.operator()
        stand.apply(model)
        stand.wait("the first version to serve", lambda: stand.state("fraud") == "RolloutComplete", 60)
        load = stand.lab.load(HOST, rate=50)
        load.start()
        stand.wait("health OK", lambda: stand.status("fraud").get("health") == "OK", 60)
        model["spec"]["model"] = {"version": "1.4.0", "uri": "s3://models/fraud/1.4.0"}
        container = model["spec"]["serving"]["template"]["spec"]["containers"][0]
        container["env"] = [{"name": "FAULT_ERROR_RATE", "value": "0.2"}]
        stand.apply(model)
        stand.wait("the canary to be judged", lambda: _judged(stand), 60)
        get = ["$ kubectl get modeldeployments", stand.lab.kubectl("get", "md").stdout]
        outputs["status"] = "$ kubectl model status fraud\n" + _status(stand)
        stand.wait("the rollback", lambda: stand.state("fraud") == "RolledBack", 120)
        stand.wait("its Event", lambda: "RolledBack" in _events(stand), 10)
        outputs["get"] = "\n".join([*get, "$ kubectl get modeldeployments", stand.lab.kubectl("get", "md").stdout])
        outputs["describe"] = "$ kubectl describe modeldeployment fraud | tail\n" + _events(stand)
        load.stop()
    return outputs


def _judged(stand: Stand) -> bool:
    """Some evidence is in, and no verdict yet."""
    rules = stand.status("fraud").get("rollout", {}).get("rules", [])
    return stand.state("fraud") == "CanaryRunning" and any("stable 0%" in rule["message"] for rule in rules)


def _status(stand: Stand) -> str:
    return render("fraud", ModelDeploymentStatus.model_validate(stand.status("fraud")))


def _events(stand: Stand) -> str:
    described = stand.lab.kubectl("describe", "md", "fraud").stdout
    return described[described.index("\nEvents:") + 1 :]


if __name__ == "__main__":
    main()
