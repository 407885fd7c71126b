"""Runs the tasks of one array element: claim, resolve, execute, record. Started by the job template.

Environment from the template: HPC_RUN_DIR, HPC_ARRAY, HPC_ELEMENT (0-based), HPC_JOB_ID. A task's record is written
only after its result folder is in place, and by a rename: a task without a record is not complete, whatever else lies
there.
"""

import errno
import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from ..shared import task_environment
from ..shared.errors import NodeError
from ..shared.files import make_folder, read_json, remove_quietly, write_json
from ..shared.ledger import Array, read_array
from ..shared.log_tail import DISK_FULL_EXIT, tail
from ..shared.ranges import slice_ranges
from ..shared.run_folder import RunFolder
from ..shared.tasks_module import DIGEST_BYTES, digest, load_tasks
from . import execute, metrics

if TYPE_CHECKING:
    from .function_tasks import Copies, Copy

# Between the end of the grace and the walltime: the record has to be written, and clocks differ a little.
STOP_MARGIN_SEC = 5.0


class Element(object):
    """One array element: what it runs, and who it is for the scheduler."""

    def __init__(self, environ: Dict[str, str]) -> None:
        self.run = RunFolder(environ["HPC_RUN_DIR"])
        self.document = read_json(self.run.document)
        self.array = _array(self.run, environ["HPC_ARRAY"])
        self.index = int(environ["HPC_ELEMENT"])
        self.job_id = environ.get("HPC_JOB_ID", "")
        self.generation = self.array.generation
        self.host = environ.get("SLURMD_NODENAME") or socket.gethostname()
        self.pid = os.getpid()
        self.segment = self.array.segment
        self.stopped = False
        walltime = self.array.resources.get("walltime_sec")
        # Only an executor that can go on later is stopped early, while there is time to write a checkpoint.
        self.stop_at = execute.process_start() + float(walltime) if walltime and self.array.chain else None
        pack = self.array.pack
        self.tasks = slice_ranges(self.array.tasks, self.index * pack, pack)
        self.copies: "Optional[Copies]" = None

    @property
    def owner(self) -> str:
        return "%s:%s:%d" % (self.job_id, self.array.array, self.index)


def _array(run: RunFolder, name: str) -> Array:
    array = read_array(run, name)
    if array is None:
        raise NodeError("run_not_found", "the ledger of %s has no array %s" % (run.path, name))
    return array


def main(arguments: List[str]) -> int:
    """Run every task of this element; 0 when all of them are complete."""
    try:
        return _run_element(arguments)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.stderr.write("hpc-agent: %s: %s\n" % (error.filename or "the run's folder", os.strerror(error.errno)))
        return DISK_FULL_EXIT


def _run_element(arguments: List[str]) -> int:
    element = Element(dict(os.environ))
    if arguments[:1] == ["--environment-failed"]:
        for task in element.tasks:
            _fail_unstarted(element, task, "environment", " ".join(arguments[1:]))
        return 1
    if element.document.get("nfs_data_dir"):
        from . import local_data

        os.environ["LOCAL_DATA_DIR"] = local_data.local_copy(element.document["nfs_data_dir"])
    resolver = Resolver(element)
    outcomes = []
    try:
        for task in element.tasks:
            outcomes.append(run_task(element, task, resolver))
            if element.stopped:  # the scheduler is about to end this element: what is left is not begun
                return 1
    finally:
        if element.copies is not None:
            element.copies.close()
    return 0 if all(outcomes) else 1


class Resolver(object):
    """``resolve`` of the frozen tasks.py, held against what was hashed when the run was submitted."""

    def __init__(self, element: Element) -> None:
        self._element = element
        self._module: Any = None

    def __call__(self, task: int) -> Dict[str, Any]:
        if self._module is None:
            self._module = load_tasks(os.path.join(self._element.run.work, ".hpc", "tasks.py"))
        kwargs = self._module.resolve(task)
        found = digest(kwargs)
        with open(self._element.run.digests, "rb") as handle:
            handle.seek(task * DIGEST_BYTES)
            if handle.read(DIGEST_BYTES) != found:
                raise ValueError(
                    "resolve(%d) gives other parameters on %s than at submission" % (task, self._element.host)
                )
        return dict(kwargs)

    def functions(self) -> List[str]:
        """The registered functions (``path.py:name``) that .hpc/cli.py may call; none for scripts."""
        return [key for key in getattr(self._module, "FLAGS", None) or {} if ":" in key]


def run_task(element: Element, task: int, resolver: Resolver) -> bool:
    """Run one task unless it is complete or another array owns it. True when the task is complete."""
    record = _readable_record(element, task)
    if record and record.get("state") == "complete":
        return True
    if element.segment and record and record.get("cause") != "checkpointed":
        return False  # the segment before ended in a way that going on cannot mend
    if superseded(element, task):
        sys.stderr.write("hpc-agent: task %d was submitted again since; this old attempt leaves it alone\n" % task)
        return True
    if not claim(element, task):
        sys.stderr.write("hpc-agent: task %d is claimed by another array; this twin leaves it alone\n" % task)
        return True
    try:
        kwargs = resolver(task)
    except BaseException as error:  # user code may raise anything, SystemExit included
        if isinstance(error, KeyboardInterrupt):
            raise
        _fail_unstarted(element, task, "code_error", "tasks.py: %s: %s" % (type(error).__name__, error))
        return False
    if os.getpid() != element.pid:
        os._exit(0)  # tasks.py forked: the copy must not run the task as well
    try:
        return _execute(element, task, kwargs, resolver.functions())
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        _fail_unstarted(element, task, "code_error", "after the executor: %s: %s" % (type(error).__name__, error))
        return False


def claim(element: Element, task: int) -> bool:
    """The fence: the first element to claim (task, generation) runs it; the same element again (a requeue) may go
    on.
    """
    path = element.run.claim(task, element.generation)
    make_folder(os.path.dirname(path))
    # Written first and linked into place: whoever finds the claim finds its owner in it. Link is atomic on NFS too.
    temporary = "%s.%s.%d.%s" % (path, element.host, os.getpid(), os.urandom(4).hex())
    attempt = "%s %d\n" % (element.host, time.time())
    with open(temporary, "w") as handle:
        handle.write("%s\n%s" % (element.owner, attempt))
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
        with open(path, "r+") as handle:
            if handle.readline().rstrip("\n") != element.owner:
                return False
            handle.seek(0, os.SEEK_END)
            handle.write(attempt)  # put back by the scheduler: another attempt; status goes by the file's time
            return True
    finally:
        remove_quietly(temporary)
    return True


def superseded(element: Element, task: int) -> bool:
    """Whether a later generation has claimed the task: an element that comes back late must not run beside it."""
    folder, name = os.path.split(element.run.claim(task, 0))
    stem = name[:-1]  # "<task>.g"
    later = {int(a.rpartition("-")[0][1:]) for a in element.run.arrays() if a[0] in "rs"}
    return any(os.path.exists(os.path.join(folder, "%s%d" % (stem, g))) for g in later if g > element.generation)


def _attempts(element: Element, task: int) -> int:
    """How often the task was begun, this time included: a line for each in the claims of all generations."""
    lines = 0
    for generation in range(1, element.generation + 1):
        try:
            with open(element.run.claim(task, generation), "rb") as handle:
                lines += handle.read().count(b"\n") - 1
        except OSError:
            continue
    return max(lines, 1)


def _execute(element: Element, task: int, kwargs: Dict[str, Any], functions: List[str]) -> bool:
    document = dict(element.document, resources=element.array.resources or element.document.get("resources"))
    final = os.path.join(element.run.path, task_environment.result_folder(document, task, kwargs))
    scratch = "%s.attempt-%d-%d" % (final, element.generation, task)
    make_folder(scratch)
    checkpoints = element.run.checkpoints(task)
    make_folder(checkpoints)
    env = task_environment.build(document, element.run.path, task, kwargs, scratch, dict(os.environ))
    env.update(HPC_CHECKPOINT_DIR=checkpoints, HPC_ATTEMPT=str(_attempts(element, task)))
    log = element.run.log(task, element.generation)
    make_folder(os.path.dirname(log))
    grace = float(env.get("HPC_PREEMPT_GRACE_SEC") or 10)
    stop_at = element.stop_at - grace - STOP_MARGIN_SEC if element.stop_at is not None else None
    gpus = int((document.get("resources") or {}).get("gpus") or 0)
    copy = _copy(element, document, env, kwargs, functions) if len(element.tasks) > 1 and not gpus else None
    outcome = execute.run(document["executor"], env, element.run.work, log, grace, stop_at, gpus, copy)
    element.stopped = bool(outcome.pop("stopped"))
    _settle_checkpoint(outcome, checkpoints, element.stopped)
    record = _record(element, task, kwargs)
    record.update(outcome)
    record["log"] = os.path.relpath(log, element.run.path)
    if outcome["state"] == "complete":
        _collect(element, record, scratch, final)
    if record["state"] != "complete":
        record["log_tail"] = tail(log, 20, 4096)
        record["result_dir"] = os.path.relpath(scratch, element.run.path)
    _write_record(element, task, record)
    return bool(record["state"] == "complete")


def _copy(
    element: Element, document: Dict[str, Any], env: Dict[str, str], kwargs: Dict[str, Any], functions: List[str]
) -> "Optional[Copy]":
    """The task, begun in a copy of an interpreter that has its libraries; None when it is to be started by itself."""
    from .function_tasks import Copies  # only elements of several tasks pay for its imports

    if element.copies is None:
        common_env = task_environment.build(document, element.run.path, 0, {}, "", dict(os.environ))
        element.copies = Copies(document["executor"], functions, common_env, element.run.work)
    return element.copies.start(env, [name.upper() for name in kwargs])


def _settle_checkpoint(outcome: Dict[str, Any], checkpoints: str, stopped: bool) -> None:
    """Exit code 130, or a checkpoint that was left when it was stopped, means: go on in the next segment."""
    try:
        os.rmdir(checkpoints)  # nothing in it: no checkpoint
        left = False
    except OSError:
        left = True
    if outcome["state"] == "failed" and (outcome.get("exit_code") == 130 or (stopped and left)):
        why = "it stopped itself (exit code 130)" if not stopped else "stopped before its walltime, or for another job"
        outcome.update(cause="checkpointed", message="%s; it can go on from its checkpoint" % why)


def _collect(element: Element, record: Dict[str, Any], scratch: str, final: str) -> None:
    """Read the metrics and move the result folder into its place."""
    values, problem = metrics.read(scratch, element.document.get("results") or {})
    if problem and problem["fatal"]:
        record.update(state="failed", cause="no_output", message=problem["message"])
        return
    if problem:
        record["metrics_problem"] = problem["message"]
    record["metrics"] = values
    if os.path.lexists(final):
        os.rename(final, "%s.replaced-%d" % (final, time.time() * 1000))
    os.rename(scratch, final)
    record["result_dir"] = os.path.relpath(final, element.run.path)


def _record(element: Element, task: int, kwargs: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    earlier = _readable_record(element, task)
    history = list(earlier.get("history", [])) if earlier else []
    if earlier:
        kept = ("generation", "state", "cause", "exit_code", "signal", "seconds", "host", "ended_at")
        history = (history + [{key: earlier.get(key) for key in kept}])[-10:]
    return {
        "task": task,
        "generation": element.generation,
        "job": element.job_id,
        "element": element.index,
        "array": element.array.array,
        "host": element.host,
        "kwargs": kwargs,
        "history": history,
        "attempt": max(len(history) + 1, _attempts(element, task)),
    }


def _readable_record(element: Element, task: int) -> Optional[Dict[str, Any]]:
    try:
        record = read_json(element.run.record(task))
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _fail_unstarted(element: Element, task: int, cause: str, message: str) -> None:
    record = _record(element, task, None)
    if record["history"] and record["history"][-1]["state"] == "complete":
        return
    now = time.time()
    record.update(
        state="failed",
        cause=cause,
        message=message[:2000],
        exit_code=None,
        signal=None,
        seconds=0.0,
        started_at=now,
        ended_at=now,
        log_tail=message[-2000:],
    )
    sys.stderr.write("hpc-agent: task %d: %s\n" % (task, message))
    _write_record(element, task, record)


def _write_record(element: Element, task: int, record: Dict[str, Any]) -> None:
    """Write the record; a full disk gets a minute to be emptied before the task's outcome is given up."""
    path = element.run.record(task)
    make_folder(os.path.dirname(path))
    known = _readable_record(element, task)
    if known and known.get("state") == "complete":
        return None  # another attempt was quicker: a finished task stays finished
    for pause in (0.5, 1, 2, 4, 8, 15, 30, None):
        try:
            return write_json(path, record)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or pause is None:
                raise
            time.sleep(pause)
