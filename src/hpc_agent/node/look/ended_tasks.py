"""The ended tasks of many runs, for a client that names those that it knows already: a campaign looks in one command."""

import math
import time
from typing import Any, Dict, List, Optional, Set

from ..shared.errors import NodeError
from ..shared.ranges import decode_ranges
from ..shared.rungs import STOPPED_AT
from ..shared.task_record import TaskRecord
from ..shared.task_states import COMPLETE, FAILED, LOST, UNKNOWN
from .known_runs import statuses
from .records import REQUEUEABLE
from .report import status_answer
from .run_status import RunStatus

MESSAGE_LIMIT = 200
MOST_NAMES = 10
# An end is told once and for good, so that a record which a file server brings late must have had its time.
GIVEN_UP_SEC = 3600


def ended(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return the new ends of tasks. Request: ``runs`` = [{root, run_id, known: ranges}], ``metrics``: the names wanted.

    Each run has ``ended`` (task -> state, metrics, seconds, cpus, why; ``wrote``: where a metric is missing, the names of its
    numbers), the ``counts`` of its tasks, its
    ``lifecycle_state``, the arrays ``to_submit`` and ``held`` for the canary, and ``stale``; or its ``error`` and ``code``.
    """
    known = {run["run_id"]: decode_ranges(run.get("known") or "") for run in request["runs"]}
    answers: Dict[str, Any] = {}
    for run_id, found in statuses(request):
        if isinstance(found, NodeError):
            answers[run_id] = {"error": found.message, "code": found.code}
            continue
        answers[run_id] = _ends(found, set(known[run_id]), request["metrics"])
        found.save()
    return {"runs": answers}


def _ends(status: RunStatus, known: Set[int], metrics: List[str]) -> Dict[str, Any]:
    whole = status_answer(status)
    final = {COMPLETE, FAILED, LOST}
    if whole["lifecycle_state"] == "abandoned" and time.time() - status.cache["unknown_since"] > GIVEN_UP_SEC:
        final.add(UNKNOWN)
    new = [task for task in range(status.total) if status.state[task] in final and task not in known]
    ends = {str(task): _end(status, task, metrics) for task in new if not _may_run_again(status, task)}
    return {
        "ended": {task: end for task, end in ends.items() if end},
        "counts": whole["counts"],
        "lifecycle_state": whole["lifecycle_state"],
        "to_submit": whole["to_submit"],
        "held": whole["held_for_canary"],
        "stale": (whole["stale"] or {}).get("error"),
    }


def _may_run_again(status: RunStatus, task: int) -> bool:
    """Return True for a failed task that may be in the queue again: nobody could ask, or accounting explains it later."""
    facts = status.records.failed.get(task)
    unclear = status.stale or (status.unexplained and facts and facts.cause in REQUEUEABLE)
    return status.state[task] != COMPLETE and bool(unclear)


def _end(status: RunStatus, task: int, metrics: List[str]) -> Optional[Dict[str, Any]]:
    """Return the end of a task; None while its record cannot be read."""
    record = status.reader.read(task)
    arrays = status.arrays_with(task)
    resources = (arrays[-1].resources if arrays else {}) or status.run.resources
    end: Dict[str, Any] = {"cpus": int(resources.get("cpus") or 1)}
    if status.state[task] != COMPLETE:
        facts = status.records.failed.get(task)
        told = (facts.cause or facts.raw, facts.message) if facts else ("lost", "the task left no trace for an hour")
        why = ": ".join(filter(None, told))[:MESSAGE_LIMIT]
        return dict(end, state="failed", why=why, seconds=_seconds(record, facts.seconds if facts else None))
    if record is None:
        return None
    values = record.metrics or {}
    end.update(
        state="stopped" if status.run.early_stop and STOPPED_AT in values else "complete",
        metrics={name: _mean(values[name]) for name in [*metrics, STOPPED_AT] if name in values},
        seconds=_seconds(record, record.seconds),
    )
    if any(name not in values for name in metrics):
        numbers = sorted(name for name, value in values.items() if isinstance(_mean(value), (int, float)))
        more = ["and %d more" % (len(numbers) - MOST_NAMES)] if len(numbers) > MOST_NAMES else []
        end["wrote"] = numbers[:MOST_NAMES] + more
    return dict(end, why=record.metrics_problem[:MESSAGE_LIMIT]) if record.metrics_problem else end


def _mean(value: Any) -> Any:
    """Return the mean of several observations; any other value as it is."""
    numbers = isinstance(value, list) and value and all(isinstance(one, (int, float)) for one in value)
    return math.fsum(value) / len(value) if numbers else value


def _seconds(record: Optional[TaskRecord], last: Optional[float]) -> float:
    """Return the seconds of all attempts of a task."""
    earlier = sum(float(row.get("seconds") or 0) for row in record.history) if record else 0.0
    return round(earlier + (last or 0.0), 3)
