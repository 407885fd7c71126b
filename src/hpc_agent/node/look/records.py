"""Scan the records of a run. A scan reads only the shards that changed since the last one."""

import os
import time
from typing import Any, Dict, List, NamedTuple, Optional

from ..shared import task_states
from ..shared.files import from_document
from ..shared.ranges import decode_ranges, encode_ranges
from ..shared.run_folder import RunFolder
from ..shared.rungs import STOPPED_AT
from ..shared.task_record import COMPLETE, TaskRecord, read_record

# File systems with coarse times may change a shard again within the same time stamp: such a shard is read again.
SETTLED_NS = 3 * 10**9
CACHE_VERSION = 4
MESSAGE_LIMIT = 300
# Ends after which a scheduler may put the same element back into the queue (preemption, a lost node).
REQUEUEABLE = ("terminated", "signal", "checkpointed")


class FailureFacts(NamedTuple):
    """The failure of a task, from its record or else from accounting. Status cache and answers hold these facts as JSON."""

    cause: Optional[str] = None
    message: str = ""
    generation: int = 0
    attempt: Optional[int] = None
    job: Optional[str] = None
    element: Optional[int] = None
    host: Optional[str] = None
    exit_code: Optional[int] = None
    signal: Optional[int] = None
    ended_at: Optional[float] = None
    seconds: Optional[float] = None
    max_rss_mb: Optional[float] = None
    raw: Optional[str] = None  # the scheduler's own name of the end
    evidence: Optional[str] = None  # "accounting" or "absence" where no record says so

    @classmethod
    def from_record(cls, record: TaskRecord) -> "FailureFacts":
        shared = {name: getattr(record, name) for name in cls._fields if name in TaskRecord._fields}
        return cls(**dict(shared, message=record.message[:MESSAGE_LIMIT]))

    @classmethod
    def from_json(cls, document: Dict[str, Any]) -> "FailureFacts":
        return from_document(cls, document)

    def to_json(self) -> Dict[str, Any]:
        optional = ("raw", "evidence")
        return {key: value for key, value in self._asdict().items() if value is not None or key not in optional}


class RecordScan(NamedTuple):
    """The records of a run."""

    state: bytearray  # one byte for each task
    failed: Dict[int, FailureFacts]  # the facts of each failed record
    mean_seconds: Optional[float]  # of the complete tasks
    oom_killed: List[int] = []  # complete tasks of which the kernel killed a process for memory
    stopped_early: int = 0  # complete tasks that ended themselves early


def scan(folder: RunFolder, total: int, cache: Dict[str, Any]) -> RecordScan:
    """Return the records of a run; update ``cache``: shard -> {mtime, complete: ranges, failed, seconds, ...}."""
    state, failed, oom_killed = bytearray(total), {}, []
    seconds, timed, stopped_early = 0.0, 0, 0
    shards = cache.setdefault("shards", {})
    try:
        names = sorted(os.listdir(os.path.join(folder.path, "tasks")))
    except OSError:
        names = []
    for name in names:
        shard = shards[name] = _scan_shard(folder, name, shards.get(name))
        for task in decode_ranges(shard["complete"]):
            if task < total:
                state[task] = task_states.COMPLETE
        for text, facts in shard["failed"].items():
            if int(text) < total:
                state[int(text)] = task_states.FAILED
                failed[int(text)] = FailureFacts.from_json(facts)
        oom_killed += decode_ranges(shard["oom_killed"])
        stopped_early += shard["stopped_early"]
        seconds += shard["seconds"]
        timed += shard["timed"]
    return RecordScan(state, failed, seconds / timed if timed else None, oom_killed, stopped_early)


def is_unchanged(folder: RunFolder, name: str, shards: Dict[str, Any]) -> bool:
    """Return True if no record of a shard has been written since the scan that filled ``shards``."""
    return _is_current(shards[name], os.stat(folder.records(name)).st_mtime_ns)


def _is_current(shard: Dict[str, Any], changed: int) -> bool:
    """Return True if the facts hold for a shard that was last written at ``changed`` (ns)."""
    return bool(shard["settled"]) and int(shard["mtime"]) == changed


def _scan_shard(folder: RunFolder, name: str, cached: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    path = folder.records(name)
    changed = os.stat(path).st_mtime_ns
    if cached and _is_current(cached, changed):
        return cached
    complete = set(decode_ranges(cached["complete"])) if cached else set()
    oom_killed = decode_ranges(cached["oom_killed"]) if cached else []
    seconds, timed = (cached["seconds"], cached["timed"]) if cached else (0.0, 0)
    stopped_early = cached["stopped_early"] if cached else 0
    failed: Dict[str, Any] = {}
    for stem, kind in map(os.path.splitext, os.listdir(path)):
        # A complete record is final; a failed one may be replaced by a later attempt, so it is read again.
        unread = kind == ".json" and stem.isdigit() and int(stem) not in complete
        record = read_record(folder, int(stem)) if unread else None
        if record is None:
            continue
        if record.state == COMPLETE:
            complete.add(int(stem))
            oom_killed += [int(stem)] if record.oom_kills else []
            stopped_early += STOPPED_AT in (record.metrics or {})
            seconds += record.seconds or 0.0
            timed += 1
        else:
            failed[stem] = FailureFacts.from_record(record).to_json()
    return {
        "mtime": changed,
        "settled": int(time.time() * 1e9) - changed > SETTLED_NS,
        "complete": encode_ranges(complete),
        "failed": failed,
        "oom_killed": encode_ranges(oom_killed),
        "stopped_early": stopped_early,
        "seconds": seconds,
        "timed": timed,
    }
