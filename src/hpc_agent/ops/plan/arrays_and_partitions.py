"""``plan-throughput`` and ``recommend-partition``: the arrays of a piece of work, and the partition that starts it first."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from hpc_agent.contract.primitive import Effect, PartialError, Request, Result, primitive
from hpc_agent.errors import ClusterUnknown, ConfigInvalid, SpecInvalid
from hpc_agent.infra.clusters import Cluster, get_cluster
from hpc_agent.infra.constraints import parse_constraints
from hpc_agent.infra.partitions import Gpu, PartitionFacts, SiteFacts, ask_site
from hpc_agent.infra.throughput import WorkloadSpec, build_wave_map, choose_pack, compute_submission_plan
from hpc_agent.ops.run.fields import ClusterName, ExperimentDir, Positive, PositiveFloat, doc
from hpc_agent.ops.run.known_run import SITE_ERRORS, node_of
from hpc_agent.ops.run.resources import Resources, resolve_resources
from hpc_agent.state.repo_files import experiment_root
from hpc_agent.world import World

SHOWN = 100
# A debug partition is for tests: it counts half for work that is longer than this or has more elements.
DEBUG_SEC = 1800
DEBUG_ELEMENTS = 8
DEBUG_WORDS = ("debug", "test", "short", "express", "interactive")


class PlanThroughputRequest(Request):
    """The number of tasks, their length, and the cluster."""

    cluster: ClusterName
    total_tasks: Annotated[int, doc("number of tasks", gt=0)]
    est_task_sec: Annotated[
        PositiveFloat | None, doc("expected seconds of a task; without it there is no estimate")
    ] = None
    pack: Annotated[Positive | None, doc("tasks of one element, in turn or some at once; else chosen")] = None
    at_once: Annotated[Positive, doc("tasks that one element runs at the same time")] = 1
    cpus: Annotated[int, doc("CPUs of one task", gt=0)] = 1
    max_running: Annotated[Positive | None, doc("limit of elements that run at once")] = None
    walltime_sec: Annotated[Positive | None, doc("limit of one element, seconds")] = None


class PlanThroughputResult(Result):
    cluster: str
    strategy: Annotated[str, doc("the choice and its reason, in a sentence")]
    total_tasks: int
    elements: Annotated[int, doc("array elements in all")]
    pack: Annotated[int, doc("tasks that one element runs")]
    at_once: Annotated[int, doc("those of them that run at the same time")]
    n_arrays: int
    n_waves: Annotated[int, doc("waves; an array waits until its predecessor in the wave before has ended")]
    max_concurrent_jobs: int
    est_total_wall_sec: float | None
    lower_bound_sec: Annotated[float | None, doc("the same limits without the waits between waves")]
    est_core_hours: float | None
    wave_map: Annotated[dict[str, str], doc("wave -> task ids as ranges; the first 100")]
    arrays: Annotated[list[dict[str, Any]], doc("the first 100: name, tasks, elements, wave, max_running")]


@primitive(
    stage="plan",
    errors=[SpecInvalid, ClusterUnknown, ConfigInvalid],
    brief="arrays, waves and time",
    example={"cluster": "local", "total_tasks": 1000, "est_task_sec": 60},
    next_verbs=["submit"],
)
def plan_throughput(request: PlanThroughputRequest, world: World) -> PlanThroughputResult:
    """Plan arrays and waves under a cluster's limits, with an estimate of the time and its lower bound.

    The planner is submit's. Asks no cluster.
    """
    cluster = get_cluster(request.cluster, world.env, world.home)
    constraints = parse_constraints(cluster.constraints)
    wanted = Resources(walltime_sec=request.walltime_sec, cpus=request.cpus)
    at_once = request.at_once if request.pack else min(request.at_once, request.total_tasks)
    resolved = resolve_resources(cluster, wanted, {}, constraints.max_walltime_sec, at_once=at_once)
    walltime = resolved.resources["walltime_sec"]
    most = constraints.max_array_size * constraints.max_concurrent_jobs
    pack = request.pack or choose_pack(request.total_tasks, request.est_task_sec, walltime, most, at_once)
    asked = {name: getattr(request, name) for name in ("total_tasks", "est_task_sec", "cpus", "max_running")}
    plan = compute_submission_plan(WorkloadSpec(pack=pack, at_once=at_once, cores=cluster.cores, **asked), constraints)
    same = (
        "strategy",
        "total_tasks",
        "pack",
        "at_once",
        "n_waves",
        "est_total_wall_sec",
        "lower_bound_sec",
        "est_core_hours",
    )
    return PlanThroughputResult(
        cluster=cluster.name,
        elements=plan.total_elements,
        n_arrays=len(plan.arrays),
        max_concurrent_jobs=constraints.max_concurrent_jobs,
        **{name: getattr(plan, name) for name in same},
        wave_map=dict(list(build_wave_map(plan).items())[:SHOWN]),
        arrays=[{**msgspec.to_builtins(array), "tasks": array.tasks} for array in plan.arrays[:SHOWN]],
    )


class Candidate(msgspec.Struct, kw_only=True):
    """A partition with its score (higher starts sooner), and the reason why it does not fit."""

    partition: str
    fits: bool
    why_not: str = ""
    score: float = 0.0
    idle: Annotated[int | None, doc("elements that could start at once; null: its idle GPUs are not known")] = 0
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


@primitive(
    stage="plan",
    effects=[Effect.SSH],
    errors=SITE_ERRORS,
    brief="the best partition",
    example={"cluster": "local", "walltime_sec": 3600, "mem_mb": 1000},
    next_verbs=["submit", "plan-throughput"],
)
def recommend_partition(request: RecommendPartitionRequest, world: World) -> RecommendPartitionResult:
    """Recommend the partition or queue that fits and probably starts the work first, with reasons for the others.

    Reads sinfo, squeue and sacctmgr, or qstat -g c, qconf and qhost: one SSH command. State, walltime, memory
    and CPUs of a node, and GPUs must fit. Then idle capacity counts, then the queue, then priority.
    """
    node = node_of(world, experiment_root(world.cwd, request.experiment_dir), request.cluster)
    if request.partitions:
        try:
            rows = msgspec.convert(request.partitions, list[PartitionFacts])
        except msgspec.ValidationError as error:
            raise SpecInvalid(f"partitions: {error}", field="partitions") from error
        facts = SiteFacts(scheduler=node.cluster.scheduler, partitions=rows, limits=[])
    else:
        facts = ask_site(node)
    ranked = rank(facts, request, node.cluster)
    chosen, rationale, message = _choose(ranked, request.user_preferred_partition)
    return RecommendPartitionResult(
        recommended_partition=chosen.partition if chosen else None,
        rationale=rationale,
        message=message,
        gpu_type=chosen.gpu_type if chosen else None,
        candidates=ranked,
        partial_errors=[PartialError(code=row["code"], detail=row["detail"]) for row in facts.errors],
    )


def _choose(ranked: list[Candidate], preferred: str | None) -> tuple[Candidate | None, str, str]:
    """Return the candidate with the rationale and the message."""
    fitting = [candidate for candidate in ranked if candidate.fits]
    mine = next((candidate for candidate in ranked if candidate.partition == preferred), None)
    if mine is not None and mine.fits:
        message = f"{mine.partition}, as you prefer: it fits, {_room(mine)}"
        return mine, "user_preferred", message
    aside = f"There is no {preferred}. " if preferred else ""
    if mine is not None:
        aside = f"{preferred} does not fit: {mine.why_not}. "
    if not fitting:
        reasons = "; ".join(f"{c.partition}: {c.why_not}" for c in ranked[:5]) or "the cluster names no partition"
        return None, "none_fit", f"{aside}Nothing fits: {reasons}"
    best = fitting[0]
    message = f"{best.partition}: {_room(best)}, the best of {len(fitting)} that fit"
    return best, "only_fit" if len(fitting) == 1 else "best_fit", aside + message


def _room(candidate: Candidate) -> str:
    if candidate.idle is None:
        return "how many of its GPUs are idle is not known"
    return f"{candidate.idle} elements could start at once"


def rank(facts: SiteFacts, wanted: RecommendPartitionRequest, cluster: Cluster) -> list[Candidate]:
    """Return every partition, the best first: those that fit, then by score, the cluster's default, and priority."""
    ranked = []
    for partition in facts.partitions:
        found = _judge(partition, wanted, cluster)
        default = cluster.default_partition
        preferred = partition.name == default if default else partition.default
        key = (not found.fits, -found.score, not preferred, -(partition.priority_tier or 0), partition.name)
        ranked.append((key, found))
    return [found for _, found in sorted(ranked, key=lambda row: row[0])]


def _judge(partition: PartitionFacts, wanted: RecommendPartitionRequest, cluster: Cluster) -> Candidate:
    gpu = _gpu(partition, wanted, cluster) if wanted.gpus else None
    slots = partition.cpus_idle // wanted.cpus
    if gpu:
        slots = min(slots, (gpu.idle or 0) // wanted.gpus)
    crowd = 1 / (1 + (partition.pending_jobs or 0) / max(1, partition.nodes))
    small = (wanted.walltime_sec or DEBUG_SEC + 1) <= DEBUG_SEC and wanted.total_tasks <= DEBUG_ELEMENTS
    debug = any(word in partition.name.lower() for word in DEBUG_WORDS)
    score = min(1.0, slots / wanted.total_tasks) + 0.25 * crowd
    score *= (_speed(cluster, gpu.type) if gpu else 1.0) * (0.5 if debug and not small else 1.0)
    why_not = _why_not(partition, wanted, cluster, gpu)
    return Candidate(
        partition=partition.name,
        fits=not why_not,
        why_not=why_not,
        score=round(score, 4),
        idle=None if gpu and gpu.idle is None else slots,
        gpu_type=gpu.type if gpu else None,
    )


def _why_not(partition: PartitionFacts, wanted: RecommendPartitionRequest, cluster: Cluster, gpu: Gpu | None) -> str:
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


def _gpu(partition: PartitionFacts, wanted: RecommendPartitionRequest, cluster: Cluster) -> Gpu | None:
    """Return the type of GPU with the most free slots times relative speed, or the largest stock if none is free."""
    stock = list(partition.gpus)
    queue = cluster.gpu_queues.get(partition.name)
    if queue is not None and not stock:  # Grid Engine does not name GPUs; clusters.yaml does
        stock = [Gpu(queue.name, partition.cpus_total, partition.cpus_idle)]
    fitting = [g for g in stock if wanted.gpu_type is None or g.type.lower() == wanted.gpu_type.lower()]
    return max(fitting, key=lambda g: ((g.idle or 0) * _speed(cluster, g.type), g.total, g.type), default=None)


def _speed(cluster: Cluster, gpu_type: str) -> float:
    known = [queue.perf for queue in cluster.gpu_queues.values() if queue.name.lower() == gpu_type.lower()]
    return max(known, default=1.0)
