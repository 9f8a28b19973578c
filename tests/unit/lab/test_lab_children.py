"""The lab's children: which of them are told of as having ended by themselves."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab
from lab.controlplane import ControlPlane
from lab.process import Child

FOREVER = ["sleep", "1000"]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab with a folder, in which nothing was started."""
    lab = Lab()
    lab.folder = tmp_path
    yield lab
    for child in lab._children.values():
        child.kill()


def test_who_ends_by_itself_is_named_with_its_code_and_last_words(lab: Lab) -> None:
    """And nobody else: who runs, and who came to a good end, is no failure."""
    lab.process("lives", FOREVER).start()
    lab.process("done", ["true"]).start().wait(60)
    lab.process("agent", ["sh", "-c", "echo the zygote died; exit 3"]).start().wait(60)
    assert lab.failures() == "--- agent ended with 3:\nthe zygote died"


@pytest.mark.parametrize("end", [Child.kill, Child.stop, lambda child: child.signal(signal.SIGKILL)])
def test_who_was_ended_on_purpose_is_no_failure(lab: Lab, end: object) -> None:
    """A test that kills a part says nothing of the lab."""
    child = lab.process("agent", FOREVER).start()
    assert callable(end)
    end(child)
    assert child.wait(60) != 0
    assert lab.failures() == ""


def test_who_was_only_paused_can_fail(lab: Lab) -> None:
    """It went on, so what it died of later is its own."""
    child = lab.process("agent", ["sh", "-c", "read line < go; exit 3"], cwd=lab.folder)
    os.mkfifo(lab.folder / "go")
    child.start().signal(signal.SIGSTOP)
    child.signal(signal.SIGCONT)
    (lab.folder / "go").write_text("on\n")
    child.wait(60)
    assert "agent ended with 3" in lab.failures()


def test_killing_who_is_dead_does_not_hide_that_it_died(lab: Lab) -> None:
    """As the lab's own end does with all of them."""
    child = lab.process("agent", ["sh", "-c", "exit 3"]).start()
    child.wait(60)
    child.kill()
    assert "agent ended with 3" in lab.failures()


def test_who_was_killed_and_started_again_can_fail(lab: Lab) -> None:
    """What was done to an earlier process excuses no later one."""
    child = lab.process("agent", FOREVER).start()
    child.kill()
    child.command = ["sh", "-c", "exit 3"]
    child.start().wait(60)
    assert "agent ended with 3" in lab.failures()


def test_the_control_plane_is_among_the_children(lab: Lab) -> None:
    """Without it nothing else works, and nothing else would say why."""
    lab.control_plane = ControlPlane(lab.folder, "127.0.0.1", lab.child_env())
    lab.control_plane.etcd.command = ["sh", "-c", "exit 2"]
    lab.control_plane.etcd.start().wait(60)
    assert "etcd ended with 2" in lab.failures()


def test_a_wait_in_vain_tells_who_died(lab: Lab) -> None:
    """Also of a process that the wait did not depend on."""
    lab.process("operator", ["sh", "-c", "echo the Lease is lost; exit 1"]).start().wait(60)
    with pytest.raises(TimeoutError) as vain:
        lab.wait_until("the pod", lambda: False, 0)
    assert vain.value.__notes__ == ["--- operator ended with 1:\nthe Lease is lost"]
