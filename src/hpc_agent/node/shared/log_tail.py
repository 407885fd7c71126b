"""Read the end of a task's log."""

import os
from typing import List

# The exit code of a dispatcher that cannot write a record to a full disk (ENOSPC); accounting reports it.
DISK_FULL_EXIT = 28


def tail(path: str, lines: int, limit: int) -> str:
    """Return the last ``lines`` lines of a log, at most ``limit`` bytes; empty without a log."""
    pieces: List[bytes] = []
    missing = limit
    for name in (path + ".tail", path + ".tail.old", path):
        if missing <= 0:
            break
        try:
            with open(name, "rb") as handle:
                handle.seek(0, os.SEEK_END)
                handle.seek(max(0, handle.tell() - missing))
                pieces.insert(0, handle.read(missing))
        except OSError:
            continue
        missing = limit - sum(len(piece) for piece in pieces)
    text = b"".join(pieces).decode("utf-8", "replace")
    return "\n".join(text.splitlines()[-lines:])
