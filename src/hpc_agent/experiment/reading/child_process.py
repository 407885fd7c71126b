"""The end of a child process that runs the user's code in a session of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess


def end_group(child: subprocess.Popen[bytes]) -> None:
    """Kill the child and every process of its group, and collect its exit code."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
