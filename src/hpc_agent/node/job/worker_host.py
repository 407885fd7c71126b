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
from .worker_messages import receive, send
from .worker_random import restorers
from .worker_state import flush, register_finalizers

WARM = "warm"


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
    _tell_all(plain, {"read": sorted(read)})
    fixed = imports.changed()
    mine = serve(plain)
    if mine is None:
        with suppress(ChildProcessError):
            os.waitpid(copy, 0)
    elif _take_task(mine, fixed):
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
    fixed, random_numbers = imports.changed(), restorers(program.root, program.seeded)
    mine = serve(shared)
    return 0 if mine is None else Worker(program, mine, fixed, random_numbers, asked["isolate"] == WARM).run()


def main_alone(arguments: List[str]) -> int:
    """Run tasks in this process, which imports what they need."""
    channel = _channel(arguments[0])
    asked = receive(channel)
    imports = Imports.begin()
    register_finalizers()
    program = _load(asked.get("functions", []), [channel], set(), False)
    if program is None:
        return 0
    random_numbers = restorers(program.root, program.seeded)
    return Worker(program, channel, imports.changed(), random_numbers, True).run()


def _load(functions: List[str], channels: List[socket.socket], read: Set[str], forks: bool) -> Optional[Program]:
    """Import the functions' modules, and tell the dispatcher. Return None where only a task itself can do that.

    ``read``: the variables that the libraries have read.
    """
    program: Optional[Program] = None
    try:
        program = Program(os.getcwd(), functions)
        why = why_no_fork() if forks else ""
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a module may raise anything; a task that imports it will fail
        why = "%s: %s" % (type(error).__name__, error)
    if program is None or why or EVERYTHING in program.read:
        _tell_all(channels, {"why": why or "a module of the repo reads the whole environment when it is imported"})
        return None
    flush()
    _freeze()
    _tell_all(channels, {"read": sorted(read | program.read), "names": program.names})
    return program


class Imports(NamedTuple):
    """The environment before the imports."""

    before: Dict[str, str]

    @classmethod
    def begin(cls) -> "Imports":
        return cls(dict(os.environ))

    def changed(self) -> Set[str]:
        """Return the variables that the imports have set."""
        return {name for name, value in os.environ.items() if self.before.get(name) != value}


def serve(channels: List[socket.socket]) -> Optional[socket.socket]:
    """Fork whenever a dispatcher asks for it, and tell it how the forks ended.

    Return the socket that came with the request in the fork; None once all dispatchers have closed their sockets.
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
            descriptor = receive(channel).get("descriptor")
            if descriptor is None:
                waiting.remove(channel)
            elif _fork(channel, descriptor, forks):
                signal.set_wakeup_fd(-1)
                for one in (woken, wake):
                    os.close(one)
                for other in channels:
                    other.close()
                return socket.socket(fileno=descriptor)
    _reap(forks, 0)
    return None


def _fork(channel: socket.socket, descriptor: int, forks: Dict[int, socket.socket]) -> bool:
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


def _take_task(channel: socket.socket, fixed: Set[str]) -> bool:
    """Become the process of one task. Return False where the dispatcher has none."""
    send(channel, {"pid": os.getpid()})
    task = receive(channel)
    if not task:
        return False
    become_new_process(task["descriptor"])
    set_environment(task, fixed)
    for restore in restorers(os.getcwd(), set()):
        restore()
    sys.argv[:] = [CLI]
    send(channel, {"cpu": 0.0, "fresh": True})  # from here on the task has begun
    channel.close()
    return True


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
