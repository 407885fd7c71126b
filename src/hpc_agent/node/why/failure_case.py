"""The facts of one failed task: its record or accounting, its requests, and the ends of its logs as clean lines."""

import re
import signal
from typing import Any, NamedTuple, Optional

from ..look.recorded import FailureFacts
from . import log_search
from .failure_signs import DEVICE_MEMORY, KILLED, Sign
from .log_search import Verdict, first_match
from .log_traces import clean, ending_of, lines_of, text_of

_NEAR_MEMORY = 0.9
BY_CAUSE = {
    "checkpointed": "checkpointed", "timeout": "walltime", "out_of_memory": "out_of_memory", "preempted": "preempted",
    "node_failure": "node_failure", "cancelled": "cancelled", "never_started": "never_started",
}  # fmt: skip
# The program ended by itself: a later action of the scheduler is no explanation.
ENDED_BY_ITSELF = ("code_error", "no_output")
_GPU_WORD = re.compile(r"GPU|CUDA|cuda|HIP|nvidia")


class Limits(NamedTuple):
    """The requests of the attempt that failed. ``checkpoint``: it left files in its checkpoint folder."""

    mem_mb: Optional[float] = None
    walltime_sec: Optional[float] = None
    checkpoint: bool = False
    gpus: Optional[int] = None
    scheduler: str = ""


class Case(object):
    """Facts with checked types, and logs as clean lines."""

    def __init__(self, facts: FailureFacts, limits: Limits, log_tail: str, scheduler_tail: str) -> None:
        self.cause = text_of(facts.cause)
        self.message = clean(text_of(facts.message))
        self.host = text_of(facts.host)
        self.checkpoint, self.gpus, self.scheduler_name = limits.checkpoint, limits.gpus, limits.scheduler
        self.exit_code = _number(facts.exit_code)
        self.signal = _signal(_number(facts.signal), self.exit_code, self.cause)
        self.rss, self.memory = _number(facts.max_rss_mb), _number(limits.mem_mb)
        self.near_memory = bool(self.rss and self.memory and self.rss >= _NEAR_MEMORY * self.memory)
        self.seconds, self.walltime = _number(facts.seconds), _number(limits.walltime_sec)
        from_accounting = facts.evidence == "accounting" or self.cause in BY_CAUSE
        self.source = "accounting" if from_accounting and self.cause != "checkpointed" else "record"
        self.own, self.scheduler = ("log", lines_of(log_tail)), ("scheduler_log", lines_of(scheduler_tail))
        # A pack of tasks shares one scheduler log: a task with a log of its own is not explained by it.
        foreign = self.cause in ENDED_BY_ITSELF and bool(ending_of(self.own[1], 1))
        self.logs = [self.own] if foreign else [self.own, self.scheduler]
        self.traced: Optional[Verdict] = None  # by the last traceback; searched where the cause alone does not decide

    def sign(self) -> Optional[Verdict]:
        """Return the first sign in the logs."""
        found = ((source, log_search.search(lines)) for source, lines in self.logs)
        return next(
            (verdict._replace(source=source, name=self.owner(verdict.name)) for source, verdict in found if verdict),
            None,
        )

    def owner(self, name: str) -> str:
        """Return the class, with the memory of an accelerator library as that of its GPU, or of the host without one.

        A kill without known reason is one for memory, unless memory was left or the task itself was killed.
        """
        if name == KILLED:
            memory_left = (self.rss and self.memory) or self.signal == signal.SIGKILL
            return "signal" if memory_left and not self.near_memory else "out_of_memory"
        if name != DEVICE_MEMORY:
            return name
        lines = [line for _, log in self.logs for line in ending_of(log, log_search.WINDOW)]
        return "gpu_memory" if self.gpus or any(_GPU_WORD.search(line) for line in lines) else "out_of_memory"

    def scheduler_sign(self, *signs: Sign) -> Optional[Verdict]:
        """Return the scheduler's message at the end of either log: an srun of the executor writes to the task's own."""
        ends = ((source, ending_of(lines, log_search.WINDOW)) for source, lines in (self.scheduler, self.own))
        found = ((source, first_match(lines, signs)) for source, lines in ends)
        return next((verdict._replace(source=source, fixed=True) for source, verdict in found if verdict), None)

    def last_line(self) -> str:
        return next(filter(None, (log_search.last_line(lines) for _, lines in self.logs)), "")


def _number(value: Any) -> Optional[int]:
    """Return a number of a usual size, or None: records are files that a program may have damaged."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number and abs(value) < 1e9 else None


def _signal(number: Optional[int], exit_code: Optional[int], cause: str) -> Optional[int]:
    """Return the signal that ended the task, from the record or from an exit code of 128 and more."""
    if number is None and exit_code is not None:
        if 128 < exit_code < 128 + signal.NSIG:
            number = exit_code - 128
        elif -signal.NSIG < exit_code < 0:
            number = -exit_code
    return number or (signal.SIGTERM if cause == "terminated" else None)
