"""A bound on the value of a query: no sample size, so a side of the bound must simply hold for a while."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from modeldeployment.api.status import Verdict
from modeldeployment.decision.rules import Rule


@dataclass(frozen=True, slots=True)
class QueryState:
    """Since when the value is on its side of the bound.

    Attributes:
        rule: the bound.
        value: the last value; None before the first, and while there is none.
        kept: whether it keeps the bound.
        since: since when it is so.
        verdict: Pass or Fail once that has held for `rule.sustained` seconds.
    """

    rule: Rule
    value: float | None = None
    kept: bool = True
    since: datetime | None = None
    verdict: Verdict = Verdict.INCONCLUSIVE

    def look(self, value: float | None, now: datetime) -> QueryState:
        """The value at an instant; none at all (no series, NaN) proves nothing and breaks the run.

        The same instant may be looked at again: a run is as long as the time between its values.
        """
        if value is None:
            return QueryState(self.rule)
        kept = (self.rule.highest is None or value <= self.rule.highest) and (
            self.rule.lowest is None or value >= self.rule.lowest
        )
        since = self.since if self.since is not None and self.kept == kept else now
        held = now - since >= timedelta(seconds=self.rule.sustained)
        side = Verdict.PASS if kept else Verdict.FAIL
        return QueryState(self.rule, value, kept, since, side if held else Verdict.INCONCLUSIVE)

    def begin_step(self) -> QueryState:
        """A new step asks for a new run on the right side."""
        return replace(self, since=None, verdict=Verdict.INCONCLUSIVE)

    def to_state(self) -> str:
        """The run under way."""
        return "" if self.since is None else f"{int(self.kept)}:{self.since.isoformat()}"

    @classmethod
    def from_state(cls, state: str, rule: Rule) -> QueryState:
        """Inverse of to_state.

        Raises:
            ValueError: it is not one.
        """
        if not state:
            return cls(rule)
        kept, _, since = state.partition(":")
        return cls(rule, None, kept == "1", datetime.fromisoformat(since))
