"""Conditions: one for each type, and a transition time that moves only when the status does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from modeldeployment.api.conditions import (
    SUMMARY,
    Condition,
    ConditionStatus,
    ConditionType,
    find,
    set_condition,
    without,
)

START = datetime(2026, 11, 24, 12, tzinfo=UTC)


def _condition(
    type_: str = "Ready",
    status: ConditionStatus = "True",
    minutes: int = 0,
    reason: str = "Serving",
    message: str = "yes",
) -> Condition:
    return Condition(
        type=type_,
        status=status,
        reason=reason,
        message=message,
        observed_generation=1,
        last_transition_time=START + timedelta(minutes=minutes),
    )


CONDITIONS = st.builds(
    _condition,
    type_=st.sampled_from([*ConditionType]),
    status=st.sampled_from(["True", "False", "Unknown"]),
    minutes=st.integers(0, 10_000),
    reason=st.sampled_from(["Serving", "NoPods"]),
)


def test_the_time_stays_while_the_status_does() -> None:
    """Another reason or message is no transition."""
    before = (_condition(),)
    (after,) = set_condition(before, _condition(minutes=9, reason="StillServing", message="still"))
    assert after.last_transition_time == START, "the transition time moved although the status did not"
    assert (after.reason, after.message) == ("StillServing", "still")


@pytest.mark.parametrize("status", ["False", "Unknown"])
def test_the_time_moves_with_the_status(status: ConditionStatus) -> None:
    """Another status is a transition, at the new condition's time."""
    (after,) = set_condition((_condition(),), _condition(status=status, minutes=9))
    assert after.last_transition_time == START + timedelta(minutes=9)


def test_a_new_type_goes_to_the_end() -> None:
    """Conditions keep their places, so that kubectl shows them in one order; new ones come last."""
    before = (_condition("Ready"), _condition("Healthy"))
    after = set_condition(set_condition(before, _condition("RolledBack")), _condition("Ready", "False"))
    assert [c.type for c in after] == ["Ready", "Healthy", "RolledBack"]


@given(st.lists(CONDITIONS, max_size=30))
def test_there_is_one_condition_of_each_type(news: list[Condition]) -> None:
    """Whatever is set, in whatever order: one of each type, and the last one counts."""
    conditions: tuple[Condition, ...] = ()
    for new in news:
        conditions = set_condition(conditions, new)
    assert sorted(c.type for c in conditions) == sorted({n.type for n in news})
    last = {n.type: n for n in news}
    assert all((c.status, c.reason) == (last[c.type].status, last[c.type].reason) for c in conditions)


@given(st.lists(CONDITIONS, min_size=1, max_size=30))
def test_the_time_is_that_of_the_last_change(news: list[Condition]) -> None:
    """The transition time is that of the first condition in the last run of one status."""
    conditions: tuple[Condition, ...] = ()
    wanted: dict[str, Condition] = {}
    for new in news:
        conditions = set_condition(conditions, new)
        if new.type not in wanted or wanted[new.type].status != new.status:
            wanted[new.type] = new
    assert {c.type: c.last_transition_time for c in conditions} == {
        t: c.last_transition_time for t, c in wanted.items()
    }


@given(CONDITIONS)
def test_setting_it_twice_changes_nothing(new: Condition) -> None:
    """Setting a condition is idempotent: a status is not written because somebody looked."""
    once = set_condition((), new)
    assert set_condition(once, new) == once


def test_what_goes_and_what_is_found() -> None:
    """Conditions are taken away by type, and found by type; one that is not there is None."""
    conditions = (_condition("Ready"), _condition("Stalled"))
    assert [c.type for c in without(conditions, ["Stalled", "RolledBack"])] == ["Ready"]
    assert find(conditions, "Stalled") is conditions[1]
    assert find(conditions, "Healthy") is None


def test_the_summary_is_positive() -> None:
    """The five conditions that are always there are good news when True."""
    assert {*SUMMARY} == {*ConditionType} - {ConditionType.STALLED, ConditionType.ROLLED_BACK}


@pytest.mark.parametrize("wrong", [{"status": "true"}, {"status": True}, {"status": ""}, {"reason": ""}, {"type": ""}])
def test_a_condition_is_never_half_a_condition(wrong: dict[str, object]) -> None:
    """status is True, False or Unknown as text, and reason is never empty."""
    with pytest.raises(ValidationError):
        Condition.model_validate({**_condition().to_json(), **wrong})


def test_a_condition_is_written_as_kubernetes_writes_it() -> None:
    """JSON has camelCase, a time in UTC with Z, and all of meta/v1 Condition."""
    assert _condition().to_json() == {
        "type": "Ready",
        "status": "True",
        "reason": "Serving",
        "message": "yes",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-11-24T12:00:00Z",
    }
