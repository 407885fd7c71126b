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


class Trace(NamedTuple):
    """One Python traceback. ``message`` is the exception with the lines of its text; ``end`` the index of its line."""

    kind: str
    file: str
    line: str
    function: str
    message: List[str]
    end: int

    def short_kind(self) -> str:
        return self.kind.rpartition(".")[2]

    def frame(self, components: int) -> Optional[str]:
        """Return ``file.py:42 in train``, the path shortened to its last components."""
        if not self.file:
            return None
        place = "%s:%s" % ("/".join(self.file.replace("\\", "/").split("/")[-components:]), self.line)
        return "%s in %s" % (place, self.function) if self.function else place


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
    kept: List[str] = []
    for line in reversed(lines[-10 * count :]):
        if not line.strip():
            continue
        kept.append(line)
        count -= not line[0].isspace()
        if count <= 0:
            break
    return kept[::-1]


def last_trace(lines: List[str]) -> Optional[Trace]:
    """Return the last traceback at the end of the log. A launcher's traceback counts only when there is no other."""
    nearest = _end_index(lines)
    traces = [found for found in _traces(lines) if found.end >= nearest]
    own = [found for found in traces if found.short_kind() not in LAUNCHERS] or traces
    return own[-1] if own else None


def _end_index(lines: List[str]) -> int:
    """Return the index of the first line that counts as the end of the log."""
    left = _TRACE_WINDOW
    for index in range(len(lines) - 1, -1, -1):
        left -= bool(lines[index].strip()) and not lines[index][0].isspace()
        if left < 0:
            return index
    return 0


def _traces(lines: List[str]) -> List[Trace]:
    """Return all tracebacks. By-products count only when there is no other."""
    primary: List[Trace] = []
    secondary: List[Trace] = []
    reader = _TraceReader()
    aside = False
    for index, line in enumerate(lines):
        if _HEADER in line:
            aside = any(word in earlier for earlier in lines[max(0, index - 2) : index + 1] for word in _SECONDARY)
            reader.begin(line)
        elif reader.read(line):
            (secondary if aside else primary).append(reader.finish(lines, index))
            aside = False
    return primary or secondary


class _TraceReader(object):
    """Reads one traceback line by line and drops the prefix that a launcher puts before each line."""

    def __init__(self) -> None:
        self.open = False
        self.prefix = ""
        self.prefixed = False
        self.frame: Tuple[str, str, str] = ("", "", "")
        self.patience = 0

    def begin(self, line: str, mark: str = _HEADER) -> None:
        self.open, self.prefixed, self.frame, self.patience = True, False, ("", "", ""), _TRACE_WINDOW
        self.prefix = line[: line.index(mark)].replace("+ Exception Group ", "| ")

    def read(self, line: str) -> bool:
        """Read the next line. Return True if it is the line of the exception."""
        if _FRAME_START in line:
            if not self.open:  # a syntax error has no header, and the tail of a long one begins below it
                self.begin(line, _FRAME_START)
            match = _FRAME.match(self._without_prefix(line))
            if match:
                self.frame = (match.group(1), match.group(2), match.group(3) or "")
                self.prefixed = bool(self.prefix.strip()) and line.startswith(self.prefix)
            return False
        if not self.open:
            return False
        own = self._without_prefix(line)
        if not own.strip() or own[0].isspace():
            return False
        foreign = self.prefixed and not line.startswith(self.prefix)
        if self.frame[0] and not foreign and _EXCEPTION.match(own):
            self.open = False
            return True
        self.patience -= 1
        self.open = self.patience > 0
        return False

    def _without_prefix(self, line: str) -> str:
        return line[len(self.prefix) :] if self.prefix and line.startswith(self.prefix) else line

    def finish(self, lines: List[str], index: int) -> Trace:
        message = [self._without_prefix(line) for line in lines[index : index + 8]]
        stop = next((n for n, line in enumerate(message) if n and (not line.strip() or _HEADER in line)), len(message))
        match = _EXCEPTION.match(message[0])
        kind = match.group(1) if match else message[0]
        return Trace(kind, self.frame[0], self.frame[1], self.frame[2], [message[0].strip()] + message[1:stop], index)
