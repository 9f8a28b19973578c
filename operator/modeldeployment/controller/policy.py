"""ModelPolicy → a client for its Prometheus, made anew when the policy or its Secret changes."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

import pydantic

from modeldeployment.api.base import JSON
from modeldeployment.api.conditions import Condition, find, set_condition
from modeldeployment.api.modelpolicy import ModelPolicySpec, ModelPolicyStatus
from modeldeployment.api.quantities import seconds
from modeldeployment.controller.kube import ApiError, Kube, NotLeaderError
from modeldeployment.controller.resources import MODEL_POLICIES, SECRETS
from modeldeployment.controller.store import Store
from modeldeployment.metrics import Connection, PrometheusClient, QueryRecord, Unauthorized, connection

_LOG = logging.getLogger(__name__)
POLICY = ("", "default")
SECRET_EVERY = timedelta(minutes=1)
"""How soon a rotated Secret is read anew."""
SECRET_AGAIN = timedelta(seconds=5)
"""The same while Prometheus refuses the credentials."""


class Policy:
    """The policy of the cluster as it stands. `problem` says why there is no Prometheus to ask, if so."""

    def __init__(self, store: Store, kube: Kube, observer: Callable[[QueryRecord], None]) -> None:
        self._store, self._kube, self._observer = store, kube, observer
        self._connection: Connection | None = None
        self._outcome = ""
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
    def object(self) -> JSON | None:
        """The ModelPolicy itself."""
        return self._store.get(MODEL_POLICIES, POLICY)

    async def refresh(self, now: datetime) -> None:
        """Reads policy and Secret if they may have changed, and says in its status whether Prometheus answers.

        Never raises: `problem` says what is wrong.
        """
        await self._read(now)
        try:
            await self._report(now)
        except (ApiError, NotLeaderError, OSError, TimeoutError) as error:
            _LOG.warning("status of the policy not written", extra={"error": str(error)})

    async def _read(self, now: datetime) -> None:
        obj = self.object
        version = obj["metadata"]["resourceVersion"] if obj else ""
        every = SECRET_AGAIN if self._outcome == Unauthorized.kind else SECRET_EVERY
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
            self.problem = f"ModelPolicy default: {error}"
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
            secret = await self._kube.get(SECRETS, reference.namespace, reference.name)
        except ApiError as error:
            where = f"{reference.namespace}/{reference.name}"
            raise ValueError(f"spec.prometheus.secretRef: Secret {where} cannot be read: {error.message}") from error
        try:
            return {k: base64.b64decode(v).decode() for k, v in (secret.get("data") or {}).items()}
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ValueError(f"spec.prometheus.secretRef: {error}") from error

    def _observe(self, record: QueryRecord) -> None:
        self._outcome = record.outcome
        self._observer(record)

    async def _report(self, now: datetime) -> None:
        """The condition PrometheusReachable, when it changes."""
        obj = self.object
        if obj is None or not (self.problem or self._outcome):
            return
        if self.problem:
            status, reason, message = "False", "PolicyNotUsable", self.problem
        elif self._outcome in ("ok", "bad_query"):  # it answered
            status, reason, message = "True", "QueriesAnswered", "Prometheus answers"
        else:
            words = "".join(word.capitalize() for word in self._outcome.split("_"))
            status, reason, message = "False", f"Query{words}", f"the last query failed: {self._outcome}"
        wanted = Condition.model_validate(
            {
                "type": "PrometheusReachable",
                "status": status,
                "reason": reason,
                "message": message,
                "observedGeneration": obj["metadata"]["generation"],
                "lastTransitionTime": now,
            }
        )
        known = ModelPolicyStatus.model_validate(obj.get("status") or {})
        old = find(known.conditions, wanted.type)
        same = old and (old.status, old.reason, old.observed_generation) == (
            wanted.status,
            wanted.reason,
            wanted.observed_generation,
        )
        if not same:
            told = ModelPolicyStatus(conditions=set_condition(known.conditions, wanted))
            self._store.put(MODEL_POLICIES, await self._kube.put_status(MODEL_POLICIES, obj, told.to_json()))

    async def _use(self, wanted: Connection | None) -> None:
        old, self._connection = self.prometheus, wanted
        self.prometheus = PrometheusClient(wanted, observer=self._observe) if wanted else None
        if old is not None:
            await old.aclose()
