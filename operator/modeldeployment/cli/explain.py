"""`kubectl model explain NAME`: why a rollout is where it is, what it waits for, and what one can do about it."""

from __future__ import annotations

import codecs
import json
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final

import typer

from modeldeployment.api.quantities import say_duration
from modeldeployment.cli import chart, words
from modeldeployment.cli import facts as facts_of
from modeldeployment.cli.cluster import Context, Name, Namespace, Target, on
from modeldeployment.cli.facts import Explanation, RuleFacts
from modeldeployment.decision.trail import Point

WIDTH: Final = 80
_LABEL: Final = 10


class Output(StrEnum):
    """How it is told."""

    TEXT = "text"
    JSON = "json"


def explain(
    name: Name,
    namespace: Namespace = None,
    context: Context = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="Text, or the same facts as JSON.")] = Output.TEXT,
) -> None:
    """Says in plain words why a rollout is where it is, what it waits for, and what you can do."""

    async def do(target: Target) -> Explanation:
        seen = await target.see()
        now = datetime.now(UTC)
        return facts_of.explain(target.namespace, target.name, seen.spec, seen.generation, seen.status, now)

    told = on(name, namespace, context, do)
    if output is Output.JSON:
        typer.echo(json.dumps(told.to_json(), indent=2))
        return
    encoding = sys.stdout.encoding or "ascii"
    typer.echo(render(told, unicode=codecs.lookup(encoding).name == "utf-8"))


def render(told: Explanation, *, unicode: bool = True) -> str:
    """The explanation as a person reads it, 80 columns wide; queries and commands are never broken."""
    text = "\n".join(_lines(told, chart.UNICODE if unicode else chart.ASCII))
    return text if unicode else text.replace("…", "...").encode("ascii", "replace").decode()


def _lines(told: Explanation, marks: chart.Marks) -> Iterator[str]:
    yield f"{told.name} in {told.namespace}: {told.state}"
    yield ""
    for sentence in told.says:
        yield from _wrap(sentence)
    if told.message:
        yield from _wrap(f"The operator says: {told.message}")
    yield from _section("Who", _who(told))
    yield from _section(*_trail(told, marks))
    yield from _section("Rules", (line for rule in told.rules for line in _rule(rule)))
    yield from _section(
        "Look yourself (PromQL)",
        (line for what, query in told.queries.items() for line in (f"  {what}:", f"    {query}")),
    )
    yield from _section("Clocks", _clocks(told))
    yield from _section("Last decisions", _decisions(told))
    yield from _section("What you can do", _commands(told))


def _section(title: str, lines: Iterator[str]) -> Iterator[str]:
    """Nothing where there is nothing to tell."""
    told = list(lines)
    if told:
        yield from ("", title, *told)


def _wrap(text: str, indent: int = 0, label: str = "") -> list[str]:
    """The text in lines of WIDTH; `label` stands in front of the first."""
    first = f"{'':{indent}}{label:<{_LABEL}}" if label else " " * indent
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _who(told: Explanation) -> Iterator[str]:
    for part in told.parts:
        weight = "no route yet" if part.weight is None else f"{part.weight}% of the traffic"
        moving = "" if (part.weight or 0) == part.wanted_weight else f" (wanted: {part.wanted_weight}%)"
        yield from _wrap(f"{part.version}: {weight}{moving}, {part.ready} of {part.pods} pods Ready", 2, part.role)
    yield from _wrap(f"{told.health}: {told.health_message}".rstrip(": "), 2, "health")


def _trail(told: Explanation, marks: chart.Marks) -> tuple[str, Iterator[str]]:
    trail = told.trail
    if trail is None or not trail.points:
        return "", iter(())
    title = f"Evidence over time: {trail.version}, from {trail.start_time:%Y-%m-%d %H:%M:%S}"

    def lines() -> Iterator[str]:
        assert trail is not None
        points = [Point(p.after_seconds, p.weight, p.worse_log10, p.good_log10) for p in trail.points]
        yield from chart.draw(points, trail.every_seconds, marks)
        last, many = points[-1], len(told.rules) > 1
        if last.worse is None and last.good is None:
            yield "  no e-values: the threshold judge and queries have none"
        for mark, means, of, log10 in (
            (marks.worse, trail.worse_means, "mean of the rules", last.worse),
            (marks.good, "it is good", "weakest rule", last.good),
        ):
            if log10 is not None:
                yield f"  {mark} that {means}{f', the {of}' if many else ''}: {words.share_of_decides(log10)}"

    return title, lines()


def _rule(rule: RuleFacts) -> Iterator[str]:
    yield f"  {rule.name}: {rule.verdict}, {rule.means}"
    if rule.allowed:
        yield from _wrap(rule.allowed, 4, "allowed")
    if rule.counted:
        yield from _wrap("; ".join(f"{version}: {told}" for version, told in rule.counted.items()), 4, "counted")
    for what, told in rule.says.items():
        yield from _wrap(told, 4, what)
    if rule.needs:
        yield from _wrap(rule.needs, 4, "to pass")
    if rule.blames:
        yield from _wrap(rule.blames, 4, "cause")
    if not rule.message.endswith(" decides)"):  # there is more in it than those numbers
        yield from _wrap(rule.message, 4, "says")


def _clocks(told: Explanation) -> Iterator[str]:
    for deadline in told.deadlines:
        yield from _wrap(f"{deadline.means} ({deadline.time:%H:%M:%S} UTC)", 2, say_duration(deadline.left_seconds))


def _decisions(told: Explanation) -> Iterator[str]:
    for record in told.decisions:
        by = f" by {record.rule}" if record.rule else ""
        cause = f", cause {record.cause}" if record.cause else ""
        yield f"  {record.time:%Y-%m-%d %H:%M:%S}  {record.version} {record.effect}{by}{cause}"
        yield from _wrap(record.message, 4)


def _commands(told: Explanation) -> Iterator[str]:
    for command in told.commands:
        yield f"  {command.command}"
        yield from _wrap(command.does, 6)
