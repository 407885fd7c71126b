"""Run the tasks of one element in workers that have imported their libraries once (``worker_host.py``).

Only for an element of several tasks whose executor calls a registered function. How a run isolates its tasks:

    warm   a worker runs many tasks in turn, and is replaced when one of them ends it or leaves something behind
    fork   a worker runs one task
    exec   each task is a process of its own, as ``/bin/bash -c`` starts it

A task for which there is no worker is started as a process of its own. A worker says when it begins a task: one that is
lost before has not begun it.
"""

import re
import socket
import subprocess
from contextlib import suppress
from functools import partial
from typing import Any, Dict, List, Optional, Tuple

from ..shared.task_environment import NO_FORK
from .execute import Ended, Running
from .worker_messages import FORK, WARM, send
from .worker_sources import END_SEC, Alone, Forks, Source, Starter, Worker

# A command that is only ``python3 .hpc/cli.py``, with its interpreter as ``shlex.quote`` writes it.
PLAIN = re.compile(
    r"""((?:[\w@%+=:,./-]*/)?python[\d.]*|'(?:(?:[^']|'"'"')*/)?python[\d.]*') \.hpc/cli\.py""", re.ASCII
)


def interpreter_of(command: str) -> str:
    """Return the interpreter of a plain command; an empty text for any other command."""
    plain = PLAIN.fullmatch(command)
    return plain.group(1) if plain else ""


class Workers(object):
    """The workers of an element, for ``slots`` tasks at once.

    ``env`` has the variables that all tasks share; ``functions`` (``path.py:name``) are those that its tasks may call.
    """

    def __init__(
        self,
        command: str,
        functions: List[str],
        env: Dict[str, str],
        work: str,
        isolate: str,
        slots: int = 1,
        gpus: int = 0,
    ) -> None:
        self._env, self._starter = env, Starter(interpreter_of(command), work, functions)
        self._slots: List[Tuple[socket.socket, socket.socket]] = []
        self._host: "Optional[subprocess.Popen[bytes]]" = None
        able = bool(self._starter.python and functions and isolate in (WARM, FORK) and not env.get(NO_FORK))
        # A library may hold the device once it is imported: a task with a GPU runs in no fork.
        self._alone = able and bool(gpus) and isolate == WARM
        if able and not gpus:
            self._start_host(isolate, slots)

    def _start_host(self, isolate: str, slots: int) -> None:
        pairs = [(socket.socketpair(), socket.socketpair()) for _ in range(slots)]
        theirs = [[str(pair[kind][1].fileno()) for pair in pairs] for kind in (0, 1)]
        passed = [int(one) for kind in theirs for one in kind]
        self._host = self._starter.start(self._env, ["worker-host", *map(",".join, theirs)], passed)
        for plain, shared in pairs:
            plain[1].close()
            shared[1].close()
            self._slots.append((plain[0], shared[0]))
        with suppress(OSError):
            send(self._slots[0][0], {"functions": self._starter.functions, "isolate": isolate})

    def slot(self, number: int = 0) -> "Slot":
        """Return the workers of one slot. Of several slots, each is taken in a process of its own."""
        if self._alone:
            return Slot(self._env, [Alone(self._starter, self._env)])
        if not self._slots:
            return Slot(self._env, [])
        for other, channels in enumerate(self._slots):
            if other != number:
                for channel in channels:
                    channel.close()
        plain, shared = self._slots[number]
        return Slot(self._env, [Forks(shared, True), Forks(plain, False)])

    def close(self) -> None:
        """End the host. The slots have been closed, or belong to processes of their own."""
        for channels in self._slots:
            for channel in channels:
                channel.close()
        if self._host is None:
            return
        try:
            self._host.wait(END_SEC)
        except subprocess.TimeoutExpired:
            self._host.kill()
            self._host.wait()
        self._host = None


class Slot(object):
    """Runs one task after the other in workers."""

    def __init__(self, env: Dict[str, str], sources: "List[Source]") -> None:
        """``sources``: where workers come from, the best first. ``env``: the variables that their imports had."""
        self._env, self._sources = env, sources
        self.returned: Optional[str] = None  # the metrics that the latest task has returned, as JSON

    def start(self, env: Dict[str, str], executor: Any, output: int) -> Optional[Running]:
        """Start the task with this environment. Return None when it must be started by itself, and has not begun.

        ``executor`` is the task's parameter of that name, if it has one. The output goes to the pipe ``output``.
        """
        changed = {name: value for name, value in env.items() if self._env.get(name) != value}
        removed = [name for name in self._env if name not in env]
        task = {"env": changed, "removed": removed}
        for source in list(self._sources):
            if not source.is_ready():
                source.close()
                self._sources.remove(source)
            elif source.fits(executor, changed, removed):
                worker = source.begin(task, output)
                if worker is not None:
                    return Running(worker.pid, partial(self._ended, worker), worker.wakes)
        return None

    def _ended(self, worker: "Worker") -> Optional[Ended]:
        ended = worker.ended()
        if ended is not None:
            self.returned = ended.metrics
        return ended

    def close(self) -> None:
        """Let the workers end."""
        for source in self._sources:
            source.close()
        self._sources = []
