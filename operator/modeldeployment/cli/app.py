"""Registers the verbs."""

from __future__ import annotations

import typer

from modeldeployment.cli import operator

app = typer.Typer(
    help="Ships model versions on Kubernetes by evidence, and takes bad ones back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("operator")(operator.operator)


@app.callback()
def _verbs() -> None:
    """A group, even while there is one verb only."""


def main() -> None:
    """The console script."""
    app()
