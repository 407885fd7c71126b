"""The state of every task of a run: task records first, then the queue, then accounting.

A task is complete only by its record. A task that has left the queue is not finished: accounting is asked for its end.
A query that failed is no answer: the last good states are shown, marked stale.
"""

import time
from typing import Any, Dict, List, Optional, Tuple

from ..schedulers import load
from ..shared.errors import NodeError
from ..shared.files import read_json, write_json
from ..shared.ledger import Array
from ..shared.ranges import spans
from ..shared.run_folder import RunFolder
from ..shared.task_states import PENDING, RUNNING, UNKNOWN
from .accounting import Explanations
from .attempts import Attempts
from .queue_states import QueueStates
from .records import CACHE_VERSION

_ACTIVE = (("running", RUNNING), ("pending", PENDING))


class RunStatus(Attempts):
    """The attempts of a run after the queue and accounting were asked.

    waiting      why tasks wait: (state, reason) -> count
    stale        the query that failed, or None
    unexplained  True while accounting may still explain a killed task
    """

    def __init__(self, folder: RunFolder, site: Dict[str, Any], scheduler: Any = None) -> None:
        self.cache = _load_cache(folder)
        super(RunStatus, self).__init__(folder, self.cache)
        self.stale: Optional[Dict[str, Any]] = None
        self.unexplained = False
        self._queue = QueueStates(self)
        self._explanations = Explanations(self, self.cache)
        self._update(scheduler or load(self.run.scheduler, site))

    @property
    def waiting(self) -> Dict[Tuple[str, str], int]:
        return self._queue.waiting

    def save(self) -> None:
        """Keep the cache for the next status. The cache only saves time, so a full or read-only disk is no error."""
        try:
            write_json(self.folder.status_cache, self.cache, sync=False)
        except OSError:
            pass

    def _update(self, scheduler: Any) -> None:
        submitted = [a for a in self.arrays if a.job_id and self._is_unfinished(a)]
        for entry in self.arrays:
            if not entry.job_id:
                self._queue.mark_unsubmitted(entry)
        try:
            if submitted:
                self._queue.mark_submitted(scheduler.queue([a.job_id for a in submitted]), submitted)
        except NodeError as error:
            self._restore_last_good(error)
            return
        active = {name: ranges_of(self.state, value) for name, value in _ACTIVE}
        self.cache["last_good"] = {"state": active, "at": time.time()}
        lost = [a for a in submitted if any(True for _ in self.unsettled([a]))]
        try:
            self.unexplained = self._explanations.explain(scheduler, lost)
        except NodeError as error:
            # Accounting that is switched off never answers; a database that is down is asked again.
            if error.code != "remote_command_failed":
                self.stale = _stale("accounting", error, None)
        if self.stale is None:
            self._explanations.settle_vanished(lost)

    def _is_unfinished(self, entry: Array) -> bool:
        """Return True if the array has a task that no final record settles."""
        if any(self.state.find(UNKNOWN, start, stop) >= 0 for start, stop in spans(entry.tasks)):
            return True
        return any(self._may_go_on(entry, task) for task in self.failed_records(entry))

    def _may_go_on(self, entry: Array, task: int) -> bool:
        """Return True if the failed record may belong to an older attempt, or to one that was requeued since."""
        requeueable = self.may_be_requeued(entry, task) and not self._explanations.has(task)
        return requeueable or not self.has_ended(entry, task)

    def _restore_last_good(self, error: NodeError) -> None:
        earlier = self.cache.get("last_good") or {}
        self.stale = _stale("queue", error, earlier.get("at"))
        for name, value in _ACTIVE:
            for start, stop in spans(earlier.get("state", {}).get(name, "")):
                for task in range(start, min(stop, self.total)):
                    if self.records.state[task] == UNKNOWN:
                        self.state[task] = value


def ranges_of(state: bytearray, *values: int) -> str:
    """Return the ids in one of the states, as ranges. Works on runs of equal bytes: fast for a million tasks."""
    table = bytes(1 if byte in values else 0 for byte in range(256))
    flags = bytes(state).translate(table)
    parts: List[str] = []
    start = flags.find(1)
    while start >= 0:
        stop = flags.find(0, start)
        stop = len(flags) if stop < 0 else stop
        parts.append("%d" % start if stop == start + 1 else "%d-%d" % (start, stop - 1))
        start = flags.find(1, stop)
    return ",".join(parts)


def _load_cache(folder: RunFolder) -> Dict[str, Any]:
    try:
        cache = read_json(folder.status_cache, {})
    except ValueError:
        cache = {}
    return cache if cache.get("version") == CACHE_VERSION else {"version": CACHE_VERSION}


def _stale(source: str, error: NodeError, since: Any) -> Dict[str, Any]:
    return {"source": source, "since": since, "error": error.message, "code": error.code}
