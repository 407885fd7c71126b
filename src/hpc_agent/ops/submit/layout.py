"""The arrays of a run: sizes, waves, packing, and what is told to people about them."""

from __future__ import annotations

from typing import Any

import msgspec

from hpc_agent.infra.throughput import (
    SubmissionPlan,
    WorkloadSpec,
    build_wave_map,
    choose_pack,
    compute_submission_plan,
)
from hpc_agent.ops.plan.resources import Ask
from hpc_agent.ops.submit.freeze import Frozen
from hpc_agent.ops.submit.spec import SubmitRequest


def plan_arrays(frozen: Frozen, request: SubmitRequest, ask: Ask) -> SubmissionPlan:
    """The plan under the cluster's limits. Raises SpecInvalid when a task cannot fit them."""
    pack = request.pack or choose_pack(
        frozen.tasks.total,
        request.est_task_sec,
        ask.resources["walltime_sec"],
        frozen.constraints.max_array_size * frozen.constraints.max_concurrent_jobs,
    )
    workload = WorkloadSpec(
        total_tasks=frozen.tasks.total, est_task_sec=request.est_task_sec, pack=pack, max_running=request.max_running
    )
    return compute_submission_plan(workload, frozen.constraints)


def ledger_entries(run_id: str, plan: SubmissionPlan, ask: Ask) -> list[dict[str, Any]]:
    """One entry an array, as the node's ledger keeps it. An array waits for every array of the wave before its own."""
    by_wave: dict[int, list[str]] = {}
    for array in plan.arrays:
        by_wave.setdefault(array.wave, []).append(array.name)
    return [
        {
            "array": array.name,
            "name": job_name(run_id, array.name),
            "tasks": array.tasks,
            "elements": array.elements,
            "pack": array.pack,
            "wave": array.wave,
            "generation": 1,
            "after": by_wave.get(array.wave - 1, []),
            "max_running": array.max_running,
            "resources": ask.resources,
            "placement": ask.placement,
        }
        for array in plan.arrays
    ]


def job_name(run_id: str, array: str) -> str:
    """The token under which the array is known to the scheduler; Grid Engine wants a letter first."""
    name = f"{run_id}.{array}"
    return name if name[0].isalpha() else "h" + name


def plan_facts(plan: SubmissionPlan, ask: Ask) -> dict[str, Any]:
    """The plan as it is shown: few numbers, whatever the task count."""
    facts = msgspec.to_builtins(plan)
    arrays = facts.pop("arrays")
    return {
        **facts,
        "arrays": len(arrays),
        "elements_per_array": arrays[0]["elements"],
        "pack": arrays[0]["pack"],
        "resources": ask.resources,
        "placement": {key: value for key, value in ask.placement.items() if value},
        "origin": ask.origin,
        "wave_map": build_wave_map(plan) if len(arrays) <= 20 else {},
    }
