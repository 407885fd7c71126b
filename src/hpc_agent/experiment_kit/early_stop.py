"""``report`` and ``should_stop``: a task ends itself when others are better, without a cancel and without a client.

Outside of hpc-agent, and in a run without a rule, ``report`` keeps the history and ``should_stop`` is False.
Of the processes of a distributed task, rank 0 decides; the others wait for its answer at each rung.
"""

import atexit
import json
import math
import os
import sys
import time
from contextlib import suppress
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ..node.shared.files import from_document, read_json, write_json
from ..node.shared.rungs import LAST_REPORT, STOPPED_AT, Rule, Rungs

STOP_EXIT = 10  # of the command ``report``: the task is to end
ANSWER_SEC = 600.0  # in which rank 0 has to answer
# Where launchers tell a process its rank and their number. A rank alone may be a parameter of the experiment.
_RANKS = (("RANK", "WORLD_SIZE"), ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE"),
          ("SLURM_PROCID", "SLURM_NTASKS"), ("LOCAL_RANK", "WORLD_SIZE"))  # fmt: skip


class _Task(NamedTuple):
    """What hpc-agent tells a task about early stopping."""

    rule: Rule
    rungs: Rungs
    attempt: int
    last_report: str  # the file's path
    rank: Optional[int]  # None: of a process that is alone


class _State(object):
    """The reports of this process."""

    def __init__(self) -> None:
        self.history: List[Tuple[int, float]] = []
        self.entered = 0  # the highest rung so far
        self.last: Dict[str, Any] = {}
        self.stop = False
        self.task: Optional[_Task] = None

    def begin(self) -> None:
        self.task = _task(os.environ)
        if self.task is None:
            return
        found = _read(self.task.last_report)
        if found.get("attempt") == self.task.attempt:  # of an earlier command of this attempt
            self.stop = bool(found.get("stop"))
            self.last = {} if self.task.rank else found

    def save(self) -> None:
        """Write the last report, which the task's record takes from there."""
        if self.task and self.last:
            try:
                write_json(self.task.last_report, self.last, sync=False)
            except OSError as error:
                _warn("the last report is not kept: %s" % error)


_state = _State()
atexit.register(_state.save)


def end_task() -> None:
    """Write the last report of a task, in a process that runs another one now."""
    _state.save()
    _state.__init__()  # type: ignore[misc]


def report(step: int, value: float) -> None:
    """Tell the value of the metric after ``step`` (an epoch, an iteration, rows seen: a whole number that only grows).

    Every process of a distributed task calls this with the same steps. Training goes on when the files of early stopping
    cannot be written; a line in the log says so. Raises ValueError for a negative step, TypeError for a step or a value that
    is no number.
    """
    if not _state.history:
        _state.begin()
    if int(step) != step or step < 0:
        raise ValueError("a step is a whole number from 0 on, not %r" % (step,))
    step, value = int(step), float(value)
    _state.history.append((step, value))
    task = _state.task
    if task is None:
        return
    rung = 0 if _state.stop else task.rule.rung_of(step) or 0
    is_new = rung > _state.entered
    _state.entered = max(rung, _state.entered)
    if task.rank:
        _state.stop = _state.stop or (is_new and _answer_of_rank_0(task, rung))
        return
    was_stopped = STOPPED_AT in _state.last
    plain = value if math.isfinite(value) else str(value)
    if is_new:
        _judge(task, rung, step, value)
    _state.last = {"attempt": task.attempt, "metric": task.rule.metric, "step": step, "value": plain,
                   "stop": _state.stop, "rung": _state.entered}  # fmt: skip
    if was_stopped or (is_new and task.rank is not None):
        _state.save()  # the task trained on, so it has not ended itself yet; or other ranks wait for the answer


def _judge(task: _Task, rung: int, step: int, value: float) -> None:
    """Enter a rung, and stop where enough others are better there."""
    try:
        others = task.rungs.enter(rung, step, value)
    except OSError as error:
        return _warn("the rung at step %d cannot be reached, and the task goes on: %s" % (rung, error))
    if others is not None and not task.rule.goes_on(value, others):
        _state.stop = True
        better = sum(task.rule.loss(other) < task.rule.loss(value) for other in others)
        _warn("%s %s at step %d: %d of %d tasks were better there"
              % (task.rule.metric, value, step, better, len(others)))  # fmt: skip


def _answer_of_rank_0(task: _Task, rung: int) -> bool:
    """Wait for the answer of rank 0 at a rung, and return True for a stop."""
    deadline, pause, own = time.monotonic() + ANSWER_SEC, 0.02, "%s.rank%d" % (task.last_report, task.rank or 0)
    while time.monotonic() < deadline:
        found = _read(task.last_report)
        if found.get("attempt") == task.attempt and (found.get("stop") or found["rung"] >= rung):
            return bool(found.get("stop")) and found["rung"] <= rung
        time.sleep(pause)
        pause = min(2.0, pause * 1.5)
        with suppress(OSError):  # a client of NFS reads a folder anew after it has changed it
            os.mkdir(own)
            os.rmdir(own)
    _warn("rank 0 told no value for the rung at step %d, and rank %d goes on" % (rung, task.rank or 0))
    return False


def should_stop() -> bool:
    """Return True once the task has reached a rung where it is not among the best: end the loop, and write the metrics."""
    if _state.stop and _state.last and STOPPED_AT not in _state.last:
        _state.last[STOPPED_AT] = _state.last["step"]
        _state.save()
    return _state.stop


def reports() -> List[Tuple[int, float]]:
    """Return the reports of this process, (step, value), in their order."""
    return list(_state.history)


def _task(environ: Any) -> Optional[_Task]:
    """Return what the environment says of early stopping; None where there is no rule, or no folder of a campaign or run."""
    folder = environ.get("HPC_CAMPAIGN_DIR") or environ.get("HPC_RUN_DIR")
    trial = environ.get("HPC_TRIAL") or environ.get("HPC_TASK_ID")
    if not (environ.get("HPC_EARLY_STOP") and folder and trial):
        return None
    attempt = int(environ.get("HPC_ATTEMPT") or 1)
    path = os.path.join(environ.get("HPC_RESULT_DIR") or ".", LAST_REPORT)
    rule = from_document(Rule, json.loads(environ["HPC_EARLY_STOP"]))
    return _Task(rule, Rungs(folder, int(trial), attempt), attempt, path, _rank(environ))


def _rank(environ: Any) -> Optional[int]:
    """Return the rank of a process among several; None where there is one process only."""
    for rank, size in _RANKS:
        if environ.get(rank, "").isdigit() and environ.get(size, "").isdigit() and int(environ[size]) > 1:
            return int(environ[rank])
    return None


def _read(path: str) -> Dict[str, Any]:
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _warn(text: str) -> None:
    sys.stderr.write("hpc-agent: early stop: %s\n" % text)
