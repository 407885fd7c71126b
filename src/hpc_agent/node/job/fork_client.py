"""Run the tasks of one element as forks of one interpreter that has imported their libraries (``fork_server.py``).

Only for an element of several tasks whose executor calls a registered function. Where the fork server cannot start, or
refuses a task, this task and the later ones are started as processes of their own.
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
from .execute import Ended, Process, signal_group
from .fork_messages import receive, send

CLI = ".hpc/cli.py"
INTERPRETER = re.compile(r"^(?:.*/)?python[\d.]*$")
PROGRAM = ".hpc/_hpc_dispatch.py fork-server"


def interpreter_of(command: str) -> str:
    """Return the interpreter, quoted, of a command that is only ``python3 .hpc/cli.py``; else an empty text."""
    python = command[: -len(CLI) - 1] if command.endswith(" " + CLI) else ""
    try:
        words = shlex.split(python)
    except ValueError:
        return ""
    literal = len(words) == 1 and shlex.quote(words[0]) == python
    return python if literal and INTERPRETER.match(words[0]) else ""


class ForkServer(object):
    """The fork server of an element. ``functions`` (``path.py:name``) are those that its tasks may call."""

    def __init__(self, command: str, functions: List[str], env: Dict[str, str], work: str) -> None:
        self._process: Optional["subprocess.Popen[bytes]"] = None  # None: tasks are not forked, or no longer
        python = interpreter_of(command)
        if not python or not functions or env.get(NO_FORK):
            return
        self.channel, other = socket.socketpair()
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
        try:
            send(self.channel, {"functions": functions})
        except OSError:
            pass  # the server has ended; the first task finds that out

    def fork(self, env: Dict[str, str], parameters: List[str]) -> "Optional[ForkedTask]":
        """Start a task whose ``parameters`` are these. Return None when the task must be started by itself."""
        if self._process is None:
            return None
        output, theirs = os.pipe()
        try:
            send(self.channel, {"env": env, "kwargs": parameters}, theirs)
            answer = self.receive()
        except OSError:
            answer = None
        finally:
            os.close(theirs)
        if answer and "pid" in answer:
            return ForkedTask(self, int(answer["pid"]), output)
        os.close(output)
        self.close()
        return None

    def receive(self) -> Optional[Dict[str, Any]]:
        """Return the next message; None when the server has ended."""
        message = receive(self.channel)
        return message[0] if message else None

    def close(self) -> None:
        """Close the channel, at which the server ends."""
        if self._process is None:
            return
        self.channel.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


class ForkedTask(Process):
    """A task that runs in a fork of the server."""

    def __init__(self, server: ForkServer, pid: int, output: int) -> None:
        self._server = server
        self.pid = pid
        self.output = output
        self.wakes = [server.channel.fileno()]

    def ended(self) -> Optional[Ended]:
        if not select.select(self.wakes, [], [], 0)[0]:
            return None
        end = self._server.receive()
        if end is not None:
            return Ended(int(end["status"]), float(end["cpu_seconds"]), float(end["max_rss_kib"]))
        signal_group(self.pid, signal.SIGKILL)  # without the server, the end of the task could not be observed
        return Ended(int(signal.SIGKILL), 0.0, 0.0)

    def close(self) -> None:
        os.close(self.output)
