"""An act: what is expected, what happened instead, and how long it took."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

JSON = dict[str, Any]
_LATE = re.compile(r"not within (?P<seconds>\S+)s: (?P<what>.*)")


@dataclass(frozen=True)
class Check:
    """One expectation. `happened` says what was there, whether it held or not."""

    expected: str
    ok: bool
    happened: str = ""


@dataclass
class Act:
    """One act and what came of it.

    Attributes:
        seconds_bad_to_zero: from the first bad answer that a client got to the last answer of that version, or to
            the gateway's acceptance of weight 0 if that was later.
        requests_bad: bad answers of the version in question, counted by the clients.
        skipped: why it could not be played on this machine.
    """

    name: str
    expected: str
    began: float = field(default_factory=time.time)
    checks: list[Check] = field(default_factory=list)
    happened: str = ""
    seconds: float = 0.0
    seconds_bad_to_zero: float | None = None
    requests_bad: int = 0
    decisions: list[JSON] = field(default_factory=list)
    skipped: str = ""

    @property
    def ok(self) -> bool:
        """Whether all of it happened."""
        return bool(self.skipped) or (bool(self.checks) and all(check.ok for check in self.checks))

    @property
    def word(self) -> str:
        """The result in a word."""
        return "skipped" if self.skipped else "ok" if self.ok else "FAILED"

    def check(self, expected: str, held: object, happened: object = "") -> None:
        """Notes an expectation, whether it held, and what was there."""
        self.checks.append(Check(expected, bool(held), str(happened)))

    def play(self, script: Callable[[Act], None]) -> None:
        """Plays it. What raises is an expectation that did not hold, and ends the act."""
        self.began = time.time()
        try:
            script(self)
        except Exception as error:
            first, _, rest = str(error).partition("\n")
            if late := _LATE.match(first):  # Stand.wait: what was waited for, and beneath it what is there
                self.check(f"{late['what']}, within {late['seconds']} s", False, rest)
            else:
                self.check("the act goes through", False, f"{type(error).__name__}: {error}")
        self.seconds = round(time.time() - self.began, 1)
        if not self.ok and not self.skipped:
            broken = next(check for check in self.checks if not check.ok) if self.checks else Check("", False)
            self.happened = f"NOT: {broken.expected}" + (
                f" ({' '.join(broken.happened.split())})" if broken.happened else ""
            )
