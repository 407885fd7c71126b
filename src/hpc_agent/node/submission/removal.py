"""Remove runs, or parts of them, that have ended. What goes is moved aside by one rename, then deleted.

After a kill the run is there as it was, or it is gone: what was moved and not deleted is deleted by the next call. A run that
may have a job stays, and so does what it shares: snapshots, shared data, the folder of its campaign, targets of links.
"""

import json
import os
import stat
import time
from contextlib import ExitStack, suppress
from typing import Any, Dict, List

from ..look.holdings import PARTS, WHOLE, Activity, activity, aside, aside_folder, element_logs, removal_log
from ..shared import run_folder
from ..shared.errors import NodeError
from ..shared.files import make_folder, read_object, sync_folder, write_json
from ..shared.run_folder import RunFolder
from .submitter import RunLock

LOCK_WAIT_SEC = 2.0
SWEEP_SEC = 60.0


def remove(request: Dict[str, Any]) -> Dict[str, Any]:
    """Remove parts of runs. Request: ``runs`` (name -> parts), ``owner``, ``site``, ``sweep_sec``; no runs: delete only.

    ``unsent_ok``: runs whose arrays without a job will never be submitted. Returns ``removed`` (name -> when), ``kept``
    (name -> why), ``files`` and ``bytes`` that were deleted now, ``left``: folders that are still to be deleted.
    """
    root = run_folder.check_root(request["root"])
    deadline = time.monotonic() + float(request.get("sweep_sec") or SWEEP_SEC)
    wanted = {run_folder.check_id(name): parts for name, parts in (request.get("runs") or {}).items()}
    removed: Dict[str, float] = {}
    kept: Dict[str, str] = {}
    with ExitStack() as locks:
        folders = _locked(root, sorted(wanted), request["owner"], locks, kept)
        active = activity(folders, request.get("site") or {})
        for name, folder in folders.items():
            why = why_kept(active[name], name in (request.get("unsent_ok") or []))
            if why:
                kept[name] = why
                continue
            removed[name] = round(time.time(), 3)
            _move_aside(root, folder, wanted[name], removed[name])
    files, size = sweep(root, deadline)
    return {"removed": removed, "kept": kept, "files": files, "bytes": size, "left": len(aside(root))}


def _locked(root: str, names: List[str], owner: str, locks: ExitStack, kept: Dict[str, str]) -> Dict[str, RunFolder]:
    """Return the runs that are there, each under its lock, so that nothing is submitted meanwhile."""
    folders = {}
    held = ("another command works on the run, started", "Wait for its end, then call 'hpc-agent prune-runs' again.")
    for name in names:
        folder = run_folder.run_folder(root, name)
        if os.path.islink(folder.path) or not os.path.isdir(folder.path):
            kept[name] = "its folder is a link, or is not there"
            continue
        try:
            locks.enter_context(RunLock(folder.lock, owner, LOCK_WAIT_SEC, held=held))
        except NodeError as error:
            kept[name] = error.message
            continue
        folders[name] = folder
    return folders


def why_kept(active: Activity, unsent_ok: bool) -> str:
    """Return why nothing of a run may be removed; empty where it may."""
    if active.not_known:
        return "not known whether it has jobs: %s" % active.not_known
    if active.queued:
        return "in flight: %d of its elements are in the queue" % active.queued
    if active.unsent and not unsent_ok:
        return "in flight: %d of its arrays are still to be submitted" % active.unsent
    return ""


def _move_aside(root: str, folder: RunFolder, parts: List[str], now: float) -> None:
    """Write what will go, then move it aside: the whole run by one rename, a part of it likewise."""
    name = os.path.basename(folder.path)
    make_folder(aside_folder(root))
    place = os.path.join(aside_folder(root), "%s@%s" % (name, os.urandom(6).hex()))
    if WHOLE not in parts:
        write_json(folder.pruned, dict(read_object(folder.pruned), **dict.fromkeys(parts, now)))
        os.mkdir(place)
        for part in parts:
            _move_part(folder, part, place)
        return
    line = json.dumps({"run_id": name, "at": now, "parts": [WHOLE]}, sort_keys=True) + "\n"
    descriptor = os.open(removal_log(root), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        # The newline first: a line that a kill cut short must not swallow this one.
        os.write(descriptor, ("\n" + line).encode("utf-8"))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(folder.path, place)
    sync_folder(os.path.dirname(folder.path))


def _move_part(folder: RunFolder, part: str, place: str) -> None:
    if part not in PARTS:
        raise NodeError("spec_invalid", "a run has no part %r" % part)
    path = os.path.join(folder.path, part)
    if part == "work":  # .hpc has the run's own runtime
        names = [name for name in os.listdir(path) if name != ".hpc"] if os.path.isdir(path) else []
        sources = [os.path.join(path, name) for name in names]
    else:
        sources = [path] + (element_logs(folder) if part == "logs" else [])
    inside = os.listdir(path) if part == "outputs" and os.path.isdir(path) else []
    for number, source in enumerate(sources):
        with suppress(FileNotFoundError):
            os.rename(source, os.path.join(place, "%s-%d" % (part, number)))
    # Tasks that are submitted again find the folders that the scheduler and the links in the work folder need.
    again = {"logs": [folder.scheduler_logs], "results": [folder.results]}
    for made in again.get(part, [os.path.join(path, name) for name in inside]):
        make_folder(made)


def sweep(root: str, deadline: float) -> List[int]:
    """Delete what was moved aside until the time is over. Return the number of files and folders, and their bytes."""
    deleted = [0, 0]
    for path in aside(root):
        if time.monotonic() > deadline:
            break
        if not _delete(path, deadline, deleted):
            _make_writable(path)  # folders that a task made read-only
            _delete(path, deadline, deleted)
    return deleted


def _delete(top: str, deadline: float, deleted: List[int]) -> bool:
    """Delete a folder. Symbolic links are deleted and never followed. Return False where something could not be deleted."""
    whole = []  # type: List[bool]
    if os.path.islink(top) or not os.path.isdir(top):
        with suppress(OSError):
            os.unlink(top)
        return True
    for _, folders, files, descriptor in os.fwalk(top, topdown=False, onerror=lambda _: whole.append(False)):
        for name in files + folders:
            if time.monotonic() > deadline:
                return True
            try:
                found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                is_folder = stat.S_ISDIR(found.st_mode)
                (os.rmdir if is_folder else os.unlink)(name, dir_fd=descriptor)
            except OSError:
                whole.append(False)
                continue
            deleted[0] += 1
            deleted[1] += found.st_blocks * 512 if is_folder or found.st_nlink == 1 else 0
    with suppress(OSError):
        os.rmdir(top)
        deleted[0] += 1
    return not whole


def _make_writable(top: str) -> None:
    for folder, folders, _ in os.walk(top):
        for path in [folder] + [os.path.join(folder, name) for name in folders]:
            with suppress(OSError):
                if not os.path.islink(path):
                    os.chmod(path, 0o700)
