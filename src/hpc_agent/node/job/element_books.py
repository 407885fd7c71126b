"""The books of a packed element: one claim, one log of records, one file of output a slot, for all its tasks.

The tasks of a slot work in one scratch folder, which is handed on while it is empty, and gets the name of a task's own folder
once that task has written into it.
"""

import os
import time
from contextlib import suppress
from typing import Any, Dict, List, Optional

from ..shared import task_records
from ..shared.element_log import OOM_KILLED, STOPPED_EARLY, Begun, ElementLog
from ..shared.files import is_disk_full, remove_folder_quietly, sync_folder
from ..shared.rungs import STOPPED_AT
from ..shared.task_record import TaskRecord
from . import execute
from .books import Attempt, Books
from .element import Element, claim
from .outcomes import LOOK_SEC, Known
from .outputs import CombinedLog


class ElementBooks(Books):
    """The books of a packed element."""

    def __init__(self, element: Element) -> None:
        super(ElementBooks, self).__init__(element)
        self._claim = self._path("claim")
        self._claim_size = 0  # with the line of this start
        self._looked_at = time.monotonic()
        self._is_replaced = False
        self._log: Optional[ElementLog] = None
        self._output: Optional[CombinedLog] = None
        self._has_scratch = False
        self._left: Dict[int, List[str]] = {}  # task -> folders of attempts of this element that were killed
        self.watcher = _Pace(self)

    def _path(self, suffix: str) -> str:
        return self.run.element(self.element.array.array, self.element.index, suffix)

    def open(self) -> bool:
        element = self.element
        if not claim(self._claim, element):
            return False
        self._claim_size = os.stat(self._claim).st_size
        self.outcomes.own.look(at_once=True)
        is_new = not os.path.exists(self._path("rec"))
        self._log = ElementLog(self._path("rec"), shared=element.slots > 1)
        self._log.start(element.job_id, element.host)
        if is_new:
            sync_folder(os.path.dirname(self._claim))
        self._keep_what_was_left()
        return True

    def leave_slot(self) -> None:
        """End the work of a slot that has a process of its own."""
        self.log.sync(at_once=True)
        if not self.is_replaced():
            super(ElementBooks, self).close()

    def output_of(self, slot: int) -> CombinedLog:
        return CombinedLog(self._path(task_records.output_suffix(slot)))

    def last_begun(self, slot: int, task: int) -> Optional[Begun]:
        """Return the begin of the task in this slot, where that has no record yet: its process has died."""
        self.outcomes.own.look(at_once=True)
        begun = self.outcomes.own.running.get(slot)
        return begun if begun is not None and begun.task == task else None

    def _keep_what_was_left(self) -> None:
        """Keep the scratch folders of killed attempts."""
        for slot in range(self.element.slots):
            begun = self.outcomes.own.running.get(slot)
            self.keep_scratch(slot, begun.task if begun else None)

    def keep_scratch(self, slot: int, task: Optional[int]) -> Optional[str]:
        """Keep the scratch folder of an attempt under the name of its task, which gets it back. An empty one is removed.

        Return its new path below the run's; None where nothing is kept.
        """
        folder = self.scratch_of(slot)
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            return None
        except OSError:
            name = "left-%s-%d" % ("unknown" if task is None else task, time.time() * 1000)
            os.rename(folder, self._path(name))
            return self.below(self._path(name))
        return None

    def abandon(self, task: int) -> Optional[str]:
        self._has_scratch = False  # the next task gets a new one
        return self.keep_scratch(self.element.slot, task)

    def scratch_of(self, slot: int) -> str:
        return self._path("d%d" % slot)

    def is_replaced(self) -> bool:
        now = time.monotonic()
        if self._is_replaced or now - self._looked_at < LOOK_SEC:
            return self._is_replaced
        self._looked_at = now
        descriptor = os.open(self._claim, os.O_RDONLY)  # a file server is asked for its size only then
        try:
            self._is_replaced = os.fstat(descriptor).st_size > self._claim_size
        finally:
            os.close(descriptor)
        return self._is_replaced

    def take(self, task: int) -> bool:
        if not self.outcomes.is_shared(task):
            return True  # the element has claimed all its tasks
        return super(ElementBooks, self).take(task)

    def begin(self, task: int, known: Known) -> Attempt:
        offset = self.output.begin()
        self.log.begin(task, self.element.slot, offset)
        number = known.begun + 1 + self.outcomes.begun_alone(task)
        return Attempt(task, number, self.output, task not in self.outcomes.own.tasks)

    @property
    def log(self) -> ElementLog:
        assert self._log is not None
        return self._log

    @property
    def output(self) -> CombinedLog:
        """The output of this process's slot."""
        if self._output is None:
            self._output = self.output_of(self.element.slot)
        return self._output

    def scratch(self, attempt: Attempt, kwargs: Dict[str, Any]) -> str:
        folder = self.scratch_of(self.element.slot)
        if not attempt.is_first:
            earlier = self._left_by(attempt.task) or self.kept(attempt.task, kwargs)
            with suppress(OSError):  # there is none, as a rule
                os.rename(earlier, folder)
                self._has_scratch = True
        if not self._has_scratch:
            with suppress(FileExistsError):
                os.mkdir(folder)
            self._has_scratch = True
        return folder

    def _left_by(self, task: int) -> str:
        """Return the folder that a killed attempt of the task left last; an empty text where there is none."""
        start = "%d.left-%d-" % (self.element.index, task)
        above = os.path.dirname(self._claim)
        found = [name for name in os.listdir(above) if name.startswith(start)]
        return os.path.join(above, max(found, key=lambda name: int(name[len(start) :]))) if found else ""

    def drop(self, scratch: str) -> None:
        """Keep the empty folder for the next task."""

    def wrote(self, scratch: str) -> bool:
        try:
            return super(ElementBooks, self).wrote(scratch)
        except FileNotFoundError:
            self._has_scratch = False  # the next task gets a new one
            raise

    def _move(self, scratch: str, place: str) -> None:
        super(ElementBooks, self)._move(scratch, place)
        self._has_scratch = False

    def write(self, record: TaskRecord) -> bool:
        if self.outcomes.known(record.task).is_complete:
            return False
        flags = OOM_KILLED if record.oom_kills else ""
        flags += STOPPED_EARLY if STOPPED_AT in (record.metrics or {}) else ""
        body = self.fields(record, task_records.fields_of(record))
        self.log.record(task_records.frame_of(record, flags, self.element.slot, body))
        self.log.sync(at_once=self.element.stopped)
        return True

    def close(self) -> None:
        if self._log is not None:
            self._log.sync(at_once=True)
            self._log.close()
        if self._output is not None:
            self._output.close()
        if self.is_replaced():
            return  # the empty folders may be those of the later start
        for slot in range(self.element.slots):
            remove_folder_quietly(self.scratch_of(slot))
        super(ElementBooks, self).close()


class _Pace(execute.Watcher):
    """Brings records to the disk while a task runs."""

    def __init__(self, books: ElementBooks) -> None:
        self._books = books

    def tick(self) -> None:
        try:
            self._books.log.sync()
        except OSError as error:  # the end of the task tells of it
            if not is_disk_full(error):
                raise
