"""Find the signs of a failure in the lines of a log."""

import re
from typing import List, NamedTuple, Optional, Sequence, Set

from .failure_signs import LIKELY, SIGNS, WEAK, Sign
from .fingerprints import without_numbers
from .log_traces import Trace, ending_of
from .translations import ERROR_START

# Lines that count as the end of a log. Indented ones are not counted: they belong to the message above.
WINDOW = 20
# Words that also stand in harmless warnings must be nearer to the end.
_WINDOWS = {"missing_file": 8, "permission": 8, "network": 4, "service_busy": 4}
_LAST_LINE_WINDOW = 8
# Classes whose messages are often harmless: they count only where the program did not go on after them.
_SOFT = (*WEAK, "command_not_found", "environment", "network", "service_busy")

# First lines of the error messages of R, Julia, MATLAB, C++, Fortran, argparse.
_ERROR_START = re.compile(
    r"^Error in |^Error: |^Error using |^ERROR: (?!Could not find a version|No matching distribution)|^terminate called "
    r"|Fortran runtime error|^At line [0-9]+ of file|^forrtl: |^ERROR STOP"
    r"|^(?!srun|salloc|slurmstepd|mpirun)[^\s:]{1,100}: error: |^(?:%s)" % "|".join(ERROR_START)
)
_ERROR_WORD = re.compile(r"error|fatal|fail|exception|abort|invalid|cannot", re.IGNORECASE)
# Warnings of bash, TensorFlow and the loader that end with the message of an error; a clean-up of what is not there.
_HARMLESS = re.compile(
    r"warning: setlocale: |Could not load dynamic library|from LD_PRELOAD cannot be preloaded"
    r"|\brm: cannot remove .{1,1000}: No such file"
)
# Scripts put results away after an error too.
_PUT_AWAY = re.compile(r"(?:mv|tar|gzip|zip|rmdir): ")
# An error that is measured, and none of the program: "step 3, error 0.01".
_MEASURED = re.compile(r"error[ =:]{1,3}[+-]?[0-9]+(?:\.|e)[0-9]", re.IGNORECASE)
# Lines of a call stack, which may differ in their numbers alone: gfortran, gdb; R; ifort and Open MPI (addresses).
_STACK = re.compile(r"#[0-9]|[0-9]+: |.*<hex>")
# A program that tells this intends to go on.
_WARNING = re.compile(r"\bWARNING\b|\b[Ww]arning: |\b[Rr]etrying\b|entering retry loop")
_LAUNCHER_LINE = re.compile(r"^(?:srun|slurmstepd|mpirun|prterun|hpc-agent): |^-{10,}$")


class Verdict(NamedTuple):
    """A class, the confidence in it, and the line that shows it. ``fixed``: the line is the same for every task."""

    name: str
    confidence: str
    line: str
    source: str = ""
    trace: Optional[Trace] = None
    fixed: bool = False


def first_match(lines: List[str], signs: Sequence[Sign] = SIGNS) -> Optional[Verdict]:
    """Return the first sign of the table that a line shows, with the last such line."""
    text = "\n".join(lines)
    for sign in signs:
        if sign.shown_in(text):  # one search of the whole text is cheaper than one of each line
            for line in reversed(lines):
                if sign.shown_in(line):
                    return Verdict(sign.name, sign.confidence, line.strip())
    return None


def search(lines: List[str]) -> Optional[Verdict]:
    """Return the first sign in the last error message of a log, or else near its end."""
    lines = [line for line in lines if not _HARMLESS.search(line)]
    ending = ending_of(lines, WINDOW)
    recent = _since_it_went_on(ending)
    past = [line for line in ending[: len(ending) - len(recent)] if not _WARNING.search(line)]
    block = _error_block(past + recent)
    if not block:
        endings = {count: ending_of(lines, count)[-len(recent) :] for count in _WINDOWS.values()}
        tried = (
            first_match(
                endings.get(_WINDOWS.get(sign.name, 0), recent if sign.name in _SOFT else past + recent), [sign]
            )
            for sign in SIGNS
        )
        return next(filter(None, tried), None)
    found = first_match(block)
    if found and found.name in _SOFT:
        found = first_match(block[-len(recent) :])
    if found and found.name in WEAK and _PUT_AWAY.match(found.line) and not _PUT_AWAY.match(block[0]):
        found = None
    if found is None:
        # The second line counts where the first one is only a heading.
        follows = block[0].rstrip().endswith(":") or block[0].startswith(("At line", "Error using"))
        follows = follows or (len(block) > 1 and block[1].startswith((" ", "\t")))
        return Verdict("code_error", LIKELY, " ".join(line.strip() for line in block[: 2 if follows else 1]))
    return found


def _since_it_went_on(lines: List[str]) -> List[str]:
    """Return the lines since the program last went on with its work, or all.

    It did at lines that differ in their numbers alone and are no messages (steps, epochs), at a success, and where it
    explains its own usage (the line before that one belongs to it).
    """
    shapes: Set[str] = set()
    for index in range(len(lines) - 1, -1, -1):
        line = lines[index]
        if line.startswith("Successfully "):
            return lines[index:]
        if line[:6].lower() == "usage:":
            return lines[max(0, index - 1) :]
        message = _ERROR_WORD.search(_MEASURED.sub("", line)) or _WARNING.search(line) or _LAUNCHER_LINE.match(line)
        if message or line[0].isspace():
            continue
        shape = without_numbers(line)
        if _STACK.match(line) or _STACK.match(shape):
            continue
        if shape in shapes and not first_match([line]):
            return lines[index:]
        if shape != line:
            shapes.add(shape)
    return lines


def _error_block(lines: List[str]) -> List[str]:
    """Return the lines from the start of the last error message; messages close to one another are one."""
    starts = [index for index, line in enumerate(lines) if _ERROR_START.search(line)]
    if not starts:
        return []
    first = starts.pop()
    while starts and first - starts[-1] <= 4:
        first = starts.pop()
    return lines[first:]


def last_line(lines: List[str]) -> str:
    """Return the last line near the end of a log with a word for an error, or else the last line."""
    ending = [line for line in ending_of(lines, _LAST_LINE_WINDOW) if not _LAUNCHER_LINE.match(line)]
    telling = [line for line in ending if _ERROR_WORD.search(line)]
    return (telling or ending or [""])[-1].strip()
