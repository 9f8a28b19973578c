"""A model's trials decided again from Prometheus' history: its own counts, by the operator's own evidence store."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from modeldeployment.api.modeldeployment import ModelDeploymentSpec, ModelDeploymentStatus
from modeldeployment.api.objectives import Objective
from modeldeployment.api.quantities import seconds
from modeldeployment.api.serving import SeriesIdentity
from modeldeployment.api.status import DecisionRecord, RevisionStatus, RolloutStatus
from modeldeployment.decision.rules import trial_rules
from modeldeployment.decision.view import roles
from modeldeployment.metrics import EvidenceStore, ModelKey, PrometheusClient, Watched, dialect_of
from modeldeployment.metrics.wanted import watched
from modeldeployment.metrics.watched import settle_of
from modeldeployment.replaying import finding
from modeldeployment.replaying.follow import Course, Seen, follow
from modeldeployment.replaying.history import PastError, Reading, instants, looked, metrics_of, pods_born, quiet
from modeldeployment.replaying.logbook import Trial, look_times, trials
from modeldeployment.replaying.rerun import Difference, Replayed, compare

SERVED_SECONDS = 900.0
"""How far before a rollout the version that served is looked for."""


@dataclass(frozen=True, slots=True)
class Model:
    """A ModelDeployment as its past is read.

    Attributes:
        key: namespace and name.
        spec: as it is now; its objectives and rollout are taken to have been the same.
        status: as it is now, with the last decisions.
        log: the decisions, oldest first; from the status, or from a recording.
        defaults: the policy's objectives.
        policy: what else the ModelPolicy says of its metrics.
    """

    key: ModelKey
    spec: ModelDeploymentSpec
    status: ModelDeploymentStatus
    log: tuple[DecisionRecord, ...]
    defaults: tuple[Objective, ...] = ()
    policy: Reading = field(default_factory=Reading)

    @property
    def interval(self) -> float:
        """Seconds between looks."""
        return seconds(self.spec.rollout.analysis.interval)

    @property
    def settle(self) -> timedelta:
        """How long after its instant a look was made."""
        return timedelta(seconds=settle_of(self.interval, self.policy.delay))


async def replay(model: Model, since: datetime, now: datetime, prometheus: PrometheusClient) -> Replayed:
    """Every trial of the log that went on after `since`, decided again.

    Raises:
        PastError: there is nothing to replay, or no way to.
        PrometheusError: Prometheus does not answer.
    """
    if not trial_rules(model.spec, model.defaults):
        raise PastError("the spec has no objective and no rollbackOn, and no ModelPolicy was given: nothing was judged")
    found = trials(model.log, since)
    if not found:
        raise PastError(
            f"no rollout since {since:%Y-%m-%d %H:%M:%SZ} in the decision log (a first version has none): look further "
            "back (--since), or, where its beginning is gone from the log, give a recording of that time (--recording)"
        )
    done = Replayed(*model.key)
    for trial in found:
        course = await gather(model, trial, now, prometheus)
        done.looks += len(course.looks)
        came = [record.to_json() for record in follow(course)]
        done.records.extend(came)
        logged = [record.to_json() for record in trial.records]
        if difference := compare(logged, came):
            at = trial.records[min(len(came), len(logged) - 1)].time
            done.difference = Difference(at, *difference)
            done.notes.append("decided again by the spec as it is now: an edit of it since then, or a pause, differs")
            break
    return done


async def gather(model: Model, trial: Trial, now: datetime, prometheus: PrometheusClient) -> Course:
    """What a trial was judged on.

    Raises:
        PastError: Prometheus has nothing of that time.
        PrometheusError: Prometheus does not answer.
    """
    spec = quiet(model.spec)
    until = ((trial.end or now) - model.settle).timestamp()
    stable = await _stable(model, trial, prometheus)
    # A look sees what was decided before it began; it begins once the scrapes of its instant are stored.
    looks = instants((trial.start - model.settle).timestamp(), until, model.interval)
    asked = [_watched(model, spec, trial, stable, look) for look in looks]
    if not looks:
        raise PastError(f"the rollout of {trial.version} ended before its first look at Prometheus")
    born = await pods_born(asked[0], trial.start.timestamp(), until, prometheus)
    store, seen = EvidenceStore(model.policy.stale_after), []
    for look, one in zip(looks, asked, strict=True):
        seen.append(await looked(store, replace(one, pods=born), look, prometheus))
    if not any(evidence.data_age is not None for evidence in seen):
        raise PastError(
            f"Prometheus has nothing of {trial.revision} from {trial.start.isoformat(timespec='seconds')} on: is it "
            "the Prometheus that the operator asked, and does it keep its samples for so long?"
        )
    times = look_times(trial, looks, lambda look: look + model.settle)
    by_pod = dialect_of(asked[0].metrics).identity is SeriesIdentity.POD
    return Course(trial, stable, spec, model.defaults, by_pod, [Seen(*one) for one in zip(times, seen, strict=True)])


def _watched(model: Model, spec: ModelDeploymentSpec, trial: Trial, stable: str, look: datetime) -> Watched:
    """What the operator asked at a look, by what it had decided until then."""
    one = watched(
        model.key,
        spec,
        status_at(trial, stable, look + model.settle),
        model.defaults,
        metrics=metrics_of(model.spec, model.status, model.policy),
        remembered=False,
        interval=model.interval,
        pods={},
        started={},
        ports={},
    )
    return replace(one, slis=frozenset())  # budgets decide nothing


def status_at(trial: Trial, stable: str, at: datetime) -> ModelDeploymentStatus:
    """The roles of a trial at a moment, as the log has them."""
    served = RevisionStatus(revision=stable, version=trial.stable_version)
    new = RevisionStatus(revision=trial.revision, version=trial.version)
    rollout = RolloutStatus(revision=trial.revision, version=trial.version, start_time=trial.start)
    promoted = trial.time_of("Promoted")
    if promoted is None or promoted >= at:
        return ModelDeploymentStatus(stable=served, canary=new, rollout=rollout)
    began = [r.time for r in trial.records if r.effect == "WatchAlarm" and r.time < at]
    ended = [r.time for r in trial.records if r.effect == "ComparisonEnded" and r.time < at]
    comparing = began[-1] if began and (not ended or ended[-1] < began[-1]) else None
    update = {"promotion_time": promoted, "compare_time": comparing}
    return ModelDeploymentStatus(stable=new, previous=served, rollout=rollout.model_copy(update=update))


async def _stable(model: Model, trial: Trial, prometheus: PrometheusClient) -> str:
    """The revision that served when a trial began: by its version, else by who had traffic."""
    status = model.status
    known = {r.revision: r.version for r in model.log}
    known |= {q.revision: q.version for q in status.quarantined} | {r.revision: r.version for r in roles(status)}
    named = [r for r, version in known.items() if version == trial.stable_version and r != trial.revision]
    if len(named) == 1:
        return named[0]
    at = trial.start.timestamp()
    metrics, step = metrics_of(model.spec, model.status, model.policy), max(1.0, model.interval)
    text = finding.query(*model.key, metrics)
    start, end = (datetime.fromtimestamp(moment, UTC) for moment in (at - SERVED_SECONDS, at))
    answer = await prometheus.range(text, start, end, step, purpose="past")
    risen = finding.rises(finding.numbers(answer.series), model.key[1])
    risen.pop(trial.revision, None)
    if not risen:
        raise PastError(
            f"Prometheus does not tell which revision served before {trial.version} came, at "
            f"{trial.start.isoformat(timespec='seconds')}: does it keep its samples for so long?"
        )
    return max(risen, key=lambda revision: (risen[revision][-1], len(risen[revision]), revision))
