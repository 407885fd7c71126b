"""The records of a run's tasks, wherever they lie: in a file a task, or in the logs of packed elements.

A task may be in several arrays (a canary, segments of a chain, resubmissions). A complete record wins; else the latest one of
the newest generation. The other ends are its history.
"""

import json
import os
from collections import OrderedDict
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from .element_frames import ElementFrames, Output
from .element_log import Begun, Ended
from .files import from_document
from .ledger import Array, arrays_of, is_packed
from .ranges import position_of, spans
from .run_folder import RunFolder, read_run
from .task_record import COMPLETE, FAILED, TaskRecord, load_record

HISTORY_KEYS = ("generation", "state", "cause", "exit_code", "signal", "seconds", "host", "ended_at")
HISTORY_LENGTH = 10
# Parsed logs of elements that are kept. Tasks are asked for in order, so that few are enough.
KEPT = 8
_COMPACT = json.JSONEncoder(separators=(",", ":"))
# Fields of a record that its frame or its element has.
_ELSEWHERE = frozenset("task state seconds generation array element job host log log_offset log_length history".split())


class TaskLog(NamedTuple):
    """The output of one attempt of a task: a part of a file, or (``length`` None) all after ``offset``."""

    path: str
    offset: int = 0
    length: Optional[int] = None
    is_part: bool = False  # True: other tasks write into the file too


class Records(object):
    """The records of a run. Parsed element logs are kept: use one object for one look, since logs grow."""

    def __init__(
        self, folder: RunFolder, arrays: Optional[Sequence[Array]] = None, layout: Optional[int] = None
    ) -> None:
        self.folder = folder
        self.arrays = list(arrays_of(folder) if arrays is None else arrays)
        self._layout = read_run(folder).layout if layout is None else layout
        # The arrays whose elements have logs, oldest first.
        self.packed = sorted(filter(self.is_packed, self.arrays), key=lambda array: array.generation)
        self._unpacked = [array for array in self.arrays if not self.is_packed(array)]
        self._parsed: "OrderedDict[Tuple[str, int], ElementFrames]" = OrderedDict()

    def is_packed(self, array: Array) -> bool:
        """Return True for an array whose elements have a log of their own."""
        return is_packed(array, self._layout)

    def claim(self, array: Array, task: int) -> str:
        """Return the path of the claim that the array's element needs for the task."""
        element = self.element_of(array, task)
        if element is None:
            return self.folder.claim(task, array.generation)
        return self.folder.element(array.array, element, "claim")

    def claims(self, array: Array) -> Iterator[str]:
        """Yield the paths of all claims that the array's elements need, one by one: there may be a million."""
        if self.is_packed(array):
            for element in range(array.elements):
                yield self.folder.element(array.array, element, "claim")
        else:
            for start, stop in spans(array.tasks):
                for task in range(start, stop):
                    yield self.folder.claim(task, array.generation)

    def element_of(self, array: Array, task: int) -> Optional[int]:
        """Return the index of the packed element that has the task; None where no element with a log has it."""
        position = position_of(array.tasks, task) if self.is_packed(array) else None
        return None if position is None else position // array.pack

    def has_file(self, task: int) -> bool:
        """Return True if the task may have a record in a file of its own: an array has it whose elements have no logs."""
        return not self.packed or any(position_of(array.tasks, task) is not None for array in self._unpacked)

    def read(self, task: int) -> Optional[TaskRecord]:
        """Return the record, or None where it is missing, torn, or cannot be read by this machine now."""
        try:
            return self.load(task)
        except OSError:
            return None

    def load(self, task: int) -> Optional[TaskRecord]:
        """Return the record, or None where it is missing or torn. Raises OSError when a file cannot be read."""
        found: List[TaskRecord] = []
        for array in self.packed:
            element = self.element_of(array, task)
            if element is not None:
                ended = self.frames(array, element).ended(task)
                found += [_record(self.folder, array, element, start, one) for start, one in ended]
        kept = load_record(self.folder, task) if self.has_file(task) else None
        if not found:
            return kept
        return found[0] if len(found) == 1 and kept is None else merged(found, kept)

    def frames(self, array: Array, element: int) -> ElementFrames:
        """Return the frames in the log of an element. Raises OSError when the log cannot be read."""
        key = (array.array, element)
        known = self._parsed.pop(key, None)
        if known is None:
            known = ElementFrames(read_log(self.folder.element(array.array, element, "rec")))
        self._parsed[key] = known
        if len(self._parsed) > KEPT:
            self._parsed.popitem(last=False)
        return known

    def begun(self, array: Array, task: int) -> List[Begun]:
        """Return the begins of the task in one packed array, oldest first."""
        element = self.element_of(array, task)
        return self.frames(array, element).begun(task) if element is not None else []

    def log(self, array: Array, task: int) -> Optional[TaskLog]:
        """Return the output of the task's latest attempt in the array; None where it left none."""
        if not self.is_packed(array):
            path = self.folder.log(task, array.generation)
            return TaskLog(path) if os.path.exists(path) else None
        element = self.element_of(array, task)
        found = self.frames(array, element).output(task) if element is not None else None
        return self.part(array, element, found) if found is not None and element is not None else None

    def part(self, array: Array, element: int, found: Output) -> Optional[TaskLog]:
        """Return a part of an element's combined log; None where the file is gone."""
        path = self.folder.element(array.array, element, output_suffix(found.slot))
        return TaskLog(path, found.offset, found.length, True) if os.path.exists(path) else None


def output_suffix(slot: int) -> str:
    """Return the suffix of the combined log of a slot of a packed element."""
    return "%d.log" % slot if slot else "log"


def read_log(path: str) -> bytes:
    """Return the frames of an element; nothing where it has not begun. Raises OSError when they cannot be read."""
    try:
        with open(path, "rb") as handle:
            return handle.read()
    except FileNotFoundError:
        return b""


def frame_of(record: TaskRecord, flags: str, slot: int, body: Dict[str, Any]) -> Ended:
    """Return the frame of a record, of which ``body`` is ``fields_of(record)``, perhaps with further fields."""
    data = _COMPACT.encode(body).encode("ascii")
    is_complete = record.state == COMPLETE
    offset, length = record.log_offset or 0, record.log_length or 0
    return Ended(record.task, is_complete, record.seconds, flags, slot, offset, length, data)


def fields_of(record: TaskRecord) -> Dict[str, Any]:
    """Return the fields of a record that its frame's JSON has."""
    return {name: value for name, value in record.to_json().items() if name not in _ELSEWHERE and value is not None}


def _record(folder: RunFolder, array: Array, element: int, start: Dict[str, Any], ended: Ended) -> TaskRecord:
    try:
        body = json.loads(ended.body.decode("ascii"))
    except ValueError:  # not written by this program: its checksum was right
        body = {}
    log = folder.element(array.array, element, output_suffix(ended.slot))[len(folder.path) + 1 :]
    return from_document(
        TaskRecord,
        dict(
            body,
            task=ended.task,
            state=COMPLETE if ended.is_complete else FAILED,
            seconds=ended.seconds,
            generation=array.generation,
            array=array.array,
            element=element,
            job=start.get("job", ""),
            host=start.get("host", ""),
            log=log,
            log_offset=ended.offset,
            log_length=ended.length,
        ),
    )


def merged(found: List[TaskRecord], kept: Optional[TaskRecord]) -> TaskRecord:
    """Return the record that stands, with the other ends as its history, oldest first, at most 10.

    ``found``: of logs, oldest first; ``kept``: of the task's file, which has a history of its own.
    """
    every = sorted([*found, *([kept] if kept else [])], key=lambda record: (record.generation, record.attempt or 0))
    complete = [record for record in every if record.state == COMPLETE]
    best = min(complete, key=lambda record: record.ended_at or 0.0) if complete else every[-1]
    others = [{key: getattr(record, key) for key in HISTORY_KEYS} for record in every if record is not best]
    rows = [*(kept.history if kept else []), *others]
    rows.sort(key=lambda row: (row.get("generation") or 0, row.get("ended_at") or 0.0))
    return best._replace(history=rows[-HISTORY_LENGTH:])
