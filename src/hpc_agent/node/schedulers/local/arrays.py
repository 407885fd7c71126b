"""An unfinished job in the supervisor: its pending and running elements, and the events that it writes for them."""

import collections
import os
import signal
import socket
import sys
import time
from typing import Deque, Dict, List, Optional, Tuple

from ...shared.files import make_folder, remove_quietly, write_json
from ...shared.timestamps import iso
from . import elements, events
from .elements import Element, Exit
from .events import Event
from .state_folder import JobFolder, StoredJob

MAX_ATTEMPTS = 3
DEFAULT_GRACE_SEC = 10.0
# The dispatcher gives its task the same grace; this much more lets the dispatcher write the record.
GRACE_MARGIN_SEC = 2.0


class Array(object):
    """An unfinished job: its elements are pending, running or counted."""

    def __init__(self, job_id: int, folder: JobFolder, stored: StoredJob) -> None:
        self.id = job_id
        self.folder = folder
        self.job = stored.job
        self.walltime = float(stored.job.resources.get("walltime_sec") or 0)
        self.memory_mb: Optional[float] = stored.job.resources.get("mem_mb")
        self.after = [int(job) for job in stored.job.after if job.isdigit()]
        self.grace = grace_of(stored.job.environment)
        self.environment = elements.job_environment(stored, os.environ)
        self.running: Dict[int, Element] = {}
        self.blocked_since: Optional[float] = None
        self.unsaved: List[Event] = []
        states = events.read(folder.events)
        self.started = states.started
        self.attempts = states.attempts
        self.pending: Deque[int] = collections.deque(states.pending(stored.job.count))
        self.failed = sum(1 for end in states.ended.values() if end.cause)
        self.complete = len(states.ended) - self.failed

    def open(self, boot: str) -> None:
        """Make the folders of the elements, and adopt the elements that an earlier supervisor started."""
        make_folder(self.folder.exits)
        try:
            make_folder(self.job.log_folder)
        except OSError as error:
            log("job %d: %s" % (self.id, error))  # each element will say so as it fails to start
        for start in self.started.values():
            self.recover(Element(start), boot)

    def recover(self, element: Element, boot: str) -> None:
        """Adopt an element that an earlier supervisor started, or settle how it ended."""
        self.running[element.start.element] = element
        if element.start.boot == boot:
            if element.is_gone():
                element.destroy_remains()
                self.settle(element, watched=False)
        elif element.start.host == socket.gethostname():
            self.settle(element, watched=False)
        else:
            # Perhaps it still runs on that other machine: starting it here could run it twice.
            self.finish(element, "node_failure")

    def close(self) -> bool:
        """Mark the job as done once its last event is written; return whether the supervisor may forget the job."""
        try:
            if self.flush():
                done = {"complete": self.complete, "failed": self.failed, "at": time.time()}
                write_json(self.folder.done, done)
                return True
        except OSError as error:
            log("job %d: %s" % (self.id, error))
        return not self.exists()

    def append(self, event: Event) -> bool:
        """Write an event now; return False when the disk does not take it."""
        try:
            events.append(self.folder.events, event)
        except OSError as error:
            log("job %d: %s" % (self.id, error))
            return False
        return True

    def record(self, event: Event) -> bool:
        """Write an event, later if the disk does not take it now; return whether it is written."""
        self.unsaved.append(event)
        return self.flush()

    def flush(self) -> bool:
        while self.unsaved:
            if not self.append(self.unsaved[0]):
                return False
            del self.unsaved[0]
        return True

    def kill(self, element: Element, cause: str, kill_at: float) -> None:
        """Arrange SIGKILL at ``kill_at`` (monotonic). The cause is written first: the supervisor may die before."""
        self.record(Event("kill", element.start.element, element.start.attempt, cause))
        element.killed_for = cause
        element.kill_at = kill_at

    def settle(self, element: Element, watched: bool) -> None:
        """End, or queue again, an element of an earlier supervisor whose wrapper has ended.

        The wrapper survives every signal but SIGKILL: without its exit file, and ``watched`` until then, it was
        killed. Not watched, it may have gone down with the machine or the session of the user.
        """
        attempt = element.start.attempt
        left = element.read_exit(self.folder.exit_file(element.start.element, attempt))
        if left == elements.UNSTARTED:
            self.requeue(element, attempt)
        elif left is not None and left.isdigit():
            element.exit = Exit(int(left), None)
        elif watched or element.killed_for:
            element.exit = Exit(None, int(signal.SIGKILL))
        elif attempt < MAX_ATTEMPTS:
            self.requeue(element, attempt + 1)
        else:
            self.finish(element, "node_failure")

    def requeue(self, element: Element, attempt: int) -> None:
        index = element.start.element
        del self.running[index]
        self.record(Event("requeue", index, element.start.attempt, next=attempt))
        self.attempts[index] = attempt
        self.pending.appendleft(index)

    def finish(self, element: Element, cause: Optional[str] = None) -> None:
        """Record the end of a running element."""
        index, attempt = element.start.element, element.start.attempt
        del self.running[index]
        code, number = element.exit or Exit(None, None)
        cause, number = events.classify(code, number, cause or element.killed_for)
        seconds, peak_mb = round(element.seconds(), 3), round(element.peak_mb, 1)
        if self.end(
            Event("end", index, attempt, cause, exit_code=code, signal=number, seconds=seconds, max_rss_mb=peak_mb)
        ):
            remove_quietly(self.folder.exit_file(index, attempt))

    def end(self, end: Event) -> bool:
        """Count and record the end of an element; return whether it is written."""
        self.failed += bool(end.cause)
        self.complete += not end.cause
        return self.record(end._replace(host=socket.gethostname(), at=time.time()))

    def room(self) -> int:
        """Return how many more elements the job itself allows now."""
        if self.job.max_running is None:
            return len(self.pending)
        return min(len(self.pending), max(0, self.job.max_running - len(self.running)))

    def is_over(self) -> bool:
        return not self.pending and not self.running

    def exists(self) -> bool:
        """Return False once the job's folder, the only place for its events, has been deleted."""
        return os.path.isdir(self.folder.path)

    def launch(self, planned: Event, cores: int) -> Tuple[Element, int]:
        """Start an element up to its gate; return it and the gate's descriptor. Raises OSError."""
        exit_file = self.folder.exit_file(planned.element, planned.attempt)
        if planned.element in self.attempts:
            remove_quietly(exit_file)
        environment = elements.element_environment(self.environment, self.id, planned.element, cores, planned.gpus)
        log_file = os.path.join(self.job.log_folder, "%d_%d.out" % (self.id, planned.element))
        return elements.launch(planned, self.job.script, exit_file, log_file, environment, self.job.working_directory)


def grace_of(environment: Dict[str, str]) -> float:
    """Return the seconds between SIGTERM and SIGKILL."""
    try:
        return max(0.0, float(environment.get("HPC_PREEMPT_GRACE_SEC") or DEFAULT_GRACE_SEC)) + GRACE_MARGIN_SEC
    except ValueError:
        return DEFAULT_GRACE_SEC + GRACE_MARGIN_SEC


def log(text: str) -> None:
    """Write a line into the supervisor's log. A full disk must not end the supervisor."""
    try:
        sys.stderr.write("%s %s\n" % (iso(), text))
        sys.stderr.flush()
    except OSError:
        pass
