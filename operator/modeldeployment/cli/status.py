"""`kubectl model status NAME`: who serves, who is on trial, what is waited for, what was decided."""

from __future__ import annotations

import typer

from modeldeployment.api.conditions import find
from modeldeployment.api.modeldeployment import ModelDeploymentStatus
from modeldeployment.api.status import BudgetStatus, Cause, RevisionStatus, RuleStatus
from modeldeployment.cli.cluster import Context, Name, Namespace, Target, on
from modeldeployment.cli.facts import counted
from modeldeployment.decision import say


def status(name: Name, namespace: Namespace = None, context: Context = None) -> None:
    """Shows one ModelDeployment."""
    typer.echo(render(name, on(name, namespace, context, Target.see).status))


def render(name: str, shown: ModelDeploymentStatus) -> str:
    """The status as a person reads it."""
    progressing = find(shown.conditions, "Progressing")
    left = f"  budget {shown.budget}" if shown.budget else ""
    lines = [f"{name}  {shown.health.value}  {progressing.reason if progressing else 'not looked at yet'}{left}"]
    if progressing:
        lines.append(f"  {progressing.message}")
    for role in ("stable", "canary", "previous"):
        seen: RevisionStatus | None = getattr(shown, role)
        if seen:
            weight = "no route" if seen.weight is None else f"{seen.weight}%"
            moving = "" if seen.weight == seen.wanted_weight else f" (wanted {seen.wanted_weight}%)"
            pods = f"{seen.ready_replicas} of {seen.replicas} pods Ready"
            lines.append(f"├── {role:<9}{seen.version:<16}{weight}{moving}, {pods}  {seen.revision}")
    if shown.rollout and shown.rollout.rules:
        lines.append("├── rules")
        lines += [f"│   ├── {rule.verdict.value:<13}{_rule(rule, shown)}" for rule in shown.rollout.rules]
    if shown.objectives:
        lines.append("├── objectives, of whatever served in their windows")
        for o in shown.objectives:
            value = f"{o.name}: {o.value or o.message or o.reason} ({o.bound}{_requests(o.samples)})"
            lines.append(f"│   ├── {o.verdict.value:<13}{value}")
            if o.budget:
                lines.append(f"│   │   └── {_budget(o.budget)}")
    if shown.decisions:
        lines.append("└── decisions")
        lines += [
            f"    ├── {d.time:%Y-%m-%d %H:%M:%S}  {d.effect:<20}{d.version:<16}{_cause(d.cause)}{d.message}"
            for d in shown.decisions
        ]
    return "\n".join(lines)


def _budget(budget: BudgetStatus) -> str:
    alert = f"{budget.alert.value}: " if budget.alert else ""
    since = f", known since {budget.since:%Y-%m-%d %H:%M}" if budget.since else ""
    burning = "".join(f"; burns {b.rate} times too fast over {b.name}" for b in budget.burning)
    return f"{alert}{budget.remaining} of its budget left{since}{burning}"


def _rule(rule: RuleStatus, shown: ModelDeploymentStatus) -> str:
    """`errors: 7 of 37 bad (18.9%), 1.3.2 0 of 461 bad (0%); at most 1%; needs about 225 more requests`."""
    numbers, beside = rule.numbers, shown.previous or shown.stable
    if numbers is None or numbers.value is not None:
        return rule.message
    told = f"{_cause(rule.cause)}{rule.name}: {counted(numbers.bad, numbers.requests)}"
    if numbers.stable_requests is not None and beside:
        told += f", {beside.version} {counted(numbers.stable_bad or 0, numbers.stable_requests)}"
    return "; ".join(part for part in (told, numbers.bound, rule.needs and say.waiting(rule.needs)) if part)


def _cause(cause: Cause | None) -> str:
    """The cause, where it is not the version itself."""
    return f"[{cause}] " if cause and cause is not Cause.CANARY else ""


def _requests(samples: int) -> str:
    return f"; {samples:,} requests" if samples else ""
