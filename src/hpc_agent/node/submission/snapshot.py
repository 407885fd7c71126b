"""Immutable snapshots: pushed files and hard links to an earlier snapshot, checked by content, put in place by one rename.

A manifest is a list of entries: ["f", path, sha256, executable] or ["l", path, target].
"""

import errno
import hashlib
import os
import shutil
from typing import Any, Callable, Dict, List, Optional

from ..shared.errors import NodeError
from ..shared.files import make_folder, sync_folder

Entry = List[Any]
_AGAIN = "Run the same 'hpc-agent submit' again."


def snapshot_path(root: str, name: str) -> str:
    return os.path.join(root, "snapshots", name)


def install(root: str, name: str, manifest: List[Entry], base: Optional[str], incoming: str, runtime: str) -> None:
    """Make ``snapshots/<name>`` unless it is there.

    A file comes from ``incoming`` if it was pushed, else by hard link from the snapshot ``base``. Raises NodeError
    ``precondition_failed`` for a file that is missing, or that changed between hashing and pushing.
    """
    final = snapshot_path(root, name)
    if os.path.isdir(final):
        return
    make_folder(os.path.dirname(final))
    building = "%s.building-%d-%s" % (final, os.getpid(), os.urandom(4).hex())
    os.mkdir(building)
    try:
        for entry in manifest:
            _place(entry, building, incoming, snapshot_path(root, base) if base else None)
        copy_tree(runtime, os.path.join(building, ".hpc"))
        os.rename(building, final)
        sync_folder(os.path.dirname(final))
    except OSError as error:
        if not (error.errno in (errno.EEXIST, errno.ENOTEMPTY) and os.path.isdir(final)):
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    shutil.rmtree(incoming, ignore_errors=True)


def _place(entry: Entry, building: str, incoming: str, base: Optional[str]) -> None:
    kind, path = entry[0], entry[1]
    target = os.path.join(building, *safe_parts(path))
    make_folder(os.path.dirname(target))
    if kind == "l":
        os.symlink(entry[2], target)
        return
    pushed = os.path.join(incoming, path)
    if os.path.isfile(pushed):
        if _sha256(pushed) != entry[2]:
            raise NodeError("precondition_failed", "%s changed while it was being pushed" % path, _AGAIN)
        # Linked, not moved: after a killed install the next one still has the pushed files.
        _link(pushed, target)
        os.chmod(target, 0o555 if entry[3] else 0o444)
        return
    if base is None or not os.path.isfile(os.path.join(base, path)):
        raise NodeError("precondition_failed", "%s did not arrive on the cluster" % path, _AGAIN)
    _link(os.path.join(base, path), target)


def safe_parts(path: str) -> List[str]:
    """Return the parts of a relative path. Raises NodeError for an absolute path or one with ``..``."""
    parts = path.split("/")
    if path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise NodeError("spec_invalid", "not a path inside the repo: %r" % path)
    return parts


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        for chunk in iter(lambda: handle.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _link(source: str, target: str) -> None:
    """Make a hard link, or a copy where the file system refuses (too many links, another device)."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EMLINK, errno.EXDEV, errno.EPERM, errno.ENOTSUP):
            raise
        shutil.copy2(source, target)


def copy_tree(source: str, target: str, place: Callable[[str, str], Any] = _link) -> None:
    """Put every file below ``source`` into ``target``; symbolic links are made anew, folders stay writable."""
    make_folder(target)
    for folder, folders, files in os.walk(source):
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


def make_work_folder(root: str, run_path: str, name: str, outputs: List[str], shared: Dict[str, str]) -> None:
    """Make the folder in which the run's tasks start: a copy of the snapshot with links to folders outside of the copy.

    ``results`` and every output folder are links into the run's folder; ``shared`` are links to data that is not copied.
    Files are real copies: through a hard link a task that may change modes (chmod, root) could write into the snapshot.
    """
    work = os.path.join(run_path, "work")
    if os.path.isdir(work):
        return
    building = "%s.building-%d-%s" % (work, os.getpid(), os.urandom(4).hex())
    try:
        copy_tree(snapshot_path(root, name), building, shutil.copy2)
        links = {name: os.path.join(run_path, "outputs", name) for name in outputs}
        if "results" in links:
            links["results"] = os.path.join(run_path, "results")
        for target in links.values():
            make_folder(target)
        links.update(shared)
        for name, target in links.items():
            link = os.path.join(building, *safe_parts(name))
            make_folder(os.path.dirname(link))
            if os.path.islink(link) or os.path.isfile(link):
                os.unlink(link)
            elif os.path.isdir(link):
                shutil.rmtree(link)
            os.symlink(target, link)
        os.rename(building, work)
    finally:
        shutil.rmtree(building, ignore_errors=True)
