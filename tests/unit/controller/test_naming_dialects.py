"""Names of dialects become counters: the policy's own, Auto's choice and how long it stands, and what has none."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from builders import model_deployment, model_policy
from modeldeployment.api.modelpolicy import ModelPolicySpec
from modeldeployment.api.serving import Metrics, SeriesIdentity
from modeldeployment.api.status import ChosenDialect
from modeldeployment.controller.dialects import PROBE_EVERY, Dialects
from modeldeployment.controller.entry import Entry
from modeldeployment.controller.observing import view_of
from modeldeployment.controller.policy import Policy
from modeldeployment.controller.store import Store
from modeldeployment.decision.evidence import DataState, Evidence
from modeldeployment.metrics import Watched, dialect_of
from modeldeployment.metrics.auto import queries
from unit.controller.fake_kube import FakeKube
from unit.metrics.simulated import SimulatedPrometheus

KEY = ("ml", "fraud")
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
STABLE, CANARY = "fraud-a", "fraud-b"
ACME = {"name": "acme", "requests": "acme_total", "errors": "acme_failed_total"}


class Rig:
    """A model that asks for a dialect, a policy, and a Prometheus that has the series it is told to have."""

    def __init__(self, dialect: str, *own: dict[str, Any]) -> None:
        self.policy = Policy(Store(lambda key: None, lambda: None), FakeKube(), lambda record: None)
        self.own(*own)
        self.server = SimulatedPrometheus()
        self.policy.prometheus = self.server.client()
        self.dialects = Dialects(self.policy)
        self.now = NOW
        self.serving, self.trial, self.served = STABLE, "", dialect
        self.needs_latency = False
        obj = model_deployment({"spec.serving.metrics": {"dialect": dialect}})
        self.entry = Entry.of(
            KEY, {**obj, "metadata": {**obj["metadata"], "uid": "u", "generation": 1, "resourceVersion": "1"}}
        )

    def own(self, *dialects: dict[str, Any]) -> None:
        """The policy is edited."""
        self.policy.spec = ModelPolicySpec.model_validate(model_policy({"spec.dialects": list(dialects)})["spec"])

    @property
    def watched(self) -> Watched:
        """What is looked at now."""
        return Watched(
            KEY,
            Metrics(dialect=self.served),
            (self.serving, self.trial) if self.trial else (self.serving,),
            serving=self.serving,
            trial=self.trial,
            control=self.serving if self.trial else "",
            needs_errors=True,
            needs_latency=self.needs_latency,
        )

    def look(self) -> Watched | Evidence:
        """The fleet looks."""
        return self.dialects.name(self.entry, self.watched, self.now)

    def read_by(self) -> str:
        """The dialect by which the model is read at a look; why there is none, if so."""
        match self.look():
            case Watched() as named:
                return named.metrics.dialect
            case Evidence() as evidence:
                return evidence.message

    async def probe(self, later: timedelta = PROBE_EVERY) -> int:
        """Time passes and the loop goes round; returns how many queries were sent."""
        before, self.now = len(self.server.asked), self.now + later
        self.dialects.start(self.now)
        if self.dialects._probing is not None:
            await asyncio.wait([self.dialects._probing])
        return len(self.server.asked) - before

    def has(self, revision: str, *series: str) -> None:
        """Prometheus has these series of a revision's pod, and no others."""
        self.server.series.clear()
        for query in queries([self.watched], self.policy.dialects).values():
            seen = any(f"({name}" in query for name in series)
            labels = {"namespace": "ml", "pod": f"{revision}-7d9c5b8f6d-aaaaa"}
            self.server.series[query] = [(labels, 1.0)] if seen else []


def test_a_built_in_dialect_needs_nobody() -> None:
    """Its name is enough; nothing is written into the status."""
    rig = Rig("MLServer")
    assert rig.read_by() == "MLServer"
    assert rig.entry.dialect is None
    assert rig.entry.by_pod


def test_a_dialect_of_the_policy_comes_with_its_counters() -> None:
    """And with an edit of the policy, with others."""
    rig = Rig("acme", ACME)
    named = rig.look()
    assert isinstance(named, Watched)
    assert dialect_of(named.metrics).errors == "acme_failed_total"
    assert named.metrics.dialect == "acme", "what people read is its name"
    rig.own({**ACME, "errors": "acme_broken_total", "identity": "Workload"})
    named = rig.look()
    assert isinstance(named, Watched)
    assert dialect_of(named.metrics).errors == "acme_broken_total"
    assert dialect_of(named.metrics).identity is SeriesIdentity.WORKLOAD
    assert not rig.entry.by_pod


def test_an_unknown_name_is_said_with_those_that_are_known() -> None:
    """No data, which moves nothing; the sentence names the policy's dialects and the built-in ones."""
    rig = Rig("acme-tabular", ACME)
    evidence = rig.look()
    assert isinstance(evidence, Evidence)
    assert (evidence.state, evidence.word) == (DataState.NO_DATA, "DialectUnknown")
    assert "there is no metrics dialect acme-tabular: the ModelPolicy has acme" in evidence.message
    assert "MLServer" in evidence.message and "EnvoyGateway" not in evidence.message


def test_a_dialect_that_tells_no_versions_apart_is_refused_here_too() -> None:
    """Where an older CRD let it in."""
    assert "both versions are" in Rig("EnvoyGateway").read_by()


def test_a_wrong_name_can_be_mended() -> None:
    """The revision that serves has a name that is no dialect: the spec's counts, or no mend could ever be promoted."""
    rig = Rig("MLServer")
    rig.served = "mlsrver"
    assert rig.read_by() == "MLServer"


async def test_auto_waits_for_an_answer_and_goes_by_it() -> None:
    """First no answer, then the dialect whose series are there; its name, revision and reason are for the status."""
    rig = Rig("Auto")
    rig.has(STABLE, "vllm:request_success_total")
    assert "Auto has not asked Prometheus yet" in rig.read_by()
    assert await rig.probe() > 10
    assert rig.read_by() == "VLLM"
    assert rig.entry.dialect is not None
    assert (rig.entry.dialect.name, rig.entry.dialect.revision) == ("VLLM", STABLE)
    assert f"{STABLE} has series vllm:request_success_total" in rig.entry.dialect.message
    assert await rig.probe() == 0, "what is settled is not asked for again"
    store = Store(lambda key: None, lambda: None)
    view = view_of(rig.entry, store, NOW, conflict="", defaults=(), trouble="")
    assert view.dialect == rig.entry.dialect
    assert "reads it as VLLM" in view.evidence.message, "EvidenceAvailable says it"


async def test_all_that_wait_are_probed_for_together_and_seldom() -> None:
    """The queries of a probe do not depend on the models, and come at most once in PROBE_EVERY."""
    rig = Rig("Auto")
    rig.has(STABLE)
    rig.look()
    once = await rig.probe()
    for number in range(50):
        other = replace(rig.watched, key=("ml", f"m{number}"), serving=f"m{number}-a")
        rig.dialects.name(Entry.of(other.key, rig.entry.obj), other, rig.now)
    assert await rig.probe(timedelta(seconds=1)) == 0
    assert await rig.probe() == once
    rig.look()
    assert "no request of fraud-a" in rig.read_by()


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_choice_stands_while_versions_are_compared(restarted: bool) -> None:
    """Whatever series the canary has, and although another leader knows the status alone."""
    rig = Rig("Auto")
    rig.entry.dialect = ChosenDialect(name="MLServer", revision=STABLE)
    rig.trial = CANARY
    if restarted:
        status = rig.entry.status.model_copy(update={"dialect": rig.entry.dialect})
        rig.entry = Entry.of(KEY, {**rig.entry.obj, "status": status.to_json()})
    rig.has(CANARY, "vllm:request_success_total")
    assert rig.read_by() == "MLServer"
    assert await rig.probe() == 0


async def test_a_new_runtime_is_seen_once_its_version_serves() -> None:
    """The version that serves now has no series of the old dialect: it is probed for, and the choice changes."""
    rig = Rig("Auto")
    rig.entry.dialect = ChosenDialect(name="MLServer", revision=STABLE)
    rig.serving = CANARY
    assert rig.read_by() == "MLServer", "nothing better is known"
    rig.has(CANARY, "vllm:request_success_total")
    await rig.probe()
    assert rig.read_by() == "VLLM"
    assert rig.entry.dialect.revision == CANARY


async def test_a_version_that_is_measured_by_the_old_choice_confirms_it() -> None:
    """No probe is needed after each promotion."""
    rig = Rig("Auto")
    rig.entry.dialect = ChosenDialect(name="MLServer", revision=STABLE)
    rig.serving = CANARY
    rig.entry.evidence = Evidence(DataState.FLOWING, "", NOW, CANARY)
    assert rig.read_by() == "MLServer"
    assert rig.entry.dialect.revision == CANARY
    assert await rig.probe() == 0


async def test_a_new_objective_may_need_another_dialect() -> None:
    """KServe's server tells no errors: Auto looks for one that does, and keeps what it has where there is none."""
    rig = Rig("Auto")
    rig.entry.dialect = ChosenDialect(name="KServe", revision=STABLE)
    rig.has(STABLE, "request_predict_seconds_count")
    assert rig.read_by() == "KServe"
    await rig.probe()
    assert rig.read_by() == "KServe"
    assert await rig.probe() == 0, "the same question has the same answer"
    rig.needs_latency = True
    rig.look()
    rig.has(STABLE, "request_predict_seconds_count", "http_server_request", "kn_serving_invocation")
    await rig.probe()
    assert rig.read_by() == "KServe", "a proxy alone must be found twice"
    await rig.probe()
    assert rig.read_by() == "Knative"


async def test_a_probe_that_fails_is_said_and_made_again() -> None:
    """Prometheus' own trouble is in the sentence, and nothing is chosen meanwhile."""
    rig = Rig("Auto")
    rig.server.refuses["inference_requests_total"] = 500
    rig.look()
    await rig.probe()
    assert "answered HTTP 500" in rig.read_by()
    rig.server.refuses.clear()
    rig.has(STABLE, "inference_requests_total")
    await rig.probe()
    assert rig.read_by() == "Generic"


async def test_a_choice_that_the_policy_took_out_is_made_anew() -> None:
    """Even while versions are compared: its counters are not known any more."""
    rig = Rig("Auto", ACME)
    rig.entry.dialect = ChosenDialect(name="acme", revision=STABLE)
    rig.trial = CANARY
    assert rig.read_by() == "acme"
    rig.own()
    rig.has(STABLE, "inference_requests_total")
    rig.look()
    await rig.probe()
    assert rig.read_by() == "Generic"


async def test_a_model_that_is_gone_is_not_probed_for() -> None:
    """Deleted, or given a dialect of its own."""
    rig = Rig("Auto")
    rig.look()
    rig.dialects.forget(KEY)
    assert await rig.probe() == 0
    rig.look()
    rig.served = "MLServer"
    assert rig.read_by() == "MLServer"
    assert await rig.probe() == 0


def test_before_any_version_serves_there_is_nothing_to_go_by() -> None:
    """It says so, and asks nobody."""
    rig = Rig("Auto")
    rig.serving = ""
    assert "no revision serves yet" in rig.read_by()
