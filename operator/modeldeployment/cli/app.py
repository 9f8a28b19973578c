"""Registers the verbs."""

from __future__ import annotations

from typing import Annotated

import typer

from modeldeployment import __version__
from modeldeployment.cli import backtest, explain, operator, verbs
from modeldeployment.cli import replay as again
from modeldeployment.cli import status as show

app = typer.Typer(
    help="Ships model versions on Kubernetes by evidence, and takes bad ones back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
said = (verbs.pause, verbs.resume, verbs.abort, verbs.promote, verbs.retry)
asked = (show.status, explain.explain, again.replay, backtest.backtest)
for verb in (*asked, *said, operator.operator):
    app.command()(verb)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Shows the version.")
    ] = False,
) -> None:
    """Ships model versions on Kubernetes by evidence, and takes bad ones back."""


def main() -> None:
    """The console script."""
    app()
