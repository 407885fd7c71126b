"""The remote half of a submission: prepare (look), then submit (snapshot, ledger, arrays).

How an array reaches the scheduler exactly once is the ledger's matter.
"""

import base64
import json
import os
import shutil
import time
import zlib
from typing import Any, Dict

from ..schedulers import load
from ..shared import run_folder
from ..shared.files import make_folder, read_json, write_json
from ..shared.ledger import Array, arrays_of, summary, write_array
from . import snapshot
from .run_lock import Lock
from .submitter import Submitter, plan

STALE_INCOMING_SEC = 2 * 86400


def prepare(request: Dict[str, Any]) -> Dict[str, Any]:
    """What is there already: the snapshot, a base to link to, the run's ledger, free space."""
    root = run_folder.check_root(request["root"])
    for name in ("incoming", "snapshots", "runs", "shared"):
        make_folder(os.path.join(root, name))
    incoming = snapshot.incoming_path(root, run_folder.check_id(request["incoming"]))
    _forget_stale_incoming(root)
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


def _forget_stale_incoming(root: str) -> None:
    """Pushes that were given up days ago are not anybody's any more."""
    parent = os.path.join(root, "incoming")
    for name in os.listdir(parent):
        path = os.path.join(parent, name)
        if time.time() - os.lstat(path).st_mtime > STALE_INCOMING_SEC:
            shutil.rmtree(path, ignore_errors=True)


def submit(request: Dict[str, Any]) -> Dict[str, Any]:
    """Install the snapshot, write the run and its plan, submit every array that has no job id and may go now."""
    root = run_folder.check_root(request["root"])
    run = request["run"]
    folder = run_folder.run_folder(root, run["run_id"])
    make_folder(folder.path)
    with Lock(folder.lock, request["owner"], wait=float(request.get("lock_wait_sec", 45))) as lock:
        _install(root, folder, request)
        plan(folder, [Array.from_json(array) for array in request["arrays"]])
        return _advance(folder, run, request, lock)


def advance(request: Dict[str, Any]) -> Dict[str, Any]:
    """Go on with a run that is there: submit what a limit kept back, finish what was cut off; ``release_canary`` lets
    the arrays go that waited for the canary.
    """
    folder = run_folder.existing_run(request["root"], request["run_id"])
    with Lock(folder.lock, request["owner"], wait=float(request.get("lock_wait_sec", 45))) as lock:
        if request.get("release_canary"):
            for array in arrays_of(folder):
                if array.held:
                    write_array(folder, array._replace(held=None))
        return _advance(folder, read_json(folder.document), request, lock)


def _advance(folder: run_folder.RunFolder, run: Dict[str, Any], request: Dict[str, Any], lock: Lock) -> Dict[str, Any]:
    site = request.get("site") or {}
    scheduler = load(run["scheduler"], site)
    submitter = Submitter(folder, scheduler, site, request["owner"], lock.check, request.get("settle_sec"))
    return dict(submitter.go(), arrays=summary(folder), path=folder.path)


def _install(root: str, folder: run_folder.RunFolder, request: Dict[str, Any]) -> None:
    run = request["run"]
    for name in request.get("shared_pushed") or []:
        _publish_shared(root, request["incoming"], name)
    if request.get("manifest") is not None:
        manifest = json.loads(zlib.decompress(base64.b64decode(request["manifest"])).decode("utf-8"))
        snapshot.install(root, run["snapshot"], manifest, request.get("base"), request["incoming"], runtime_folder())
    shutil.rmtree(request["incoming"], ignore_errors=True)
    for path in (folder.jobs, folder.scheduler_logs, folder.results, folder.combiner):
        make_folder(path)
    snapshot.make_work_folder(root, folder.path, run["snapshot"], run["outputs"], run["shared"])
    if not os.path.isfile(folder.document):
        temporary = "%s.%d.tmp" % (folder.digests, os.getpid())
        with open(temporary, "wb") as handle:
            handle.write(zlib.decompress(base64.b64decode(request["digests"])))
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, folder.digests)
        write_json(folder.submission, {key: request[key] for key in ("template", "job_environment")})
        write_json(folder.document, run)


def runtime_folder() -> str:
    """The folder that this runtime was started from: what ``.hpc/`` of a snapshot gets linked to."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def _publish_shared(root: str, incoming: str, name: str) -> None:
    """Move pushed files of a shared path to their place; the ones that had not changed were not pushed."""
    source = os.path.join(incoming, name)
    for folder, _, files in (
        os.walk(source) if os.path.isdir(source) else [(os.path.dirname(source), [], [os.path.basename(name)])]
    ):
        for file in files:
            path = os.path.join(folder, file)
            target = os.path.join(root, "shared", os.path.relpath(path, incoming))
            make_folder(os.path.dirname(target))
            if os.path.exists(path):
                os.replace(path, target)
