"""Run the tasks of one element in workers that have imported their libraries once (``worker_host.py``).

Only for an element of several tasks whose executor calls a registered function. How a run isolates its tasks:

    warm   a worker runs many tasks in turn, and is replaced when one of them ends it or leaves something behind
    fork   a worker runs one task
    exec   each task is a process of its own, as ``/bin/bash -c`` starts it

A task for which there is no worker is started as a process of its own. A worker says when it begins a task: one that is
lost before has not begun it.
"""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from functools import partial
from subprocess import DEVNULL
from typing import Any, Dict, List, Optional, Set, Tuple

from ..shared.processes import signal_group
from ..shared.task_environment import NO_FORK
from .execute import Ended, Running
from .worker_messages import has_arrived, receive, send

WARM, FORK, EXEC = "warm", "fork", "exec"
# A command that is only ``python3 .hpc/cli.py``, with its interpreter as ``shlex.quote`` writes it.
PLAIN = re.compile(
    r"""((?:[\w@%+=:,./-]*/)?python[\d.]*|'(?:(?:[^']|'"'"')*/)?python[\d.]*') \.hpc/cli\.py""", re.ASCII
)
PROGRAM = ".hpc/_hpc_dispatch.py"
END_SEC = 5.0  # in which a host has to end once its sockets are closed


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
        self.env, self.work, self.functions = env, work, functions
        self.python = interpreter_of(command)
        self._slots: List[Tuple[socket.socket, socket.socket]] = []
        self._host: "Optional[subprocess.Popen[bytes]]" = None
        able = bool(self.python and functions and isolate in (WARM, FORK) and not env.get(NO_FORK))
        # A library may hold the device once it is imported: a task with a GPU runs in no fork.
        self.alone = able and bool(gpus) and isolate == WARM
        if able and not gpus:
            self._start_host(isolate, slots)

    def _start_host(self, isolate: str, slots: int) -> None:
        pairs = [(socket.socketpair(), socket.socketpair()) for _ in range(slots)]
        theirs = [[str(pair[kind][1].fileno()) for pair in pairs] for kind in (0, 1)]
        self._host = _start(
            self, self.env, ["worker-host", *map(",".join, theirs)], [int(one) for kind in theirs for one in kind]
        )
        for plain, shared in pairs:
            plain[1].close()
            shared[1].close()
            self._slots.append((plain[0], shared[0]))
        with suppress(OSError):
            send(self._slots[0][0], {"functions": self.functions, "isolate": isolate})

    def slot(self, number: int = 0, own: Optional[Dict[str, str]] = None) -> "Slot":
        """Return the workers of one slot, which has variables of its ``own``, such as its device.

        Of several slots, each is taken in a process of its own, which holds no other's sockets.
        """
        for other, channels in enumerate(self._slots):
            if other != number:
                for channel in channels:
                    channel.close()
        if self._slots:
            plain, shared = self._slots[number]
            return Slot(self.env, [_Forks(shared, True), _Forks(plain, False)])
        env = dict(self.env, **(own or {}))
        return Slot(env, [_Alone(self, env)] if self.alone else [])

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


def _start(workers: Workers, env: Dict[str, str], words: List[str], passed: List[int]) -> "subprocess.Popen[bytes]":
    """Start the run's interpreter in a session of its own; what it says while it imports goes to the element's log."""
    command = "exec %s %s %s" % (workers.python, PROGRAM, " ".join(map(shlex.quote, words)))
    return subprocess.Popen(
        ["/bin/bash", "-c", command],
        stdin=DEVNULL, stdout=2, env=env, cwd=workers.work, start_new_session=True, pass_fds=passed,
    )  # fmt: skip


class Slot(object):
    """Runs one task after the other in workers."""

    def __init__(self, env: Dict[str, str], sources: "List[_Source]") -> None:
        """``sources``: where workers come from, the best first. ``env``: the variables that their imports had."""
        self._env, self._sources = env, sources
        self.returned: Optional[str] = None  # the metrics that the latest task has returned, as JSON

    def start(self, env: Dict[str, str], executor: Any, output: int) -> Optional[Running]:
        """Start the task with this environment. Return None when it must be started by itself, and has not begun.

        ``executor`` is the task's parameter of that name, if it has one. The output goes to the pipe ``output``.
        """
        self.returned = None
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

    def _ended(self, worker: "_Worker") -> Optional[Ended]:
        ended = worker.ended()
        if ended is not None:
            self.returned = ended.metrics
        return ended

    def close(self) -> None:
        """Let the workers end."""
        for source in self._sources:
            source.close()
        self._sources = []


class _Source(object):
    """Where workers come from, and the one that waits for the next task."""

    def __init__(self, imports_modules: bool) -> None:
        """``imports_modules``: the workers have the modules of the repo, not only the libraries."""
        self._imports_modules = imports_modules
        self._facts: Dict[str, Any] = {}
        self._worker: Optional[_Worker] = None

    def is_ready(self) -> bool:
        """Wait until everything is imported. Return False where there is no worker, and will be none; say once why."""
        raise NotImplementedError

    def new_worker(self) -> "Optional[_Worker]":
        raise NotImplementedError

    def end_of(self, pid: int) -> Optional[Dict[str, Any]]:
        """Return how the worker ended: None while it runs, {} when nobody can tell."""
        raise NotImplementedError

    def watched(self) -> List[int]:
        """Return the descriptors that become readable when a worker has ended."""
        return []

    def learn(self, channel: socket.socket) -> bool:
        """Read what an import has found. Return False where there will be no worker."""
        self._facts = receive(channel)
        why = self._facts.get("why", "" if self._facts else "the host of workers has ended")
        if why:
            task = "imports the modules of the repo" if self._imports_modules else "is a process of its own"
            sys.stderr.write("hpc-agent: each task %s: %s\n" % (task, why))
        return "read" in self._facts

    def fits(self, executor: Any, changed: Dict[str, str], removed: List[str]) -> bool:
        """Return True where an import has read no variable that is this task's own."""
        if self._imports_modules and (executor or "") not in self._facts["names"]:
            return False
        read: Set[str] = set(self._facts["read"])
        return read.isdisjoint(changed) and read.isdisjoint(removed)

    def begin(self, task: Dict[str, Any], output: int) -> "Optional[_Worker]":
        """Return the worker that has begun the task. A worker that was lost since its last task is replaced once."""
        for _ in range(2):
            worker = self._worker = self._worker or self.new_worker()
            if worker is None:
                return None
            if worker.begin(task, output):
                return worker
            self._worker = None
        return None

    def retire(self) -> None:
        """Give the next task to another worker."""
        self._worker = None

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = None


class _Forks(_Source):
    """Workers that a host forks."""

    def __init__(self, channel: socket.socket, imports_modules: bool) -> None:
        super(_Forks, self).__init__(imports_modules)
        self._channel: Optional[socket.socket] = channel  # None: the host has ended

    def is_ready(self) -> bool:
        if self._channel is not None and not self._facts and not self.learn(self._channel):
            self._lose()
        return self._channel is not None or self._worker is not None

    def new_worker(self) -> "Optional[_Worker]":
        if self._channel is None:
            return None
        mine, other = socket.socketpair()
        try:
            send(self._channel, {}, other.fileno())
        except OSError:
            self._lose()
        other.close()
        pid = receive(mine).get("pid")
        if pid is None:  # the host has ended, or cannot fork just now
            mine.close()
            return None
        return _Worker(self, int(pid), mine)

    def end_of(self, pid: int) -> Optional[Dict[str, Any]]:
        while self._channel is not None and has_arrived(self._channel):
            end = receive(self._channel)
            if not end:
                self._lose()
            elif end.get("pid") == pid:
                return end
        return {} if self._channel is None else None

    def watched(self) -> List[int]:
        return [] if self._channel is None else [self._channel.fileno()]

    def _lose(self) -> None:
        if self._channel is not None:
            self._channel.close()
        self._channel = None

    def close(self) -> None:
        super(_Forks, self).close()
        self._lose()


class _Alone(_Source):
    """A worker that is no fork, and imports what its tasks need."""

    def __init__(self, workers: Workers, env: Dict[str, str]) -> None:
        super(_Alone, self).__init__(True)
        self._workers, self._env = workers, env
        self._process: "Optional[subprocess.Popen[bytes]]" = None

    def is_ready(self) -> bool:
        if self._worker is None and "why" not in self._facts:
            self._worker = self.new_worker()
        return self._worker is not None

    def new_worker(self) -> "Optional[_Worker]":
        mine, other = socket.socketpair()
        self._process = _start(self._workers, self._env, ["worker", str(other.fileno())], [other.fileno()])
        other.close()
        with suppress(OSError):
            send(mine, {"functions": self._workers.functions})
        if self.learn(mine) and receive(mine).get("pid") is not None:
            return _Worker(self, self._process.pid, mine)
        self._facts.setdefault("why", "")
        mine.close()
        self._wait()
        return None

    def end_of(self, pid: int) -> Optional[Dict[str, Any]]:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if not done:
            return None
        if self._process is not None:
            self._process.returncode = 0  # Popen must not wait for this process id any more
        self._process = None
        cpu = usage.ru_utime + usage.ru_stime
        return {"status": status, "cpu_seconds": cpu, "max_rss_kib": float(usage.ru_maxrss)}

    def close(self) -> None:
        super(_Alone, self).close()
        self._wait()

    def _wait(self) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(END_SEC)
        except subprocess.TimeoutExpired:
            signal_group(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None


class _Worker(object):
    """A worker as the dispatcher sees it."""

    def __init__(self, source: _Source, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self._source, self._channel = source, channel
        self._open = True  # False once nothing more comes over the channel
        self._begun: Dict[str, Any] = {}
        self._answer: Dict[str, Any] = {}
        self.wakes: List[int] = []

    def begin(self, task: Dict[str, Any], output: int) -> bool:
        """Hand over a task. Return True once the worker has begun it; False when it never will."""
        try:
            send(self._channel, task, output)
        except OSError:
            self.close()
            return False
        self._begun, self._answer = receive(self._channel), {}
        if not self._begun:
            self.close()
            return False
        self.wakes[:] = [self._channel.fileno(), *self._source.watched()]
        return True

    def ended(self) -> Optional[Ended]:
        """Return how the task ended; None while it runs."""
        done = self._done()
        if done is not None:
            return done
        end = self._source.end_of(self.pid)
        if end is None or (not end and self._open):  # nobody will tell how the worker ended, but it may end the task
            self.wakes[:] = ([self._channel.fileno()] if self._open else []) + self._source.watched()
            return None
        self._source.retire()
        done = self._done()  # what came between the first look and the end
        self.close()
        if done is not None:
            return done
        if not end:
            signal_group(self.pid, signal.SIGKILL)  # its end cannot be observed
            return Ended(int(signal.SIGKILL), 0.0, None)
        metrics = self._answer.get("metrics") if end["status"] == 0 else None
        cpu = max(0.0, end["cpu_seconds"] - self._begun["cpu"])
        return Ended(end["status"], cpu, end["max_rss_kib"] if self._begun["fresh"] else None, metrics)

    def _done(self) -> Optional[Ended]:
        """Return the end of a task whose worker goes on."""
        if not self._open or not has_arrived(self._channel):
            return None
        self._answer = receive(self._channel)
        if self._answer and not self._answer["last"]:
            return Ended(0, self._answer["cpu_seconds"], self._answer["max_rss_kib"], self._answer["metrics"])
        self._open = False
        return None

    def close(self) -> None:
        self._open = False
        self.wakes[:] = []
        self._channel.close()
