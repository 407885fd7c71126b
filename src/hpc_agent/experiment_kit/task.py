"""The start of a task: a function ``path.py:name`` of a script, a module of a package or a notebook, or a whole notebook."""

import ast
import importlib.util
import os
import sys
import types
from typing import Any, Callable, Dict, Optional

from .notebooks import code_cells, parameters_cell
from .registered_functions import call, plain_value, write_metrics

__all__ = ["LOADED", "load_function", "plain_value", "run_function", "run_notebook", "take_metrics", "write_metrics"]
# In a process that runs many tasks: the functions that it has loaded, and what it does with the metrics of each task.
LOADED: Dict[str, Callable[..., Any]] = {}
take_metrics: Callable[[Dict[str, Any]], Any] = write_metrics


def run_function(entry: str, root: str, kwargs: Dict[str, Any]) -> int:
    """Call the function with ``kwargs`` and write metrics.json. Return the exit code 0."""
    metrics = call(LOADED.get(entry) or load_function(entry, root), kwargs)
    if metrics:
        take_metrics(metrics)
    return 0


def run_notebook(entry: str, root: str, kwargs: Dict[str, Any]) -> int:
    """Run all cells of a notebook; ``kwargs`` replace what its cell tagged ``parameters`` set. Return the exit code 0."""
    _notebook(os.path.join(root, entry), kwargs=kwargs)
    return 0


def load_function(entry: str, root: str) -> Callable[..., Any]:
    """Load ``executors/ridge.py:train``, ``src/pkg/models.py:fit`` or ``study.ipynb:train``, paths relative to ``root``.

    A script is imported, not run as ``__main__``. Of a notebook everything runs down to the cell that defines the function.
    Raises ImportError when there is no such file or function.
    """
    path, _, name = entry.rpartition(":")
    full = os.path.join(root, path)
    if not os.path.isfile(full):
        raise ImportError("there is no %s in %s" % (path, root))
    if root not in sys.path:
        sys.path.insert(0, root)
    module = _notebook(full, name) if path.endswith(".ipynb") else _module(full)
    function = (getattr(module, "_RUNS", None) or {}).get(name) or getattr(module, name, None)
    if not callable(function):
        raise ImportError("%s has no function %s" % (path, name))
    return function  # type: ignore[no-any-return]


def _module(full: str) -> Any:
    """Import a module of a package by its dotted name, so that its relative imports work; a lone script by its path."""
    folder, dotted = os.path.split(os.path.splitext(full)[0])
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        folder, package = os.path.split(folder)
        dotted = package + "." + dotted
    if folder not in sys.path:
        sys.path.insert(0, folder)
    if "." in dotted:
        return importlib.import_module(dotted)
    # A script may be called like a module of the library: it gets a name of its own.
    spec = importlib.util.spec_from_file_location("hpc_executor_" + dotted, full)
    if spec is None or spec.loader is None:
        raise ImportError("cannot import %s" % full)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _notebook(full: str, name: str = "", kwargs: Optional[Dict[str, Any]] = None) -> Any:
    """Run the cells down to the one that defines ``name``, or all; ``kwargs`` are set below the cell of parameters."""
    with open(full, encoding="utf-8") as handle:
        text = handle.read()
    cells, parameters = code_cells(text), parameters_cell(text)
    module = types.ModuleType("hpc_notebook_" + os.path.splitext(os.path.basename(full))[0])
    module.__file__ = full
    module.__dict__.update(display=print, get_ipython=lambda: None)
    sys.modules[module.__name__] = module
    sys.path.insert(0, os.path.dirname(full))
    os.environ.setdefault("MPLBACKEND", "Agg")  # a notebook draws; a task has no screen
    for number, source in cells:
        label = "%s[cell %d]" % (full, number)
        tree = ast.parse(source, label)
        exec(compile(tree, label, "exec"), module.__dict__)  # noqa: S102 - the user's own notebook
        if kwargs and number == parameters:
            module.__dict__.update(kwargs)
        if _defines(tree, name):
            break
    return module


def _defines(tree: ast.Module, name: str) -> bool:
    """Return True where a cell has the function, under its own name or that of its @register_run."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            calls = [decorator for decorator in node.decorator_list if isinstance(decorator, ast.Call)]
            values = [keyword.value for call in calls for keyword in call.keywords if keyword.arg == "name"]
            if name in [node.name] + [getattr(value, "value", None) or getattr(value, "s", None) for value in values]:
                return True
    return False
