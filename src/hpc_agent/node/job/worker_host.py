"""Import once what the tasks of an element need, then fork workers.

    python3 .hpc/_hpc_dispatch.py worker-host DESCRIPTORS DESCRIPTORS
    python3 .hpc/_hpc_dispatch.py worker DESCRIPTOR

The descriptors are sockets to the dispatcher, one for each task that it runs at once. Over the first ones it asks this
process for forks that have the libraries and run .hpc/cli.py whole: as a new interpreter they import the repo's modules.
Over the second ones it asks a copy of this process, which has imported these modules too, for workers.
``worker`` is a worker of its own, for tasks whose libraries must not be forked once they have a device.
"""

import gc
import os
import runpy
import select
import signal
import socket
import sys
import warnings
from contextlib import suppress
from typing import Any, Dict, List, NamedTuple, Optional, Set

from ..shared.processes import PASSED_ON
from .worker import Worker, become_new_process, set_environment
from .worker_imports import CLI, EVERYTHING, Program, import_libraries, why_no_fork
from .worker_messages import WARM, receive, send
from .worker_random import restorers
from .worker_state import flush, has_children, register_finalizers, signal_handlers, written_files


def main(arguments: List[str]) -> int:
    """Fork until the dispatcher closes the sockets. Return the exit code, also of a fork whose task has ended."""
    plain, shared = ([_channel(word) for word in words.split(",")] for words in arguments)
    for number in (signal.SIGTERM, *PASSED_ON):
        signal.signal(number, signal.SIG_IGN)  # the scheduler's warnings are for the dispatcher
    asked = receive(plain[0])
    root, functions = os.getcwd(), asked.get("functions", [])
    sys.argv[:] = [CLI]
    imports = Imports.begin()
    read = import_libraries(root, functions)
    why = why_no_fork()
    if why:
        _tell_all(plain, {"why": why})
        return 0
    register_finalizers()
    copy = os.fork()
    if copy == 0:  # the modules of the repo are imported in a copy: what they do there cannot be undone
        return _share(plain, shared, asked, read, imports)
    for channel in shared:
        channel.close()
    _freeze()
    fixed = imports.changed()
    mine = serve(plain, {"read": sorted(read)})
    if mine is None:
        with suppress(ChildProcessError):
            os.waitpid(copy, 0)
        return 0
    _become_task(mine, fixed)
    runpy.run_path(CLI, run_name="__main__")
    return 0


def _share(
    plain: List[socket.socket], shared: List[socket.socket], asked: Dict[str, Any], read: Set[str], imports: "Imports"
) -> int:
    """Import the functions' modules and fork workers."""
    for channel in plain:
        channel.close()
    program = _load(asked["functions"], shared, read, True)
    if program is None:
        return 0
    worker = Worker(program, imports.changed(), asked["isolate"] == WARM)
    mine = serve(shared, facts_of(program, worker))
    return 0 if mine is None else worker.run(mine.channel, mine.task)


def main_alone(arguments: List[str]) -> int:
    """Run tasks in this process, which imports what they need."""
    channel = _channel(arguments[0])
    asked = receive(channel)
    imports = Imports.begin()
    register_finalizers()
    program = _load(asked.get("functions", []), [channel], set(), False)
    if program is None:
        return 0
    worker = Worker(program, imports.changed(), True)
    receive(channel)
    send(channel, facts_of(program, worker))
    task = receive(channel)
    return worker.run(channel, task) if task else 0


def _load(functions: List[str], channels: List[socket.socket], read: Set[str], forks: bool) -> Optional[Program]:
    """Import the functions' modules. Return None, and tell the dispatcher, where only a task itself can do that.

    ``read``: the variables that the libraries have read.
    """
    handlers, files = signal_handlers(), written_files()
    program: Optional[Program] = None
    try:
        program = Program(os.getcwd(), functions)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a module may raise anything; a task that imports it will fail
        why = "%s: %s" % (type(error).__name__, error)
    else:
        done = {
            "reads the whole environment": EVERYTHING in program.read,
            "handles a signal": signal_handlers() != handlers,
            "opens a file for writing": written_files() != files,
            "starts a process": has_children(),
        }
        what = " and ".join(name for name, is_done in done.items() if is_done)
        why = "a module of the repo %s when it is imported" % what if what else why_no_fork() if forks else ""
    if program is None or why:
        _tell_all(channels, {"why": why})
        return None
    flush()
    _freeze()
    program.read |= read
    return program


def facts_of(program: Program, worker: Worker) -> Dict[str, Any]:
    """Return what the dispatcher has to know: the variables that imports have read, the functions by their names."""
    return {"read": sorted(program.read), "names": program.names, "why_one": worker.why_one}


class Imports(NamedTuple):
    """The environment before the imports."""

    before: Dict[str, str]

    @classmethod
    def begin(cls) -> "Imports":
        return cls(dict(os.environ))

    def changed(self) -> Set[str]:
        """Return the variables that the imports have set."""
        return {name for name, value in os.environ.items() if self.before.get(name) != value}


class Task(NamedTuple):
    """A task that a fork has been made for, and the fork's channel to the dispatcher."""

    channel: socket.socket
    task: Dict[str, Any]


def serve(channels: List[socket.socket], facts: Dict[str, Any]) -> Optional[Task]:
    """Fork for each task that a dispatcher sends, and tell it how the forks ended; tell it the ``facts`` when it asks.

    Return the task in the fork; None once all dispatchers have closed their sockets.
    """
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    forks: Dict[int, socket.socket] = {}
    waiting = list(channels)
    while waiting:
        watched: List[Any] = [woken, *waiting]
        ready, _, _ = select.select(watched, [], [])
        if woken in ready:
            os.read(woken, 512)
            _reap(forks, os.WNOHANG)
        for channel in [one for one in ready if one is not woken]:
            task = receive(channel)
            if not task:
                waiting.remove(channel)
            elif "facts" in task:
                _tell_all([channel], facts)
            elif _fork(channel, task["descriptors"], forks):
                signal.set_wakeup_fd(-1)
                for one in (woken, wake):
                    os.close(one)
                for other in channels:
                    other.close()
                return Task(socket.socket(fileno=task["descriptors"][0]), task)
    _reap(forks, 0)
    return None


def _fork(channel: socket.socket, descriptors: List[int], forks: Dict[int, socket.socket]) -> bool:
    """Return True in the fork. When there are too many processes just now, the dispatcher sees its socket closed."""
    pid = -1
    with suppress(OSError), warnings.catch_warnings():
        # Python 3.12 and later: a library's threads (those of BLAS) that survive a fork
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os.setsid()
        return True
    if pid > 0:
        forks[pid] = channel
    for descriptor in descriptors:
        os.close(descriptor)
    return False


def _reap(forks: Dict[int, socket.socket], options: int) -> None:
    """Tell the dispatchers which forks have ended, and how."""
    while forks or options:
        try:
            pid, status, usage = os.wait4(-1, options)
        except ChildProcessError:
            return
        if not pid:
            return
        channel = forks.pop(pid, None)
        if channel is not None:
            end = {"pid": pid, "status": status, "cpu_seconds": usage.ru_utime + usage.ru_stime}
            with suppress(OSError):  # the dispatcher has ended
                send(channel, dict(end, max_rss_kib=float(usage.ru_maxrss)))


def _become_task(mine: Task, fixed: Set[str]) -> None:
    """Become the process of one task, and tell the dispatcher."""
    become_new_process(mine.task["descriptors"][1])
    set_environment(mine.task, fixed)
    for restore in restorers(os.getcwd(), set()):
        restore()
    sys.argv[:] = [CLI]
    send(mine.channel, {"pid": os.getpid(), "cpu": 0.0, "fresh": True})  # from here on the task has begun
    mine.channel.close()


def _channel(word: str) -> socket.socket:
    channel = socket.socket(fileno=int(word))
    os.set_inheritable(channel.fileno(), False)
    return channel


def _tell_all(channels: List[socket.socket], message: Dict[str, Any]) -> None:
    for channel in channels:
        with suppress(OSError):
            send(channel, message)


def _freeze() -> None:
    """Keep the garbage collector of a fork from writing to, and so copying, every page of the libraries."""
    freeze = getattr(gc, "freeze", None)  # Python 3.7
    if freeze is not None:
        freeze()
