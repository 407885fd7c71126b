"""Scan the logs of packed elements: only what was appended since the last scan is read, and no log of complete tasks."""

import json
import os
from contextlib import suppress
from typing import Any, Dict, Iterable, List, Optional, Tuple

from ..shared.element_frames import Output
from ..shared.element_log import (
    BEGIN,
    OOM_KILLED,
    RECORD,
    START,
    STOPPED_EARLY,
    Ended,
    begun_of,
    ended_of,
    sound_lines,
    whole,
)
from ..shared.files import from_document
from ..shared.ledger import Array
from ..shared.ranges import count, position_of, slice_spans, spans
from ..shared.run_folder import RunFolder
from ..shared.task_record import TaskRecord
from .recorded import FailureFacts, RecordScan

SHARD = 1000  # elements in a folder
_LOG = ".rec"


class LogShrank(Exception):
    """A log has lost what an earlier scan has read of it."""


class ElementScan(object):
    """What the log of one element says of its tasks that are not complete."""

    def __init__(self, array: Array, index: int) -> None:
        self._array, self._index = array, index
        self.offset = 0  # bytes that were read, up to the end of a line
        self.starts = 0  # how often the element has started
        self._start: Dict[str, Any] = {}  # job, host and time of the last start
        # Tasks without a record since their begin: time, and the number of the start that began them.
        self._begun: Dict[int, Tuple[float, int]] = {}
        self.failed: Dict[int, FailureFacts] = {}
        self._failed_in: Dict[int, int] = {}  # the number of the start in which each has failed
        self._outputs: Dict[int, Output] = {}  # where the output of each lies
        self._last: Dict[int, int] = {}  # slot -> the task that it has begun last
        self.has_hole = False  # a part read as zeros: a file server may show it later than the parts behind it

    def load(self, document: Dict[str, Any]) -> "ElementScan":
        """Take what ``to_json`` has returned."""
        self.offset, self.starts, self._start = document["offset"], document["starts"], document["start"]
        self.has_hole = document["hole"]
        self._begun = {int(task): (at, start) for task, (at, start) in document["begun"].items()}
        self._last = {int(slot): task for slot, task in document["last"].items()}
        for number, (start, facts, output) in document["failed"].items():
            self._add(int(number), FailureFacts(**facts), start, Output(*output))
        return self

    def to_json(self) -> Dict[str, Any]:
        failed = {
            str(task): (self._failed_in[task], facts.kept(), self._outputs[task]) for task, facts in self.failed.items()
        }
        begun = {str(task): row for task, row in self._begun.items()}
        last = {str(slot): task for slot, task in self._last.items()}
        document = {"offset": self.offset, "starts": self.starts, "start": self._start, "hole": self.has_hole}
        return dict(document, begun=begun, failed=failed, last=last)

    def running(self) -> List[int]:
        """Return the tasks that the element has begun since its last start, and has not ended."""
        return [task for task in self._begun if self.is_running(task)]

    def is_running(self, task: int) -> bool:
        return task in self._begun and self._begun[task][1] == self.starts

    def begun_at(self, task: int) -> Optional[float]:
        """Return when a task without a record since then was begun, in whichever start of the element."""
        return self._begun[task][0] if task in self._begun else None

    def begins_again(self, task: int) -> bool:
        """Return True if the element has started again since the task's failed record."""
        return self._failed_in.get(task, self.starts) < self.starts

    def last_begun(self) -> List[int]:
        """Return the task that each slot has begun last."""
        return list(self._last.values())

    def output(self, task: int) -> Optional[Output]:
        """Return where the output of a task lies whose last attempt has failed; None where another one is to be looked for."""
        return self._outputs[task] if task in self.failed and task not in self._begun else None

    def has_begun(self, task: int) -> bool:
        return task in self._begun or task in self.failed

    def read(self, path: str, scan: RecordScan) -> None:
        """Take what was appended to the log. Raises FileNotFoundError, LogShrank."""
        with open(path, "rb") as handle:
            if self.offset and handle.seek(0, os.SEEK_END) < self.offset:
                raise LogShrank(path)
            handle.seek(self.offset)
            data = handle.read()
        end = whole(data)
        self.offset += end
        self.has_hole = self.has_hole or data.find(b"\0", 0, end) >= 0
        for text in sound_lines(data[:end]):
            try:
                self._take(text, text[:1], scan)
            except (ValueError, TypeError, KeyError):
                continue  # its checksum is right, so that another version has written it

    def _take(self, text: bytes, kind: bytes, scan: RecordScan) -> None:
        if kind == RECORD:
            _, number, state, seconds, flags, _ = text.split(b" ", 5)
            task = int(number)
            self._begun.pop(task, None)
            if state == b"c":
                self.failed.pop(task, None)
                used = None if seconds == b"-" else float(seconds)
                scan.add_complete(task, used, OOM_KILLED in flags.decode(), STOPPED_EARLY in flags.decode())
            else:
                ended = ended_of(text)
                self._add(task, self._facts(ended), self.starts, Output(ended.slot, ended.offset, ended.length))
        elif kind == BEGIN:
            begun = begun_of(text)
            self._begun[begun.task] = (begun.at, self.starts)
            self._last[begun.slot] = begun.task
        elif kind == START:
            start = dict(json.loads(text[2:].decode("ascii")))
            if start != self._start:  # else it was written twice, after an error of the disk
                self._start = start
                self.starts += 1

    def _add(self, task: int, facts: FailureFacts, start: int, output: Output) -> None:
        self.failed[task], self._failed_in[task], self._outputs[task] = facts, start, output

    def _facts(self, ended: Ended) -> FailureFacts:
        try:
            body = dict(json.loads(ended.body.decode("ascii")))
        except ValueError:
            body = {}
        known = {"job": self._start.get("job", ""), "host": self._start.get("host", "")}
        own = {"task": ended.task, "state": "failed", "seconds": ended.seconds, "element": self._index}
        record = dict(body, generation=self._array.generation, **known, **own)
        return FailureFacts.from_record(from_document(TaskRecord, record))


class ElementScans(object):
    """The logs of all packed elements of a run that have tasks which are not complete."""

    def __init__(self, folder: RunFolder, arrays: Iterable[Array], kept: Dict[str, Any]) -> None:
        self._folder = folder
        self._arrays = sorted(arrays, key=lambda array: array.generation)
        self._found: Dict[str, Dict[int, ElementScan]] = {
            array.array: {
                int(index): ElementScan(array, int(index)).load(document)
                for index, document in kept.get(array.array, {}).items()
            }
            for array in self._arrays
        }

    def to_json(self) -> Dict[str, Any]:
        return {
            array: {str(index): element.to_json() for index, element in elements.items()}
            for array, elements in self._found.items()
            if elements
        }

    def of(self, array: Array, index: int) -> Optional[ElementScan]:
        """Return what the element's log says; None where it has none, or all of its tasks are complete."""
        return self._found[array.array].get(index)

    def scan(self, scan: RecordScan) -> None:
        """Read what was appended to the logs. Raises LogShrank."""
        for array in self._arrays:
            found = self._found[array.array]
            if scan.are_complete(spans(array.tasks)):
                found.clear()
                continue
            elements = -(-count(array.tasks) // array.pack)
            for first in range(0, elements, SHARD):
                self._scan_shard(array, first, min(SHARD, elements - first), scan)
        self.add_failed(scan)

    def _scan_shard(self, array: Array, first: int, length: int, scan: RecordScan) -> None:
        found, pack = self._found[array.array], array.pack
        if scan.are_complete(slice_spans(array.tasks, first * pack, length * pack)):
            for index in [index for index in found if first <= index < first + length]:
                del found[index]
            return
        place = os.path.dirname(self._folder.element(array.array, first, "rec"))
        try:
            names = os.listdir(place)
        except FileNotFoundError:
            names = []
        there = {int(name[: -len(_LOG)]) for name in names if name.endswith(_LOG) and name[: -len(_LOG)].isdigit()}
        for index in sorted(there.union(index for index in found if first <= index < first + length)):
            if not self._is_over(array, index, scan):
                if index not in there:
                    raise LogShrank(place)
                self._read(array, index, scan, "%s/%d%s" % (place, index, _LOG))
                self._is_over(array, index, scan)

    def _is_over(self, array: Array, index: int, scan: RecordScan) -> bool:
        """Drop an element whose tasks are all complete, and return True for it."""
        over = scan.are_complete(slice_spans(array.tasks, index * array.pack, array.pack))
        if over:
            self._found[array.array].pop(index, None)
        return over

    def _read(self, array: Array, index: int, scan: RecordScan, path: str) -> None:
        found = self._found[array.array]
        element = found.get(index)
        try:
            if element is not None and os.stat(path).st_size == element.offset:
                return
            element = element or ElementScan(array, index)
            element.read(path, scan)
            found[index] = element
        except FileNotFoundError:
            if index in found:
                raise LogShrank(path) from None
        except OSError:  # another machine may read it; what is known of it stays
            pass

    def has_grown(self, array: str, index: int) -> bool:
        """Return True if something was appended to the element's log since it was read."""
        element = self._found[array].get(index)
        try:
            return os.stat(self._folder.element(array, index, "rec")).st_size > (element.offset if element else 0)
        except OSError:
            return False

    def read_again(self, tasks: Iterable[int], scan: RecordScan) -> None:
        """Read what was appended to the logs of the elements that have these tasks; all of a log that has a hole."""
        wanted = list(tasks)
        for array in self._arrays:
            for index in sorted(elements_of(array, wanted)):
                known = self._found[array.array].get(index)
                element = ElementScan(array, index) if known is None or known.has_hole else known
                with suppress(OSError, LogShrank):  # the next scan reads it anew
                    element.read(self._folder.element(array.array, index, "rec"), scan)
                    self._found[array.array][index] = element
        self.add_failed(scan)

    def add_failed(self, scan: RecordScan) -> None:
        """Tell the scan the failures, those of older generations first."""
        for array in self._arrays:
            for element in self._found[array.array].values():
                for task, facts in element.failed.items():
                    scan.add_failed(task, facts)


def elements_of(array: Array, tasks: List[int]) -> List[int]:
    """Return the indices of the elements that have some of the tasks (ascending)."""
    positions = (position_of(array.tasks, task) for task in tasks)
    return sorted({position // array.pack for position in positions if position is not None})
