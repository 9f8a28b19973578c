"""Names that other tools see: the API group, labels, annotations, field managers."""

from typing import Final

GROUP: Final = "modeldeployment.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

LABEL_NAME: Final = f"{GROUP}/name"
"""The ModelDeployment that a child belongs to."""
LABEL_REVISION: Final = f"{GROUP}/revision"
"""The ModelRevision that a child belongs to."""
LABEL_VERSION: Final = f"{GROUP}/version"
"""The model's version, for people; `+` is written `_`."""
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "modeldeployment-operator"
MANAGED_SELECTOR: Final = f"{LABEL_MANAGED_BY}={MANAGED_BY}"

ANNOTATION_REPLICAS: Final = f"{GROUP}/wanted-replicas"
"""On a child Deployment: the replicas the operator last asked for. Another number in spec is somebody's own."""

FIELD_MANAGER: Final = "modeldeployment-operator"
FIELD_MANAGER_PERSON: Final = "kubectl-model"
"""Prefix of the managers of what a person says by `kubectl model`: one for each field, so that none takes another's."""

SERVICE_PORT: Final = 80
"""Port of each revision's Service; the router sends there."""
