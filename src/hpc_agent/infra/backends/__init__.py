"""Schedulers by name: the built-in ones, and those of other packages under the entry-point group
``hpc_agent.backends``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hpc_agent.errors import ConfigInvalid
from hpc_agent.infra.templates import RUNTIME_TEMPLATES
from hpc_agent.node.shared.scheduler_names import BUILT_IN

ENTRY_POINTS = "hpc_agent.backends"


@dataclass(frozen=True)
class Backend:
    """A scheduler as the client sees it.

    ``templates`` is the folder of its ``cpu_array.*`` and ``gpu_array.*``. ``adapter`` is the file with its node-side
    code (Python 3.6, standard library, plus ``_hpc_runtime.schedulers.base``) that defines ``scheduler(site) ->
    Scheduler``; None for a built-in one, whose adapter is part of the runtime.
    """

    name: str
    templates: Path
    adapter: Path | None = None

    def template(self, gpus: int) -> Path:
        """The job template for this many GPUs. Raises ConfigInvalid when the backend ships none."""
        stem = "gpu_array" if gpus else "cpu_array"
        found = sorted(self.templates.glob(stem + ".*"))
        if not found:
            raise ConfigInvalid(f"the backend '{self.name}' ships no {stem} template in {self.templates}")
        return found[0]


def backend_names() -> list[str]:
    """Names a cluster may give as its scheduler, built-in first."""
    from importlib.metadata import entry_points

    found = {point.name for point in entry_points(group=ENTRY_POINTS)}
    built_in = list(_built_in())
    return built_in + sorted(found - set(built_in))


def get_backend(name: str) -> Backend:
    """The backend called ``name``. Raises ConfigInvalid naming the known ones; other packages are only searched if
    needed.
    """
    if name in _built_in():
        return Backend(name, RUNTIME_TEMPLATES / name)
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINTS, name=name):
        backend = point.load()
        backend = backend() if callable(backend) else backend
        if not isinstance(backend, Backend):
            raise ConfigInvalid(
                f"the entry point '{name}' of {ENTRY_POINTS} is not a Backend but {type(backend).__name__}"
            )
        return backend
    raise ConfigInvalid(f"unknown scheduler '{name}' (known: {', '.join(backend_names())})", field="scheduler")


def _built_in() -> dict[str, str]:
    return BUILT_IN
