"""Plan a frozen run: the resources of an element, the arrays, the waves, and their entries in the ledger."""

from __future__ import annotations

from dataclasses import dataclass
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
from hpc_agent.ops.run.evidence import Evidence, measured
from hpc_agent.ops.run.freeze import FrozenRun
from hpc_agent.ops.run.resources import ResolvedResources, resolve_resources
from hpc_agent.ops.run.run_request import SubmitRequest
from hpc_agent.state.runs import Sidecar

PLACEMENT = ("partition", "account", "qos", "constraint", "exclude_nodes", "extra_flags")
MOST_ARRAYS_IN_WAVE_MAP = 20
USUAL = {"at_once": 1, "isolate": "warm"}


@dataclass(frozen=True)
class PlannedRun:
    """A frozen run with its request, the resources of an element, the arrays, and the measurements behind them."""

    frozen: FrozenRun
    request: SubmitRequest
    resolved: ResolvedResources
    arrays: SubmissionPlan
    evidence: Evidence | None

    @property
    def has_canary(self) -> bool:
        """Return True for a plan that begins with task 1: task 0 runs first, alone."""
        return self.arrays.arrays[0].first_task == 1

    @property
    def chain_mode(self) -> str | None:
        """Return "detect" or "ahead" for a chain of segments, None for a run without a chain."""
        if not self.resolved.chained:
            return None
        return "detect" if self.frozen.cluster.auto_daisy_chain == "detect" else "ahead"

    def wave_map(self) -> dict[str, str]:
        """Return wave -> ranges of task ids. The canary belongs to the first wave."""
        waves = build_wave_map(self.arrays)
        if self.has_canary:
            first = waves["0"]
            waves["0"] = f"0-{first.partition('-')[2] or first}"
        return waves

    def shape(self) -> dict[str, Any]:
        """Return what a sidecar keeps as its plan, beside the fields that it has by themselves."""
        facts = msgspec.to_builtins(self.arrays)
        arrays = facts.pop("arrays")
        del facts["total_tasks"]
        return {
            **facts,
            "arrays": len(arrays),
            "elements_per_array": arrays[0]["elements"],
            "pack": arrays[0]["pack"],
            "isolate": self.request.isolate,
            "max_running": self.request.max_running,
            "origin": self.resolved.origin,
            "segments": self.resolved.segments,
        }

    def facts(self) -> dict[str, Any]:
        """Return the plan as verbs show it: of the same size for every number of tasks."""
        facts = {
            "total_tasks": self.frozen.tasks.total,
            "canary": self.has_canary,
            "resources": self.resolved.resources,
        }
        return _facts(self.shape(), self.resolved.placement, self.wave_map(), **facts)


def plan_run(frozen: FrozenRun, request: SubmitRequest) -> PlannedRun:
    """Choose resources, arrays and waves. Open fields of the request follow from the measured tasks.

    Raises SpecInvalid for a request that exceeds the cluster's limits.
    """
    wanted, limits, total = request.resources, frozen.constraints, frozen.tasks.total
    gpu_type = wanted.gpu_type if wanted.gpus else None
    evidence = measured(frozen.repo, frozen.cluster.name, frozen.executors, request.executor, gpu_type, frozen.tasks)
    est_task_sec = request.est_task_sec or (evidence.time.typical_sec if evidence and evidence.time else None)
    longest = wanted.walltime_sec or limits.max_walltime_sec
    most_elements = limits.max_array_size * limits.max_concurrent_jobs
    at_once = request.at_once if request.pack else min(request.at_once, total)
    pack = request.pack or choose_pack(total, est_task_sec, longest, most_elements, at_once)
    placement = {name: getattr(request, name) for name in PLACEMENT}
    resolved = resolve_resources(frozen.cluster, wanted, placement, limits.max_walltime_sec, evidence, pack, at_once)
    # A run of one task is its own canary.
    first = 1 if request.canary and total > 1 else 0
    workload = WorkloadSpec(
        total_tasks=total - first,
        est_task_sec=est_task_sec,
        pack=pack,
        at_once=at_once,
        cpus=resolved.resources["cpus"],
        max_running=request.max_running,
        first_task=first,
        cores=frozen.cluster.cores,
    )
    return PlannedRun(frozen, request, resolved, compute_submission_plan(workload, limits), evidence)


def _facts(plan: dict[str, Any], placement: dict[str, Any], waves: dict[str, str], **facts: Any) -> dict[str, Any]:
    shown = {key: value for key, value in placement.items() if value}
    few = plan.get("arrays", len(waves)) <= MOST_ARRAYS_IN_WAVE_MAP
    return {**plan, **facts, "placement": shown, "wave_map": waves if few else {}}


def plan_facts(run: Sidecar) -> dict[str, Any]:
    """Return the plan with which a run was submitted; of a run of an earlier version resources, placement and waves only."""
    facts = {"total_tasks": run.task_count, "canary": run.canary, "resources": run.resources}
    return _facts(run.plan, run.placement, run.wave_map, **facts)


def differences(planned: PlannedRun, plan: dict[str, Any]) -> list[str]:
    """Return a sentence for each group of arrays whose jobs have something else than this request names."""
    request, resolved = planned.request, planned.resolved
    asked = {name: getattr(request, name) for name in (*PLACEMENT, "pack", "max_running") if getattr(request, name)}
    # The defaults of these fields are values too: only another value says what is wanted.
    asked |= {name: getattr(request, name) for name, usual in USUAL.items() if getattr(request, name) != usual}
    asked |= {
        name: value
        for name, value in resolved.resources.items()
        if name not in ("walltime_sec", "mem_mb") or resolved.origin[name].startswith("request")
    }
    found = []
    for group in plan.get("by_array") or [{**plan, "arrays": []}]:
        has = {**plan, **group["resources"], **group["placement"]}
        unrecorded = {"pack", "max_running", *USUAL} - plan.keys()  # in a run of an earlier version
        other = [
            f"{name} {'unset' if has.get(name) is None else has[name]}, not {value}"
            for name, value in asked.items()
            if has.get(name) != value and name not in unrecorded
        ]
        if other:
            found.append(f"the jobs of {', '.join(group['arrays']) or 'the run'} have {'; '.join(other)}")
    return found


def ledger_entries(run_id: str, planned: PlannedRun) -> list[dict[str, Any]]:
    """Return one entry for each array. An array waits for the one that has its place in the wave before its own.

    So no more arrays than a wave has are ready at once, and none waits for the stragglers of the others. With the chain
    mode "ahead" each array is followed by its further segments: the same tasks, one generation later, after the segment
    before. A canary comes first, and holds back all other arrays.
    """
    resolved, arrays = planned.resolved, planned.arrays.arrays
    segments = resolved.segments if planned.chain_mode == "ahead" else 1
    waves: dict[int, list[ArrayPlan]] = {}
    entries = []
    if planned.has_canary:
        first = msgspec.structs.replace(arrays[0], name="c0", first_task=0, task_count=1, elements=1, pack=1, at_once=1)
        entries += _chain(run_id, first, resolved, segments, [])
    for array in arrays:
        before = _before(array, len(waves.setdefault(array.wave, [])), waves.get(array.wave - 1, []))
        waves[array.wave].append(array)
        entries += _chain(run_id, array, resolved, segments, [_segment_name(one.name, segments) for one in before])
    if planned.has_canary:
        entries[1:] = [{**entry, "held": "canary"} for entry in entries[1:]]
    return entries


def _before(array: ArrayPlan, place: int, wave_before: list[ArrayPlan]) -> list[ArrayPlan]:
    """Return the arrays that an array waits for. One with a larger throttle than its predecessor's has the shares of several."""
    same = wave_before[place : place + 1]
    return same if [one.max_running for one in same] == [array.max_running] else wave_before


def _chain(
    run_id: str, array: ArrayPlan, resolved: ResolvedResources, segments: int, after: list[str]
) -> list[dict[str, Any]]:
    """Return the entries of an array and of its further segments."""
    entries = []
    for segment in range(1, segments + 1):
        name = _segment_name(array.name, segment)
        entry = {
            "array": name,
            "name": job_name(run_id, name),
            "tasks": array.tasks,
            "elements": array.elements,
            "pack": array.pack,
            "at_once": array.at_once,
            "wave": array.wave,
            "generation": segment,
            "after": after,
            "max_running": array.max_running,
            "resources": resolved.resources,
            "placement": resolved.placement,
            "chain": resolved.chained,
        }
        entries.append({**entry, "segment": segment} if segment > 1 else entry)
        after = [name]
    return entries


def _segment_name(array: str, segment: int) -> str:
    return array if segment == 1 else f"s{segment}-{array}"


def job_name(run_id: str, array: str) -> str:
    """Return the name of an array's job for the scheduler. Grid Engine wants a letter first."""
    name = f"{run_id}.{array}"
    return name if name[0].isalpha() else "h" + name
