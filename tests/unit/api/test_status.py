"""A status stays small at its very largest, and other people's words never make it too large to be written."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from modeldeployment.api.base import cut
from modeldeployment.api.conditions import SUMMARY, Condition, ConditionType
from modeldeployment.api.modeldeployment import ModelDeploymentSpec
from modeldeployment.api.rollout import RollbackOn
from modeldeployment.api.status import (
    OBJECTIVES_MAX,
    ROLLBACK_ON_MAX,
    STATUS_BYTES_MAX,
    TRAIL_POINTS_MAX,
    DecisionRecord,
    Health,
    ModelDeploymentStatus,
    ObjectiveStatus,
    Quarantined,
    RevisionStatus,
    RolloutStatus,
    RuleStatus,
    Trail,
    Verdict,
)
from unit.api.filled import filled_status

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TYPICAL_BYTES_MAX = 8_192
SENTENCE = "error rate 0.41% of 12,345 requests, at most 1%; stable 0.38% of 110,231 requests; needs about 4m more"


def _bytes(status: dict[str, Any]) -> int:
    return len(json.dumps(status, separators=(",", ":"), ensure_ascii=False).encode())


def _typical() -> ModelDeploymentStatus:
    """In mid-canary: two objectives, two rules more, five decisions, one revision that was taken back."""
    ago = timedelta(hours=1)
    revision: dict[str, Any] = {"revision": "fraud-0123456789", "replicas": 10, "ready_replicas": 10}
    state = "1:" + "A" * 664  # as long as a sequential test's state is
    return ModelDeploymentStatus(
        observed_generation=41,
        conditions=tuple(
            Condition(
                type=t,
                status="True",
                reason="CanaryRunning",
                message=SENTENCE,
                observed_generation=41,
                last_transition_time=NOW - ago,
            )
            for t in (*SUMMARY, ConditionType.ROLLED_BACK)
        ),
        health=Health.OK,
        stable=RevisionStatus(version="1.3.2", weight=90, wanted_weight=90, **revision),
        canary=RevisionStatus(version="1.4.0", weight=10, wanted_weight=10, **revision),
        rollout=RolloutStatus(
            revision="fraud-0123456789",
            version="1.4.0",
            start_time=NOW - ago,
            steps=3,
            weight_time=NOW,
            message=SENTENCE,
            evidence_time=NOW,
            errors_query='sum by (pod) (requests_total{namespace=~"ml", pod=~"(fraud-0123456789)-.+"})',
            latency_query='sum by (pod, le) (seconds_bucket{namespace=~"ml", pod=~"(fraud-0123456789)-.+"})',
            rules=tuple(
                RuleStatus(
                    name=n,
                    verdict=Verdict.INCONCLUSIVE,
                    message=SENTENCE,
                    needs="12,345 more requests, 4m10s",
                    state=state,
                )
                for n in ("errors", "latency")
            ),
        ),
        trail=Trail(
            revision="fraud-0123456789",
            version="1.4.0",
            start_time=NOW - ago,
            every_seconds=80,
            points=" ".join(f"{place},10,-14,-13" for place in range(TRAIL_POINTS_MAX)),
        ),
        objectives=tuple(
            ObjectiveStatus(
                name=n, verdict=Verdict.PASS, reason="Kept", value="0.41%", bound="at most 1%", samples=12_345
            )
            for n in ("errors", "latency")
        ),
        quarantined=(
            Quarantined(
                revision="fraud-9876543210",
                version="1.3.9",
                attempt=1,
                reason="ErrorRateAboveBound",
                message=SENTENCE,
                time=NOW,
            ),
        ),
        decisions=tuple(
            DecisionRecord(
                time=NOW,
                revision="fraud-0123456789",
                version="1.4.0",
                effect="Advanced",
                message=SENTENCE,
                verdict=Verdict.PASS,
            )
            for _ in range(5)
        ),
    )


def test_the_largest_status_stays_within_its_limit() -> None:
    """With every list and text filled to its bound a status is smaller than STATUS_BYTES_MAX, and that than 64 KiB."""
    size = _bytes(filled_status())
    assert size < STATUS_BYTES_MAX, f"the largest status has {size} bytes, more than STATUS_BYTES_MAX"
    assert STATUS_BYTES_MAX <= 98_304


def test_the_largest_status_is_a_status() -> None:
    """The models take what the CRD takes: a filled status is read, and written as it was."""
    filled = filled_status()
    assert ModelDeploymentStatus.model_validate(filled).to_json() == filled


def test_a_typical_status_is_small() -> None:
    """In mid-canary, with decisions and test states, a status has less than 8 KiB."""
    size = _bytes(_typical().to_json())
    assert size < TYPICAL_BYTES_MAX, f"a typical status has {size} bytes"


def test_every_rule_has_a_place() -> None:
    """There is room for a rule of each objective and of each key of rollbackOn, or the status could not be written."""
    assert len(RollbackOn.model_fields) == ROLLBACK_ON_MAX
    objectives = ModelDeploymentSpec.model_json_schema(by_alias=True)["properties"]["objectives"]
    assert objectives["maxItems"] == OBJECTIVES_MAX


@pytest.mark.parametrize("letter", ["x", "é", "…", "🚀"])
def test_a_long_message_is_cut(letter: str) -> None:
    """Words of others that are too long are cut to the bound in bytes, with … to show it, when made and when copied."""
    long = letter * 5_000
    rule = RuleStatus(name="errors", verdict=Verdict.PASS, message=long)
    assert rule.message.endswith("…") and rule.message.startswith(letter)
    assert 310 < len(rule.message.encode()) <= 320
    copied = RuleStatus(name="errors", verdict=Verdict.PASS, message="short").model_copy(update={"message": long})
    assert copied == rule
    assert RuleStatus.model_validate(rule.to_json()) == rule


def test_a_name_is_never_cut() -> None:
    """Half of a name is another name: one that is too long is an error."""
    with pytest.raises(ValidationError, match="at most 63"):
        RevisionStatus(revision="x" * 64, version="1")


@given(st.text(max_size=60), st.integers(4, 60))
def test_a_cut_fits(text: str, limit: int) -> None:
    """A cut text fits in bytes, begins as the text does, and is the text itself if that fits."""
    short = cut(text, limit)
    assert len(short.encode()) <= limit
    assert short == text if len(text.encode()) <= limit else text.startswith(short[:-1]) and short.endswith("…")


def test_fields_of_a_newer_operator_are_passed_over() -> None:
    """After a rollback of the operator, a status of the newer one is still read."""
    status = {**_typical().to_json(), "drift": {"psi": "0.2"}}
    assert ModelDeploymentStatus.model_validate(status) == _typical()


def test_a_status_survives_the_api_server() -> None:
    """What is written is read back as the same status."""
    assert ModelDeploymentStatus.model_validate(json.loads(json.dumps(_typical().to_json()))) == _typical()
