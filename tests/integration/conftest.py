"""Fixtures of the integration tests."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab import Lab, LabUnavailable
from lab.mlserver import ensure_mlserver
from lab.warden import processes_of
from stand import Stand

CRDS = Path(__file__).parents[2] / "crds"
KINDS = ("ModelDeployment", "ModelRevision", "ModelPolicy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that hangs is ended late: modules' fixtures are in its time, and the machine may be slow."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="session", autouse=True)
def no_process_survives() -> Iterator[None]:
    """When all tests of this process are over, nothing that a lab of theirs started is left."""
    started: list[str] = []
    start = Lab.start

    def noted(lab: Lab) -> Lab:
        started.append(lab.id)
        return start(lab)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lab, "start", noted)
        yield
    deadline = time.monotonic() + 30  # one that was killed is gone only when the kernel had a moment for it
    while (left := _left(started)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, f"processes are left of labs: {left}"


def _left(labs: list[str]) -> dict[str, list[int]]:
    return {lab_id: pids for lab_id in labs if (pids := processes_of(lab_id.encode()))}


@contextmanager
def standing(*, scrape_interval: str = "1s", operator: bool = True, **policy: Any) -> Iterator[Stand]:
    """A Stand that scrapes, looks and forgets fast, with an operator in it. Skips where the lab cannot be had."""
    options = {"steady_interval": "1s", "stale_after": "5s", **policy}
    with Stand(Lab(scrape_interval=scrape_interval), **options) as stand:
        try:
            if operator:
                stand.operator()
            yield stand
        finally:
            keep_logs(stand.lab)


def keep_logs(lab: Lab) -> None:
    """Copies what the lab's parts said to the folder that the variable LAB_LOGS names, if it does."""
    if folder := os.environ.get("LAB_LOGS"):
        for log in lab.folder.rglob("*.log"):
            shutil.copy(log, Path(folder) / f"{lab.id[:4]}-{log.name}")


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    """The module's Stand."""
    with standing() as stand:
        yield stand


@pytest.fixture(scope="session")
def mlserver() -> None:
    """Installs MLServer, which needs a Python 3.11: the only part of the lab that a machine may do without."""
    try:
        ensure_mlserver()
    except LabUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def api_lab() -> Iterator[Lab]:
    """An API server with our CRDs, and nothing else: no nodes, no gateway, no Prometheus."""
    with Lab(prometheus=False, gateway=False, nodes=0) as lab:
        try:
            lab.kubectl("apply", "-f", str(CRDS))  # client-side, as people do it
            lab.kubectl("wait", "--for=condition=Established", "--timeout=120s", "-f", str(CRDS))
            # Established is not yet discovered, nor explained: both follow in the background, within seconds.
            lab.wait_until("the kinds in discovery", lambda: _all_kinds(_discovered(lab)))
            lab.wait_until("the kinds in OpenAPI", lambda: _all_kinds(_explained(lab)))
            yield lab
        finally:
            keep_logs(lab)
            lab.api.close()


def _all_kinds(text: str) -> bool:
    return all(kind in text for kind in KINDS)


def _discovered(lab: Lab) -> str:
    """What kubectl finds; asking also renews what it has kept of discovery."""
    return lab.kubectl("api-resources", "--api-group=modeldeployment.io", check=False).stdout


def _explained(lab: Lab) -> str:
    """The kinds that the API server's OpenAPI document describes."""
    document = lab.api.find("/openapi/v3/apis/modeldeployment.io/v1alpha1") or {"components": {"schemas": {}}}
    return " ".join(f"{name}." for name in document["components"]["schemas"])
