"""The state folder of the embedded scheduler, and what its event logs add up to.

``limits.json``            cores, memory_mb and gpus of this machine
``supervisor.lock``        held (flock) by the supervisor for as long as it lives
``start.lock``             held while a supervisor is being started, or decides to leave
``supervisor.json, .log``  who it is; what went wrong
``wake``                   a FIFO that wakes it
``active/ID``              an empty file per unfinished job
``jobs/ID/spec.json``      the job as submitted; a folder without it is a submission that was killed: no job
``jobs/ID/events.jsonl``   what happened to its elements, a line each, append-only
``jobs/ID/exits/E.A``      exit code of element E, attempt A, written by the element's own wrapper
``jobs/ID/done.json``      every element has ended
"""

import errno
import fcntl
import json
import os
import re
import time
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from ...shared.errors import NodeError
from ...shared.files import sync_folder, write_json

MAX_ATTEMPTS = 3
# A job that waits so long for cores or memory stops later jobs from overtaking it.
PATIENCE_SEC = 300.0
HIGHEST_SIGNAL = 64
# Never written to the state folder: such variables reach elements through the supervisor's own environment.
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|AUTH|(API|ACCESS|PRIVATE)_?KEY", re.IGNORECASE)


class StateFolder(object):
    """Names inside a state folder."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(os.path.expanduser(path))
        self.jobs = os.path.join(self.path, "jobs")
        self.active = os.path.join(self.path, "active")
        self.limits = os.path.join(self.path, "limits.json")
        self.supervisor_lock = os.path.join(self.path, "supervisor.lock")
        self.start_lock = os.path.join(self.path, "start.lock")
        self.supervisor = os.path.join(self.path, "supervisor.json")
        self.log = os.path.join(self.path, "supervisor.log")
        self.wake = os.path.join(self.path, "wake")

    def create(self) -> None:
        """Make what is missing. Only the owner may look inside: job environments lie there."""
        for path in (self.path, self.jobs, self.active):
            os.makedirs(path, mode=0o700, exist_ok=True)
        try:
            os.mkfifo(self.wake, 0o600)
        except OSError:
            pass  # it exists, or this file system has none: the supervisor also looks by itself

    def job(self, job_id: int) -> "JobFolder":
        return JobFolder(os.path.join(self.jobs, str(job_id)))

    def job_ids(self) -> List[int]:
        """Every id that was ever given, half-made jobs included, ascending."""
        return _numbers(self.jobs)

    def active_ids(self) -> List[int]:
        return _numbers(self.active)

    def active_entry(self, job_id: int) -> str:
        return os.path.join(self.active, str(job_id))

    def allocate(self, document: Dict[str, Any]) -> int:
        """Store a job under the next free id. Killed anywhere, this leaves either no job or a whole one."""
        job_id = max([0] + self.job_ids() + self.active_ids()) + 1
        while True:
            folder = self.job(job_id)
            try:
                os.mkdir(folder.path, 0o700)
                break
            except OSError as error:
                if error.errno != errno.EEXIST:
                    raise
            job_id += 1
        os.close(os.open(self.active_entry(job_id), os.O_CREAT | os.O_WRONLY, 0o600))
        sync_folder(self.active)
        sync_folder(self.jobs)
        write_json(folder.spec, document)
        return job_id


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

    def fold(self) -> "Fold":
        return fold(read_text(self.events))


def _numbers(folder: str) -> List[int]:
    try:
        return sorted(int(name) for name in os.listdir(folder) if name.isdigit())
    except OSError as error:
        if error.errno == errno.ENOENT:
            return []
        raise


def read_text(path: str) -> str:
    """The file's text; empty when there is none."""
    try:
        with open(path, "rb") as handle:
            return handle.read().decode("utf-8", "replace")
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return ""
        raise


def append_event(path: str, event: Dict[str, Any]) -> None:
    """One line by one write, so that a killed writer leaves a whole line or a torn last one. Raises OSError."""
    data = (json.dumps(event, sort_keys=True, separators=(",", ":")) + "\n").encode("utf-8")
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(descriptor)


def mend_tail(path: str) -> None:
    """Close a torn last line, so that the next event does not become part of it. Raises OSError."""
    text = read_text(path)
    if text and not text.endswith("\n"):
        with open(path, "ab") as handle:
            handle.write(b"\n")


class Fold(object):
    """What a job's events add up to. An element in neither ``started`` nor ``ended`` is pending."""

    def __init__(self) -> None:
        self.started: Dict[int, Dict[str, Any]] = {}
        self.ended: Dict[int, Dict[str, Any]] = {}
        self.attempts: Dict[int, int] = {}

    def pending(self, count: int) -> List[int]:
        return [index for index in range(count) if index not in self.started and index not in self.ended]

    def attempt(self, index: int) -> int:
        """The number of the element's next attempt."""
        return self.attempts.get(index, 1)


def fold(text: str) -> Fold:
    """Add up events. Lines that are no event (torn by a kill) count for nothing; an end is final."""
    state = Fold()
    for line in text.split("\n"):
        try:
            event = json.loads(line)
            kind, index = event["event"], event["element"]
        except (ValueError, TypeError, KeyError):
            continue
        if index in state.ended:
            continue
        if kind == "start":
            state.started[index] = event
        elif kind == "kill" and index in state.started:
            state.started[index]["kill"] = event["cause"]
        elif kind == "requeue":
            state.started.pop(index, None)
            state.attempts[index] = event["next"]
        elif kind == "end":
            state.started.pop(index, None)
            state.ended[index] = event
    return state


def classify(
    code: Optional[int], number: Optional[int], killed_for: Optional[str]
) -> Tuple[Optional[str], Optional[int]]:
    """(cause, signal) of an ended element; cause None is complete.

    ``killed_for`` is why the supervisor itself killed it. A shell reports a command that a signal killed as
    128 + signal.
    """
    if number is None and code is not None and 128 < code <= 128 + HIGHEST_SIGNAL:
        number = code - 128
    if killed_for:
        return killed_for, number
    if number is not None:
        return "signal", number
    return ("exit" if code else None), None


def without_secrets(environment: Mapping[str, str]) -> Dict[str, str]:
    return {name: value for name, value in environment.items() if not _SECRET.search(name)}


def element_environment(spec: Dict[str, Any], own: Mapping[str, str]) -> Dict[str, str]:
    """What every element of a job sees: the submitter's variables and the secrets of ``own``; the job's win."""
    environment = {name: value for name, value in own.items() if _SECRET.search(name)}
    environment.update(spec.get("inherited") or {})
    environment.update(spec.get("environment") or {})
    return environment


def with_index(environment: Dict[str, str], job: int, index: int, cores: int, gpus: List[int]) -> Dict[str, str]:
    """The environment of one element."""
    own = {"HPC_LOCAL_JOB_ID": str(job), "HPC_LOCAL_INDEX": str(index), "HPC_LOCAL_CPUS": str(cores)}
    if gpus:
        own["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu) for gpu in gpus)
    return dict(environment, **own)


class Amount(NamedTuple):
    """Cores, MB of memory and GPUs."""

    cores: int
    memory_mb: float
    gpus: int

    def fits(self, free: "Amount") -> bool:
        return self.cores <= free.cores and self.memory_mb <= free.memory_mb and self.gpus <= free.gpus

    def minus(self, other: "Amount") -> "Amount":
        return Amount(self.cores - other.cores, self.memory_mb - other.memory_mb, self.gpus - other.gpus)


def limits_of(document: Dict[str, Any]) -> Amount:
    return Amount(int(document["cores"]), float(document["memory_mb"]), int(document.get("gpus") or 0))


def needs(resources: Dict[str, Any], limits: Amount) -> Amount:
    """What one element takes; memory that was not asked for is not counted."""
    cores = limits.cores if resources.get("exclusive") else int(resources.get("cpus") or 1)
    return Amount(cores, float(resources.get("mem_mb") or 0), int(resources.get("gpus") or 0))


class Demand(NamedTuple):
    """A job that could start elements now: how many it has, what one takes, how long it has waited for room."""

    job: int
    elements: int
    each: Amount
    waited_sec: float


def plan(demands: Iterable[Demand], limits: Amount, free: Amount) -> List[Tuple[int, int]]:
    """(job, how many elements to start): first come first served, later jobs fill what an earlier one cannot use.

    Back-fill ends behind a job that has waited for PATIENCE_SEC, so a wide job is not overtaken for ever. A job
    that was accepted before the limits were lowered below it runs when the machine is otherwise empty.
    """
    grants: List[Tuple[int, int]] = []
    for demand in demands:
        granted = 0
        while granted < demand.elements and demand.each.fits(free):
            free = free.minus(demand.each)
            granted += 1
        if not granted and free == limits and demand.each.gpus <= limits.gpus:
            free = free.minus(demand.each)
            granted = 1
        if granted:
            grants.append((demand.job, granted))
        elif demand.waited_sec > PATIENCE_SEC and demand.each.gpus <= limits.gpus:
            break
    return grants


def reasons(waiting: Iterable[Tuple[int, bool, bool]]) -> Dict[int, str]:
    """Why pending elements are pending.

    ``waiting``: (job, has open dependencies, is at its own limit), in order of the ids.
    """
    found: Dict[int, str] = {}
    blocked = False
    for job, depends, throttled in waiting:
        if depends or throttled:
            found[job] = "Dependency" if depends else "ThrottleLimit"
        else:
            found[job] = "Priority" if blocked else "Resources"
            blocked = True
    return found


def take_lock(path: str, wait: float) -> Optional[int]:
    """A descriptor that holds the flock on ``path``; None when somebody else holds it for ``wait`` seconds.

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
        raise NodeError(
            "precondition_failed",
            "%s: no file locks here: %s" % (path, error.strerror),
            "Set local_state in clusters.yaml to a folder on a disk of that machine; "
            "then run 'hpc-agent submit' again.",
        ) from error
    return True
