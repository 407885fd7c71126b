"""Resources and arrays of a frozen run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hpc_agent.infra.throughput import SubmissionPlan
from hpc_agent.ops.plan.evidence import Evidence, measured
from hpc_agent.ops.plan.resources import Ask, resolve_resources
from hpc_agent.ops.submit.freeze import Frozen
from hpc_agent.ops.submit.layout import pack_of, plan_arrays
from hpc_agent.ops.submit.spec import SubmitRequest


@dataclass(frozen=True)
class Planned:
    """What is asked for, in which arrays, and the measurements behind it."""

    ask: Ask
    plan: SubmissionPlan
    evidence: Evidence | None


def plan_run(frozen: Frozen, request: SubmitRequest) -> Planned:
    """Resources and arrays; what the request leaves open follows what earlier tasks of these executors used.

    Raises SpecInvalid for what the cluster cannot give.
    """
    wanted = request.resources
    gpu_type = wanted.gpu_type if wanted.gpus else None
    evidence = measured(frozen.repo, frozen.cluster.name, frozen.executors, request.executor, gpu_type, frozen.tasks)
    est_task_sec = request.est_task_sec or (evidence.typical_sec if evidence else None)
    pack = pack_of(frozen, request, est_task_sec)
    limit = frozen.constraints.max_walltime_sec
    ask = resolve_resources(frozen.cluster, wanted, _placement(request), limit, evidence, pack)
    return Planned(ask, plan_arrays(frozen, request, ask, pack, est_task_sec), evidence)


def _placement(request: SubmitRequest) -> dict[str, Any]:
    return {
        "partition": request.partition,
        "account": request.account,
        "qos": request.qos,
        "constraint": request.constraint,
        "exclude_nodes": request.exclude_nodes,
        "extra_flags": request.extra_flags,
    }
