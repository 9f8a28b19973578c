"""MLServer for the lab's pods, in an environment of its own: it wants Python 3.11 and many packages.

Run as `python -m lab.mlserver` inside a pod's folder (image `lab/mlserver`): trains the example's model there
and becomes MLServer. `ensure_mlserver()` makes the environment beforehand, which takes a minute once.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock

from lab.binaries import say
from lab.gobuild import LabUnavailable, cache_root, short_hash

_LOCK = Path(__file__).with_name("mlserver.lock")
_EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "mlserver"


def ensure_mlserver() -> Path:
    """The folder of the environment, made first if need be. Raises LabUnavailable without Python 3.11."""
    folder = cache_root() / f"mlserver-{short_hash(_LOCK.read_bytes())}"
    done = folder / "complete"
    if done.exists():
        return folder
    with FileLock(f"{folder}.lock"):
        if done.exists():
            return folder
        python = _python_3_11()
        say("mlserver: making its environment")
        started = time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)
        # A virtual environment cannot be moved, so it is made in place and marked when it is complete.
        _run([python, "-m", "venv", str(folder)])
        _run([str(folder / "bin" / "pip"), "install", "--quiet", "--require-hashes", "-r", str(_LOCK)])
        _run([str(folder / "bin" / "python"), "-c", "import mlserver, mlserver_sklearn"])
        done.touch()
        say(f"mlserver: made in {time.monotonic() - started:.0f} s")
    return folder


def main() -> None:
    """Serves the example's model in the current folder, on HOST and PORT, as MODEL_NAME and MODEL_VERSION."""
    environment = ensure_mlserver()
    settings = json.loads((_EXAMPLE / "model-settings.json").read_text())
    settings["name"] = os.environ.get("MODEL_NAME", settings["name"])
    settings["parameters"]["version"] = os.environ.get("MODEL_VERSION", settings["parameters"]["version"])
    Path("model-settings.json").write_text(json.dumps(settings))
    _run([str(environment / "bin" / "python"), str(_EXAMPLE / "train.py"), "."])
    os.environ.pop("PYTHONPATH", None)  # the lab's, for this start
    os.environ.setdefault("MLSERVER_HOST", os.environ.get("HOST", "127.0.0.1"))
    os.environ.setdefault("MLSERVER_HTTP_PORT", os.environ.get("PORT", "8080"))
    os.environ.setdefault("MLSERVER_PARALLEL_WORKERS", "0")  # one process, one set of counters
    command = str(environment / "bin" / "mlserver")
    os.execv(command, [command, "start", "."])


def _python_3_11() -> str:
    for candidate in (sys.executable, shutil.which("python3.11")):
        if candidate is not None:
            check = [candidate, "-c", "import sys, venv; sys.exit(sys.version_info[:2] != (3, 11))"]
            if subprocess.run(check, capture_output=True, check=False).returncode == 0:
                return candidate
    raise LabUnavailable("unavailable: needs Python 3.11")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabUnavailable(f"mlserver: `{' '.join(command[:4])}` failed:\n{done.stdout}{done.stderr}"[-4000:])


if __name__ == "__main__":
    main()
