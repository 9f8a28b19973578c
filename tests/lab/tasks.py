"""Tasks that run in the background of the lab's agents."""

from __future__ import annotations

import asyncio
import traceback
from typing import Any


def tell(task: asyncio.Task[Any]) -> None:
    """Prints a task's error as soon as it ends (a done callback): whoever waits for it may do so much later."""
    if not task.cancelled() and (error := task.exception()) is not None:
        traceback.print_exception(error)
