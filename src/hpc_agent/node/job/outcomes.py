"""What is known of the tasks of one element from elsewhere: its own earlier starts, and other arrays with the same tasks.

Those are the canary, the segments of a chain, and submissions of tasks again. Files are read as they grow, and looked at again
at most five times a second, so that a task of a millisecond costs no look.
"""

import json
import os
import time
from bisect import bisect_left
from contextlib import suppress
from typing import Dict, List, NamedTuple, Optional, Set, Tuple

from ..shared.element_log import BEGIN, RECORD, Begun, Ended, begun_of, ended_of, is_sound, whole
from ..shared.errors import NodeError
from ..shared.ledger import SUBMITTED, Array, is_packed, read_array
from ..shared.ranges import position_of, spans
from ..shared.run_folder import RunFolder
from ..shared.task_record import COMPLETE, load_record

LOOK_SEC = 0.2


class Known(NamedTuple):
    """What is known of a task. ``cause``: of the record that stands, if there is a record."""

    has_record: bool = False
    is_complete: bool = False
    cause: Optional[str] = None
    begun: int = 0  # how often it was begun, by frames


NOTHING = Known()


class Seen(NamedTuple):
    """The frames of a task in one log."""

    begun: int = 0
    is_complete: bool = False
    last: Optional[Ended] = None


class GrowingLog(object):
    """The frames of another element, or of earlier starts of this one, for the tasks that are wanted."""

    def __init__(self, path: str, wanted: Set[int]) -> None:
        self.tasks: Dict[int, Seen] = {}
        self.running: Dict[int, Begun] = {}  # slot -> what it has begun last, unless that has a record
        self._path = path
        self._wanted = wanted
        self._offset = 0
        self._looked_at = float("-inf")

    def look(self, at_once: bool = False) -> "GrowingLog":
        """Read what was appended since the last look. Raises OSError when the log is there and cannot be read."""
        now = time.monotonic()
        if at_once or now - self._looked_at >= LOOK_SEC:
            self._looked_at = now
            with suppress(FileNotFoundError), open(self._path, "rb") as handle:
                handle.seek(self._offset)
                data = handle.read()
                end = whole(data)
                self._offset += end
                for line in data[:end].split(b"\n"):
                    self._take(line)
        return self

    def _take(self, line: bytes) -> None:
        """Read a line. Only those of wanted tasks are checked and parsed: there may be many others."""
        fields = line[9:].split(b" ", 2)
        if len(fields) < 3 or fields[0] not in (BEGIN, RECORD) or not fields[1].isdigit():
            return
        task = int(fields[1])
        if task not in self._wanted or not is_sound(line):
            return
        seen = self.tasks.get(task, Seen())
        if fields[0] == BEGIN:
            self.tasks[task] = seen._replace(begun=seen.begun + 1)
            begun = begun_of(line[9:])
            self.running[begun.slot] = begun
            return
        ended = ended_of(line[9:])
        self.tasks[task] = Seen(seen.begun, seen.is_complete or ended.is_complete, ended)
        begun_last = self.running.get(ended.slot)
        if begun_last is not None and begun_last.task == task:
            del self.running[ended.slot]


class Outcomes(object):
    """The outcomes of an element's ``tasks`` in every array of the run that has some of them."""

    def __init__(self, folder: RunFolder, layout: int, array: Array, index: int, tasks: List[int]) -> None:
        self._folder, self._layout, self._array = folder, layout, array
        self._sorted = sorted(tasks)
        self._tasks = set(tasks)
        self._arrays: Dict[str, Array] = {}  # that have some of the tasks, this one not included
        self._read: Dict[str, Array] = {}
        self._ledger: Optional[Tuple[int, int]] = None
        self._looked_at = float("-inf")
        self._settled = False
        self._logs: Dict[str, GrowingLog] = {}
        self._claims: Dict[str, float] = {}  # claim -> when it was looked for in vain
        self.own = GrowingLog(folder.element(array.array, index, "rec"), self._tasks)

    def known(self, task: int) -> Known:
        """Return what is known of a task. Raises OSError for a file that is there and cannot be read now."""
        self._look_at_ledger()
        own = self.own.tasks.get(task)
        found = [(self._array.generation, own)] if own else []
        has_file = not self._has_log(self._array)
        for array in self._arrays.values():
            place = position_of(array.tasks, task)
            if place is not None and self._has_log(array):
                seen = self._log(array, place // array.pack).look().tasks.get(task)
                found += [(array.generation, seen)] if seen else []
            elif place is not None:
                has_file = True
        return self._merged(found, task, has_file)

    def _merged(self, found: List[Tuple[int, Seen]], task: int, has_file: bool) -> Known:
        """Return one answer: complete by any record, else the record of the newest generation."""
        if not found and not has_file:
            return NOTHING
        begun = sum(seen.begun for _, seen in found)
        record = load_record(self._folder, task) if has_file else None
        if any(seen.is_complete for _, seen in found) or (record is not None and record.state == COMPLETE):
            return Known(True, True, None, begun)
        ended = [(generation, seen.last) for generation, seen in found if seen.last is not None]
        newest = max(ended, key=lambda pair: pair[0], default=None)
        if record is not None and (newest is None or record.generation >= newest[0]):
            return Known(True, False, record.cause, begun)
        if newest is None:
            return Known(begun=begun)
        return Known(True, False, json.loads(newest[1].body.decode("ascii")).get("cause"), begun)

    def superseded(self, task: int) -> bool:
        """Return True when an element of a later generation has claimed the task."""
        for array in self._arrays.values():
            place = position_of(array.tasks, task) if array.generation > self._array.generation else None
            if place is not None:
                element = self._folder.element(array.array, place // array.pack, "claim")
                if self._is_there(element if self._has_log(array) else self._folder.claim(task, array.generation)):
                    return True
        return False

    def is_shared(self, task: int) -> bool:
        """Return True when another array of this generation has the task too: the canary's."""
        generation = self._array.generation
        arrays = [array for array in self._arrays.values() if array.generation == generation]
        return any(position_of(array.tasks, task) is not None for array in arrays)

    def begun_alone(self, task: int) -> int:
        """Count how often elements of one task have begun it, up to this generation: a line for each in its claims."""
        lines = 0
        for array in [*self._arrays.values(), self._array]:
            alone = not self._has_log(array) and array.generation <= self._array.generation
            if alone and position_of(array.tasks, task) is not None:
                with suppress(OSError), open(self._folder.claim(task, array.generation), "rb") as handle:
                    owner = handle.readline().decode("utf-8", "replace").rsplit(":", 2)
                    if owner[1:2] == [array.array]:  # else that is counted with its own array
                        lines += handle.read().count(b"\n")
        return lines

    def _has_log(self, array: Array) -> bool:
        return is_packed(array, self._layout)

    def _is_there(self, claim: str) -> bool:
        now = time.monotonic()
        if now - self._claims.get(claim, float("-inf")) < LOOK_SEC:
            return False
        if os.path.exists(claim):
            return True
        self._claims[claim] = now
        return False

    def _log(self, array: Array, element: int) -> GrowingLog:
        path = self._folder.element(array.array, element, "rec")
        if path not in self._logs:
            self._logs[path] = GrowingLog(path, self._tasks)
        return self._logs[path]

    def _look_at_ledger(self) -> None:
        """Read the arrays that were added or changed. The folder is opened, for a file server checks its time only then."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_SEC:
            return
        self._looked_at = now
        descriptor = os.open(self._folder.jobs, os.O_RDONLY)
        try:
            found = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        seen = (found.st_mtime_ns, found.st_ino)
        if seen == self._ledger and self._settled:
            return
        # A change within the same tick of the file server's clock leaves the same time: list once more after it.
        self._settled = seen == self._ledger
        self._ledger = seen
        for name in self._folder.arrays():
            if self._may_have_some(name) and name not in self._read:
                self._take(name)

    def _may_have_some(self, name: str) -> bool:
        """Return False for this array, and for its neighbours of the first submission: each has tasks of its own."""
        return name != self._array.array and not (name.startswith("a") and self._array.array.startswith("a"))

    def _take(self, name: str) -> None:
        try:
            array = read_array(self._folder, name)
        except NodeError:  # damaged: a status tells of it
            return
        if array is None:
            return
        if array.state == SUBMITTED:  # before that, its tasks may change
            self._read[name] = array
        self._arrays.pop(name, None)
        if self._has_some(array.tasks):
            self._arrays[name] = array

    def _has_some(self, tasks: str) -> bool:
        for start, stop in spans(tasks):
            at = bisect_left(self._sorted, start)
            if at < len(self._sorted) and self._sorted[at] < stop:
                return True
        return False
