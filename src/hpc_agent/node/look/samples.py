"""Collect the resources that tasks of a run used: a few hundred tasks, spread over the whole run."""

from typing import Any, Dict, List, Optional

from ..shared.errors import NodeError
from ..shared.ledger import read_array
from ..shared.run_folder import RunFolder
from ..shared.task_record import COMPLETE, TaskRecord, read_record

MOST_ROWS = 300


def collect(folder: RunFolder, total: int) -> List[Dict[str, Any]]:
    """Return a row for each of at most 300 complete tasks.

    A row has task, seconds, max_rss_mb (MiB), cpu_seconds, gpu_mem_mb (where it was measured), wait_sec (from the
    array's submission, so also for earlier jobs of the queue), kwargs (scalars only).
    """
    submitted: Dict[str, Optional[float]] = {}
    step = max(1, -(-total // MOST_ROWS))
    rows = []
    for task in range(0, total, step):
        record = read_record(folder, task)
        if record and record.state == COMPLETE:
            rows.append(_row(record, _submitted_at(folder, record.array, submitted)))
    return rows


def _row(record: TaskRecord, submitted_at: Optional[float]) -> Dict[str, Any]:
    row: Dict[str, Any] = {
        name: getattr(record, name) for name in ("task", "seconds", "max_rss_mb", "cpu_seconds", "gpu_mem_mb")
    }
    if submitted_at is not None and record.started_at:
        row["wait_sec"] = round(max(0.0, record.started_at - submitted_at), 1)
    row["kwargs"] = {
        name: value
        for name, value in (record.kwargs or {}).items()
        if isinstance(value, (int, float)) or (isinstance(value, str) and len(value) <= 60)
    }
    return {name: value for name, value in row.items() if value is not None}


def _submitted_at(folder: RunFolder, array: str, known: Dict[str, Optional[float]]) -> Optional[float]:
    if array not in known:
        try:
            entry = read_array(folder, array)
        except (OSError, NodeError):
            entry = None
        known[array] = entry.submitted_at if entry else None
    return known[array]
