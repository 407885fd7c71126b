"""Scan the records of a run. A scan reads only what was written since the last one: changed shards of files, and what was
appended to the logs of packed elements.
"""

import json
import os
import time
from typing import Any, Dict, Optional, Sequence

from ..shared import task_states
from ..shared.files import from_document
from ..shared.ledger import Array
from ..shared.run_folder import RunFolder
from ..shared.rungs import STOPPED_AT
from ..shared.task_record import COMPLETE, TaskRecord
from .recorded import FailureFacts, RecordScan

# File systems with coarse times may change a shard again within the same time stamp: such a shard is read again.
SETTLED_NS = 3 * 10**9
CACHE_VERSION = 5
_USUAL_BYTES = 16 << 10  # of a record at most
# What the cache has from scans.
OF_RECORDS = ("records", "shards", "logs")
# Ends after which a scheduler may put the same element back into the queue (preemption, a lost node).
REQUEUEABLE = ("terminated", "signal", "checkpointed")


def scan(folder: RunFolder, total: int, cache: Dict[str, Any], packed: Sequence[Array] = ()) -> RecordScan:
    """Return the records of a run: of its files, and of the logs of its ``packed`` arrays.

    ``cache`` has what earlier scans have read; ``RecordScan.keep`` puts into it what this one has.
    """
    try:
        return _scan(folder, total, cache, packed)
    except _Lost:  # records that were read are gone: somebody has removed or restored files
        for name in OF_RECORDS:
            cache.pop(name, None)
        return _scan(folder, total, cache, packed)


def _scan(folder: RunFolder, total: int, cache: Dict[str, Any], packed: Sequence[Array]) -> RecordScan:
    found, shards = RecordScan(total), cache.setdefault("shards", {})
    if "records" in cache:
        found.load(cache["records"])
    if packed:
        from . import element_scan  # only runs with logs need it

        found.elements = element_scan.ElementScans(folder, packed, cache.get("logs") or {})
        try:
            found.elements.scan(found)
        except element_scan.LogShrank as error:
            raise _Lost from error
    try:
        names = sorted(os.listdir(os.path.join(folder.path, "tasks")))
    except OSError:
        names = []
    if set(shards) - set(names):
        raise _Lost
    for name in names:
        shard = shards[name] = _scan_shard(folder, name, shards.get(name), found)
        for text, facts in shard["failed"].items():
            found.add_failed(int(text), FailureFacts(**facts))
    return found


class _Lost(Exception):
    """Records that an earlier scan has read are gone."""


def is_unchanged(folder: RunFolder, name: str, shards: Dict[str, Any]) -> bool:
    """Return True if no record of a shard has been written since the scan that filled ``shards``."""
    return name in shards and _is_current(shards[name], os.stat(folder.records(name)).st_mtime_ns)


def _is_current(shard: Dict[str, Any], changed: int) -> bool:
    """Return True if the facts hold for a shard that was last written at ``changed`` (ns)."""
    return bool(shard["settled"]) and int(shard["mtime"]) == changed


def _content(path: str) -> bytes:
    """Return what a small file holds. A hundred thousand are read: this takes half of the time of ``open``."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        data = more = os.read(descriptor, _USUAL_BYTES)
        while more:
            more = os.read(descriptor, _USUAL_BYTES)
            data += more
        return data
    finally:
        os.close(descriptor)


def _scan_shard(folder: RunFolder, name: str, cached: Optional[Dict[str, Any]], found: RecordScan) -> Dict[str, Any]:
    path = folder.records(name)
    changed = os.stat(path).st_mtime_ns
    if cached and _is_current(cached, changed):
        return cached
    failed: Dict[str, Any] = {}
    complete, total = task_states.COMPLETE, len(found.state)
    for file in os.listdir(path):
        stem, kind = file[:-5], file[-5:]
        # A complete record is final; a failed one may be replaced by a later attempt, so it is read again.
        if kind != ".json" or not stem.isdigit() or int(stem) >= total or found.state[int(stem)] == complete:
            continue
        try:
            document = json.loads(_content("%s/%s" % (path, file)).decode("utf-8"))
            if document["state"] == COMPLETE:
                stopped = STOPPED_AT in (document.get("metrics") or ())
                found.add_complete(int(stem), document.get("seconds"), bool(document.get("oom_kills")), stopped)
            else:
                failed[stem] = FailureFacts.from_record(from_document(TaskRecord, document)).kept()
        except (OSError, ValueError, TypeError, KeyError):
            continue  # it is torn, or this machine cannot read it now
    return {"mtime": changed, "settled": int(time.time() * 1e9) - changed > SETTLED_NS, "failed": failed}
