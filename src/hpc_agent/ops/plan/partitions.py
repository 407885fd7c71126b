"""Which partition fits, and which of those is likely to start soonest; pure functions of the cluster's facts."""

from __future__ import annotations

from typing import Any

import msgspec

from hpc_agent.infra.clusters import Cluster, GpuQueue
from hpc_agent.infra.site import Gpu, PartitionFacts, SiteFacts

DEBUG_SEC = 1800
DEBUG_ELEMENTS = 8
DEBUG_WORDS = ("debug", "test", "short", "express", "interactive")


class Wanted(msgspec.Struct, kw_only=True):
    """What one element needs, and how many there are."""

    walltime_sec: int | None = None
    mem_mb: int | None = None
    cpus: int = 1
    gpus: int = 0
    gpu_type: str | None = None
    elements: int = 1


class Candidate(msgspec.Struct, kw_only=True):
    """A partition, whether it fits, and how it ranks (higher starts sooner)."""

    partition: str
    fits: bool
    why_not: str = ""
    score: float = 0.0
    idle: int = 0
    gpu_type: str | None = None


def rank(facts: SiteFacts, wanted: Wanted, cluster: Cluster) -> list[Candidate]:
    """Every partition, the best first: those that fit, by how much of the work could start at once, then by a short queue,
    then by priority; the cluster's default wins a tie.
    """
    found = [_judge(partition, wanted, cluster) for partition in facts.partitions]
    order = {partition.name: partition for partition in facts.partitions}

    def key(candidate: Candidate) -> tuple[Any, ...]:
        partition = order[candidate.partition]
        preferred = candidate.partition == cluster.default_partition or (
            not cluster.default_partition and partition.default
        )
        return (
            not candidate.fits,
            -candidate.score,
            not preferred,
            -(partition.priority_tier or 0),
            candidate.partition,
        )

    return sorted(found, key=key)


def _judge(partition: PartitionFacts, wanted: Wanted, cluster: Cluster) -> Candidate:
    gpu = _gpu(partition, wanted, cluster)
    why = _why_not(partition, wanted, cluster, gpu)
    slots = _idle_slots(partition, wanted, gpu)
    share = min(1.0, slots / wanted.elements)
    crowd = 1 / (1 + (partition.pending_jobs or 0) / max(1, partition.nodes))
    speed = _speed(cluster, gpu.type) if gpu else 1.0
    # A debug partition is for trying things; on long or large work it is abused.
    debug = any(word in partition.name.lower() for word in DEBUG_WORDS)
    small = (wanted.walltime_sec or DEBUG_SEC + 1) <= DEBUG_SEC and wanted.elements <= DEBUG_ELEMENTS
    score = (share + 0.25 * crowd) * speed * (0.5 if debug and not small else 1.0)
    return Candidate(
        partition=partition.name,
        fits=not why,
        why_not=why,
        score=round(score, 4),
        idle=slots,
        gpu_type=gpu.type if gpu else None,
    )


def _why_not(partition: PartitionFacts, wanted: Wanted, cluster: Cluster, gpu: Gpu | None) -> str:
    if partition.state != "up":
        return f"it is {partition.state}"
    if partition.name.startswith(tuple(cluster.excluded_gpu_queue_prefixes)):
        return "clusters.yaml excludes it"
    if wanted.walltime_sec and partition.max_walltime_sec and wanted.walltime_sec > partition.max_walltime_sec:
        return f"its walltime limit is {partition.max_walltime_sec} s"
    if wanted.mem_mb and partition.mem_mb and wanted.mem_mb > partition.mem_mb:
        return f"its largest node has {partition.mem_mb} MiB"
    if partition.cpus_node and wanted.cpus > partition.cpus_node:
        return f"its largest node has {partition.cpus_node} CPUs"
    if wanted.gpus and gpu is None:
        kind = f" {wanted.gpu_type}" if wanted.gpu_type else ""
        return f"it has no GPU{kind}"
    return ""


def _gpu(partition: PartitionFacts, wanted: Wanted, cluster: Cluster) -> Gpu | None:
    """The kind of GPU with the most free slots times relative speed; with none free, the largest stock."""
    if not wanted.gpus:
        return None
    stock = list(partition.gpus)
    queue: GpuQueue | None = cluster.gpu_queues.get(partition.name)
    if queue is not None and not stock:  # Grid Engine does not tell GPUs; the site's own map does
        stock = [Gpu(queue.name, partition.cpus_total, partition.cpus_idle)]
    fitting = [g for g in stock if wanted.gpu_type is None or g.type.lower() == wanted.gpu_type.lower()]
    return max(fitting, key=lambda g: ((g.idle or 0) * _speed(cluster, g.type), g.total, g.type), default=None)


def _speed(cluster: Cluster, gpu_type: str) -> float:
    known = [queue.perf for queue in cluster.gpu_queues.values() if queue.name.lower() == gpu_type.lower()]
    return max(known, default=1.0)


def _idle_slots(partition: PartitionFacts, wanted: Wanted, gpu: Gpu | None) -> int:
    slots = partition.cpus_idle // wanted.cpus
    return min(slots, (gpu.idle or 0) // wanted.gpus) if gpu and wanted.gpus else slots


def headroom(facts: SiteFacts, elements: int, warn_at: float = 0.7) -> list[dict[str, Any]]:
    """Each limit against what is there and what would come: state ok, warn or over, and a sentence."""
    rows = []
    for limit in facts.limits:
        used = 0 if limit.kind == "array_size" else facts.submitted or 0
        after = used + elements
        state = "over" if after > limit.limit else "warn" if after > limit.limit * warn_at else "ok"
        there = f"{used} are there and " if limit.kind != "array_size" else ""
        what = {"running": "run at once", "submitted": "be submitted", "array_size": "be in one array"}.get(
            limit.kind, limit.kind
        )
        sentence = f"{limit.name} ({limit.scope}): at most {limit.limit} may {what}; {there}{elements} would come"
        rows.append({"limit": limit.name, "scope": limit.scope, "kind": limit.kind, "used": used, "asked": elements,
                     "most": limit.limit, "state": state, "sentence": sentence})  # fmt: skip
    return rows
