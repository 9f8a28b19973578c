"""Becomes another program, which the kernel kills when its parent dies: `launch.py PARENT-PID COMMAND …`.

A script of its own, because code between fork and exec (`preexec_fn`) is not safe in a process with threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):  # it died before the line above
    sys.exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
