"""Lines for people: plain where there is no terminal, with a little colour where there is one."""

from __future__ import annotations

import os
import shutil
import sys
import threading

COLOURS = {"good": "32", "bad": "31", "warn": "33", "dim": "2", "bold": "1", "blue": "36"}
PLAIN_WIDTH = 200
_lock = threading.Lock()


def coloured() -> bool:
    """Whether somebody looks who sees colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str) -> str:
    """The text in a colour, where there are any."""
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if colour and coloured() else text


def width() -> int:
    """Columns; where there is no terminal, what a log viewer shows."""
    return shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns if sys.stdout.isatty() else PLAIN_WIDTH


def shorten(text: str, columns: int) -> str:
    """The text, cut with an ellipsis when it does not fit."""
    return text if len(text) <= columns else f"{text[: max(0, columns - 1)]}…"


def line(text: str = "", colour: str = "") -> None:
    """One line, whole, whichever thread prints it; cut to the terminal's width."""
    with _lock:
        print(paint(shorten(text, width()), colour), flush=True)


def block(text: str, colour: str = "") -> None:
    """Several lines as they are."""
    with _lock:
        print(paint(text, colour), flush=True)
