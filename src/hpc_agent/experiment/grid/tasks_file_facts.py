"""What tasks.py says about itself without being run: its FLAGS and its interpreter."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class StaticTasks:
    """``flags`` is empty where tasks.py has none, or computes them."""

    flags: dict[str, list[dict[str, Any]]]
    python: str

    @property
    def executors(self) -> list[str]:
        """What the parameter ``executor`` may be: short names where they are unique, as .hpc/cli.py reads them."""
        names = [key.rpartition(":")[2] if ":" in key else Path(key).stem for key in self.flags]
        return [name if names.count(name) == 1 else key for name, key in zip(names, self.flags, strict=True)]


def read_static(path: Path) -> StaticTasks:
    """Never raises for what a person may have written; a file that does not parse says nothing."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return StaticTasks({}, "python3")
    found = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id in ("FLAGS", "PYTHON")
    }
    values = {}
    for name, node in found.items():
        try:
            values[name] = ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError, RecursionError):
            continue
    flags, python = values.get("FLAGS"), values.get("PYTHON")
    usable = isinstance(flags, dict) and all(isinstance(rows, list) for rows in flags.values())
    return StaticTasks(flags if usable and flags else {}, python if isinstance(python, str) else "python3")
