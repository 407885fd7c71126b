"""Read the ends of task logs, and the output of the scheduler for tasks without a log."""

import glob
import os
from typing import Any, Dict, List, Optional, Tuple

from ..shared.errors import NodeError
from ..shared.files import tail
from ..shared.ledger import Array, arrays_of
from ..shared.ranges import spans
from ..shared.run_folder import RunFolder, existing_run, read_run
from ..shared.task_record import read_record
from . import records

LINE_LIMIT = 64 << 10
# Names of the scheduler's files and the number of an array's first element: SLURM and local, Grid Engine.
_OUTPUTS = (("%s_%d.out", 0), ("*.o%s.%d", 1))
# preamble.sh writes this line when an element was requeued: the output before is that of an earlier attempt.
_AGAIN = "hpc-agent: the scheduler started this element again\n"


def logs(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return the last ``lines`` of the logs of ``tasks`` (ids), or of ``limit`` failed tasks with ``all_failed``."""
    folder = existing_run(request["root"], request["run_id"])
    total = read_run(folder).task_count
    wanted = [int(task) for task in request.get("tasks") or []]
    failed: Optional[int] = None
    if request.get("all_failed"):
        every = sorted(records.scan(folder, total, {}).failed)
        failed, wanted = len(every), every[: int(request["limit"])]
    outside = [task for task in wanted if not 0 <= task < total]
    if outside:
        raise NodeError("spec_invalid", "there is no task %d: the run has tasks 0 to %d" % (outside[0], total - 1))
    arrays = arrays_of(folder)
    since = request.get("since") or {}
    shown = [_log_of_task(folder, arrays, task, int(request["lines"]), since.get(str(task))) for task in wanted]
    return {"logs": shown, "failed": failed}


def _log_of_task(folder: RunFolder, arrays: List[Array], task: int, lines: int, since: Optional[int]) -> Dict[str, Any]:
    generations = sorted({a.generation for a in arrays}, reverse=True) or [1]
    path = next((p for p in (folder.log(task, g) for g in generations) if os.path.exists(p)), None)
    content, size = "", None
    if path is not None:
        size = os.path.getsize(path)
        content, size = (tail(path, lines, LINE_LIMIT), size) if since is None else _added(path, since)
    record = read_record(folder, task)
    shown = {name: getattr(record, name, None) for name in ("state", "cause", "message", "host")}
    shown["message"] = shown["message"] or None
    output = scheduler_output(folder, arrays, task, lines)
    return dict(shown, task=task, path=path, content=content, size=size, missing=path is None, scheduler_output=output)


def _added(path: str, since: int) -> Tuple[str, int]:
    """Return the whole lines after byte ``since`` of a log, and the offset of their end.

    A log that is longer than its head goes on in other files (execute.Log), which are not followed.
    """
    with open(path, "rb") as handle:
        handle.seek(since)
        data = handle.read(LINE_LIMIT)
    whole = data[: data.rfind(b"\n") + 1] if len(data) < LINE_LIMIT else data
    return whole.decode("utf-8", "replace"), since + len(whole)


def scheduler_output(folder: RunFolder, arrays: List[Array], task: int, lines: int) -> str:
    """Return the scheduler's output for the task's element: a module that did not load, a kill, a full node disk."""
    parent = glob.escape(folder.scheduler_logs)
    for array in reversed(arrays):
        if not array.job_id or not any(start <= task < stop for start, stop in spans(array.tasks)):
            continue
        position = sum(min(stop, task) - start for start, stop in spans(array.tasks) if start < task)
        for pattern, first in _OUTPUTS:
            for path in glob.glob(os.path.join(parent, pattern % (array.job_id, position // array.pack + first))):
                return (tail(path, lines, LINE_LIMIT) + "\n").rpartition(_AGAIN)[2][:-1]
    return ""
