"""Run the tasks that one process of an element is given, in turn: resolve the parameters, execute, record."""

import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, Optional, Tuple, TypeVar

from ..shared import task_environment
from ..shared.files import is_disk_full, write_bytes
from ..shared.task_record import COMPLETE, FAILED, TaskRecord
from . import execute, metrics
from .books import Attempt, Books
from .element import Element
from .oom_kills import OomKills

if TYPE_CHECKING:
    from .workers import Slot, Workers

Kind = TypeVar("Kind")
# Between the end of the grace and the walltime: the record has to be written, and clocks differ a little.
STOP_MARGIN_SEC = 5.0


def say(message: str) -> None:
    sys.stderr.write("hpc-agent: %s\n" % message)


class TaskRunner(object):
    """Runs tasks of an element in turn."""

    def __init__(
        self, element: Element, books: Books, signals: execute.Signals, workers: "Optional[Workers]" = None
    ) -> None:
        """``workers``: those of the element, where several processes run its tasks at once."""
        self.element = element
        self.books = books
        self._signals = signals
        inherited = dict(os.environ)
        self._env = task_environment.TaskEnvironment(element.document, element.run.path, inherited)
        self._grace = float(self._env.common.get("HPC_PREEMPT_GRACE_SEC") or 10)
        self._oom_kills = OomKills(inherited)
        self._workers, self._has_own_workers = workers, workers is None
        self._slot: "Optional[Slot]" = None  # set by the first of several tasks

    def run_each(self, tasks: Iterable[int]) -> bool:
        """Run the tasks until the scheduler is about to end the element. Return True when all of them are complete."""
        done = []
        try:
            for task in tasks:
                arrived = self._signals.from_now()
                if arrived is None:
                    return False
                if self._is_replaced("before", task):
                    return False
                done.append(self._run_task(task, arrived))
                if self.element.stopped:
                    return False
        finally:
            if self._slot is not None:
                self._slot.close()
            if self._workers is not None and self._has_own_workers:
                self._workers.close()
        return all(done)

    def _is_replaced(self, when: str, task: int) -> bool:
        if not self.books.is_replaced():
            return False
        say("stopped %s task %d: the scheduler has started this element again elsewhere" % (when, task))
        self.element.stopped = True
        return True

    def _run_task(self, task: int, arrived: execute.Arrived) -> bool:
        """Run one task unless it is complete or another element runs it. Return False when the task failed."""
        element, books = self.element, self.books
        known = books.outcomes.known(task)
        if known.is_complete:
            return True
        if element.array.segment and known.has_record and known.cause != "checkpointed":
            return False  # the segment before failed in a way that another segment cannot mend
        if books.outcomes.superseded(task):
            say("task %d: skipped: an element of a later submission has claimed it" % task)
            return True
        if not books.take(task):
            say("task %d: skipped: another array element has claimed the task" % task)
            return True
        attempt = patiently(lambda: books.begin(task, known))
        try:
            kwargs = element.parameters(task)
        except BaseException as error:  # user code may raise anything, SystemExit included
            if isinstance(error, KeyboardInterrupt):
                raise
            self._fail(attempt, "code_error", "tasks.py: %s: %s" % (type(error).__name__, error))
            return False
        if os.getpid() != element.pid:
            os._exit(0)  # tasks.py forked: its child must not run the task as well
        try:
            return self._execute(attempt, kwargs, arrived)
        except Exception as error:
            if isinstance(error, OSError) and is_disk_full(error):
                raise
            # why/classify.py reads the exception's name after these words
            message = "after the executor: %s: %s" % (type(error).__name__, error)
            self._fail(attempt, "code_error", message, books.abandon(task))
            return False

    def _execute(self, attempt: Attempt, kwargs: Dict[str, Any], arrived: execute.Arrived) -> bool:
        """Run the executor and write the record. Return True when the task is complete."""
        element, books, document = self.element, self.books, self.element.document
        scratch, checkpoints = books.scratch(attempt, kwargs), books.checkpoints(attempt.task)
        earlier = books.stamp(scratch, attempt)  # the folder of a requeued task is kept
        record = new_record(element, attempt.task, attempt.number, kwargs)
        env = self._env.of(attempt.task, kwargs, scratch)
        env.update(HPC_CHECKPOINT_DIR=checkpoints, HPC_ATTEMPT=str(attempt.number), HPC_SLOT=str(element.slot))
        stop_at = element.stop_at - self._grace - STOP_MARGIN_SEC if element.stop_at is not None else None
        fork, place = self._fork(env, kwargs), element.run.work
        record = execute.run(
            record, document.executor, env, place, attempt.log, self._grace, stop_at, element.gpus, fork, arrived,
            books.watcher,
        )  # fmt: skip
        if self._is_replaced("after", attempt.task):
            return False  # the folder and the log are those of the later start, which runs the task too
        element.stopped = record.cause == execute.STOPPED
        record = _continued(books.printed(record, attempt), books.has_checkpoint(attempt.task))
        kills = self._oom_kills.new()
        if kills and (element.slots == 1 or record.cause == "signal"):  # else it may be one of a task beside it
            record = record._replace(oom_kills=kills)
        self._keep_returned(scratch)
        wrote = books.wrote(scratch)
        if books.outcomes.known(attempt.task).is_complete:  # another attempt ended first: its folder and record stay
            books.settle(record._replace(state=FAILED), scratch, kwargs, wrote)
            return True
        if record.state == COMPLETE:
            record = self._measure(record, scratch, earlier, wrote)
        if record.state != COMPLETE:
            record = record._replace(log_tail=attempt.log.tail(20, 4096))
        write_record(books, books.settle(record, scratch, kwargs, wrote))
        return record.state == COMPLETE

    def _fork(self, env: Dict[str, str], kwargs: Dict[str, Any]) -> execute.Fork:
        """Return what starts the task in a worker that has its libraries; None where nothing does."""
        if len(self.element.tasks) == 1:
            return None
        if self._slot is None:
            if self._workers is None:
                self._workers = start_workers(self.element, self._env.common)
            self._slot = self._workers.slot(self.element.slot)
        self._slot.returned = (
            None  # what the task before has returned is not of this one, even where it cannot be started
        )
        return partial(self._slot.start, env, kwargs.get("executor"))

    def _returned(self) -> Optional[str]:
        """Return the metrics that the task's function has returned, as JSON; None where none ran in a worker."""
        return self._slot.returned if self._slot is not None else None

    def _keep_returned(self, scratch: str) -> None:
        """Write the metrics that a function returned to their file, where the run names that file or reads it."""
        results, returned = self.element.document.results, self._returned()
        wanted = (
            results.get("metrics_file") == metrics.DEFAULT_FILE
            or results.get("aggregate_cmd")
            or results.get("reducer")
        )
        if returned is None or not wanted:
            return
        path = os.path.join(scratch, metrics.DEFAULT_FILE)
        if not os.path.exists(path):
            write_bytes(path, (returned + "\n").encode("utf-8"), sync=False)

    def _measure(self, record: TaskRecord, scratch: str, earlier: Optional[Tuple[int, ...]], wrote: bool) -> TaskRecord:
        """Read the metrics. Return the record with them; a failed one where the declared metrics are missing."""
        declared = self.element.document.results.get("metrics_file")
        returned = self._returned()
        if returned is None and not wrote and not declared:
            return record._replace(metrics={})
        if returned is not None and declared in (None, metrics.DEFAULT_FILE):
            found = metrics.returned(returned)
        else:
            found = metrics.read(scratch, declared, earlier)
        found = metrics.with_last_report(found, scratch, declared, earlier, record.attempt)
        if found.problem and declared:  # without them the task is not complete
            return record._replace(state=FAILED, cause="no_output", message=found.problem)
        left_out = found.left_out or None
        return record._replace(metrics=found.values, metrics_problem=found.problem, metrics_left_out=left_out)

    def _fail(self, attempt: Attempt, cause: str, message: str, result_dir: Optional[str] = None) -> None:
        """Write the record of a task whose executor was not started, or whose outcome could not be kept."""
        record = self.books.printed(new_record(self.element, attempt.task, attempt.number), attempt)
        record = record._replace(result_dir=result_dir)
        write_failure(self.books, record, cause, message)


def start_workers(element: Element, env: Dict[str, str], slots: int = 1) -> "Workers":
    """Start what runs the element's tasks without an interpreter of their own each, ``slots`` at once."""
    from .workers import Workers  # only elements of several tasks need its imports

    document = element.document
    return Workers(document.executor, element.functions(), env, element.run.work, document.isolate, slots, element.gpus)


def _continued(record: TaskRecord, has_checkpoint: bool) -> TaskRecord:
    """Return the record, with the cause ``checkpointed`` where the next segment can go on from a checkpoint.

    Exit code 130 means so, and so do files in the checkpoint folder of an executor that was stopped.
    """
    stopped = record.cause == execute.STOPPED
    if record.exit_code != 130 and not (stopped and has_checkpoint):
        return record
    why = "stopped before its walltime, or by the scheduler" if stopped else "ended with exit code 130"
    return record._replace(cause="checkpointed", message="the executor %s; its checkpoint is kept" % why)


def new_record(element: Element, task: int, attempt: int, kwargs: Optional[Dict[str, Any]] = None) -> TaskRecord:
    """Return the record of this attempt as far as it is known before the executor starts."""
    return TaskRecord(
        task=task,
        state=FAILED,
        generation=element.generation,
        job=element.job_id,
        element=element.index,
        array=element.array.array,
        host=element.host,
        attempt=attempt,
        kwargs=kwargs,
    )


def write_failure(books: Books, record: TaskRecord, cause: str, message: str) -> None:
    """Write the record of a task that has no outcome of its own, and say why to the log of the element."""
    record = execute.failed(record, cause, message[:2000])
    if write_record(books, record._replace(log_tail=message[-2000:])):
        say("task %d: %s" % (record.task, message))


def write_record(books: Books, record: TaskRecord) -> bool:
    """Write the record. Return False where the task is complete already."""
    return patiently(lambda: books.write(record))


def patiently(act: Callable[[], Kind]) -> Kind:
    """Return what ``act`` returns. A full disk gets a minute to be emptied before the outcome of the task is given up."""
    for pause in (0.5, 1, 2, 4, 8, 15, 30):
        try:
            return act()
        except OSError as error:
            if not is_disk_full(error):
                raise
            time.sleep(pause)
    return act()
