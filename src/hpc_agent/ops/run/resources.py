"""Choose the resources of an element, with the origin of every number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from hpc_agent.contract.primitive import Request
from hpc_agent.errors import SpecInvalid
from hpc_agent.infra.clusters import Cluster
from hpc_agent.infra.throughput import counted, turns
from hpc_agent.ops.run.evidence import Evidence
from hpc_agent.ops.run.fields import Positive, doc

DEFAULT_WALLTIME_SEC = 4 * 3600
ARBITRAGE_SEC = 15 * 60
ARBITRAGE_STEP_SEC = 5 * 60
# Start-up and checkpoint of a segment of a chain, in which the tasks do no work.
SEGMENT_OVERHEAD_SEC = 30
MOST_SEGMENTS = 50


GpuType = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]+\Z")]


class Resources(Request):
    """The request of one task. An element asks for it as many times as it runs tasks at once (``at_once``)."""

    walltime_sec: Annotated[Positive | None, doc("limit of one element, seconds")] = None
    mem_mb: Annotated[Positive | None, doc("memory of one task, MiB, all its CPUs together")] = None
    cpus: Annotated[int, doc("CPUs of one task", gt=0)] = 1
    gpus: Annotated[int, doc("GPUs of one task", ge=0)] = 0
    gpu_type: Annotated[GpuType | None, doc("kind of GPU, as the site names it")] = None
    nodes: Annotated[int, doc("nodes of one task", gt=0)] = 1
    exclusive: Annotated[bool, doc("no other job on the node")] = False


@dataclass(frozen=True)
class ResolvedResources:
    """Resources and placement for the scheduler, with the origin of each."""

    resources: dict[str, Any]
    placement: dict[str, Any]
    origin: dict[str, str]
    segments: int = 1

    @property
    def chained(self) -> bool:
        return self.segments > 1


def resolve_resources(
    cluster: Cluster,
    wanted: Resources,
    placement: dict[str, Any],
    max_walltime_sec: int,
    evidence: Evidence | None = None,
    pack: int = 1,
    at_once: int = 1,
) -> ResolvedResources:
    """Complete the request from measurements of earlier tasks, else from the cluster's defaults.

    Raises SpecInvalid for a request above the cluster's limits.
    """
    origin: dict[str, str] = {}
    _check_at_once(cluster, wanted, at_once)
    walltime, segments = _walltime(cluster, wanted, max_walltime_sec, origin, evidence, pack, at_once)
    memory = _memory(cluster, wanted, origin, evidence, at_once)
    gpu_type, queue = _gpu(cluster, wanted)
    defaults = {
        "partition": {"gpu_queues": queue, "default_partition": cluster.default_partition},
        "account": {"cluster": cluster.account},
        "constraint": {"gpu_constraint": cluster.gpu_constraint if wanted.gpus else None},
    }
    place: dict[str, Any] = {**dict.fromkeys(defaults), **placement}
    for name, others in defaults.items():
        for source, value in {"request": placement.get(name), **others}.items():
            if value is not None:
                place[name], origin[name] = value, source
                break
    resources = {**msgspec.to_builtins(wanted), "walltime_sec": walltime, "mem_mb": memory, "gpu_type": gpu_type}
    return ResolvedResources(resources, place, origin, segments)


def _walltime(
    cluster: Cluster,
    wanted: Resources,
    ceiling: int,
    origin: dict[str, str],
    evidence: Evidence | None,
    pack: int,
    at_once: int,
) -> tuple[int, int]:
    """Return the seconds of one element, and the number of segments of its chain."""
    if wanted.walltime_sec is not None:
        origin["walltime_sec"] = "request"
        if wanted.walltime_sec > ceiling:
            return ceiling, _segments(cluster, wanted.walltime_sec, ceiling, origin)
        return wanted.walltime_sec, 1
    if evidence is not None and evidence.time is not None:
        measured = evidence.time.walltime_sec(turns(pack, at_once))
        some = f", {at_once} at once" if at_once > 1 else ""
        origin["walltime_sec"] = evidence.time.origin + (f", {pack} tasks an element{some}" if pack > 1 else "")
        if measured > ceiling:
            origin["walltime_sec"] += f", cut from {measured} s to the cluster's limit"
        return min(measured, ceiling), 1
    asked = cluster.default_walltime_sec or DEFAULT_WALLTIME_SEC
    origin["walltime_sec"] = "default_walltime_sec" if cluster.default_walltime_sec else "built-in default of 4 h"
    if asked >= ceiling and cluster.walltime_arbitrage and ceiling > 2 * ARBITRAGE_SEC:
        # A request a little below the limit fits into gaps of the schedule (back-fill).
        origin["walltime_sec"] += ", trimmed below the cluster's limit for back-fill"
        return (ceiling - ARBITRAGE_SEC) // ARBITRAGE_STEP_SEC * ARBITRAGE_STEP_SEC, 1
    if asked > ceiling:
        origin["walltime_sec"] += f", cut from {asked} s to the cluster's limit"
    return min(asked, ceiling), 1


def _segments(cluster: Cluster, wanted: int, ceiling: int, origin: dict[str, str]) -> int:
    """Return the number of segments of the longest walltime that do the work of a longer element.

    Raises SpecInvalid for a cluster without chains, and for a chain above MOST_SEGMENTS.
    """
    segments = math.ceil(wanted / max(1, ceiling - SEGMENT_OVERHEAD_SEC))
    if cluster.auto_daisy_chain and segments <= MOST_SEGMENTS:
        origin["walltime_sec"] = f"request: {wanted} s as a chain of {segments} segments"
        return segments
    remedy = f"Ask for at most --walltime-sec {MOST_SEGMENTS * (ceiling - SEGMENT_OVERHEAD_SEC)}."
    if not cluster.auto_daisy_chain:
        remedy = (
            f"Ask for at most --walltime-sec {ceiling}, split the tasks into shorter ones, or, if the executor writes "
            f"checkpoints to $HPC_CHECKPOINT_DIR, set auto_daisy_chain of '{cluster.name}' in clusters.yaml; then run "
            "'hpc-agent submit' again."
        )
    message = f"{wanted} s is more than the {ceiling} s that '{cluster.name}' allows"
    raise SpecInvalid(message, field="resources.walltime_sec", remediation=remedy)


def _check_at_once(cluster: Cluster, wanted: Resources, at_once: int) -> None:
    """Raise SpecInvalid for more tasks at once than a node has cores for, and for tasks of several nodes."""
    if at_once == 1:
        return
    if wanted.nodes > 1:
        message = f"an element of {wanted.nodes} nodes runs one task at a time, not {at_once}"
        raise SpecInvalid(message, field="at_once", remediation="Leave --at-once out, or ask for --nodes 1.")
    cores = cluster.max_node_cpus or cluster.cores
    if cores and at_once * wanted.cpus > cores:
        message = (
            f"{at_once} tasks at once with {counted(wanted.cpus, 'core')} each need {at_once * wanted.cpus} cores; "
        )
        message += f"a node of '{cluster.name}' has {cores}"
        most = cores // wanted.cpus
        remedy = f"Ask for at most --at-once {most}." if most else f"Ask for at most --cpus {cores}, without --at-once."
        raise SpecInvalid(message, field="at_once", remediation=remedy)


def _memory(
    cluster: Cluster, wanted: Resources, origin: dict[str, str], evidence: Evidence | None, at_once: int
) -> int | None:
    """Return the memory of one task: of those that run at once, a node has room for all."""
    limit = cluster.max_node_mem_mb
    if wanted.mem_mb is not None:
        origin["mem_mb"] = "request"
        if limit is not None and at_once > 1 and wanted.mem_mb <= limit < wanted.mem_mb * at_once:
            message = f"{at_once} tasks at once with {wanted.mem_mb} MiB each need more than the {limit} MiB of a node"
            remedy = f"Ask for at most --at-once {limit // wanted.mem_mb}, or --mem-mb {limit // at_once}."
            raise SpecInvalid(f"{message} of '{cluster.name}'", field="at_once", remediation=remedy)
        if limit is not None and wanted.mem_mb > limit:
            message = f"{wanted.mem_mb} MiB is more than the {limit} MiB of a node of '{cluster.name}'"
            raise SpecInvalid(message, field="resources.mem_mb", remediation=f"Ask for at most --mem-mb {limit}.")
        return wanted.mem_mb
    if evidence is not None and evidence.mem_mb is not None:
        origin["mem_mb"] = evidence.memory_origin
        return _within(evidence.mem_mb, limit, at_once, origin)
    if cluster.default_mem_mb is None:
        origin["mem_mb"] = "the scheduler's own default"
        return None
    buffered = math.ceil(cluster.default_mem_mb * (1 + cluster.cold_start_mem_buffer))
    origin["mem_mb"] = f"default_mem_mb plus {cluster.cold_start_mem_buffer:.0%}, as there is no history"
    return _within(buffered, limit, at_once, origin)


def _within(wanted: int, limit: int | None, at_once: int, origin: dict[str, str]) -> int:
    """Return the memory of a task, at most its share of a node; the origin says when it is cut."""
    if limit is None or wanted * at_once <= limit:
        return wanted
    share = max(1, limit // at_once)
    of = f"its share, {share} MiB, of the {limit} MiB" if at_once > 1 else f"the {limit} MiB"
    origin["mem_mb"] += f", cut from {wanted} MiB to {of} of a node"
    return share


def _gpu(cluster: Cluster, wanted: Resources) -> tuple[str | None, str | None]:
    """Return the GPU type, and the fastest queue with that type for a site that maps queues to GPUs."""
    if not wanted.gpus:
        return None, None
    if wanted.gpu_type and cluster.gpu_types and wanted.gpu_type.lower() not in (t.lower() for t in cluster.gpu_types):
        message = f"'{cluster.name}' has no GPU '{wanted.gpu_type}' (gpu_types: {', '.join(cluster.gpu_types)})"
        remedy = f"Choose one of them, see 'hpc-agent clusters-describe {cluster.name}'."
        raise SpecInvalid(message, field="resources.gpu_type", remediation=remedy)
    excluded = tuple(cluster.excluded_gpu_queue_prefixes)
    fitting = [
        (queue.perf, name, queue.name)
        for name, queue in cluster.gpu_queues.items()
        if not (excluded and name.startswith(excluded))
        and (wanted.gpu_type is None or queue.name.lower() == wanted.gpu_type.lower())
    ]
    if not fitting:
        return wanted.gpu_type, None
    _, queue_name, type_name = max(fitting)
    return type_name, queue_name
