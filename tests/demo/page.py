"""build/demo.html: one page, no other file, no script, nothing from elsewhere."""

from __future__ import annotations

import html
import math
from typing import Any

from demo.chart import Axis, Chart, legend
from demo.history import Lines, Recording
from demo.stage import BOUND_MS

PERCENT = [(0.0, "0"), (50.0, "50"), (100.0, "100%")]
EVIDENCE = {"that the canary is worse than stable": "worse", "that it is good": "good"}


def render(report: dict[str, Any], recording: Recording) -> str:
    """The page."""
    verdict = "everything happened as expected" if report["ok"] else "not everything happened as expected"
    mood = "ok" if report["ok"] else "bad"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>ModelDeployment operator: the demo</title><style>{_STYLE}</style></head><body>
<h1>ModelDeployment operator: the demo</h1>
<p class="lead">{len(report["acts"])} acts in {report["seconds"]:.0f} s: <b class="{mood}">{verdict}</b>.
A real API server, Prometheus (scraping every {report["scrape_interval_seconds"]:g} s), Envoy and model servers;
{report["requests_per_second"]} requests a second all the time. Times and counts are the clients' and the API
server's, not the operator's.</p>
{_charts(recording)}
<h2>Acts</h2>{_acts(report["acts"])}
<h2>Decisions, in the operator's words</h2>{_decisions(report["acts"], recording)}
<p class="about">{html.escape(_about(report))}</p></body></html>
"""


def _charts(recording: Recording) -> str:
    colour = {version: f"c{number % 8}" for number, version in enumerate(recording.versions)}
    traffic = Chart(recording, "Traffic by version", Axis(100, PERCENT), height=170, lane=True)
    traffic.stacked(colour)
    failed = Chart(recording, "Failed requests", _percent(recording.failed))
    failed.lines(recording.failed, colour)
    slow = Chart(recording, "Slow requests", _percent(recording.slow))
    slow.lines(recording.slow, colour)
    ticks = [(1.0, "1"), (10.0, "10"), (100.0, "100"), (1000.0, "1,000")]
    rules = [(22.4, "20 proves it good, 25 proves it worse")]
    evidence = Chart(recording, "Evidence", Axis(1000, ticks, logarithmic=True, rules=rules))
    evidence.lines(recording.evidence, EVIDENCE)
    key = (
        '<span class="forward">▲ decided: forward</span><span class="backward">▼ decided: back</span>'
        '<span class="done">● done by a person</span>'
    )
    missing = f'<p class="bad">{html.escape(recording.missing)}</p>' if recording.missing else ""
    return f"""{missing}
<h2>Traffic, as the gateway accepted it <small>percent by version; above it the acts; hover anything</small></h2>
<div class="legend marks">{key}</div>{traffic.svg()}
<h2>Failed requests <small>percent of each version's requests, from Prometheus</small></h2>
{legend(colour)}{failed.svg()}
<h2>Slower than {BOUND_MS:g} ms <small>percent of each version's requests, from Prometheus; 1% is allowed</small></h2>
{slow.svg()}
<h2>Evidence <small>e-values of the version on trial, logarithmic</small></h2>{legend(EVIDENCE)}{evidence.svg()}"""


def _percent(lines: Lines) -> Axis:
    """An axis that fits: to 50 % or to all."""
    highest = max((v for points in lines.values() for _, v in points if not math.isnan(v)), default=0.0)
    if highest <= 50:
        return Axis(50, [(0.0, "0"), (20.0, "20"), (40.0, "40%")])
    return Axis(100, PERCENT)


def _acts(acts: list[dict[str, Any]]) -> str:
    rows = []
    for number, act in enumerate(acts, start=1):
        word = "skipped" if act["skipped"] else "ok" if act["ok"] else "failed"
        mood = {"ok": "ok", "failed": "bad"}.get(word, "warn")
        zero = "" if act["seconds_bad_to_zero"] is None else f"{act['seconds_bad_to_zero']:.2f}"
        rows.append(
            f'<tr><td>{number}</td><td class="{mood}">{word}</td><td>{html.escape(act["name"])}</td>'
            f"<td>{html.escape(act['expected'])}{_checks(act)}</td><td>{html.escape(act['happened'])}</td>"
            f'<td class="n">{act["seconds"]:.1f}</td><td class="n">{zero}</td>'
            f'<td class="n">{act["requests_bad"] or ""}</td></tr>'
        )
    head = (
        "<tr><th></th><th></th><th>act</th><th>expected</th><th>happened</th><th>seconds</th>"
        "<th>bad → 0, s</th><th>bad answers</th></tr>"
    )
    return f'<div class="wide"><table>{head}{"".join(rows)}</table></div>'


def _checks(act: dict[str, Any]) -> str:
    items = []
    for check in act["checks"]:
        found = f" <small>{html.escape(check['happened'][:300])}</small>" if check["happened"] else ""
        mark = "✔" if check["ok"] else "✖"
        items.append(
            f'<li><b class="{"ok" if check["ok"] else "bad"}">{mark}</b> {html.escape(check["expected"])}{found}'
        )
    held = sum(check["ok"] for check in act["checks"])
    opened = "" if held == len(act["checks"]) else " open"
    return f"<details{opened}><summary>{held} of {len(items)} checks held</summary><ul>{''.join(items)}</ul></details>"


def _decisions(acts: list[dict[str, Any]], recording: Recording) -> str:
    at = {(mark.title, mark.text): mark for mark in recording.marks}
    rows = []
    for number, act in enumerate(acts, start=1):
        for decision in act["decisions"]:
            mark = at.get((f"{decision['effect']} {decision['version']}", decision["message"]))
            mood = "bad" if mark and mark.kind == "backward" else ""
            rows.append(
                f'<tr><td>{number}</td><td class="n">{f"{mark.at:.1f} s" if mark else ""}</td>'
                f'<td class="{mood}">{html.escape(decision["effect"])}</td>'
                f"<td>{html.escape(decision['version'])}</td><td>{html.escape(decision.get('rule') or '')}</td>"
                f"<td>{html.escape(decision['message'])}</td></tr>"
            )
    head = "<tr><th>act</th><th>at</th><th>effect</th><th>version</th><th>by rule</th><th>why</th></tr>"
    return f'<div class="wide"><table>{head}{"".join(rows)}</table></div>'


def _about(report: dict[str, Any]) -> str:
    machine = report["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    return f"{machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}. {versions}."


_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--dim:#59636e;--grid:#d1d9e0;--band:#f6f8fa;--odd:#eef1f4;
--good:#1a7f37;--bad:#cf222e;--warn:#9a6700;--blue:#0969da;
--c0:#4477aa;--c1:#228833;--c2:#d1495b;--c3:#aa3377;--c4:#8f7a00;--c5:#2a9db0;--c6:#d9772b;--c7:#6b6fb8}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--dim:#9198a1;--grid:#30363d;--band:#12171e;
--odd:#171d25;--good:#3fb950;--bad:#ff7b72;--warn:#d29922;--blue:#58a6ff;
--c0:#6699cc;--c1:#44aa55;--c2:#ee6677;--c3:#cc66aa;--c4:#ccbb44;--c5:#66ccee;--c6:#ee9955;--c7:#9a9ee6}}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;color:var(--ink);background:var(--paper);
max-width:1180px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.05rem;margin:1.6rem 0 .2rem}h2 small,small{font-weight:400;color:var(--dim);
font-size:.85em}.lead{margin:.3rem 0 0;max-width:62rem}
svg{width:100%;height:auto;display:block}svg text{font-size:11px;fill:var(--dim)}svg .inside{fill:#fff;font-weight:600}
svg .act{font-size:12px;font-weight:700;fill:var(--ink)}svg .act.bad{fill:var(--bad)}
.band{fill:var(--band)}.band.odd{fill:var(--odd)}.grid{stroke:var(--grid)}.rule{stroke:var(--dim);stroke-dasharray:4 3}
.line{fill:none;stroke-width:2;stroke:currentColor}.area{fill:currentColor;stroke:var(--paper);stroke-width:.5}
.mark line{stroke:currentColor;stroke-width:1;stroke-dasharray:2 2;opacity:.45}
.mark text{fill:currentColor;font-size:10px}
.mark .wide{stroke:transparent;stroke-width:9;stroke-dasharray:none}.mark:hover line{opacity:1}
.forward{color:var(--good)}.backward{color:var(--bad)}.done{color:var(--blue)}.worse{color:var(--bad)}
.good{color:var(--good)}
.c0{color:var(--c0)}.c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}.c4{color:var(--c4)}.c5{color:var(--c5)}
.c6{color:var(--c6)}.c7{color:var(--c7)}
.legend{display:flex;gap:.2rem 1.1rem;flex-wrap:wrap;font-size:13px;margin:.1rem 0}
.legend i{display:inline-block;width:14px;height:4px;margin-right:5px;vertical-align:middle;background:currentColor}
table{border-collapse:collapse;font-size:13px;width:100%}th{color:var(--dim);font-weight:600}
th,td{text-align:left;vertical-align:top;padding:.35rem .6rem;border-bottom:1px solid var(--grid)}
td:nth-child(3){min-width:8.5rem}.n{text-align:right;white-space:nowrap}
summary{color:var(--dim);cursor:pointer}ul{margin:.2rem 0;padding-left:0;
list-style:none}td.ok,td.bad,td.warn{font-weight:600}.ok{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}
.wide{overflow-x:auto}.about{font-size:12px;color:var(--dim);margin-top:2rem}
"""
