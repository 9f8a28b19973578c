"""`spec.model`: which version of which artifact. Shared by ModelDeployment and ModelRevision."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from modeldeployment.api.base import Model, extend, rule


class ModelKind(StrEnum):
    """How the model is used: it decides which objectives make sense."""

    ONLINE = "Online"
    BATCH = "Batch"
    STREAMING = "Streaming"
    LLM = "LLM"
    RAG = "RAG"


_VERSION = r"^[A-Za-z0-9]([A-Za-z0-9._+-]*[A-Za-z0-9])?$"
_URI = r"^[a-z][a-z0-9+.-]*://[^ ]+$"
_DIGEST = r"^(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$"

Version = Annotated[
    str,
    Field(
        max_length=63,
        json_schema_extra=extend(
            rule(
                f"self.matches(r'{_VERSION}')",
                "must be a version such as 1.4.0 or 2026-11-24: letters, digits and . _ + - , not empty",
            )
        ),
    ),
]


class ModelSpec(Model):
    """Which version to serve. Handed to the container `model` as MODEL_VERSION, MODEL_URI and MODEL_DIGEST."""

    version: Version = Field(description="The version to serve, e.g. 1.4.0. Changing it starts a rollout.")
    uri: str | None = Field(
        default=None,
        max_length=1024,
        description="Where the artifact is, e.g. s3://models/fraud/1.4.0. Handed to the container as MODEL_URI.",
        json_schema_extra=extend(
            rule(f"self.matches(r'{_URI}')", "must be a URI with a scheme, such as s3://models/fraud/1.4.0")
        ),
    )
    digest: str | None = Field(
        default=None,
        max_length=135,
        description="Digest of the artifact, sha256:… or sha512:…. Handed to the container as MODEL_DIGEST.",
        json_schema_extra=extend(
            rule(
                f"self.matches(r'{_DIGEST}')",
                'must be "sha256:" and 64, or "sha512:" and 128, lower-case hexadecimal digits',
            )
        ),
    )
    kind: ModelKind = Field(default=ModelKind.ONLINE, description="How the model is used.")
    framework: str | None = Field(
        default=None,
        max_length=63,
        description="What the model was made with, e.g. sklearn, xgboost, pytorch. For people and reports.",
        json_schema_extra=extend(
            rule(
                "self.matches(r'^[A-Za-z0-9][A-Za-z0-9._-]*$')",
                "must be a short name such as sklearn: letters, digits and . _ -",
            )
        ),
    )
