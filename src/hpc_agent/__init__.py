"""hpc-agent: array-batch experiments on SLURM and Grid Engine clusters.

The names below are the stable library surface; each is imported when it is first used, so that the command line starts
in a few milliseconds.
"""

from __future__ import annotations

from hpc_agent._version import __version__

TYPE_CHECKING = False  # as typing has it, without importing typing
if TYPE_CHECKING:
    from pathlib import Path

    from hpc_agent.experiment.grid.tasks_file_facts import load_tasks_module
    from hpc_agent.experiment_kit import main, read_kw_env, register_run, write_metrics
    from hpc_agent.infra.backends import get_template_path
    from hpc_agent.infra.clusters import load_clusters_config
    from hpc_agent.state.repo_files import RUNS_SUBDIR, TASKS_FILENAME, RepoLayout

    _PACKAGE_ROOT: Path

_HOMES = {
    "RUNS_SUBDIR": "hpc_agent.state.repo_files",
    "TASKS_FILENAME": "hpc_agent.state.repo_files",
    "RepoLayout": "hpc_agent.state.repo_files",
    "load_tasks_module": "hpc_agent.experiment.grid.tasks_file_facts",
    "get_template_path": "hpc_agent.infra.backends",
    "load_clusters_config": "hpc_agent.infra.clusters",
    **dict.fromkeys(("main", "read_kw_env", "register_run", "write_metrics"), "hpc_agent.experiment_kit"),
}

__all__ = [
    "RUNS_SUBDIR",
    "TASKS_FILENAME",
    "_PACKAGE_ROOT",
    "RepoLayout",
    "__version__",
    "get_template_path",
    "load_clusters_config",
    "load_tasks_module",
    "main",
    "read_kw_env",
    "register_run",
    "write_metrics",
]


def __getattr__(name: str) -> object:
    if name == "_PACKAGE_ROOT":
        from pathlib import Path

        return Path(__file__).resolve().parent
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'hpc_agent' has no attribute {name!r}")
