"""Waits until the lab is gone, then kills what is left of it and removes its folder.

Run as a script, with nothing imported from the lab: it starts in milliseconds and depends on nothing.
"""

import contextlib
import os
import shutil
import signal
import sys
import time

ENVIRONMENT_KEY = b"MODELDEPLOYMENT_LAB_ID="


def processes_of(lab_id: bytes) -> list[int]:
    """The pids whose environment carries the lab's id."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as file:
                variables = file.read().split(b"\0")
        except OSError:
            continue
        if ENVIRONMENT_KEY + lab_id in variables:
            found.append(int(entry))
    return found


def main() -> None:
    """Arguments: the lab's id and its folder. Returns when both are gone."""
    lab_id, folder = os.fsencode(sys.argv[1]), sys.argv[2]
    os.read(0, 1)  # returns at the end of file: the lab closed the pipe, or died
    for _ in range(600):  # a process may have been starting another one
        left = processes_of(lab_id)
        if not left:
            break
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
