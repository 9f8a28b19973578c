"""What the operator does without data, without Prometheus, without an API server: nothing, and it says why."""

from __future__ import annotations

import base64
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from integration.acting import DEPLOYMENTS, ERRORS, ROLLOUT, Model, serve_first, watching
from integration.authproxy import AuthProxy
from lab import ApiError, Lab
from lab.process import PATIENCE
from lab.prometheus import Prometheus
from stand import OPERATOR_NAMESPACE, Stand

JSON = dict[str, Any]
SHORT = {"spec.rollout": {**ROLLOUT, "canary": {"steps": [{"traffic": "50%", "duration": "4s"}]}}}
STAYS = {"spec.rollout": {**ROLLOUT, "canary": {"steps": [{"traffic": "50%", "duration": "10m"}]}}}
UNSCRAPED = {"spec.serving.template.metadata": {"annotations": {"prometheus.io/scrape": "false"}}}
NO_QUERY = {
    "spec.objectives": [
        {"name": "errors", "errorRate": {"max": "5%"}},
        {"name": "broken", "promql": {"query": "no_such_function(up)", "max": "1"}},
    ]
}
MODELS: dict[str, JSON] = {
    "silent": SHORT,
    "unscraped": {},
    "stale-good": STAYS,
    "stale-bad": SHORT,
    "unasked": {},
    "held": STAYS,
    "sick": {},
    "asked": {},
    "survivor": {"spec.rollout": {**ROLLOUT, "canary": {"steps": [{"traffic": "50%", "duration": "20s"}]}}},
    "gap": {},
    "gone": {},
}
HOLD_SECONDS = 6.0
"""Longer than the same evidence takes to decide when it can be seen."""


@pytest.fixture(scope="module")
def models(stand: Stand) -> dict[str, Model]:
    """Models whose first version serves."""
    found = {name: Model(stand, name, overrides) for name, overrides in MODELS.items()}
    serve_first([*found.values()])
    return found


def test_no_traffic_no_data_and_a_refused_query_are_told_apart(models: dict[str, Model]) -> None:
    """Each is told in words, the first two as the state of the evidence, the query as what its own rule waits for; none
    promotes, and none rolls back."""
    silent, unscraped, unasked = models["silent"], models["unscraped"], models["unasked"]
    with watching(silent, unscraped, unasked) as routes, unscraped.load(50) as load, unasked.load(50) as other:
        silent.apply("2", ERRORS)
        unscraped.apply("2", ERRORS, overrides=UNSCRAPED)
        unasked.apply("2", overrides=NO_QUERY)
        silent.wait_canary("2")
        for model, reason in ((silent, "NoTraffic"), (unscraped, "NoData")):
            model.wait_says("EvidenceAvailable", "False", reason)
        wait_told(unasked, "Progressing", "no_such_function")
        unscraped.wait("its pods", lambda: unscraped.ready("2") == 1)
        unasked.wait("its pods", lambda: unasked.ready("2") == 1)
        time.sleep(HOLD_SECONDS)
        wait_told(unscraped, "EvidenceAvailable", "does not scrape")
        wait_told(silent, "EvidenceAvailable", "had no request")
        unasked.wait_says("EvidenceAvailable", "True", "DataFlowing")
        load.stop()
        other.stop()
    assert routes[0].of("2") == [0, 50]
    for model, route in zip((silent, unscraped, unasked), routes, strict=True):
        assert 100 not in route.of("2")
        assert not {"RolledBack", "Promoted"} & {*model.decisions()}
        assert model.condition("RolledBack") == {}
        model.apply("1")


def wait_told(model: Model, type_: str, words: str) -> None:
    """Until a condition's message has these words."""
    model.wait(f"{type_} to tell: {words}", lambda: words in model.condition(type_).get("message", ""))


def end_step(model: Model) -> None:
    """The canary's step lasts a second from now on, so it is over; the operator has seen that."""
    model.patch({"rollout": {"canary": {"steps": [{"traffic": "50%", "duration": "1s"}]}}})
    generation = model.stand.get(model.name)["metadata"]["generation"]
    model.wait("its shorter step to be seen", lambda: model.status.get("observedGeneration") == generation)


def test_stale_data_neither_promotes_nor_rolls_back(models: dict[str, Model]) -> None:
    """Prometheus stops to scrape the canaries: StaleData; a good one is not promoted though its evidence is enough and
    its step is over, a bad one is not taken back though its clients see errors. When they are scraped again, both get
    what they deserve."""
    good, bad = models["stale-good"], models["stale-bad"]
    prometheus = good.stand.lab.prometheus
    with watching(good, bad) as (good_route, bad_route), good.load(50) as good_load:
        bad.apply("2", ERRORS)  # without load so far: it has not shown yet
        bad.wait_canary("2")
        good.apply("2")
        wait_told(good, "Progressing", "evidence is enough; this step lasts")
        with unscraped_pods(prometheus, "stale-.*"):
            for model in (good, bad):
                model.wait_says("EvidenceAvailable", "False", "StaleData")
                wait_told(model, "EvidenceAvailable", "newest sample")
            bad_load = bad.load(50).start()
            bad.wait("errors", lambda: bad_load.snapshot().bad > 20)
            end_step(good)
            time.sleep(HOLD_SECONDS)
            assert good_route.of("2") == [0, 50]
            assert bad_route.of("2") == [0, 50]
        good.wait("promotion", lambda: good.weights() == {"2": 100})
        bad.wait("weight 0", lambda: bad.weights() == {"1": 100})
        bad_load.stop()
        good_load.stop()
    assert good_route.of("2") == [0, 50, 100]
    assert bad_route.of("2") == [0, 50, 0]


@contextmanager
def unscraped_pods(prometheus: Prometheus, pods: str) -> Iterator[None]:
    """Prometheus scrapes pods of such names no more, while the block runs."""
    rules = prometheus.config["scrape_configs"][0]["relabel_configs"]
    rules.append({"source_labels": ["pod"], "regex": pods, "action": "drop"})
    prometheus.reload()
    try:
        yield
    finally:
        rules.pop()
        prometheus.reload()


@contextmanager
def stopped(prometheus: Prometheus) -> Iterator[None]:
    """Prometheus is away, while the block runs."""
    prometheus.stop()
    try:
        yield
    finally:
        prometheus.start()


def reachable(stand: Stand) -> str:
    """Whether the ModelPolicy says that Prometheus answers; "" while it says nothing."""
    policy = stand.lab.api.get("/apis/modeldeployment.io/v1alpha1/modelpolicies/default")
    conditions = policy.get("status", {}).get("conditions", [])
    return "".join(condition["status"] for condition in conditions)


def test_weights_hold_while_prometheus_is_away(models: dict[str, Model]) -> None:
    """Prometheus is stopped in mid-canary: weights stay, the reason is told, nothing is promoted or taken back; when it
    is back, the good canary is promoted and the bad one taken back."""
    good, bad = models["held"], models["sick"]
    stand = good.stand
    with watching(good, bad) as (good_route, bad_route), good.load(50) as load:
        bad.apply("2", ERRORS)
        bad.wait_canary("2")
        good.apply("2")
        wait_told(good, "Progressing", "evidence is enough; this step lasts")
        with stopped(stand.lab.prometheus):
            bad_load = bad.load(50).start()
            for model in (good, bad):
                model.wait_says("EvidenceAvailable", "False", "QueryError")
            good.wait("no promise of health", lambda: good.status.get("health") == "Unknown")
            stand.wait("the policy to say so", lambda: reachable(stand) == "False")
            bad.wait("errors", lambda: bad_load.snapshot().bad > 20)
            end_step(good)
            time.sleep(HOLD_SECONDS)
            assert good_route.of("2") == bad_route.of("2") == [0, 50]
        good.wait("promotion", lambda: good.weights() == {"2": 100})
        bad.wait("weight 0", lambda: bad.weights() == {"1": 100})
        bad_load.stop()
        records = load.stop()
    assert good_route.of("2") == [0, 50, 100]
    assert bad_route.of("2") == [0, 50, 0]
    assert records.bad == 0


def test_prometheus_behind_credentials(models: dict[str, Model]) -> None:
    """Bearer token and tenant from a Secret and the policy; the token is rotated and found by itself; basic auth; a
    Secret that is not there is told. No credential is in a log or a status."""
    model = models["asked"]
    stand = model.stand
    api, secrets = stand.lab.api, f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/secrets"
    secret: JSON = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "prometheus-login"}}
    reference = {"name": "prometheus-login", "namespace": OPERATOR_NAMESPACE}

    def flows() -> bool:
        return model.says("EvidenceAvailable", "True", "DataFlowing")

    with AuthProxy(stand.lab.host, 9099, stand.lab.prometheus_url) as proxy, model.load(20):
        try:
            proxy.wanted = {"Authorization": "Bearer first-token", "X-Scope-OrgID": "team-a"}
            stand.policy(url=proxy.url, secretRef=reference, tenant={"value": "team-a"})
            # There is no Secret yet: told, and the Prometheus of before is asked meanwhile.
            path = "/apis/modeldeployment.io/v1alpha1/modelpolicies/default"
            stand.wait("the problem", lambda: "cannot be read" in str(api.get(path).get("status")))
            api.create(secrets, {**secret, "stringData": {"token": "first-token"}})
            stand.policy(url=proxy.url, secretRef=reference, tenant={"value": "team-a"}, timeout="9s")
            stand.wait("accepted queries", lambda: proxy.counts[200] > 5)
            model.wait("evidence", flows)

            proxy.wanted = {**proxy.wanted, "Authorization": "Bearer second-token"}
            model.wait("the refusal", lambda: model.says("EvidenceAvailable", "False", "QueryError"))
            api.patch(f"{secrets}/prometheus-login", {"stringData": {"token": "second-token"}})
            proxy.counts.clear()
            stand.wait("the rotated token", lambda: proxy.counts[200] > 5)
            model.wait("evidence", flows)

            login = base64.b64encode(b"reader:pass-word").decode()
            proxy.wanted = {**proxy.wanted, "Authorization": f"Basic {login}"}
            basic = {"data": {"token": None}, "stringData": {"username": "reader", "password": "pass-word"}}
            api.patch(f"{secrets}/prometheus-login", basic)
            proxy.counts.clear()
            stand.wait("basic auth", lambda: proxy.counts[200] > 5)
            model.wait("evidence", flows)
        finally:
            stand.policy()
    written = stand.lab.process("operator").log.read_text() + str(api.get(path)) + str(model.status)
    for word in ("first-token", "second-token", "pass-word", login):
        assert word not in written


def test_traffic_outlives_the_api_server(models: dict[str, Model]) -> None:
    """`kill -9` of the API server in mid-canary, for longer than a Lease holds: no request is lost and no weight moves.
    The operator gives its Lease up and ends; when the API server is back, the next one goes on and promotes."""
    model = models["survivor"]
    stand, lab = model.stand, model.stand.lab
    with watching(model) as (route,), model.load() as load:
        model.apply("2")
        model.wait_canary("2")
        lab.control_plane.kill_apiserver()
        away = time.time()
        ended = lab.process("operator").wait(PATIENCE)
        assert ended == 1, "a kubelet must see that it failed"
        assert "the Lease is lost" in lab.process("operator").tail()
        stand.wait("answers meanwhile", lambda: len(load.snapshot().between(away).records) > 200)
        lab.control_plane.start_apiserver()
        back = time.time()
        stand.wait("the API server's storage", lambda: lists(lab))
        stand.operator()  # as a kubelet does
        model.wait("promotion", lambda: route.of("2")[-1] == 100)
        model.wait("the end", lambda: model.weights() == {"2": 100})
        records = load.stop()
    assert route.of("2") == [0, 50, 100]
    assert records.bad == 0
    meanwhile = records.between(away, back)
    assert len(meanwhile.records) > 200
    assert meanwhile.share("2") == pytest.approx(0.5, abs=0.1)
    assert model.decisions().count("Promoted") == 1


def test_what_vanished_behind_a_lost_watch_is_found(models: dict[str, Model]) -> None:
    """Objects deleted while the operator could not watch, and their history compacted away: no event will ever tell.
    The operator's own list finds it, counts it, and the Deployment is made anew."""
    gap, _gone = models["gap"], models["gone"]
    stand, lab = gap.stand, gap.stand.lab
    lab.process("operator").stop()
    lab.kubectl("delete", "lease", "--all", "-n", OPERATOR_NAMESPACE)  # a leader that was killed holds it still
    operator = stand.operator("lister", lease_seconds=300, relist_seconds=2)
    drift = 'modeldeployment_store_drift_total{resource="deployments"}'
    stand.wait("the operator to lead", lambda: stand.leads("lister"))
    health = 'modeldeployment_health{name="gone",namespace="default"}'
    stand.wait("its looks", lambda: health in stand.probe("/metrics", "lister").text)
    path = f"{DEPLOYMENTS}/{gap.revision('1')}"
    uid = lab.api.get(path)["metadata"]["uid"]
    lab.control_plane.kill_apiserver()
    operator.signal(signal.SIGSTOP)
    try:
        lab.control_plane.start_apiserver()
        stand.wait("the API server's storage", lambda: lists(lab))
        lab.kubectl("delete", "deployment", gap.revision("1"), "--cascade=orphan")
        lab.kubectl("delete", "md", "gone")
        revision = lab.api.request("GET", DEPLOYMENTS)["metadata"]["resourceVersion"]
        body = f'{{"revision": "{revision}", "physical": true}}'.encode()
        urllib.request.urlopen(f"http://{lab.host}:2379/v3/kv/compaction", data=body, timeout=300).close()
        lab.control_plane.kill_apiserver()  # which still has in memory what etcd forgot
        lab.control_plane.start_apiserver()
    finally:
        operator.signal(signal.SIGCONT)

    def anew() -> bool:
        found = lab.api.find(path)
        return found is not None and found["metadata"]["uid"] != uid

    stand.wait("the Deployment anew", anew)
    assert stand.metric(drift, "lister") >= 1
    stand.wait("the deleted model to be forgotten", lambda: health not in stand.probe("/metrics", "lister").text)
    assert stand.metric('modeldeployment_store_drift_total{resource="modeldeployments"}', "lister") >= 1
    assert operator.alive
    gap.wait("its Service's pods", lambda: gap.ready("1") >= 1)


def lists(lab: Lab) -> bool:
    """Whether the API server lists custom resources, too: after a start its storage takes a moment longer."""
    try:
        for plural in ("modeldeployments", "modelrevisions"):
            lab.api.list(f"/apis/modeldeployment.io/v1alpha1/namespaces/default/{plural}")
    except (ApiError, httpx.HTTPError):
        return False
    return True
