"""One element of an array: its environment, and how its processes are started, measured and ended."""

import os
import re
import signal
import subprocess
import sys
import time
from typing import Dict, Mapping, NamedTuple, Optional, Sequence, Tuple

from . import processes
from .events import Event
from .state_folder import StoredJob

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
BASH = "/bin/bash" if os.path.exists("/bin/bash") else "bash"
UNSTARTED = "unstarted"
# Never written to the state folder: such variables reach elements through the supervisor's own environment.
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|AUTH|(API|ACCESS|PRIVATE)_?KEY", re.IGNORECASE)
RSS_UNIT = 1048576.0 if sys.platform == "darwin" else 1024.0


class Exit(NamedTuple):
    """How the wrapper ended: an exit code, or the signal that killed it."""

    code: Optional[int]
    number: Optional[int]


class Element(object):
    """An element whose processes live, or did a moment ago. An adopted one has no ``process``."""

    def __init__(self, start: Event, process: "Optional[subprocess.Popen[bytes]]" = None) -> None:
        self.start = start
        self.process = process
        self.began = time.monotonic() - max(0.0, time.time() - start.at)
        self.members: Dict[int, str] = {start.pid: start.born}
        self.peak_mb = 0.0
        self.killed_for = start.cause
        self.kill_at: Optional[float] = None
        self.exit: Optional[Exit] = None
        self.ran_sec: Optional[float] = None

    def seconds(self) -> float:
        return self.ran_sec if self.ran_sec is not None else time.monotonic() - self.began

    def let_go(self, release: int, start: bool) -> None:
        """Open the element's gate; or, when it must not run, close the gate and reap the wrapper."""
        try:
            if start:
                os.write(release, b"\n")
        except OSError:
            pass  # killed at its gate; reaping tells how
        finally:
            os.close(release)
        if not start and self.process is not None:
            processes.signal_group(self.start.pid, signal.SIGKILL)
            self.process.wait()

    def reap(self) -> None:
        """Fill in ``exit`` when the wrapper, a child of this process, has ended.

        What the wrapper left running is killed, as cluster schedulers do, unless the element is in its grace period.
        """
        pid = self.start.pid
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if not done or self.process is None:
            return
        self.process.returncode = status  # keeps Popen from waiting for an id that may be another's by then
        self.peak_mb = max(self.peak_mb, usage.ru_maxrss / RSS_UNIT)
        killed = os.WIFSIGNALED(status)
        self.exit = Exit(None if killed else os.WEXITSTATUS(status), os.WTERMSIG(status) if killed else None)
        if self.kill_at is None:
            processes.signal_group(pid, signal.SIGKILL)
            self.members.pop(pid, None)
            processes.kill_all(self.members)

    def is_gone(self) -> bool:
        """Return whether the wrapper of an adopted element has ended."""
        return processes.born(self.start.pid) != self.start.born

    def read_exit(self, path: str) -> Optional[str]:
        """Return an adopted wrapper's exit code or UNSTARTED from its exit file; None when it was killed."""
        try:
            with open(path) as handle:
                text = handle.read()
                self.ran_sec = max(0.0, os.fstat(handle.fileno()).st_mtime - self.start.at)
        except OSError:
            return None
        return text.strip() if text.endswith("\n") else None

    def measure(self, table: Dict[int, processes.Process]) -> None:
        """Renew ``members``, the processes of the element."""
        self.members = processes.family(table, self.start.pid, self.members)

    def memory_mb(self, table: Dict[int, processes.Process], limit: Optional[float]) -> float:
        """Return the resident memory of all processes. Above the limit, pages that forked tasks share count once."""
        used = processes.rss_mb(table, self.members)
        if limit is not None and used > limit:
            used = processes.pss_mb(table, self.members)
        self.peak_mb = max(self.peak_mb, used)
        return used

    def lingers(self) -> bool:
        """Return whether any process of the element still lives."""
        return any(processes.born(pid) == since for pid, since in self.members.items())

    def terminate(self) -> None:
        """Send SIGTERM to the group, for the script to end in order."""
        self.measure(processes.table())
        processes.signal_group(self.start.pid, signal.SIGTERM)

    def destroy(self) -> None:
        """Send SIGKILL to all that is left of the element, in sessions of its own too."""
        self.measure(processes.table())
        if self.exit is None:
            processes.signal_group(self.start.pid, signal.SIGKILL)
        processes.kill_all(self.members)

    def destroy_remains(self) -> None:
        """Send SIGKILL to what an adopted wrapper that has ended left behind."""
        table = processes.table()
        if self.start.pid not in table:
            self.measure(table)
            processes.kill_all(self.members)


def launch(
    planned: Event, script: str, exit_file: str, log: str, environment: Dict[str, str], folder: str
) -> Tuple[Element, int]:
    """Start the wrapper of an element up to its gate.

    Returns the element and the gate's descriptor, for ``Element.let_go``. Raises OSError.
    """
    gate, release = os.pipe()
    try:
        with open(log, "ab") as output:
            process = subprocess.Popen(
                ["/bin/sh", "-c", WRAPPER, exit_file, BASH, script],
                stdin=gate,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )
    except OSError:
        os.close(release)
        raise
    finally:
        os.close(gate)
    born = processes.born(process.pid) or ""
    return Element(planned._replace(pid=process.pid, born=born, at=time.time()), process), release


def without_secrets(environment: Mapping[str, str]) -> Dict[str, str]:
    return {name: value for name, value in environment.items() if not _SECRET.search(name)}


def job_environment(stored: StoredJob, own: Mapping[str, str]) -> Dict[str, str]:
    """Return the variables of every element of a job: the submitter's and the secrets of ``own``; the job's win."""
    environment = {name: value for name, value in own.items() if _SECRET.search(name)}
    return dict(environment, **dict(stored.inherited, **stored.job.environment))


def element_environment(
    of_its_job: Dict[str, str], job: int, index: int, cores: int, gpus: Sequence[int]
) -> Dict[str, str]:
    own = {"HPC_LOCAL_JOB_ID": str(job), "HPC_LOCAL_INDEX": str(index), "HPC_LOCAL_CPUS": str(cores)}
    if gpus:
        own["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu) for gpu in gpus)
    return dict(of_its_job, **own)
