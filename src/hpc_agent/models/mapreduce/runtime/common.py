"""What every node-side module shares: atomic files, id ranges, bounded commands. Python 3.6, standard library only."""

import errno
import json
import os
import signal
import subprocess
import time
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

PROTOCOL = 1
SHARD_SIZE = 1000


class NodeError(Exception):
    """An error the client turns into an envelope: ``code`` is one of its error codes."""

    def __init__(
        self, code: str, message: str, remediation: Optional[str] = None, details: Optional[Dict[str, Any]] = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remediation = remediation
        self.details = details or {}


def write_json(path: str, value: Any, sync: bool = True) -> None:
    """Write ``value`` so that a reader sees the old file or the new one, never half of either.

    With ``sync`` the bytes and the folder entry are on disk before this returns.
    """
    data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode("utf-8")
    temporary = "%s.%d.%s.tmp" % (path, os.getpid(), os.urandom(4).hex())
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            if sync:
                os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError:
        remove_quietly(temporary)
        raise
    if sync:
        sync_folder(os.path.dirname(path))


def sync_folder(folder: str) -> None:
    """Make renames inside ``folder`` durable; file systems that cannot (some NFS) are left alone."""
    try:
        descriptor = os.open(folder or ".", os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def read_json(path: str, default: Any = None) -> Any:
    """The JSON document at ``path``; ``default`` where the file is missing. Raises ValueError when it is torn."""
    try:
        with open(path, "rb") as handle:
            data = handle.read()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE, errno.ENOTDIR):
            return default
        raise
    return json.loads(data.decode("utf-8"))


def remove_quietly(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def encode_ranges(ids: Iterable[int]) -> str:
    """``[0, 1, 2, 7]`` -> ``"0-2,7"``: sorted, duplicates folded, empty text for no ids."""
    parts: List[str] = []
    first: Optional[int] = None
    last: Optional[int] = None
    for value in sorted(set(ids)):
        if last is not None and value == last + 1:
            last = value
            continue
        if first is not None and last is not None:
            parts.append(_one_range(first, last))
        first = last = value
    if first is not None and last is not None:
        parts.append(_one_range(first, last))
    return ",".join(parts)


def _one_range(first: int, last: int) -> str:
    return "%d" % first if first == last else "%d-%d" % (first, last)


def decode_ranges(text: str) -> List[int]:
    """``"0-2,7"`` -> ``[0, 1, 2, 7]``. Raises ValueError on anything else."""
    ids: List[int] = []
    for part in text.split(",") if text else []:
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ValueError("not a range: %r" % part)
        ids.extend(range(int(first), int(last if dash else first) + 1))
    return ids


def run_command(
    argv: Sequence[str],
    timeout: float,
    stdin: Optional[str] = None,
    env: Optional[Dict[str, str]] = None,
    cwd: Optional[str] = None,
    inherit: Sequence[int] = (),
) -> Tuple[int, str, str]:
    """Run ``argv`` for at most ``timeout`` seconds; its whole process group dies with it. It keeps the descriptors ``inherit``.

    Returns (exit code, stdout, stderr). Raises NodeError ``cluster_timeout`` or ``remote_command_failed`` when the
    program is missing.
    """
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            cwd=cwd,
            start_new_session=True,
            pass_fds=list(inherit),
        )
    except OSError as error:
        raise NodeError("remote_command_failed", "cannot run %s: %s" % (argv[0], error.strerror)) from error
    try:
        out, err = process.communicate(stdin.encode("utf-8") if stdin else None, timeout=timeout)
    except subprocess.TimeoutExpired as expired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise NodeError("cluster_timeout", "%s did not answer within %d s" % (argv[0], timeout)) from expired
    return process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")


def shard_of(task_id: int) -> str:
    """The folder of a task's record: about 1,000 tasks share one, so a poll re-reads only what changed."""
    return "%05d" % (task_id // SHARD_SIZE)


def make_folder(path: str) -> None:
    os.makedirs(path, exist_ok=True)


def iso(seconds: Optional[float] = None) -> str:
    """Seconds since the epoch as ``2026-01-31T12:00:00Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() if seconds is None else seconds))
