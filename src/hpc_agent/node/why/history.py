"""The attempts of a task: what each asked for, how it ended, and on which node."""

import os
from contextlib import suppress
from typing import Any, Dict, List, Optional

from ..look.recorded import FailureFacts
from ..look.run_status import RunStatus
from ..shared.files import from_document, read_json
from ..shared.run_folder import RunFolder
from ..shared.task_record import COMPLETE

End = Dict[str, Any]  # cause, host, seconds
ASKED = ("walltime_sec", "mem_mb", "cpus", "gpus")


class Earlier(object):
    """The ends of attempts as the decisions to resubmit kept them. Files are read at the first question.

    A decision has ``ended``: [task, generation, class, host, seconds] of each failed task, whose record the next attempt
    replaces, or which never wrote one.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._rows: Optional[Dict[int, Dict[int, End]]] = None

    def of(self, task: int) -> Dict[int, End]:
        """Return generation -> {cause, host, seconds} of a task."""
        if self._rows is None:
            self._rows = {}
            folder = self._folder.resubmits
            for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
                with suppress(OSError, ValueError, TypeError, AttributeError):  # a damaged decision hides no failure
                    decision = read_json(os.path.join(folder, name))
                    for known, generation, cause, host, seconds in decision.get("ended", []):
                        row = {"cause": cause, "host": host, "seconds": seconds}
                        self._rows.setdefault(known, {})[generation] = row
        return self._rows.get(task, {})


def attempts_of(status: RunStatus, earlier: Earlier, task: int, last: Optional[End]) -> List[Dict[str, Any]]:
    """Return the attempts, oldest first: what was asked, cause (None: complete, or under way), host, seconds.

    ``last``: the end of the latest attempt of a failed task.
    """
    record, decided = status.reader.read(task), earlier.of(task)
    recorded = [*record.history, record._asdict()] if record else []
    attempts: List[Dict[str, Any]] = []
    for array in status.arrays_with(task):
        asked = {name: array.resources[name] for name in ASKED if array.resources.get(name)}
        own = [row for row in recorded if row.get("generation") == array.generation]
        ends = [{"cause": _cause(row), "host": row.get("host"), "seconds": row.get("seconds")} for row in own]
        kept = decided.get(array.generation)
        if status.is_latest(array, task) and last:
            kept = last
        if kept:  # its cause is by the log of the last attempt
            ends[-1:] = [kept]
        for end in ends or [{"cause": None, "host": None, "seconds": None}]:
            attempts.append(dict(end, attempt=len(attempts) + 1, asked=asked))
    return attempts


def _cause(row: Dict[str, Any]) -> Optional[str]:
    """Return the class of a recorded end by its facts alone: its log may be gone."""
    if row.get("state") == COMPLETE:
        return None
    from .classify import classify  # its tables are slow to load, and most runs have no failures
    from .failure_case import Limits

    known = {name: row[name] for name in FailureFacts._fields if name in row}
    return classify(from_document(FailureFacts, known), Limits(), "").name
