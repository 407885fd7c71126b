"""Run the tasks of one element as forks of one interpreter that has imported their libraries (``fork_server.py``).

Only for an element of several tasks whose executor calls a registered function. Where the fork server cannot start, or
refuses a task, this task and the later ones are started as processes of their own.
"""

import re
import select
import signal
import socket
import subprocess
from subprocess import DEVNULL
from typing import Dict, List, Optional

from ..shared.processes import signal_group
from ..shared.task_environment import NO_FORK
from .execute import Ended, Running
from .fork_messages import receive, send

# A command that is only ``python3 .hpc/cli.py``, with its interpreter as ``shlex.quote`` writes it.
PLAIN = re.compile(
    r"""((?:[\w@%+=:,./-]*/)?python[\d.]*|'(?:(?:[^']|'"'"')*/)?python[\d.]*') \.hpc/cli\.py""", re.ASCII
)
PROGRAM = ".hpc/_hpc_dispatch.py fork-server"


def interpreter_of(command: str) -> str:
    """Return the interpreter of a plain command; an empty text for any other command."""
    plain = PLAIN.fullmatch(command)
    return plain.group(1) if plain else ""


class ForkServer(object):
    """The fork server of an element. ``functions`` (``path.py:name``) are those that its tasks may call."""

    def __init__(self, command: str, functions: List[str], env: Dict[str, str], work: str) -> None:
        self._process: Optional["subprocess.Popen[bytes]"] = None  # None: tasks are not forked, or no longer
        self._functions = functions
        python = interpreter_of(command)
        if not python or not functions or env.get(NO_FORK):
            return
        self._channel, other = socket.socketpair()
        words = ["/bin/bash", "-c", "exec %s %s %d" % (python, PROGRAM, other.fileno())]
        self._process = subprocess.Popen(
            words, stdin=DEVNULL, stdout=2, env=env, cwd=work, start_new_session=True, pass_fds=[other.fileno()]
        )
        other.close()

    def fork(self, env: Dict[str, str], parameters: List[str], output: int) -> Optional[Running]:
        """Start a task whose ``parameters`` are these. Return None when the task must be started by itself."""
        if self._process is None:
            return None
        try:
            send(self._channel, {"functions": self._functions, "env": env, "kwargs": parameters}, output)
            pid = receive(self._channel).get("pid")
        except OSError:
            pid = None
        if pid is None:
            self.close()
            return None
        return Running(pid, lambda: self._ended(pid), [self._channel.fileno()])

    def _ended(self, pid: int) -> Optional[Ended]:
        if not select.select([self._channel], [], [], 0)[0]:
            return None
        end = receive(self._channel)
        if end:
            return Ended(**end)
        signal_group(pid, signal.SIGKILL)  # without the server, the end of the task could not be observed
        return Ended(int(signal.SIGKILL), 0.0, 0.0)

    def close(self) -> None:
        """Close the channel, at which the server ends."""
        if self._process is None:
            return
        self._channel.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
