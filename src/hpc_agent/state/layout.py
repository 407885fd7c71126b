"""Where things lie in an experiment repo and in the journal folder."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from hpc_agent.errors import SpecInvalid

HPC_DIR = ".hpc"
RUNS_SUBDIR = "runs"
TASKS_FILENAME = "tasks.py"
IDENTIFIER = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")


@dataclass(frozen=True)
class RepoLayout:
    """The files that hpc-agent knows in an experiment repo."""

    root: Path

    @property
    def hpc(self) -> Path:
        return self.root / HPC_DIR

    @property
    def tasks(self) -> Path:
        return self.hpc / TASKS_FILENAME

    @property
    def runs(self) -> Path:
        return self.hpc / RUNS_SUBDIR

    def sidecar(self, run_id: str) -> Path:
        return self.runs / f"{check_identifier(run_id, 'run_id')}.json"

    def aggregate(self, run_id: str) -> Path:
        return self.root / "results" / check_identifier(run_id, "run_id")

    @property
    def repo_hash(self) -> str:
        """First 12 hex digits of the SHA-256 of the resolved path."""
        return hashlib.sha256(str(self.root.resolve()).encode()).hexdigest()[:12]

    @property
    def remote_name(self) -> str:
        """The repo's folder name on a cluster: ASCII, and told apart from its namesakes by 8 hex digits."""
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", self.root.resolve().name).strip("-.")[:40] or "repo"
        return f"{name}-{self.repo_hash[:8]}"


def check_identifier(value: str, field: str) -> str:
    """``value`` if it may stand in paths and job names. Raises SpecInvalid."""
    if not IDENTIFIER.fullmatch(value):
        raise SpecInvalid(
            f"{value!r} is not an identifier: letters, digits, '.', '_' and '-', at most 100, starting with a letter or digit",
            field=field,
        )
    return value


def experiment_root(cwd: Path, experiment_dir: str) -> RepoLayout:
    """The repo at ``experiment_dir`` below ``cwd``. Raises SpecInvalid when there is no such folder."""
    root = (cwd / Path(experiment_dir).expanduser()).resolve()
    if not root.is_dir():
        raise SpecInvalid(f"there is no folder {root}", field="experiment_dir")
    return RepoLayout(root)
