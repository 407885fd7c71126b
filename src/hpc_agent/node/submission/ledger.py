"""The submission ledger of a run: ``jobs/<array>.json``, and the one way in which an array reaches the scheduler.

An entry goes ``planned`` -> ``intent`` -> ``submitted``. An intent without a job id means that somebody was killed, or that
the scheduler's answer was lost or wrong: the scheduler is asked by the array's unique name before anything is submitted
again. ``refused`` is a planned entry that the scheduler does not want; ``held`` says that the canary has to end first.
"""

import fcntl
import os
import time
from typing import Any, Callable, Dict, List, Optional

from ..schedulers.base import Job, Scheduler
from ..shared import run_folder
from ..shared.errors import NodeError
from ..shared.files import read_json, remove_quietly, write_json
from ..shared.ranges import slice_ranges

# How long a scheduler may take to show a job that it has accepted.
SETTLE_SEC = float(os.environ.get("HPC_SETTLE_SEC") or 10.0)
# A clear "no" is doubted as well, but for a shorter time.
REFUSAL_SETTLE_SEC = min(2.0, SETTLE_SEC)
CLAIMS_LOOKED_AT = 200
OPEN_STATES = ("planned", "intent", "refused")

Entry = Dict[str, Any]


def entries(folder: run_folder.RunFolder) -> List[Entry]:
    """Every entry, whole, in the order of submission. Raises NodeError ``schema_incompat`` for a damaged file."""
    found = [read(folder, name) for name in folder.arrays()]
    return sorted((entry for entry in found if entry), key=lambda entry: int(entry.get("order") or 0))


def read(folder: run_folder.RunFolder, array: str) -> Entry:
    path = folder.job(array)
    try:
        return read_json(path) or {}
    except ValueError as error:
        raise NodeError(
            "schema_incompat",
            "the ledger %s is damaged: %s" % (path, error),
            "Restore or move that file away on the cluster, then run 'hpc-agent status'.",
        ) from error


def summary(folder: run_folder.RunFolder) -> Dict[str, Any]:
    """Array name -> state, job_id, message, at, held."""
    kept = ("order", "state", "job_id", "message", "at", "held", "generation", "adopted")
    return {entry["array"]: {key: entry.get(key) for key in kept} for entry in entries(folder)}


def plan(folder: run_folder.RunFolder, arrays: List[Entry]) -> None:
    """Write down what is to be submitted. What the scheduler may have keeps its shape; what it refused or never saw takes
    the resources and the placement that are asked for now.
    """
    known = {entry["array"]: entry for entry in entries(folder)}
    untouched = all(entry.get("state") in ("planned", "refused") for entry in known.values())
    if untouched:
        for name in set(known) - {array["array"] for array in arrays}:
            remove_quietly(folder.job(name))
    order = max([int(entry.get("order") or 0) for entry in known.values()] or [-1]) + 1
    for array in arrays:
        entry = known.get(array["array"])
        if entry is None:
            write_json(folder.job(array["array"]), dict(array, state="planned", order=order))
            order += 1
        elif entry.get("state") in ("planned", "refused"):
            asked = array if untouched else {key: array[key] for key in ("resources", "placement", "max_running")}
            if any(entry.get(key) != value for key, value in asked.items()):
                write_json(folder.job(array["array"]), dict(entry, **asked))


class Submitter(object):
    """Submits the open entries of one run, under the run's lock."""

    def __init__(
        self,
        folder: run_folder.RunFolder,
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
        """Submit every open entry that may go now.

        Returns {"waiting": n, "message": why}: entries that a limit on submitted jobs keeps back for later. Raises
        NodeError ``scheduler_refused``, ``scheduler_throttled``, ``submission_unknown``, ``cluster_timeout``.
        """
        known = entries(self.folder)
        job_ids = {entry["array"]: str(entry["job_id"]) for entry in known if entry.get("state") == "submitted"}
        waiting, message = 0, ""
        for entry in known:
            if entry.get("state") not in OPEN_STATES or entry.get("held"):
                continue
            if waiting:
                waiting += 1
                continue
            self.check_lock()
            refused = self._submit(entry, job_ids)
            if refused is not None:
                waiting, message = 1, refused
        return {"waiting": waiting, "message": message}

    def _submit(self, entry: Entry, job_ids: Dict[str, str], in_empty_queue: bool = False) -> Optional[str]:
        """Bring one entry to the scheduler, or adopt its job; the reason when it has to wait for room.

        A limit on submitted jobs is waited for, unless it refuses with nothing of the user's in the queue.
        """
        try:
            job_id = self._adopt(entry, self.settle) if entry["state"] != "planned" else None
            if job_id is None:
                full = self._no_room(entry)
                if full:
                    return self._keep_back(entry, full)
                job_id = self._send(entry, job_ids)
        except NodeError as error:
            error.details.update(arrays=summary(self.folder), array=entry["array"])
            if error.code != "scheduler_refused" or not error.details.get("retry_later"):
                raise
            if self.scheduler.submitted_elements() != 0:
                return self._keep_back(entry, error.message)
            if not in_empty_queue:  # jobs that filled it may have ended since the refusal
                return self._submit(dict(entry, state="planned"), job_ids, in_empty_queue=True)
            error.remediation = (
                "The array alone is above the limit on submitted jobs: set max_array_size in clusters.yaml to at most "
                "that limit, then run 'hpc-agent submit' again."
            )
            raise
        job_ids[entry["array"]] = job_id
        return None

    def _send(self, entry: Entry, job_ids: Dict[str, str]) -> str:
        entry.update(state="intent", at=time.time(), owner=self.owner, message=None)
        entry["after_jobs"] = [job_ids[name] for name in entry.get("after") or [] if name in job_ids]
        self._write(entry)
        job = Job(self._job(entry))
        try:
            with open(self.folder.barrier(entry["array"]), "a") as barrier:
                _lock_quietly(barrier.fileno())
                job.barrier = barrier.fileno()
                job_id = self.scheduler.submit(job)
        except NodeError as error:
            return self._doubt(entry, error)
        return self._submitted(entry, job_id, adopted=False)

    def _doubt(self, entry: Entry, error: NodeError) -> str:
        """The scheduler said no, or nothing: it may have accepted all the same, so it is asked for the job's name."""
        if error.code not in ("scheduler_refused", "scheduler_throttled", "submission_unknown"):
            raise error
        definite = error.code != "submission_unknown"
        found = self._adopt(entry, REFUSAL_SETTLE_SEC if definite else self.settle)
        if found is not None:
            return found
        if definite:
            entry.update(state="refused", message=error.message)
            self._write(entry)
        raise error

    def _adopt(self, entry: Entry, settle: float) -> Optional[str]:
        """The job of an unfinished intent, if the scheduler has it.

        Raises NodeError ``submission_unknown`` when the scheduler cannot be asked: then nothing is submitted.
        """
        ended = self._await_sender(entry)
        time.sleep(min(settle, max(0.0, settle - (time.time() - max(ended, float(entry["at"]))))))
        try:
            found = self.scheduler.find(entry["name"], float(entry["at"]))
        except NodeError as error:
            raise NodeError(
                "submission_unknown",
                "array %s may or may not be in the queue, and the scheduler cannot be asked: %s"
                % (entry["array"], error.message),
                "Run the same command again when the scheduler answers ('hpc-agent submit', or 'hpc-agent monitor-flow' for "
                "a run under way): it looks the job up before it acts.",
            ) from error
        job_id = found[0] if found else self._claimed_by(entry)
        return self._submitted(entry, job_id, adopted=True) if job_id else None

    def _await_sender(self, entry: Entry) -> float:
        """Wait until no sbatch or qsub of an earlier attempt lives on this host: one that outlived its killed caller may
        still be accepted. When it ended (epoch seconds), 0 when there was none.

        Raises NodeError ``submission_unknown`` when it does not end.
        """
        deadline = time.monotonic() + self.scheduler.command_timeout + 5.0
        ended = 0.0
        with open(self.folder.barrier(entry["array"]), "a") as barrier:
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
                        "submission_unknown", "an earlier attempt to submit array %s has not ended yet" % entry["array"]
                    )
                time.sleep(0.1)
                ended = time.time()

    def _claimed_by(self, entry: Entry) -> Optional[str]:
        """The job whose elements have claimed tasks of the array: it ran, whatever the scheduler remembers of it."""
        for task in slice_ranges(entry["tasks"], 0, CLAIMS_LOOKED_AT):
            try:
                with open(self.folder.claim(task, int(entry["generation"]))) as handle:
                    job_id, array, _ = handle.readline().rstrip("\n").rsplit(":", 2)
            except (OSError, ValueError):
                continue
            if array == entry["array"] and job_id:
                return job_id
        return None

    def _submitted(self, entry: Entry, job_id: str, adopted: bool) -> str:
        entry.update(state="submitted", job_id=job_id, submitted_at=time.time(), adopted=adopted, message=None)
        self._write(entry)
        return job_id

    def _no_room(self, entry: Entry) -> str:
        """Why the array has to wait: the limit on submitted elements counts *all* of the user's jobs."""
        if not self.max_submitted:
            return ""
        there = self.scheduler.submitted_elements()
        if there and there + int(entry["elements"]) > int(self.max_submitted):
            return "%d of at most %d elements are submitted (all of your jobs count)" % (there, self.max_submitted)
        return ""

    def _keep_back(self, entry: Entry, message: str) -> str:
        # Not "refused": this is no outcome, and the look-up by name was made already.
        entry.update(state="planned", message=message)
        self._write(entry)
        return message

    def _write(self, entry: Entry) -> None:
        write_json(self.folder.job(entry["array"]), entry)

    def _job(self, entry: Entry) -> Dict[str, Any]:
        environment = dict(self.submission["job_environment"], HPC_RUN_DIR=self.folder.path, HPC_ARRAY=entry["array"])
        return {
            "name": entry["name"],
            "count": entry["elements"],
            "environment": environment,
            "script": os.path.join(self.folder.work, ".hpc", "templates", self.submission["template"]),
            "log_folder": self.folder.scheduler_logs,
            "after": entry["after_jobs"],
            "max_running": entry.get("max_running"),
            "resources": entry["resources"],
            "placement": entry["placement"],
            "site": self.site,
            "working_directory": self.folder.work,
        }


def _lock_quietly(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        pass  # a file system without locks: the settle time has to do
