"""Write the arrays of a planned run as entries of the node side's ledger."""

from __future__ import annotations

from typing import Any

import msgspec

from hpc_agent.infra.throughput import ArrayPlan
from hpc_agent.ops.run.planned_run import PlannedRun
from hpc_agent.ops.run.resources import ResolvedResources


def ledger_entries(run_id: str, planned: PlannedRun) -> list[dict[str, Any]]:
    """Return one entry for each array. An array waits for every array of the wave before its own.

    With the chain mode "ahead" each array is followed by its further segments: the same tasks, one generation later,
    after the segment before. A canary comes first, and holds back all other arrays.
    """
    resolved, arrays = planned.resolved, planned.arrays.arrays
    segments = resolved.segments if planned.chain_mode == "ahead" else 1
    by_wave: dict[int, list[str]] = {}
    for array in arrays:
        by_wave.setdefault(array.wave, []).append(_segment_name(array.name, segments))
    entries = []
    if planned.has_canary:
        first = msgspec.structs.replace(arrays[0], name="c0", first_task=0, task_count=1, elements=1, pack=1)
        entries += _chain(run_id, first, resolved, segments, [])
    for array in arrays:
        entries += _chain(run_id, array, resolved, segments, by_wave.get(array.wave - 1, []))
    if planned.has_canary:
        entries[1:] = [{**entry, "held": "canary"} for entry in entries[1:]]
    return entries


def _chain(
    run_id: str, array: ArrayPlan, resolved: ResolvedResources, segments: int, after: list[str]
) -> list[dict[str, Any]]:
    """Return the entries of an array and of its further segments."""
    entries = []
    for segment in range(1, segments + 1):
        entries.append(_entry(run_id, array, resolved, segment, after))
        after = [_segment_name(array.name, segment)]
    return entries


def _segment_name(array: str, segment: int) -> str:
    return array if segment == 1 else f"s{segment}-{array}"


def _entry(
    run_id: str, array: ArrayPlan, resolved: ResolvedResources, segment: int, after: list[str]
) -> dict[str, Any]:
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
        "resources": resolved.resources,
        "placement": resolved.placement,
        "chain": resolved.chained,
    }
    return {**entry, "segment": segment} if segment > 1 else entry


def job_name(run_id: str, array: str) -> str:
    """Return the name of an array's job for the scheduler. Grid Engine wants a letter first."""
    name = f"{run_id}.{array}"
    return name if name[0].isalpha() else "h" + name
