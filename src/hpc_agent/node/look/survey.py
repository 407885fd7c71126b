"""The truth about every task of a run: task records first, then the queue, then accounting.

A task is complete only by its record. What the queue does not know is not finished: accounting is asked why, and what
neither knows is unknown. A query that failed is not an answer: the last good one is shown, marked stale.

A task may be covered by several arrays: the first submission, segments of a chain, resubmissions. The newest
*generation* that covers it speaks for it.
"""

import array as typed_arrays
import bisect
import os
import time
from typing import Any, Dict, Iterable, List, Optional, Tuple

from ..schedulers import load
from ..schedulers.base import AccountingRow, QueueRow
from ..shared import run_folder, task_states, waiting_reasons
from ..shared.errors import NodeError
from ..shared.files import read_json, write_json
from ..shared.ledger import Array, arrays_of
from ..shared.ranges import slice_spans, spans
from ..shared.task_states import LOST, PENDING, RUNNING
from . import records

# Causes that the scheduler knows better than the process that it killed.
REFINED = ("signal", "terminated")
# Accounting is seconds late: for so long after its end a killed task waits for its explanation before the run counts as ended.
EXPLANATION_SEC = 30.0
# A record may be so late behind the scheduler's word that the task ended well.
RECORD_LATE_SEC = 90.0
# Deleted while pending leaves no trace at all: for so long neither queue, accounting nor a claim may tell of a task
# before that is taken for what happened. Accounting is seconds late, more than a minute only where it is broken.
VANISHED_SEC = 60.0
ACTIVE = ("running", "completing", "suspended")
# Only an executor that left a checkpoint is carried on by the next segment of its chain.
CONTINUED = "checkpointed"


class Survey(object):
    """One look at a run.

    state     one byte a task: task_states.UNKNOWN, COMPLETE, FAILED, or PENDING, RUNNING, LOST (failed, without a record)
    scan      the records; ``scan.failed`` has the facts of FAILED and LOST tasks
    arrays    the ledger, in the order of submission
    waiting   why tasks wait: (state, reason) -> count
    stale     what could not be asked, or None
    unexplained  a killed task whose explanation accounting may still bring
    """

    def __init__(self, folder: run_folder.RunFolder, site: Dict[str, Any], scheduler: Any = None) -> None:
        self.folder = folder
        self.run = read_json(folder.document)
        self.total = int(self.run["task_count"])
        self.cache = _load_cache(folder)
        self.scan = records.scan(folder, self.total, self.cache)
        self.arrays = arrays_of(folder)
        self.state = bytearray(self.scan.state)
        self.waiting: Dict[Tuple[str, str], int] = {}
        self.stale: Optional[Dict[str, Any]] = None
        self.unexplained = False
        self._generation = self._generations()
        self._failed_ids = sorted(self.scan.failed)
        self._ask(scheduler or load(self.run["scheduler"], site))

    def save(self) -> None:
        """Keep what saves time in the next look; it proves nothing, so a full or read-only disk is no trouble."""
        try:
            write_json(self.folder.status_cache, self.cache, sync=False)
        except OSError:
            pass

    def failed(self) -> List[int]:
        """Ids of the tasks that have failed, with or without a record."""
        return [task for task in sorted(self.scan.failed) if self.state[task] in (task_states.FAILED, LOST)]

    def covering(self, task: int) -> List[Array]:
        """The ledger's entries with the task, oldest first."""
        return [a for a in self.arrays if any(start <= task < stop for start, stop in spans(a.tasks))]

    # ------------------------------------------------------------ which array speaks for a task
    def _generations(self) -> Any:
        """The newest generation that covers each task; None while there is only one."""
        if all(a.generation == 1 for a in self.arrays):
            return None
        newest = typed_arrays.array("H", [1]) * self.total
        for entry in sorted(self.arrays, key=lambda a: a.generation):
            number = entry.generation
            if number == 1:
                continue
            for start, stop in spans(entry.tasks):
                newest[start:stop] = typed_arrays.array("H", [number]) * (stop - start)
        return newest

    def _speaks(self, entry: Array, task: int) -> bool:
        return self._generation is None or self._generation[task] == entry.generation

    def _ended_for(self, entry: Array, task: int) -> bool:
        """Whether a failed record is the last word, as far as this array goes."""
        facts = self.scan.failed[task]
        if int(facts.get("generation") or 0) >= entry.generation:
            return True
        return bool(entry.segment) and facts.get("cause") != CONTINUED

    def _failed_between(self, start: int, stop: int) -> List[int]:
        first = bisect.bisect_left(self._failed_ids, start)
        return self._failed_ids[first : bisect.bisect_left(self._failed_ids, stop)]

    # ------------------------------------------------------------ asking
    def _ask(self, scheduler: Any) -> None:
        submitted = [a for a in self.arrays if a.job_id and self._unfinished(a)]
        live = bytearray(self.total)
        for entry in self.arrays:
            if not entry.job_id:
                self._mark_unsubmitted(entry, live)
        try:
            if submitted:
                self._apply_queue(scheduler.queue([a.job_id for a in submitted]), submitted, live)
                self._drop_superseded(submitted, live)
                self._read_late_records(submitted)
            self.cache["last_good"] = {"state": self._compact(), "at": time.time()}
        except NodeError as error:
            earlier = self.cache.get("last_good")
            if earlier:
                self._restore(earlier["state"])
            self.stale = _stale("queue", error, earlier["at"] if earlier else None)
            return
        lost = [a for a in submitted if self._has_lost(a)]
        try:
            self._explain(scheduler, lost)
        except NodeError as error:
            # Accounting that is switched off will never answer; a database that is down is asked again.
            if error.code != "remote_command_failed":
                self.stale = _stale("accounting", error, None)
        if self.stale is None:
            self._vanished(lost)

    def _unfinished(self, entry: Array) -> bool:
        """Whether the array covers a task that its records do not settle."""
        for start, stop in spans(entry.tasks):
            if self.scan.state.find(task_states.UNKNOWN, start, stop) >= 0:
                return True
            # A record of this very generation may belong to an attempt that was requeued since.
            if any(
                self._speaks(entry, task) and self._reopens(entry, task) for task in self._failed_between(start, stop)
            ):
                return True
        return False

    def _reopens(self, entry: Array, task: int) -> bool:
        facts = self.scan.failed[task]
        same = int(facts.get("generation") or 0) == entry.generation
        requeueable = same and facts.get("cause") in records.REQUEUEABLE and not self._refined(task)
        return requeueable or not self._ended_for(entry, task)

    def _mark_unsubmitted(self, entry: Array, live: bytearray) -> None:
        reason = waiting_reasons.UNSUBMITTED[str(entry.held or entry.state)]
        if entry.message:
            reason = "%s: %s" % (reason, entry.message)
        count = sum(self._mark(entry, start, stop, PENDING, live) for start, stop in spans(entry.tasks))
        self._count_waiting("not submitted", reason, count)

    def _apply_queue(self, rows: List[QueueRow], submitted: List[Array], live: bytearray) -> None:
        by_job = {str(a.job_id): a for a in submitted}
        for row in rows:
            entry = by_job.get(row.job)
            # Job ids are used again: another name is another job.
            if entry is None or (row.name or entry.name) != entry.name:
                continue
            active = row.state in ACTIVE
            touched = 0
            for first, stop in spans(row.elements):
                pack = entry.pack
                for start, end in slice_spans(entry.tasks, first * pack, (stop - first) * pack):
                    if active and pack > 1:
                        touched += self._mark_packed(entry, start, end, live)
                    else:
                        touched += self._mark(entry, start, end, RUNNING if active else PENDING, live)
            if not active or row.state == "suspended":
                self._count_waiting(row.state, row.reason, touched)

    def _count_waiting(self, state: str, reason: str, count: int) -> None:
        if count:
            self.waiting[(state, reason)] = self.waiting.get((state, reason), 0) + count

    def _mark(self, entry: Array, start: int, stop: int, to: int, live: bytearray) -> int:
        """Tasks that have no final record become ``to``; how many."""
        live[start:stop] = b"\1" * (stop - start)
        part = self.state[start:stop]
        touched = part.count(task_states.UNKNOWN)
        self.state[start:stop] = part.translate(_TO[to])
        for task in self._failed_between(start, stop):
            if self.state[task] == task_states.FAILED and self._speaks(entry, task) and self._goes_on(entry, task, to):
                self.state[task] = to
                touched += 1
        return touched

    def _goes_on(self, entry: Array, task: int, to: int) -> bool:
        """Whether a task with a failed record is waiting or running again in this array."""
        if not self._ended_for(entry, task):
            return True
        facts = self.scan.failed[task]
        if int(facts.get("generation") or 0) != entry.generation or facts.get("cause") not in records.REQUEUEABLE:
            return False
        # The scheduler put the element back: a pending one surely, a running one when it claimed the task anew.
        return to == PENDING or self._claimed_after_record(task, entry.generation)

    def _claimed_after_record(self, task: int, generation: int) -> bool:
        try:
            claimed = os.stat(self.folder.claim(task, generation)).st_mtime_ns
            return claimed > os.stat(self.folder.record(task)).st_mtime_ns
        except OSError:
            return False

    def _mark_packed(self, entry: Array, start: int, stop: int, live: bytearray) -> int:
        """Of an element that runs several tasks in turn, those it has claimed are running."""
        for task in range(start, stop):
            claimed = os.path.exists(self.folder.claim(task, entry.generation))
            self._mark(entry, task, task + 1, RUNNING if claimed else PENDING, live)
        return 0

    def _drop_superseded(self, submitted: List[Array], live: bytearray) -> None:
        """A failed record says nothing of a newer attempt that has left the queue: that one has to be explained."""
        for entry in submitted:
            if entry.generation == 1:
                continue
            for start, stop in spans(entry.tasks):
                for task in self._failed_between(start, stop):
                    known = self.state[task] == task_states.FAILED and self._speaks(entry, task)
                    if known and not live[task] and not self._ended_for(entry, task):
                        self.state[task] = task_states.UNKNOWN

    def _read_late_records(self, submitted: List[Array]) -> None:
        """A task may have ended between the scan and the queue's answer: look once more before it counts as lost."""
        for task, entry in self._lost(submitted):
            record = records.read(self.folder, task)
            if record is None:
                continue
            if record.get("state") == "complete":
                self.state[task] = self.scan.state[task] = task_states.COMPLETE
                continue
            known = self.scan.failed.get(task)
            if known is None or int(record.get("generation") or 0) > int(known.get("generation") or 0):
                self.scan.failed[task] = records.failed_facts(record)
            if self._ended_for(entry, task):
                self.state[task] = self.scan.state[task] = task_states.FAILED

    def _lost(self, entries: Iterable[Array]) -> Iterable[Tuple[int, Array]]:
        """Tasks that the queue does not have and no record settles, each with the array that speaks for it."""
        for entry in entries:
            for start, stop in spans(entry.tasks):
                task = self.state.find(task_states.UNKNOWN, start, stop)
                while task >= 0:
                    if self._speaks(entry, task):
                        yield task, entry
                    task = self.state.find(task_states.UNKNOWN, task + 1, stop)

    def _has_lost(self, entry: Array) -> bool:
        return any(True for _ in self._lost([entry]))

    # ------------------------------------------------------------ explaining
    def _explain(self, scheduler: Any, lost: List[Array]) -> None:
        """Ask accounting about lost tasks, and about killed ones whose own record cannot know who killed them."""
        to_refine = [t for t in self._failed_ids if self._wants_refining(t)]
        jobs = {str(self.scan.failed[task].get("job")) for task in to_refine}
        wanted = {str(a.job_id): a for a in self.arrays if a in lost or str(a.job_id) in jobs}
        if wanted:
            since = min(a.at for a in wanted.values())
            rows: List[AccountingRow] = scheduler.accounting(sorted(wanted), since)
            found = {(row.job, row.element): row for row in rows}
            self._apply_accounting(lost, found)
            self._refine(to_refine, found)
        self._apply_refined()
        recently = time.time() - EXPLANATION_SEC
        self.unexplained = any(
            not self._refined(task) and float(self.scan.failed[task].get("ended_at") or 0) > recently
            for task in to_refine
        )

    def _apply_accounting(self, lost: List[Array], found: Dict[Tuple[str, int], AccountingRow]) -> None:
        positions = {id(entry): _Positions(entry) for entry in lost}
        for task, entry in list(self._lost(lost)):
            row = found.get((str(entry.job_id), positions[id(entry)].element(task)))
            if row is None or (not row.cause and not self._record_overdue(task)):
                continue
            self.state[task] = LOST
            self.scan.failed[task] = _lost_facts(entry, row)

    def _record_overdue(self, task: int) -> bool:
        """Whether a task that ended well for the scheduler has had its time to bring the record (file servers lag)."""
        first_seen = self.cache.setdefault("without_record", {}).setdefault(str(task), time.time())
        return bool(time.time() - float(first_seen) > RECORD_LATE_SEC)

    def _vanished(self, lost: List[Array]) -> None:
        """Tasks that were never claimed and that nobody knows of: deleted while they waited."""
        seen = self.cache.setdefault("vanished", {})
        now = time.time()
        still = {}
        for task, entry in list(self._lost(lost)):
            generation = entry.generation
            since = still["%d.%d" % (task, generation)] = float(seen.get("%d.%d" % (task, generation)) or now)
            if now - since > VANISHED_SEC and not os.path.exists(self.folder.claim(task, generation)):
                self.state[task] = LOST
                self.scan.failed[task] = _vanished_facts(entry)
        self.cache["vanished"] = still

    def _wants_refining(self, task: int) -> bool:
        facts = self.scan.failed[task]
        return self.state[task] == task_states.FAILED and facts.get("cause") in REFINED and not self._refined(task)

    def _refine(self, tasks: List[int], found: Dict[Tuple[str, int], AccountingRow]) -> None:
        refined = self.cache.setdefault("refined", {})
        for task in tasks:
            facts = self.scan.failed[task]
            row = found.get((str(facts.get("job")), int(facts.get("element") or 0)))
            if row is not None:
                better = row.cause not in (None, "exit", "signal")
                refined[str(task)] = {
                    "generation": facts.get("generation"),
                    "attempt": facts.get("attempt"),
                    "cause": row.cause if better else facts.get("cause"),
                    "raw": row.raw if better else None,
                }

    def _refined(self, task: int) -> bool:
        facts, known = self.scan.failed[task], self.cache.get("refined", {}).get(str(task))
        return bool(
            known and known["generation"] == facts.get("generation") and known.get("attempt") == facts.get("attempt")
        )

    def _apply_refined(self) -> None:
        for task, facts in self.scan.failed.items():
            if self.state[task] == task_states.FAILED and self._refined(task):
                known = self.cache["refined"][str(task)]
                facts = self.scan.failed[task] = dict(facts, cause=known["cause"])
                if known["raw"]:
                    facts["raw"] = known["raw"]
                    facts["message"] = "%s; the scheduler says %s" % (facts["message"], known["raw"])

    # ------------------------------------------------------------ the last good answer
    def _compact(self) -> Dict[str, str]:
        return {name: ranges_of(self.state, value) for name, value in (("running", RUNNING), ("pending", PENDING))}

    def _restore(self, earlier: Dict[str, str]) -> None:
        for name, value in (("running", RUNNING), ("pending", PENDING)):
            for start, stop in spans(earlier.get(name, "")):
                for task in range(start, min(stop, self.total)):
                    if self.scan.state[task] == task_states.UNKNOWN:
                        self.state[task] = value


_TO = {to: bytes(to if byte == task_states.UNKNOWN else byte for byte in range(256)) for to in (PENDING, RUNNING)}


class _Positions(object):
    """Which element of an array runs a task."""

    def __init__(self, entry: Array) -> None:
        self._pack = entry.pack
        self._starts: List[int] = []
        self._offsets: List[int] = []
        offset = 0
        for start, stop in spans(entry.tasks):
            self._starts.append(start)
            self._offsets.append(offset)
            offset += stop - start

    def element(self, task: int) -> int:
        place = bisect.bisect_right(self._starts, task) - 1
        return (self._offsets[place] + task - self._starts[place]) // self._pack


def ranges_of(state: bytearray, *values: int) -> str:
    """Ids in one of the states, as ranges; works on runs of equal bytes, so a million tasks take milliseconds."""
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


def _load_cache(folder: run_folder.RunFolder) -> Dict[str, Any]:
    try:
        cache = read_json(folder.status_cache, {})
    except ValueError:
        cache = {}
    return cache if cache.get("version") == records.CACHE_VERSION else {"version": records.CACHE_VERSION}


def _stale(source: str, error: NodeError, since: Any) -> Dict[str, Any]:
    return {"source": source, "since": since, "error": error.message, "code": error.code}


def _lost_facts(entry: Array, row: AccountingRow) -> Dict[str, Any]:
    words = "the scheduler says %s; the task left no record" % row.raw
    return dict(row._asdict(), generation=entry.generation, cause=row.cause or "no_record", message=words,
                evidence="accounting")  # fmt: skip


def _vanished_facts(entry: Array) -> Dict[str, Any]:
    words = "it left the queue without having started, and accounting knows nothing of it: deleted while it waited"
    return {"generation": entry.generation, "cause": "never_started", "message": words, "evidence": "absence",
            "job": entry.job_id}  # fmt: skip
