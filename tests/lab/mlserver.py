"""MLServer for the lab's pods, in an environment of its own.

Run as `python -m lab.mlserver` inside a pod's folder (image `lab/mlserver`): trains the example's model there
and becomes MLServer. `ensure_mlserver()` makes the environment beforehand, which takes a minute once.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from lab.environments import ensure_environment, run

_EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "mlserver"


def ensure_mlserver() -> Path:
    """The folder of the environment, made first if need be. Raises LabUnavailable without Python 3.11."""
    return ensure_environment("mlserver", "mlserver, mlserver_sklearn")


def main() -> None:
    """Serves the example's model in the current folder, on HOST and PORT, as MODEL_NAME and MODEL_VERSION."""
    environment = ensure_mlserver()
    settings = json.loads((_EXAMPLE / "model-settings.json").read_text())
    settings["name"] = os.environ.get("MODEL_NAME", settings["name"])
    settings["parameters"]["version"] = os.environ.get("MODEL_VERSION", settings["parameters"]["version"])
    Path("model-settings.json").write_text(json.dumps(settings))
    run([str(environment / "bin" / "python"), str(_EXAMPLE / "train.py"), "."])
    os.environ.pop("PYTHONPATH", None)  # the lab's, for this start
    os.environ.setdefault("MLSERVER_HOST", os.environ.get("HOST", "127.0.0.1"))
    os.environ.setdefault("MLSERVER_HTTP_PORT", os.environ.get("PORT", "8080"))
    os.environ.setdefault("MLSERVER_PARALLEL_WORKERS", "0")  # one process, one set of counters
    command = str(environment / "bin" / "mlserver")
    os.execv(command, [command, "start", "."])


if __name__ == "__main__":
    main()
