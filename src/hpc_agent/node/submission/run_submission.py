"""Submit a run on the cluster: prepare (report the state), then submit (snapshot, ledger, arrays).

A snapshot is immutable: pushed files and hard links to an earlier snapshot, checked by content, put in place by one rename.
Its manifest is a list of entries: ["f", path, sha256, executable, size] or ["l", path, target].
"""

import base64
import errno
import json
import os
import shutil
import time
import zlib
from typing import Any, Callable, Dict, List, Optional, Tuple

from ..shared import run_folder
from ..shared.errors import NodeError
from ..shared.files import from_document, make_folder, read_json, sha256_of, sync_folder, write_bytes, write_json
from ..shared.ledger import Array, arrays_of, summary, write_array
from ..shared.run_folder import RunDocument, RunFolder
from .run_plan import apply_plan, requests_of
from .submitter import RunLock, Submitter

STALE_INCOMING_SEC = 2 * 86400
# With less free room a submission asks for the room that it needs before it sends anything.
MUCH_ROOM = 64 << 20
Entry = List[Any]
# Fields of the run's document that follow from the plan.
PLAN_FIELDS = ("wave_map", "resources", "placement", "constraints", "chain", "canary", "plan", "isolate", "at_once")
_AGAIN = "Run the same 'hpc-agent submit' again."


def prepare(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return the state before a submission: the snapshot, a base to link to, the run's ledger, free space."""
    root = run_folder.check_root(request["root"])
    incoming = _make_incoming(root, request["incoming"])
    folder = run_folder.run_folder(root, request["run_id"])
    space = os.statvfs(root)
    return {
        "snapshot": os.path.isdir(_snapshot_path(root, request["snapshot"])),
        "base": next((b for b in request["bases"] if os.path.isdir(_snapshot_path(root, b))), None),
        "incoming": incoming,
        "root": root,
        "arrays": summary(folder) if os.path.isfile(folder.document) else {},
        "free_bytes": space.f_bavail * space.f_frsize,
        "shared_bytes": sum(size for name, size in (request.get("shared") or {}).items() if size != _size(root, name)),
    }


def _make_incoming(root: str, name: str) -> str:
    """Make the folders of a repo and the one that receives a push. Return the latter."""
    for part in ("incoming", "snapshots", "runs", "shared"):
        make_folder(os.path.join(root, part))
    for old in os.listdir(os.path.join(root, "incoming")):  # pushes that were given up days ago
        path = os.path.join(root, "incoming", old)
        if time.time() - os.lstat(path).st_mtime > STALE_INCOMING_SEC:
            shutil.rmtree(path, ignore_errors=True)
    incoming = os.path.join(root, "incoming", run_folder.check_id(name))
    make_folder(incoming)
    return incoming


def _receive(root: str, snapshot: str, request: Dict[str, Any]) -> int:
    """Put the files that came with a request where a push would have put them. Return their number, 0 where none is needed.

    Raises NodeError ``precondition_failed`` with ``snapshot: missing`` in the details where the client has to ask first: what
    it takes for there is not, or the room may not do.
    """
    files, base = request.get("files"), request.get("base")
    if files is None or os.path.isdir(_snapshot_path(root, snapshot)):
        return 0
    incoming, space = _make_incoming(root, request["incoming_name"]), os.statvfs(root)
    if (base and not os.path.isdir(_snapshot_path(root, base))) or space.f_bavail * space.f_frsize < MUCH_ROOM:
        raise NodeError(
            "precondition_failed", "the files of the run have to be pushed", _AGAIN, {"snapshot": "missing"}
        )
    for path, text in files.items():
        target = os.path.join(incoming, *_safe_parts(path))
        make_folder(os.path.dirname(target))
        # By a rename, as rsync writes: after a killed submission the old file may be linked into a snapshot.
        write_bytes(target, base64.b64decode(text), sync=False)
    request["incoming"] = incoming
    return len(files)


def _size(root: str, name: str) -> Optional[int]:
    """Return the bytes of a file that was shared before, or None."""
    try:
        return os.lstat(os.path.join(root, "shared", *_safe_parts(name))).st_size
    except OSError:
        return None


def submit(request: Dict[str, Any]) -> Dict[str, Any]:
    """Install the snapshot, write the run and its arrays, submit every array that has no job id and may go now."""
    root = run_folder.check_root(request["root"])
    folder = run_folder.run_folder(root, request["run"]["run_id"])
    make_folder(folder.path)
    with RunLock(folder.lock, request["owner"]) as lock:
        received = _receive(root, request["run"]["snapshot"], request)
        grown = _write_run(root, folder, request)
        return dict(_submit_plan(folder, request, lock), grown=grown, received=received)


def advance(request: Dict[str, Any]) -> Dict[str, Any]:
    """Submit the arrays of a known run that a limit kept back or whose submission was interrupted.

    ``release_canary`` releases the arrays that waited for the canary. ``arrays``: the plan of a repeated request, see
    run_plan.apply_plan.
    """
    folder = run_folder.existing_run(request["root"], request["run_id"])
    with RunLock(folder.lock, request["owner"]) as lock:
        if request.get("release_canary"):
            for array in arrays_of(folder):
                if array.held:
                    write_array(folder, array._replace(held=None))
        if request.get("arrays"):
            return _submit_plan(folder, request, lock)
        return _submit_open_arrays(folder, request, lock)


def look_up(request: Dict[str, Any]) -> Dict[str, Any]:
    """Look up the jobs of an interrupted submission by their names. Submits nothing.

    Returns ``arrays`` (empty where the run did not reach the cluster), ``run`` (its document), and ``unknown``: the error of a
    scheduler that could not be asked.
    """
    folder = run_folder.run_folder(request["root"], request["run_id"])
    if not os.path.isfile(folder.document):
        return {"arrays": {}, "run": None, "unknown": None}
    with RunLock(folder.lock, request["owner"]) as lock:
        unknown: Optional[str] = None
        try:
            Submitter(folder, request, lock.check).look_up_intents()
        except NodeError as error:
            if error.code != "submission_unknown":
                raise
            unknown = error.message
        return {"arrays": summary(folder), "run": read_json(folder.document), "unknown": unknown}


def _submit_plan(folder: RunFolder, request: Dict[str, Any], lock: RunLock) -> Dict[str, Any]:
    """Submit the arrays of a request. The answer, and the details of an error, have the ``run`` as it is then.

    ``plan_holds``: False where the plan of an earlier request stays.
    """
    try:
        looking = Submitter(folder, request, lock.check)
        never_sent = looking.look_up_intents()
        write_json(folder.submission, {key: request[key] for key in ("template", "job_environment")})
        plan_holds = apply_plan(folder, [from_document(Array, array) for array in request["arrays"]], never_sent)
        write_plan_of_run(folder, request["run"] if plan_holds else {})
        outcome = _submit_open_arrays(folder, request, lock)
    except NodeError as error:
        error.details.update(run=read_json(folder.document), arrays=summary(folder))
        raise
    adopted = looking.adopted + outcome["adopted"]
    return dict(outcome, adopted=adopted, plan_holds=plan_holds, run=read_json(folder.document))


def write_plan_of_run(folder: RunFolder, run: Dict[str, Any]) -> None:
    """Write the fields of a new plan into the run's document; ``by_array`` says what the arrays ask for if they differ."""
    old = read_json(folder.document)
    new = dict(old, **{name: run[name] for name in PLAN_FIELDS if name in run})
    new["plan"] = {name: value for name, value in (new.get("plan") or {}).items() if name != "by_array"}
    requests = requests_of(folder)
    if len(requests) > 1:
        new["plan"]["by_array"] = requests
    if new != old:
        write_json(folder.document, new)


def _submit_open_arrays(folder: RunFolder, request: Dict[str, Any], lock: RunLock) -> Dict[str, Any]:
    submitter = Submitter(folder, request, lock.check)
    outcome = submitter.submit_open_arrays()
    return dict(outcome, arrays=summary(folder), path=folder.path, adopted=submitter.adopted)


def _write_run(root: str, folder: RunFolder, request: Dict[str, Any]) -> List[str]:
    """Install the snapshot and make the run's folder; ``run.json`` is written last. Return what ``install`` returns."""
    grown = []  # type: List[str]
    run = from_document(RunDocument, request["run"])
    incoming = request.get("incoming") or ""
    if request.get("manifest") is None and not os.path.isdir(_snapshot_path(root, run.snapshot)):
        message = "the snapshot of %s is not on the cluster any more" % run.run_id
        raise NodeError("precondition_failed", message, _AGAIN, {"snapshot": "missing"})
    for name in request.get("shared_pushed") or []:  # folders and files, of which unchanged files were not pushed
        source = os.path.join(incoming, name)
        paths = [os.path.join(inside, file) for inside, _, files in os.walk(source) for file in files] or [source]
        for path in filter(os.path.isfile, paths):
            target = os.path.join(root, "shared", os.path.relpath(path, incoming))
            try:
                make_folder(os.path.dirname(target))
                os.replace(path, target)
            except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
                text = "the shared path %s was a file and is a folder now, or the reverse" % name
                old = os.path.join(root, "shared", name)
                raise NodeError(
                    "precondition_failed", text, "When no run uses it, remove %s on the cluster. %s" % (old, _AGAIN)
                ) from error
    if request.get("manifest") is not None:
        manifest = json.loads(_decompress(request["manifest"]).decode("utf-8"))
        # .hpc/ of a snapshot is linked to the running runtime, three folders above this file.
        runtime = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        grown = install(root, run.snapshot, manifest, request.get("base"), incoming, runtime)
    if incoming:
        shutil.rmtree(incoming, ignore_errors=True)
    for path in (folder.jobs, folder.scheduler_logs, folder.results, folder.combiner):
        make_folder(path)
    _make_work_folder(folder, run, _snapshot_path(root, run.snapshot))
    if not os.path.isfile(folder.document):
        write_bytes(folder.digests, _decompress(request["digests"]))
        if request.get("tasks"):
            write_bytes(folder.given_tasks, _decompress(request["tasks"]))
        write_json(folder.document, request["run"])
    return grown


def _decompress(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


def _snapshot_path(root: str, name: str) -> str:
    return os.path.join(root, "snapshots", name)


def install(root: str, name: str, manifest: List[Entry], base: Optional[str], incoming: str, runtime: str) -> List[str]:
    """Make ``snapshots/<name>`` unless it is there.

    Return the files that were appended to between hashing and pushing: the snapshot has them as they were hashed.

    A file comes from ``incoming`` if it was pushed, else by hard link from the snapshot ``base``, else from the files that
    an earlier run shared. Raises NodeError ``precondition_failed`` for a file that is missing, or that changed otherwise.
    """
    final = _snapshot_path(root, name)
    if os.path.isdir(final):
        return []
    make_folder(os.path.dirname(final))
    building = "%s.building-%d-%s" % (final, os.getpid(), os.urandom(4).hex())
    os.mkdir(building)
    base_path, shared = _snapshot_path(root, base) if base else None, os.path.join(root, "shared")
    try:
        grown = [entry[1] for entry in manifest if _place(entry, building, incoming, base_path, shared)]
        _copy_tree(runtime, os.path.join(building, ".hpc"))
        os.rename(building, final)
        sync_folder(os.path.dirname(final))
    except OSError as error:
        if not (error.errno in (errno.EEXIST, errno.ENOTEMPTY) and os.path.isdir(final)):
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    shutil.rmtree(incoming, ignore_errors=True)
    return grown


def _place(entry: Entry, building: str, incoming: str, base: Optional[str], shared: str) -> bool:
    """Put a file into the snapshot. Return True for one that was appended to while it was pushed."""
    path, earlier = entry[1], os.path.join(shared, entry[1])
    target = os.path.join(building, *_safe_parts(path))
    make_folder(os.path.dirname(target))
    pushed = os.path.join(incoming, path)
    if entry[0] == "l":
        os.symlink(entry[2], target)
    elif os.path.isfile(pushed):
        if sha256_of(pushed, entry[4]) != entry[2]:
            remedy = "%s A file that is written meanwhile belongs outside of the repo, or into .hpcignore." % _AGAIN
            raise NodeError("precondition_failed", "%s changed while it was being pushed" % path, remedy)
        grown = os.path.getsize(pushed) > int(entry[4])
        if grown:
            os.chmod(pushed, 0o600)
            os.truncate(pushed, entry[4])
        # Linked, not moved: after a killed install the next one still has the pushed files.
        _link(pushed, target)
        os.chmod(target, 0o555 if entry[3] else 0o444)
        return grown
    elif base is not None and os.path.isfile(os.path.join(base, path)):
        if sha256_of(os.path.join(base, path), entry[4]) != entry[2]:
            remedy = "Move the folder %s away on the cluster. %s" % (base, _AGAIN)
            raise NodeError("precondition_failed", "%s was changed on the cluster, in %s" % (path, base), remedy)
        _link(os.path.join(base, path), target)
    elif os.path.isfile(earlier) and [sha256_of(earlier, entry[4]), os.path.getsize(earlier)] == [entry[2], entry[4]]:
        # Shared by an earlier run, so not pushed again. A copy: shared files may change, a snapshot may not.
        shutil.copyfile(earlier, target)
        os.chmod(target, 0o555 if entry[3] else 0o444)
    else:
        raise NodeError("precondition_failed", "%s did not arrive on the cluster" % path, _AGAIN)
    return False


def _safe_parts(path: str) -> List[str]:
    """Return the parts of a relative path. Raises NodeError for an absolute path or one with ``..``."""
    parts = path.split("/")
    if path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise NodeError("spec_invalid", "not a path inside the repo: %r" % path)
    return parts


def _link(source: str, target: str) -> None:
    """Make a hard link, or a copy where the file system refuses (too many links, another device)."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EMLINK, errno.EXDEV, errno.EPERM, errno.ENOTSUP):
            raise
        shutil.copy2(source, target)


def _copy_tree(
    source: str, target: str, place: Callable[[str, str], Any] = _link, linked: Tuple[str, ...] = ()
) -> None:
    """Put every file below ``source`` into ``target``; symbolic links are made anew, folders stay writable.

    The folders ``linked`` (paths below ``source``) become symbolic links, relative, so that the whole root may be moved.
    """
    make_folder(target)
    for folder, folders, files in os.walk(source):
        for name in [name for name in folders if os.path.join(folder, name) in linked]:
            folders.remove(name)
            here = os.path.join(target, os.path.relpath(os.path.join(folder, name), source))
            os.symlink(os.path.relpath(os.path.join(folder, name), os.path.dirname(here)), here)
        inside = os.path.join(target, os.path.relpath(folder, source))
        for name in folders + files:
            path = os.path.join(folder, name)
            here = os.path.normpath(os.path.join(inside, name))
            if os.path.islink(path):
                os.symlink(os.readlink(path), here)
            elif name in folders:
                make_folder(here)
            elif not os.path.lexists(here):
                place(path, here)


def _make_work_folder(folder: RunFolder, run: RunDocument, snapshot: str) -> None:
    """Make the folder in which the run's tasks start: a copy of the snapshot with links to folders outside of the copy.

    ``results`` and every output folder are links into the run's folder; ``shared`` are links to data that is not copied.
    The user's files are real copies: through a hard link a task that may change modes (chmod, root) could write into the
    snapshot. The runtime, 250 files that tasks do not write, stays in the snapshot: a campaign has hundreds of runs.
    """
    if os.path.isdir(folder.work):
        return
    building = "%s.building-%d-%s" % (folder.work, os.getpid(), os.urandom(4).hex())
    try:
        runtime = tuple(os.path.join(snapshot, ".hpc", name) for name in ("_hpc_runtime", "_hpc_kit", "templates"))
        _copy_tree(snapshot, building, shutil.copy2, linked=runtime)
        links = {name: os.path.join(folder.path, "outputs", name) for name in run.outputs}
        if "results" in links:
            links["results"] = folder.results
        for target in links.values():
            make_folder(target)
        links.update(run.shared)
        for name, target in links.items():
            link = os.path.join(building, *_safe_parts(name))
            make_folder(os.path.dirname(link))
            if os.path.islink(link) or os.path.isfile(link):
                os.unlink(link)
            elif os.path.isdir(link):
                shutil.rmtree(link)
            os.symlink(target, link)
        os.rename(building, folder.work)
    finally:
        shutil.rmtree(building, ignore_errors=True)
