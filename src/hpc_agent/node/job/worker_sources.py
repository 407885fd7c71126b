"""Where the workers of a dispatcher come from, and a worker as the dispatcher sees it."""

import os
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from subprocess import DEVNULL
from typing import Any, Dict, List, NamedTuple, Optional, Set

from ..shared.processes import signal_group
from .execute import Ended
from .worker_messages import has_arrived, receive, send

PROGRAM = ".hpc/_hpc_dispatch.py"
END_SEC = 5.0  # in which a host has to end once its sockets are closed


class Starter(NamedTuple):
    """What starts the run's interpreter."""

    python: str  # as the command of the run spells it
    work: str
    functions: List[str]

    def start(self, env: Dict[str, str], words: List[str], passed: List[int]) -> "subprocess.Popen[bytes]":
        """Start it in a session of its own; what it says while it imports goes to the element's log."""
        command = "exec %s %s %s" % (self.python, PROGRAM, " ".join(map(shlex.quote, words)))
        return subprocess.Popen(
            ["/bin/bash", "-c", command],
            stdin=DEVNULL, stdout=2, env=env, cwd=self.work, start_new_session=True, pass_fds=passed,
        )  # fmt: skip


class Source(object):
    """Where workers come from, and the one that waits for the next task."""

    def __init__(self, imports_modules: bool) -> None:
        """``imports_modules``: the workers have the modules of the repo, not only the libraries."""
        self._imports_modules = imports_modules
        self._facts: Dict[str, Any] = {}
        self._worker: Optional[Worker] = None

    def is_ready(self) -> bool:
        """Wait until everything is imported. Return False where there is no worker, and will be none; say once why."""
        raise NotImplementedError

    def new_worker(self, task: Dict[str, Any], output: int) -> "Optional[Worker]":
        """Return a new worker that has begun the task."""
        raise NotImplementedError

    def end_of(self, pid: int) -> Optional[Dict[str, Any]]:
        """Return how the worker ended: None while it runs, {} when nobody can tell."""
        raise NotImplementedError

    def watched(self) -> List[int]:
        """Return the descriptors that become readable when a worker has ended."""
        return []

    def learn(self, channel: socket.socket) -> bool:
        """Ask what the imports have found. Return False where there will be no worker."""
        with suppress(OSError):  # a host that has ended may have said why
            send(channel, {"facts": True})
        self._facts = receive(channel)
        while "pid" in self._facts:  # of a worker of a former process of this slot
            self._facts = receive(channel)
        why = self._facts.get("why", "" if self._facts else "the host of workers has ended")
        if why:
            task = "imports the modules of the repo" if self._imports_modules else "is a process of its own"
            sys.stderr.write("hpc-agent: each task %s: %s\n" % (task, why))
        if self._facts.get("why_one"):
            sys.stderr.write("hpc-agent: each task has a worker of its own: %s\n" % self._facts["why_one"])
        return "read" in self._facts

    def fits(self, executor: Any, changed: Dict[str, str], removed: List[str]) -> bool:
        """Return True where an import has read no variable that is this task's own."""
        if self._imports_modules and (executor or "") not in self._facts["names"]:
            return False
        read: Set[str] = set(self._facts["read"])
        return read.isdisjoint(changed) and read.isdisjoint(removed)

    def begin(self, task: Dict[str, Any], output: int) -> "Optional[Worker]":
        """Return the worker that has begun the task. One that was lost since its last task is replaced."""
        if self._worker is not None and not self._worker.begin(task, output):
            self._worker = None
        if self._worker is None:
            self._worker = self.new_worker(task, output)
        return self._worker

    def retire(self) -> None:
        """Give the next task to another worker."""
        self._worker = None

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = None


class Forks(Source):
    """Workers that a host forks."""

    def __init__(self, channel: socket.socket, imports_modules: bool) -> None:
        super(Forks, self).__init__(imports_modules)
        self._channel: Optional[socket.socket] = channel  # None: the host has ended

    def is_ready(self) -> bool:
        if self._channel is not None and not self._facts and not self.learn(self._channel):
            self._lose()
        return self._channel is not None or self._worker is not None

    def new_worker(self, task: Dict[str, Any], output: int) -> "Optional[Worker]":
        if self._channel is None:
            return None
        mine, other = socket.socketpair()
        try:
            send(self._channel, task, other.fileno(), output)
        except OSError:
            self._lose()
        other.close()
        worker = Worker(self, mine)
        return worker if worker.has_begun() else None  # else the host has ended, or cannot fork just now

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
        super(Forks, self).close()
        self._lose()


class Alone(Source):
    """A worker that is no fork, and imports what its tasks need."""

    def __init__(self, starter: Starter, env: Dict[str, str]) -> None:
        super(Alone, self).__init__(True)
        self._starter, self._env = starter, env
        self._process: "Optional[subprocess.Popen[bytes]]" = None
        self._idle: Optional[Worker] = None  # a worker that has had no task

    def is_ready(self) -> bool:
        if self._worker is None and self._idle is None and "why" not in self._facts:
            self._idle = self._start()
        return self._worker is not None or self._idle is not None

    def _start(self) -> "Optional[Worker]":
        mine, other = socket.socketpair()
        self._process = self._starter.start(self._env, ["worker", str(other.fileno())], [other.fileno()])
        other.close()
        with suppress(OSError):
            send(mine, {"functions": self._starter.functions})
        if self.learn(mine):
            return Worker(self, mine)
        self._facts.setdefault("why", "")
        mine.close()
        self._wait()
        return None

    def new_worker(self, task: Dict[str, Any], output: int) -> "Optional[Worker]":
        worker, self._idle = self._idle or self._start(), None
        return worker if worker is not None and worker.begin(task, output) else None

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
        super(Alone, self).close()
        if self._idle is not None:
            self._idle.close()
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


class Worker(object):
    """A worker as the dispatcher sees it."""

    def __init__(self, source: Source, channel: socket.socket) -> None:
        self._source, self._channel = source, channel
        self._open = True  # False once nothing more comes over the channel
        self._begun: Dict[str, Any] = {}
        self._answer: Dict[str, Any] = {}
        self.pid = 0  # until it has begun a task
        self.wakes: List[int] = []

    def begin(self, task: Dict[str, Any], output: int) -> bool:
        """Hand over a task. Return True once the worker has begun it; False when it never will."""
        try:
            send(self._channel, task, output)
        except OSError:
            self.close()
            return False
        return self.has_begun()

    def has_begun(self) -> bool:
        """Wait for the worker to begin the task that was sent. Return False when it never will."""
        self._begun, self._answer = receive(self._channel), {}
        if not self._begun:
            self.close()
            return False
        self.pid = int(self._begun["pid"])
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
        if not end and self._answer:
            return self._told(self._answer["code"] << 8)
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
            return self._told(0)
        self._open = False
        return None

    def _told(self, status: int) -> Ended:
        """Return the end of a task as the worker has told it."""
        answer = self._answer
        return Ended(status, answer["cpu_seconds"], answer["max_rss_kib"], answer["metrics"] if status == 0 else None)

    def close(self) -> None:
        self._open = False
        self.wakes[:] = []
        self._channel.close()
