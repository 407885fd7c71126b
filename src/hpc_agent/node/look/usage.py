"""What the tasks of a run used, for the plans of later runs: exact of complete tasks, a lower bound of failed ones."""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from ..shared.files import read_json
from ..shared.ledger import Array
from ..shared.ranges import decode_ranges
from ..shared.rungs import STOPPED_AT
from ..shared.task_record import COMPLETE, TaskRecord
from ..shared.task_records import Records
from .attempts import Attempts
from .recorded import FailureFacts

MOST_ROWS = 300
# Class of the failures that end at a limit -> the limit in the request, and the field of the row that it bounds.
LIMITS = {"walltime": ("walltime_sec", "seconds"), "out_of_memory": ("mem_mb", "max_rss_mb")}
AT_LEAST = "_at_least"


class Ending(NamedTuple):
    """How a failed task ended: the class, the facts, and the array of the attempt."""

    name: str
    facts: FailureFacts
    array: Array


def spread(tasks: Sequence[int], most: int) -> Sequence[int]:
    """Return at most ``most`` of the tasks, evenly spread."""
    return tasks[:: max(1, -(-len(tasks) // most))]


def stamp(attempts: Attempts) -> str:
    """Return a text that changes when tasks of an ended run were run again."""
    newest = max([array.generation for array in attempts.arrays], default=1)
    return "%d of %d in %d" % (attempts.state.count(1), attempts.total, newest)


def resubmitted(arrays: List[Array]) -> List[int]:
    """Return the tasks that were submitted again."""
    return sorted({task for array in arrays if array.resubmit for task in decode_ranges(array.tasks)})


def used_resources(reader: Records, total: int, endings: Optional[Dict[int, Ending]] = None) -> List[Dict[str, Any]]:
    """Return a row for each of at most 300 tasks: those of ``endings`` and resubmitted ones, then others of the whole run.

    A row has task, seconds, max_rss_mb (MiB), cpu_seconds, gpu_mem_mb (where it was measured), wait_sec (from the
    array's submission, so also for earlier jobs of the queue), kwargs (scalars only). The row of a failed task has its
    class, and ``seconds_at_least``, ``max_rss_mb_at_least``: it might have used more. One that ended itself early has
    ``seconds_at_least``.
    """
    endings = endings or {}
    arrays, document = reader.arrays, reader.folder.document
    early_stop = read_json(document, {}).get("early_stop")  # without a rule, stopped_at is a metric of the user
    submitted = {array.array: array.submitted_at for array in arrays}
    first = list(endings) + list(spread(resubmitted(arrays), MOST_ROWS // 3))
    others = spread(range(total), max(1, MOST_ROWS - len(set(first))))
    rows = []
    for task in sorted({*first, *others}):
        record, ending = reader.read(task), endings.get(task)
        if record is not None and record.state == COMPLETE:
            row = {name: getattr(record, name) for name in ("seconds", "max_rss_mb", "cpu_seconds", "gpu_mem_mb")}
            if early_stop and STOPPED_AT in (record.metrics or {}):  # its whole work would have taken longer
                row["seconds" + AT_LEAST] = row.pop("seconds")
            submitted_at = submitted.get(record.array)
            if submitted_at is not None and record.started_at:
                row["wait_sec"] = round(max(0.0, record.started_at - submitted_at), 1)
        elif ending is not None:
            row = _bounds(ending)
        else:
            continue
        row.update(task=task, kwargs=_scalars(record))
        rows.append({name: value for name, value in row.items() if value is not None})
    return rows


def _bounds(ending: Ending) -> Dict[str, Any]:
    """Return what a failed task used at least. A task that its limit ended had used all of the limit."""
    facts, array = ending.facts, ending.array
    # Accounting measures elements: of a packed one it does not tell the time of each task.
    of_task = facts.evidence != "accounting" or array.pack == 1
    row = {"seconds": facts.seconds if of_task else None, "max_rss_mb": facts.max_rss_mb}
    limit, field = LIMITS.get(ending.name, ("", ""))
    asked = array.resources.get(limit) if field == "max_rss_mb" or array.pack == 1 else None
    if asked:
        row[field] = max(float(asked), float(row[field] or 0.0))
    return dict({name + AT_LEAST: value for name, value in row.items()}, **{"class": ending.name})


def _scalars(record: Optional[TaskRecord]) -> Dict[str, Any]:
    return {
        name: value
        for name, value in ((record and record.kwargs) or {}).items()
        if isinstance(value, (int, float)) or (isinstance(value, str) and len(value) <= 60)
    }
