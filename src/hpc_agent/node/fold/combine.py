"""Fold the records of each wave into one partial, on the cluster. The client receives the partials only."""

import math
import os
from typing import Any, Callable, Dict, List, Optional, Set

from ..look import usage
from ..look.run_status import RunStatus
from ..shared import task_states
from ..shared.errors import NodeError
from ..shared.files import make_folder, read_json, read_object, write_json
from ..shared.ledger import Array
from ..shared.metric_problems import MetricProblems
from ..shared.metric_table import Table, is_weight
from ..shared.ranges import decode_ranges, encode_ranges
from ..shared.run_folder import RunFolder, existing_run
from ..shared.rungs import STOPPED_AT
from ..shared.task_record import TaskRecord
from ..shared.task_records import Records

FORMAT = 3  # of a partial; one of another format is folded again
NOT_ENDED = (task_states.PENDING, task_states.RUNNING, task_states.UNKNOWN)


def combine(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return the partials of the asked waves (all by default).

    A kept partial is used while no other task is complete, unless the request says ``force``.
    The scheduler is asked about tasks without a record of their latest attempt: they may have failed without one.
    """
    folder = existing_run(request["root"], request["run_id"])
    run = read_json(folder.document)
    status = RunStatus(folder, request.get("site") or {})
    status.save()
    waves = waves_of(status.arrays)
    chosen = [str(wave) for wave in request.get("waves") or waves]
    for wave in chosen:
        if wave not in waves:
            raise NodeError("spec_invalid", "there is no wave %s; the run has waves %s" % (wave, ", ".join(waves)))
    replicates = sorted(request.get("replicates") or [])
    force = bool(request.get("force"))
    return {
        "waves": {wave: _wave(status, run, wave, waves[wave], replicates, force) for wave in chosen},
        # A later status of the ended run measures again, also the tasks without a record.
        "measured": usage.used_resources(status.reader, status.total) if request.get("measure") else [],
        "measured_as": "records",
        "stale": status.stale,
    }


def waves_of(arrays: List[Array]) -> Dict[str, List[int]]:
    """Return the tasks of each wave. A task counts once, for the first wave that has it, though several arrays name it."""
    waves: Dict[str, List[int]] = {}
    seen: Set[int] = set()
    for array in sorted((a for a in arrays if a.generation == 1), key=lambda a: a.wave):
        new = [task for task in decode_ranges(array.tasks) if task not in seen]
        seen.update(new)
        waves.setdefault(str(array.wave), []).extend(new)
    return {wave: sorted(members) for wave, members in waves.items()}


def _wave(
    status: RunStatus, run: Dict[str, Any], wave: str, members: List[int], replicates: List[str], force: bool
) -> Dict[str, Any]:
    folder, states = status.folder, status.state
    complete = [task for task in members if states[task] == task_states.COMPLETE]
    path = partial_path(folder, wave)
    if os.path.isdir(path):
        remedy = "Move that folder away on the cluster, then run 'hpc-agent aggregate --run-id %s'." % run["run_id"]
        raise NodeError("combiner_failed", "%s is a folder, so no partial can be written there" % path, remedy)
    kept = read_object(path)
    partial = {
        "format": FORMAT,
        "wave": int(wave),
        "run_id": run["run_id"],
        "included": encode_ranges(complete),
        "replicates": replicates,
        "tasks": len(members),
        "failed": encode_ranges(t for t in members if states[t] in (task_states.FAILED, task_states.LOST)),
        "missing": encode_ranges(t for t in members if states[t] in NOT_ENDED),
        "oom_killed": encode_ranges(set(members).intersection(status.records.oom_killed)),
    }
    same = all(kept.get(name) == partial[name] for name in ("format", "run_id", "wave", "included", "replicates"))
    if same and not force and tasks_in(kept) == len(complete):
        return dict(kept, **partial, fresh=False)
    partial.update(fold(status.reader, run, complete, replicates))
    make_folder(folder.combiner)
    write_json(path, partial)
    return dict(partial, fresh=True)


def partial_path(folder: RunFolder, wave: str) -> str:
    return os.path.join(folder.combiner, "wave_%s.json" % wave)


def tasks_in(partial: Dict[str, Any]) -> int:
    """Return the number of tasks in the table of a partial; -1 where it is damaged."""
    try:
        return sum(count for count, _ in partial["table"]["groups"].values())
    except (KeyError, TypeError, ValueError, AttributeError):
        return -1


def fold(
    reader: Records,
    run: Dict[str, Any],
    tasks: List[int],
    replicates: List[str],
    each: Optional[Callable[[int, Optional[TaskRecord]], None]] = None,
) -> Dict[str, Any]:
    """Return the table of the tasks, the first value of each replicate axis, their usage, and the tasks without metrics.

    ``each`` gets every task with its record in turn, None where that cannot be read: without ``each`` that is an error.
    """
    table = Table(replicates=replicates)
    weight_name = (run.get("results") or {}).get("weight")
    empty: List[int] = []
    names: Set[str] = set()
    first: Dict[str, Any] = {}
    problems = MetricProblems()
    stopped_early = 0
    cpu = wall = 0.0
    for task in tasks:
        record = reader.read(task)
        if each:
            each(task, record)
        if record is None:
            if each:
                continue
            raise NodeError("combiner_failed", "the record of task %d cannot be read" % task)
        if not add_record(table, problems, record, weight_name):
            empty.append(task)
        kwargs = record.kwargs or {}
        names.update(kwargs)
        for name in set(replicates).intersection(kwargs):
            first.setdefault(name, kwargs[name])
        stopped_early += bool(run.get("early_stop")) and STOPPED_AT in (record.metrics or {})
        cpu += record.cpu_seconds or 0.0
        wall += record.seconds or 0.0
    return {
        "table": table.to_json(),
        "kwargs": sorted(names),
        "first": first,
        "without_metrics": encode_ranges(empty),
        "metrics_problems": problems.to_json(),
        "stopped_early": stopped_early,
        "usage": {"cpu_seconds": round(cpu, 3), "task_seconds": round(wall, 3)},
    }


def add_record(table: Table, problems: MetricProblems, record: TaskRecord, weight_name: Optional[str]) -> bool:
    """Add the metrics of a complete task to the table, and what is wrong with them to the problems. Return False for none."""
    task, values = record.task, {name: _value(value) for name, value in (record.metrics or {}).items()}
    if record.metrics_problem:
        problems.add([task], record.metrics_problem[:300])
    for left_out in record.metrics_left_out or []:
        problems.add([task], left_out["message"], left_out["field"], left_out["value"])
    weight: Any = values.get(weight_name) if weight_name else 1.0
    if values and not is_weight(weight):
        message = "the weight is no positive number: the task's values are counted in nan_count"
        problems.add([task], message, weight_name, str(weight)[:60])
        weight = math.nan
    table.add_task(record.kwargs or {}, values, weight)
    return bool(values)


def _value(value: Any) -> Any:
    """Return the value of a record as a number: records hold non-finite numbers as text, to stay strict JSON."""
    if isinstance(value, list):
        return [_value(item) for item in value]
    return float(value) if isinstance(value, str) else value
