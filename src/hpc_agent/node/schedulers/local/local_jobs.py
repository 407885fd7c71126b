"""What the supervisor holds of an unfinished job, and of its elements that run."""

import collections
import os
import signal
import subprocess
import sys
import time
from typing import Any, Deque, Dict, List, NamedTuple, Optional, Tuple

from ...shared.files import remove_quietly
from ...shared.timestamps import iso
from . import local_state, processes

# Waits to be let go, so that nothing runs that is not in the event log: a supervisor that dies first closes
# the pipe, and the element steps back. Then runs its arguments and leaves their exit code in the file $0,
# whoever may be there to see it. Signals to the group are for the script; the wrapper outlives them.
WRAPPER = (
    "trap : HUP INT QUIT TERM USR1 USR2\n"
    'IFS= read -r HPC_LOCAL_GATE || { echo unstarted >"$0"; exit 125; }\n'
    '"$@" </dev/null\n'
    'set -- "$?"\n'
    'echo "$1" >"$0"\n'
    'exit "$1"\n'
)
BASH = "/bin/bash" if os.path.exists("/bin/bash") else "bash"
UNSTARTED = "unstarted"
DEFAULT_GRACE_SEC = 10.0
# The dispatcher gives its task the same grace; this much more lets it write the record.
GRACE_MARGIN_SEC = 2.0
RSS_UNIT = 1048576.0 if sys.platform == "darwin" else 1024.0


class Exit(NamedTuple):
    """How the wrapper ended: an exit code, or the signal that killed it."""

    code: Optional[int]
    number: Optional[int]


class Element(object):
    """An element whose processes live, or did a moment ago. Adopted ones have no ``process``."""

    def __init__(
        self,
        index: int,
        attempt: int,
        pid: int,
        born: str,
        gpus: List[int],
        at: float,
        process: "Optional[subprocess.Popen[bytes]]" = None,
    ) -> None:
        self.index = index
        self.attempt = attempt
        self.pid = pid
        self.born = born
        self.gpus = gpus
        self.at = at
        self.started = time.monotonic() - max(0.0, time.time() - at)
        self.process = process
        self.members: Dict[int, str] = {pid: born}
        self.peak_mb = 0.0
        self.killed_for: Optional[str] = None
        self.kill_at: Optional[float] = None
        self.exit: Optional[Exit] = None
        self.ran_sec: Optional[float] = None

    def seconds(self) -> float:
        return self.ran_sec if self.ran_sec is not None else time.monotonic() - self.started

    def reap(self) -> None:
        """Fill in ``exit`` when the wrapper, a child of ours, has ended.

        What it left running is killed, as cluster schedulers do, unless the element is in its grace period.
        """
        assert self.process is not None
        done, status, usage = os.wait4(self.pid, os.WNOHANG)
        if not done:
            return
        self.process.returncode = status  # keeps Popen from waiting for an id that may be another's by then
        self.peak_mb = max(self.peak_mb, usage.ru_maxrss / RSS_UNIT)
        killed = os.WIFSIGNALED(status)
        self.exit = Exit(None if killed else os.WEXITSTATUS(status), os.WTERMSIG(status) if killed else None)
        if self.kill_at is None:
            processes.signal_group(self.pid, signal.SIGKILL)
            self.members.pop(self.pid, None)
            processes.kill_all(self.members)

    def is_gone(self) -> bool:
        """Whether the wrapper of an adopted element has ended."""
        return processes.born(self.pid) != self.born

    def read_exit(self, path: str) -> Optional[str]:
        """What the wrapper of an adopted element left: an exit code or UNSTARTED; None when it was killed."""
        try:
            with open(path) as handle:
                text = handle.read()
                self.ran_sec = max(0.0, os.fstat(handle.fileno()).st_mtime - self.at)
        except OSError:
            return None
        return text.strip() if text.endswith("\n") else None

    def measure(self, table: Dict[int, processes.Process]) -> None:
        """Find out who belongs to the element now."""
        self.members = processes.family(table, self.pid, self.members)

    def memory_mb(self, table: Dict[int, processes.Process], limit: Optional[float]) -> float:
        """Resident memory of all its processes. Near the limit, pages that forked tasks share count once."""
        used = processes.rss_mb(table, self.members)
        if limit is not None and used > limit:
            used = processes.pss_mb(table, self.members)
        self.peak_mb = max(self.peak_mb, used)
        return used

    def lingers(self) -> bool:
        """Whether any of its processes still lives."""
        return any(processes.born(pid) == since for pid, since in self.members.items())

    def terminate(self) -> None:
        """SIGTERM to the group, for the script to end in order."""
        self.measure(processes.table())
        processes.signal_group(self.pid, signal.SIGTERM)

    def destroy(self) -> None:
        """SIGKILL to whatever is left of it, in sessions of its own too."""
        self.measure(processes.table())
        if self.exit is None:
            processes.signal_group(self.pid, signal.SIGKILL)
        processes.kill_all(self.members)

    def destroy_remains(self) -> None:
        """SIGKILL to what an adopted wrapper that is gone left behind."""
        table = processes.table()
        if self.pid not in table:
            self.measure(table)
            processes.kill_all(self.members)


def adopt(event: Dict[str, Any]) -> Element:
    """The element of a start event that another supervisor wrote."""
    element = Element(
        int(event["element"]),
        int(event["attempt"]),
        int(event["pid"]),
        str(event["born"]),
        list(event.get("gpus") or []),
        float(event["at"]),
    )
    element.killed_for = event.get("kill")
    return element


class Job(object):
    """An unfinished job: its elements are pending, running, or counted."""

    def __init__(self, job_id: int, folder: local_state.JobFolder, spec: Dict[str, Any]) -> None:
        self.id = job_id
        self.folder = folder
        self.script = str(spec["script"])
        self.directory = str(spec["working_directory"])
        self.log_folder = str(spec["log_folder"])
        self.resources = dict(spec.get("resources") or {})
        self.walltime = float(self.resources.get("walltime_sec") or 0)
        self.memory_mb: Optional[float] = self.resources.get("mem_mb")
        self.max_running: Optional[int] = spec.get("max_running")
        self.after = [int(job) for job in spec.get("after") or [] if str(job).isdigit()]
        self.grace = grace_of(spec.get("environment") or {})
        self.environment = local_state.element_environment(spec, os.environ)
        self.running: Dict[int, Element] = {}
        self.blocked_since: Optional[float] = None
        self.unsaved: List[Dict[str, Any]] = []
        self._torn = True
        state = folder.fold()
        self.started = state.started
        self.attempts = state.attempts
        self.pending: Deque[int] = collections.deque(state.pending(int(spec["count"])))
        self.failed = sum(1 for end in state.ended.values() if end.get("cause"))
        self.complete = len(state.ended) - self.failed

    def append(self, event: Dict[str, Any]) -> bool:
        """Write an event now; False when the disk does not take it."""
        try:
            if self._torn:
                local_state.mend_tail(self.folder.events)
                self._torn = False
            local_state.append_event(self.folder.events, event)
        except OSError as error:
            self._torn = True
            log("job %d: %s" % (self.id, error))
            return False
        return True

    def record(self, event: Dict[str, Any]) -> bool:
        """Write an event, later if need be; whether it is written."""
        self.unsaved.append(event)
        return self.flush()

    def flush(self) -> bool:
        while self.unsaved:
            if not self.append(self.unsaved[0]):
                return False
            del self.unsaved[0]
        return True

    def room(self) -> int:
        """How many more elements the job itself allows now."""
        if self.max_running is None:
            return len(self.pending)
        return min(len(self.pending), max(0, self.max_running - len(self.running)))

    def over(self) -> bool:
        return not self.pending and not self.running

    def exists(self) -> bool:
        """Whether nobody has deleted its folder, and with it the only place to write what happens."""
        return os.path.isdir(self.folder.path)

    def launch(self, index: int, cores: int, gpus: List[int]) -> Tuple[Element, int]:
        """Start an element up to its gate.

        Returns it with the descriptor to write a line to, or to close. Raises OSError.
        """
        attempt = self.attempts.get(index, 1)
        exit_file = self.folder.exit_file(index, attempt)
        if index in self.attempts:
            remove_quietly(exit_file)
        environment = local_state.with_index(self.environment, self.id, index, cores, gpus)
        gate, release = os.pipe()
        try:
            with open(os.path.join(self.log_folder, "%d_%d.out" % (self.id, index)), "ab") as output:
                process = subprocess.Popen(
                    ["/bin/sh", "-c", WRAPPER, exit_file, BASH, self.script],
                    stdin=gate,
                    stdout=output,
                    stderr=output,
                    env=environment,
                    cwd=self.directory,
                    start_new_session=True,
                )
        except OSError:
            os.close(release)
            raise
        finally:
            os.close(gate)
        born = processes.born(process.pid) or ""
        return Element(index, attempt, process.pid, born, gpus, time.time(), process), release


def let_go(element: Element, release: int, start: bool) -> None:
    """Open the element's gate; or, when it must not run, close it and reap the wrapper."""
    try:
        if start:
            os.write(release, b"\n")
    except OSError:
        pass  # killed at its gate; reaping it tells how
    finally:
        os.close(release)
    if not start and element.process is not None:
        processes.signal_group(element.pid, signal.SIGKILL)
        element.process.wait()


def grace_of(environment: Dict[str, str]) -> float:
    """Seconds between SIGTERM and SIGKILL."""
    try:
        return max(0.0, float(environment.get("HPC_PREEMPT_GRACE_SEC") or DEFAULT_GRACE_SEC)) + GRACE_MARGIN_SEC
    except ValueError:
        return DEFAULT_GRACE_SEC + GRACE_MARGIN_SEC


def log(text: str) -> None:
    """A line into the supervisor's log. A full disk must not end the supervisor."""
    try:
        sys.stderr.write("%s %s\n" % (iso(), text))
        sys.stderr.flush()
    except OSError:
        pass
