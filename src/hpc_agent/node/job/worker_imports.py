"""What the host of an element's workers imports once: the libraries of its functions, then the functions' own modules.

While it imports, the environment is watched: a variable that was read may be another one in each task.
"""

import ast
import hashlib
import importlib
import io
import os
import re
import sys
import threading
import types
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Set, Tuple

from .unread_module import loader_for, mark_unread

# Libraries that hold threads, devices or connections once they are imported, which a fork would share.
UNSAFE = frozenset("cupy cuda dask_cuda jax jaxlib juliacall julia mpi4py pycuda pyspark ray rpy2 tensorflow".split())
# The module that .hpc/cli.py imports, frozen with the run.
KIT = "hpc_agent.experiment_kit.task"
CLI = os.path.join(".hpc", "cli.py")
# The text of .hpc/cli.py as hpc-agent writes it. What any other text does with a task is not known here.
SCAFFOLD = "86337ec667791e02e402c4eb15277d99f8d001e9b9ede12da61ada043bad56e2"
SIGNATURE = re.compile(r"^# Written by hpc-agent \([0-9a-f]{12}\)[^\n]*\n", re.MULTILINE)
# The name of the whole environment among the variables that were read.
EVERYTHING = "*"


@contextmanager
def watched_environment() -> Iterator[Set[str]]:
    """Collect the names of the variables that are read; ``EVERYTHING`` where somebody went through all of them."""
    seen: Set[str] = set()
    plain: Any = type(os.environ)

    class Watched(plain):  # type: ignore[misc]
        def __getitem__(self, key: str) -> str:
            seen.add(key)
            return str(plain.__getitem__(self, key))

        def __iter__(self) -> Iterator[str]:
            seen.add(EVERYTHING)
            return iter(plain.__iter__(self))

    environ = os.environ
    environ.__class__ = Watched
    try:
        yield seen
    finally:
        environ.__class__ = plain


def import_libraries(root: str, entries: List[str]) -> Set[str]:
    """Import the libraries of these entries (``path.py:function``). Return the environment variables that were read.

    A library that cannot be imported is skipped here; the task that imports it fails with the error.
    """
    earlier = list(sys.path)
    here = os.path.join(root, ".hpc")
    sys.path[0:1] = [root, here, os.path.join(here, "_hpc_kit")]  # as .hpc/cli.py does
    with watched_environment() as seen:
        for name, attribute in [(KIT, "")] + libraries(root, entries):
            try:
                module = importlib.import_module(name)
                if attribute and not hasattr(module, attribute) and hasattr(module, "__path__"):
                    importlib.import_module("%s.%s" % (name, attribute))
            except (Exception, SystemExit):  # noqa: BLE001, S112 - a library may raise anything
                continue
    sys.path[:] = earlier
    return seen - {EVERYTHING}  # many libraries go through all variables for those with a prefix of their own


def why_no_fork() -> str:
    """Return why this process must not be forked, for the element's log; an empty text where it may be."""
    unsafe = sorted(UNSAFE & set(sys.modules))
    if unsafe:
        return "%s must not be forked" % ", ".join(unsafe)
    if threading.active_count() > 1:
        names = ", ".join(sorted(thread.name for thread in threading.enumerate()[1:]))
        return "an imported library has started a thread (%s)" % names
    return ""


def is_scaffold(text: str) -> bool:
    """Return True for a .hpc/cli.py that nobody has edited, with or without the line that says so."""
    return hashlib.sha256(SIGNATURE.sub("", text, count=1).encode("utf-8")).hexdigest() == SCAFFOLD


class Program(object):
    """The program .hpc/cli.py of this process, with the functions that it calls loaded."""

    def __init__(self, root: str, functions: List[str]) -> None:
        """Load the functions that share the first one's folder of imports. Raises what their modules raise."""
        self.root = root
        path = os.path.abspath(CLI) if sys.version_info >= (3, 9) else CLI  # as the interpreter names its program
        with io.open(path, encoding="utf-8") as handle:
            text = handle.read()
        if not is_scaffold(text):
            raise ImportError("%s was changed" % CLI)
        main = types.ModuleType("__main__")
        main.__dict__.update(__file__=path, __name__="__mp_main__")
        exec(compile(text, path, "exec"), main.__dict__)  # noqa: S102 - the text that hpc-agent wrote
        main.__name__ = "__main__"
        self.namespace: Dict[str, Any] = main.__dict__
        # The last statement alone, with its place in the file, so that a traceback is that of the whole program.
        tree = ast.parse(text)
        tree.body = getattr(tree.body[-1], "body")  # noqa: B009 - of: if __name__ == "__main__"
        self.code = compile(tree, path, "exec")
        sys.modules["__main__"] = main
        sys.argv[:] = [CLI]
        self.entries: Dict[str, Any] = {}
        with watched_environment() as self.read, _noted_seeds() as self.seeded:
            before = set(own_modules(root))
            tasks = self.namespace["load_tasks"]()
            if sys.modules.get(tasks.__name__, tasks) is not tasks:
                raise ImportError("tasks.py puts something else in its own place")
            flags = tasks.FLAGS
            self.namespace["load_tasks"] = loader_for(self.namespace, tasks)
            if set(own_modules(root)) - before <= {tasks.__name__}:  # others may hold, and change, something of it
                mark_unread(tasks)
            self._load(functions)
        self.names = _names(self.namespace["choose"], flags, self.entries)

    def _load(self, functions: List[str]) -> None:
        kit = importlib.import_module(KIT)
        folder = import_folder(self.root, functions[0])
        for entry in functions:
            if import_folder(self.root, entry) == folder:
                self.entries[entry] = kit.load_function(entry, self.root)
        kit.LOADED.update(self.entries)
        for entry in self.entries:
            self._load_later_imports(entry)

    def _load_later_imports(self, entry: str) -> None:
        """Import what the function itself will import of the repo."""
        path, _, function = entry.rpartition(":")
        full = os.path.join(self.root, *path.split("/"))
        package = getattr(sys.modules.get(self.entries[entry].__module__), "__package__", None)
        for name, attribute, level in sorted(set(_imports(full, function)) - set(_imports(full, ""))):
            if _own_files(self.root, full, name, attribute, level) and (package or not level):
                try:
                    module = importlib.import_module("." * level + name, package)
                    if attribute and not hasattr(module, attribute):
                        importlib.import_module("%s.%s" % (module.__name__, attribute))
                except (Exception, SystemExit):  # noqa: BLE001, S112 - the task will raise it again
                    continue


def _names(choose: Any, flags: Dict[str, Any], entries: Dict[str, Any]) -> Dict[str, str]:
    """Return the entry for each value of the parameter ``executor``; the empty text is for no such parameter."""
    names: Dict[str, str] = {}
    words = {part for key in flags for part in (key, key.rpartition(":")[2], key.partition(":")[0])}
    words |= {os.path.splitext(os.path.basename(word.replace("/__main__.py", "")))[0] for word in words}
    for word in words | {""}:
        try:
            entry = choose(flags, word or None)
        except SystemExit:
            continue
        if entry in entries:
            names[word] = entry
    return names


def import_folder(root: str, entry: str) -> str:
    """Return the folder from which a function's module imports others of the repo."""
    folder = os.path.dirname(os.path.join(root, *entry.rpartition(":")[0].split("/")))
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        folder = os.path.dirname(folder)
    return folder


@contextmanager
def _noted_seeds() -> Iterator[Set[str]]:
    """Note which generators of random numbers are seeded: their numbers are to be the same in every task."""
    seeded: Set[str] = set()
    places: List[Tuple[Any, str, Any]] = []
    for name in ("random", "numpy.random"):
        module: Any = sys.modules.get(name)
        for attribute in ("seed", "setstate", "set_state"):
            original = getattr(module, attribute, None)
            if original is not None:
                places.append((module, attribute, original))
                setattr(module, attribute, _noting(original, name, seeded))
    try:
        yield seeded
    finally:
        for module, attribute, original in places:
            setattr(module, attribute, original)


def _noting(original: Any, name: str, seeded: Set[str]) -> Any:
    def seed(*values: Any, **named: Any) -> Any:
        if any(value is not None for value in values + tuple(named.values())):
            seeded.add(name)
        return original(*values, **named)

    return seed


def own_modules(root: str) -> Dict[str, types.ModuleType]:
    """Return the imported modules whose files lie in the repo."""
    inside, runtime = root + os.sep, os.path.join(root, ".hpc", "_hpc_")
    found = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.startswith(inside) and not file.startswith(runtime):
            found[name] = module
    return found


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
