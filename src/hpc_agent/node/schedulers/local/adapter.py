"""The embedded scheduler: array elements on this machine, within its cores and memory.

A detached supervisor runs them. Everything is in one state folder (``state_folder``), which no other machine may
use. Submitting and asking start the supervisor when there is work and none is alive.
"""

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from subprocess import DEVNULL
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ...shared.commands import run_command
from ...shared.errors import NodeError
from ...shared.files import write_json
from ...shared.ranges import count, encode_ranges
from ...shared.timestamps import iso
from .. import base
from ..base import AccountingRow, Limit, Partition, Query, QueueRow
from . import capacity, elements, events, state_folder
from .capacity import Amount
from .events import Event
from .state_folder import StateFolder, StoredJob, numbers

START_WAIT_SEC = 15.0
GPU_TIMEOUT = 30.0
MEMORY_SHARE = 0.8
LOG_LIMIT = 1 << 20
FIX_LIMITS = "Ask for less, or set local_cores and local_memory_mb in clusters.yaml; then run 'hpc-agent submit' again."
_WORDS = {
    "timeout": "TIMEOUT",
    "out_of_memory": "OUT_OF_MEMORY",
    "node_failure": "LOST",
    "never_started": "NOT STARTED",
}
# Isolated from the user's Python settings; the runtime itself is the only thing added to the path.
_BOOT = (
    "import importlib, sys; sys.path.append(sys.argv[1]); "
    "importlib.import_module(sys.argv[2] + '.supervise').main(sys.argv[3], int(sys.argv[4]))"
)


class Local(base.Scheduler):
    """``cores`` and ``memory_mb`` limit the elements that run at once; by default all cores and 80 % of the memory."""

    def __init__(self, state_folder: str, cores: Optional[int] = None, memory_mb: Optional[float] = None) -> None:
        self.state = StateFolder(state_folder)
        self.cores = cores
        self.memory_mb = memory_mb

    @classmethod
    def for_site(cls, site: Dict[str, Any]) -> "Local":
        """Read ``local_state`` (a folder, one below it for each host), ``local_cores`` and ``local_memory_mb``."""
        folder = os.path.join(site.get("local_state") or os.path.join("~", ".hpc-agent", "local"), socket.gethostname())
        return cls(folder, site.get("local_cores"), site.get("local_memory_mb"))

    def submit(self, job: base.Job) -> str:
        """Store the job and see that a supervisor is alive. Raises NodeError ``scheduler_refused``."""
        self.state.create()
        limits = self._accept(job)
        if limits != self.state.read_limits():
            write_json(self.state.limits, limits._asdict())
        inherited = elements.without_secrets(base.caller_environment())
        job_id = self.state.allocate(StoredJob(job, inherited, time.time()))
        self.ensure_supervisor()
        return str(job_id)

    def queue(self, job_ids: Sequence[str]) -> List[QueueRow]:
        active = set(self.state.active_ids())
        wanted = active.intersection(numbers(job_ids))
        if not wanted:
            return []
        down = "" if self.ensure_supervisor() else "SupervisorDown (see %s)" % self.state.log
        host = socket.gethostname()
        rows: List[QueueRow] = []
        blocked = False  # True behind a job that waits for room
        # All unfinished jobs up to the last one count for the reasons, for they come first.
        for folder, stored in self.state.stored_jobs(job_id for job_id in sorted(active) if job_id <= max(wanted)):
            states = events.read(folder.events)
            pending, started = states.pending(stored.job.count), states.started.values()
            if not active.isdisjoint(numbers(stored.job.after)):
                reason = "Dependency"
            elif stored.job.max_running is not None and len(started) >= stored.job.max_running:
                reason = "ThrottleLimit"
            else:
                reason = "Priority" if blocked else "Resources"
                blocked = blocked or bool(pending)
            for state, ids, why, where in (
                ("pending", pending, down or reason, ""),
                ("running", [start.element for start in started if not start.cause], "", host),
                ("completing", [start.element for start in started if start.cause], "", host),
            ):
                if ids and folder.id in wanted:
                    elements, raw = encode_ranges(ids), state.upper()
                    rows.append(QueueRow(str(folder.id), elements, state, why, raw, where, stored.job.name))
        return rows

    def accounting(self, job_ids: Sequence[str], since: float) -> List[AccountingRow]:
        rows: List[AccountingRow] = []
        for folder, stored in self.state.stored_jobs(numbers(job_ids)):
            if stored.submitted >= since:
                ended = events.read(folder.events).ended
                rows.extend(_ended_row(folder.id, ended[index]) for index in sorted(ended))
        return rows

    def submitted_elements(self) -> int:
        return sum(count(row.elements) for row in self.queue([str(job_id) for job_id in self.state.active_ids()]))

    def usable_nodes(self) -> List[str]:
        return [socket.gethostname()]

    def partitions_and_limits(self, query: Query) -> Tuple[List[Partition], List[Limit]]:
        del query
        cores = int(self.cores or os.cpu_count() or 1)
        free = max(0, int(cores - os.getloadavg()[0]))
        memory = int(physical_memory_mb())
        return [Partition("local", "up", True, None, 1, cores, free, cores, memory)], []

    def find(self, name: str, since: float) -> List[str]:
        newest_first = self.state.stored_jobs(reversed(self.state.job_ids()))
        recent = itertools.takewhile(lambda job: job[1].submitted >= since, newest_first)
        return [str(folder.id) for folder, stored in recent if stored.job.name == name][::-1]

    def ensure_supervisor(self) -> bool:
        """Wake the supervisor, or start one. Returns False when none can be started."""
        self.state.create()
        # The supervisor's own lock is taken here and handed over, so at no moment is a starting supervisor without it.
        lock = state_folder.take_lock(self.state.lock)
        if lock is None:
            self.state.wake_supervisor()
            return True
        try:
            return _spawn(self.state, lock)
        finally:
            os.close(lock)

    def _accept(self, job: base.Job) -> Amount:
        """Return the machine's limits. Raises NodeError ``scheduler_refused`` for a job that is beyond them."""
        cores = self.cores or os.cpu_count() or 1
        memory = self.memory_mb or MEMORY_SHARE * physical_memory_mb()
        gpus = gpu_count() if job.resources.get("gpus") else (self.state.read_limits() or Amount(0, 0.0, 0)).gpus
        limits = Amount(int(cores), float(memory), gpus)
        asked = capacity.needs(job.resources, limits)
        for unit, wanted, there in (
            ("cores", asked.cores, limits.cores),
            ("MB of memory", asked.memory_mb, limits.memory_mb),
            ("GPUs", asked.gpus, limits.gpus),
            ("nodes", int(job.resources.get("nodes") or 1), 1),
        ):
            if wanted > there:
                message = "a task asks for %d %s; this machine gives %d" % (wanted, unit, there)
                raise NodeError("scheduler_refused", message, FIX_LIMITS)
        return limits


def _spawn(state: StateFolder, lock: int) -> bool:
    """Start the supervisor with ``lock`` as its own. Returns False when it did not start."""
    runtime = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    package = [os.path.dirname(runtime), os.path.basename(runtime) + ".schedulers.local"]
    argv = [sys.executable or "python3", "-I", "-S", "-B", "-c", _BOOT] + package + [state.path, str(lock)]
    env = base.caller_environment()
    env.pop(elements.MARK, None)  # within an element, whose end must not be that of the supervisor
    too_long = os.path.exists(state.log) and os.path.getsize(state.log) > LOG_LIMIT
    with open(state.log, "wb" if too_long else "ab") as log:
        # A fresh interpreter in its own session that forks once more holds no pipe, terminal or folder of the caller.
        try:
            starter = subprocess.Popen(
                argv, stdin=DEVNULL, stdout=log, stderr=log, cwd="/", env=env, pass_fds=[lock], start_new_session=True
            )
        except OSError as error:
            log.write(("%s cannot start: %s\n" % (iso(), error)).encode("utf-8"))
            return False
    try:
        return starter.wait(timeout=START_WAIT_SEC) == 0
    except subprocess.TimeoutExpired:
        os.killpg(starter.pid, signal.SIGKILL)
        starter.wait()
        return False


def physical_memory_mb() -> float:
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) / 1048576.0


def gpu_count() -> int:
    """Return the number of GPUs of this machine; HPC_LOCAL_GPUS overrides the driver's answer."""
    stated = os.environ.get("HPC_LOCAL_GPUS", "")
    if stated.isdigit():
        return int(stated)
    try:
        code, out, _ = run_command(["nvidia-smi", "-L"], GPU_TIMEOUT)
    except NodeError:
        return 0
    return sum(line.startswith("GPU ") for line in out.splitlines()) if code == 0 else 0


def _ended_row(job: int, end: Event) -> AccountingRow:
    words = _WORDS.get(str(end.cause), "EXITED")
    if end.message:
        words = "%s: %s" % (words, end.message)
    elif end.signal is not None:
        words = "%s, signal %d" % (words, end.signal)
    elif end.exit_code is not None:
        words = "%s %d" % (words, end.exit_code)
    return AccountingRow(
        str(job), end.element, end.cause, words, end.exit_code, end.signal, end.host, end.seconds, end.max_rss_mb
    )
