"""Run a command for a bounded time."""

import os
import signal
import subprocess
from typing import Dict, Optional, Sequence, Tuple

from .errors import NodeError


def run_command(
    argv: Sequence[str],
    timeout: float,
    stdin: Optional[str] = None,
    env: Optional[Dict[str, str]] = None,
    cwd: Optional[str] = None,
    inherit: Sequence[int] = (),
) -> Tuple[int, str, str]:
    """Run ``argv`` for at most ``timeout`` seconds; its whole process group dies with it. It keeps the descriptors ``inherit``.

    Returns (exit code, stdout, stderr). Raises NodeError ``cluster_timeout`` or ``remote_command_failed`` when the
    program is missing.
    """
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            cwd=cwd,
            start_new_session=True,
            pass_fds=list(inherit),
        )
    except OSError as error:
        raise NodeError("remote_command_failed", "cannot run %s: %s" % (argv[0], error.strerror)) from error
    try:
        out, err = process.communicate(stdin.encode("utf-8") if stdin else None, timeout=timeout)
    except subprocess.TimeoutExpired as expired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise NodeError("cluster_timeout", "%s did not answer within %d s" % (argv[0], timeout)) from expired
    return process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")
