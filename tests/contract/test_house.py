"""The house in order: no import circle of any kind, no function that does not fit on a screen."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import msgspec
import pytest

import hpc_agent
from hpc_agent.ops.submit.write_sidecar import RemotePath

SRC = Path(hpc_agent.__file__).parent
LONGEST = 60


def test_no_import_circles():
    """Imports inside functions and for type checkers count: a circle of those is a circle for a reader."""
    graph = grimp.build_graph("hpc_agent", exclude_type_checking_imports=False, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle


def test_no_pattern_allows_a_newline_at_its_end():
    """``$`` of Python matches before a newline too: the patterns of fields and identifiers end in backslash and Z."""
    ends = re.compile(r"""(?:pattern=r?|IDENTIFIER = re\.compile\(r)"[^"\n]*\$\"""")
    assert [str(path) for path in SRC.rglob("*.py") if ends.search(path.read_text(encoding="utf-8"))] == []
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert("/scratch/x\n", RemotePath)


def test_every_function_fits_on_a_screen():
    too_long = [
        f"{path.relative_to(SRC)}:{node.lineno} {node.name}"
        for path in SRC.rglob("*.py")
        if path.name != "_generated.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno + 1 > LONGEST
    ]
    assert not too_long
