"""build/demo.html: one page, no other file, no script from elsewhere. The charts are SVG."""

from __future__ import annotations

import contextlib
import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from prometheus_api_client import PrometheusConnect

from demo.stage import SCRAPE_SECONDS, Stage, e_value

WIDTH, LEFT, RIGHT = 1120, 56, 16
COLOURS = ("#4477aa", "#228833", "#ee6677", "#aa3377", "#ccbb44", "#66ccee", "#ee8866", "#999933", "#bbbbbb")
Point = tuple[float, float]


@dataclass
class Curves:
    """What the charts draw; times in seconds since the demo began."""

    weights: dict[str, list[Point]] = field(default_factory=dict)
    error_rates: dict[str, list[Point]] = field(default_factory=dict)
    evidence: dict[str, list[Point]] = field(default_factory=dict)
    decisions: list[tuple[float, dict[str, Any]]] = field(default_factory=list)


def curves(stage: Stage) -> Curves:
    """From the samples, the decisions, and Prometheus' own history of both arms' error rates."""
    made = Curves()
    versions = sorted({version for sample in stage.samples for version in sample.weights})
    for version in versions:
        shares = [s.weights.get(version, 0) for s in stage.samples]
        around = zip([0, *shares], shares, [*shares[1:], 0], strict=False)
        drawn = [share if share or before or after else math.nan for before, share, after in around]
        made.weights[version] = [(s.at - stage.began, v) for s, v in zip(stage.samples, drawn, strict=True)]
    for rule in sorted({rule for sample in stage.samples for rule in sample.evidence}):
        made.evidence[rule] = [(s.at - stage.began, s.evidence.get(rule, math.nan)) for s in stage.samples]
    for decision in stage.decided(stage.began):
        at = datetime.fromisoformat(decision["time"]).timestamp() - stage.began
        made.decisions.append((at, decision))
        value = e_value(decision["message"])
        if value is not None and decision["rule"] in made.evidence:
            made.evidence[decision["rule"]] = sorted([*made.evidence[decision["rule"]], (at, value)])
    with contextlib.suppress(OSError):  # an act that failed may have left Prometheus stopped
        made.error_rates = _error_rates(stage)
    return made


def _error_rates(stage: Stage) -> dict[str, list[Point]]:
    """Version → share of failed requests, from a range query over the whole demo."""
    window = f"{4 * SCRAPE_SECONDS:g}s"
    query = (
        f'sum by (version) (rate(inference_errors_total{{model="fraud"}}[{window}])) / '
        f'sum by (version) (rate(inference_requests_total{{model="fraud"}}[{window}])) * 100'
    )
    prometheus = PrometheusConnect(url=stage.stand.lab.prometheus_url, disable_ssl=True)
    answer = prometheus.custom_query_range(
        query,
        start_time=datetime.fromtimestamp(stage.began, UTC),
        end_time=datetime.now(UTC),
        step=f"{SCRAPE_SECONDS:g}s",
    )
    return {
        series["metric"].get("version", "?"): [(float(t) - stage.began, float(v)) for t, v in series["values"]]
        for series in answer
    }


def render(report: dict[str, Any], drawn: Curves) -> str:
    """The page."""
    end = max([t for points in drawn.weights.values() for t, _ in points] or [1.0])
    colour = {version: COLOURS[i % len(COLOURS)] for i, version in enumerate(sorted(drawn.weights))}
    charts = [
        _chart("Traffic: percent that the route sends", drawn.weights, end, 100, colour, drawn, step=True),
        _chart("Failed requests, percent (Prometheus)", drawn.error_rates, end, 25, colour, drawn),
        _chart(
            "Evidence that the canary is worse than stable (e-value, logarithmic; 25 decides)",
            {rule: [(t, _log(v)) for t, v in points] for rule, points in drawn.evidence.items()},
            end,
            5,
            {rule: COLOURS[i] for i, rule in enumerate(sorted(drawn.evidence))},
            drawn,
            ticks=[(0, "1"), (math.log10(25), "25"), (3, "1,000"), (5, "100,000")],
        ),
    ]
    verdict = "everything happened as expected" if report["ok"] else "not everything happened as expected"
    machine, versions = report["machine"], report["versions"]
    about = f"{machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}; " + ", ".join(
        f"{name} {number}" for name, number in versions.items()
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>ModelDeployment operator: the demo</title><style>{_STYLE}</style></head><body>
<h1>ModelDeployment operator: the demo</h1>
<p class="{"ok" if report["ok"] else "bad"}">{len(report["acts"])} acts in {report["seconds"]:.0f} s: {verdict}.</p>
{"".join(charts)}
<h2>Acts</h2>{_acts(report["acts"])}
<h2>Decisions</h2>{_decisions(drawn)}
<p class="about">{html.escape(about)}</p></body></html>
"""


def _chart(
    title: str,
    lines: dict[str, list[Point]],
    end: float,
    top: float,
    colour: dict[str, str],
    drawn: Curves,
    *,
    step: bool = False,
    ticks: Sequence[tuple[float, str]] = (),
) -> str:
    height, head, foot = 210, 14, 24

    def x(t: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * t / end

    def y(v: float) -> float:
        return head + (height - head - foot) * (1 - min(max(v, 0), top) / top)

    parts = []
    for value, text in ticks or [(top * i / 4, f"{top * i / 4:g}") for i in range(5)]:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{text}</text>')
    parts += [
        f'<text x="{x(second):.1f}" y="{height - 6}" text-anchor="middle">{second}s</text>'
        for second in range(0, int(end) + 1, 20)
    ]
    for at, decision in drawn.decisions:
        hover = html.escape(f"{at:.1f}s {decision['effect']} {decision['version']}: {decision['message']}")
        kind = "back" if decision["effect"] in _BACKWARD else "forth"
        parts.append(
            f'<line class="{kind}" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{head}" y2="{height - foot}">'
            f"<title>{hover}</title></line>"
        )
    legend = []
    for name, points in sorted(lines.items()):
        tint = colour.get(name, COLOURS[-1])
        path = _path([(x(t), math.nan if math.isnan(v) else y(v)) for t, v in points], step)
        parts.append(f'<path d="{path}" stroke="{tint}"><title>{html.escape(name)}</title></path>')
        legend.append(f'<span><i style="background:{tint}"></i>{html.escape(name)}</span>')
    return (
        f'<h2>{html.escape(title)}</h2><div class="legend">{"".join(legend)}</div>'
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{html.escape(title)}">{"".join(parts)}</svg>'
    )


_BACKWARD = frozenset(
    {"RolledBack", "ProgressDeadlineExceeded", "RolloutCancelled", "RolloutReplaced", "Aborted", "CanaryUnavailable"}
)


def _path(points: list[Point], step: bool) -> str:
    """A line, broken where there is no value; in steps where a value holds until the next."""
    out: list[str] = []
    pen, last = False, math.nan
    for px, py in points:
        if math.isnan(py):
            pen = False
            continue
        if not pen:
            out.append(f"M{px:.1f} {py:.1f}")
        elif step and py != last:
            out.append(f"H{px:.1f}V{py:.1f}")
        else:
            out.append(f"L{px:.1f} {py:.1f}")
        pen, last = True, py
    return "".join(out)


def _log(value: float) -> float:
    return math.nan if math.isnan(value) else math.log10(max(value, 1.0))


def _acts(acts: list[dict[str, Any]]) -> str:
    rows = []
    for act in acts:
        mark = "skipped" if act["skipped"] else "ok" if act["ok"] else "failed"
        zero = "" if act["seconds_bad_to_zero"] is None else f"{act['seconds_bad_to_zero']:.2f}"
        checks = "".join(
            f'<li class="{"ok" if held else "bad"}">{html.escape(what)}</li>' for what, held in act["checks"].items()
        )
        rows.append(
            f'<tr><td class="{"bad" if mark == "failed" else "ok"}">{mark}</td><td>{html.escape(act["name"])}</td>'
            f"<td>{html.escape(act['expected'])}<ul>{checks}</ul></td><td>{html.escape(act['happened'])}</td>"
            f"<td>{act['seconds']:.1f}</td><td>{zero}</td><td>{act['requests_bad'] or ''}</td></tr>"
        )
    head = "<tr><th></th><th>act</th><th>expected</th><th>happened</th><th>s</th><th>bad→0, s</th><th>bad</th></tr>"
    return f'<div class="wide"><table>{head}{"".join(rows)}</table></div>'


def _decisions(drawn: Curves) -> str:
    rows = "".join(
        f"<tr><td>{at:.1f}s</td><td>{html.escape(d['effect'])}</td><td>{html.escape(d['version'])}</td>"
        f"<td>{html.escape(d['message'])}</td></tr>"
        for at, d in drawn.decisions
    )
    return (
        f'<div class="wide"><table><tr><th>at</th><th>effect</th><th>version</th><th>why</th></tr>{rows}</table></div>'
    )


_STYLE = """
:root{color-scheme:light dark;--ink:#1a1a1a;--paper:#fdfdfd;--line:#8883;--good:#1a7f37;--bad:#cf222e}
@media(prefers-color-scheme:dark){:root{--ink:#e6e6e6;--paper:#16181c;--line:#8884;--good:#3fb950;--bad:#ff7b72}}
body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1160px;margin:2rem auto;
padding:0 1rem}h1{font-size:1.5rem}h2{font-size:1rem;margin:1.6rem 0 .3rem}svg{width:100%;height:auto;display:block}
svg text{font-size:11px;fill:currentColor;opacity:.75}path{fill:none;stroke-width:2}.grid{stroke:var(--line)}
.back{stroke:var(--bad);stroke-dasharray:3 2;stroke-width:1.5}.forth{stroke:currentColor;opacity:.25}
.legend{display:flex;gap:1rem;flex-wrap:wrap;font-size:13px}.legend i{display:inline-block;width:14px;height:4px;
margin-right:5px;vertical-align:middle}table{border-collapse:collapse;font-size:13px;width:100%}
th,td{text-align:left;vertical-align:top;padding:.35rem .6rem;border-bottom:1px solid var(--line)}
ul{margin:.2rem 0;padding-left:1.1rem}.ok{color:var(--good)}.bad{color:var(--bad)}.wide{overflow-x:auto}
.about{font-size:12px;opacity:.7}
"""
