"""The latest attempt of each task of a run.

A task may be part of several arrays: the first submission, segments of a chain, resubmissions. The array of the newest
*generation* has its latest attempt.
"""

import bisect
import os
from array import array as typed_array
from typing import Any, Dict, Iterable, Iterator, List, Tuple

from ..shared.ledger import Array, arrays_of
from ..shared.ranges import spans
from ..shared.run_folder import RunFolder, read_run
from ..shared.task_states import FAILED, LOST, UNKNOWN
from . import records
from .failure_facts import REQUEUEABLE

# The next segment of a chain goes on only with tasks that left a checkpoint.
CONTINUED = "checkpointed"


class Attempts(object):
    """The ledger and the records of a run, and the state of each task.

    state     one byte for each task, see task_states
    records   ``records.failed`` has the facts of FAILED and LOST tasks
    arrays    the ledger, in the order of submission
    """

    def __init__(self, folder: RunFolder, cache: Dict[str, Any]) -> None:
        self.folder = folder
        self.run = read_run(folder)
        self.total = self.run.task_count
        self.records = records.scan(folder, self.total, cache)
        self.arrays = arrays_of(folder)
        self.state = bytearray(self.records.state)
        self._generations = self._newest_generations()
        self._failed_ids = sorted(self.records.failed)

    def failed(self) -> List[int]:
        """Return the ids of the tasks that have failed, with or without a record."""
        return [task for task in sorted(self.records.failed) if self.state[task] in (FAILED, LOST)]

    def arrays_with(self, task: int) -> List[Array]:
        """Return the arrays that have the task, oldest first."""
        return [a for a in self.arrays if any(start <= task < stop for start, stop in spans(a.tasks))]

    def _newest_generations(self) -> Any:
        """Return the newest generation of each task, or None while there is only one generation."""
        if all(a.generation == 1 for a in self.arrays):
            return None
        newest = typed_array("H", [1]) * self.total
        for entry in sorted(self.arrays, key=lambda a: a.generation):
            for start, stop in spans(entry.tasks):
                newest[start:stop] = typed_array("H", [entry.generation]) * (stop - start)
        return newest

    def is_latest(self, entry: Array, task: int) -> bool:
        return self._generations is None or self._generations[task] == entry.generation

    def has_ended(self, entry: Array, task: int) -> bool:
        """Return True if the task's failed record is final for this array."""
        facts = self.records.failed[task]
        return facts.generation >= entry.generation or (bool(entry.segment) and facts.cause != CONTINUED)

    def may_be_requeued(self, entry: Array, task: int) -> bool:
        facts = self.records.failed[task]
        return facts.generation == entry.generation and facts.cause in REQUEUEABLE

    def is_claimed(self, entry: Array, task: int) -> bool:
        return os.path.exists(self.folder.claim(task, entry.generation))

    def failed_records(self, entry: Array) -> Iterator[int]:
        """Yield the tasks with a failed record whose latest attempt is in the array."""
        for start, stop in spans(entry.tasks):
            for task in self.failed_between(start, stop):
                if self.is_latest(entry, task):
                    yield task

    def failed_between(self, start: int, stop: int) -> List[int]:
        first = bisect.bisect_left(self._failed_ids, start)
        return self._failed_ids[first : bisect.bisect_left(self._failed_ids, stop)]

    def unsettled(self, entries: Iterable[Array]) -> Iterator[Tuple[int, Array]]:
        """Yield each task of state UNKNOWN with the array of its latest attempt."""
        for entry in entries:
            for start, stop in spans(entry.tasks):
                task = self.state.find(UNKNOWN, start, stop)
                while task >= 0:
                    if self.is_latest(entry, task):
                        yield task, entry
                    task = self.state.find(UNKNOWN, task + 1, stop)
