"""Evidence from Prometheus: dialects of serving runtimes, few queries for all models, exact differences."""

from modeldeployment.metrics.auto import Found, choose, needs_of, probe
from modeldeployment.metrics.client import PrometheusClient, QueryRecord
from modeldeployment.metrics.connecting import Connection, connection
from modeldeployment.metrics.dialects import NoDialect, dialect_of, known, named
from modeldeployment.metrics.errors import (
    BadQuery,
    PrometheusError,
    QueryTimeout,
    ServerFault,
    TooLarge,
    Unauthorized,
    Unreachable,
)
from modeldeployment.metrics.store import EvidenceStore
from modeldeployment.metrics.watched import SETTLE, ModelKey, Watched, evaluation_instant

__all__ = [
    "SETTLE",
    "BadQuery",
    "Connection",
    "EvidenceStore",
    "Found",
    "ModelKey",
    "NoDialect",
    "PrometheusClient",
    "PrometheusError",
    "QueryRecord",
    "QueryTimeout",
    "ServerFault",
    "TooLarge",
    "Unauthorized",
    "Unreachable",
    "Watched",
    "choose",
    "connection",
    "dialect_of",
    "evaluation_instant",
    "known",
    "named",
    "needs_of",
    "probe",
]
