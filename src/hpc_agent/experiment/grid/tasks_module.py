"""The names that are imported as ``hpc_agent.RepoLayout`` and so on, and the loader of ``tasks.py`` for library use."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from hpc_agent.errors import SpecInvalid
from hpc_agent.node.shared.tasks_module import load_tasks
from hpc_agent.state.repo_files import RUNS_SUBDIR, TASKS_FILENAME, RepoLayout

__all__ = ["RUNS_SUBDIR", "TASKS_FILENAME", "RepoLayout", "load_tasks_module"]


def load_tasks_module(experiment_dir: str | Path) -> ModuleType:
    """Import ``.hpc/tasks.py`` into this process (the CLI never does: it uses a child). Raises SpecInvalid when there
    is none.
    """
    path = RepoLayout(Path(experiment_dir).resolve()).tasks
    if not path.is_file():
        raise SpecInvalid(f"there is no {path}", field="experiment_dir")
    module = load_tasks(str(path))
    assert isinstance(module, ModuleType)
    return module
