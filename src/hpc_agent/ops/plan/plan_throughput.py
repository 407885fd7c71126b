"""``plan-throughput``: arrays, waves and expected time of a number of tasks under a cluster's limits."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from hpc_agent.contract.primitive import Request, Result, primitive
from hpc_agent.errors import ClusterUnknown, ConfigInvalid, SpecInvalid
from hpc_agent.infra.clusters import get_cluster
from hpc_agent.infra.constraints import parse_constraints
from hpc_agent.infra.throughput import WorkloadSpec, build_wave_map, choose_pack, compute_submission_plan
from hpc_agent.ops.run.fields import ClusterName, Positive, PositiveFloat, doc
from hpc_agent.ops.run.resources import Resources, resolve_resources
from hpc_agent.world import World

SHOWN = 100


class PlanThroughputRequest(Request):
    """The number of tasks, their length, and the cluster."""

    cluster: ClusterName
    total_tasks: Annotated[int, doc("number of tasks", gt=0)]
    est_task_sec: Annotated[
        PositiveFloat | None, doc("expected seconds of a task; without it there is no estimate")
    ] = None
    pack: Annotated[Positive | None, doc("tasks of one element, in turn; else chosen")] = None
    cpus: Annotated[int, doc("CPUs of one element", gt=0)] = 1
    max_running: Annotated[Positive | None, doc("limit of elements that run at once")] = None
    walltime_sec: Annotated[Positive | None, doc("limit of one element, seconds")] = None


class PlanThroughputResult(Result):
    cluster: str
    strategy: Annotated[str, doc("the choice and its reason, in a sentence")]
    total_tasks: int
    elements: Annotated[int, doc("array elements in all")]
    pack: Annotated[int, doc("tasks that one element runs in turn")]
    n_arrays: int
    n_waves: Annotated[int, doc("waves; each waits until the one before has ended")]
    max_concurrent_jobs: int
    est_total_wall_sec: float | None
    lower_bound_sec: Annotated[float | None, doc("the same limits without the waits between waves")]
    est_core_hours: float | None
    wave_map: Annotated[dict[str, str], doc("wave -> task ids as ranges; the first 100")]
    arrays: Annotated[list[dict[str, Any]], doc("the first 100: name, tasks, elements, wave, max_running")]


@primitive(stage="plan", errors=[SpecInvalid, ClusterUnknown, ConfigInvalid])
def plan_throughput(request: PlanThroughputRequest, world: World) -> PlanThroughputResult:
    """Plan arrays and waves under a cluster's limits, with an estimate of the time and its lower bound.

    The planner is submit's. Asks no cluster.
    """
    cluster = get_cluster(request.cluster, world.env, world.home)
    constraints = parse_constraints(cluster.constraints)
    wanted = Resources(walltime_sec=request.walltime_sec, cpus=request.cpus)
    resolved = resolve_resources(cluster, wanted, {}, constraints.max_walltime_sec)
    most = constraints.max_array_size * constraints.max_concurrent_jobs
    pack = request.pack or choose_pack(
        request.total_tasks, request.est_task_sec, resolved.resources["walltime_sec"], most
    )
    asked = {name: getattr(request, name) for name in ("total_tasks", "est_task_sec", "cpus", "max_running")}
    plan = compute_submission_plan(WorkloadSpec(pack=pack, **asked), constraints)
    return PlanThroughputResult(
        cluster=cluster.name,
        strategy=plan.strategy,
        total_tasks=plan.total_tasks,
        elements=plan.total_elements,
        pack=plan.pack,
        n_arrays=len(plan.arrays),
        n_waves=plan.n_waves,
        max_concurrent_jobs=constraints.max_concurrent_jobs,
        est_total_wall_sec=plan.est_total_wall_sec,
        lower_bound_sec=plan.lower_bound_sec,
        est_core_hours=plan.est_core_hours,
        wave_map=dict(list(build_wave_map(plan).items())[:SHOWN]),
        arrays=[{**msgspec.to_builtins(array), "tasks": array.tasks} for array in plan.arrays[:SHOWN]],
    )
