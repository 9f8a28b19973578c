"""Evidence from Prometheus: dialects of serving runtimes, few queries for all models, exact differences."""

from modeldeployment.metrics.client import PrometheusClient, QueryRecord
from modeldeployment.metrics.connecting import Connection, connection
from modeldeployment.metrics.dialects import DialectData, dialect_of
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
    "DialectData",
    "EvidenceStore",
    "ModelKey",
    "PrometheusClient",
    "PrometheusError",
    "QueryRecord",
    "QueryTimeout",
    "ServerFault",
    "TooLarge",
    "Unauthorized",
    "Unreachable",
    "Watched",
    "connection",
    "dialect_of",
    "evaluation_instant",
]
