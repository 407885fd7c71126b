"""Diagnose failed tasks: classify each from its record, accounting and the end of its log."""

import os
from typing import List, NamedTuple

from ..look.failure_facts import FailureFacts
from ..look.logs import scheduler_output
from ..look.run_status import RunStatus
from ..shared.files import tail
from ..shared.ledger import Array
from ..shared.task_record import read_record
from ..shared.task_states import LOST
from .classify import Classification, Limits, classify

# The logs of further tasks are not read: their cause alone classifies them.
READ_AT_MOST = 3000
TAIL_LINES, TAIL_BYTES = 60, 16 << 10


class Diagnosis(NamedTuple):
    """A failed task, its class, the array of its latest attempt, and the arrays of its resubmissions."""

    task: int
    found: Classification
    facts: FailureFacts
    array: Array
    resubmits: List[Array]
    log_tail: str = ""


def diagnose(status: RunStatus, tasks: List[int]) -> List[Diagnosis]:
    return [_diagnose_one(status, task, position < READ_AT_MOST) for position, task in enumerate(tasks)]


def _diagnose_one(status: RunStatus, task: int, read_logs: bool) -> Diagnosis:
    facts = status.records.failed.get(task) or FailureFacts(
        "unknown", "neither its record nor the scheduler tells how it ended"
    )
    arrays = status.arrays_with(task)
    entry = next((a for a in arrays if a.generation == facts.generation), arrays[-1])
    log_tail = scheduler_tail = ""
    if read_logs:
        record = read_record(status.folder, task) if status.state[task] != LOST else None
        log = status.folder.log(task, entry.generation)
        log_tail = tail(log, TAIL_LINES, TAIL_BYTES) or (record and record.log_tail) or ""
        scheduler_tail = scheduler_output(status.folder, [entry], task, TAIL_LINES)
    asked = entry.resources
    limits = Limits(asked.get("mem_mb"), asked.get("walltime_sec"), _has_files(status.folder.checkpoints(task)))
    found = classify(facts, limits, log_tail, scheduler_tail)
    return Diagnosis(task, found, facts, entry, [a for a in arrays if a.resubmit], log_tail)


def _has_files(folder: str) -> bool:
    """Return True if the folder has files: a task that was killed with its dispatcher may leave it empty."""
    try:
        return bool(os.listdir(folder))
    except OSError:
        return False
