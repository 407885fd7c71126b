"""What experiments may import of hpc-agent: the modules that travel with a run. Read off the source, nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from hpc_agent.experiment.reading.modules import Files
from hpc_agent.infra.remote import kit_files

PACKAGE = "hpc_agent"
# The modules that are meant for experiments; those of node/shared travel with them, and are no surface.
ALLOWED = ("hpc_agent.experiment_kit", "hpc_agent.models.mapreduce.metrics_io")
NAMES = ("main", "read_kw_env", "register_run", "write_metrics")  # of ``hpc_agent`` itself


@cache
def carried() -> frozenset[str]:
    """Return every module that is on the path of a task, by its full name."""
    names = (path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in kit_files())
    return frozenset(names)


def not_carried(path: Path) -> dict[str, int]:
    """Return the modules of hpc-agent that a file imports and a task does not have, each with the line.

    An import within ``try`` or ``if`` is a choice of the file, and is left to it.
    """
    parsed = Files().read(path)
    if parsed is None:
        return {}
    found: dict[str, int] = {}
    for node in _unconditional(parsed.tree):
        for name in _imported(node):
            if name.split(".")[0] == PACKAGE and not _is_there(name):
                found.setdefault(name, node.lineno)
    return found


def _is_there(name: str) -> bool:
    """Return whether a task has the module, or the module that the name is taken from."""
    outer, _, last = name.rpartition(".")
    if outer == PACKAGE:
        return name in carried() or last in (*NAMES, "*")
    return name in carried() or outer in carried()


def _unconditional(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif not isinstance(node, ast.If | ast.Try):
            yield from _unconditional(node)


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [f"{node.module}.{alias.name}" for alias in node.names] if node.module and not node.level else []
