"""The job templates that the package ships."""

from __future__ import annotations

from pathlib import Path

from hpc_agent.errors import SpecInvalid

TEMPLATES = Path(__file__).resolve().parents[1] / "models" / "mapreduce" / "templates"
RUNTIME_TEMPLATES = TEMPLATES / "runtime"


def get_template_path(scheduler: str, template: str) -> Path:
    """Path of a job template, such as ``("slurm", "cpu_array")``; with or without its ending. Raises SpecInvalid."""
    folder = RUNTIME_TEMPLATES / scheduler
    found = [path for path in sorted(folder.glob("*")) if template in (path.name, path.stem)] if folder.is_dir() else []
    if not found:
        known = sorted(f"{path.parent.name}/{path.stem}" for path in RUNTIME_TEMPLATES.glob("*/*"))
        raise SpecInvalid(
            f"there is no template {scheduler}/{template} (there are {', '.join(known)})", field="template"
        )
    return found[0]
