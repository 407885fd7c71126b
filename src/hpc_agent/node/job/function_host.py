"""Tasks of one element as copies of one interpreter: the libraries that they need are imported once, not once a task.

    python3 .hpc/_hpc_dispatch.py host DESCRIPTOR REPO

The dispatcher sends a task's variables and the pipe for its output over the socket DESCRIPTOR; a copy of this process
then runs .hpc/cli.py as if it had been started afresh: the repo's own modules are imported by each copy, only what lies
outside of the repo is there already. Linux; Python 3.6 and the standard library.
"""

import ast
import contextlib
import gc
import importlib
import importlib.util
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

from .host_messages import receive, send

# They hold threads, devices or connections from the moment they are imported, which a copy of the process would share.
UNSAFE = frozenset("cupy cuda dask_cuda jax jaxlib juliacall julia mpi4py pycuda pyspark ray rpy2 tensorflow".split())
# What .hpc/cli.py itself imports, frozen with the run.
KIT = "hpc_agent.experiment_kit.task"


def main(arguments: List[str]) -> int:
    """Serve until the dispatcher hangs up; returns only in a copy, when its task is over."""
    channel = socket.socket(fileno=int(arguments[0]))
    root = arguments[1]
    os.set_inheritable(channel.fileno(), False)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # the scheduler's warnings are for the dispatcher
    hello = receive(channel)
    if hello is None:
        return 0
    before = dict(os.environ)
    seen = import_libraries(root, list(hello[0]["functions"]))
    changed = {name: value for name, value in os.environ.items() if before.get(name) != value}
    if threading.active_count() > 1 or UNSAFE & set(sys.modules):
        return 0
    freeze = getattr(gc, "freeze", None)  # Python 3.7
    if freeze is not None:
        freeze()  # the collector of a copy would touch, and so copy, every page of the libraries
    while True:
        request = receive(channel)
        if request is None:
            return 0
        task, output = request
        if seen & set(task["kwargs"]):
            send(channel, {"alone": True})  # a library went by a variable that is a parameter of this task
            os.close(output)
        elif run_copy(channel, dict(task["env"], **changed), output):
            become_task()
            return 0


def run_copy(channel: socket.socket, env: Dict[str, str], output: int) -> bool:
    """True in the copy; False here, once the copy has ended and the dispatcher was told how."""
    ready, begun = os.pipe()
    try:
        with warnings.catch_warnings():
            # Python 3.12 and later: a library's threads (those of BLAS) that survive a fork
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
    except OSError:  # too many processes just now
        for descriptor in (ready, begun, output):
            os.close(descriptor)
        send(channel, {"alone": True})
        return False
    if pid:
        os.close(begun)
        os.close(output)
        os.read(ready, 1)  # until it leads a group of its own, which the dispatcher may then signal
        os.close(ready)
        send(channel, {"pid": pid})
        _, status, usage = os.wait4(pid, 0)
        cpu = usage.ru_utime + usage.ru_stime
        send(channel, {"status": status, "cpu_seconds": cpu, "max_rss_kib": usage.ru_maxrss})
        return False
    os.setsid()
    for descriptor in (ready, begun):
        os.close(descriptor)
    channel.close()
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
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
    return True


def become_task() -> None:
    """Run .hpc/cli.py as the interpreter would; this process ends as that does."""
    program = os.path.join(".hpc", "cli.py")
    sys.argv[:] = [program]
    runpy.run_path(program, run_name="__main__")


# -- what is imported before --------------------------------------------------------------------------------------


@contextlib.contextmanager
def variables_read() -> Iterator[Set[str]]:
    """The names of the environment variables that are looked at meanwhile."""
    names: Set[str] = set()
    plain: Any = type(os.environ)

    class Watched(plain):  # type: ignore[misc]
        def __getitem__(self, key: str) -> str:
            names.add(key)
            return str(plain.__getitem__(self, key))

    os.environ.__class__ = Watched
    try:
        yield names
    finally:
        os.environ.__class__ = plain


def import_libraries(root: str, entries: List[str]) -> Set[str]:
    """Import what these entries (``path.py:function``) need from outside of the repo; the variables that were looked at.

    What cannot be imported is left to the task, which says so better.
    """
    earlier = list(sys.path)
    with variables_read() as seen:
        for name, attribute in [(KIT, "")] + libraries(root, entries):
            try:
                module = importlib.import_module(name)
                if attribute and not hasattr(module, attribute) and hasattr(module, "__path__"):
                    importlib.import_module("%s.%s" % (name, attribute))
            except (Exception, SystemExit):  # noqa: BLE001, S112 - a library may raise anything
                continue
    sys.path[:] = earlier
    return seen


def libraries(root: str, entries: List[str]) -> List[Tuple[str, str]]:
    """(module, attribute or nothing) for every import of the entries' files, and of the repo's modules that they import."""
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
    """(module, attribute, dots) for the imports at the top of a file, and for those within ``function``."""
    for node in _statements(path, function):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, "", 0
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.module or "", "" if alias.name == "*" else alias.name, node.level


def _statements(path: str, function: str) -> Iterator[ast.AST]:
    try:
        with io.open(path, encoding="utf-8") as handle:
            text = handle.read()
        sources = _cells(text) if path.endswith(".ipynb") else [text]
        waiting = [node for source in sources for node in ast.parse(source).body]  # type: List[ast.AST]
    except (OSError, SyntaxError, ValueError):
        return
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, functions) or (function and (node.name == function or node.decorator_list)):
            waiting.extend(ast.iter_child_nodes(node))


def _cells(text: str) -> List[str]:
    notebooks = importlib.import_module(
        "hpc_agent.experiment_kit.notebooks"
    )  # the frozen copy of it, beside the runtime
    return [source for _, source in notebooks.code_cells(text)]


def _own_files(root: str, path: str, name: str, attribute: str, level: int) -> List[str]:
    """The repo's files behind an import; none when it names a library."""
    folder = os.path.dirname(path)
    for _ in range(level - 1):
        folder = os.path.dirname(folder)
    bases = [folder] if level else [folder, root, os.path.join(root, "src"), *_package_parents(folder)]
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


def _package_parents(folder: str) -> List[str]:
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        folder = os.path.dirname(folder)
    return [folder]
