"""``recommend-partition``: rank the partitions or queues of the live cluster for a piece of work."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from hpc_agent.contract.primitive import Effect, PartialError, Request, Result, primitive
from hpc_agent.errors import SpecInvalid
from hpc_agent.infra.clusters import Cluster, GpuQueue
from hpc_agent.infra.partitions import Gpu, PartitionFacts, SiteFacts, ask_site
from hpc_agent.ops.run.fields import ClusterName, ExperimentDir, Positive, doc
from hpc_agent.ops.run.known_run import SITE_ERRORS, node_of
from hpc_agent.state.repo_files import experiment_root
from hpc_agent.world import World

DEBUG_SEC = 1800
DEBUG_ELEMENTS = 8
DEBUG_WORDS = ("debug", "test", "short", "express", "interactive")


class Wanted(msgspec.Struct, kw_only=True):
    """The resources of one element, and the number of elements."""

    walltime_sec: int | None = None
    mem_mb: int | None = None
    cpus: int = 1
    gpus: int = 0
    gpu_type: str | None = None
    elements: int = 1


class Candidate(msgspec.Struct, kw_only=True):
    """A partition with its score (higher starts sooner), and the reason why it does not fit."""

    partition: str
    fits: bool
    why_not: str = ""
    score: float = 0.0
    idle: int = 0
    gpu_type: str | None = None


class RecommendPartitionRequest(Request):
    """The resources of one element."""

    cluster: ClusterName
    walltime_sec: Annotated[Positive | None, doc("seconds of one element")] = None
    mem_mb: Annotated[Positive | None, doc("memory of one element, MiB")] = None
    cpus: Annotated[int, doc("CPUs of one element", gt=0)] = 1
    gpus: Annotated[int, doc("GPUs of one element", ge=0)] = 0
    gpu_type: Annotated[str | None, doc("kind of GPU, as the site names it")] = None
    total_tasks: Annotated[int, doc("number of elements", gt=0)] = 1
    user_preferred_partition: Annotated[str | None, doc("recommended if it fits")] = None
    partitions: Annotated[
        list[dict[str, Any]], doc("rank these instead of asking the cluster: name, state, cpus_idle, ...")
    ] = []
    experiment_dir: ExperimentDir = "."


class RecommendPartitionResult(Result):
    recommended_partition: str | None
    rationale: Annotated[str, doc("user_preferred, only_fit, best_fit or none_fit")]
    message: str
    gpu_type: str | None
    candidates: Annotated[list[Candidate], doc("every partition, the best first, with the reason why it does not fit")]


@primitive(stage="plan", effects=[Effect.SSH], errors=SITE_ERRORS)
def recommend_partition(request: RecommendPartitionRequest, world: World) -> RecommendPartitionResult:
    """Recommend the partition or queue that fits and probably starts the work first, with reasons for the others.

    Reads sinfo, squeue and sacctmgr, or qstat -g c, qconf and qhost: one SSH command. State, walltime, memory
    and CPUs of a node, and GPUs must fit. Then idle capacity counts, then the queue, then priority.
    """
    repo = experiment_root(world.cwd, request.experiment_dir)
    node = node_of(world, repo, request.cluster)
    asked = {name: getattr(request, name) for name in ("walltime_sec", "mem_mb", "cpus", "gpus", "gpu_type")}
    wanted = Wanted(elements=request.total_tasks, **asked)
    facts = _given(node.cluster.scheduler, request.partitions) if request.partitions else ask_site(node)
    ranked = rank(facts, wanted, node.cluster)
    chosen, rationale, message = _choose(ranked, request.user_preferred_partition)
    return RecommendPartitionResult(
        recommended_partition=chosen.partition if chosen else None,
        rationale=rationale,
        message=message,
        gpu_type=chosen.gpu_type if chosen else None,
        candidates=ranked,
        partial_errors=[PartialError(code=row["code"], detail=row["detail"]) for row in facts.errors],
    )


def _given(scheduler: str, partitions: list[dict[str, Any]]) -> SiteFacts:
    try:
        rows = msgspec.convert(partitions, list[PartitionFacts])
    except msgspec.ValidationError as error:
        raise SpecInvalid(f"partitions: {error}", field="partitions") from error
    return SiteFacts(scheduler=scheduler, partitions=rows, limits=[])


def _choose(ranked: list[Candidate], preferred: str | None) -> tuple[Candidate | None, str, str]:
    fitting = [candidate for candidate in ranked if candidate.fits]
    mine = next((candidate for candidate in ranked if candidate.partition == preferred), None)
    if mine is not None and mine.fits:
        return (
            mine,
            "user_preferred",
            f"{mine.partition}, as you prefer: it fits, {mine.idle} elements could start at once",
        )
    aside = ""
    if preferred:
        aside = f"{preferred} does not fit: {mine.why_not}. " if mine else f"There is no {preferred}. "
    if not fitting:
        reasons = "; ".join(f"{c.partition}: {c.why_not}" for c in ranked[:5]) or "the cluster names no partition"
        return None, "none_fit", f"{aside}Nothing fits: {reasons}"
    best = fitting[0]
    rationale = "only_fit" if len(fitting) == 1 else "best_fit"
    return (
        best,
        rationale,
        f"{aside}{best.partition}: {best.idle} elements could start at once, the best of {len(fitting)} that fit",
    )


def rank(facts: SiteFacts, wanted: Wanted, cluster: Cluster) -> list[Candidate]:
    """Return every partition, the best first.

    Partitions that fit come first, by the share of the work that starts at once, then by queue, then by priority. The
    cluster's default wins a tie.
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
    # A debug partition is for tests, not for long or large work.
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
    """Return the type of GPU with the most free slots times relative speed, or the largest stock if none is free."""
    if not wanted.gpus:
        return None
    stock = list(partition.gpus)
    queue: GpuQueue | None = cluster.gpu_queues.get(partition.name)
    if queue is not None and not stock:  # Grid Engine does not name GPUs; clusters.yaml does
        stock = [Gpu(queue.name, partition.cpus_total, partition.cpus_idle)]
    fitting = [g for g in stock if wanted.gpu_type is None or g.type.lower() == wanted.gpu_type.lower()]
    return max(fitting, key=lambda g: ((g.idle or 0) * _speed(cluster, g.type), g.total, g.type), default=None)


def _speed(cluster: Cluster, gpu_type: str) -> float:
    known = [queue.perf for queue in cluster.gpu_queues.values() if queue.name.lower() == gpu_type.lower()]
    return max(known, default=1.0)


def _idle_slots(partition: PartitionFacts, wanted: Wanted, gpu: Gpu | None) -> int:
    slots = partition.cpus_idle // wanted.cpus
    return min(slots, (gpu.idle or 0) // wanted.gpus) if gpu and wanted.gpus else slots
