"""Readers of tasks.py: its FLAGS and its interpreter from its source, and the module itself for library use."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.reading.syntax import Scope, dotted
from hpc_agent.node.shared.task_environment import load_tasks
from hpc_agent.state.repo_files import RepoLayout

DEFAULT_PYTHON = "python3"


@dataclass(frozen=True)
class TasksFileFacts:
    """``flags`` is empty for a tasks.py without FLAGS, or with FLAGS that are not constant; ``python`` is None without PYTHON."""

    flags: dict[str, list[dict[str, Any]]]
    python: str | None

    @property
    def executors(self) -> list[str]:
        """Values of the parameter ``executor``: short names where they are unique, as .hpc/cli.py reads them."""
        files = [Path(key.removesuffix("/__main__.py")).stem for key in self.flags]
        names = [key.rpartition(":")[2] if ":" in key else file for key, file in zip(self.flags, files, strict=True)]
        return [name if names.count(name) == 1 else key for name, key in zip(names, self.flags, strict=True)]


def read_tasks_file(path: Path) -> TasksFileFacts:
    """Return the facts that the source of tasks.py shows; none for a file that does not parse."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return TasksFileFacts({}, None)
    constants = ("FLAGS", "PYTHON")
    tree.body = [node for node in tree.body if isinstance(node, ast.Assign) and dotted(node.targets[0]) in constants]
    known = Scope(tree).names
    flags, python = known.get("FLAGS"), known.get("PYTHON")
    usable = isinstance(flags, dict) and all(isinstance(rows, list) for rows in flags.values())
    return TasksFileFacts(flags if usable and flags else {}, python if isinstance(python, str) else None)


def load_tasks_module(experiment_dir: str | Path) -> ModuleType:
    """Import ``.hpc/tasks.py`` into this process; the CLI uses a child process. Raises SpecInvalid without a file."""
    path = RepoLayout(Path(experiment_dir).resolve()).tasks
    if not path.is_file():
        raise SpecInvalid(f"there is no {path}", field="experiment_dir")
    return load_tasks(str(path))  # type: ignore[no-any-return]
