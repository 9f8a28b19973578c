"""Test equipment: a rootless Kubernetes lab on loopback. Never shipped with the operator."""

from lab.api import Api, ApiError
from lab.binaries import LabUnavailable
from lab.lab import Lab

__all__ = ["Api", "ApiError", "Lab", "LabUnavailable"]
