"""The event log of a job: the events of its elements, and the state of each element that they add up to."""

import errno
import json
import os
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

HIGHEST_SIGNAL = 64


class Event(NamedTuple):
    """One event of one element. The fields after ``attempt`` belong to some kinds of event only.

    start    pid, born, boot, host, gpus, at. In memory, ``cause`` is the reason for a kill that is under way
    kill     cause: the reason why the supervisor is about to kill the element
    requeue  next: the element is pending again, with this number of attempt
    end      cause (none: complete), exit_code, signal, seconds, max_rss_mb, message, host, at
    """

    event: str
    element: int
    attempt: int = 1
    cause: Optional[str] = None
    pid: int = 0
    born: str = ""
    boot: str = ""
    host: str = ""
    gpus: Sequence[int] = ()
    at: float = 0.0
    next: Optional[int] = None
    exit_code: Optional[int] = None
    signal: Optional[int] = None
    seconds: Optional[float] = None
    max_rss_mb: Optional[float] = None
    message: Optional[str] = None


# Values that a line may leave out; the former version reads ``attempt`` without a default.
_USUAL = Event("", -1, attempt=-1)


def append(path: str, event: Event) -> None:
    """Write one event by one write. Raises OSError."""
    document = {name: value for name, value, usual in zip(Event._fields, event, _USUAL) if value != usual}
    # A line break comes first too, so that a torn line before it, left by a killed writer, does not spoil this event.
    data = ("\n%s\n" % json.dumps(document, sort_keys=True, separators=(",", ":"))).encode("utf-8")
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(descriptor)


class ElementStates(object):
    """The sum of a job's events. An element in neither ``started`` nor ``ended`` is pending."""

    def __init__(self) -> None:
        self.started: Dict[int, Event] = {}
        self.ended: Dict[int, Event] = {}
        self.attempts: Dict[int, int] = {}

    def pending(self, count: int) -> List[int]:
        return [index for index in range(count) if index not in self.started and index not in self.ended]

    def add(self, event: Event) -> None:
        """Take one event into account. An end is final."""
        index = event.element
        if index in self.ended:
            return
        if event.event == "start":
            self.started[index] = event
        elif event.event == "kill" and index in self.started:
            self.started[index] = self.started[index]._replace(cause=event.cause)
        elif event.event in ("requeue", "end"):
            self.started.pop(index, None)
            if event.event == "end":
                self.ended[index] = event
            else:
                self.attempts[index] = event.next or event.attempt


def read(path: str) -> ElementStates:
    """Add up the events of a log; a missing log has none."""
    try:
        with open(path, "rb") as handle:
            return add_up(handle.read().decode("utf-8", "replace"))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return ElementStates()
        raise


def add_up(text: str) -> ElementStates:
    """Add up events. Lines that are no event (torn by a kill) count for nothing."""
    states = ElementStates()
    for line in filter(None, text.split("\n")):
        try:
            states.add(Event(**json.loads(line)))
        except (ValueError, TypeError):
            pass
    return states


def classify(returncode: Optional[int], killed: Optional[str]) -> Tuple[Optional[str], Optional[int], Optional[int]]:
    """Return (cause, exit code, signal) of an ended element; cause None is complete. A negative code is a signal.

    ``killed`` is the reason why the supervisor itself killed the element. A shell reports signal N of its command as 128 + N.
    """
    code, number = returncode, None
    if returncode is not None and returncode < 0:
        code, number = None, -returncode
    elif returncode is not None and 128 < returncode <= 128 + HIGHEST_SIGNAL:
        number = returncode - 128
    return killed or ("signal" if number else "exit" if code else None), code, number
