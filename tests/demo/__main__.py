"""`make demo`. Exits with 0 only if every act happened as expected."""

from __future__ import annotations

import json
import sys
import time

from demo import page, report
from demo.acts import PLAY, Act
from demo.mlserver import SecondModel
from demo.stage import Stage
from stand import ROOT

BUILD = ROOT / "build"


def main() -> int:
    """Plays all acts, prints the table, writes build/demo.json and build/demo.html."""
    began = time.time()
    print("The lab starts: etcd, API server, controller manager, Prometheus, Envoy, a node agent", flush=True)
    with Stage() as stage:
        second = SecondModel(stage)
        second.start()
        acts = [_play(stage, *part) for part in PLAY]
        acts.append(second.finish())
        stage.show()
        if not all(act.ok for act in acts):
            report.logs(stage.stand.lab.folder)
        curves = page.curves(stage)
    written = report.as_json(acts, time.time() - began)
    BUILD.mkdir(exist_ok=True)
    (BUILD / "demo.json").write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    (BUILD / "demo.html").write_text(page.render(written, curves), encoding="utf-8")
    print()
    print(report.table(acts))
    print(f"\n{written['seconds']:.0f} s in all; build/demo.json and build/demo.html are written")
    return 0 if written["ok"] else 1


def _play(stage: Stage, name: str, expected: str, play: object) -> Act:
    act, began = Act(name, expected), time.time()
    stage.say(f"== {name}: {expected}")
    try:
        assert callable(play)
        play(stage, act)
    except Exception as error:
        act.check(str(error), False)
        act.happened = act.happened or str(error).splitlines()[0]
    act.seconds = round(time.time() - began, 1)
    act.decisions = stage.decided(began)
    stage.say(f"   {'ok' if act.ok else 'FAILED'}: {act.happened[:160]}")
    return act


if __name__ == "__main__":
    sys.exit(main())
