"""Explain tasks that ended without a record, and tasks that were killed, from the scheduler's accounting."""

import time
from typing import Any, Dict, List, Tuple

from ..schedulers.base import AccountingRow
from ..shared.ledger import Array
from ..shared.ranges import decode_ranges
from ..shared.task_states import FAILED, LOST, UNKNOWN
from .attempts import Attempts
from .records import FailureFacts

# Causes that the scheduler knows better than the process that it killed.
REFINED = ("signal", "terminated")
# Accounting is seconds late: a killed task waits this long for its explanation before the run counts as ended.
EXPLANATION_SEC = 30.0
# A record may arrive this long after the scheduler reported that the task ended well.
RECORD_LATE_SEC = 90.0
# A job that is deleted while it is pending leaves no trace. A task counts as deleted after this time without an entry in
# the queue, in accounting or among the claims. Accounting is more than a minute late only where it is broken.
VANISHED_SEC = 60.0
VANISHED = "it left the queue without having started, and accounting knows nothing of it: deleted while it waited"
# Fields of an accounting row that are facts about the failure.
_ROW_FACTS = ("exit_code", "signal", "host", "job", "element", "seconds", "max_rss_mb", "raw")

Rows = Dict[Tuple[str, int], AccountingRow]


class Explanations(object):
    """What accounting adds to the records. The cache keeps the explanations for the next status."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._failed = attempts.records.failed
        self._state = attempts.state
        self._cache = attempts.cache

    def has(self, task: int) -> bool:
        """Return True if accounting has explained this attempt of the task."""
        facts, known = self._failed[task], self._cache.get("refined", {}).get(str(task))
        return bool(known and known["generation"] == facts.generation and known.get("attempt") == facts.attempt)

    def explain(self, scheduler: Any, lost: List[Array]) -> bool:
        """Ask accounting about the unsettled tasks of ``lost`` and about killed tasks.

        Return True while accounting may still explain a task that was killed a moment ago.
        """
        killed = [
            task
            for task, facts in sorted(self._failed.items())
            if self._state[task] == FAILED and facts.cause in REFINED and not self.has(task)
        ]
        jobs = {str(self._failed[task].job) for task in killed}
        wanted = {str(a.job_id): a for a in self._attempts.arrays if a in lost or str(a.job_id) in jobs}
        found: Rows = {}
        if wanted:
            rows = scheduler.accounting(sorted(wanted), min(a.at for a in wanted.values()))
            found = {(row.job, row.element): row for row in rows}
        self._settle_lost(lost, found)
        self._refine(killed, found)
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
                self._failed[task] = FailureFacts(
                    "never_started", VANISHED, entry.generation, job=entry.job_id, evidence="absence"
                )

    def _settle_lost(self, lost: List[Array], found: Rows) -> None:
        without_record = self._cache.setdefault("without_record", {})
        for entry in lost:
            for position, task in enumerate(decode_ranges(entry.tasks)):
                if self._state[task] != UNKNOWN or not self._attempts.is_latest(entry, task):
                    continue
                row = found.get((str(entry.job_id), position // entry.pack))
                if row is None:
                    continue
                # The record of a task that ended well may be late: file servers lag.
                if not row.cause:
                    since = float(without_record.setdefault(str(task), time.time()))
                    if time.time() - since <= RECORD_LATE_SEC:
                        continue
                self._state[task] = LOST
                self._failed[task] = FailureFacts(
                    cause=row.cause or "no_record",
                    message="the scheduler says %s; the task left no record" % row.raw,
                    generation=entry.generation,
                    evidence="accounting",
                    **{name: getattr(row, name) for name in _ROW_FACTS},
                )

    def _refine(self, killed: List[int], found: Rows) -> None:
        """Keep the explanations of killed tasks, and replace the causes of all that are explained."""
        kept = self._cache.setdefault("refined", {})
        for task in killed:
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
        for task, facts in self._failed.items():
            if self._state[task] == FAILED and self.has(task):
                known = kept[str(task)]
                self._failed[task] = facts = facts._replace(cause=known["cause"])
                if known["raw"]:
                    message = "%s; the scheduler says %s" % (facts.message, known["raw"])
                    self._failed[task] = facts._replace(raw=known["raw"], message=message)
