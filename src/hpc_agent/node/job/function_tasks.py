"""The dispatcher's side of ``host.py``: one interpreter that has the libraries, copied for each task.

For an element of several tasks whose executor is a registered function. It is an economy and never a condition: where
the host cannot be had, or says no, the task is started by itself as always.
"""

import os
import re
import select
import shlex
import signal
import socket
import subprocess
from typing import Any, Dict, List, Optional

from ..shared.task_environment import NO_FORK
from .execute import Ended
from .host_messages import receive, send

CLI = ".hpc/cli.py"
INTERPRETER = re.compile(r"^(?:.*/)?python[\d.]*$")
PROGRAM = ".hpc/_hpc_dispatch.py host"


class Copies(object):
    """Starts the tasks of an element as copies for as long as that works, and then no more."""

    def __init__(self, command: str, functions: List[str], env: Dict[str, str], work: str) -> None:
        self._host: Optional[Host] = None
        python = interpreter_of(command)
        if python and functions and not env.get(NO_FORK):
            self._host = Host(python, functions, env, work)

    def start(self, env: Dict[str, str], parameters: List[str]) -> "Optional[Copy]":
        """A copy that runs the task whose ``parameters`` are these; None when it has to be started by itself."""
        copy = self._host.start(env, parameters) if self._host is not None else None
        if copy is None:
            self.close()
        return copy

    def close(self) -> None:
        if self._host is not None:
            self._host.close()
            self._host = None


def interpreter_of(command: str) -> str:
    """The interpreter, quoted, of a command that is nothing but ``python3 .hpc/cli.py``; else nothing."""
    python = command[: -len(CLI) - 1] if command.endswith(" " + CLI) else ""
    try:
        words = shlex.split(python)
    except ValueError:
        return ""
    literal = len(words) == 1 and shlex.quote(words[0]) == python
    return python if literal and INTERPRETER.match(words[0]) else ""


class Host(object):
    """``functions`` (``path.py:name``) are what the tasks may call; ``env`` is without any task's own."""

    def __init__(self, python: str, functions: List[str], env: Dict[str, str], work: str) -> None:
        self._channel, other = socket.socketpair()
        words = "exec %s %s %d" % (python, PROGRAM, other.fileno())
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", '%s "$PWD"' % words],
            stdin=subprocess.DEVNULL,
            stdout=2,
            env=env,
            cwd=work,
            start_new_session=True,
            pass_fds=[other.fileno()],
        )
        other.close()
        self._tell({"functions": functions})

    def _tell(self, message: Dict[str, Any]) -> None:
        try:
            send(self._channel, message)
        except OSError:
            pass  # it is gone: nothing will come back

    def start(self, env: Dict[str, str], parameters: List[str]) -> "Optional[Copy]":
        output, theirs = os.pipe()
        try:
            send(self._channel, {"env": env, "kwargs": parameters}, theirs)
            answer = self.receive()
        except OSError:
            answer = None
        finally:
            os.close(theirs)
        if answer and "pid" in answer:
            return Copy(self, int(answer["pid"]), output)
        os.close(output)
        return None

    def receive(self) -> Optional[Dict[str, Any]]:
        """The next message; None when the host is gone."""
        message = receive(self._channel)
        return message[0] if message else None

    @property
    def descriptor(self) -> int:
        return self._channel.fileno()

    def close(self) -> None:
        """Let it end; it does when nobody speaks to it any more."""
        self._channel.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Copy(object):
    """A task that a copy of the host runs; what ``execute`` needs of a process."""

    def __init__(self, host: Host, pid: int, output: int) -> None:
        self._host = host
        self.pid = pid
        self.output = output
        self.wakes = [host.descriptor]

    def ended(self) -> Optional[Ended]:
        """How it ended; None while it runs."""
        if not select.select(self.wakes, [], [], 0)[0]:
            return None
        told = self._host.receive()
        if told is not None:
            return Ended(int(told["status"]), float(told["cpu_seconds"]), float(told["max_rss_kib"]))
        try:  # nobody is left who could say how the task ends, so it may not go on
            os.killpg(self.pid, signal.SIGKILL)
        except OSError:
            pass
        return Ended(int(signal.SIGKILL), 0.0, 0.0)

    def close(self) -> None:
        os.close(self.output)
