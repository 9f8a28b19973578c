"""The rollout machine: an ordered list of moves; the first that applies is made.

The list (`MOVES`) is the documentation. A move looks at a `View` and answers None (does not apply) or a `Move`:
a new status, what is going on, and perhaps a decision. A move that `settles` ends the tick; after one that does
not, the list is run again on the new status, so that e.g. a replaced canary and the start of the next are one tick.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from modeldeployment.api.status import DecisionRecord
from modeldeployment.decision import backward, first, forward, watching
from modeldeployment.decision.moves import Move
from modeldeployment.decision.view import View, decided

MOVES_MAX = 8
"""Moves in one tick; the machine needs at most four, more is a bug and is told."""


MOVES: tuple[Callable[[View], Move | None], ...] = (
    first.abort_first,
    first.start_first,
    first.serve_first,
    first.wait_first,
    backward.abort,
    backward.freeze,
    backward.return_by_spec,
    backward.cancel,
    backward.replace_canary,
    backward.roll_back_on_evidence,
    backward.roll_back_at_progress_deadline,
    backward.return_when_gone,
    watching.end_comparison,
    watching.compare,
    backward.shield,
    backward.lower_weight,
    backward.stay_rolled_back,
    backward.pause,
    forward.start_canary,
    forward.promote_by_person,
    forward.give_up_waiting,
    forward.wait_for_metrics,
    forward.hold_for_cause,
    forward.raise_weight,
    forward.wait_for_pods,
    forward.wait_for_router,
    forward.pass_step,
    forward.run_canary,
    watching.watch,
    forward.steady,
)


def advance(view: View) -> tuple[Move, tuple[DecisionRecord, ...]]:
    """Makes moves until one settles; returns the last and all decisions taken, oldest first.

    Raises:
        RuntimeError: the moves did not settle, which is a defect of this module.
    """
    records: list[DecisionRecord] = []
    for _ in range(MOVES_MAX):
        move = next(made for candidate in MOVES if (made := candidate(view)) is not None)
        if move.record is not None:
            records.append(move.record)
            move = replace(move, status=decided(move.status, move.record), record=None)
        if move.settles:
            return move, tuple(records)
        view = view.with_status(move.status)
    raise RuntimeError(f"the rollout machine did not settle: {[r.effect for r in records]}")
