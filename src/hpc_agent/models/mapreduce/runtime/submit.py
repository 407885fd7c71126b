"""The remote half of a submission: prepare (look), then submit (snapshot, ledger, arrays).

The ledger has one file per array: first the intent, then the job id. An intent without an id means that somebody was
killed between the two; the scheduler is asked by the array's unique name before anything is submitted again.
"""

import base64
import json
import os
import shutil
import time
import zlib
from typing import Any, Dict, List, Optional

from . import common, layout, snapshot
from .lock import Lock
from .schedulers import load
from .schedulers.base import Job, Scheduler

SETTLE_SEC = 10.0
STALE_INCOMING_SEC = 2 * 86400


def prepare(request: Dict[str, Any]) -> Dict[str, Any]:
    """What is there already: the snapshot, a base to link to, the run's ledger, free space."""
    root = layout.check_root(request["root"])
    for name in ("incoming", "snapshots", "runs", "shared"):
        common.make_folder(os.path.join(root, name))
    incoming = snapshot.incoming_path(root, layout.check_id(request["incoming"]))
    _forget_stale_incoming(root)
    common.make_folder(incoming)
    folder = layout.run_folder(root, request["run_id"])
    space = os.statvfs(root)
    return {
        "snapshot": os.path.isdir(snapshot.snapshot_path(root, request["snapshot"])),
        "base": next((b for b in request["bases"] if os.path.isdir(snapshot.snapshot_path(root, b))), None),
        "incoming": incoming,
        "root": root,
        "arrays": ledger(folder) if os.path.isfile(folder.document) else {},
        "free_bytes": space.f_bavail * space.f_frsize,
    }


def _forget_stale_incoming(root: str) -> None:
    """Pushes that were given up days ago are not anybody's any more."""
    parent = os.path.join(root, "incoming")
    for name in os.listdir(parent):
        path = os.path.join(parent, name)
        if time.time() - os.lstat(path).st_mtime > STALE_INCOMING_SEC:
            shutil.rmtree(path, ignore_errors=True)


def ledger(folder: layout.RunFolder) -> Dict[str, Any]:
    """Array name -> {state, job_id, ...}."""
    entries = {}
    for name in folder.arrays():
        entry = _readable(folder, name)
        entries[name] = {key: entry.get(key) for key in ("state", "job_id", "message", "at")}
    return entries


def _readable(folder: layout.RunFolder, array: str) -> Dict[str, Any]:
    path = folder.job(array)
    try:
        return common.read_json(path) or {}
    except ValueError as error:
        raise common.NodeError(
            "schema_incompat",
            "the ledger %s is damaged: %s" % (path, error),
            "Restore or move that file away on the cluster, then run 'hpc-agent status'.",
        ) from error


def submit(request: Dict[str, Any]) -> Dict[str, Any]:
    """Install the snapshot, write the run, submit every array that has no job id. Returns the whole ledger."""
    root = layout.check_root(request["root"])
    run = request["run"]
    folder = layout.run_folder(root, run["run_id"])
    common.make_folder(folder.path)
    with Lock(folder.lock, request["owner"], wait=float(request.get("lock_wait_sec", 45))) as lock:
        _install(root, folder, request)
        scheduler = load(request["scheduler"], request.get("site") or {})
        settle = float(request.get("settle_sec", SETTLE_SEC))
        done: Dict[str, str] = {}
        for array in request["arrays"]:
            lock.check()
            try:
                done[array["array"]] = _submit_array(folder, array, request, scheduler, done, settle)
            except common.NodeError as error:
                error.details.update(arrays=ledger(folder), array=array["array"])
                raise
    return {"arrays": ledger(folder), "path": folder.path}


def _install(root: str, folder: layout.RunFolder, request: Dict[str, Any]) -> None:
    run = request["run"]
    for name in request.get("shared_pushed") or []:
        _publish_shared(root, request["incoming"], name)
    if request.get("manifest") is not None:
        manifest = json.loads(zlib.decompress(base64.b64decode(request["manifest"])).decode("utf-8"))
        snapshot.install(root, run["snapshot"], manifest, request.get("base"), request["incoming"], runtime_folder())
    shutil.rmtree(request["incoming"], ignore_errors=True)
    for path in (folder.jobs, folder.scheduler_logs, folder.results, folder.combiner):
        common.make_folder(path)
    snapshot.make_work_folder(root, folder.path, run["snapshot"], run["outputs"], run["shared"])
    if not os.path.isfile(folder.document):
        temporary = "%s.%d.tmp" % (folder.digests, os.getpid())
        with open(temporary, "wb") as handle:
            handle.write(zlib.decompress(base64.b64decode(request["digests"])))
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, folder.digests)
        common.write_json(folder.document, run)


def runtime_folder() -> str:
    """The folder that this runtime was started from: what ``.hpc/`` of a snapshot gets linked to."""
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _publish_shared(root: str, incoming: str, name: str) -> None:
    """Move pushed files of a shared path to their place; the ones that had not changed were not pushed."""
    source = os.path.join(incoming, name)
    for folder, _, files in (
        os.walk(source) if os.path.isdir(source) else [(os.path.dirname(source), [], [os.path.basename(name)])]
    ):
        for file in files:
            path = os.path.join(folder, file)
            target = os.path.join(root, "shared", os.path.relpath(path, incoming))
            common.make_folder(os.path.dirname(target))
            if os.path.exists(path):
                os.replace(path, target)


def _submit_array(
    folder: layout.RunFolder,
    array: Dict[str, Any],
    request: Dict[str, Any],
    scheduler: Scheduler,
    done: Dict[str, str],
    settle: float,
) -> str:
    path = folder.job(array["array"])
    entry = _readable(folder, array["array"])
    if entry.get("state") == "submitted":
        return str(entry["job_id"])
    if entry.get("state") == "intent":
        found = _look_up(scheduler, entry, settle)
        if found:
            entry.update(state="submitted", job_id=found, adopted=True)
            common.write_json(path, entry)
            return found
    entry = dict(array, state="intent", at=time.time(), owner=request["owner"])
    entry["after_jobs"] = [done[name] for name in array.get("after") or [] if name in done]
    common.write_json(path, entry)
    try:
        job_id = scheduler.submit(Job(_job(folder, entry, request)))
    except common.NodeError as error:
        if error.code in ("scheduler_refused", "scheduler_throttled"):
            entry.update(state="refused", message=error.message)
            common.write_json(path, entry)
        raise
    entry.update(state="submitted", job_id=job_id, submitted_at=time.time())
    common.write_json(path, entry)
    return job_id


def _look_up(scheduler: Scheduler, entry: Dict[str, Any], settle: float) -> Optional[str]:
    """The job of an unfinished intent, asked for after the scheduler had time to show it.

    Raises NodeError ``submission_unknown`` when the scheduler cannot be asked: then nothing is submitted.
    """
    time.sleep(min(settle, max(0.0, settle - (time.time() - float(entry["at"])))))
    try:
        found = scheduler.find(entry["name"], float(entry["at"]))
    except common.NodeError as error:
        raise common.NodeError(
            "submission_unknown",
            "array %s may or may not be in the queue, and the scheduler cannot be asked: %s"
            % (entry["array"], error.message),
            "Run the same 'hpc-agent submit' again when the scheduler answers: it looks the job up before it acts.",
        ) from error
    return found[0] if found else None


def _job(folder: layout.RunFolder, entry: Dict[str, Any], request: Dict[str, Any]) -> Dict[str, Any]:
    environment = dict(request["job_environment"], HPC_RUN_DIR=folder.path, HPC_ARRAY=entry["array"])
    return {
        "name": entry["name"],
        "count": entry["elements"],
        "environment": environment,
        "script": os.path.join(folder.work, ".hpc", "templates", request["template"]),
        "log_folder": folder.scheduler_logs,
        "after": entry["after_jobs"],
        "max_running": entry.get("max_running"),
        "resources": entry["resources"],
        "placement": entry["placement"],
        "site": request.get("site") or {},
        "working_directory": folder.work,
    }


def describe_arrays(folder: layout.RunFolder) -> List[Dict[str, Any]]:
    """Every ledger entry, whole."""
    return [_readable(folder, name) for name in folder.arrays()]
