"""The arrays of a run: sizes, waves, packing, and what is told to people about them."""

from __future__ import annotations

from typing import Any

import msgspec

from hpc_agent.infra.throughput import (
    ArrayPlan,
    SubmissionPlan,
    WorkloadSpec,
    build_wave_map,
    choose_pack,
    compute_submission_plan,
)
from hpc_agent.ops.plan.resources import Ask
from hpc_agent.ops.submit.freeze import Frozen
from hpc_agent.ops.submit.spec import SubmitRequest


def pack_of(frozen: Frozen, request: SubmitRequest, est_task_sec: float | None) -> int:
    """How many tasks an element runs in turn: as asked for, else so many that an element is worth its start."""
    return request.pack or choose_pack(
        frozen.tasks.total,
        est_task_sec,
        request.resources.walltime_sec or frozen.constraints.max_walltime_sec,
        frozen.constraints.max_array_size * frozen.constraints.max_concurrent_jobs,
    )


def plan_arrays(
    frozen: Frozen, request: SubmitRequest, ask: Ask, pack: int, est_task_sec: float | None
) -> SubmissionPlan:
    """The plan under the cluster's limits. Raises SpecInvalid when a task cannot fit them."""
    first = 1 if canary_wanted(frozen, request) else 0
    workload = WorkloadSpec(
        total_tasks=frozen.tasks.total - first,
        est_task_sec=est_task_sec,
        pack=pack,
        cpus=ask.resources["cpus"],
        max_running=request.max_running,
        first_task=first,
    )
    return compute_submission_plan(workload, frozen.constraints)


def canary_wanted(frozen: Frozen, request: SubmitRequest) -> bool:
    """A run of one task is its own canary."""
    return request.canary and frozen.tasks.total > 1


def ledger_entries(run_id: str, plan: SubmissionPlan, ask: Ask, chain: str | None) -> list[dict[str, Any]]:
    """One entry an array, as the node's ledger keeps it. An array waits for every array of the wave before its own.

    With ``chain`` "ahead", each array is followed by its further segments: the same tasks, a generation later, after
    the segment before. A plan that begins with task 1 has a canary in front, for which all the rest is held back.
    """
    canary = has_canary(plan)
    segments = ask.segments if chain == "ahead" else 1
    by_wave: dict[int, list[str]] = {}
    for array in plan.arrays:
        by_wave.setdefault(array.wave, []).append(_segment_name(array.name, segments))
    entries = []
    if canary:
        first = msgspec.structs.replace(plan.arrays[0], name="c0", first_task=0, task_count=1, elements=1, pack=1)
        entries.append(_entry(run_id, first, ask, 1, []))
        for segment in range(2, segments + 1):
            entry = _entry(run_id, first, ask, segment, [_segment_name("c0", segment - 1)])
            entries.append({**entry, "held": "canary"})
    for array in plan.arrays:
        after = by_wave.get(array.wave - 1, [])
        for segment in range(1, segments + 1):
            entry = _entry(run_id, array, ask, segment, after)
            entries.append({**entry, "held": "canary"} if canary else entry)
            after = [_segment_name(array.name, segment)]
    return entries


def _segment_name(array: str, segment: int) -> str:
    return array if segment == 1 else f"s{segment}-{array}"


def _entry(run_id: str, array: ArrayPlan, ask: Ask, segment: int, after: list[str]) -> dict[str, Any]:
    name = _segment_name(array.name, segment)
    entry = {
        "array": name,
        "name": job_name(run_id, name),
        "tasks": array.tasks,
        "elements": array.elements,
        "pack": array.pack,
        "wave": array.wave,
        "generation": segment,
        "after": after,
        "max_running": array.max_running,
        "resources": ask.resources,
        "placement": ask.placement,
        "chain": ask.chained,
    }
    return {**entry, "segment": segment} if segment > 1 else entry


def job_name(run_id: str, array: str) -> str:
    """The token under which the array is known to the scheduler; Grid Engine wants a letter first."""
    name = f"{run_id}.{array}"
    return name if name[0].isalpha() else "h" + name


def has_canary(plan: SubmissionPlan) -> bool:
    return plan.arrays[0].first_task == 1


def wave_map(plan: SubmissionPlan) -> dict[str, str]:
    """Wave -> its tasks; the canary counts to the first."""
    waves = build_wave_map(plan)
    if has_canary(plan):
        first = waves["0"]
        waves["0"] = f"0-{first.partition('-')[2] or first}"
    return waves


def plan_facts(plan: SubmissionPlan, ask: Ask) -> dict[str, Any]:
    """The plan as it is shown: few numbers, whatever the task count."""
    facts = msgspec.to_builtins(plan)
    arrays = facts.pop("arrays")
    canary = has_canary(plan)
    return {
        **facts,
        "total_tasks": plan.total_tasks + canary,
        "canary": canary,
        "arrays": len(arrays),
        "elements_per_array": arrays[0]["elements"],
        "pack": arrays[0]["pack"],
        "resources": ask.resources,
        "placement": {key: value for key, value in ask.placement.items() if value},
        "origin": ask.origin,
        "segments": ask.segments,
        "wave_map": wave_map(plan) if len(arrays) <= 20 else {},
    }
