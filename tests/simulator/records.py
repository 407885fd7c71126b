"""What our tasks leave in the run's folder, at the simulated time of each, through the product's own functions.

Everything that knows the layout of claims and records stands in ``_begin`` and ``_finish``.
"""

import math
import os
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass

from hpc_agent.node.shared.files import make_folder, write_json
from hpc_agent.node.shared.ledger import Array
from hpc_agent.node.shared.ranges import slice_ranges
from hpc_agent.node.shared.run_folder import RunFolder, shard_of
from hpc_agent.node.shared.task_record import COMPLETE, FAILED, TaskRecord

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
    claimed: int = 0  # tasks whose claim was written
    written: int = 0  # tasks whose record was written

    def begin_of(self, position: int) -> float:
        return self.ends[position - 1] if position else self.start + ELEMENT_START_SEC


class RunRecords:
    """The tasks of one run: which have ended, and the files that tell so."""

    def __init__(self, clock: Clock, folder: RunFolder, model: TaskModel, total: int, late_sec: float = 0.0) -> None:
        self.clock, self.folder, self.model, self.late_sec = clock, folder, model, late_sec
        self.completions = bytearray(total)  # of each task, how often it was run to its good end
        self.attempts: Counter[int] = Counter()  # of tasks that were begun again
        self.written = 0
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
        while progress.written < len(progress.tasks) and progress.ends[progress.written] <= shown:
            end = progress.ends[progress.written]
            shard = self._finish(progress, progress.written)
            touched[shard] = max(touched.get(shard, 0.0), end)
            progress.written += 1
            self.written += 1
        # A claim that nobody could have seen before the record is left out: the record is all that is read then.
        progress.claimed = max(progress.claimed, progress.written)
        while progress.claimed < len(progress.tasks) and progress.begin_of(progress.claimed) <= shown:
            self._begin(progress, progress.claimed)
            progress.claimed += 1

    def _begin(self, progress: Progress, position: int) -> None:
        """Write the claim of a task: the name of its element, and a line for each attempt."""
        task, entry, begin = progress.tasks[position], progress.entry, progress.begin_of(position)
        path = self.folder.claim(task, entry.generation)
        shard = os.path.dirname(path)
        if shard not in self._claim_shards:
            make_folder(shard)
            self._claim_shards.add(shard)
        with open(path, "a") as handle:
            if not handle.tell():
                handle.write(f"{progress.job}:{entry.array}:{progress.element}\n")
            else:
                self.attempts[task] += 1
            handle.write(f"node {begin:.0f}\n")
        os.utime(path, (begin, begin))

    def _finish(self, progress: Progress, position: int) -> str:
        """Write the record of a task. Return the folder that it lies in."""
        task, begin, end = progress.tasks[position], progress.begin_of(position), progress.ends[position]
        cause = "exit" if self.model.is_wrong(task) else None
        record = TaskRecord(
            task, FAILED if cause else COMPLETE, progress.entry.generation, progress.job, progress.element,
            progress.entry.array, "node", 1 + self.attempts[task], {"x": task}, cause=cause,
            message="simulated" if cause else "", exit_code=1 if cause else 0, started_at=begin, ended_at=end,
            seconds=round(end - begin, 3), max_rss_mb=100.0, metrics=None if cause else {"value": task % 7},
        )  # fmt: skip
        path = self.folder.record(task)
        folder = self.folder.records(shard_of(task))
        if folder not in self._shards:
            make_folder(folder)
            self._shards[folder] = 0
        write_json(path, record.to_json(), sync=False)
        return folder
