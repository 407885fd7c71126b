"""Submit a run on the cluster: prepare (report the state), then submit (snapshot, ledger, arrays)."""

import base64
import json
import os
import shutil
import time
import zlib
from typing import Any, Dict

from ..shared import run_folder
from ..shared.files import make_folder, write_bytes, write_json
from ..shared.ledger import Array, arrays_of, summary, write_array
from ..shared.run_folder import RunDocument, RunFolder
from . import snapshot
from .run_lock import RunLock
from .submitter import Submitter, write_planned_arrays

STALE_INCOMING_SEC = 2 * 86400


def prepare(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return the state before a submission: the snapshot, a base to link to, the run's ledger, free space."""
    root = run_folder.check_root(request["root"])
    for name in ("incoming", "snapshots", "runs", "shared"):
        make_folder(os.path.join(root, name))
    for name in os.listdir(os.path.join(root, "incoming")):  # pushes that were given up days ago
        path = os.path.join(root, "incoming", name)
        if time.time() - os.lstat(path).st_mtime > STALE_INCOMING_SEC:
            shutil.rmtree(path, ignore_errors=True)
    incoming = os.path.join(root, "incoming", run_folder.check_id(request["incoming"]))
    make_folder(incoming)
    folder = run_folder.run_folder(root, request["run_id"])
    space = os.statvfs(root)
    return {
        "snapshot": os.path.isdir(snapshot.snapshot_path(root, request["snapshot"])),
        "base": next((b for b in request["bases"] if os.path.isdir(snapshot.snapshot_path(root, b))), None),
        "incoming": incoming,
        "root": root,
        "arrays": summary(folder) if os.path.isfile(folder.document) else {},
        "free_bytes": space.f_bavail * space.f_frsize,
    }


def submit(request: Dict[str, Any]) -> Dict[str, Any]:
    """Install the snapshot, write the run and its arrays, submit every array that has no job id and may go now."""
    root = run_folder.check_root(request["root"])
    folder = run_folder.run_folder(root, request["run"]["run_id"])
    make_folder(folder.path)
    with _lock(folder, request) as lock:
        _write_run(root, folder, request)
        write_planned_arrays(folder, [Array.from_json(array) for array in request["arrays"]])
        return _submit_open_arrays(folder, request, lock)


def advance(request: Dict[str, Any]) -> Dict[str, Any]:
    """Submit the arrays of a known run that a limit kept back or whose submission was interrupted.

    ``release_canary`` releases the arrays that waited for the canary.
    """
    folder = run_folder.existing_run(request["root"], request["run_id"])
    with _lock(folder, request) as lock:
        if request.get("release_canary"):
            for array in arrays_of(folder):
                if array.held:
                    write_array(folder, array._replace(held=None))
        return _submit_open_arrays(folder, request, lock)


def _lock(folder: RunFolder, request: Dict[str, Any]) -> RunLock:
    return RunLock(folder.lock, request["owner"], wait=float(request.get("lock_wait_sec", 45)))


def _submit_open_arrays(folder: RunFolder, request: Dict[str, Any], lock: RunLock) -> Dict[str, Any]:
    outcome = Submitter(folder, request, lock.check).submit_open_arrays()
    return dict(outcome, arrays=summary(folder), path=folder.path)


def _write_run(root: str, folder: RunFolder, request: Dict[str, Any]) -> None:
    """Install the snapshot and make the run's folder; ``run.json`` is written last."""
    run = RunDocument.from_json(request["run"])
    incoming = request["incoming"]
    for name in request.get("shared_pushed") or []:
        _publish_shared(root, incoming, name)
    if request.get("manifest") is not None:
        manifest = json.loads(_decompress(request["manifest"]).decode("utf-8"))
        # .hpc/ of a snapshot is linked to the running runtime, three folders above this file.
        runtime = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        snapshot.install(root, run.snapshot, manifest, request.get("base"), incoming, runtime)
    shutil.rmtree(incoming, ignore_errors=True)
    for path in (folder.jobs, folder.scheduler_logs, folder.results, folder.combiner):
        make_folder(path)
    snapshot.make_work_folder(root, folder.path, run.snapshot, run.outputs, run.shared)
    if not os.path.isfile(folder.document):
        write_bytes(folder.digests, _decompress(request["digests"]))
        write_json(folder.submission, {key: request[key] for key in ("template", "job_environment")})
        write_json(folder.document, request["run"])


def _decompress(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


def _publish_shared(root: str, incoming: str, name: str) -> None:
    """Move the pushed files of a shared path (a folder or a file) to their place; unchanged files were not pushed."""
    source = os.path.join(incoming, name)
    paths = [os.path.join(folder, file) for folder, _, files in os.walk(source) for file in files] or [source]
    for path in paths:
        if os.path.isfile(path):
            target = os.path.join(root, "shared", os.path.relpath(path, incoming))
            make_folder(os.path.dirname(target))
            os.replace(path, target)
