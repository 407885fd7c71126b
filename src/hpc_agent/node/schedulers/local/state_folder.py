"""The state folder of the embedded scheduler: its files, its stored jobs and its locks.

``limits.json``            cores, memory_mb and gpus of this machine
``supervisor.lock``        held (flock) by the supervisor for as long as it lives
``supervisor.json, .log``  the supervisor's process id, and its errors
``wake``                   a FIFO that wakes the supervisor
``active/ID``              an empty file per unfinished job
``jobs/ID/spec.json``      the job as submitted; a folder without this file is a submission that was killed: no job
``jobs/ID/events.jsonl``   the events of its elements, a line each, append-only
``jobs/ID/exits/E.A``      exit code of element E, attempt A, written by the element's own wrapper
``jobs/ID/done.json``      every element has ended
"""

import contextlib
import errno
import fcntl
import os
import time
from typing import Any, Dict, List, NamedTuple, Optional

from ...shared.errors import NodeError
from ...shared.files import read_json, sync_folder, write_json
from .. import base
from .capacity import Amount

_STORED = "name count script environment log_folder after max_running resources working_directory".split()


class StoredJob(NamedTuple):
    """A job as submitted. ``inherited`` is the submitter's environment without secrets."""

    job: base.Job
    inherited: Dict[str, str]
    submitted: float


class StateFolder(object):
    """Names inside a state folder."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(os.path.expanduser(path))
        self.jobs = os.path.join(self.path, "jobs")
        self.active = os.path.join(self.path, "active")
        self.limits = os.path.join(self.path, "limits.json")
        self.lock = os.path.join(self.path, "supervisor.lock")
        self.supervisor = os.path.join(self.path, "supervisor.json")
        self.log = os.path.join(self.path, "supervisor.log")
        self.wake = os.path.join(self.path, "wake")

    def create(self) -> None:
        """Make what is missing. Only the owner may look inside: job environments lie there."""
        for path in (self.path, self.jobs, self.active):
            os.makedirs(path, mode=0o700, exist_ok=True)
        with contextlib.suppress(OSError):  # without a FIFO the supervisor still looks every two seconds
            os.mkfifo(self.wake, 0o600)

    def open_wake(self) -> List[int]:
        """Return the supervisor's end of the FIFO, if there is a FIFO."""
        try:
            return [os.open(self.wake, os.O_RDWR | os.O_NONBLOCK)]
        except OSError:
            return []

    def wake_supervisor(self) -> None:
        with contextlib.suppress(OSError):
            descriptor = os.open(self.wake, os.O_WRONLY | os.O_NONBLOCK)
            try:
                os.write(descriptor, b"!")
            finally:
                os.close(descriptor)

    def job(self, job_id: int) -> "JobFolder":
        return JobFolder(os.path.join(self.jobs, str(job_id)))

    def job_ids(self) -> List[int]:
        """Return every id that was ever given, half-made jobs included, ascending."""
        return _numbers(self.jobs)

    def active_ids(self) -> List[int]:
        return _numbers(self.active)

    def active_entry(self, job_id: int) -> str:
        return os.path.join(self.active, str(job_id))

    def allocate(self, stored: StoredJob) -> int:
        """Store a job under the next free id. Killed anywhere, this leaves either no job or a whole one."""
        job_id = max([0] + self.job_ids() + self.active_ids()) + 1
        while True:
            try:
                os.mkdir(self.job(job_id).path, 0o700)
                break
            except OSError as error:
                if error.errno != errno.EEXIST:
                    raise
            job_id += 1
        os.close(os.open(self.active_entry(job_id), os.O_CREAT | os.O_WRONLY, 0o600))
        sync_folder(self.active)
        sync_folder(self.jobs)
        document: Dict[str, Any] = {key: getattr(stored.job, key) for key in _STORED}
        document.update(inherited=stored.inherited, submitted=stored.submitted)
        write_json(self.job(job_id).spec, document)
        return job_id

    def read_limits(self) -> Amount:
        """Return the machine's limits. Raises OSError, ValueError, KeyError or TypeError where they cannot be read."""
        document = read_json(self.limits)
        return Amount(int(document["cores"]), float(document["memory_mb"]), int(document.get("gpus") or 0))


class JobFolder(object):
    """Names inside a job's folder."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.spec = os.path.join(path, "spec.json")
        self.events = os.path.join(path, "events.jsonl")
        self.exits = os.path.join(path, "exits")
        self.done = os.path.join(path, "done.json")

    def exit_file(self, element: int, attempt: int) -> str:
        return os.path.join(self.exits, "%d.%d" % (element, attempt))

    def is_unfinished(self) -> bool:
        return os.path.exists(self.spec) and not os.path.exists(self.done)

    def read(self) -> Optional[StoredJob]:
        """Return the stored job, or None where there is none. Raises NodeError ``schema_incompat``."""
        try:
            document = read_json(self.spec)
            if document is None:
                return None
            return StoredJob(
                base.Job(**{name: document[name] for name in _STORED if name in document}),
                document.get("inherited") or {},
                float(document["submitted"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise NodeError("schema_incompat", "%s is damaged: %s" % (self.spec, error)) from error


def _numbers(folder: str) -> List[int]:
    try:
        return sorted(int(name) for name in os.listdir(folder) if name.isdigit())
    except OSError as error:
        if error.errno == errno.ENOENT:
            return []
        raise


def take_lock(path: str, wait: float) -> Optional[int]:
    """Return a descriptor that holds the flock on ``path``; None when another holds the lock for ``wait`` seconds.

    Raises NodeError ``precondition_failed`` where the file system has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + wait
    try:
        while not _lock_now(descriptor, path):
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(0.01)
    except NodeError:
        os.close(descriptor)
        raise
    return descriptor


def _lock_now(descriptor: int, path: str) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        message = "%s: no file locks here: %s" % (path, error.strerror)
        remedy = (
            "Set local_state in clusters.yaml to a folder on a disk of that machine; then run 'hpc-agent submit' again."
        )
        raise NodeError("precondition_failed", message, remedy) from error
    return True
