"""Which tasks have a record: a scan that re-reads only the shards that changed since the last one."""

import os
import time
from typing import Any, Dict, List, Optional

from ..shared.files import read_json
from ..shared.ranges import decode_ranges, encode_ranges
from ..shared.run_folder import RunFolder
from ..shared.task_states import COMPLETE, FAILED

# A shard touched so recently may change again within the same time stamp (file systems with coarse times): look again.
SETTLED_NS = 3 * 10**9
CACHE_VERSION = 2
# Ends after which a scheduler may put the same element back into the queue (preemption, a lost node).
REQUEUEABLE = ("terminated", "signal", "checkpointed")


class Scan(object):
    """``state`` has one byte a task; ``failed`` the compact facts of each failed record."""

    def __init__(self, total: int) -> None:
        self.state = bytearray(total)
        self.failed: Dict[int, Dict[str, Any]] = {}
        self.seconds: List[float] = [0.0, 0]


def scan(folder: RunFolder, total: int, cache: Dict[str, Any]) -> Scan:
    """All records of a run. ``cache`` is updated in place: shard -> {mtime, complete: ranges, failed, seconds}."""
    result = Scan(total)
    shards = cache.setdefault("shards", {})
    parent = os.path.join(folder.path, "tasks")
    try:
        names = sorted(os.listdir(parent))
    except OSError:
        return result
    for name in names:
        shards[name] = _shard(folder, name, shards.get(name))
        for task in decode_ranges(shards[name]["complete"]):
            if task < total:
                result.state[task] = COMPLETE
        for text, facts in shards[name]["failed"].items():
            if int(text) < total:
                result.state[int(text)] = FAILED
                result.failed[int(text)] = facts
        result.seconds[0] += shards[name]["seconds"]
        result.seconds[1] += shards[name]["timed"]
    return result


def _shard(folder: RunFolder, name: str, cached: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    path = folder.records(name)
    changed = os.stat(path).st_mtime_ns
    if cached and cached["mtime"] == changed and cached["settled"]:
        return cached
    complete = set(decode_ranges(cached["complete"])) if cached else set()
    seconds, timed = (cached["seconds"], cached["timed"]) if cached else (0.0, 0)
    failed: Dict[str, Any] = {}
    for entry in os.listdir(path):
        stem, dot, kind = entry.partition(".")
        # A complete record is final; a failed one may be replaced by a later attempt, so it is read again.
        if kind != "json" or not stem.isdigit() or int(stem) in complete:
            continue
        record = _readable(os.path.join(path, entry))
        if record is None:
            continue
        if record.get("state") == "complete":
            complete.add(int(stem))
            seconds += float(record.get("seconds") or 0.0)
            timed += 1
        else:
            failed[stem] = failed_facts(record)
    return {
        "mtime": changed,
        "settled": int(time.time() * 1e9) - changed > SETTLED_NS,
        "complete": encode_ranges(complete),
        "failed": failed,
        "seconds": seconds,
        "timed": timed,
    }


def failed_facts(record: Dict[str, Any]) -> Dict[str, Any]:
    """What a status needs of a failed record."""
    kept = ("generation", "cause", "message", "exit_code", "signal", "host", "job", "element", "attempt", "ended_at",
            "seconds", "max_rss_mb")  # fmt: skip
    facts = {key: record.get(key) for key in kept}
    facts["message"] = str(facts.get("message") or "")[:300]
    return facts


def _readable(path: str) -> Optional[Dict[str, Any]]:
    """A record, or None when it vanished or is not yet whole on this client of the file system."""
    try:
        record = read_json(path)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def read(folder: RunFolder, task: int) -> Optional[Dict[str, Any]]:
    """One task's record, whole."""
    return _readable(folder.record(task))
