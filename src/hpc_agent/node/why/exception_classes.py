"""Classify a Python exception: by its kind, and by its message where the message says more."""

import re
from typing import Optional, Tuple

from .failure_signs import CERTAIN, GUESS, KILLED, LIKELY
from .log_search import first_match
from .log_traces import LIBRARY, Trace

# Exceptions that only code raises: a message of something else in their text is data.
_OF_CODE = frozenset([
    "AssertionError", "AttributeError", "IndexError", "KeyError", "NameError", "NotImplementedError", "RecursionError",
    "StopIteration", "SyntaxError", "TypeError", "UnboundLocalError", "UnicodeDecodeError", "UnicodeEncodeError",
    "ZeroDivisionError",
])  # fmt: skip
# Exceptions that a program also raises itself for what the system would have refused.
_OF_SYSTEM = re.compile(r"(?:OSError|IOError|FileNotFoundError|PermissionError|MemoryError)$")
# Exceptions whose cause may be outside of the program.
_FROM_OUTSIDE = re.compile(
    r"^(?:OSError|IOError|EOFError|BlockingIOError|BrokenPipeError|timeout|.*(?:Connect\w*|Timeout)(?:Error)?)$"
)
_RAISES = re.compile(r"raise +\w[\w.]*\(")
_KILLED_WORKER = ("BrokenProcessPool", "KilledWorker", "ProcessExitedException", "WorkerCrashedError")

_OWN_IMPORT = re.compile(r"partially initialized module|circular import|relative import|' is not a package")
_IMPORT_PLACE = re.compile(r"cannot import name .{1,500} from .{1,500} \((/[^()]{1,500})\)$")
# Classes that may stand behind an ImportError.
_BEHIND_IMPORT = ("environment", "out_of_memory", "gpu_memory", "node_failure", "disk_full")
_DISTRIBUTED = re.compile(r"/(?:torch/distributed|mpi4py|horovod|distributed/comm)/")
_STARTS = re.compile(r"/(?:subprocess|popen_\w+)\.py$")
_BROKEN = re.compile(r"[Cc]onnection (?:reset|closed|refused)|[Tt]imed? ?out|[Bb]roken pipe")


def classify_exception(trace: Trace, killed: bool, near_memory: bool) -> Tuple[str, str]:
    """Return the class of the exception and the confidence in it.

    ``killed``: a signal ended the program; ``near_memory``: it had used up its memory.
    """
    kind = trace.short_kind()
    plain = ("code_error", LIKELY if killed or _FROM_OUTSIDE.search(kind) else CERTAIN)
    if kind in ("ModuleNotFoundError", "ImportError"):
        return _classify_import(trace) or plain
    if kind == "FileNotFoundError":
        # subprocess raises it for the program, whose name has no folder.
        started = trace.file.endswith("subprocess.py") and "/" not in trace.message[0].rpartition(": ")[2]
        return ("command_not_found", LIKELY) if started else ("missing_file", CERTAIN)
    if kind == "KeyboardInterrupt":
        return "signal", GUESS
    if "(): uid not found" in trace.message[0]:
        return "environment", LIKELY  # the node does not know the user
    raised = _RAISES.match(trace.code) and not LIBRARY.search(trace.file) and not _OF_SYSTEM.search(kind)
    if kind in _OF_CODE or raised:
        return plain
    if kind == "BlockingIOError" and _STARTS.search(trace.file):
        return "too_many_threads", LIKELY
    if _DISTRIBUTED.search(trace.file) and _BROKEN.search(trace.message[0]):
        return "lost_peer", LIKELY
    found = first_match(trace.message)
    if found and found.name not in ("command_not_found", "missing_module"):
        near = found.name in ("out_of_memory", KILLED) and near_memory
        return found.name, LIKELY if near else found.confidence
    if kind in _KILLED_WORKER:
        return ("out_of_memory", LIKELY) if near_memory else ("signal", GUESS)
    return plain


def _classify_import(trace: Trace) -> Optional[Tuple[str, str]]:
    """Return the class of an ImportError, or None where the import itself is wrong."""
    if _OWN_IMPORT.search(trace.message[0]):
        return None
    found = first_match(trace.message)
    if found and found.name in _BEHIND_IMPORT:
        return found.name, found.confidence
    place = _IMPORT_PLACE.search(trace.message[0])
    if place and not LIBRARY.search(place.group(1)):
        return None
    missing = trace.short_kind() == "ModuleNotFoundError" or trace.message[0].startswith("ImportError: No module named")
    return "missing_module", CERTAIN if missing else LIKELY
