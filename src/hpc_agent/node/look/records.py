"""Scan the records of a run. A scan reads only the shards that changed since the last one."""

import os
import time
from typing import Any, Dict, List, Optional

from ..shared.ranges import decode_ranges, encode_ranges
from ..shared.run_folder import RunFolder
from ..shared.task_record import COMPLETE, read_record
from ..shared.task_states import COMPLETE as COMPLETE_STATE
from ..shared.task_states import FAILED as FAILED_STATE
from .failure_facts import FailureFacts

# File systems with coarse times may change a shard again within the same time stamp: such a shard is read again.
SETTLED_NS = 3 * 10**9
CACHE_VERSION = 2


class RecordScan(object):
    """The records of a run: ``state`` has one byte for each task, ``failed`` the facts of each failed record."""

    def __init__(self, total: int) -> None:
        self.state = bytearray(total)
        self.failed: Dict[int, FailureFacts] = {}
        self.seconds = 0.0
        self.timed = 0

    def mean_seconds(self) -> Optional[float]:
        """Return the mean duration of the complete tasks."""
        return self.seconds / self.timed if self.timed else None


def scan(folder: RunFolder, total: int, cache: Dict[str, Any]) -> RecordScan:
    """Return the records of a run; update ``cache``: shard -> {mtime, complete: ranges, failed, seconds}."""
    result = RecordScan(total)
    shards = cache.setdefault("shards", {})
    try:
        names = sorted(os.listdir(os.path.join(folder.path, "tasks")))
    except OSError:
        return result
    for name in names:
        shard = shards[name] = _scan_shard(folder, name, shards.get(name))
        for task in decode_ranges(shard["complete"]):
            if task < total:
                result.state[task] = COMPLETE_STATE
        for text, facts in shard["failed"].items():
            if int(text) < total:
                result.state[int(text)] = FAILED_STATE
                result.failed[int(text)] = FailureFacts.from_json(facts)
        result.seconds += shard["seconds"]
        result.timed += shard["timed"]
    return result


def _scan_shard(folder: RunFolder, name: str, cached: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    path = folder.records(name)
    changed = os.stat(path).st_mtime_ns
    if cached and cached["mtime"] == changed and cached["settled"]:
        return cached
    complete = set(decode_ranges(cached["complete"])) if cached else set()
    seconds, timed = (cached["seconds"], cached["timed"]) if cached else (0.0, 0)
    failed: Dict[str, Any] = {}
    for task in _recorded_tasks(path):
        # A complete record is final; a failed one may be replaced by a later attempt, so it is read again.
        record = None if task in complete else read_record(folder, task)
        if record is None:
            continue
        if record.state == COMPLETE:
            complete.add(task)
            seconds += record.seconds or 0.0
            timed += 1
        else:
            failed[str(task)] = FailureFacts.from_record(record).to_json()
    return {
        "mtime": changed,
        "settled": int(time.time() * 1e9) - changed > SETTLED_NS,
        "complete": encode_ranges(complete),
        "failed": failed,
        "seconds": seconds,
        "timed": timed,
    }


def _recorded_tasks(path: str) -> List[int]:
    split = (name.partition(".") for name in os.listdir(path))
    return [int(stem) for stem, _, kind in split if kind == "json" and stem.isdigit()]
