"""A world whose looks are recorded, as the operator records them."""

from __future__ import annotations

from typing import Any

from modeldeployment.api.status import ModelDeploymentStatus
from modeldeployment.decision.decide import Decision
from modeldeployment.decision.view import View
from modeldeployment.replaying.recording import Header, Writer, header_line
from unit.decision.worlds import NAME, START, World


class RecordedWorld(World):
    """`files`: the lines of each recording, the newest last. `new_file` begins another, as a full one does."""

    def __init__(self, *args: Any, **more: Any) -> None:
        self.files: list[list[str]] = []
        self.taken: list[tuple[View, Decision]] = []
        self._writer = Writer()
        self.new_file()
        super().__init__(*args, **more)

    @property
    def lines(self) -> list[str]:
        """The newest recording."""
        return self.files[-1]

    def new_file(self) -> None:
        """What follows goes into another file, which begins with the tests as they are."""
        self.files.append([header_line(Header("default", NAME, START)) + "\n"])
        self._carried, self._writer = self._writer.before, Writer()

    def check(self, before: ModelDeploymentStatus, decision: Decision, view: View) -> None:
        """After every look."""
        carried, self._carried = self._carried, None
        memory = carried.memory if carried is not None and carried.status is view.status else None
        self.files[-1].append(self._writer.line(view, decision, memory) + "\n")
        self.taken.append((view, decision))
        super().check(before, decision, view)
