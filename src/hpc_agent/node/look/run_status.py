"""The state of every task of a run: task records first, then the queue, then accounting.

A task is complete only by its record. A task that has left the queue is not finished: accounting is asked for its end.
A query that failed is no answer: the last good states are shown, marked stale.
"""

import os
import time
from array import array as typed_array
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple

from ..schedulers import load
from ..schedulers.base import QueueRow
from ..shared import task_record, waiting_reasons
from ..shared.errors import NodeError
from ..shared.files import write_json
from ..shared.ledger import Array
from ..shared.ranges import ranges_of, slice_spans, spans
from ..shared.run_folder import RunFolder, shard_of
from ..shared.task_states import COMPLETE, FAILED, PENDING, RUNNING, UNKNOWN
from . import accounting, records
from .attempts import Attempts

if TYPE_CHECKING:
    from .element_scan import ElementScan

ACTIVE = ("running", "completing", "suspended")
_KEPT = {"running": RUNNING, "pending": PENDING}
_SET_UNKNOWN_TO = {to: bytes(to if byte == UNKNOWN else byte for byte in range(256)) for to in (PENDING, RUNNING)}


class RunStatus(Attempts):
    """The attempts of a run after the queue and accounting were asked."""

    def __init__(self, folder: RunFolder, site: Dict[str, Any], scheduler: Any = None) -> None:
        super(RunStatus, self).__init__(folder)
        self.waiting: Dict[Tuple[str, str], int] = Counter()  # (state, reason) -> tasks that wait
        self.stale: Optional[Dict[str, Any]] = None  # the query that failed
        self.unexplained = False  # True while accounting may still explain a killed task
        self._queued = typed_array("H", [0]) * self.total  # the newest generation that the queue has of each task
        self._update(scheduler or load(self.run.scheduler, site))

    def save(self) -> None:
        """Keep the cache for the next status. The cache only saves time, so a full or read-only disk is no error."""
        self.records.keep(self.cache)
        try:
            write_json(self.folder.status_cache, self.cache, sync=False)
        except OSError:
            pass

    def _update(self, scheduler: Any) -> None:
        submitted = [a for a in self.arrays if a.job_id and self._is_unfinished(a)]
        for entry in self.arrays:
            if not entry.job_id:
                reason = waiting_reasons.UNSUBMITTED[str(entry.held or entry.state)]
                reason = "%s: %s" % (reason, entry.message) if entry.message else reason
                touched = sum(self._mark(entry, start, stop, PENDING) for start, stop in spans(entry.tasks))
                if touched:
                    self.waiting[("not submitted", reason)] += touched
        try:
            if submitted:
                self._mark_queued(scheduler.queue([a.job_id for a in submitted]), submitted)
                self._settle_by_records(submitted)
        except NodeError as error:
            self._restore_last_good(error)
            return
        active = {name: ranges_of(self.state, value) for name, value in _KEPT.items()}
        self.cache["last_good"] = {"state": active, "at": time.time()}
        lost = [a for a in submitted if any(True for _ in self.unsettled([a]))]
        try:
            self.unexplained = accounting.explain(self, scheduler, lost)
        except NodeError as error:
            # Accounting that is switched off never answers; a database that is down is asked again.
            if error.code != "remote_command_failed":
                self.stale = {"source": "accounting", "since": None, "error": error.message, "code": error.code}
                return
        accounting.settle_vanished(self, lost)

    def _is_unfinished(self, entry: Array) -> bool:
        """Return True if the array has a task that no final record settles."""
        if any(self.state.find(UNKNOWN, start, stop) >= 0 for start, stop in spans(entry.tasks)):
            return True
        # A failed record may be of an older attempt, or of one that was requeued since.
        return any(
            not self.has_ended(entry, task)
            or (self.may_be_requeued(entry, task) and not self.is_explained(task))
            or self._is_begun_again(entry, task)
            for task in self.failed_records(entry, spans(entry.tasks))
        )

    def _is_begun_again(self, entry: Array, task: int) -> bool:
        """Return True if the log of a packed element has a later begin of a task with a failed record."""
        log = self.log_of(entry, task) if self.records.elements else None
        return log is not None and log.is_running(task)

    def _restore_last_good(self, error: NodeError) -> None:
        earlier = self.cache.get("last_good") or {}
        self.stale = {"source": "queue", "since": earlier.get("at"), "error": error.message, "code": error.code}
        for name, value in _KEPT.items():
            for start, stop in spans(earlier.get("state", {}).get(name, "")):
                for task in range(start, min(stop, self.total)):
                    if self.records.state[task] == UNKNOWN:
                        self.state[task] = value

    def _mark_queued(self, rows: List[QueueRow], submitted: List[Array]) -> None:
        """Mark the tasks of the queue's rows."""
        by_job = {str(a.job_id): a for a in submitted}
        # Job ids are used again: another name is another job.
        ours = [(by_job[row.job], row) for row in rows if row.job in by_job]
        ours = [(entry, row) for entry, row in ours if (row.name or entry.name) == entry.name]
        for entry, row in sorted(ours, key=lambda pair: pair[0].generation):
            touched = self._mark_elements(entry, row.elements, row.state)
            if touched and (row.state not in ACTIVE or row.state == "suspended"):
                self.waiting[(row.state, row.reason)] += touched

    def _mark_elements(self, entry: Array, elements: str, queue_state: str) -> int:
        touched, active = 0, queue_state in ACTIVE
        runs = active and queue_state != "completing"
        for first, stop in spans(elements):
            if not active or entry.pack == 1:
                for start, end in slice_spans(entry.tasks, first * entry.pack, (stop - first) * entry.pack):
                    touched += self._mark(entry, start, end, RUNNING if active else PENDING, runs)
                continue
            for element in range(first, stop):
                self._mark_packed(entry, element, runs)
        return touched

    def _mark_packed(self, entry: Array, element: int, runs: bool) -> None:
        """Mark the tasks of an active element. It runs them in turn: those after the first unclaimed one wait."""
        if self.reader.is_packed(entry):
            self._mark_logged(entry, element, runs)
            return
        waits, begun = False, -1
        for start, end in slice_spans(entry.tasks, element * entry.pack, entry.pack):
            for task in range(start, end):
                # A task with a final record is not looked up.
                is_open = self.state[task] == UNKNOWN or (
                    self.state[task] == FAILED and not self._is_final(entry, task)
                )
                waits = waits or (is_open and not self.is_claimed(entry, task))
                self._mark(entry, task, task + 1, PENDING if waits else RUNNING)
                begun = begun if waits else task
        if begun >= 0 and runs:
            self._mark(entry, begun, begun + 1, RUNNING, True)

    def _mark_logged(self, entry: Array, element: int, runs: bool) -> None:
        """Mark the tasks of an active element with a log, which names those that it has begun and not ended: they run."""
        log = self.records.elements.of(entry, element)
        running = set(log.running()) if log else set()
        for start, stop in slice_spans(entry.tasks, element * entry.pack, entry.pack):
            self._queued[start:stop] = typed_array("H", [entry.generation]) * (stop - start)
            begun = [task for task in running if start <= task < stop and self.state[task] == UNKNOWN]
            self.state[start:stop] = self.state[start:stop].translate(_SET_UNKNOWN_TO[PENDING])
            for task in begun:
                self.state[task] = RUNNING
            for task in self.failed_records(entry, [(start, stop)]):
                if self.state[task] == FAILED:
                    self.state[task] = self._state_again(entry, task, log, runs)

    def _state_again(self, entry: Array, task: int, log: "Optional[ElementScan]", runs: bool) -> int:
        """Return the state of a task with a failed record in an active element with a log."""
        if log is not None and log.is_running(task):
            return RUNNING
        if not self.has_ended(entry, task):
            return PENDING
        if log is None or not self.may_be_requeued(entry, task):
            return FAILED
        if log.begins_again(task):
            return PENDING
        # One that was begun last either ends its element now, or was put back and starts again.
        return RUNNING if runs and task in log.last_begun() else FAILED

    def _is_final(self, entry: Array, task: int) -> bool:
        """Return True if no later attempt in this array may follow the task's failed record."""
        return self.has_ended(entry, task) and not self.may_be_requeued(entry, task)

    def _mark(self, entry: Array, start: int, stop: int, to: int, is_last_begun: bool = False) -> int:
        """Set the tasks without a final record to state ``to``. Return their number.

        ``is_last_begun``: each is the last task that its running element has begun.
        """
        self._queued[start:stop] = typed_array("H", [entry.generation]) * (stop - start)
        part = self.state[start:stop]
        touched = part.count(UNKNOWN)
        self.state[start:stop] = part.translate(_SET_UNKNOWN_TO[to])
        for task in self.failed_records(entry, [(start, stop)]):
            if self.state[task] == FAILED and self._is_active_again(entry, task, to, is_last_begun):
                self.state[task] = to
                touched += 1
        return touched

    def _is_active_again(self, entry: Array, task: int, to: int, is_last_begun: bool) -> bool:
        """Return True if a task with a failed record waits or runs again in this array."""
        if not self.has_ended(entry, task):
            return True
        if not self.may_be_requeued(entry, task):
            return False
        # A pending element was put back. One that runs and has begun nothing since either ends now or was put back and has
        # started again, which may take minutes to the new claim. Any other one has gone on, unless it claimed the task anew.
        if to == PENDING or is_last_begun:
            return True
        claim, record = self.folder.claim(task, entry.generation), self.folder.record(task)
        try:
            return os.stat(claim).st_mtime_ns > os.stat(record).st_mtime_ns
        except OSError:
            return False

    def _settle_by_records(self, submitted: List[Array]) -> None:
        """Settle the tasks that have left the queue by their records."""
        may_be_replaced = self._replaceable()
        for entry in submitted:
            for task in self.failed_records(entry, spans(entry.tasks)):
                # A failed record of an older attempt: the newer one has left the queue. The element of the older one may
                # still be there, for the other tasks of its pack.
                left = self._queued[task] < entry.generation
                open_again = left and not self.has_ended(entry, task)
                if self.state[task] == FAILED and (open_again or may_be_replaced(entry, task)):
                    self.state[task] = UNKNOWN
        # A record may have come between the scan and the queue's answer.
        unsettled = list(self.unsettled(submitted))
        if unsettled and self.records.elements:
            self.records.elements.read_again([task for task, _ in unsettled], self.records)
        for task, entry in unsettled:
            record = task_record.read_record(self.folder, task) if self.reader.has_file(task) else None
            if record is not None:
                self.records.add(record)
            if self.records.state[task] == COMPLETE:
                self.state[task] = COMPLETE
            elif self.records.state[task] == FAILED and self.has_ended(entry, task):
                self.state[task] = FAILED

    def _replaceable(self) -> Callable[[Array, int], bool]:
        """Return a function that says whether an element that was put back may have left another failed record of a task.

        It may where it has ended again since the scan.
        """

        @lru_cache(maxsize=None)  # one stat a shard
        def is_unchanged(shard: str) -> bool:
            return records.is_unchanged(self.folder, shard, self.cache["shards"])

        @lru_cache(maxsize=None)  # one stat a log
        def has_grown(array: str, element: int) -> bool:
            return bool(self.records.elements.has_grown(array, element))

        def may_be_replaced(entry: Array, task: int) -> bool:
            if not self.may_be_requeued(entry, task) or self.is_explained(task):
                return False
            element = self.reader.element_of(entry, task)
            return not is_unchanged(shard_of(task)) if element is None else has_grown(entry.array, element)

        return may_be_replaced
