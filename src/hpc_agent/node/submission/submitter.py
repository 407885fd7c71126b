"""Submit the arrays of a run to the scheduler, each of them once, under the lock of the run.

An intent without a job id means that the submission was killed, or that the scheduler's response was lost or wrong. Before
such an array is submitted again, the scheduler is queried for a job of the array's unique name.
"""

import fcntl
import os
import shutil
import socket
import threading
import time
from contextlib import suppress
from itertools import islice
from typing import Any, Callable, Dict, List, Optional, Tuple

from ..schedulers import load
from ..schedulers.base import Job
from ..shared.errors import NodeError
from ..shared.files import read_json, remove_quietly, write_json
from ..shared.ledger import INTENT, PLANNED, REFUSED, SUBMITTED, Array, arrays_of, summary, write_array
from ..shared.processes import born
from ..shared.run_folder import RunFolder, read_run
from ..shared.task_records import Records
from .run_plan import finish_plan

# How long a scheduler may take to show a job that it has accepted.
SETTLE_SEC = float(os.environ.get("HPC_SETTLE_SEC") or 10.0)
# A clear refusal may be wrong too, but a shorter wait is enough.
REFUSAL_SETTLE_SEC = min(2.0, SETTLE_SEC)
CLAIMS_READ_AT_MOST = 200
LEASE_SEC, LOCK_WAIT_SEC = 30.0, 45.0
_AGAIN = (
    "Run the same command again when the scheduler answers ('hpc-agent submit', or 'hpc-agent monitor-flow' for a run under "
    "way): it looks the job up before it acts."
)
_WAIT = "Wait for the end of that submission, then run the same 'hpc-agent submit' again."


class RunLock(object):
    """A lock on a run with an owner and a lease; a folder, for mkdir is atomic on NFS too, where flock may not work.

    ``with RunLock(path, owner, wait)`` raises NodeError ``precondition_failed`` with the holder after ``wait`` seconds.
    A thread of the holder renews its lease. The lock of a holder that was killed is taken over at once on the holder's own
    host, elsewhere when the lease is over.
    """

    def __init__(
        self,
        path: str,
        owner: str,
        wait: float = LOCK_WAIT_SEC,
        lease: float = LEASE_SEC,
        held: Tuple[str, str] = ("this run is being submitted", _WAIT),
    ) -> None:
        self._path = path
        self._held = held  # message and remedy for those who wait in vain
        self._owner_file = os.path.join(path, "owner.json")
        self._owner = "%s %s" % (owner, os.urandom(6).hex())
        self._wait = wait
        self._lease = lease
        self._released = threading.Event()

    def __enter__(self) -> "RunLock":
        deadline = time.monotonic() + self._wait
        while not self._try():
            if time.monotonic() > deadline:
                message = "%s by %s" % (self._held[0], self._holder_name())
                raise NodeError("precondition_failed", message, self._held[1])
            time.sleep(0.1)
        threading.Thread(target=self._renew_until_released, daemon=True).start()
        return self

    def _renew_until_released(self) -> None:
        with suppress(OSError):
            while not self._released.wait(self._lease / 4):
                os.utime(self._owner_file, None)

    def _try(self) -> bool:
        try:
            os.mkdir(self._path)
        except FileExistsError:
            self._break_if_stale()
            return False
        me = {"owner": self._owner, "at": time.time(), "host": socket.gethostname(), "pid": os.getpid()}
        write_json(self._owner_file, dict(me, started=born(os.getpid())))
        return True

    def _holder(self) -> Dict[str, Any]:
        """Return the content of the owner's file; empty where the file is missing or cannot be read."""
        try:
            return dict(read_json(self._owner_file, {}))
        except (OSError, ValueError):
            return {}

    def _holder_name(self) -> str:
        return str(self._holder().get("owner", "unknown")).rsplit(" ", 1)[0]

    def _age(self) -> float:
        """Return the seconds since the last renewal by the file server's clock, so that hosts' clocks do not matter."""
        probe = "%s.%d.probe" % (self._path, os.getpid())
        try:
            with open(probe, "w"):
                pass
            now = os.stat(probe).st_mtime
            newest = os.stat(self._path).st_mtime
            if os.path.exists(self._owner_file):
                newest = max(newest, os.stat(self._owner_file).st_mtime)
            return now - newest
        finally:
            remove_quietly(probe)

    def _break_if_stale(self) -> None:
        """Remove the lock of a holder whose lease is over, or that ran on this host and has ended."""
        with suppress(OSError):  # the lock was released, or broken by another process, just now
            age, known = self._age(), self._holder()
            here = known.get("host") == socket.gethostname() and known.get("started")
            # The start time tells the holder from a later process with the same id.
            if age >= self._lease or (here and born(int(known.get("pid") or 0)) != known["started"]):
                grave = "%s.stale-%s" % (self._path, os.urandom(4).hex())
                os.rename(self._path, grave)
                shutil.rmtree(grave, ignore_errors=True)

    def check(self) -> None:
        """Raise NodeError when another process took the lock over (this one was stopped for longer than the lease)."""
        if read_json(self._owner_file, {}).get("owner") != self._owner:
            raise NodeError("precondition_failed", "the lock on this run was taken over by %s" % self._holder_name())

    def __exit__(self, *_: Any) -> None:
        self._released.set()
        if self._holder().get("owner") == self._owner:  # an unreadable lock ends with its lease
            shutil.rmtree(self._path, ignore_errors=True)


def resources_of(array: Array) -> Dict[str, Any]:
    """Return what an element of the array asks for: cores, memory and GPUs of each task that it runs at once."""
    times = dict.fromkeys(("cpus", "mem_mb", "gpus"), max(1, array.at_once))
    return {name: value * times.get(name, 1) if value else value for name, value in array.resources.items()}


class Submitter(object):
    """Submits the open arrays of one run, under the run's lock."""

    def __init__(self, folder: RunFolder, request: Dict[str, Any], check_lock: Callable[[], None]) -> None:
        run = read_run(folder)
        finish_plan(folder)
        self.folder = folder
        self.site: Dict[str, Any] = request.get("site") or {}
        self.scheduler = load(run.scheduler, self.site)
        self.owner = request["owner"]
        self.check_lock = check_lock
        self.settle = float(request.get("settle_sec", SETTLE_SEC))
        self.max_submitted = int(run.constraints.get("max_submitted") or 0)
        self._there: Optional[int] = (
            None  # submitted elements of all of the user's jobs, when asked, and those sent since
        )
        self.adopted: List[str] = []  # arrays whose job was found by its name, or by its claims

    def look_up_intents(self) -> List[str]:
        """Adopt the jobs of unfinished intents; submit nothing. Return the arrays of which the scheduler has no job.

        Raises NodeError ``submission_unknown`` where the scheduler cannot be asked; a later array may be adopted all the same.
        """
        absent, unknown = [], None
        for array in arrays_of(self.folder):
            if array.state == INTENT:
                self.check_lock()
                try:
                    if self._existing_job(array, self.settle) is None:
                        absent.append(array.array)
                except NodeError as error:
                    unknown = unknown or error
        if unknown is not None:
            unknown.details["arrays"] = summary(self.folder)
            raise unknown
        return absent

    def submit_open_arrays(self) -> Dict[str, Any]:
        """Submit every open array that may go now.

        Returns {"waiting": n, "message": reason}: arrays that a limit on submitted jobs keeps back for later. Raises
        NodeError ``scheduler_refused``, ``scheduler_throttled``, ``submission_unknown``, ``cluster_timeout``.
        """
        known = arrays_of(self.folder)
        job_ids = {array.array: str(array.job_id) for array in known if array.state == SUBMITTED}
        ready = [array for array in known if array.state in (PLANNED, INTENT, REFUSED) and not array.held]
        for position, array in enumerate(ready):
            self.check_lock()
            message = self._submit(array, job_ids)
            if message is not None:
                return {"waiting": len(ready) - position, "message": message}
        return {"waiting": 0, "message": ""}

    def _above_limit(self, array: Array) -> Optional[str]:
        """Return the reason if the array has to wait for a limit on submitted elements.

        The scheduler is asked once, and again where the arrays sent since then fill the limit: jobs may have ended.
        """
        limit = self.max_submitted
        if not limit:
            return None
        if self._there is None or self._there + array.elements > limit:
            self._there = self.scheduler.submitted_elements()
        if self._there and self._there + array.elements > limit:
            return "%d of at most %d elements are submitted (all of your jobs count)" % (self._there, limit)
        self._there += array.elements
        return None

    def _submit(self, array: Array, job_ids: Dict[str, str], queue_was_empty: bool = False) -> Optional[str]:
        """Submit one array or adopt its job. Return the reason when a limit on submitted jobs makes the array wait."""
        job_id, message = None, None
        try:
            if array.state != PLANNED:
                job_id = self._existing_job(array, self.settle)
            if job_id is None:
                message = self._above_limit(array)
                if message is None:
                    job_id = self._send(array, job_ids)
        except NodeError as error:
            error.details.update(arrays=summary(self.folder), array=array.array)
            if error.code != "scheduler_refused" or not error.details.get("retry_later"):
                raise
            message = error.message
            if self.scheduler.submitted_elements() == 0:
                if not queue_was_empty:  # the jobs that reached the limit may have ended since the refusal
                    return self._submit(array._replace(state=PLANNED), job_ids, queue_was_empty=True)
                error.remediation = (
                    "The array alone is above the limit on submitted jobs: set max_array_size in clusters.yaml to at most "
                    "that limit, then run 'hpc-agent submit' again."
                )
                raise
        if job_id is None:
            # Not "refused": the array is still to be submitted, and the look-up by name was made already.
            write_array(self.folder, array._replace(state=PLANNED, message=message))
            return message
        job_ids[array.array] = job_id
        return None

    def _send(self, array: Array, job_ids: Dict[str, str]) -> str:
        """Write the intent and submit the array. The scheduler may have accepted a submission that failed all the same."""
        after_jobs = [job_ids[name] for name in array.after if name in job_ids] or array.after_jobs
        array = array._replace(state=INTENT, at=time.time(), owner=self.owner, message=None, after_jobs=after_jobs)
        write_array(self.folder, array)
        try:
            with open(self.folder.barrier(array.array), "a") as barrier:
                with suppress(OSError):  # a file system without locks: only the settle time protects
                    fcntl.flock(barrier, fcntl.LOCK_EX | fcntl.LOCK_NB)
                job_id = self.scheduler.submit(self._job(array, barrier.fileno()))
        except NodeError as error:
            if error.code not in ("scheduler_refused", "scheduler_throttled", "submission_unknown"):
                raise
            definite = error.code != "submission_unknown"
            try:
                found = self._existing_job(array, REFUSAL_SETTLE_SEC if definite else self.settle)
            except NodeError as failed:
                failed.message = "%s; %s" % (error.message, failed.message)
                raise failed from error
            if found is not None:
                return found
            if error.details.pop("ended_by_itself", False):
                error.code = "scheduler_refused"  # in unknown words; the look-up was answered: there is no job
            if error.code != "submission_unknown":
                write_array(self.folder, array._replace(state=REFUSED, message=error.message))
            raise
        return self._submitted(array, job_id, adopted=False)

    def _existing_job(self, array: Array, settle: float) -> Optional[str]:
        """Return the job of an unfinished intent, if the scheduler has one. Nothing is submitted after a failed query."""
        ended = self._await_sender(array)
        time.sleep(min(settle, max(0.0, settle - (time.time() - max(ended, array.at)))))
        try:
            found = self.scheduler.find(array.name, array.at)
        except NodeError as error:
            message = "array %s may or may not be in the queue, and the query of the scheduler failed: %s"
            raise NodeError("submission_unknown", message % (array.array, error.message), _AGAIN) from error
        job_id = found[0] if found else self._claimed_by(array)
        if job_id is None:
            return None
        self.adopted.append(array.array)
        return self._submitted(array, job_id, adopted=True)

    def _await_sender(self, array: Array) -> float:
        """Wait for the sbatch or qsub of an earlier attempt on this host: its job may still be accepted.

        Return the time at which it ended (epoch seconds), 0 when there was none.
        """
        deadline = time.monotonic() + self.scheduler.command_timeout + 5.0
        ended = 0.0
        with open(self.folder.barrier(array.array), "a") as barrier:
            while True:
                try:
                    fcntl.flock(barrier, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return ended
                except BlockingIOError:
                    pass
                except OSError:
                    return ended  # a file system without locks: only the settle time protects
                if time.monotonic() > deadline:
                    message = "an earlier attempt to submit array %s has not ended yet" % array.array
                    raise NodeError("submission_unknown", message)
                time.sleep(0.1)
                ended = time.time()

    def _claimed_by(self, array: Array) -> Optional[str]:
        """Return the job whose elements have claimed tasks of the array; the scheduler may have forgotten that job."""
        for claim in islice(Records(self.folder).claims(array), CLAIMS_READ_AT_MOST):
            with suppress(OSError, ValueError), open(claim) as handle:
                job_id, name, _ = handle.readline().rstrip("\n").rsplit(":", 2)
                if name == array.array and job_id:
                    return job_id
        return None

    def _submitted(self, array: Array, job_id: str, adopted: bool) -> str:
        array = array._replace(state=SUBMITTED, job_id=job_id, submitted_at=time.time(), adopted=adopted, message=None)
        write_array(self.folder, array)
        return job_id

    def _job(self, array: Array, barrier: int) -> Job:
        submission = read_json(self.folder.submission)
        return Job(
            name=array.name,
            count=array.elements,
            script=os.path.join(self.folder.work, ".hpc", "templates", submission["template"]),
            log_folder=self.folder.scheduler_logs,
            working_directory=self.folder.work,
            environment=dict(submission["job_environment"], HPC_RUN_DIR=self.folder.path, HPC_ARRAY=array.array),
            after=array.after_jobs,
            max_running=array.max_running,
            resources=resources_of(array),
            placement=array.placement,
            site=self.site,
            barrier=barrier,
        )
