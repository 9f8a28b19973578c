"""Which ModelDeployment a child belongs to."""

from __future__ import annotations

from dataclasses import dataclass

from modeldeployment.api import names
from modeldeployment.api.base import JSON


@dataclass(frozen=True, slots=True)
class Owner:
    """The ModelDeployment that children belong to."""

    namespace: str
    name: str
    uid: str

    def reference(self) -> JSON:
        """The ownerReference by which the cluster's garbage collector deletes them with it."""
        return {
            "apiVersion": names.API_VERSION,
            "kind": "ModelDeployment",
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
