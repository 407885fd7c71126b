"""The latest attempt of each task of a run.

A task may be part of several arrays: the first submission, segments of a chain, resubmissions. The array of the newest
*generation* has its latest attempt.
"""

import os
from array import array as typed_array
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, Optional, Tuple

from ..shared.files import read_object
from ..shared.ledger import Array, arrays_of
from ..shared.ranges import spans
from ..shared.run_folder import RunFolder, read_run
from ..shared.task_records import Records, TaskLog
from ..shared.task_states import FAILED, LOST, UNKNOWN
from . import records

if TYPE_CHECKING:
    from .element_scan import ElementScan

# The next segment of a chain goes on only with tasks that left a checkpoint.
CONTINUED = "checkpointed"


class Attempts(object):
    """The ledger and the records of a run, and the state of each task."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.run = read_run(folder)
        self.total = self.run.task_count
        cache = read_object(folder.status_cache)
        version = records.CACHE_VERSION
        # Facts that a status keeps for the next one, as JSON.
        self.cache: Dict[str, Any] = cache if cache.get("version") == version else {"version": version}
        self.arrays = arrays_of(folder)
        self.reader = Records(folder, self.arrays, self.run.layout)
        # ``failed``: later also the facts of LOST tasks
        self.records = records.scan(folder, self.total, self.cache, self.reader.packed)
        self.state = bytearray(self.records.state)  # one byte for each task, see task_states
        self._newest = typed_array("H", [1]) * self.total  # generation of each task
        by_generation: Dict[int, List[Tuple[int, int, Array]]] = {}
        for entry in sorted(self.arrays, key=lambda a: a.generation):
            for start, stop in spans(entry.tasks):
                self._newest[start:stop] = typed_array("H", [entry.generation]) * (stop - start)
                by_generation.setdefault(entry.generation, []).append((start, stop, entry))
        # Of each generation, oldest first: the first ids of its spans, which do not overlap, and the spans.
        self._spans = [
            ([start for start, _, _ in found], found)
            for found in (sorted(parts, key=lambda part: part[0]) for _, parts in sorted(by_generation.items()))
        ]

    def failed(self) -> List[int]:
        """Return the ids of the tasks that have failed, with or without a record."""
        return [task for task in sorted(self.records.failed) if self.state[task] in (FAILED, LOST)]

    def arrays_with(self, task: int) -> List[Array]:
        """Return the arrays that have the task, oldest first."""
        found = []
        for starts, parts in self._spans:
            at = bisect_right(starts, task) - 1
            if at >= 0 and task < parts[at][1]:
                found.append(parts[at][2])
        return found

    def is_latest(self, entry: Array, task: int) -> bool:
        return self._newest[task] == entry.generation

    def is_explained(self, task: int) -> bool:
        """Return True if accounting has explained the attempt of the task's failed record."""
        facts, known = self.records.failed[task], self.cache.get("refined", {}).get(str(task))
        return bool(known and known["generation"] == facts.generation and known.get("attempt") == facts.attempt)

    def was_followed(self, task: int) -> bool:
        """Return True if the packed element of the task's failed record began another task in its place."""
        generation = self.records.failed[task].generation
        entry = next((array for array in reversed(self.arrays_with(task)) if array.generation == generation), None)
        log = self.log_of(entry, task) if entry is not None else None
        return log is not None and task not in log.last_begun()

    def has_ended(self, entry: Array, task: int) -> bool:
        """Return True if the task's failed record is final for this array."""
        facts = self.records.failed[task]
        return facts.generation >= entry.generation or (bool(entry.segment) and facts.cause != CONTINUED)

    def may_be_requeued(self, entry: Array, task: int) -> bool:
        facts = self.records.failed[task]
        return facts.generation == entry.generation and facts.cause in records.REQUEUEABLE

    def log_of(self, entry: Array, task: int) -> "Optional[ElementScan]":
        """Return what the log of the packed element that has the task says; None where there is no such log."""
        element = self.reader.element_of(entry, task)
        return None if element is None else self.records.elements.of(entry, element)

    def output(self, entry: Array, task: int) -> Optional[TaskLog]:
        """Return the output of the task's latest attempt in the array; None where it left none."""
        log, element = self.log_of(entry, task), self.reader.element_of(entry, task)
        known = log.output(task) if log is not None else None
        if known is not None and element is not None:
            return self.reader.part(entry, element, known)
        return self.reader.log(entry, task)

    def is_claimed(self, entry: Array, task: int) -> bool:
        """Return True if the array's element has begun the task, or had its claim."""
        log = self.log_of(entry, task)
        return (log is not None and log.has_begun(task)) or os.path.exists(self.folder.claim(task, entry.generation))

    def has_started(self, entry: Array, task: int) -> bool:
        """Return True if the element with a log that has the task has started, though perhaps not begun a task."""
        element = self.reader.element_of(entry, task)
        if element is None:
            return False
        return self.log_of(entry, task) is not None or os.path.exists(self.reader.claim(entry, task))

    def began_at(self, entry: Array, task: int) -> Optional[float]:
        """Return when the array's element began the latest attempt of the task, None where it has not yet."""
        if self.reader.is_packed(entry):
            log = self.log_of(entry, task)
            return log.begun_at(task) if log is not None else None
        try:
            return os.stat(self.folder.claim(task, entry.generation)).st_mtime
        except OSError:
            return None

    def failed_records(self, entry: Array, tasks: Iterable[Tuple[int, int]]) -> Iterator[int]:
        """Yield the tasks of these spans with a failed record whose latest attempt is in the array."""
        return self._latest(self.records.state, FAILED, entry, tasks)

    def with_state(self, state: int, entry: Array) -> Iterator[int]:
        """Yield the tasks of a state whose latest attempt is in the array."""
        return self._latest(self.state, state, entry, spans(entry.tasks))

    def unsettled(self, entries: Iterable[Array]) -> Iterator[Tuple[int, Array]]:
        """Yield each task of state UNKNOWN with the array of its latest attempt."""
        for entry in entries:
            for task in self.with_state(UNKNOWN, entry):
                yield task, entry

    def _latest(self, states: bytearray, state: int, entry: Array, tasks: Iterable[Tuple[int, int]]) -> Iterator[int]:
        for start, stop in tasks:
            task = states.find(state, start, stop)
            while task >= 0:
                if self.is_latest(entry, task):
                    yield task
                task = states.find(state, task + 1, stop)
