"""Explain tasks that ended without a record, and tasks that were killed, from the scheduler's accounting."""

import bisect
import time
from typing import Any, Dict, List, Tuple

from ..schedulers.base import AccountingRow
from ..shared.ledger import Array
from ..shared.ranges import spans
from ..shared.task_states import FAILED, LOST
from .attempts import Attempts
from .failure_facts import FailureFacts

# Causes that the scheduler knows better than the process that it killed.
REFINED = ("signal", "terminated")
# Accounting is seconds late: a killed task waits this long for its explanation before the run counts as ended.
EXPLANATION_SEC = 30.0
# A record may arrive this long after the scheduler reported that the task ended well.
RECORD_LATE_SEC = 90.0
# A job that is deleted while it is pending leaves no trace. A task counts as deleted after this time without an entry in
# the queue, in accounting or among the claims. Accounting is more than a minute late only where it is broken.
VANISHED_SEC = 60.0

Rows = Dict[Tuple[str, int], AccountingRow]


class Explanations(object):
    """What accounting adds to the records. ``cache`` keeps the explanations for the next status."""

    def __init__(self, attempts: Attempts, cache: Dict[str, Any]) -> None:
        self._attempts = attempts
        self._failed = attempts.records.failed
        self._state = attempts.state
        self._cache = cache

    def explain(self, scheduler: Any, lost: List[Array]) -> bool:
        """Ask accounting about the unsettled tasks of ``lost`` and about killed tasks.

        Return True while accounting may still explain a task that was killed a moment ago.
        """
        killed = [task for task in sorted(self._failed) if self._is_unexplained_kill(task)]
        jobs = {str(self._failed[task].job) for task in killed}
        wanted = {str(a.job_id): a for a in self._attempts.arrays if a in lost or str(a.job_id) in jobs}
        if wanted:
            found: Rows = {}
            for row in scheduler.accounting(sorted(wanted), min(a.at for a in wanted.values())):
                found[(row.job, row.element)] = row
            self._settle_lost(lost, found)
            self._keep_explanations(killed, found)
        self._use_explanations()
        recently = time.time() - EXPLANATION_SEC
        return any(not self.has(task) and (self._failed[task].ended_at or 0) > recently for task in killed)

    def settle_vanished(self, lost: List[Array]) -> None:
        """Set tasks to LOST that were never claimed and that were deleted while they waited."""
        earlier, now = self._cache.get("vanished", {}), time.time()
        still = self._cache["vanished"] = {}
        for task, entry in self._attempts.unsettled(lost):
            key = "%d.%d" % (task, entry.generation)
            still[key] = float(earlier.get(key) or now)
            if now - still[key] > VANISHED_SEC and not self._attempts.is_claimed(entry, task):
                self._state[task] = LOST
                self._failed[task] = _vanished_facts(entry)

    def has(self, task: int) -> bool:
        """Return True if accounting has explained this attempt of the task."""
        facts, known = self._failed[task], self._cache.get("refined", {}).get(str(task))
        return bool(known and known["generation"] == facts.generation and known.get("attempt") == facts.attempt)

    def _is_unexplained_kill(self, task: int) -> bool:
        return self._state[task] == FAILED and self._failed[task].cause in REFINED and not self.has(task)

    def _settle_lost(self, lost: List[Array], found: Rows) -> None:
        elements = {entry.array: _Elements(entry) for entry in lost}
        for task, entry in self._attempts.unsettled(lost):
            row = found.get((str(entry.job_id), elements[entry.array].of_task(task)))
            if row is None or (not row.cause and not self._record_overdue(task)):
                continue
            self._state[task] = LOST
            self._failed[task] = _lost_facts(entry, row)

    def _record_overdue(self, task: int) -> bool:
        """Return True if the record of a task that ended well is too late (file servers lag)."""
        first_seen = self._cache.setdefault("without_record", {}).setdefault(str(task), time.time())
        return bool(time.time() - float(first_seen) > RECORD_LATE_SEC)

    def _keep_explanations(self, tasks: List[int], found: Rows) -> None:
        kept = self._cache.setdefault("refined", {})
        for task in tasks:
            facts = self._failed[task]
            row = found.get((str(facts.job), facts.element or 0))
            if row is not None:
                better = row.cause not in (None, "exit", "signal")
                kept[str(task)] = {
                    "generation": facts.generation,
                    "attempt": facts.attempt,
                    "cause": row.cause if better else facts.cause,
                    "raw": row.raw if better else None,
                }

    def _use_explanations(self) -> None:
        for task, facts in self._failed.items():
            if self._state[task] == FAILED and self.has(task):
                known = self._cache["refined"][str(task)]
                facts = facts._replace(cause=known["cause"])
                if known["raw"]:
                    message = "%s; the scheduler says %s" % (facts.message, known["raw"])
                    facts = facts._replace(raw=known["raw"], message=message)
                self._failed[task] = facts


class _Elements(object):
    """The elements of an array, by task."""

    def __init__(self, entry: Array) -> None:
        self._pack = entry.pack
        self._starts: List[int] = []
        self._offsets: List[int] = []
        offset = 0
        for start, stop in spans(entry.tasks):
            self._starts.append(start)
            self._offsets.append(offset)
            offset += stop - start

    def of_task(self, task: int) -> int:
        place = bisect.bisect_right(self._starts, task) - 1
        return (self._offsets[place] + task - self._starts[place]) // self._pack


def _lost_facts(entry: Array, row: AccountingRow) -> FailureFacts:
    kept = ("exit_code", "signal", "host", "job", "element", "seconds", "max_rss_mb", "raw")
    return FailureFacts.from_json({key: getattr(row, key) for key in kept})._replace(
        generation=entry.generation,
        cause=row.cause or "no_record",
        message="the scheduler says %s; the task left no record" % row.raw,
        evidence="accounting",
    )


def _vanished_facts(entry: Array) -> FailureFacts:
    message = "it left the queue without having started, and accounting knows nothing of it: deleted while it waited"
    return FailureFacts("never_started", message, generation=entry.generation, job=entry.job_id, evidence="absence")
