"""Run a command for a bounded time."""

import os
import signal
import subprocess
from subprocess import PIPE
from typing import Dict, Optional, Sequence, Tuple

from .errors import NodeError


def run_command(
    argv: Sequence[str],
    timeout: float,
    env: Optional[Dict[str, str]] = None,
    cwd: Optional[str] = None,
    inherit: Sequence[int] = (),
) -> Tuple[int, str, str]:
    """Run ``argv`` and return (exit code, stdout, stderr); the command keeps the descriptors ``inherit``.

    After ``timeout`` seconds the whole process group is killed. Raises NodeError ``cluster_timeout``, or
    ``remote_command_failed`` when the program is missing.
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
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise NodeError("cluster_timeout", "%s did not answer within %d s" % (argv[0], timeout)) from expired
    return process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")
