"""The ModelDeployment operator: model versions shipped by evidence, bad ones taken back."""

__version__ = "0.1.0"
