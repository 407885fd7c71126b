"""The entry of clusters.yaml for a host, from what its login node told."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpc_agent.errors import SpecInvalid
from hpc_agent.infra.partitions import PartitionFacts, SiteFacts
from hpc_agent.infra.probe import Facts
from hpc_agent.node.shared.scheduler_names import BUILT_IN
from hpc_agent.ops.setup.findings import OLDEST_PYTHON
from hpc_agent.ops.setup.limits import duration

# A tool of a scheduler that no other one has; PBS has a qsub and a qstat too.
_SIGNS = {"slurm": "sbatch", "sge": "qconf"}
_ENVIRONMENTS = ("shared", "smp", "openmp", "threaded", "mt")  # names that sites give to "cores of one host"
_MEMORY = ("h_data", "h_vmem", "mem_free")
_SHOWN = 8


@dataclass
class Found:
    """Keys with their values, remarks behind the keys, and what a person should know."""

    values: dict[str, Any] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def way_to_tools(facts: Facts) -> str:
    """Return a file that makes a scheduler's commands known where the shell finds none; else an empty text."""
    if schedulers(facts):
        return ""
    return next((facts.get(f"by.{tool}") for tool in _SIGNS.values() if facts.get(f"by.{tool}")), "")


def schedulers(facts: Facts) -> list[str]:
    """Return the schedulers whose commands are found and that answered."""
    found = [name for name, tool in _SIGNS.items() if facts.get(f"tool.{tool}")]
    answering = [name for name in found if name in facts.sites and facts.sites[name].partitions]
    return answering or found


def choose_scheduler(facts: Facts, wanted: str | None, host: str) -> str:
    """Return the scheduler of the entry. Raises SpecInvalid where there is none, or more than one."""
    found = schedulers(facts)
    if wanted in BUILT_IN and wanted != "local" and wanted not in found:
        tool = _SIGNS[str(wanted)]
        message = f"{host} has no {wanted}: {tool} is not found (PATH {facts.get('path')})"
    elif wanted or len(found) == 1:
        return wanted or found[0]
    elif found:
        message = f"{host} has {' and '.join(found)}"
        raise SpecInvalid(
            message, field="scheduler", remediation=f"Give --scheduler {found[0]} or --scheduler {found[1]}."
        )
    else:
        other = facts.get("tool.qsub")
        message = f"{host} has no scheduler that hpc-agent knows (PATH {facts.get('path')})"
        message += f"; {other} is not Grid Engine's" if other else ""
    remedy = (
        "Give --shell-init FILE with the site's file that puts the scheduler on the PATH (ask the site; often below "
    )
    remedy += "/etc/profile.d), or --scheduler local to run tasks on that host itself."
    raise SpecInvalid(message, field="scheduler", remediation=remedy)


def entry_of(facts: Facts, scheduler: str, given: Mapping[str, Any]) -> Found:
    """Return the entry: what was given, and what was found where nothing was given."""
    found = Found({"scheduler": scheduler, **given})
    _scratch(facts, found)
    _python(facts, found)
    site = facts.sites.get(scheduler)
    if site is not None and scheduler != "local":
        _site(site, found, facts)
    if scheduler == "sge":
        _grid_engine(facts, found)
    return found


def _scratch(facts: Facts, found: Found) -> None:
    if "scratch" in found.values:
        return
    candidates = facts.all("candidate")
    home = facts.get("home")
    folder = next((path for path in candidates if path != home), None)
    if folder is None:
        folder = f"{home}/hpc-scratch"
        found.warnings.append(
            f"no scratch folder was found, so runs are kept in {folder}: homes are often small and slow"
        )
    found.values["scratch"] = folder
    others = [path for path in candidates if path not in (folder, home)]
    if others:
        found.comments["scratch"] = f"also there: {', '.join(others)}"


def _python(facts: Facts, found: Found) -> None:
    version = re.match(r"(\d+)\.(\d+)", facts.get("python.about"))
    if "python" not in found.values and not (version and tuple(map(int, version.groups())) >= OLDEST_PYTHON):
        folder = next((f for f in facts.all("in.python3") if f"{f}/python3" != facts.get("python")), "")
        if folder:
            found.values["python"] = f"{folder}/python3"
        told = facts.get("python.about") or "none"
        found.warnings.append(
            f"the python3 of the login shell is too old or missing ({told}); hpc-agent needs 3.6 or newer"
        )
    offered = facts.get("python_modules").split()
    if offered and "modules" not in found.values:
        found.comments["modules"] = f"modules: [{offered[-1]}]   # for jobs; there are {', '.join(offered[:_SHOWN])}"


def _site(site: SiteFacts, found: Found, facts: Facts) -> None:
    values = found.values
    up = [partition for partition in site.partitions if partition.state == "up"]
    known = {partition.name: partition for partition in site.partitions}
    chosen = known.get(str(values.get("default_partition"))) or _usual(up)
    if chosen:
        values.setdefault("default_partition", chosen.name)
        others = [partition.name for partition in site.partitions if partition.name != chosen.name]
        if others:
            found.comments["default_partition"] = f"also there: {_few(others)}"
    if facts.get("account") and values["scheduler"] == "slurm":
        values.setdefault("account", facts.get("account"))
    gpus = sorted({gpu.type for partition in up for gpu in partition.gpus if gpu.total})
    if gpus:
        values.setdefault("gpu_types", gpus)
    if chosen and chosen.mem_mb:
        values.setdefault("max_node_mem_mb", chosen.mem_mb)
    if chosen and chosen.cpus_node:
        values.setdefault("max_node_cpus", chosen.cpus_node)
    if constraints := _constraints(site, chosen):
        values["constraints"] = constraints
    found.warnings += [f"{row['code']}: {row['detail']}" for row in site.errors]


def _usual(up: Sequence[PartitionFacts]) -> PartitionFacts | None:
    """Return the default partition; else the one with the most cores."""
    return next((p for p in up if p.default), max(up, key=lambda p: p.cpus_total, default=None))


def _constraints(site: SiteFacts, chosen: PartitionFacts | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    sizes = [limit.limit for limit in site.limits if limit.kind == "array_size"]
    submitted = [limit.limit for limit in site.limits if limit.kind == "submitted"]
    if sizes:
        found["max_array_size"] = max(1, min(sizes))
    if chosen and chosen.max_walltime_sec:
        found["max_walltime"] = duration(chosen.max_walltime_sec)
    if submitted:
        found["max_submitted"] = max(1, min(submitted))
    return found


def _grid_engine(facts: Facts, found: Found) -> None:
    for key, told, usual in (
        ("parallel_environment", facts.get("environments").split(), _ENVIRONMENTS),
        ("sge_memory_resource", facts.get("resources").split(), _MEMORY),
    ):
        name = next((name for name in usual if name in told), next(iter(told), None))
        if name and name != usual[0]:
            found.values.setdefault(key, name)
            found.comments[key] = f"there are {_few(told)}"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
