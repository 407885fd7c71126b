"""Set the states of tasks from the ledger and from the rows of the queue."""

import os
from typing import Dict, List, Tuple

from ..schedulers.base import QueueRow
from ..shared import waiting_reasons
from ..shared.ledger import Array
from ..shared.ranges import slice_spans, spans
from ..shared.task_record import COMPLETE, read_record
from ..shared.task_states import COMPLETE as COMPLETE_STATE
from ..shared.task_states import FAILED, PENDING, RUNNING, UNKNOWN
from .attempts import Attempts
from .failure_facts import FailureFacts

ACTIVE = ("running", "completing", "suspended")
_SET_UNKNOWN_TO = {to: bytes(to if byte == UNKNOWN else byte for byte in range(256)) for to in (PENDING, RUNNING)}


class QueueStates(object):
    """Marks the tasks that wait or run. ``waiting`` says why tasks wait: (state, reason) -> count."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._state = attempts.state
        self._queued = bytearray(attempts.total)
        self.waiting: Dict[Tuple[str, str], int] = {}

    def mark_unsubmitted(self, entry: Array) -> None:
        reason = waiting_reasons.UNSUBMITTED[str(entry.held or entry.state)]
        if entry.message:
            reason = "%s: %s" % (reason, entry.message)
        count = sum(self._mark(entry, start, stop, PENDING) for start, stop in spans(entry.tasks))
        self._count_waiting("not submitted", reason, count)

    def mark_submitted(self, rows: List[QueueRow], submitted: List[Array]) -> None:
        """Mark the tasks of the queue's rows; then settle the tasks that have left the queue by their records."""
        by_job = {str(a.job_id): a for a in submitted}
        for row in rows:
            entry = by_job.get(row.job)
            # Job ids are used again: another name is another job.
            if entry is None or (row.name or entry.name) != entry.name:
                continue
            active = row.state in ACTIVE
            touched = self._mark_elements(entry, row.elements, active)
            if not active or row.state == "suspended":
                self._count_waiting(row.state, row.reason, touched)
        self._drop_superseded(submitted)
        self._read_late_records(submitted)

    def _mark_elements(self, entry: Array, elements: str, active: bool) -> int:
        touched = 0
        for first, stop in spans(elements):
            for start, end in slice_spans(entry.tasks, first * entry.pack, (stop - first) * entry.pack):
                if active and entry.pack > 1:
                    self._mark_packed(entry, start, end)
                else:
                    touched += self._mark(entry, start, end, RUNNING if active else PENDING)
        return touched

    def _mark_packed(self, entry: Array, start: int, stop: int) -> None:
        """Mark the tasks of an active element that runs several in turn: the claimed ones run, the others wait."""
        for task in range(start, stop):
            self._mark(entry, task, task + 1, RUNNING if self._attempts.is_claimed(entry, task) else PENDING)

    def _mark(self, entry: Array, start: int, stop: int, to: int) -> int:
        """Set the tasks without a final record to state ``to``. Return their number."""
        self._queued[start:stop] = b"\1" * (stop - start)
        part = self._state[start:stop]
        touched = part.count(UNKNOWN)
        self._state[start:stop] = part.translate(_SET_UNKNOWN_TO[to])
        for task in self._attempts.failed_between(start, stop):
            latest = self._state[task] == FAILED and self._attempts.is_latest(entry, task)
            if latest and self._is_active_again(entry, task, to):
                self._state[task] = to
                touched += 1
        return touched

    def _is_active_again(self, entry: Array, task: int, to: int) -> bool:
        """Return True if a task with a failed record waits or runs again in this array."""
        if not self._attempts.has_ended(entry, task):
            return True
        if not self._attempts.may_be_requeued(entry, task):
            return False
        # A pending element was put back. A running one may only be completing, unless it claimed the task anew.
        return to == PENDING or self._claimed_after_record(task, entry.generation)

    def _claimed_after_record(self, task: int, generation: int) -> bool:
        folder = self._attempts.folder
        try:
            return os.stat(folder.claim(task, generation)).st_mtime_ns > os.stat(folder.record(task)).st_mtime_ns
        except OSError:
            return False

    def _count_waiting(self, state: str, reason: str, count: int) -> None:
        if count:
            self.waiting[(state, reason)] = self.waiting.get((state, reason), 0) + count

    def _drop_superseded(self, submitted: List[Array]) -> None:
        """Set tasks to UNKNOWN whose failed record is of an older attempt and whose newer one has left the queue."""
        for entry in submitted:
            for task in self._attempts.failed_records(entry) if entry.generation > 1 else ():
                recorded = self._state[task] == FAILED and not self._queued[task]
                if recorded and not self._attempts.has_ended(entry, task):
                    self._state[task] = UNKNOWN

    def _read_late_records(self, submitted: List[Array]) -> None:
        """Read the records of tasks that ended between the scan and the queue's answer."""
        found = self._attempts.records
        for task, entry in self._attempts.unsettled(submitted):
            record = read_record(self._attempts.folder, task)
            if record is None:
                continue
            if record.state == COMPLETE:
                self._state[task] = found.state[task] = COMPLETE_STATE
                continue
            known = found.failed.get(task)
            if known is None or record.generation > known.generation:
                found.failed[task] = FailureFacts.from_record(record)
            if self._attempts.has_ended(entry, task):
                self._state[task] = found.state[task] = FAILED
