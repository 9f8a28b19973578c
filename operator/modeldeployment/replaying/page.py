"""One page of HTML: no other file, no script, nothing from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Sequence

from modeldeployment.api.base import JSON
from modeldeployment.replaying.backtest import ASSUMPTION, Backtest, after, changes, lasted, summary
from modeldeployment.replaying.charts import evidence, shares
from modeldeployment.replaying.judging import Judged
from modeldeployment.replaying.rerun import Replayed

BACK = frozenset(
    {
        "RolledBack",
        "RolledBackInconclusive",
        "Aborted",
        "ProgressDeadlineExceeded",
        "StableUnavailable",
        "CanaryUnavailable",
        "RolloutCancelled",
        "RolloutReplaced",
        "Reverted",
        "WatchAlarm",
    }
)
"""Effects that a reader looks for first."""


def page(title: str, lead: str, body: str) -> str:
    """The whole document; `lead` and `body` are HTML."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>
<h1>{html.escape(title)}</h1><p class="lead">{lead}</p>
{body}</body></html>
"""


def rows(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table; cells are HTML."""
    first = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    rest = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body)
    return f'<div class="wide"><table><tr>{first}</tr>{rest}</table></div>'


def decisions(records: Sequence[JSON]) -> str:
    """Decisions as a table."""
    cells = [
        (
            html.escape(r["time"]),
            f'<b class="{"bad" if r["effect"] in BACK else "ok"}">{html.escape(r["effect"])}</b>',
            html.escape(r["version"]),
            html.escape(r.get("rule", "")),
            html.escape(r["message"]),
        )
        for r in records
    ]
    return rows(("time", "effect", "version", "by rule", "why"), cells)


def replay_page(done: Replayed) -> str:
    """What a replay came to."""
    told = html.escape(done.difference.sentence()) if done.difference else "the same decisions, byte for byte"
    mood = "bad" if done.difference else "ok"
    lead = f'{done.looks} looks decided again: <b class="{mood}">{told}</b>'
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in done.notes)
    return page(f"Replay of {done.namespace}/{done.name}", lead, decisions(done.records) + notes)


def backtest_page(done: Backtest) -> str:
    """A policy's judgements, with charts."""
    lead = "<br>".join(html.escape(line) for line in summary(done))
    body = rows(
        ("rollout", "began", "happened", "after", "policy", "after", "bad requests", "why"), [*map(_cells, done.judged)]
    )
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in (ASSUMPTION, *done.notes))
    charts = "".join(_charts(number, one) for number, one in enumerate(done.judged))
    return page(f"Backtest of {done.policy}", lead, f"{body}{notes}{charts}")


def _cells(one: Judged) -> tuple[str, ...]:
    rollout, mood = one.rollout, "bad" if one.changed else "ok"
    return (
        html.escape(f"{'/'.join(rollout.key)} {rollout.version}"),
        html.escape(f"{rollout.start:%Y-%m-%d %H:%M:%S}"),
        html.escape(rollout.came.value),
        html.escape(lasted(one)),
        f'<b class="{mood}">{html.escape(one.came.value)}</b>',
        html.escape(after(one)),
        html.escape(changes(one)),
        html.escape(one.message),
    )


def _charts(number: int, one: Judged) -> str:
    rollout = one.rollout
    told = html.escape(f"{rollout.start:%Y-%m-%d %H:%M:%S}; {rollout.why}")
    of = html.escape(f"{number + 1}. {'/'.join(rollout.key)} {rollout.version}")
    first = next(iter(one.counted), "bad requests")
    key = (
        '<div class="legend"><span class="canary"><i></i>new version</span>'
        '<span class="stable"><i></i>version that served</span></div>'
    )
    proofs = (
        '<div class="legend"><span class="bad"><i></i>e-value that it is worse</span>'
        '<span class="ok"><i></i>e-value that it is good</span></div>'
    )
    return (
        f"<h2>{of} <small>{told}</small></h2>"
        f"<small>percent of requests that break {html.escape(first)}, look by look</small>{key}{shares(one)}"
        f"<small>what the policy's rules prove</small>{proofs}{evidence(one)}"
    )


_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--dim:#59636e;--grid:#d1d9e0;--good:#1a7f37;--bad:#cf222e;
--stable:#4477aa;--canary:#d9772b;--policy:#8250df}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--dim:#9198a1;--grid:#30363d;--good:#3fb950;
--bad:#ff7b72;--stable:#6699cc;--canary:#ee9955;--policy:#bc8cff}}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;color:var(--ink);background:var(--paper);
max-width:1180px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.05rem;margin:1.8rem 0 .2rem}h2 small,small{font-weight:400;
color:var(--dim);font-size:.85em}.lead{margin:.3rem 0 1rem;max-width:62rem}
svg{width:100%;height:auto;display:block}svg text{font-size:11px;fill:var(--dim)}.grid{stroke:var(--grid)}
.line{fill:none;stroke-width:1.8;stroke:currentColor}.stable{color:var(--stable)}.canary{color:var(--canary)}
.policy{color:var(--policy)}.mark{stroke:currentColor;stroke-dasharray:4 3;stroke-width:1.5}
svg .told{fill:currentColor;font-weight:600}.shade{fill:currentColor;opacity:.1}
.legend{display:flex;gap:.2rem 1.1rem;flex-wrap:wrap;font-size:13px}
.legend i{display:inline-block;width:14px;height:4px;
margin-right:5px;vertical-align:middle;background:currentColor}
table{border-collapse:collapse;font-size:13px;width:100%}th{color:var(--dim);font-weight:600}
th,td{text-align:left;vertical-align:top;padding:.35rem .6rem;border-bottom:1px solid var(--grid)}
.ok{color:var(--good)}.bad{color:var(--bad)}.wide{overflow-x:auto}
"""
