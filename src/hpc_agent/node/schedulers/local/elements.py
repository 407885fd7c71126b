"""The unfinished jobs of the supervisor: their elements, and the processes and events of these."""

import collections
import contextlib
import errno
import math
import os
import signal
import socket
import subprocess
import sys
import time
from subprocess import PIPE
from typing import BinaryIO, Deque, Dict, List, Mapping, Optional, Sequence, cast

from ...shared import processes
from ...shared.files import make_folder, remove_quietly
from ...shared.task_environment import looks_secret
from ...shared.timestamps import iso
from . import events
from .events import Event
from .state_folder import JobFolder, StoredJob, numbers

# The wrapper waits at a gate, so that nothing runs that is not in the event log: a supervisor that dies first closes
# the pipe, and the element steps back. Then the wrapper runs its arguments and leaves their exit code in the file $0.
# Signals to the group are for the script; the wrapper outlives them.
WRAPPER = (
    "trap : HUP INT QUIT TERM USR1 USR2\n"
    'IFS= read -r HPC_LOCAL_GATE || { echo unstarted >"$0"; exit 125; }\n'
    '"$@" </dev/null\n'
    'set -- "$?"\n'
    'echo "$1" >"$0"\n'
    'exit "$1"\n'
)
MARK = "HPC_LOCAL_ELEMENT"
BASH = "/bin/bash" if os.path.exists("/bin/bash") else "bash"
MAX_ATTEMPTS = 3
# The dispatcher gives its task the grace; this much more lets the dispatcher write the record.
GRACE_MARGIN_SEC = 2.0
RSS_UNIT = 1048576.0 if sys.platform == "darwin" else 1024.0
# Failures to start an element that pass by themselves and are no fault of the element.
TRANSIENT = tuple(
    getattr(errno, name) for name in "EAGAIN EDQUOT EIO EMFILE ENFILE ENOMEM ENOSPC ESTALE ETXTBSY".split()
)


# Never written to the state folder: such variables reach elements through the supervisor's own environment.
def _is_kept(name: str, value: str) -> bool:
    return "AUTH" in name.upper() or looks_secret(name, value)


class Element(object):
    """An element whose processes live, or did a moment ago. The wrapper of an ``own`` one is a child of this process.

    Its processes were started with the variable ``MARK``, whose value is the exit file.
    """

    def __init__(self, start: Event, walltime: float, folder: JobFolder, own: bool = False) -> None:
        self.start = start
        self.own = own
        self.mark = "%s=%s" % (MARK, folder.exit_file(start.element, start.attempt))
        self.began = time.monotonic() - max(0.0, time.time() - start.at)
        self.members: Dict[int, str] = {start.pid: start.born}
        self.peak_mb = 0.0
        self.dying = False
        self.signal_at = self.began + walltime  # of SIGTERM; of SIGKILL for a ``dying`` element (monotonic)
        self.returncode: Optional[int] = None  # the wrapper's exit code, or -N where signal N killed the wrapper

    def reap(self) -> None:
        """Fill in ``returncode`` when the wrapper of an own element has ended."""
        pid = self.start.pid
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if not done:
            return
        self.peak_mb = max(self.peak_mb, usage.ru_maxrss / RSS_UNIT)
        self.returncode = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        # Processes that the wrapper left running are killed, as cluster schedulers do, except in the grace period.
        if not self.dying:
            processes.signal_group(pid, signal.SIGKILL)
            self.members.pop(pid, None)
            processes.kill_all(self.members)
            if self.returncode < 0 or self.returncode > 128:  # a dispatcher that was killed has not ended its task
                processes.kill_marked(self.mark)

    def is_gone(self) -> bool:
        """Return True once the wrapper of an adopted element has ended."""
        return processes.born(self.start.pid) != self.start.born

    def lingers(self) -> bool:
        """Return True while any process of the element lives."""
        return any(processes.born(pid) == since for pid, since in self.members.items())

    def measure(self, table: Dict[int, processes.Process]) -> None:
        """Renew ``members``, the processes of the element."""
        self.members.setdefault(self.start.pid, self.start.born)
        self.members = processes.family(table, self.start.pid, self.members)

    def destroy(self) -> None:
        """Send SIGKILL to all that is left of the element, in sessions of its own too."""
        self.measure(processes.table())
        if (self.own and self.returncode is None) or self.start.pid in self.members:
            processes.signal_group(self.start.pid, signal.SIGKILL)
        processes.kill_all(self.members)
        processes.kill_marked(self.mark)


class Array(object):
    """An unfinished job. Read from its event log, it adopts what an earlier supervisor has started. Raises OSError."""

    def __init__(self, folder: JobFolder, stored: StoredJob) -> None:
        self.id = folder.id
        self.folder = folder
        self.job = stored.job
        self.walltime = float(stored.job.resources.get("walltime_sec") or math.inf)
        self.memory_mb: Optional[float] = stored.job.resources.get("mem_mb")
        self.after = numbers(stored.job.after)
        self.grace = float(stored.job.environment.get("HPC_PREEMPT_GRACE_SEC") or 10) + GRACE_MARGIN_SEC
        self.environment = dict(job_environment(stored, os.environ), HPC_LOCAL_JOB_ID=str(folder.id))
        self.blocked_since: Optional[float] = None
        self.unsaved: List[Event] = []
        states = events.read(folder.events)
        self.attempts = states.attempts
        self.pending: Deque[int] = collections.deque(states.pending(stored.job.count))
        self.running = {index: Element(start, self.walltime, folder) for index, start in states.started.items()}
        make_folder(self.folder.exits)
        try:
            make_folder(self.job.log_folder)
        except OSError as error:
            log("job %d: %s" % (self.id, error))  # each element reports the same error as it fails to start
        for element in list(self.running.values()):
            if element.start.boot == processes.boot_id():
                if element.is_gone():
                    element.destroy()
                    self.settle(element, watched=False)
            elif element.start.host == socket.gethostname():
                self.settle(element, watched=False)
            else:
                # Perhaps it still runs on that other machine: starting it here could run it twice.
                self.finish(element, "node_failure")

    def record(self, event: Event) -> bool:
        """Write an event, later if the disk does not take it now. Returns False in that case."""
        self.unsaved.append(event)
        return self.flush()

    def flush(self) -> bool:
        """Write the events that the disk did not take before. Returns False while it does not take them."""
        try:
            while self.unsaved:
                events.append(self.folder.events, self.unsaved[0])
                del self.unsaved[0]
        except OSError as error:
            log("job %d: %s" % (self.id, error))
        return not self.unsaved

    def start(self, cores: int, gpus: Sequence[int]) -> bool:
        """Start the next element. Returns False when the machine cannot now, and the element stays pending."""
        index, host = self.pending[0], socket.gethostname()
        attempt = self.attempts.get(index, 1)
        try:
            process = self.launch(index, attempt, cores, gpus)
        except OSError as error:
            if error.errno in TRANSIENT:
                log("job %d: %s" % (self.id, error))
                return False
            self.pending.popleft()
            self.record(Event("end", index, attempt, "never_started", message=str(error), host=host, at=time.time()))
            return True
        pid, boot = process.pid, processes.boot_id()
        born = processes.born(pid) or ""
        start = Event("start", index, attempt, pid=pid, born=born, boot=boot, host=host, gpus=gpus, at=time.time())
        written = self.record(start)
        gate = cast(BinaryIO, process.stdin)
        with contextlib.suppress(OSError), gate:  # killed at its gate: reap() tells how
            if written:
                gate.write(b"\n")
        if not written:
            self.unsaved.remove(start)
            processes.signal_group(pid, signal.SIGKILL)
            process.wait()
            return False
        process.returncode = 0  # reap() waits for the process; Popen must not, for the id may be another's by then
        self.running[self.pending.popleft()] = Element(start, self.walltime, self.folder, own=True)
        return True

    def launch(self, index: int, attempt: int, cores: int, gpus: Sequence[int]) -> "subprocess.Popen[bytes]":
        """Start the wrapper of an element up to its gate, which is its standard input. Raises OSError."""
        exit_file = self.folder.exit_file(index, attempt)
        if index in self.attempts:
            remove_quietly(exit_file)
        environment = dict(self.environment, HPC_LOCAL_INDEX=str(index), HPC_LOCAL_CPUS=str(cores))
        environment.update({"HPC_LOCAL_ATTEMPT": str(attempt), MARK: exit_file})
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu) for gpu in gpus)
        argv, cwd = ["/bin/sh", "-c", WRAPPER, exit_file, BASH, self.job.script], self.job.working_directory
        with open(os.path.join(self.job.log_folder, "%d_%d.out" % (self.id, index)), "ab") as out:
            return subprocess.Popen(
                argv, bufsize=0, stdin=PIPE, stdout=out, stderr=out, env=environment, cwd=cwd, start_new_session=True
            )

    def kill(self, element: Element, cause: str, signal_at: float) -> None:
        """Arrange SIGKILL at ``signal_at`` (monotonic). The cause is written first: the supervisor may die before."""
        self.record(Event("kill", element.start.element, element.start.attempt, cause))
        element.start = element.start._replace(cause=cause)
        element.dying, element.signal_at = True, signal_at

    def settle(self, element: Element, watched: bool) -> None:
        """End, or queue again, an element of an earlier supervisor whose wrapper has ended.

        The wrapper survives every signal but SIGKILL: without its exit file, and ``watched`` until then, it was
        killed. Not watched, it may have gone down with the machine or the session of the user.
        """
        start, left = element.start, ""
        with contextlib.suppress(OSError), open(self.folder.exit_file(start.element, start.attempt)) as handle:
            left = handle.read()
            element.began = time.monotonic() - max(0.0, os.fstat(handle.fileno()).st_mtime - start.at)
        if left == "unstarted\n":
            self.requeue(element, start.attempt)
        elif left.endswith("\n") and left.strip().isdigit():
            element.returncode = int(left)
        elif watched or start.cause:
            element.returncode = -signal.SIGKILL
        elif start.attempt < MAX_ATTEMPTS:
            self.requeue(element, start.attempt + 1)
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
        start = element.start
        del self.running[start.element]
        cause, code, number = events.classify(element.returncode, cause or start.cause)
        end = Event("end", start.element, start.attempt, cause, exit_code=code, signal=number, at=time.time())
        seconds, peak_mb = round(time.monotonic() - element.began, 3), round(element.peak_mb, 1)
        if self.record(end._replace(seconds=seconds, max_rss_mb=peak_mb, host=socket.gethostname())):
            remove_quietly(self.folder.exit_file(start.element, start.attempt))


def without_secrets(environment: Mapping[str, str]) -> Dict[str, str]:
    return {name: value for name, value in environment.items() if not _is_kept(name, value)}


def job_environment(stored: StoredJob, own: Mapping[str, str]) -> Dict[str, str]:
    """Return the variables of every element of a job: the submitter's and the secrets of ``own``; the job's win."""
    environment = {name: value for name, value in own.items() if _is_kept(name, value)}
    return dict(environment, **dict(stored.inherited, **stored.job.environment))


def log(text: str) -> None:
    """Write a line into the supervisor's log. A full disk must not end the supervisor."""
    with contextlib.suppress(OSError):
        sys.stderr.write("%s %s\n" % (iso(), text))
        sys.stderr.flush()
