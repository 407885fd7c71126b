"""The ends of task logs, and the scheduler's own words where a task wrote none."""

import glob
import os
from typing import Any, Dict, List, Optional, Tuple

from ..shared import run_folder
from ..shared.errors import NodeError
from ..shared.files import read_json
from ..shared.ledger import Array, arrays_of
from ..shared.log_tail import tail
from ..shared.ranges import spans
from . import records

LINE_LIMIT = 64 << 10


def logs(request: Dict[str, Any]) -> Dict[str, Any]:
    """``tasks`` (ids) or ``all_failed`` (at most ``limit`` of them); ``lines`` of each."""
    folder = run_folder.existing_run(request["root"], request["run_id"])
    total = int(read_json(folder.document)["task_count"])
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
    shown = [_one(folder, arrays, task, int(request["lines"]), since.get(str(task))) for task in wanted]
    return {"logs": shown, "failed": failed}


def _one(
    folder: run_folder.RunFolder, arrays: List[Array], task: int, lines: int, since: Optional[int]
) -> Dict[str, Any]:
    record = records.read(folder, task)
    generations = sorted({a.generation for a in arrays}, reverse=True) or [1]
    for generation in generations:
        path = folder.log(task, generation)
        if os.path.exists(path):
            size = os.path.getsize(path)
            if since is None:
                content = tail(path, lines, LINE_LIMIT)
            else:
                content, size = _added(path, since)
            entry = {"task": task, "path": path, "content": content, "size": size, "missing": False}
            break
    else:
        entry = {"task": task, "path": None, "content": "", "size": None, "missing": True}
    entry["scheduler_output"] = scheduler_output(folder, arrays, task, lines)
    entry["state"] = record.get("state") if record else None
    entry["cause"] = record.get("cause") if record else None
    entry["message"] = record.get("message") if record else None
    entry["host"] = record.get("host") if record else None
    return entry


def _added(path: str, since: int) -> Tuple[str, int]:
    """What was added to a log after byte ``since``, in whole lines, and where it ends. Beyond its head a log is turned
    (execute.Log) and is not followed.
    """
    with open(path, "rb") as handle:
        handle.seek(since)
        data = handle.read(LINE_LIMIT)
    whole = data[: data.rfind(b"\n") + 1] if len(data) < LINE_LIMIT else data
    return whole.decode("utf-8", "replace"), since + len(whole)


def scheduler_output(folder: run_folder.RunFolder, arrays: List[Array], task: int, lines: int) -> str:
    """What the scheduler wrote for the task's element: a module that did not load, a kill, a full node disk."""
    for array in reversed(arrays):
        position = _position(array.tasks, task)
        if position is None or not array.job_id:
            continue
        element = position // array.pack
        for index in (element, element + 1):
            for pattern in ("%s_%d.out", "*.o%s.%d"):
                for path in glob.glob(
                    os.path.join(glob.escape(folder.scheduler_logs), pattern % (array.job_id, index))
                ):
                    is_sge = pattern.startswith("*")
                    if (index == element + 1) == is_sge:
                        return tail(path, lines, LINE_LIMIT)
    return ""


def _position(ranges: str, task: int) -> Optional[int]:
    offset = 0
    for start, stop in spans(ranges):
        if start <= task < stop:
            return offset + task - start
        offset += stop - start
    return None
