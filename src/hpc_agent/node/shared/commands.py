"""Run a command for a bounded time."""

import os
import signal
import subprocess
from contextlib import suppress
from subprocess import PIPE
from typing import Dict, Optional, Sequence, Tuple

from .errors import NodeError

# How long a killed command may take to let go of its pipes.
_END_SEC = 5.0


def run_command(
    argv: Sequence[str],
    timeout: float,
    env: Optional[Dict[str, str]] = None,
    cwd: Optional[str] = None,
    inherit: Sequence[int] = (),
) -> Tuple[int, str, str]:
    """Run ``argv`` and return (exit code, stdout, stderr); the command keeps the descriptors ``inherit``.

    After ``timeout`` seconds the whole process group is killed, as far as it is the user's. Raises NodeError
    ``cluster_timeout``, or ``remote_command_failed`` when the program is missing.
    """
    try:
        process = subprocess.Popen(
            argv, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=env, cwd=cwd, start_new_session=True, pass_fds=inherit
        )
    except OSError as error:
        raise NodeError("remote_command_failed", "cannot run %s: %s" % (argv[0], error.strerror)) from error
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as expired:
        _end(process)
        raise NodeError("cluster_timeout", "%s did not answer within %d s" % (argv[0], timeout)) from expired
    return process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill the command's process group. A setuid tool of another user outlives that, and is left behind without our pipes."""
    with suppress(PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_END_SEC)
        return
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
