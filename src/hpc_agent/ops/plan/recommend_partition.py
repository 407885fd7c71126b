"""``recommend-partition``: which partition or queue would start the work soonest, asked of the live cluster."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from hpc_agent.contract.primitive import Effect, PartialError, Request, Result, primitive
from hpc_agent.errors import (
    ClusterTimeout,
    ClusterUnknown,
    ConfigInvalid,
    RemoteCommandFailed,
    SpecInvalid,
    SshUnreachable,
)
from hpc_agent.infra.site import PartitionFacts, SiteFacts, ask_site
from hpc_agent.ops.plan.partitions import Candidate, Wanted, rank
from hpc_agent.ops.runs import node_of
from hpc_agent.state.layout import experiment_root
from hpc_agent.world import World


class RecommendPartitionRequest(Request):
    """What one element needs."""

    cluster: Annotated[str, Meta(description="name in clusters.yaml")]
    walltime_sec: Annotated[Annotated[int, Meta(gt=0)] | None, Meta(description="seconds of one element")] = None
    mem_mb: Annotated[Annotated[int, Meta(gt=0)] | None, Meta(description="memory of one element, MiB")] = None
    cpus: Annotated[int, Meta(gt=0, description="CPUs of one element")] = 1
    gpus: Annotated[int, Meta(ge=0, description="GPUs of one element")] = 0
    gpu_type: Annotated[str | None, Meta(description="kind of GPU, as the site names it")] = None
    total_tasks: Annotated[int, Meta(gt=0, description="how many elements there are")] = 1
    user_preferred_partition: Annotated[str | None, Meta(description="taken when it fits")] = None
    partitions: Annotated[
        list[dict[str, Any]],
        Meta(description="facts to rank instead of asking the cluster: name, state, cpus_idle, ..."),
    ] = []
    experiment_dir: Annotated[str, Meta(description="the experiment repo")] = "."


class RecommendPartitionResult(Result):
    recommended_partition: str | None
    rationale: Annotated[str, Meta(description="user_preferred, only_fit, best_fit or none_fit")]
    message: str
    gpu_type: str | None
    candidates: Annotated[
        list[Candidate], Meta(description="every partition, the best first, and why others do not fit")
    ]


@primitive(
    stage="plan",
    effects=[Effect.SSH],
    errors=[SpecInvalid, ClusterUnknown, ConfigInvalid, SshUnreachable, ClusterTimeout, RemoteCommandFailed],
)
def recommend_partition(request: RecommendPartitionRequest, world: World) -> RecommendPartitionResult:
    """The partition or queue that fits and is likely to start the work soonest, and why the others are not it.

    Reads sinfo, squeue and sacctmgr, or qstat -g c, qconf and qhost: one SSH command. Fits means state, walltime, memory and
    CPUs of a node, GPUs. Then idle capacity counts, then the queue, then priority.
    """
    repo = experiment_root(world.cwd, request.experiment_dir)
    node = node_of(world, repo, request.cluster)
    wanted = Wanted(
        walltime_sec=request.walltime_sec,
        mem_mb=request.mem_mb,
        cpus=request.cpus,
        gpus=request.gpus,
        gpu_type=request.gpu_type,
        elements=request.total_tasks,
    )
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
