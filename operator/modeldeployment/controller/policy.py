"""ModelPolicy → a client for its Prometheus, made anew when the policy or its Secret changes."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pydantic

from modeldeployment.api.base import JSON, cut
from modeldeployment.api.conditions import Condition, find, set_condition
from modeldeployment.api.modelpolicy import ModelPolicySpec, ModelPolicyStatus
from modeldeployment.api.objectives import Objective
from modeldeployment.api.quantities import seconds
from modeldeployment.api.serving import OwnDialect
from modeldeployment.controller.kube import ApiError, Kube, NotLeaderError
from modeldeployment.controller.resources import MODEL_POLICIES, SECRETS
from modeldeployment.controller.store import Store
from modeldeployment.metrics import Connection, PrometheusClient, QueryRecord, Unauthorized, connection
from modeldeployment.metrics.errors import BadQuery, QueryTimeout, ServerFault, TooLarge, Unreachable

_LOG = logging.getLogger(__name__)
POLICY = ("", "default")
SECRET_EVERY = timedelta(minutes=1)
"""How soon a rotated Secret is read anew."""
SECRET_AGAIN = timedelta(seconds=5)
"""The same while Prometheus refuses the credentials, or there are none yet."""
SECRET_SECONDS_MAX = 5.0
"""How long the fleet's loop waits for the Secret."""
STATUS_AGAIN = timedelta(seconds=30)
"""How soon a status that was refused is written again."""
OUTCOME_STANDS = 2
"""Steady intervals for which a query's outcome stands: whatever fails at every look is never forgotten in between."""
MESSAGE_BYTES_MAX = 768
_WORST_FIRST = (Unreachable.kind, Unauthorized.kind, ServerFault.kind, QueryTimeout.kind)
_ANSWERED = ("ok", BadQuery.kind, TooLarge.kind)


class Policy:
    """The policy of the cluster as it stands. `problem` says why there is no Prometheus to ask, if so."""

    def __init__(self, store: Store, kube: Kube, observer: Callable[[QueryRecord], None]) -> None:
        self._store, self._kube, self._observer = store, kube, observer
        self._connection: Connection | None = None
        self._outcomes: dict[str, tuple[datetime, str, str]] = {}
        self._now = datetime.min.replace(tzinfo=UTC)
        self._telling: asyncio.Task[None] | None = None
        self._tell_after = self._now
        self._read_at: datetime | None = None
        self._read_of = ""
        self.spec: ModelPolicySpec | None = None
        self.prometheus: PrometheusClient | None = None
        self.problem = "no ModelPolicy named default says where Prometheus is: create one"

    @property
    def steady_seconds(self) -> float:
        """How often (s) models without a rollout are looked at."""
        return seconds(self.spec.steady_interval) if self.spec else 30.0

    @property
    def stale_seconds(self) -> float:
        """Age (s) above which samples are stale."""
        return seconds(self.spec.prometheus.stale_after) if self.spec else 60.0

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Those of models that have none of their own."""
        return tuple(self.spec.objectives) if self.spec else ()

    @property
    def dialects(self) -> tuple[OwnDialect, ...]:
        """Metrics dialects beside those that are built in."""
        return tuple(self.spec.dialects) if self.spec else ()

    @property
    def trouble(self) -> str:
        """Why there is no Prometheus to ask, if so."""
        return self.problem if self.prometheus is None else ""

    @property
    def delay_seconds(self) -> float:
        """By how much (s) looks are late, so that samples which take a detour are there."""
        return seconds(self.spec.prometheus.delay) if self.spec else 0.0

    @property
    def object(self) -> JSON | None:
        """The ModelPolicy itself."""
        return self._store.get(MODEL_POLICIES, POLICY)

    async def refresh(self, now: datetime) -> None:
        """Reads policy and Secret if they may have changed, and says in its status whether Prometheus answers.

        Never raises: `problem` says what is wrong. Nor does it wait for the status, which is written beside.
        """
        self._now = now
        try:
            await self._read(now)
            obj, told = self.object, self._untold(now)
        except Exception as error:
            self.problem = f"ModelPolicy default: {error}"
            _LOG.exception("policy not usable")
            return
        if obj and told and now >= self._tell_after and (self._telling is None or self._telling.done()):
            self._telling = asyncio.create_task(self._tell(obj, told))

    def observe(self, record: QueryRecord) -> None:
        """Told of every query."""
        # One that was cancelled was so by this process; a person's own query may fail by itself.
        if record.outcome != "cancelled" and (record.purpose != "promql" or record.outcome in _ANSWERED):
            self._outcomes[record.outcome] = self._now, record.purpose, record.message
        self._observer(record)

    async def aclose(self) -> None:
        """Ends what is under way."""
        if self._telling is not None:
            self._telling.cancel()
        await self._use(None)

    async def _read(self, now: datetime) -> None:
        obj = self.object
        version = obj["metadata"]["resourceVersion"] if obj else ""
        again = self.prometheus is None or Unauthorized.kind in self._outcomes
        every = SECRET_AGAIN if again else SECRET_EVERY
        if version == self._read_of and self._read_at and now - self._read_at < every:
            return
        self._read_at, self._read_of = now, version
        if obj is None:
            await self._use(None)
            self.spec, self.problem = None, "no ModelPolicy named default says where Prometheus is: create one"
            return
        try:
            self.spec = ModelPolicySpec.model_validate(obj["spec"])
            wanted = connection(self.spec.prometheus, await self._secret())
        except (ApiError, ValueError, pydantic.ValidationError) as error:
            # The client of before stays: a Secret that cannot be read for a moment is no reason to be blind.
            before, self.problem = self.problem, f"ModelPolicy default: {error}"
            if self.problem != before:
                _LOG.warning("policy not usable", extra={"error": str(error)})
            return
        self.problem = ""
        if wanted != self._connection:
            await self._use(wanted)

    async def _secret(self) -> dict[str, str]:
        reference = self.spec.prometheus.secret_ref if self.spec else None
        if reference is None:
            return {}
        try:
            async with asyncio.timeout(SECRET_SECONDS_MAX):
                secret = await self._kube.get(SECRETS, reference.namespace, reference.name)
        except (ApiError, TimeoutError) as error:
            where = f"{reference.namespace}/{reference.name}"
            why = error.message if isinstance(error, ApiError) else f"no answer within {SECRET_SECONDS_MAX:g}s"
            raise ValueError(f"spec.prometheus.secretRef: Secret {where} cannot be read: {why}") from error
        try:
            return {k: base64.b64decode(v).decode() for k, v in (secret.get("data") or {}).items()}
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ValueError(f"spec.prometheus.secretRef: {error}") from error

    def _worst(self, now: datetime) -> tuple[str, str]:
        """The worst outcome that stands, and a sentence about it; ("", "") while there is none.

        The last one would do only if all queries of a look fared alike.
        """
        stands = timedelta(seconds=OUTCOME_STANDS * self.steady_seconds)
        self._outcomes = {name: seen for name, seen in self._outcomes.items() if now - seen[0] <= stands}
        known = (*_WORST_FIRST, *_ANSWERED)
        name = min(self._outcomes, key=lambda name: known.index(name) if name in known else 0, default="")
        if not name:
            return "", ""
        _, purpose, message = self._outcomes[name]
        return name, message or f"a query ({purpose}) failed: {name}"

    def _untold(self, now: datetime) -> JSON | None:
        """The status with the condition PrometheusReachable, if it is not stored like that."""
        obj, (outcome, sentence) = self.object, self._worst(now)
        if obj is None or not (self.problem or outcome):
            return None
        if self.problem:
            status, reason, message = "False", "PolicyNotUsable", self.problem
        elif outcome in _ANSWERED:
            status, reason, message = "True", "QueriesAnswered", "Prometheus answers"
        else:
            words = "".join(word.capitalize() for word in outcome.split("_"))
            status, reason, message = "False", f"Query{words}", sentence
        wanted = Condition.model_validate(
            {
                "type": "PrometheusReachable",
                "status": status,
                "reason": reason,
                "message": cut(message, MESSAGE_BYTES_MAX),
                "observedGeneration": obj["metadata"]["generation"],
                "lastTransitionTime": now,
            }
        )
        try:
            known = ModelPolicyStatus.model_validate(obj.get("status") or {})
        except pydantic.ValidationError:  # another version's
            known = ModelPolicyStatus()
        old = find(known.conditions, wanted.type)
        same = old and (old.status, old.reason, old.observed_generation) == (
            wanted.status,
            wanted.reason,
            wanted.observed_generation,
        )
        return None if same else ModelPolicyStatus(conditions=set_condition(known.conditions, wanted)).to_json()

    async def _tell(self, obj: JSON, status: JSON) -> None:
        try:
            self._store.put(MODEL_POLICIES, await self._kube.put_status(MODEL_POLICIES, obj, status))
        except Exception as error:
            self._tell_after = self._now + STATUS_AGAIN
            if isinstance(error, ApiError | NotLeaderError):
                _LOG.warning("status of the policy not written", extra={"error": str(error)})
            else:
                _LOG.exception("status of the policy not written")

    async def _use(self, wanted: Connection | None) -> None:
        made = PrometheusClient(wanted, observer=self.observe) if wanted else None
        old, self.prometheus, self._connection = self.prometheus, made, wanted
        self._outcomes.clear()  # they were the old one's
        if old is not None:
            await old.aclose()
