"""What our tasks leave in the run's folder, at the simulated time of each, through the product's own functions.

A task alone has a claim and a record of its own (``_begin`` and ``_finish``); a packed element has one claim and one log of
frames (``_append``), as the dispatcher writes them.
"""

import math
import os
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass

from hpc_agent.node.shared.element_log import ElementLog
from hpc_agent.node.shared.files import make_folder, write_json
from hpc_agent.node.shared.ledger import Array, is_packed
from hpc_agent.node.shared.ranges import slice_ranges
from hpc_agent.node.shared.run_folder import LAYOUT, RunFolder, shard_of
from hpc_agent.node.shared.task_record import COMPLETE, FAILED, TaskRecord
from hpc_agent.node.shared.task_records import fields_of, frame_of

from .clock import Clock
from .cluster import ELEMENT_START_SEC, Work
from .tasks import TaskModel


@dataclass
class Progress:
    """One attempt of an element: its tasks in turn, and when each ends; ``stop`` is when the attempt itself ended."""

    entry: Array
    job: str
    element: int
    attempt: int
    start: float
    tasks: list[int]
    ends: list[float]
    stop: float = math.inf
    claimed: int = 0  # tasks whose begin was written
    written: int = 0  # tasks whose record was written

    def begin_of(self, position: int) -> float:
        return self.ends[position - 1] if position else self.start + ELEMENT_START_SEC


class RunRecords:
    """The tasks of one run: which have ended, and the files that tell so."""

    def __init__(self, clock: Clock, folder: RunFolder, model: TaskModel, total: int, late_sec: float = 0.0) -> None:
        self.clock, self.folder, self.model, self.late_sec = clock, folder, model, late_sec
        self.completions = bytearray(total)  # of each task, how often it was run to its good end
        self.attempts: Counter[int] = Counter()  # of tasks that were begun again
        self._live: dict[tuple[str, int, int], Progress] = {}
        self._running: dict[tuple[str, int], Progress] = {}
        self._shards: dict[str, int] = {}  # folder -> its time in ns
        self._claim_shards: set[str] = set()

    def attach(self, work: Work, entry: Array) -> None:
        """Let the elements of a job run the tasks of an array."""
        job = str(work.number)
        work.element = lambda element, attempt, start: self._starts(entry, job, element, attempt, start)
        work.ended = lambda element, now: self._stops(job, element, now)
        work.killed = lambda element, now: self._stops(job, element, now) and None

    def _starts(self, entry: Array, job: str, element: int, attempt: int, start: float) -> float:
        """Return the seconds that the element will need. Tasks with a complete record are skipped, as the dispatcher does."""
        tasks = [t for t in slice_ranges(entry.tasks, element * entry.pack, entry.pack) if not self.completions[t]]
        now, ends = start + ELEMENT_START_SEC, []
        for task in tasks:
            now += self.model.seconds(task)
            ends.append(now)
        progress = Progress(entry, job, element, attempt, start, tasks, ends)
        self._live[(job, element, attempt)] = self._running[(job, element)] = progress
        return now - start

    def _stops(self, job: str, element: int, now: float) -> str | None:
        """End the attempt of an element, at its own end or at its death. Return its cause as the scheduler knows it."""
        progress = self._running.pop((job, element))
        progress.stop = now
        over = bisect_right(progress.ends, now)
        for task in progress.tasks[:over]:
            self.completions[task] += not self.model.is_wrong(task)
        whole = over == len(progress.tasks) and not any(map(self.model.is_wrong, progress.tasks))
        return None if whole else "exit"

    def flush(self) -> None:
        """Write what the file server shows by now."""
        shown = self.clock.now - self.late_sec
        touched: dict[str, float] = {}
        for key, progress in list(self._live.items()):
            self._write_until(progress, min(shown, progress.stop), touched)
            if progress.stop <= shown:
                del self._live[key]
        for path, at in touched.items():
            ns = max(self._shards.get(path, 0) + 1, int(at * 1e9))
            self._shards[path] = ns
            os.utime(path, ns=(ns, ns))

    def _write_until(self, progress: Progress, shown: float, touched: dict[str, float]) -> None:
        if is_packed(progress.entry, LAYOUT):
            self._append(progress, shown)
            return
        while progress.written < len(progress.tasks) and progress.ends[progress.written] <= shown:
            end = progress.ends[progress.written]
            shard = self._finish(progress, progress.written)
            touched[shard] = max(touched.get(shard, 0.0), end)
            progress.written += 1
        # A claim that nobody could have seen before the record is left out: the record is all that is read then.
        progress.claimed = max(progress.claimed, progress.written)
        while progress.claimed < len(progress.tasks) and progress.begin_of(progress.claimed) <= shown:
            self._begin(progress, progress.claimed)
            progress.claimed += 1

    def _begin(self, progress: Progress, position: int) -> None:
        """Write the claim of a task: the name of its element, and a line for each attempt."""
        task = progress.tasks[position]
        path = self.folder.claim(task, progress.entry.generation)
        self.attempts[task] += self._claim(path, progress, progress.begin_of(position))

    def _claim(self, path: str, progress: Progress, begin: float) -> bool:
        """Write a claim, or a further start into it. Return True for a further start."""
        shard = os.path.dirname(path)
        if shard not in self._claim_shards:
            make_folder(shard)
            self._claim_shards.add(shard)
        with open(path, "a") as handle:
            is_further = handle.tell() > 0
            if not is_further:
                handle.write(f"{progress.job}:{progress.entry.array}:{progress.element}\n")
            handle.write(f"node {begin:.0f}\n")
        os.utime(path, (begin, begin))
        return is_further

    def _append(self, progress: Progress, shown: float) -> None:
        """Append to the log of a packed element what its tasks have left by ``shown``; first its claim and its start."""
        if progress.claimed == len(progress.tasks) == progress.written or progress.begin_of(0) > shown:
            return
        array, element = progress.entry.array, progress.element
        is_new = progress.claimed == 0
        if is_new:
            self._claim(self.folder.element(array, element, "claim"), progress, progress.start)
        log = ElementLog(self.folder.element(array, element, "rec"))
        if is_new:
            with self.clock.as_of(progress.start):
                log.start(progress.job, "node")
        while progress.written < len(progress.tasks):
            task = progress.tasks[progress.written]
            if progress.claimed == progress.written:
                if progress.begin_of(progress.written) > shown:
                    break
                with self.clock.as_of(progress.begin_of(progress.written)):
                    log.begin(task, 0, 0)
                progress.claimed += 1
            if progress.ends[progress.written] > shown:
                break
            record = self._record(progress, progress.written)
            log.record(frame_of(record, "", 0, fields_of(record)))
            self.attempts[task] += record.state == FAILED
            progress.written += 1
        log.close()
        if progress.stop <= shown and progress.written < progress.claimed:
            self.attempts[progress.tasks[progress.written]] += 1  # it was killed

    def _finish(self, progress: Progress, position: int) -> str:
        """Write the record of a task. Return the folder that it lies in."""
        record = self._record(progress, position)
        folder = self.folder.records(shard_of(record.task))
        if folder not in self._shards:
            make_folder(folder)
            self._shards[folder] = 0
        write_json(self.folder.record(record.task), record.to_json(), sync=False)
        return folder

    def _record(self, progress: Progress, position: int) -> TaskRecord:
        task, begin, end = progress.tasks[position], progress.begin_of(position), progress.ends[position]
        cause = "exit" if self.model.is_wrong(task) else None
        return TaskRecord(
            task, FAILED if cause else COMPLETE, progress.entry.generation, progress.job, progress.element,
            progress.entry.array, "node", 1 + self.attempts[task], {"x": task}, cause=cause,
            message="simulated" if cause else "", exit_code=1 if cause else 0, started_at=begin, ended_at=end,
            seconds=round(end - begin, 3), max_rss_mb=100.0, metrics=None if cause else {"value": task % 7},
        )  # fmt: skip
