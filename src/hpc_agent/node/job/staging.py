"""Copy a folder of shared data to the node's own disk, once for each state of the folder.

The name of a copy has the names, sizes and times of all files in it: a folder that has changed is copied anew, and an
element never reads a mixture. Where no copy can be made, tasks read the folder itself.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import sys
from contextlib import suppress
from typing import Any, Dict, List, Tuple

Listing = Dict[str, Tuple[int, int, int, int]]  # size, mtime_ns, ctime_ns, inode of each file, -1 of a folder


class Staged(object):
    """The data that the tasks of one element read. The copy stays for as long as this object lives."""

    def __init__(self, source: str) -> None:
        self.path = source
        self._in_use: List[Any] = []  # a shared lock tells others that the copy is in use
        parent = os.path.join(os.environ.get("HPC_LOCAL_SCRATCH") or "/tmp", "hpc-agent-data-%d" % os.getuid())
        try:
            os.makedirs(parent, mode=0o700, exist_ok=True)
            if os.stat(parent).st_uid != os.getuid():
                raise OSError(errno.EPERM, "belongs to somebody else", parent)
            base = os.path.join(parent, hashlib.sha256(source.encode("utf-8")).hexdigest()[:16])
            listing = list_files(source)  # before the lock: the elements of a node need not list one after another
            with open(base + ".lock", "w") as turn:
                fcntl.flock(turn, fcntl.LOCK_EX)
                self.path = self._copy_of(source, listing, base)
        except OSError as error:  # shutil.Error too
            self.path = source
            why = error.strerror or "%.300s" % (error.args[:1],)
            sys.stderr.write("hpc-agent: %s is not copied to %s, tasks read it there: %s\n" % (source, parent, why))

    def _copy_of(self, source: str, listing: Listing, base: str) -> str:
        """Return the copy of the state that ``listing`` shows, made now unless it is there. Raises OSError."""
        target = "%s-%s" % (base, _digest(listing))
        self._use(target)
        if _is_whole(target, listing):
            return target
        if not _sole_user(self._in_use[0]):
            raise OSError(errno.EBUSY, "files are missing in the copy, which other elements use")
        building = base + ".building"
        for unused in (building, target):
            shutil.rmtree(unused, ignore_errors=True)
        _remove_unused(base, target)
        if sum(facts[0] for facts in listing.values()) > shutil.disk_usage(os.path.dirname(base)).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        try:
            shutil.copytree(source, building)
            if list_files(source) != listing:
                raise OSError(errno.EAGAIN, "it changed while it was copied")
            os.rename(building, target)
        except OSError:
            shutil.rmtree(building, ignore_errors=True)  # on a full disk above all
            raise
        fcntl.flock(self._in_use[0], fcntl.LOCK_SH)
        return target

    def _use(self, target: str) -> None:
        self._in_use.append(open(target + ".used", "w"))
        fcntl.flock(self._in_use[0], fcntl.LOCK_SH)


def list_files(folder: str, above: Tuple[Tuple[int, int], ...] = ()) -> Listing:
    """Return what identifies each file, by its path below ``folder``; links are followed. Raises OSError."""
    here = os.stat(folder)
    identity = (here.st_dev, here.st_ino)
    if identity in above:
        raise OSError(errno.ELOOP, "a link in it leads back to a folder above", folder)
    found: Listing = {}
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        facts = os.stat(path)
        if os.path.isdir(path):
            found[name] = (-1, 0, 0, 0)
            inner = list_files(path, above + (identity,))
            found.update((os.path.join(name, deeper), value) for deeper, value in inner.items())
        else:
            found[name] = (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)
    return found


def _digest(listing: Listing) -> str:
    text = repr(sorted(listing.items())).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:16]


def _is_whole(target: str, listing: Listing) -> bool:
    """Return True if the copy has every file at its size: cleaners of /tmp remove single files, a crash empties some."""
    try:
        copy = list_files(target)
    except OSError:
        return False
    return all(copy.get(name, (None,))[0] == facts[0] for name, facts in listing.items())


def _sole_user(handle: Any) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_unused(base: str, target: str) -> None:
    """Remove the copies of other states that no element uses. The caller holds the lock of ``base``."""
    parent, prefix = os.path.split(base)
    for name in os.listdir(parent):
        marker = os.path.join(parent, name)
        if not (name.startswith(prefix + "-") and name.endswith(".used")) or marker == target + ".used":
            continue
        with suppress(OSError), open(marker, "w") as handle:
            if _sole_user(handle):
                shutil.rmtree(marker[: -len(".used")], ignore_errors=True)
                os.unlink(marker)
