"""Find and read the ends of task logs, and the output of the scheduler for tasks without a log."""

import os
from contextlib import suppress
from typing import Dict, List, Optional, Tuple

from ..shared.files import tail
from ..shared.ledger import Array
from ..shared.ranges import position_of
from ..shared.run_folder import RunFolder
from ..shared.task_records import Records, TaskLog

LINE_LIMIT = 64 << 10
# preamble.sh writes this line when an element was requeued: the output before is that of an earlier attempt.
_AGAIN = "hpc-agent: the scheduler started this element again\n"


def newest_log(reader: Records, task: int) -> Optional[TaskLog]:
    """Return the log of the task's newest attempt that has one."""
    newest_first = sorted(reader.arrays, key=lambda array: -array.generation)
    return next(filter(None, (reader.log(array, task) for array in newest_first)), None)


def log_tail(log: TaskLog, lines: int, limit: int) -> str:
    """Return the last lines of a task's log, at most ``limit`` bytes."""
    return tail(log.path, lines, limit, log.offset, log.length)


def end_of(log: TaskLog) -> int:
    """Return the offset in the file at which a task's log ends now."""
    size = os.path.getsize(log.path)
    return size if log.length is None else min(size, log.offset + log.length)


def added(log: TaskLog, since: int) -> Tuple[str, int]:
    """Return the whole lines of a log after byte ``since`` of its file, and the offset of their end.

    A log that is longer than its head goes on in other files (job/outputs.py), which are not followed.
    """
    end = end_of(log)
    since = since if log.offset <= since <= end else log.offset  # another attempt
    with open(log.path, "rb") as handle:
        handle.seek(since)
        data = handle.read(min(LINE_LIMIT, end - since))
    whole = data[: data.rfind(b"\n") + 1] if len(data) < LINE_LIMIT else data
    return whole.decode("utf-8", "replace"), since + len(whole)


class SchedulerLogs(object):
    """The files that the scheduler writes for the elements of a run. Their folder is listed once at most."""

    def __init__(self, folder: RunFolder) -> None:
        self._parent = folder.scheduler_logs
        self._names: Optional[Dict[str, str]] = None  # "JOB.ELEMENT" -> file name, as Grid Engine writes them

    def output(self, arrays: List[Array], task: int, lines: int) -> str:
        """Return the output for the task's latest element: a module that did not load, a kill, a full node disk."""
        for array in reversed(arrays):
            position = position_of(array.tasks, task)
            if not array.job_id or position is None:
                continue
            path = self._path(array.job_id, position // array.pack)
            if path is not None:
                return (tail(path, lines, LINE_LIMIT) + "\n").rpartition(_AGAIN)[2][:-1]
        return ""

    def _path(self, job: str, element: int) -> Optional[str]:
        path = os.path.join(self._parent, "%s_%d.out" % (job, element))  # SLURM and local
        if os.path.exists(path):
            return path
        if self._names is None:
            with suppress(OSError):
                self._names = {name.rpartition(".o")[2]: name for name in os.listdir(self._parent)}
        name = (self._names or {}).get("%s.%d" % (job, element + 1))
        return os.path.join(self._parent, name) if name else None
