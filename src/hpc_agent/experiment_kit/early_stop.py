"""``report`` and ``should_stop``: a task ends itself when others are better, without a cancel and without a client.

Outside of hpc-agent, and in a run without a rule, ``report`` keeps the history and ``should_stop`` is False.
"""

import atexit
import json
import math
import os
import sys
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ..node.shared.files import read_json, write_json
from ..node.shared.rungs import LAST_REPORT, STOPPED_AT, Rule, Rungs, rule_of

STOP_EXIT = 10  # of the command ``report``: the task is to end


class _Task(NamedTuple):
    """What hpc-agent tells a task about early stopping."""

    rule: Rule
    rungs: Rungs
    attempt: int
    last_report: str  # the file's path


class _State(object):
    """The reports of this process."""

    def __init__(self) -> None:
        self.history: List[Tuple[int, float]] = []
        self.entered: Optional[int] = None  # the highest rung so far
        self.last: Dict[str, Any] = {}
        self.stop = False
        self.task: Optional[_Task] = None

    def begin(self) -> None:
        self.task = _task(os.environ)
        if self.task is None:
            return
        found = _read(self.task.last_report)
        if found.get("attempt") == self.task.attempt:  # of an earlier command of this attempt
            self.last, self.stop = found, bool(found.get("stop"))
        atexit.register(self.save)

    def save(self) -> None:
        """Write the last report, which the task's record takes from there."""
        if self.task and self.last:
            try:
                write_json(self.task.last_report, self.last, sync=False)
            except OSError as error:
                _warn("the last report is not kept: %s" % error)


_state = _State()


def report(step: int, value: float) -> None:
    """Tell the value of the metric after ``step`` (an epoch, an iteration, rows seen: a whole number that only grows).

    Training goes on when the files of early stopping cannot be written; a line in the log says so. Raises ValueError for a
    negative step, TypeError for a step or a value that is no number.
    """
    if not _state.history:
        _state.begin()
    if int(step) != step or step < 0:
        raise ValueError("a step is a whole number from 0 on, not %r" % (step,))
    step, value = int(step), float(value)
    _state.history.append((step, value))
    task = _state.task
    if task is None:
        return None
    was_stopped = STOPPED_AT in _state.last
    plain = value if math.isfinite(value) else str(value)
    _state.last = {
        "attempt": task.attempt,
        "metric": task.rule.metric,
        "step": step,
        "value": plain,
        "stop": _state.stop,
    }
    rung = task.rule.rung_of(step)
    if rung is not None and not _state.stop and (_state.entered is None or rung > _state.entered):
        _state.entered = rung
        try:
            others = task.rungs.enter(rung, step, value)
        except OSError as error:
            return _warn("the rung at step %d cannot be reached, and the task goes on: %s" % (rung, error))
        if others is not None and not task.rule.goes_on(value, others):
            _state.stop = _state.last["stop"] = True
            better = sum(task.rule.loss(other) < task.rule.loss(value) for other in others)
            _warn("%s %s at step %d: %d of %d tasks were better there"
                  % (task.rule.metric, plain, step, better, len(others)))  # fmt: skip
    if was_stopped:
        _state.save()  # the task trained on: it has not ended itself yet


def should_stop() -> bool:
    """Return True once the task has reached a rung where it is not among the best: end the loop, and write the metrics."""
    if _state.stop and STOPPED_AT not in _state.last:
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
    return _Task(rule_of(json.loads(environ["HPC_EARLY_STOP"])), Rungs(folder, int(trial), attempt), attempt, path)


def _read(path: str) -> Dict[str, Any]:
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _warn(text: str) -> None:
    sys.stderr.write("hpc-agent: early stop: %s\n" % text)
