"""Atomic, durable files on this machine."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from hpc_agent.errors import PreconditionFailed
from hpc_agent.node.shared.files import write_json


def save(path: Path, value: Any) -> None:
    """Write ``value`` as JSON: readers see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(str(path), msgspec.to_builtins(value))


@contextlib.contextmanager
def locked(path: Path, wait_sec: float, what: str) -> Iterator[None]:
    """Hold an exclusive lock. Raises PreconditionFailed after ``wait_sec`` seconds, saying ``what`` is under way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        deadline = time.monotonic() + wait_sec
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise PreconditionFailed(
                        f"another process has been busy with {what} for {wait_sec:.0f} s",
                        remediation="Wait for it, then run the same 'hpc-agent' command again.",
                    ) from None
                time.sleep(0.05)
        yield
