"""Foreign code runs in a child process with a session of its own, so that all of it can be ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess


def end_group(child: subprocess.Popen[bytes]) -> None:
    """Kill the child and whatever it left running in its process group, and take in its exit code."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
