"""A lock on a run with an owner and a lease. The lock is a folder: mkdir is atomic on NFS too, where flock may not work."""

import errno
import os
import socket
import threading
import time
from typing import Any, Dict, Optional

from ..schedulers.local.processes import born
from ..shared.errors import NodeError
from ..shared.files import read_json, remove_quietly, write_json

LEASE_SEC = 30.0


class RunLock(object):
    """``with RunLock(path, owner, wait)``. Raises NodeError ``precondition_failed`` with the holder after ``wait`` seconds.

    A thread of the holder renews its lease. The lock of a holder that was killed is taken over at once on the holder's own
    host, elsewhere when the lease is over.
    """

    def __init__(self, path: str, owner: str, wait: float, lease: float = LEASE_SEC) -> None:
        self._path = path
        self._owner_file = os.path.join(path, "owner.json")
        self._owner = "%s %s" % (owner, os.urandom(6).hex())
        self._wait = wait
        self._lease = lease
        self._released = threading.Event()

    def __enter__(self) -> "RunLock":
        deadline = time.monotonic() + self._wait
        while not self._try():
            if time.monotonic() > deadline:
                raise NodeError(
                    "precondition_failed",
                    "this run is being submitted by %s" % self._holder_name(),
                    "Wait for the end of that submission, then run the same 'hpc-agent submit' again.",
                )
            time.sleep(0.1)
        threading.Thread(target=self._renew_until_released, daemon=True).start()
        return self

    def _renew_until_released(self) -> None:
        while not self._released.wait(self._lease / 4):
            try:
                os.utime(self._owner_file, None)
            except OSError:
                return

    def _try(self) -> bool:
        try:
            os.mkdir(self._path)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise
            self._break_if_stale()
            return False
        me = {"owner": self._owner, "at": time.time(), "host": socket.gethostname(), "pid": os.getpid()}
        write_json(self._owner_file, dict(me, started=born(os.getpid())))
        return True

    def _holder(self) -> Dict[str, Any]:
        """Return the content of the owner's file; empty where the file is missing or cannot be read."""
        try:
            return dict(read_json(self._owner_file, {}))
        except (OSError, ValueError):
            return {}

    def _holder_name(self) -> str:
        return str(self._holder().get("owner", "unknown")).rsplit(" ", 1)[0]

    def _age(self) -> Optional[float]:
        """Return the seconds since the last renewal by the file server's clock, so that hosts' clocks do not matter."""
        probe = "%s.%d.probe" % (self._path, os.getpid())
        try:
            with open(probe, "w"):
                pass
            now = os.stat(probe).st_mtime
            newest = os.stat(self._path).st_mtime
            if os.path.exists(self._owner_file):
                newest = max(newest, os.stat(self._owner_file).st_mtime)
            return now - newest
        except OSError:
            return None
        finally:
            remove_quietly(probe)

    def _break_if_stale(self) -> None:
        """Remove the lock of a holder whose lease is over, or that ran on this host and has ended."""
        age = self._age()
        if age is None:
            return
        known = self._holder()
        here = known.get("host") == socket.gethostname() and known.get("started")
        # The start time tells the holder from a later process with the same id.
        if age < self._lease and not (here and born(int(known.get("pid") or 0)) != known["started"]):
            return
        grave = "%s.stale-%s" % (self._path, os.urandom(4).hex())
        try:
            os.rename(self._path, grave)
        except OSError:
            return
        _remove_folder(grave)

    def check(self) -> None:
        """Raise NodeError when another process took the lock over (this one was stopped for longer than the lease)."""
        if read_json(self._owner_file, {}).get("owner") != self._owner:
            raise NodeError("precondition_failed", "the lock on this run was taken over by %s" % self._holder_name())

    def __exit__(self, *_: Any) -> None:
        self._released.set()
        if self._holder().get("owner") == self._owner:  # an unreadable lock ends with its lease
            _remove_folder(self._path)


def _remove_folder(path: str) -> None:
    remove_quietly(os.path.join(path, "owner.json"))
    try:
        os.rmdir(path)
    except OSError:
        pass
