"""What executors print: a file a task, or one file in which the tasks of a packed element follow each other.

A log keeps the first 32 MiB of a task and its last 8 to 16 MiB, so that an executor cannot fill the disk with output. Beyond
the head, output goes to ``<log>.tail``, which becomes ``<log>.tail.old`` whenever it is full; so the end is on disk even when
this process is killed.
"""

import os
from contextlib import suppress
from typing import Optional, Tuple

from ..shared.files import is_disk_full, remove_quietly, tail

HEAD_BYTES = 32 << 20
TAIL_BYTES = 8 << 20
_COPIED_AT_ONCE = 1 << 20


class Log(object):
    """The log of one task, in a file of its own."""

    def __init__(self, path: str, flags: int = os.O_WRONLY | os.O_TRUNC) -> None:
        self.path = path
        self._descriptor = os.open(path, flags | os.O_CREAT, 0o644)
        self._overflow: Optional[int] = None  # the descriptor of <log>.tail
        self._room = HEAD_BYTES
        self._is_full = False  # True: the disk is, and the rest of the task's output is lost

    def write(self, data: bytes) -> None:
        while data and not self._is_full:
            try:
                if self._room <= 0:
                    self._turn()
                target = self._descriptor if self._overflow is None else self._overflow
                written = os.write(target, data[: self._room] if len(data) > self._room else data)
            except OSError as error:
                # On a full disk the output is lost, and the executor goes on.
                self._is_full = is_disk_full(error)
                if not self._is_full:
                    raise
                return
            self._room -= written
            data = data[written:]

    def _turn(self) -> None:
        path = self.path + ".tail"
        if self._overflow is not None:
            self._close_overflow()
            os.replace(path, path + ".old")
        self._overflow = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        self._room = TAIL_BYTES

    def _close_overflow(self) -> None:
        if self._overflow is not None:
            descriptor, self._overflow = self._overflow, None  # its number may be that of another file now
            os.close(descriptor)

    def end(self) -> Tuple[Optional[int], Optional[int]]:
        """End the output of the task. Return its offset and length, where the file has those of other tasks too."""
        self.close()
        return None, None

    def close(self) -> None:
        with suppress(OSError):
            self._close_overflow()
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with suppress(OSError):
                os.close(descriptor)

    def tail(self, lines: int, limit: int) -> str:
        """Return the last lines of the task's output, at most ``limit`` bytes."""
        return tail(self.path, lines, limit)


class CombinedLog(Log):
    """The log of a slot of a packed element. The output of a task is the part between its ``begin`` and its ``end``."""

    def __init__(self, path: str) -> None:
        super(CombinedLog, self).__init__(path, os.O_RDWR | os.O_APPEND)
        self._offset = self._end = 0
        self._fold()  # what an element that was killed had printed last

    def begin(self) -> int:
        """Begin a task. Return the offset of its output."""
        self._room, self._is_full = HEAD_BYTES, False
        self._offset = os.fstat(self._descriptor).st_size
        return self._offset

    def end(self) -> Tuple[Optional[int], Optional[int]]:
        if self._overflow is not None:
            self._close_overflow()
            self._fold()
        self._end = os.fstat(self._descriptor).st_size
        return self._offset, self._end - self._offset

    def end_of(self, offset: int) -> int:
        """Return the length of the output after this offset: of a task whose process has died."""
        self._offset = offset
        return self.end()[1] or 0

    def _fold(self) -> None:
        """Append the files of the overflow, and remove them. On a full disk their output is lost."""
        for path in (self.path + ".tail.old", self.path + ".tail"):
            with suppress(FileNotFoundError):
                with open(path, "rb") as handle:
                    try:
                        data = handle.read(_COPIED_AT_ONCE)
                        while data:
                            data = data[os.write(self._descriptor, data) :] or handle.read(_COPIED_AT_ONCE)
                    except OSError as error:
                        if not is_disk_full(error):
                            raise
                remove_quietly(path)

    def tail(self, lines: int, limit: int) -> str:
        start = max(self._offset, self._end - limit)
        data = os.pread(self._descriptor, self._end - start, start)
        return "\n".join(data.decode("utf-8", "replace").splitlines()[-lines:])


def remove_log(path: str) -> None:
    """Remove all files of a log."""
    for name in (path, path + ".tail", path + ".tail.old"):
        remove_quietly(name)
