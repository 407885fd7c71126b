"""Read a file that a user named: it may be a pipe, a device without end, or far too large."""

from __future__ import annotations

import errno
import os
import select
import stat
from pathlib import Path

MOST_BYTES = 256 << 20
PIPE_WAIT_SEC = 10


def read_user_file(path: Path) -> bytes:
    """Return the content. Raises OSError, also for a pipe that nobody writes to and for more than MOST_BYTES."""
    # opened in the usual way, a pipe without a writer blocks for ever
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
            if not select.select([file], [], [], PIPE_WAIT_SEC)[0]:
                raise OSError(errno.ENXIO, "it is a pipe, and nobody writes to it", str(path))
            os.set_blocking(file.fileno(), True)
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise OSError(errno.EFBIG, f"it is larger than {MOST_BYTES >> 20} MiB", str(path))
    return data
