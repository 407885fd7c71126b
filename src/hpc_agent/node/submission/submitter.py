"""Bring the arrays of a run to the scheduler, each of them once.

An intent without a job id means that the submitter was killed, or that the scheduler's answer was lost or wrong. Before such an
array is submitted again, the scheduler is asked for a job of the array's unique name.
"""

import fcntl
import os
import time
from typing import Any, Callable, Dict, List, Optional

from ..schedulers.base import Job, Scheduler
from ..shared.errors import NodeError
from ..shared.files import read_json, remove_quietly
from ..shared.ledger import INTENT, PLANNED, REFUSED, SUBMITTED, Array, arrays_of, summary, write_array
from ..shared.ranges import slice_ranges
from ..shared.run_folder import RunFolder

# How long a scheduler may take to show a job that it has accepted.
SETTLE_SEC = float(os.environ.get("HPC_SETTLE_SEC") or 10.0)
# A clear "no" is doubted as well, but for a shorter time.
REFUSAL_SETTLE_SEC = min(2.0, SETTLE_SEC)
CLAIMS_LOOKED_AT = 200
OPEN_STATES = (PLANNED, INTENT, REFUSED)
# Fields that a request decides; the last three also for an array of a run that is partly submitted.
_PLANNED_FIELDS = ("tasks", "name", "elements", "pack", "wave", "generation", "after", "chain", "segment", "held", "resubmit",
                   "classes", "fingerprints", "resources", "placement", "max_running")  # fmt: skip


def plan(folder: RunFolder, arrays: List[Array]) -> None:
    """Write down the arrays to submit.

    An array that the scheduler may have keeps its shape. One that the scheduler refused, or never saw, takes the resources
    and the placement of ``arrays``.
    """
    known = {array.array: array for array in arrays_of(folder)}
    untouched = all(array.state in (PLANNED, REFUSED) for array in known.values())
    if untouched:
        for name in set(known) - {array.array for array in arrays}:
            remove_quietly(folder.job(name))
    order = max([array.order for array in known.values()] or [-1]) + 1
    for array in arrays:
        old = known.get(array.array)
        if old is None:
            write_array(folder, array._replace(state=PLANNED, order=order))
            order += 1
        elif old.state in (PLANNED, REFUSED):
            asked = {key: getattr(array, key) for key in (_PLANNED_FIELDS if untouched else _PLANNED_FIELDS[-3:])}
            if any(getattr(old, key) != value for key, value in asked.items()):
                write_array(folder, old._replace(**asked))


class Submitter(object):
    """Submits the open entries of one run, under the run's lock."""

    def __init__(
        self,
        folder: RunFolder,
        scheduler: Scheduler,
        site: Dict[str, Any],
        owner: str,
        check_lock: Callable[[], None],
        settle: Optional[float] = None,
    ) -> None:
        self.folder = folder
        self.scheduler = scheduler
        self.site = site
        self.owner = owner
        self.check_lock = check_lock
        self.settle = SETTLE_SEC if settle is None else settle
        self.submission = read_json(folder.submission)
        run = read_json(folder.document)
        self.max_submitted = (run.get("constraints") or {}).get("max_submitted")

    def go(self) -> Dict[str, Any]:
        """Submit every open array that may go now.

        Returns {"waiting": n, "message": why}: entries that a limit on submitted jobs keeps back for later. Raises
        NodeError ``scheduler_refused``, ``scheduler_throttled``, ``submission_unknown``, ``cluster_timeout``.
        """
        known = arrays_of(self.folder)
        job_ids = {array.array: str(array.job_id) for array in known if array.state == SUBMITTED}
        waiting, message = 0, ""
        for array in known:
            if array.state not in OPEN_STATES or array.held:
                continue
            if waiting:
                waiting += 1
                continue
            self.check_lock()
            refused = self._submit(array, job_ids)
            if refused is not None:
                waiting, message = 1, refused
        return {"waiting": waiting, "message": message}

    def _submit(self, array: Array, job_ids: Dict[str, str], in_empty_queue: bool = False) -> Optional[str]:
        """Bring one array to the scheduler, or adopt its job; the reason when it has to wait for room.

        A limit on submitted jobs is waited for, unless it refuses with nothing of the user's in the queue.
        """
        try:
            job_id = self._adopt(array, self.settle) if array.state != PLANNED else None
            if job_id is None:
                full = self._no_room(array)
                if full:
                    return self._keep_back(array, full)
                job_id = self._send(array, job_ids)
        except NodeError as error:
            error.details.update(arrays=summary(self.folder), array=array.array)
            if error.code != "scheduler_refused" or not error.details.get("retry_later"):
                raise
            if self.scheduler.submitted_elements() != 0:
                return self._keep_back(array, error.message)
            if not in_empty_queue:  # jobs that filled it may have ended since the refusal
                return self._submit(array._replace(state=PLANNED), job_ids, in_empty_queue=True)
            error.remediation = (
                "The array alone is above the limit on submitted jobs: set max_array_size in clusters.yaml to at most "
                "that limit, then run 'hpc-agent submit' again."
            )
            raise
        job_ids[array.array] = job_id
        return None

    def _send(self, array: Array, job_ids: Dict[str, str]) -> str:
        after_jobs = [job_ids[name] for name in array.after if name in job_ids]
        array = self._write(array, state=INTENT, at=time.time(), owner=self.owner, message=None, after_jobs=after_jobs)
        job = Job(self._job(array))
        try:
            with open(self.folder.barrier(array.array), "a") as barrier:
                _lock_quietly(barrier.fileno())
                job.barrier = barrier.fileno()
                job_id = self.scheduler.submit(job)
        except NodeError as error:
            return self._doubt(array, error)
        return self._submitted(array, job_id, adopted=False)

    def _doubt(self, array: Array, error: NodeError) -> str:
        """The scheduler said no, or nothing: it may have accepted all the same, so it is asked for the job's name."""
        if error.code not in ("scheduler_refused", "scheduler_throttled", "submission_unknown"):
            raise error
        definite = error.code != "submission_unknown"
        found = self._adopt(array, REFUSAL_SETTLE_SEC if definite else self.settle)
        if found is not None:
            return found
        if definite:
            self._write(array, state=REFUSED, message=error.message)
        raise error

    def _adopt(self, array: Array, settle: float) -> Optional[str]:
        """The job of an unfinished intent, if the scheduler has it.

        Raises NodeError ``submission_unknown`` when the scheduler cannot be asked: then nothing is submitted.
        """
        ended = self._await_sender(array)
        time.sleep(min(settle, max(0.0, settle - (time.time() - max(ended, array.at)))))
        try:
            found = self.scheduler.find(array.name, array.at)
        except NodeError as error:
            raise NodeError(
                "submission_unknown",
                "array %s may or may not be in the queue, and the scheduler cannot be asked: %s"
                % (array.array, error.message),
                "Run the same command again when the scheduler answers ('hpc-agent submit', or 'hpc-agent monitor-flow' for "
                "a run under way): it looks the job up before it acts.",
            ) from error
        job_id = found[0] if found else self._claimed_by(array)
        return self._submitted(array, job_id, adopted=True) if job_id else None

    def _await_sender(self, array: Array) -> float:
        """Wait until no sbatch or qsub of an earlier attempt lives on this host: one that outlived its killed caller may
        still be accepted. When it ended (epoch seconds), 0 when there was none.

        Raises NodeError ``submission_unknown`` when it does not end.
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
                    return ended  # a file system without locks: the settle time has to do
                if time.monotonic() > deadline:
                    raise NodeError(
                        "submission_unknown", "an earlier attempt to submit array %s has not ended yet" % array.array
                    )
                time.sleep(0.1)
                ended = time.time()

    def _claimed_by(self, array: Array) -> Optional[str]:
        """The job whose elements have claimed tasks of the array: it ran, whatever the scheduler remembers of it."""
        for task in slice_ranges(array.tasks, 0, CLAIMS_LOOKED_AT):
            try:
                with open(self.folder.claim(task, array.generation)) as handle:
                    job_id, name, _ = handle.readline().rstrip("\n").rsplit(":", 2)
            except (OSError, ValueError):
                continue
            if name == array.array and job_id:
                return job_id
        return None

    def _submitted(self, array: Array, job_id: str, adopted: bool) -> str:
        self._write(array, state=SUBMITTED, job_id=job_id, submitted_at=time.time(), adopted=adopted, message=None)
        return job_id

    def _no_room(self, array: Array) -> str:
        """Why the array has to wait: the limit on submitted elements counts *all* of the user's jobs."""
        if not self.max_submitted:
            return ""
        there = self.scheduler.submitted_elements()
        if there and there + array.elements > int(self.max_submitted):
            return "%d of at most %d elements are submitted (all of your jobs count)" % (there, self.max_submitted)
        return ""

    def _keep_back(self, array: Array, message: str) -> str:
        # Not "refused": this is no outcome, and the look-up by name was made already.
        self._write(array, state=PLANNED, message=message)
        return message

    def _write(self, array: Array, **changed: Any) -> Array:
        return write_array(self.folder, array._replace(**changed))

    def _job(self, array: Array) -> Dict[str, Any]:
        environment = dict(self.submission["job_environment"], HPC_RUN_DIR=self.folder.path, HPC_ARRAY=array.array)
        return {
            "name": array.name,
            "count": array.elements,
            "environment": environment,
            "script": os.path.join(self.folder.work, ".hpc", "templates", self.submission["template"]),
            "log_folder": self.folder.scheduler_logs,
            "after": array.after_jobs,
            "max_running": array.max_running,
            "resources": array.resources,
            "placement": array.placement,
            "site": self.site,
            "working_directory": self.folder.work,
        }


def _lock_quietly(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        pass  # a file system without locks: the settle time has to do
