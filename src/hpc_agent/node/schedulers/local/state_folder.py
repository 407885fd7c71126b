"""The state folder of the embedded scheduler: its files, its stored jobs and its lock.

``limits.json``            cores, memory_mb and gpus of this machine
``supervisor.lock``        held (flock) by the supervisor for as long as it lives
``supervisor.json, .log``  the supervisor's process id, and its errors
``wake``                   a FIFO that wakes the supervisor
``active/ID``              an empty file per unfinished job; the supervisor removes the file when every element has ended
``jobs/ID/spec.json``      the job as submitted; a folder without this file is a submission that was killed: no job
``jobs/ID/events.jsonl``   the events of its elements, a line each, append-only
``jobs/ID/exits/E.A``      exit code of element E, attempt A, written by the element's own wrapper
"""

import contextlib
import errno
import fcntl
import itertools
import os
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from ...shared.errors import NodeError
from ...shared.files import from_document, read_json, sync_folder, write_json
from .. import base
from .capacity import Amount

_STORED = "name count script environment log_folder after max_running resources working_directory".split()
NO_LOCKS = "Set local_state in clusters.yaml to a folder on a disk of that machine; then run 'hpc-agent submit' again."


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
        """Make the folders and the FIFO. Only the owner may look inside: job environments lie there."""
        for path in (self.path, self.jobs, self.active):
            os.makedirs(path, mode=0o700, exist_ok=True)
        with contextlib.suppress(OSError):  # without a FIFO the supervisor still looks every two seconds
            os.mkfifo(self.wake, 0o600)

    def wake_supervisor(self) -> None:
        with contextlib.suppress(OSError), open(os.open(self.wake, os.O_WRONLY | os.O_NONBLOCK), "wb", 0) as pipe:
            pipe.write(b"!")

    def job(self, job_id: int) -> "JobFolder":
        return JobFolder(self, job_id)

    def job_ids(self) -> List[int]:
        """Return every id that was ever given, half-made jobs included, ascending."""
        return _ids_in(self.jobs)

    def active_ids(self) -> List[int]:
        return _ids_in(self.active)

    def stored_jobs(self, job_ids: Iterable[int]) -> "Iterator[Tuple[JobFolder, StoredJob]]":
        """Yield the jobs among ``job_ids`` that are in this folder. Raises NodeError ``schema_incompat``."""
        for folder in map(self.job, job_ids):
            stored = folder.read()
            if stored is not None:
                yield folder, stored

    def allocate(self, stored: StoredJob) -> int:
        """Store a job under the next free id. Killed anywhere, this leaves either no job or a whole one."""
        for job_id in itertools.count(max([0] + self.job_ids() + self.active_ids()) + 1):
            folder = self.job(job_id)
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder.path, 0o700)
                break
        os.close(os.open(folder.active, os.O_CREAT | os.O_WRONLY, 0o600))
        sync_folder(self.active)
        sync_folder(self.jobs)
        document: Dict[str, Any] = {key: getattr(stored.job, key) for key in _STORED}
        write_json(folder.spec, dict(document, inherited=stored.inherited, submitted=stored.submitted))
        return folder.id

    def read_limits(self) -> Optional[Amount]:
        """Return the machine's limits; None where there are none yet, or where the file is damaged."""
        try:
            document = read_json(self.limits)
            return Amount(int(document["cores"]), float(document["memory_mb"]), int(document.get("gpus") or 0))
        except (OSError, ValueError, KeyError, TypeError):
            return None


class JobFolder(object):
    """Names of the files of a job."""

    def __init__(self, state: StateFolder, job_id: int) -> None:
        self.id = job_id
        self.active = os.path.join(state.active, str(job_id))
        self.path = os.path.join(state.jobs, str(job_id))
        self.spec = os.path.join(self.path, "spec.json")
        self.events = os.path.join(self.path, "events.jsonl")
        self.exits = os.path.join(self.path, "exits")

    def exit_file(self, element: int, attempt: int) -> str:
        return os.path.join(self.exits, "%d.%d" % (element, attempt))

    def is_unfinished(self) -> bool:
        return os.path.exists(self.spec) and os.path.exists(self.active)

    def read(self) -> Optional[StoredJob]:
        """Return the stored job, or None where there is none. Raises NodeError ``schema_incompat``."""
        try:
            document = read_json(self.spec)
            if document is None:
                return None
            job = from_document(base.Job, document)
            return StoredJob(job, document.get("inherited") or {}, float(document["submitted"]))
        except (ValueError, KeyError, TypeError) as error:
            raise NodeError("schema_incompat", "%s is damaged: %s" % (self.spec, error)) from error


def numbers(names: Iterable[str]) -> List[int]:
    """Return the ids among ``names``, ascending; a name that is no number is no job of this scheduler."""
    return sorted(int(name) for name in names if name.isdigit())


def _ids_in(folder: str) -> List[int]:
    with contextlib.suppress(FileNotFoundError):
        return numbers(os.listdir(folder))
    return []


def take_lock(path: str) -> Optional[int]:
    """Return a descriptor that holds the flock on ``path``; None when another process holds the lock.

    Raises NodeError ``precondition_failed`` where the file system has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        message = "%s: no file locks here: %s" % (path, error.strerror)
        raise NodeError("precondition_failed", message, NO_LOCKS) from error
    return descriptor
