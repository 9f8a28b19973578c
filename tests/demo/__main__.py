"""`make demo`. Exits with 0 only if every act happened as expected."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from pathlib import Path

from demo import page, report, terminal
from demo.act import Act
from demo.acts import PLAY, Part
from demo.history import Recording, record
from demo.mlserver import SecondModel
from demo.stage import SCRAPE_SECONDS, SHORT, Stage
from lab import LabUnavailable
from stand import ROOT

BUILD = ROOT / "build"
LOGS = BUILD / "demo-logs"


def main() -> int:
    """Plays all acts, prints the table, writes build/demo.json and build/demo.html."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure:
        reconfigure(errors="replace")  # a terminal that knows no ✔ shows a question mark
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell's background job would ignore the first
        signal.signal(number, signal.default_int_handler)
    try:
        acts, recording, seconds = _perform()
    except LabUnavailable as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; everything it started is gone", file=sys.stderr)
        return 130
    written = report.as_json(acts, seconds)
    BUILD.mkdir(exist_ok=True)
    (BUILD / "demo.json").write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    (BUILD / "demo.html").write_text(page.render(written, recording), encoding="utf-8")
    terminal.block("\n" + report.table(acts))
    shown = Path("build")
    terminal.block(f"\n{seconds:.0f} s in all. {shown}/demo.html shows it, {shown}/demo.json has the numbers.")
    if not written["ok"]:
        terminal.block(f"NOT everything happened as expected. Logs, objects and Events: {shown}/demo-logs/", "bad")
    return 0 if written["ok"] else 1


def _perform() -> tuple[list[Act], Recording, float]:
    began, acts = time.time(), []
    terminal.line("The lab starts: etcd, API server, controller manager, Prometheus, Envoy, a node agent, the operator")
    with Stage() as stage:
        terminal.line(
            f"Up after {time.time() - began:.1f} s. The manifest is examples/fraud.yaml with spec.rollout "
            f"{json.dumps(SHORT)}; Prometheus scrapes every {SCRAPE_SECONDS:g} s."
        )
        second = SecondModel(stage)
        second.start()
        acts += [_play(stage, number, part) for number, part in enumerate(PLAY, start=1)]
        if second.running:
            stage.timeline.say("waiting for the end of MLServer's act")
        acts.append(second.finish())
        stage.show()
        if not all(act.ok for act in acts):
            stage.keep_logs(LOGS)
        recording = record(stage, acts)
        seconds = time.time() - began
    return acts, recording, seconds


def _play(stage: Stage, number: int, part: Part) -> Act:
    terminal.line()
    stage.timeline.say(f"{number}. {part.name}. Expected: {part.expected}", "bold")
    with contextlib.suppress(Exception):  # what is still wrong then, the act's own checks tell
        stage.settle()
    act = Act(part.name, part.expected)
    act.play(lambda current: part.script(stage, current))
    with contextlib.suppress(Exception):
        act.decisions = stage.timeline.decided(act.began - 1)
    stage.timeline.say(f"{act.word}: {act.happened}", "good" if act.ok else "bad")
    return act


if __name__ == "__main__":
    sys.exit(main())
