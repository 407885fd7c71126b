"""Read logs as clean lines; find their ends and their Python tracebacks."""

import re
from typing import Any, List, NamedTuple, Optional, Tuple

TAIL_LIMIT = 64 << 10
# Longer lines are cut before a pattern sees them.
WIDTH = 2000
# Lines that count as the end of a log, for a traceback.
_TRACE_WINDOW = 25
# Exceptions of launchers: their traceback shows only that a child failed.
LAUNCHERS = ("ChildFailedError", "CalledProcessError", "ProcessRaisedException", "ProcessExitedException")
# Tracebacks after these words are by-products of the end, or of a thread.
_SECONDARY = ("Exception ignored in", "--- Logging error ---", "Error in atexit", "Exception in thread")

_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*\x07?|[@-Z\\^_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_FRAME = re.compile(r'^ {2,}File "([^"]*)", line ([0-9]+)(?:, in (.*))?$')
_FRAME_START = '  File "'
_HEADER = "Traceback (most recent call last):"
_EXCEPTION = re.compile(r"^([A-Za-z_][\w.<>]*)(?::\s?(.*))?$")


# Where tasks start: the folder of the run is none of the user's.
_WORK = re.compile(r"/runs/[^/]+/work/")


# Files that are none of the user's.
LIBRARY = re.compile(r"/(?:site|dist)-packages/|/lib(?:64)?/python[0-9]|^<frozen|\.pyx$|\.pxi$")


class Trace(NamedTuple):
    """One Python traceback. ``message`` is the exception with the lines of its text; ``end`` the index of its line.

    File and ``code`` (the source line) are those of the last frame; ``own`` has file, line and function of the last frame
    outside of libraries, or of the last where all are of libraries.
    """

    kind: str
    file: str
    message: List[str]
    end: int
    own: Tuple[str, str, str]
    code: str = ""

    def short_kind(self) -> str:
        return self.kind.rpartition(".")[2]

    def frame(self, components: int) -> Optional[str]:
        """Return ``file.py:42 in train``, of the user's own frame.

        The path is shortened to its last components below the run's copy of the repo.
        """
        file, line, function = self.own
        if not file:
            return None
        path = _WORK.split(file.replace("\\", "/"))[-1]
        place = "%s:%s" % ("/".join(path.split("/")[-components:]), line)
        return "%s in %s" % (place, function) if function else place


def lines_of(tail: Any) -> List[str]:
    """Return the lines as a terminal shows them: without colours, and only the last state of a progress bar."""
    text = _ANSI.sub("", text_of(tail)[-TAIL_LIMIT:])
    shown = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return [_CONTROL.sub("", line[:WIDTH]).rstrip() for line in shown]


def clean(text: str) -> str:
    return _CONTROL.sub(" ", _ANSI.sub("", text))


def text_of(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""


def ending_of(lines: List[str], count: int) -> List[str]:
    """Return the last ``count`` lines that are neither blank nor indented, with the indented ones between them."""
    recent = lines[-10 * count :]
    return [line for line in recent[_start_of_end(recent, count) :] if line.strip()]


def _start_of_end(lines: List[str], count: int) -> int:
    """Return the index of the last line but ``count`` of those that are neither blank nor indented, or else 0."""
    solid = [index for index, line in enumerate(lines) if line.strip() and not line[0].isspace()]
    return solid[-count] if len(solid) >= count else 0


def last_trace(lines: List[str]) -> Optional[Trace]:
    """Return the last traceback at the end of the log. A launcher's traceback counts only when there is no other."""
    nearest = _start_of_end(lines, _TRACE_WINDOW + 1)
    traces = [found for found in traces_of(lines) if found.end >= nearest]
    own = [found for found in traces if found.short_kind() not in LAUNCHERS] or traces
    return own[-1] if own else None


def traces_of(lines: List[str]) -> List[Trace]:
    """Return all tracebacks. By-products count only when there is no other."""
    primary: List[Trace] = []
    secondary: List[Trace] = []
    is_open = prefixed = aside = False
    code = ""
    prefix = ""  # of each line of the traceback, from a launcher
    for index, line in enumerate(lines):
        mark = _HEADER if _HEADER in line else _FRAME_START if _FRAME_START in line else ""
        # A syntax error has no header, and the tail of a long traceback begins below it.
        if mark == _HEADER or (mark and not is_open):
            is_open, prefixed, frame, patience = True, False, ("", "", ""), _TRACE_WINDOW
            own_frame = frame
            prefix = line[: line.index(mark)].replace("+ Exception Group ", "| ")
        own = _without(prefix, line)
        if mark == _HEADER:
            aside = any(word in earlier for earlier in lines[max(0, index - 2) : index + 1] for word in _SECONDARY)
        elif mark:
            match = _FRAME.match(own)
            if match:
                frame, code = (match.group(1), match.group(2), match.group(3) or ""), ""
                own_frame = frame if not own_frame[0] or not LIBRARY.search(frame[0]) else own_frame
                prefixed = bool(prefix.strip()) and line.startswith(prefix)
        elif is_open and own[:1].isspace():
            code = code or own.strip()
        elif is_open and own.strip():
            match = _EXCEPTION.match(own)
            if frame[0] and match and (line.startswith(prefix) or not prefixed):
                message = _message([_without(prefix, later) for later in lines[index : index + 8]])
                (secondary if aside else primary).append(
                    Trace(match.group(1), frame[0], message=message, end=index, own=own_frame, code=code)
                )
                is_open = aside = False
            else:
                patience -= 1
                is_open = patience > 0
    return primary or secondary


def _without(prefix: str, line: str) -> str:
    return line[len(prefix) :] if line.startswith(prefix) else line


def _message(lines: List[str]) -> List[str]:
    """Return the line of the exception and the lines of its text: those before a blank line or another traceback."""
    stop = next((n for n, line in enumerate(lines) if n and (not line.strip() or _HEADER in line)), len(lines))
    return [lines[0].strip()] + lines[1:stop]
