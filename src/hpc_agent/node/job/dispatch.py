"""Run the tasks of one array element: claim, resolve, execute, record. The job template starts this module.

The template sets HPC_RUN_DIR, HPC_ARRAY, HPC_ELEMENT (0-based) and HPC_JOB_ID. The record of a task is written last, by a
rename, after the result folder is in place: a task without a record is not complete.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from typing import Any, Dict, List, Optional, Tuple

from ..shared import task_environment
from ..shared.files import DISK_FULL_EXIT, is_disk_full, make_folder, tail, write_json
from ..shared.processes import PASSED_ON
from ..shared.task_record import COMPLETE, FAILED, TaskRecord, load_record
from . import execute, metrics
from .element import Element, attempts, claim, superseded
from .oom_kills import oom_kills

# Between the end of the grace and the walltime: the record has to be written, and clocks differ a little.
STOP_MARGIN_SEC = 5.0
HISTORY_KEYS = ("generation", "state", "cause", "exit_code", "signal", "seconds", "host", "ended_at")
HISTORY_LENGTH = 10


def main(arguments: List[str]) -> int:
    """Run every task of this element. Return 0 when all of them are complete."""
    try:
        element = Element(dict(os.environ))
        if arguments[:1] == ["--environment-failed"]:
            for task in element.tasks:
                _record_failure(element, task, "environment", " ".join(arguments[1:]))
            return 1
        return _run_tasks(element)
    except OSError as error:
        if not is_disk_full(error):
            raise
        with suppress(OSError):  # the log may lie on the same disk
            os.write(2, ("hpc-agent: %s: %s\n" % (error.filename or "the run's folder", error.strerror)).encode())
        return DISK_FULL_EXIT


def _run_tasks(element: Element) -> int:
    if not os.path.exists(element.run.environment):
        from .environment import look_once  # only the first elements of a run need its imports

        look_once(element)
    if element.document.nfs_data_dir:
        from .staging import Staged  # only few clusters need its imports

        staged = Staged(element.document.nfs_data_dir)  # in use until this function returns
        os.environ["LOCAL_DATA_DIR"] = staged.path
    for number in PASSED_ON:  # between two tasks there is nobody to pass a signal on to
        signal.signal(number, lambda *_: None)
    done = []
    try:
        for task in element.tasks:
            done.append(_run_task(element, task))
            if element.stopped:  # the scheduler is about to end this element: no further task is begun
                return 1
    finally:
        if element.slot is not None and element.workers is not None:
            element.slot.close()
            element.workers.close()
    return 0 if all(done) else 1


def _run_task(element: Element, task: int) -> bool:
    """Run one task unless it is complete or another element runs it. Return False when the task failed."""
    record = load_record(element.run, task)
    if record and record.state == COMPLETE:
        return True
    if element.array.segment and record and record.cause != "checkpointed":
        return False  # the segment before failed in a way that another segment cannot mend
    if superseded(element, task):
        _log(task, "skipped: the task was submitted again, and an element of the later submission has claimed it")
        return True
    if not claim(element, task):
        _log(task, "skipped: another array element has claimed the task")
        return True
    execute.remove_log(element.run.log(task, element.generation))  # of an attempt before a requeue
    try:
        kwargs = element.parameters(task)
    except BaseException as error:  # user code may raise anything, SystemExit included
        if isinstance(error, KeyboardInterrupt):
            raise
        _record_failure(element, task, "code_error", "tasks.py: %s: %s" % (type(error).__name__, error))
        return False
    if os.getpid() != element.pid:
        os._exit(0)  # tasks.py forked: its child must not run the task as well
    try:
        return _execute(element, task, kwargs)
    except Exception as error:
        if isinstance(error, OSError) and is_disk_full(error):
            raise
        # why/classify.py reads the exception's name after these words
        _record_failure(element, task, "code_error", "after the executor: %s: %s" % (type(error).__name__, error))
        return False


def _log(task: int, message: str) -> None:
    sys.stderr.write("hpc-agent: task %d: %s\n" % (task, message))


def _execute(element: Element, task: int, kwargs: Dict[str, Any]) -> bool:
    """Run the executor and write the record. Return True when the task is complete."""
    run, document = element.run, element.document
    folder = task_environment.result_folder(document.result_dir_template, document.run_id, task, kwargs)
    final = os.path.join(run.path, folder)
    scratch = "%s.attempt-%d-%d" % (final, element.generation, task)
    checkpoints, log = run.checkpoints(task), run.log(task, element.generation)
    for needed in (scratch, checkpoints, os.path.dirname(log)):
        make_folder(needed)
    earlier = metrics.stamp(scratch, document.results.get("metrics_file"))  # the folder of a requeued task is kept
    record = _new_record(element, task)._replace(kwargs=kwargs, log=os.path.relpath(log, run.path))
    env = task_environment.build(document, run.path, task, kwargs, scratch, dict(os.environ))
    env.update(HPC_CHECKPOINT_DIR=checkpoints, HPC_ATTEMPT=str(record.attempt))
    grace = float(env.get("HPC_PREEMPT_GRACE_SEC") or 10)
    stop_at = element.stop_at - grace - STOP_MARGIN_SEC if element.stop_at is not None else None
    fork = None  # starts the task in a worker that has its libraries
    if len(element.tasks) > 1:
        from .workers import Workers  # only elements of several tasks need its imports

        if element.workers is None or element.slot is None:
            common = task_environment.build(document, run.path, 0, {}, "", dict(os.environ))
            for name in task_environment.OF_ONE_TASK:
                common.pop(name, None)
            element.workers = Workers(
                document.executor, element.functions(), common, run.work, document.isolate, gpus=element.gpus
            )
            element.slot = element.workers.slot()
        fork = partial(element.slot.start, env, kwargs.get("executor"))
    kills_before = oom_kills(env)
    record = execute.run(record, document.executor, env, run.work, log, grace, stop_at, element.gpus, fork)
    kills = oom_kills(env)
    if kills is not None and kills_before is not None and kills > kills_before:
        record = record._replace(oom_kills=kills - kills_before)
    element.stopped = record.cause == execute.STOPPED
    record = _settle_checkpoint(record, checkpoints)
    if record.state == COMPLETE:
        record = _collect(element, record, scratch, final, earlier)
    if record.state != COMPLETE:
        record = record._replace(log_tail=tail(log, 20, 4096), result_dir=os.path.relpath(scratch, run.path))
    _write_record(element, record)
    return record.state == COMPLETE


def _settle_checkpoint(record: TaskRecord, checkpoints: str) -> TaskRecord:
    """Return the record, with the cause ``checkpointed`` where the next segment can go on from a checkpoint.

    Exit code 130 means so, and so do files in the checkpoint folder of an executor that was stopped.
    """
    with suppress(OSError):
        os.rmdir(checkpoints)  # succeeds only for an empty folder
    stopped = record.cause == execute.STOPPED
    if record.exit_code != 130 and not (stopped and os.path.exists(checkpoints)):
        return record
    why = "stopped before its walltime, or by the scheduler" if stopped else "ended with exit code 130"
    return record._replace(cause="checkpointed", message="the executor %s; its checkpoint is kept" % why)


def _collect(
    element: Element, record: TaskRecord, scratch: str, final: str, earlier: Optional[Tuple[int, ...]]
) -> TaskRecord:
    """Read the metrics and move the result folder into its place. Return the record with both."""
    declared = element.document.results.get("metrics_file")
    told = element.slot.returned if element.slot is not None else None
    if told is not None and declared in (None, metrics.DEFAULT_FILE):
        found = metrics.returned(told)
    else:
        found = metrics.read(scratch, declared, earlier)
    found = metrics.with_last_report(found, scratch, declared, earlier, record.attempt)
    if found.problem and declared:  # without them the task is not complete
        return record._replace(state=FAILED, cause="no_output", message=found.problem)
    if os.path.lexists(final):
        os.rename(final, "%s.replaced-%d" % (final, time.time() * 1000))
    os.rename(scratch, final)
    place = os.path.relpath(final, element.run.path)
    left_out = found.left_out or None
    return record._replace(
        metrics=found.values, metrics_problem=found.problem, metrics_left_out=left_out, result_dir=place
    )


def _new_record(element: Element, task: int) -> TaskRecord:
    """Return the record of this attempt as far as it is known before the executor starts."""
    return TaskRecord(
        task=task,
        state=FAILED,
        generation=element.generation,
        job=element.job_id,
        element=element.index,
        array=element.array.array,
        host=element.host,
        attempt=attempts(element, task),
    )


def _record_failure(element: Element, task: int, cause: str, message: str) -> None:
    """Write the record of a task whose executor was not started, or whose outcome could not be kept."""
    record = execute.failed(_new_record(element, task), cause, message[:2000])
    _write_record(element, record._replace(log_tail=message[-2000:]), message)


def _write_record(element: Element, record: TaskRecord, message: str = "") -> None:
    """Write the record with its history, and the message to the element's log, unless the task is complete already.

    A full disk gets a minute to be emptied before the outcome of the task is given up.
    """
    path = element.run.record(record.task)
    make_folder(os.path.dirname(path))
    earlier = load_record(element.run, record.task)
    if earlier and earlier.state == COMPLETE:
        return None  # another attempt ended first: a complete task stays complete
    if message:
        _log(record.task, message)
    if earlier:
        history = [*earlier.history, {key: getattr(earlier, key) for key in HISTORY_KEYS}][-HISTORY_LENGTH:]
        record = record._replace(history=history, attempt=max(len(history) + 1, record.attempt))
    document = record.to_json()
    if element.gpus and record.max_rss_mb is not None:
        document.setdefault("gpu_mem_mb", None)  # nvidia-smi did not show the executor
    for pause in (0.5, 1, 2, 4, 8, 15, 30, None):
        try:
            return write_json(path, document)
        except OSError as error:
            if not is_disk_full(error) or pause is None:
                raise
            time.sleep(pause)
