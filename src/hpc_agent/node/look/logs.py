"""Find and read the ends of task logs, and the output of the scheduler for tasks without a log."""

import os
from contextlib import suppress
from typing import Dict, List, Optional, Tuple

from ..shared.files import tail
from ..shared.ledger import Array
from ..shared.ranges import position_of
from ..shared.run_folder import RunFolder

LINE_LIMIT = 64 << 10
# preamble.sh writes this line when an element was requeued: the output before is that of an earlier attempt.
_AGAIN = "hpc-agent: the scheduler started this element again\n"


def newest_log(folder: RunFolder, arrays: List[Array], task: int) -> Optional[str]:
    """Return the path of the log of the task's newest attempt that has one."""
    generations = sorted({a.generation for a in arrays}, reverse=True) or [1]
    return next((p for p in (folder.log(task, g) for g in generations) if os.path.exists(p)), None)


def added(path: str, since: int) -> Tuple[str, int]:
    """Return the whole lines after byte ``since`` of a log, and the offset of their end.

    A log that is longer than its head goes on in other files (execute.Log), which are not followed.
    """
    with open(path, "rb") as handle:
        handle.seek(since)
        data = handle.read(LINE_LIMIT)
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
