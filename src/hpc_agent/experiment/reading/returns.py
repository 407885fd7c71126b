"""What a function returns, by its source: a task's function has to return a dict of numbers, not rows or text."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from hpc_agent.experiment.reading import syntax

RIGHT = "a task's function returns a dict of numbers, such as {'rmse': 0.3}; rows go into a file in $HPC_RESULT_DIR"
_ROWS = (ast.List, ast.ListComp, ast.Tuple, ast.Set, ast.SetComp, ast.GeneratorExp, ast.JoinedStr)
_MAKERS = ("list", "sorted", "tuple", "str")
_TYPES = ("list", "List", "tuple", "Tuple", "Sequence", "str", "Series", "DataFrame", "ndarray", "NDArray")
_METRICS = ("dict", "Dict", "Mapping", "float", "int")
# It gives back rows as it got them.
_TRIMS = "trim_emission"


def returns_metrics(function: syntax.Function) -> bool | None:
    """Return False when the function returns rows or text for sure, True when a dict or a number, else None."""
    annotation = function.returns
    if isinstance(annotation, ast.Subscript):
        annotation = annotation.value
    name = annotation.value if isinstance(annotation, ast.Constant) else syntax.last_name(annotation)
    if isinstance(name, str) and name:
        last = name.partition("[")[0].rpartition(".")[2]
        return False if last in _TYPES else True if last in _METRICS else None
    values = [node.value for node in _own(function) if isinstance(node, ast.Return) and node.value is not None]
    kinds = {_is_metrics(value, function) for value in values}
    return kinds.pop() if len(kinds) == 1 else None


def _own(function: syntax.Function) -> Iterator[ast.AST]:
    """Yield the nodes of the function without those of functions inside it."""
    nodes: list[ast.AST] = list(function.body)
    while nodes:
        node = nodes.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            nodes += ast.iter_child_nodes(node)


def _is_metrics(value: ast.expr, function: syntax.Function, depth: int = 3) -> bool | None:
    if isinstance(value, (ast.Dict, ast.DictComp)):
        return True
    if isinstance(value, _ROWS) or (isinstance(value, ast.Constant) and isinstance(value.value, (str, bool))):
        return False
    if isinstance(value, ast.Call):
        word = syntax.last_name(value)
        if word == _TRIMS and value.args:
            return _is_metrics(value.args[0], function, depth)
        return False if isinstance(value.func, ast.Name) and word in _MAKERS else True if word == "dict" else None
    if isinstance(value, ast.Name) and depth:
        set_to = [node for node in _own(function) if isinstance(node, (ast.Assign, ast.AnnAssign))]
        found = [
            node.value
            for node in set_to
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name) and target.id == value.id and node.value is not None
        ]
        kinds = {_is_metrics(one, function, depth - 1) for one in found}
        names = [name for node in set_to for name in ast.walk(node) if isinstance(name, ast.Name)]
        stores = [name for name in names if name.id == value.id and isinstance(name.ctx, ast.Store)]
        return kinds.pop() if len(kinds) == 1 and len(stores) == len(found) else None
    return None
