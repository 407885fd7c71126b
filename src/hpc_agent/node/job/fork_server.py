"""Import the libraries of an element's tasks once, then fork a process for each task.

    python3 .hpc/_hpc_dispatch.py fork-server DESCRIPTOR

The dispatcher sends the variables of a task and the pipe for its output over the socket DESCRIPTOR. A fork of this
process then runs .hpc/cli.py as a new interpreter would: each fork imports the modules of the repo, and finds the
libraries outside of the repo imported.
"""

import ast
import gc
import importlib
import io
import os
import random
import runpy
import signal
import socket
import sys
import threading
import time
import warnings
from typing import Any, Dict, Iterator, List, Set, Tuple

from ..shared.processes import PASSED_ON
from .fork_messages import receive, send

# Libraries that hold threads, devices or connections once they are imported, which a fork would share.
UNSAFE = frozenset("cupy cuda dask_cuda jax jaxlib juliacall julia mpi4py pycuda pyspark ray rpy2 tensorflow".split())
# The module that .hpc/cli.py imports, frozen with the run.
KIT = "hpc_agent.experiment_kit.task"


def main(arguments: List[str]) -> int:
    """Fork a process for each task until the dispatcher closes the socket. Return 0, also in a fork whose task has ended."""
    channel = socket.socket(fileno=int(arguments[0]))
    os.set_inheritable(channel.fileno(), False)
    for number in (signal.SIGTERM, *PASSED_ON):
        signal.signal(number, signal.SIG_IGN)  # the scheduler's warnings are for the dispatcher
    task = receive(channel)
    before = dict(os.environ)
    seen = import_libraries(os.getcwd(), task.get("functions", []))
    changed = {name: value for name, value in os.environ.items() if before.get(name) != value}
    if threading.active_count() > 1 or UNSAFE & set(sys.modules):
        return 0
    freeze = getattr(gc, "freeze", None)  # Python 3.7
    if freeze is not None:
        freeze()  # the garbage collector of a fork would write to, and so copy, every page of the libraries
    while task:
        if seen & set(task["kwargs"]):
            send(channel, {"refused": True})  # a library has read a variable that is a parameter of this task
            os.close(task["descriptor"])
        elif fork_task(channel, dict(task["env"], **changed), task["descriptor"]):
            sys.argv[:] = [os.path.join(".hpc", "cli.py")]
            runpy.run_path(sys.argv[0], run_name="__main__")
            break
        task = receive(channel)
    return 0


def fork_task(channel: socket.socket, env: Dict[str, str], output: int) -> bool:
    """Return True in the fork; return False here, once the fork has ended and its end is sent to the dispatcher.

    The fork begins its task only after the dispatcher was told of the fork: a server that is killed before leaves the
    task to the dispatcher, which would else begin the task a second time.
    """
    gate, inner = socket.socketpair()
    try:
        with warnings.catch_warnings():
            # Python 3.12 and later: a library's threads (those of BLAS) that survive a fork
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
    except OSError:  # too many processes just now
        os.close(output)
        send(channel, {"refused": True})
        return False
    if pid:
        inner.close()
        os.close(output)
        with gate:
            gate.recv(1)  # the fork leads a session and heeds signals: the dispatcher may signal its group
            send(channel, {"pid": pid})
            gate.send(b"!")
        _, status, usage = os.wait4(pid, 0)
        cpu = usage.ru_utime + usage.ru_stime
        send(channel, {"status": status, "cpu_seconds": cpu, "max_rss_kib": float(usage.ru_maxrss)})
        return False
    os.setsid()
    gate.close()
    channel.close()
    _become_new_process(env, output)
    with inner:
        inner.send(b"!")
        if not inner.recv(1):
            os._exit(1)
    return True


def _become_new_process(env: Dict[str, str], output: int) -> None:
    """Set signals, descriptors, environment and random numbers as a new interpreter has them."""
    for number in (signal.SIGTERM, *PASSED_ON):
        signal.signal(number, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, target)
    os.close(nothing)
    os.close(output)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    random.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()  # else every task draws the same numbers


def import_libraries(root: str, entries: List[str]) -> Set[str]:
    """Import the libraries of these entries (``path.py:function``). Return the environment variables that were read.

    A library that cannot be imported is skipped here; the task that imports it fails with the error.
    """
    earlier = list(sys.path)
    seen: Set[str] = set()
    plain: Any = type(os.environ)

    class Watched(plain):  # type: ignore[misc]
        def __getitem__(self, key: str) -> str:
            seen.add(key)
            return str(plain.__getitem__(self, key))

    os.environ.__class__ = Watched
    for name, attribute in [(KIT, "")] + libraries(root, entries):
        try:
            module = importlib.import_module(name)
            if attribute and not hasattr(module, attribute) and hasattr(module, "__path__"):
                importlib.import_module("%s.%s" % (name, attribute))
        except (Exception, SystemExit):  # noqa: BLE001, S112 - a library may raise anything
            continue
    os.environ.__class__ = plain
    sys.path[:] = earlier
    return seen


def libraries(root: str, entries: List[str]) -> List[Tuple[str, str]]:
    """Return (module, attribute or nothing) for each library that the entries' files and the repo's modules import."""
    found: Dict[Tuple[str, str], None] = {}
    done: Set[str] = set()
    waiting = [(os.path.join(root, *e.rpartition(":")[0].split("/")), e.rpartition(":")[2]) for e in entries]
    while waiting:
        path, function = waiting.pop(0)
        if path in done:
            continue
        done.add(path)
        for name, attribute, level in _imports(path, function):
            own = _own_files(root, path, name, attribute, level)
            waiting.extend((file, "") for file in own)
            if not own and not level and name.partition(".")[0] not in UNSAFE:
                found[name, attribute] = None
    return list(found)


def _imports(path: str, function: str) -> Iterator[Tuple[str, str, int]]:
    """Yield (module, attribute, dots) for the imports at the top of a file, and for those within ``function``."""
    try:
        with io.open(path, encoding="utf-8") as handle:
            sources = [handle.read()]
        if path.endswith(".ipynb"):
            notebooks = importlib.import_module("hpc_agent.experiment_kit.notebooks")  # frozen with the run
            sources = [source for _, source in notebooks.code_cells(sources[0])]
        waiting: List[ast.AST] = [node for source in sources for node in ast.parse(source).body]
    except (OSError, SyntaxError, ValueError):
        return
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, "", 0
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.module or "", "" if alias.name == "*" else alias.name, node.level
        elif not isinstance(node, functions) or (function and (node.name == function or node.decorator_list)):
            waiting.extend(ast.iter_child_nodes(node))


def _own_files(root: str, path: str, name: str, attribute: str, level: int) -> List[str]:
    """Return the repo's files that an import loads; none for a library."""
    folder = os.path.dirname(path)
    for _ in range(level - 1):
        folder = os.path.dirname(folder)
    package_parent = folder
    while os.path.isfile(os.path.join(package_parent, "__init__.py")):
        package_parent = os.path.dirname(package_parent)
    bases = [folder] if level else [folder, root, os.path.join(root, "src"), package_parent]
    parts = [part for part in name.split(".") if part]
    for base in bases:
        place, files = base, [os.path.join(base, "__init__.py")] if level else []
        for part in parts + ([attribute] if attribute else []):
            place = os.path.join(place, part)
            files += [place + ".py", os.path.join(place, "__init__.py")]
        own = [file for file in files if os.path.isfile(file)]
        if own:
            return own
    return []
