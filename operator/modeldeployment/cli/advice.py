"""What a person can do about a rollout now: exact commands, and what each does."""

from __future__ import annotations

from collections.abc import Iterator

from modeldeployment.api import names
from modeldeployment.api.base import Model
from modeldeployment.api.modeldeployment import ModelDeploymentSpec, ModelDeploymentStatus
from modeldeployment.serving.children import revision_of

_PODS = ("Initializing", "CanaryStarting", "Promoting", "CanaryUnavailable", "ProgressDeadlineExceeded")


class Command(Model):
    """One thing to do."""

    command: str
    does: str


def commands(
    namespace: str, name: str, state: str, spec: ModelDeploymentSpec, status: ModelDeploymentStatus
) -> tuple[Command, ...]:
    """What makes sense in this state, the likeliest first."""
    verbs = (*_verbs(name, spec, status),)
    looks = (*_looks(name, state, status),)
    every = (*looks, *verbs) if state in (*_PODS, "WaitingForRouter", "WaitingForPrevious") else (*verbs, *looks)
    return tuple(Command(command=f"kubectl {what} -n {namespace}", does=does) for what, does in every)


def _verbs(name: str, spec: ModelDeploymentSpec, status: ModelDeploymentStatus) -> Iterator[tuple[str, str]]:
    """The verbs that would not refuse."""
    stable, canary, previous = status.stable, status.canary, status.previous
    if spec.suspend:
        yield f"model resume {name}", "ends the pause (one that Git holds is removed there)"
    if canary and stable:
        after = "once the pause ends" if spec.suspend else "once it has the pods"
        yield f"model promote {name}", f"gives {canary.version} all of the traffic {after}, unproven"
    if canary:
        yield f"model abort {name}", f"takes {canary.version} back at once and keeps it out"
    elif stable and previous:
        yield (
            f"model abort {name}",
            f"gives all of the traffic back to {previous.version}, and keeps {stable.version} out",
        )
    if (canary or previous) and not spec.suspend:
        yield f"model pause {name}", "nothing rises or is promoted until you resume"
    if _kept_out(name, spec, status):
        yield f"model retry {name}", f"tries {spec.model.version} again, as a new rollout"


def _kept_out(name: str, spec: ModelDeploymentSpec, status: ModelDeploymentStatus) -> bool:
    revision = revision_of(name, spec)[0]
    part = {seen.revision for seen in (status.stable, status.canary) if seen}
    return revision not in part and any(
        q.revision == revision and q.attempt >= spec.rollout.attempt for q in status.quarantined
    )


def _looks(name: str, state: str, status: ModelDeploymentStatus) -> Iterator[tuple[str, str]]:
    """Where to look oneself."""
    late = status.canary or status.stable
    if state == "WaitingForPrevious":
        late = status.previous
    if late and state in (*_PODS, "WaitingForPrevious", "WaitingForMetrics"):
        yield f"get pods -l {names.LABEL_REVISION}={late.revision}", f"shows the pods of {late.version}"
    if state == "WaitingForRouter":
        yield f"describe httproute {name}", "shows what the Gateway says of the route"
    if status.rollout or status.quarantined:
        yield f"describe modeldeployment {name}", "shows the Events: every decision with its numbers"
