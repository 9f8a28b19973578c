"""The commands `modeldeployment` and `kubectl model`: one module a verb."""

from __future__ import annotations

from modeldeployment.cli.app import main

__all__ = ["main"]
