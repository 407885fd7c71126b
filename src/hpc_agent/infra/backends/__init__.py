"""Schedulers by name (built-in, or of another package's entry point ``hpc_agent.backends``), and their templates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hpc_agent.errors import ConfigInvalid, SpecInvalid
from hpc_agent.node.shared.scheduler_names import BUILT_IN

ENTRY_POINTS = "hpc_agent.backends"
TEMPLATES = Path(__file__).resolve().parents[2] / "models" / "mapreduce" / "templates"
RUNTIME_TEMPLATES = TEMPLATES / "runtime"


@dataclass(frozen=True)
class Backend:
    """A scheduler as the client sees it.

    ``templates`` is the folder of its ``cpu_array.*`` and ``gpu_array.*``. ``adapter`` is the file with its node-side
    code (Python 3.6, standard library, plus ``_hpc_runtime.schedulers.base``) that defines ``scheduler(site) ->
    Scheduler``; None for a built-in one, whose adapter is part of the runtime. ``cannot`` has what hpc-agent offers and
    this scheduler has no means for, with the reason: a request for ``max_running`` or ``gpus`` is refused before anything
    is pushed, one for ``memory`` is warned of. Other names are for readers (tests leave out what needs them).
    """

    name: str
    templates: Path
    adapter: Path | None = None
    cannot: Mapping[str, str] = field(default_factory=dict, compare=False)

    def template(self, gpus: int) -> Path:
        """Return the job template for this many GPUs. Raises ConfigInvalid when the backend ships none."""
        stem = "gpu_array" if gpus else "cpu_array"
        found = sorted(self.templates.glob(stem + ".*"))
        if not found:
            raise ConfigInvalid(f"the backend '{self.name}' ships no {stem} template in {self.templates}")
        return found[0]


def backend_names() -> list[str]:
    """Return the names that a cluster may give as its scheduler, built-in ones first."""
    from importlib.metadata import entry_points

    found = {point.name for point in entry_points(group=ENTRY_POINTS)}
    return [*BUILT_IN, *sorted(found.difference(BUILT_IN))]


def get_backend(name: str) -> Backend:
    """Return the backend called ``name``. Raises ConfigInvalid, which names the known ones, for any other name."""
    if name in BUILT_IN:
        return Backend(name, RUNTIME_TEMPLATES / name)
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINTS, name=name):
        backend = point.load()
        backend = backend() if callable(backend) else backend
        if isinstance(backend, Backend):
            return backend
        kind = type(backend).__name__
        raise ConfigInvalid(f"the entry point '{name}' of {ENTRY_POINTS} is not a Backend but {kind}")
    raise ConfigInvalid(f"unknown scheduler '{name}' (known: {', '.join(backend_names())})", field="scheduler")


def get_template_path(scheduler: str, template: str) -> Path:
    """Return the path of a job template, such as ``("slurm", "cpu_array")``; with or without its ending. Raises SpecInvalid."""
    folder = RUNTIME_TEMPLATES / scheduler
    found = [path for path in sorted(folder.glob("*")) if template in (path.name, path.stem)] if folder.is_dir() else []
    if not found:
        known = sorted(f"{path.parent.name}/{path.stem}" for path in RUNTIME_TEMPLATES.glob("*/*"))
        raise SpecInvalid(
            f"there is no template {scheduler}/{template} (there are {', '.join(known)})", field="template"
        )
    return found[0]
