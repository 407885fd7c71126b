"""The embedded scheduler: array elements on this machine, within its cores and memory.

A detached supervisor runs them. Everything is in one state folder (``local_state``), which no other machine may
use. Submitting and asking start the supervisor when there is work and none is alive.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from ...shared.commands import run_command
from ...shared.errors import NodeError
from ...shared.files import read_json, write_json
from ...shared.ranges import decode_ranges, encode_ranges
from ...shared.timestamps import iso
from .. import base
from ..base import AccountingRow, QueueRow
from ..site import Limit, Partition, Query
from . import local_state
from .local_state import Fold, JobFolder, StateFolder

START_WAIT_SEC = 15.0
GPU_TIMEOUT = 30.0
MEMORY_SHARE = 0.8
LOG_LIMIT = 1 << 20
FIX_LIMITS = "Ask for less, or set local_cores and local_memory_mb in clusters.yaml; then run 'hpc-agent submit' again."
_CAUSES = {
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
    """``cores`` and ``memory_mb`` limit what runs at once; by default all cores and 80 % of the memory."""

    name = "local"

    def __init__(self, state_folder: str, cores: Optional[int] = None, memory_mb: Optional[float] = None) -> None:
        self.state = StateFolder(state_folder)
        self.cores = cores
        self.memory_mb = memory_mb

    @classmethod
    def for_site(cls, site: Dict[str, Any]) -> "Local":
        """``local_state`` (a folder, one below it for each host), ``local_cores``, ``local_memory_mb``."""
        folder = os.path.join(site.get("local_state") or os.path.join("~", ".hpc-agent", "local"), socket.gethostname())
        return cls(folder, site.get("local_cores"), site.get("local_memory_mb"))

    def submit(self, job: base.Job) -> str:
        """Store the job and see that a supervisor is alive. Raises NodeError ``scheduler_refused``."""
        self.state.create()
        self._write_limits(self._accept(job))
        job_id = self.state.allocate(_document(job))
        self.ensure_supervisor()
        return str(job_id)

    def queue(self, job_ids: Sequence[str]) -> List[QueueRow]:
        unfinished = [job for job in self._jobs(job_ids) if not os.path.exists(job[1].done)]
        if not unfinished:
            return []
        alive = self.ensure_supervisor()
        folds = {number: folder.fold() for number, folder, _ in unfinished}
        why = self._reasons(unfinished, folds) if alive else {}
        host = socket.gethostname()
        rows: List[QueueRow] = []
        for number, _, spec in unfinished:
            name = spec["name"]
            pending = folds[number].pending(int(spec["count"]))
            if pending:
                reason = why.get(number, "") if alive else "SupervisorDown (see %s)" % self.state.log
                rows.append(_row(number, pending, "pending", reason, "", name))
            started = folds[number].started
            for state, ids in (
                ("running", [index for index, event in started.items() if "kill" not in event]),
                ("completing", [index for index, event in started.items() if "kill" in event]),
            ):
                if ids:
                    rows.append(_row(number, ids, state, "", host, name))
        return rows

    def accounting(self, job_ids: Sequence[str], since: float) -> List[AccountingRow]:
        rows: List[AccountingRow] = []
        for number, folder, spec in self._jobs(job_ids):
            if float(spec["submitted"]) >= since:
                ended = folder.fold().ended
                rows.extend(_ended_row(number, ended[index]) for index in sorted(ended))
        return rows

    def submitted_elements(self) -> int:
        rows = self.queue([str(number) for number in self.state.active_ids()])
        return sum(len(decode_ranges(row.elements)) for row in rows)

    def usable_nodes(self) -> List[str]:
        return [socket.gethostname()]

    def partitions_and_limits(self, query: Query) -> Tuple[List[Partition], List[Limit]]:
        del query
        cores = len(os.sched_getaffinity(0))
        free = max(0, int(cores - os.getloadavg()[0]))
        memory = int(physical_memory_mb())
        return [Partition("local", "up", True, None, 1, cores, free, cores, memory)], []

    def find(self, name: str, since: float) -> List[str]:
        found = []
        for number in reversed(self.state.job_ids()):
            spec = self._spec(number)
            if spec is None:
                continue
            if float(spec["submitted"]) < since:
                break
            if spec["name"] == name:
                found.append(str(number))
        return found[::-1]

    def ensure_supervisor(self) -> bool:
        """Wake the supervisor, or start one; whether there is one now.

        The start lock makes this exclusive with another start and with a supervisor that is about to leave. The
        supervisor's own lock is taken here and handed to it, so at no moment is a starting supervisor without it.
        """
        self.state.create()
        guard = local_state.take_lock(self.state.start_lock, START_WAIT_SEC)
        if guard is None:
            return False
        try:
            lock = local_state.take_lock(self.state.supervisor_lock, 0.0)
            if lock is None:
                self._wake()
                return True
            try:
                return _spawn(self.state, lock)
            finally:
                os.close(lock)
        finally:
            os.close(guard)

    def _wake(self) -> None:
        try:
            descriptor = os.open(self.state.wake, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return  # no FIFO here: the supervisor looks by itself every two seconds
        try:
            os.write(descriptor, b"!")
        except OSError:
            pass
        finally:
            os.close(descriptor)

    def _jobs(self, job_ids: Sequence[str]) -> Iterator[Tuple[int, JobFolder, Dict[str, Any]]]:
        for job_id in job_ids:
            spec = self._spec(int(job_id)) if str(job_id).isdigit() else None
            if spec is not None:
                yield int(job_id), self.state.job(int(job_id)), spec

    def _spec(self, number: int) -> Optional[Dict[str, Any]]:
        folder = self.state.job(number)
        try:
            spec = read_json(folder.spec)
        except ValueError as error:
            raise NodeError("schema_incompat", "%s is damaged: %s" % (folder.spec, error)) from error
        return spec  # type: ignore[no-any-return]

    def _accept(self, job: base.Job) -> Dict[str, Any]:
        """The machine's limits. Raises NodeError ``scheduler_refused`` for a job that is beyond them."""
        cores = self.cores or job.site.get("local_cores") or os.cpu_count() or 1
        memory = self.memory_mb or job.site.get("local_memory_mb") or MEMORY_SHARE * physical_memory_mb()
        limits: Dict[str, Any] = {"cores": int(cores), "memory_mb": float(memory)}
        if job.resources.get("gpus"):
            limits["gpus"] = gpu_count()
        asked = local_state.needs(job.resources, local_state.limits_of(limits))
        for what, wanted, there in (
            ("cores", asked.cores, limits["cores"]),
            ("MB of memory", asked.memory_mb, limits["memory_mb"]),
            ("GPUs", asked.gpus, limits.get("gpus", 0)),
            ("nodes", int(job.resources.get("nodes") or 1), 1),
        ):
            if wanted > there:
                message = "a task asks for %d %s; this machine gives %d" % (wanted, what, there)
                raise NodeError("scheduler_refused", message, FIX_LIMITS)
        return limits

    def _write_limits(self, limits: Dict[str, Any]) -> None:
        try:
            earlier = read_json(self.state.limits, {})
        except ValueError:
            earlier = {}
        if "gpus" in earlier:
            limits.setdefault("gpus", earlier["gpus"])
        if limits != earlier:
            write_json(self.state.limits, limits)

    def _reasons(self, asked: List[Tuple[int, JobFolder, Dict[str, Any]]], folds: Dict[int, Fold]) -> Dict[int, str]:
        """Reasons of the asked jobs; unfinished jobs before them count, for they come first."""
        last = max(number for number, _, _ in asked)
        active = set(self.state.active_ids())
        waiting = []
        for number, folder, spec in self._jobs([str(job) for job in sorted(active) if job <= last]):
            fold = folds.get(number) or folder.fold()
            if fold.pending(int(spec["count"])):
                depends = any(str(job).isdigit() and int(job) in active for job in spec["after"])
                limit = spec.get("max_running")
                waiting.append((number, depends, limit is not None and len(fold.started) >= limit))
        return local_state.reasons(waiting)


def _document(job: base.Job) -> Dict[str, Any]:
    return {
        "name": job.name,
        "count": job.count,
        "script": job.script,
        "environment": job.environment,
        "log_folder": job.log_folder,
        "after": job.after,
        "max_running": job.max_running,
        "resources": job.resources,
        "working_directory": job.working_directory,
        "inherited": local_state.without_secrets(_clean()),
        "submitted": time.time(),
    }


def _spawn(state: StateFolder, lock: int) -> bool:
    """Start the supervisor with ``lock`` as its own; whether it has started.

    A fresh interpreter in its own session that forks once more: it holds no pipe, terminal or folder of the caller.
    """
    runtime = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(local_state.__file__))))
    package = [os.path.dirname(runtime), os.path.basename(runtime) + ".schedulers.local"]
    argv = [sys.executable or "python3", "-I", "-S", "-B", "-c", _BOOT] + package + [state.path, str(lock)]
    too_long = os.path.exists(state.log) and os.path.getsize(state.log) > LOG_LIMIT
    with open(state.log, "wb" if too_long else "ab") as log:
        try:
            starter = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=_clean(),
                pass_fds=[lock],
                start_new_session=True,
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


def _clean() -> Dict[str, str]:
    """The caller's clean environment, in the caller's own language."""
    environment = base.clean_environment()
    del environment["LC_ALL"]
    if "LC_ALL" in os.environ:
        environment["LC_ALL"] = os.environ["LC_ALL"]
    return environment


def physical_memory_mb() -> float:
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) / 1048576.0


def gpu_count() -> int:
    """GPUs of this machine; HPC_LOCAL_GPUS overrides what the driver says."""
    stated = os.environ.get("HPC_LOCAL_GPUS", "")
    if stated.isdigit():
        return int(stated)
    try:
        code, out, _ = run_command(["nvidia-smi", "-L"], GPU_TIMEOUT)
    except NodeError:
        return 0
    return sum(line.startswith("GPU ") for line in out.splitlines()) if code == 0 else 0


def _row(job: int, ids: List[int], state: str, reason: str, host: str, name: str) -> QueueRow:
    return QueueRow(str(job), encode_ranges(ids), state, reason, state.upper(), host, name)


def _ended_row(job: int, event: Dict[str, Any]) -> AccountingRow:
    measured = {key: event.get(key) for key in ("exit_code", "signal", "seconds", "max_rss_mb")}
    host = event.get("host", "")
    return AccountingRow(str(job), event["element"], event.get("cause"), _words(event), host=host, **measured)


def _words(event: Dict[str, Any]) -> str:
    """The end of an element in this scheduler's own words."""
    words = _CAUSES.get(str(event.get("cause")), "EXITED")
    if event.get("message"):
        return "%s: %s" % (words, event["message"])
    if event.get("signal") is not None:
        return "%s, signal %d" % (words, event["signal"])
    return words if event.get("exit_code") is None else "%s %d" % (words, event["exit_code"])
