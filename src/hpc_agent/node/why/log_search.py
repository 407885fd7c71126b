"""Find the signs of a failure in the lines of a log."""

import re
from typing import List, NamedTuple, Optional, Sequence

from .failure_signs import LIKELY, SIGNS, Sign
from .log_traces import Trace, ending_of
from .translations import ERROR_START

# Lines that count as the end of a log. Indented ones are not counted: they belong to the message above.
WINDOW = 20
# Words that also stand in harmless warnings must be nearer to the end.
_WINDOWS = {"missing_file": 8, "permission": 8, "network": 4, "service_busy": 4}
_LAST_LINE_WINDOW = 8

# First lines of the error messages of R, Julia, MATLAB, C++, Fortran, argparse.
_ERROR_START = re.compile(
    r"^Error in |^Error: |^Error using |^ERROR: (?!Could not find a version|No matching distribution)|^terminate called "
    r"|Fortran runtime error|^At line [0-9]+ of file|^forrtl: |^ERROR STOP"
    r"|^(?!srun|salloc|slurmstepd|mpirun)[^\s:]{1,100}: error: |^(?:%s)" % "|".join(ERROR_START)
)
_ERROR_WORD = re.compile(r"error|fatal|fail|exception|abort|invalid|cannot", re.IGNORECASE)
# Warnings of bash, TensorFlow and the loader that end with the message of an error.
_HARMLESS = re.compile(r"warning: setlocale: |Could not load dynamic library|from LD_PRELOAD cannot be preloaded")
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
    block = _error_block(ending_of(lines, WINDOW))
    if not block:
        endings = {count: ending_of(lines, count) for count in (WINDOW, *_WINDOWS.values())}
        tried = (first_match(endings[_WINDOWS.get(sign.name, WINDOW)], [sign]) for sign in SIGNS)
        return next(filter(None, tried), None)
    found = first_match(block)
    if found is None:
        # The second line counts where the first one is only a heading.
        follows = block[0].rstrip().endswith(":") or block[0].startswith(("At line", "Error using"))
        follows = follows or (len(block) > 1 and block[1].startswith((" ", "\t")))
        return Verdict("code_error", LIKELY, " ".join(line.strip() for line in block[: 2 if follows else 1]))
    return found


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
