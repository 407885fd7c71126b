"""Choose the folder of an answer's files, and fetch those that a reducer or a joined series left on the cluster."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from hpc_agent.errors import SpecInvalid
from hpc_agent.ops.run.known_run import KnownRun
from hpc_agent.state.repo_files import local_path
from hpc_agent.world import World


def output_folder(world: World, text: str | None, default: Path, field: str = "output_dir") -> Path:
    """Return the folder that a request names, or the default. Raises SpecInvalid for a file."""
    return local_path(world.cwd, text, field, True) if text else default


def check_inside(field: str, name: str, folder: str) -> None:
    """Raise SpecInvalid for a name that is not below ``folder``, which is said in words."""
    if not name or name.startswith("/") or ".." in PurePosixPath(name).parts:
        remedy = f"Name it relative to {folder}."
        raise SpecInvalid(f"{field}: {name!r} is not inside {folder}", field=field, remediation=remedy)


def pull_within(run: KnownRun, source: str, sizes: dict[str, int], folder: Path, max_mb: int) -> str:
    """Fetch files {name: bytes} of the folder ``source``. Return a note where they are larger together, and stay there."""
    total = sum(sizes.values())
    if total > max_mb * 1_000_000:
        return f"{total} bytes of files stayed in {source} on the cluster: --max-mb has the limit"
    if sizes:
        run.node.pull(source, list(sizes), folder)
    return ""
