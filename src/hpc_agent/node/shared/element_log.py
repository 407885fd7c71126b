"""The log of a packed element: one line a frame, appended, so that a thousand tasks leave one file.

    <crc32 of the rest, 8 hex digits> s <JSON: job, host, at>                      the element has started
    <crc32> b <task> <slot> <at> <offset>                                          a task begins
    <crc32> r <task> <c or f> <seconds or -> <flags or -> <slot> <offset> <length> <JSON: the other fields of the record>

Times are seconds since the epoch; ``offset`` and ``length`` are bytes of the slot's combined output log. A reader skips a
damaged line: a crash tears only the last one, and a lost page of a file server damages those that lie in that page.
"""

import json
import os
import time
from typing import Any, Dict, Iterator, List, NamedTuple, Optional
from zlib import crc32

START, BEGIN, RECORD = b"s", b"b", b"r"
# Flags of a record that a look counts without reading its JSON.
OOM_KILLED, STOPPED_EARLY = "o", "e"
# While tasks run, records are on disk at the latest this long after the end of their tasks.
SYNC_SEC = 1.0


class Begun(NamedTuple):
    """The begin of a task."""

    task: int
    slot: int
    at: float
    offset: int


class Ended(NamedTuple):
    """The record of a task. ``body``: the JSON of the fields that are not named here."""

    task: int
    is_complete: bool
    seconds: Optional[float]
    flags: str
    slot: int
    offset: int
    length: int
    body: bytes


class ElementLog(object):
    """The log of one element, open for appending. With ``shared``, several processes of the element append."""

    def __init__(self, path: str, shared: bool = False) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        size = os.fstat(self._descriptor).st_size
        self._shared = shared  # then another process may have torn the last line
        self._is_torn = size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"
        self._unsynced: List[bytes] = []
        self._synced_at = time.monotonic()

    def start(self, job: str, host: str) -> None:
        """Append the start of the element. The frames that follow belong to this job and host."""
        self._append(b"s %s" % _json({"job": job, "host": host, "at": round(time.time(), 3)}))

    def begin(self, task: int, slot: int, offset: int) -> None:
        self._append(b"b %d %d %.3f %d" % (task, slot, time.time(), offset))

    def record(self, ended: Ended) -> None:
        """Append a record. Raises OSError: then the record is not kept, and may be appended again."""
        seconds = b"-" if ended.seconds is None else b"%.4f" % ended.seconds
        fields = (
            ended.task,
            b"c" if ended.is_complete else b"f",
            seconds,
            (ended.flags or "-").encode("ascii"),
            ended.slot,
            ended.offset,
            ended.length,
            ended.body,
        )
        self._append(b"r %d %s %s %s %d %d %d %s" % fields)

    def _append(self, text: bytes) -> None:
        line = b"%08x %s\n" % (crc32(text) & 0xFFFFFFFF, text)
        self._write(line)
        self._unsynced.append(line)

    def _write(self, line: bytes) -> None:
        """Write one line. Where its beginning alone fits on the disk, try once more, which raises the error."""
        for _ in range(3):
            data = b"\n" + line if self._is_torn or self._shared else line
            self._is_torn = True  # until the whole line is written: after a full disk, the next frame begins a line
            if os.write(self._descriptor, data) == len(data):
                self._is_torn = False
                return
        raise OSError("no frame is written in one part")

    def sync(self, at_once: bool = False) -> None:
        """Bring the frames to the disk, unless that was done within the last second and ``at_once`` is False.

        Raises OSError. A file server may have dropped what was written by then: the next call writes it again, and a
        reader takes a frame that it reads twice once.
        """
        now = time.monotonic()
        if not self._unsynced or not (at_once or now - self._synced_at >= SYNC_SEC):
            return
        if self._synced_at < 0:  # the call before has failed
            for line in self._unsynced:
                self._write(line)
        self._synced_at = -SYNC_SEC
        os.fsync(self._descriptor)
        self._unsynced, self._synced_at = [], now

    def close(self) -> None:
        """Close the file, whose frames may not be on the disk yet."""
        os.close(self._descriptor)


def _json(document: Dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def whole(data: bytes) -> int:
    """Return the number of bytes of whole lines. The rest is not written yet, or torn."""
    return data.rfind(b"\n") + 1


def sound_lines(data: bytes) -> Iterator[bytes]:
    """Yield the text of each undamaged frame, without its checksum."""
    for line in data.split(b"\n"):
        if is_sound(line):
            yield line[9:]


def is_sound(line: bytes) -> bool:
    """Return True for an undamaged frame."""
    try:
        return len(line) > 9 and int(line[:8], 16) == crc32(line[9:]) & 0xFFFFFFFF
    except ValueError:
        return False


def begun_of(text: bytes) -> Begun:
    _, task, slot, at, offset = text.split(b" ")
    return Begun(int(task), int(slot), float(at), int(offset))


def ended_of(text: bytes) -> Ended:
    _, task, state, seconds, flags, slot, offset, length, body = text.split(b" ", 8)
    return Ended(
        int(task),
        state == b"c",
        None if seconds == b"-" else float(seconds),
        "" if flags == b"-" else flags.decode("ascii"),
        int(slot),
        int(offset),
        int(length),
        body,
    )
