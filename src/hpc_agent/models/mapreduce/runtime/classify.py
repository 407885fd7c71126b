"""From the facts of a failed task and the end of its log to a class of the catalogue, with evidence and a fingerprint.

Who is believed: the scheduler about limits, nodes, preemption and deletion; the log about what the program ran into;
the exit code when neither says anything. Patterns are simple on purpose: a log may hold anything.
"""

import re
from typing import Any, Dict, List, Optional, Tuple

from .execute import DISK_FULL_EXIT

LINE_LIMIT, FINGERPRINT_LIMIT = 300, 200
# Only the last lines decide: a warning further up is not what ended the program.
DECISIVE_LINES = 25

Found = Tuple[str, str, str]  # class, confidence, decisive line

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_ACCOUNTED = {
    "timeout": "walltime", "out_of_memory": "out_of_memory", "node_failure": "node_failure", "preempted": "preempted",
    "cancelled": "cancelled", "never_started": "never_started", "no_record": "no_record", "checkpointed": "checkpointed",
    "environment": "environment", "no_output": "no_output",
}  # fmt: skip
_EXCEPTION = re.compile(
    r"^([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Warning|Exit|NotFound|Timeout|Fault|Failure)"
    r"|[a-z_]\w*(?:\.\w+)*\.[A-Z]\w*)(?::\s*(.*))?$"
)
_FRAME = re.compile(r'^\s*File "([^"]+)", line (\d+)(?:, in (.+))?$')
_GPU = re.compile(
    r"CUDA out of memory|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|HIP out of memory|hipErrorOutOfMemory"
    r"|CUBLAS_STATUS_ALLOC_FAILED|cuda\.OutOfMemoryError|OutOfMemoryError: CUDA|RESOURCE_EXHAUSTED: Out of memory"
    r"|Resource exhausted: OOM when allocating|failed to allocate .* from device|out of memory on GPU|CUDA error: out of memory"
)
# What the scheduler or the kernel writes when it ends a job.
_SCHEDULER_LOG: Tuple[Tuple[Any, str, str], ...] = (
    (re.compile(r"DUE TO TIME LIMIT|exceeded hard wallclock time|h_rt limit"), "walltime", "certain"),
    (re.compile(r"DUE TO PREEMPTION"), "preempted", "certain"),
    (re.compile(r"DUE TO NODE FAILURE|\bNODE_FAIL\b"), "node_failure", "certain"),
    (re.compile(r"oom.kill event|Exceeded job memory limit|OOM Killed|Some of your processes may have been killed"),
     "out_of_memory", "certain"),
)  # fmt: skip
_EXCEPTIONS = {
    "MemoryError": ("out_of_memory", "likely"),
    "ModuleNotFoundError": ("missing_module", "certain"),
    "ImportError": ("missing_module", "likely"),
    "FileNotFoundError": ("missing_file", "certain"),
    "PermissionError": ("permission", "certain"),
}
_MESSAGES: Tuple[Tuple[Any, str, str], ...] = (
    (re.compile(r"No space left on device|Disk quota exceeded|\[Errno (28|122)\]", re.IGNORECASE), "disk_full", "certain"),
    (re.compile(r"Cannot allocate memory|^MemoryError\b|std::bad_alloc|Unable to allocate [\d.]+ [KMGT]iB|cannot allocate vector of size"
                r"|OutOfMemoryError: Java heap|\bmalloc.*fail|insufficient virtual memory"), "out_of_memory", "likely"),
    (re.compile(r"Stale file handle|Input/output error|Transport endpoint is not connected|uncorrectable ECC|fallen off the bus"),
     "node_failure", "likely"),
    (re.compile(r"No module named|there is no package called|cannot open shared object file"), "missing_module", "likely"),
    (re.compile(r"command not found|: not found$"), "command_not_found", "certain"),
    (re.compile(r"[Pp]ermission denied"), "permission", "likely"),
    (re.compile(r"No such file or directory|can't open file|cannot open file|does not exist", re.IGNORECASE),
     "missing_file", "likely"),
)  # fmt: skip
_ENVIRONMENT = re.compile(
    r"^hpc-agent: (module load|conda|.*shell_init|this node has no)|Unable to locate a modulefile|CondaError"
    r"|EnvironmentNameNotFound|The following module\(s\) are unknown|Could not find conda environment"
)
_PROGRAM = re.compile(
    r"^Execution halted|^Error in |^ERROR: LoadError|^terminate called|^Error using |^panic: |^Exception in thread"
    r"|^fatal error|Segmentation fault|^Abort|MPI_ABORT|core dumped"
)
_NORMAL: Tuple[Tuple[Any, str], ...] = (
    (
        re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?([.,]\d+)?(Z|[+-]\d\d:?\d\d)?|\b\d\d:\d\d:\d\d([.,]\d+)?\b"),
        "<time>",
    ),
    (re.compile(r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b"), "<uuid>"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b|\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b"), "<hex>"),
    (re.compile(r"(?:[\w.~<>+@=-]*/)+([\w.<>+@=-]*)"), r"<path>/\1"),
    (re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?"), "<n>"),
    (re.compile(r"\s+"), " "),
)


def classify(facts: Dict[str, Any], log_tail: str, scheduler_tail: str = "") -> Dict[str, Any]:
    """Class, confidence (certain, likely, guess), evidence, fingerprint, exception, frame and the decisive line."""
    log = [line.rstrip() for line in _ANSI.sub("", log_tail).splitlines()]
    outside = [line.rstrip() for line in _ANSI.sub("", scheduler_tail).splitlines()]
    exception, frame, raised = _traceback(log)
    found, source = _decide(facts, log, outside, exception, raised)
    name, confidence, line = found
    line = (line or raised or _last(log) or _last(outside) or str(facts.get("message") or ""))[:LINE_LIMIT]
    evidence = [{"source": source, "text": _evidence_text(facts, line, source)}]
    if source in ("accounting", "record") and (raised or _last(log)):
        evidence.append({"source": "log", "text": (raised or _last(log))[:LINE_LIMIT]})
    elif source in ("log", "scheduler_log"):
        evidence.append(
            {"source": str(facts.get("evidence") or "record"), "text": str(facts.get("message") or "")[:LINE_LIMIT]}
        )
    return {
        "class": name,
        "confidence": confidence,
        "evidence": evidence,
        "exception": exception,
        "frame": frame,
        "line": line,
        "fingerprint": _compose(name, exception, frame, line, facts),
    }


def _decide(
    facts: Dict[str, Any], log: List[str], outside: List[str], exception: Optional[str], raised: str
) -> Tuple[Found, str]:
    cause = str(facts.get("cause") or "unknown")
    source = "accounting" if facts.get("evidence") == "accounting" or facts.get("raw") else "record"
    near = log[-DECISIVE_LINES:]
    gpu = _first(_GPU, near)
    if gpu and cause not in ("timeout", "node_failure", "preempted"):
        return ("gpu_memory", "certain", gpu), "log"
    if cause in _ACCOUNTED:
        return (_ACCOUNTED[cause], "likely" if facts.get("evidence") == "absence" else "certain", ""), source
    for pattern, name, confidence in _SCHEDULER_LOG:
        line = _first(pattern, outside) or _first(pattern, near)
        if line:
            return (name, confidence, line), "scheduler_log"
    if cause == "exit" and facts.get("exit_code") == DISK_FULL_EXIT and facts.get("evidence") == "accounting":
        return ("disk_full", "likely", ""), source
    by_limit = _at_a_limit(facts, cause)
    if by_limit:
        return by_limit, source
    return _from_program(facts, cause, near, outside, exception, raised, source)


def _at_a_limit(facts: Dict[str, Any], cause: str) -> Optional[Found]:
    """A kill that nobody explains, at the size or the time that was asked for."""
    if cause not in ("signal", "terminated") and facts.get("exit_code") != 137:
        return None
    used, asked = _number(facts.get("max_rss_mb")), _number(facts.get("mem_mb"))
    seconds, walltime = _number(facts.get("seconds")), _number(facts.get("walltime_sec"))
    killed = facts.get("signal") == 9 or facts.get("exit_code") == 137
    if killed and used and asked and used >= 0.9 * asked:
        return "out_of_memory", "likely", ""
    if seconds and walltime and seconds >= walltime - max(90.0, 0.05 * walltime) and seconds >= 0.5 * walltime:
        return "walltime", "likely", ""
    return None


def _from_program(
    facts: Dict[str, Any],
    cause: str,
    near: List[str],
    outside: List[str],
    exception: Optional[str],
    raised: str,
    source: str,
) -> Tuple[Found, str]:
    line = _first(_ENVIRONMENT, outside + near)
    if line:
        return ("environment", "likely", line), "log"
    # A traceback at the end says what it was; lines above it do not.
    lines = [raised] if raised else near + outside
    for pattern, name, confidence in _MESSAGES:
        line = _first(pattern, lines)
        if line and (raised or cause in ("code_error", "exit", "unknown", "signal")):
            return (name, confidence, line), "log"
    if exception is not None:
        short = exception.rpartition(".")[2]
        name, confidence = _EXCEPTIONS.get(short, ("code_error", "certain"))
        if "ArrayMemoryError" in short:
            name, confidence = "out_of_memory", "likely"
        return (name, confidence, raised), "log"
    code = facts.get("exit_code")
    if code in (126, 127):
        return ("permission" if code == 126 else "command_not_found", "guess", ""), source
    if cause in ("signal", "terminated") or (isinstance(code, int) and 128 < code < 193):
        return ("signal", "guess" if facts.get("signal") in (9, 15) else "likely", _first(_PROGRAM, near) or ""), source
    line = _first(_PROGRAM, near)
    if line:
        return ("code_error", "likely", line), "log"
    if cause in ("code_error", "exit"):
        return ("code_error", "likely", ""), source
    return ("unknown", "guess", ""), source


def _traceback(log: List[str]) -> Tuple[Optional[str], Optional[str], str]:
    """Exception type, last frame and the line that raised, of the last Python traceback; nothing where there is none."""
    start = next(
        (n for n in range(len(log) - 1, -1, -1) if log[n].lstrip(" |+").startswith("Traceback (most recent")), None
    )
    if start is None:
        return None, None, ""
    frame = None
    for number in range(start, len(log)):
        text = log[number].lstrip(" |+")
        match = _FRAME.match(text)
        if match:
            frame = "%s:%s in %s" % (
                "/".join(match.group(1).split("/")[-2:]),
                match.group(2),
                match.group(3) or "<module>",
            )
            continue
        raised = _EXCEPTION.match(text) if len(text) < 4096 else None
        if raised and not log[number].startswith("    "):
            return raised.group(1), frame, text
    return None, frame, ""


def _first(pattern: Any, lines: List[str]) -> str:
    """The last line that matches: what is nearest to the end."""
    return next((line for line in reversed(lines) if pattern.search(line[:4096])), "")


def _last(lines: List[str]) -> str:
    return next((line for line in reversed(lines) if line.strip()), "")


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0


def _evidence_text(facts: Dict[str, Any], line: str, source: str) -> str:
    return (
        line
        if source in ("log", "scheduler_log")
        else str(facts.get("raw") or facts.get("message") or line)[:LINE_LIMIT]
    )


def _compose(name: str, exception: Optional[str], frame: Optional[str], line: str, facts: Dict[str, Any]) -> str:
    """Tasks that failed in the same place for the same reason have the same one, whatever their parameters."""
    host = str(facts.get("host") or "")
    if len(host) > 1:
        line = line.replace(host, "<host>")
    # For what the scheduler did, the last line that happened to be printed says nothing.
    words = line if name in _SPOKEN else ""
    parts = [name, exception or "", (frame or "") if exception else "", fingerprint(words)]
    return "|".join(part for part in parts if part)[:FINGERPRINT_LIMIT]


_SPOKEN = ("gpu_memory", "environment", "disk_full", "missing_module", "command_not_found", "missing_file", "permission",
           "code_error", "signal")  # fmt: skip


def fingerprint(text: str) -> str:
    """A line with everything replaced that differs from task to task: times, paths, numbers, ids."""
    text = text[:4096]
    for pattern, replacement in _NORMAL:
        text = pattern.sub(replacement, text)
    return text.strip()[:FINGERPRINT_LIMIT]
