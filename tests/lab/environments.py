"""Python environments of model servers, which want Python 3.11 and many packages that nothing else here needs.

`runtimes/NAME.lock` pins each. It is made once on a machine, within a minute, and shared under the lock's hash.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock

from lab.binaries import say
from lab.gobuild import LabUnavailable, cache_root, short_hash

RUNTIMES = Path(__file__).with_name("runtimes")


def ensure_environment(name: str, imports: str) -> Path:
    """The folder of the environment that runtimes/NAME.lock describes, made first if need be.

    imports: modules, separated by commas, without which it is not complete.

    Raises:
        LabUnavailable: without Python 3.11, or when a package cannot be had.
    """
    lock = RUNTIMES / f"{name}.lock"
    folder = cache_root() / f"{name}-{short_hash(lock.read_bytes())}"
    done = folder / "complete"
    if done.exists():
        return folder
    with FileLock(f"{folder}.lock"):
        if done.exists():
            return folder
        python = _python_3_11()
        say(f"{name}: making its environment")
        started = time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)
        # A virtual environment cannot be moved, so it is made in place and marked when it is complete.
        run([python, "-m", "venv", str(folder)])
        # Of all those files a few are ever imported, so they are compiled when they are.
        install = ["install", "--quiet", "--no-compile", "--require-hashes", "-r", str(lock)]
        run([str(folder / "bin" / "pip"), *install])
        run([str(folder / "bin" / "python"), "-c", f"import {imports}"])
        done.touch()
        say(f"{name}: made in {time.monotonic() - started:.0f} s")
    return folder


def run(command: list[str]) -> None:
    """Runs it to its end. Raises LabUnavailable with what it said, if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabUnavailable(f"`{' '.join(command[:4])}` failed:\n{done.stdout}{done.stderr}"[-4000:])


def _python_3_11() -> str:
    for candidate in (sys.executable, shutil.which("python3.11")):
        if candidate is not None:
            check = [candidate, "-c", "import sys, venv; sys.exit(sys.version_info[:2] != (3, 11))"]
            if subprocess.run(check, capture_output=True, check=False).returncode == 0:
                return candidate
    raise LabUnavailable("unavailable: needs Python 3.11")
