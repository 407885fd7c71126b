"""Explain tasks that ended without a record, and tasks that were killed, from the scheduler's accounting."""

import signal
import time
from typing import Any, Dict, List, Tuple

from ..schedulers.base import AccountingRow
from ..shared.ledger import Array
from ..shared.ranges import decode_ranges
from ..shared.task_states import FAILED, LOST, UNKNOWN
from .attempts import Attempts
from .recorded import FailureFacts

# Causes that the scheduler knows better than the process that it killed.
REFINED = ("signal", "terminated")
# Accounting is seconds late: a killed task waits this long for its explanation before the run counts as ended.
EXPLANATION_SEC = 30.0
# A record may arrive this long after the scheduler reported that the task ended well, or its element by itself.
RECORD_LATE_SEC = 90.0
# The exit code of a dispatcher that has recorded the failure of a task.
RECORDED_FAILURE = 1
# A job that is deleted while it is pending leaves no trace. A task counts as deleted after this time without an entry in
# the queue, in accounting or among the claims. Accounting is more than a minute late only where it is broken.
VANISHED_SEC = 60.0
VANISHED = "it left the queue without having started, and accounting knows nothing of it: deleted while it waited"
VANISHED_LATER = "its element left the queue before it had begun this task, and accounting knows nothing of it"
# Fields of an accounting row that are facts about the failure.
_ROW_FACTS = ("exit_code", "signal", "host", "job", "element", "seconds", "max_rss_mb", "raw")

Rows = Dict[Tuple[str, int], AccountingRow]


def explain(attempts: Attempts, scheduler: Any, lost: List[Array]) -> bool:
    """Ask accounting about unsettled tasks and killed ones. Return True while it may still explain a recent kill."""
    failed = attempts.records.failed
    unclear = (task for task in sorted(failed) if failed[task].cause in REFINED and attempts.state[task] == FAILED)
    killed = [task for task in unclear if not attempts.is_explained(task)]
    jobs = {str(failed[task].job) for task in killed}
    wanted = {str(a.job_id): a for a in attempts.arrays if a in lost or str(a.job_id) in jobs}
    rows = scheduler.accounting(sorted(wanted), min(a.at for a in wanted.values())) if wanted else []
    found = {(row.job, row.element): row for row in rows}
    _settle_lost(attempts, lost, found)
    _refine(attempts, killed, found)
    recently = time.time() - EXPLANATION_SEC
    return any(not attempts.is_explained(task) and (failed[task].ended_at or 0) > recently for task in killed)


def settle_vanished(attempts: Attempts, lost: List[Array]) -> None:
    """Set tasks to LOST that were never claimed and that were deleted while they waited."""
    earlier, now = attempts.cache.get("vanished", {}), time.time()
    still = attempts.cache["vanished"] = {}
    for task, entry in attempts.unsettled(lost):
        key = "%d.%d" % (task, entry.generation)
        still[key] = float(earlier.get(key) or now)
        if now - still[key] > VANISHED_SEC and not attempts.is_claimed(entry, task):
            said = VANISHED_LATER if attempts.has_started(entry, task) else VANISHED
            facts = FailureFacts("never_started", said, entry.generation, job=entry.job_id, evidence="absence")
            attempts.state[task], attempts.records.failed[task] = LOST, facts


def _settle_lost(attempts: Attempts, lost: List[Array], found: Rows) -> None:
    without_record = attempts.cache.setdefault("without_record", {})
    for entry in lost:
        for position, task in enumerate(decode_ranges(entry.tasks)):
            is_unsettled = attempts.state[task] == UNKNOWN and attempts.is_latest(entry, task)
            row = found.get((str(entry.job_id), position // entry.pack)) if is_unsettled else None
            if row is None:
                continue
            # The record of a task may be late, for file servers lag: of one that ended well, and of those that an element
            # ran which ended by itself, with the code of a dispatcher that has recorded a failure.
            if not row.cause or (row.cause == "exit" and row.exit_code == RECORDED_FAILURE):
                since = float(without_record.setdefault(str(task), time.time()))
                if time.time() - since <= RECORD_LATE_SEC:
                    continue
            said = "the scheduler says %s; the task left no record" % row.raw
            ending = {name: getattr(row, name) for name in _ROW_FACTS}
            facts = FailureFacts(row.cause or "no_record", said, entry.generation, evidence="accounting", **ending)
            attempts.state[task], attempts.records.failed[task] = LOST, facts


def _refine(attempts: Attempts, killed: List[int], found: Rows) -> None:
    """Keep the explanations of killed tasks, and replace the causes of all that are explained."""
    failed, kept = attempts.records.failed, attempts.cache.setdefault("refined", {})
    for task in killed:
        facts = failed[task]
        row = found.get((str(facts.job), facts.element or 0))
        if row is not None:
            is_own = row.cause in (None, "exit", "signal") or _ended_before(attempts, task, row)
            cause, raw = (facts.cause, None) if is_own else (row.cause, row.raw)
            kept[str(task)] = {"generation": facts.generation, "attempt": facts.attempt, "cause": cause, "raw": raw}
    for task, facts in failed.items():
        if attempts.state[task] == FAILED and attempts.is_explained(task):
            known = kept[str(task)]
            said = "; the scheduler says %s" % known["raw"] if known["raw"] else ""
            message = "its walltime was over" if known["cause"] == "timeout" else facts.message
            failed[task] = facts._replace(cause=known["cause"], raw=known["raw"], message=message + said)


def _ended_before(attempts: Attempts, task: int, row: AccountingRow) -> bool:
    """Return True if the task ended by itself, and the element later. The kernel may kill one task for its memory."""
    is_of_kernel = row.cause == "out_of_memory" and attempts.records.failed[task].signal == signal.SIGKILL
    return attempts.was_followed(task) and not is_of_kernel
