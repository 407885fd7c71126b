"""The house in order: no import circle of any kind, no function that does not fit on a screen."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

import hpc_agent

SRC = Path(hpc_agent.__file__).parent
LONGEST = 60


def test_no_import_circles():
    """Imports inside functions and for type checkers count: a circle of those is a circle for a reader."""
    graph = grimp.build_graph("hpc_agent", exclude_type_checking_imports=False, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle


def test_every_function_fits_on_a_screen():
    too_long = [
        f"{path.relative_to(SRC)}:{node.lineno} {node.name}"
        for path in SRC.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno + 1 > LONGEST
    ]
    assert not too_long
