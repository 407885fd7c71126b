"""Classify a failed task: one class of the catalogue, from its record, accounting and the ends of its logs.

Pure. The scheduler decides about limits, nodes and cancellations; a traceback at the end of the log about the rest;
then come messages near the end, then signals and exit codes.
"""

import re
import signal
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ..look.failure_facts import FailureFacts
from ..shared.log_tail import DISK_FULL_EXIT
from .failure_signs import (
    CERTAIN,
    GUESS,
    JOB_END_SIGNS,
    LIKELY,
    MEMORY_SIGN,
    SIGNS,
    Match,
    Sign,
    first_match,
)
from .fingerprints import FINGERPRINT_LIMIT, fingerprint, without_numbers
from .log_traces import LAUNCHERS, Trace, clean, ending_of, last_trace, lines_of, text_of

LINE_LIMIT = 300
EVIDENCE_LIMIT = 200
# Lines that count as the end of a log. Indented ones are not counted: they belong to the message above.
_WINDOW = 20
# Words that also stand in harmless warnings must be nearer to the end.
_WEAK_WINDOW = 8
_WEAK = ("missing_file", "permission")
_NEAR_MEMORY = 0.9

_BY_CAUSE = {
    "checkpointed": "checkpointed", "timeout": "walltime", "out_of_memory": "out_of_memory", "preempted": "preempted",
    "node_failure": "node_failure", "cancelled": "cancelled", "never_started": "never_started",
}  # fmt: skip
# The program ended by itself: a later action of the scheduler is no explanation.
_ENDED_BY_ITSELF = ("code_error", "no_output")
# Exceptions that a program raises because something else was killed.
_AFTERMATH = frozenset([
    "BrokenPipeError", "BrokenProcessPool", "CalledProcessError", "ChildFailedError", "ConnectionAbortedError",
    "ConnectionRefusedError", "ConnectionResetError", "EOFError", "KeyboardInterrupt", "OSError",
    "ProcessExitedException", "ProcessRaisedException", "RayTaskError", "RuntimeError", "SignalException", "SystemExit",
    "TerminatedWorkerError", "WorkerCrashedError",
])  # fmt: skip

# First lines of the error messages of R, Julia, MATLAB, C++, Fortran, argparse.
_ERROR_START = re.compile(
    r"^Error in |^Error: |^Error using |^ERROR: |^terminate called |Fortran runtime error|^At line [0-9]+ of file"
    r"|^forrtl: |^ERROR STOP|^(?!srun|slurmstepd|mpirun)[^\s:]{1,100}: error: "
)
_ERROR_WORD = re.compile(r"error|fatal|fail|exception|abort|invalid|cannot", re.IGNORECASE)
_LAUNCHER_LINE = re.compile(r"^(?:srun|slurmstepd|mpirun|prterun|hpc-agent): |^-{10,}$")
_TASKS_ERROR = re.compile(r"^(?:tasks\.py|after the executor): ([A-Za-z_][\w.]*): ")


class Verdict(NamedTuple):
    """A class, the confidence in it, and the line that shows it. ``fixed``: the line is the same for every task."""

    name: str
    confidence: str
    source: str
    line: str
    trace: Optional[Trace]
    fixed: bool


class Limits(NamedTuple):
    """The limits of the attempt that failed. ``checkpoint``: it left files in its checkpoint folder."""

    mem_mb: Optional[float] = None
    walltime_sec: Optional[float] = None
    checkpoint: bool = False


class Classification(NamedTuple):
    """The class of a failed task."""

    name: str  # of the catalogue
    confidence: str
    evidence: List[Dict[str, str]]  # of {source, text}
    fingerprint: str  # equal for tasks that failed in the same way
    exception: Optional[str]
    frame: Optional[str]
    line: str  # the decisive one


class _Case(object):
    """Facts with checked types, and logs as clean lines."""

    def __init__(self, facts: FailureFacts, limits: Limits, log_tail: str, scheduler_tail: str) -> None:
        self.cause = text_of(facts.cause)
        self.message = clean(text_of(facts.message))
        self.host = text_of(facts.host)
        self.checkpoint = limits.checkpoint is True
        self.exit_code = _integer(facts.exit_code)
        self.signal = _signal(_integer(facts.signal), self.exit_code, self.cause)
        self.rss, self.memory = _number(facts.max_rss_mb), _number(limits.mem_mb)
        self.seconds, self.walltime = _number(facts.seconds), _number(limits.walltime_sec)
        from_accounting = facts.evidence == "accounting" or (self.cause in _BY_CAUSE)
        self.source = "accounting" if from_accounting and self.cause != "checkpointed" else "record"
        self.log, self.scheduler = lines_of(log_tail), lines_of(scheduler_tail)
        # A pack of tasks shares one scheduler log: a task with a log of its own is not explained by it.
        foreign = self.cause in _ENDED_BY_ITSELF and bool(ending_of(self.log, 1))
        self.logs = [("log", self.log)] + ([] if foreign else [("scheduler_log", self.scheduler)])
        found = [(source, last_trace(lines)) for source, lines in self.logs]
        self.traces = [(source, trace) for source, trace in found if trace is not None]

    def near_memory(self) -> bool:
        return bool(self.rss and self.memory and self.rss >= _NEAR_MEMORY * self.memory)

    def near_walltime(self) -> bool:
        if not self.seconds or not self.walltime:
            return False
        # 90 seconds are half of a short limit at most: a task that lasts a minute is not always near its end.
        slack = max(0.05 * self.walltime, min(90.0, 0.5 * self.walltime))
        return self.seconds >= self.walltime - slack


def classify(facts: FailureFacts, limits: Limits, log_tail: str, scheduler_tail: str = "") -> Classification:
    """Return the class of a failed task. The tails are the ends of the task's own log and of the scheduler's output."""
    case = _Case(facts, limits, log_tail, scheduler_tail)
    verdict = _continued(case, _decide(case))
    trace = verdict.trace
    return Classification(
        verdict.name,
        verdict.confidence,
        evidence=_evidence(case, verdict),
        fingerprint=_whole_fingerprint(case, verdict),
        exception=trace.kind if trace else None,
        frame=trace.frame(2) if trace else None,
        line=verdict.line[:LINE_LIMIT],
    )


def _whole_fingerprint(case: _Case, verdict: Verdict) -> str:
    # The base name alone: folders may be named after tasks.
    frame = verdict.trace.frame(1) if verdict.trace else None
    file, _, rest = (frame or "").rpartition(":")
    place = without_numbers(file) + ":" + rest if frame else ""
    kind = verdict.trace.kind if verdict.trace else ""
    said = verdict.line if not verdict.trace else verdict.line.partition(": ")[2]
    words = "" if verdict.fixed else fingerprint(said, case.host)
    return "|".join((verdict.name, kind, place, words))[:FINGERPRINT_LIMIT].rstrip()


def _evidence(case: _Case, verdict: Verdict) -> List[Dict[str, str]]:
    found = []
    if verdict.source in ("log", "scheduler_log"):
        found.append({"source": verdict.source, "text": verdict.line[:EVIDENCE_LIMIT]})
    parts = [case.message or ("cause %s" % case.cause if case.cause else "")]
    if verdict.name in ("out_of_memory", "signal") and case.rss and case.memory:
        parts.append("%.0f MB in use of %.0f MB asked for" % (case.rss, case.memory))
    if verdict.name in ("walltime", "checkpointed") and case.seconds and case.walltime:
        parts.append("ran %.0f s of %.0f s asked for" % (case.seconds, case.walltime))
    if verdict.name == "checkpointed" and case.checkpoint:
        parts.append("files in the checkpoint folder")
    words = "; ".join(part for part in parts if part)
    if words:
        found.append({"source": case.source, "text": words[:EVIDENCE_LIMIT]})
    return found


def _decide(case: _Case) -> Verdict:
    rules = (
        _by_cause, _by_environment, _by_good_end, _by_job_end, _by_memory_sign, _by_limits, _by_traceback,
        _by_message, _by_signs, _by_signal, _by_exit_code,
    )  # fmt: skip
    for rule in rules:
        verdict = rule(case)
        if verdict is not None:
            return verdict
    return Verdict("unknown", GUESS, case.source, case.message or _last_line(case), None, False)


def _continued(case: _Case, verdict: Verdict) -> Verdict:
    """Call a task with a checkpoint that was stopped "checkpointed": it goes on with the same limits."""
    stopped = verdict.name in ("walltime", "preempted") or (verdict.name == "signal" and case.cause == "terminated")
    if not case.checkpoint or not stopped:
        return verdict
    confidence = LIKELY if verdict.confidence == GUESS else verdict.confidence
    return verdict._replace(name="checkpointed", confidence=confidence, fixed=True)


def _by_cause(case: _Case) -> Optional[Verdict]:
    name = _BY_CAUSE.get(case.cause)
    return Verdict(name, CERTAIN, case.source, case.message or case.cause, None, True) if name else None


def _by_environment(case: _Case) -> Optional[Verdict]:
    if case.cause != "environment":
        return None
    found = _search(case, SIGNS) or Verdict("", GUESS, case.source, case.message, None, False)
    if found.name == "disk_full":
        return found._replace(confidence=LIKELY)
    if found.name == "environment":
        return found._replace(confidence=CERTAIN)
    return Verdict("environment", CERTAIN, case.source, case.message or _last_line(case), None, False)


def _by_good_end(case: _Case) -> Optional[Verdict]:
    """Classify a program that ended with 0: it may have failed, because a pipe or a script hides the exit code."""
    if case.cause not in ("no_output", "no_record"):
        return None
    found = _by_traceback(case) or _search(case, SIGNS)
    hidden = ("disk_full",) if case.cause == "no_record" else (
        "gpu_memory", "out_of_memory", "disk_full", "missing_module", "command_not_found", "missing_file", "permission",
    )  # fmt: skip
    if found and found.name in hidden and (found.trace or found.confidence == CERTAIN):
        return found._replace(confidence=LIKELY)
    trace = found.trace if found and case.cause == "no_output" else None
    words = trace.message[0] if trace else case.message or case.cause
    source = "log" if trace else case.source
    return Verdict(case.cause, CERTAIN, source, words, trace, case.cause == "no_record")


def _by_job_end(case: _Case) -> Optional[Verdict]:
    """Classify by the scheduler's message at the end of the job, unless the program had failed before by itself."""
    traced = _by_traceback(case)
    own = traced is not None and traced.trace is not None and traced.trace.short_kind() not in _AFTERMATH
    if own and case.cause in _ENDED_BY_ITSELF:
        return None
    found = _search_all(case, JOB_END_SIGNS)
    return found._replace(fixed=True) if found else None


def _by_memory_sign(case: _Case) -> Optional[Verdict]:
    found = _search_all(case, (MEMORY_SIGN,))
    if found is None:
        return None
    traced = _by_traceback(case)
    if traced is not None and traced.trace is not None:
        explains = traced.name not in ("code_error", "signal", "node_failure", "out_of_memory")
        own = case.cause in _ENDED_BY_ITSELF and traced.trace.short_kind() not in _AFTERMATH
        if explains or (own and traced.name == "code_error"):
            return None
    confidence = CERTAIN if case.signal in (signal.SIGKILL, signal.SIGTERM) else LIKELY
    return found._replace(confidence=confidence, fixed=True)


def _by_limits(case: _Case) -> Optional[Verdict]:
    """Classify a stop near the end of the time, or a kill near the end of the memory."""
    words = case.message or _named(case.signal)
    if case.signal == signal.SIGKILL and case.near_memory():
        return Verdict("out_of_memory", LIKELY, case.source, words, None, True)
    stops = (signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
    if case.signal in stops and case.near_walltime():
        return Verdict("walltime", LIKELY, case.source, words, None, True)
    return None


def _by_traceback(case: _Case) -> Optional[Verdict]:
    """Classify by the last traceback, if the log ends with one."""
    for source, trace in case.traces:
        name, confidence = _exception_class(trace, case)
        # No exception ends in SIGKILL or SIGTERM: it was handled, or is what the signal did.
        if name == "code_error" and case.signal in (signal.SIGKILL, signal.SIGTERM):
            continue
        if name == "code_error" and trace.short_kind() in LAUNCHERS:
            behind = _search(case, SIGNS)
            if behind is not None and behind.name not in _WEAK:
                return behind
        return Verdict(name, confidence, source, trace.message[0], trace, False)
    return None


def _exception_class(trace: Trace, case: _Case) -> Tuple[str, str]:
    kind = trace.short_kind()
    if kind in ("ModuleNotFoundError", "ImportError") and not re.search("annot allocate memory", trace.message[0]):
        return "missing_module", CERTAIN
    if kind == "FileNotFoundError":
        # subprocess raises it for the program, whose name has no folder.
        started = trace.file.endswith("subprocess.py") and "/" not in trace.message[0].rpartition(": ")[2]
        return ("command_not_found", LIKELY) if started else ("missing_file", CERTAIN)
    if kind == "KeyboardInterrupt":
        return "signal", GUESS
    found = first_match(trace.message, SIGNS)
    if found is not None and found.name not in ("command_not_found", "environment", "missing_module"):
        near = found.name == "out_of_memory" and case.near_memory()
        return found.name, LIKELY if near else found.confidence
    if kind in ("BrokenProcessPool", "ProcessExitedException", "WorkerCrashedError"):
        return ("out_of_memory", LIKELY) if case.near_memory() else ("signal", GUESS)
    return "code_error", CERTAIN if case.signal is None else LIKELY


def _by_message(case: _Case) -> Optional[Verdict]:
    """Classify by the record's message: an error of tasks.py or after the executor has only the exception's line."""
    match = _TASKS_ERROR.match(case.message)
    if match is None and not case.message.startswith("cannot start the executor"):
        return None
    if match is None:
        found = first_match([case.message], SIGNS)
        name = found.name if found and found.name in ("out_of_memory", "permission") else "code_error"
        return Verdict(name, LIKELY, case.source, case.message, None, False)
    trace = Trace(match.group(1), "", "", "", [case.message.partition(": ")[2]], 0)
    name, confidence = _exception_class(trace, case)
    return Verdict(name, confidence, case.source, trace.message[0], trace, False)


def _by_signs(case: _Case) -> Optional[Verdict]:
    """Classify by messages of shells and of other languages near the end of a log."""
    found = _search(case, SIGNS)
    if found is None:
        return None
    killed = case.signal is not None and case.signal != signal.SIGABRT
    if killed and found.name not in ("gpu_memory", "out_of_memory", "disk_full", "node_failure", "signal"):
        return None
    if found.name == "missing_file" and case.exit_code == 127:
        return found._replace(name="command_not_found", confidence=LIKELY)
    if found.name == "permission" and case.exit_code == 126:
        return found._replace(confidence=CERTAIN)
    if found.name == "signal" and case.signal == signal.SIGKILL:
        return found._replace(confidence=GUESS)
    return found


def _by_signal(case: _Case) -> Optional[Verdict]:
    if case.signal is None and case.cause not in ("signal", "terminated"):
        return None
    name = "node_failure" if case.signal == signal.SIGBUS else "signal"
    vague = case.signal in (None, signal.SIGKILL, signal.SIGTERM, signal.SIGBUS)
    return Verdict(name, GUESS if vague else LIKELY, case.source, _named(case.signal), None, False)


def _disk_full(case: _Case) -> str:
    """Return the class of the exit code with which the dispatcher reports a full disk."""
    return "disk_full" if case.source == "accounting" else "code_error"


def _by_exit_code(case: _Case) -> Optional[Verdict]:
    if not case.exit_code and case.cause not in ("code_error", "exit"):
        return None
    line = _last_line(case)
    source = "log" if line else case.source
    line = line or case.message or "exit code %s" % case.exit_code
    name = {127: "command_not_found", 126: "permission", DISK_FULL_EXIT: _disk_full(case)}.get(
        case.exit_code or 0, "code_error"
    )
    sure = name != "code_error" or case.cause == "code_error"
    return Verdict(name, LIKELY if sure else GUESS, source, line, None, False)


def _search_all(case: _Case, signs: Tuple[Sign, ...]) -> Optional[Verdict]:
    """Search the ends of both logs for the scheduler's messages: an srun of the executor writes to the task's own log."""
    for source, lines in (("scheduler_log", case.scheduler), ("log", case.log)):
        found = first_match(ending_of(lines, _WINDOW), signs)
        if found is not None:
            return Verdict(found.name, found.confidence, source, found.line, None, False)
    return None


def _search(case: _Case, signs: Tuple[Sign, ...]) -> Optional[Verdict]:
    """Return the first sign of the table in the last error message, or else near the end."""
    for source, lines in case.logs:
        ending = ending_of(lines, _WINDOW)
        block = _error_block(ending)
        found = first_match(block or ending, signs)
        if found is not None and found.name in _WEAK and not block:
            strong = tuple(sign for sign in signs if sign.name not in _WEAK)
            found = first_match(ending_of(lines, _WEAK_WINDOW), signs) or first_match(ending, strong)
        if found is None and block:
            found = Match("code_error", LIKELY, _joined(block))
        if found is not None:
            return Verdict(found.name, found.confidence, source, found.line, None, False)
    return None


def _error_block(lines: List[str]) -> List[str]:
    """Return the lines from the start of the last error message; messages close to one another are one."""
    starts = [index for index, line in enumerate(lines) if _ERROR_START.search(line)]
    if not starts:
        return []
    first = starts.pop()
    while starts and first - starts[-1] <= 4:
        first = starts.pop()
    return lines[first:]


def _joined(block: List[str]) -> str:
    """Return the first line of an error message, with the second where the first one is only a heading."""
    continues = len(block) > 1 and (block[0].rstrip().endswith(":") or block[1].startswith((" ", "\t")))
    follows = continues or (len(block) > 1 and block[0].startswith(("At line", "Error using")))
    return " ".join(line.strip() for line in block[: 2 if follows else 1])


def _last_line(case: _Case) -> str:
    """Return the last line near the end of a log with a word for an error, or else the last line."""
    for _, lines in case.logs:
        ending = [line for line in ending_of(lines, _WEAK_WINDOW) if not _LAUNCHER_LINE.match(line)]
        if ending:
            return next((line for line in reversed(ending) if _ERROR_WORD.search(line)), ending[-1]).strip()
    return ""


def _number(value: Any) -> Optional[float]:
    """Return a finite number that is not negative, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value < 1e300 else None


def _integer(value: Any) -> Optional[int]:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if -(10**9) < value < 10**9 else None


def _signal(number: Optional[int], exit_code: Optional[int], cause: str) -> Optional[int]:
    """Return the signal that ended the task, from the record or from an exit code of 128 and more."""
    if number is None and exit_code is not None:
        if 128 < exit_code < 128 + signal.NSIG:
            number = exit_code - 128
        elif -signal.NSIG < exit_code < 0:
            number = -exit_code
    if cause == "terminated":
        return number or signal.SIGTERM
    return number or None


def _named(number: Optional[int]) -> str:
    """Return the signal's name: a number would be lost in a fingerprint."""
    try:
        return "killed by %s" % signal.Signals(number or 0).name
    except ValueError:
        return "killed by a signal"
