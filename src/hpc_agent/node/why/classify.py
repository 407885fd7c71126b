"""Classify a failed task: one class of the catalogue, from its record, accounting and the ends of its logs.

Pure. The scheduler decides about limits, nodes and cancellations; a traceback at the end of the log about the rest;
then come messages near the end, then signals and exit codes.
"""

import re
import signal
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..look.recorded import FailureFacts
from ..shared.files import DISK_FULL_EXIT
from .exception_classes import classify_exception
from .failure_case import BY_CAUSE, ENDED_BY_ITSELF, Case, Limits
from .failure_signs import CERTAIN, GUESS, JOB_END_SIGNS, LIKELY, MEMORY_SIGN, WEAK
from .fingerprints import FINGERPRINT_LIMIT, fingerprint, without_numbers
from .log_search import Verdict, first_match
from .log_traces import LAUNCHERS, Trace, last_trace, traces_of

LINE_LIMIT = 300
EVIDENCE_LIMIT = 200

# Failures that a program may have although it ended with 0: a pipe or a script hides the exit code.
_HIDDEN: Dict[str, Sequence[str]] = {
    "no_record": ("disk_full",),
    "no_output": (
        "gpu_memory", "out_of_memory", "heap_full", "licence", "disk_full", "missing_module", "command_not_found",
        "missing_file", "permission",
    ),
}  # fmt: skip
# Exceptions that a program raises because something else was killed.
_AFTERMATH = frozenset([
    "BrokenPipeError", "BrokenProcessPool", "CalledProcessError", "ChildFailedError", "CommClosedError",
    "ConnectionAbortedError", "ConnectionRefusedError", "ConnectionResetError", "DistBackendError", "DistNetworkError",
    "DistStoreError", "EOFError", "HorovodInternalError", "KeyboardInterrupt", "KilledWorker", "OSError",
    "ProcessExitedException", "ProcessRaisedException", "RayTaskError", "RuntimeError", "SignalException", "SystemExit",
    "TerminatedWorkerError", "WorkerCrashedError",
])  # fmt: skip
# Classes that may be the reason why the environment or the executor did not start.
_BEHIND_START = ("disk_full", "environment", "node_failure", "out_of_memory", "too_many_threads")
# Classes that a program may have shown before a signal other than SIGABRT ended it.
_BEFORE_SIGNAL = (
    "gpu_memory", "out_of_memory", "heap_full", "too_many_threads", "disk_full", "node_failure", "lost_peer", "signal",
)  # fmt: skip
# What the loss of another process, or an oom-kill, may have caused.
_CAUSED = ("code_error", "signal", "node_failure", "out_of_memory", "lost_peer")
_SIGNALS = {int(number): number.name for number in signal.Signals}
_STOPS = (signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
_TASKS_ERROR = re.compile(r"^(?:tasks\.py|after the executor): ([A-Za-z_][\w.]*): ")


class Classification(NamedTuple):
    """The class of a failed task."""

    name: str  # of the catalogue
    confidence: str
    evidence: List[Dict[str, str]]  # of {source, text}
    fingerprint: str  # equal for tasks that failed in the same way
    exception: Optional[str]
    frame: Optional[str]
    line: str  # the decisive one


def classify(facts: FailureFacts, limits: Limits, log_tail: str, scheduler_tail: str = "") -> Classification:
    """Return the class of a failed task. The tails are the ends of the task's own log and of the scheduler's output."""
    case = Case(facts, limits, log_tail, scheduler_tail)
    verdict = _by_cause(case)
    if verdict is None:
        case.traced = _traced(case)
        # The rules in order of trust.
        verdict = (
            _by_good_end(case)
            or _by_scheduler_message(case)
            or _by_limits(case)
            or case.traced
            or _by_record_message(case)
            or _by_signs(case)
            or _by_signal_or_exit_code(case)
        )
    if verdict.name == "lost_peer":
        verdict = _behind_lost_peer(case) or verdict
    stopped = verdict.name in ("walltime", "preempted") or (verdict.name == "signal" and case.cause == "terminated")
    if case.checkpoint and stopped:  # it goes on with the same limits
        confidence = LIKELY if verdict.confidence == GUESS else verdict.confidence
        verdict = verdict._replace(name="checkpointed", confidence=confidence, fixed=True)
    evidence, words = _evidence(case, verdict), _fingerprint(case, verdict)
    exception, frame = (verdict.trace.kind, verdict.trace.frame(2)) if verdict.trace else (None, None)
    line = verdict.line[:LINE_LIMIT]
    return Classification(verdict.name, verdict.confidence, evidence, words, exception, frame, line)


def _fingerprint(case: Case, verdict: Verdict) -> str:
    kind, place, said = "", "", verdict.line
    if verdict.trace:
        # The base name alone: folders may be named after tasks.
        file, colon, rest = (verdict.trace.frame(1) or "").rpartition(":")
        kind, place, said = verdict.trace.kind, without_numbers(file) + colon + rest, said.partition(": ")[2]
    elif verdict.name == "code_error" and case.exit_code and case.exit_code > 1:
        kind = "exit code %d" % case.exit_code  # a program's own codes tell what went wrong
    words = "" if verdict.fixed else fingerprint(said, case.host)
    return "|".join((verdict.name, kind, place, words))[:FINGERPRINT_LIMIT].rstrip()


def _evidence(case: Case, verdict: Verdict) -> List[Dict[str, str]]:
    parts = [case.message or ("cause %s" % case.cause if case.cause else "")]
    if verdict.name in ("out_of_memory", "signal") and case.rss and case.memory:
        parts.append("%.0f MB in use of %.0f MB asked for" % (case.rss, case.memory))
    if verdict.name == "out_of_memory" and case.scheduler_name == "sge" and case.memory and not case.near_memory:
        parts.append("Grid Engine's h_data and h_vmem limit what a program reserves, not what it uses")
    if verdict.name in ("walltime", "checkpointed") and case.seconds and case.walltime:
        parts.append("ran %.0f s of %.0f s asked for" % (case.seconds, case.walltime))
    if verdict.name == "checkpointed" and case.checkpoint:
        parts.append("files in the checkpoint folder")
    found = [(verdict.source, verdict.line)] if verdict.source in ("log", "scheduler_log") else []
    found.append((case.source, "; ".join(filter(None, parts))))
    return [{"source": source, "text": text[:EVIDENCE_LIMIT]} for source, text in found if text]


def _by_cause(case: Case) -> Optional[Verdict]:
    """Classify by the cause, where the record or accounting is sure of it."""
    if case.cause in BY_CAUSE:
        return Verdict(BY_CAUSE[case.cause], CERTAIN, case.message or case.cause, case.source, fixed=True)
    if case.cause != "environment":
        return None
    found = case.sign()
    if found and found.name in _BEHIND_START:
        return found._replace(confidence=CERTAIN if found.name == "environment" else LIKELY)
    return Verdict("environment", CERTAIN, case.message or case.last_line(), case.source)


def _by_good_end(case: Case) -> Optional[Verdict]:
    """Classify a program that ended with 0."""
    if case.cause not in _HIDDEN:
        return None
    found = case.traced or case.sign()
    if found and found.name in _HIDDEN[case.cause] and (found.trace or found.confidence == CERTAIN):
        return found._replace(confidence=LIKELY)
    if found and found.trace and case.cause == "no_output":
        return Verdict("no_output", CERTAIN, found.trace.message[0], "log", found.trace)
    killed = case.scheduler_sign(MEMORY_SIGN) if case.cause == "no_output" else None
    if killed:
        return killed
    return Verdict(case.cause, CERTAIN, case.message or case.cause, case.source, fixed=case.cause == "no_record")


def _by_scheduler_message(case: Case) -> Optional[Verdict]:
    """Classify by the scheduler's message about the job's end or its memory, unless the program failed before."""
    trace = case.traced.trace if case.traced else None
    own = trace is not None and case.cause in ENDED_BY_ITSELF and trace.short_kind() not in _AFTERMATH
    found = None if own else case.scheduler_sign(*JOB_END_SIGNS)
    if found:
        return found
    found = case.scheduler_sign(MEMORY_SIGN)
    if found and case.traced and trace:
        explained = case.traced.name not in _CAUSED
        if explained or (own and case.traced.name == "code_error"):
            return None
    killed = case.signal in (signal.SIGKILL, signal.SIGTERM)
    return found._replace(confidence=CERTAIN if killed else LIKELY) if found else None


def _by_limits(case: Case) -> Optional[Verdict]:
    """Classify a kill near the end of the memory, or a stop near the end of the time."""
    words = case.message or _killed_by(case.signal)
    if case.signal == signal.SIGKILL and case.near_memory:
        return Verdict("out_of_memory", LIKELY, words, case.source, fixed=True)
    if case.signal in _STOPS and case.seconds and case.walltime:
        # 90 seconds are half of a short limit at most: a task that lasts a minute is not always near its end.
        slack = max(0.05 * case.walltime, min(90.0, 0.5 * case.walltime))
        if case.seconds >= case.walltime - slack:
            return Verdict("walltime", LIKELY, words, case.source, fixed=True)
    return None


def _traced(case: Case) -> Optional[Verdict]:
    """Classify by the last traceback, if a log ends with one."""
    for source, lines in case.logs:
        trace = last_trace(lines)
        if trace is None:
            continue
        name, confidence = _exception_class(case, trace)
        # No exception ends in SIGKILL or SIGTERM: it was handled, or is what the signal did.
        if name == "code_error" and case.signal in (signal.SIGKILL, signal.SIGTERM):
            continue
        behind = case.sign() if name == "code_error" and trace.short_kind() in LAUNCHERS else None
        if behind and behind.name not in WEAK:
            return behind
        return Verdict(name, confidence, trace.message[0], source, trace)
    return None


def _exception_class(case: Case, trace: Trace) -> Tuple[str, str]:
    name, confidence = classify_exception(trace, case.signal is not None, case.near_memory)
    return case.owner(name), confidence


def _behind_lost_peer(case: Case) -> Optional[Verdict]:
    """Classify by the traceback of the process that the others lost, if the log has one."""
    for source, lines in case.logs:
        for trace in reversed(traces_of(lines)):
            name, confidence = _exception_class(case, trace)
            effect = name == "code_error" and trace.short_kind() in _AFTERMATH - {"RuntimeError"}
            if name != "lost_peer" and confidence != GUESS and not effect:
                return Verdict(name, LIKELY, trace.message[0], source, trace)
    return None


def _by_record_message(case: Case) -> Optional[Verdict]:
    """Classify by the record's message: an error of tasks.py or after the executor has only the exception's line."""
    match = _TASKS_ERROR.match(case.message)
    if match:
        trace = Trace(match.group(1), "", [case.message.partition(": ")[2]], 0, ("", "", ""))
        name, confidence = _exception_class(case, trace)
        return Verdict(name, confidence, trace.message[0], case.source, trace)
    if not case.message.startswith("cannot start the executor"):
        return None
    found = first_match([case.message])
    name = found.name if found and (found.name in _BEHIND_START or found.name == "permission") else "code_error"
    return Verdict(name, LIKELY, case.message, case.source)


def _by_signs(case: Case) -> Optional[Verdict]:
    """Classify by messages of shells and of other languages near the end of a log."""
    found = case.sign()
    if found is None:
        return None
    killed = case.signal not in (None, signal.SIGABRT)
    if killed and found.name not in _BEFORE_SIGNAL:
        return None
    if found.name == "missing_file" and case.exit_code == 127:
        return found._replace(name="command_not_found", confidence=LIKELY)
    if found.name == "permission" and case.exit_code == 126:
        return found._replace(confidence=CERTAIN)
    if found.name == "signal" and case.signal == signal.SIGKILL:
        return found._replace(confidence=GUESS)
    return found


def _by_signal_or_exit_code(case: Case) -> Verdict:
    """Classify by what is left when nothing explains the end."""
    if case.signal is not None or case.cause == "signal":
        name = "node_failure" if case.signal == signal.SIGBUS else "signal"
        vague = case.signal in (None, signal.SIGKILL, signal.SIGTERM, signal.SIGBUS)
        return Verdict(name, GUESS if vague else LIKELY, _killed_by(case.signal), case.source)
    line = case.last_line()
    if not case.exit_code and case.cause not in ("code_error", "exit"):
        return Verdict("unknown", GUESS, case.message or line, case.source)
    names = {127: "command_not_found", 126: "permission"}
    if case.source == "accounting":
        names[DISK_FULL_EXIT] = "disk_full"  # of a dispatcher that could not write its record
    name = names.get(case.exit_code or 0, "code_error")
    sure = name != "code_error" or case.cause == "code_error"
    line, source = (line, "log") if line else (case.message or "exit code %s" % case.exit_code, case.source)
    return Verdict(name, LIKELY if sure else GUESS, line, source)


def _killed_by(number: Optional[int]) -> str:
    """Return the signal's name: a number would be lost in a fingerprint."""
    return "killed by %s" % _SIGNALS.get(number or 0, "a signal")
