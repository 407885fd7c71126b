"""Read and write small JSON files, and read the end of a log."""

import errno
import json
import os
from contextlib import suppress
from typing import Any, Callable, Dict, Optional, TypeVar

Kind = TypeVar("Kind")
# The exit code of a dispatcher that cannot write a record to a full disk (ENOSPC); accounting reports it.
DISK_FULL_EXIT = 28


def write_json(path: str, value: Any, sync: bool = True) -> None:
    """Write ``value`` as ``write_bytes`` writes."""
    write_bytes(path, json.dumps(value, sort_keys=True, separators=(",", ":")).encode("utf-8"), sync)


def write_bytes(path: str, data: bytes, sync: bool = True, mode: int = 0o644, keep_mode: bool = False) -> None:
    """Write ``data`` so that a reader sees the old file or the new one, never half of either.

    With ``sync`` the bytes and the folder entry are on disk when the function returns. With ``keep_mode`` the mode of an
    older file stays.
    """
    temporary = "%s.%d.%s.tmp" % (path, os.getpid(), os.urandom(4).hex())
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            if keep_mode and os.path.exists(path):
                os.fchmod(descriptor, os.stat(path).st_mode & 0o7777)
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
    """Make renames inside ``folder`` durable where the file system can (some NFS cannot)."""
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
    """Return the JSON document at ``path``, or ``default`` where the file is missing. Raises ValueError for a torn file."""
    try:
        with open(path, "rb") as handle:
            data = handle.read()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE, errno.ENOTDIR):
            return default
        raise
    return json.loads(data.decode("utf-8"))


def read_object(path: str) -> Dict[str, Any]:
    """Return the JSON object at ``path``; an empty one where the file is missing or torn, or a folder has its name."""
    try:
        found = read_json(path)
    except (ValueError, IsADirectoryError):
        return {}
    return found if isinstance(found, dict) else {}


def read_bytes(path: str) -> Optional[bytes]:
    """Return what a file holds, None where it cannot be read."""
    with suppress(OSError), open(path, "rb") as handle:
        return handle.read()
    return None


def from_document(kind: Callable[..., Kind], document: Dict[str, Any]) -> Kind:
    """Return the named tuple of a document. A file of another version may have other fields, which are dropped.

    Raises TypeError for a document that is no object, or lacks a field.
    """
    if not isinstance(document, dict):
        raise TypeError("not an object: %.80r" % (document,))
    names = kind._fields  # type: ignore[attr-defined]
    return kind(**{name: value for name, value in document.items() if name in names and value is not None})


def sha256_of(path: str, size: int) -> str:
    """Return the hash of the first ``size`` bytes of a file."""
    import hashlib  # few verbs need it, and it is slow to load

    found = hashlib.sha256()
    with open(path, "rb") as handle:
        chunk = handle.read(min(size, 1 << 20))
        while chunk:
            found.update(chunk)
            size -= len(chunk)
            chunk = handle.read(min(size, 1 << 20))
    return found.hexdigest()


def is_disk_full(error: OSError) -> bool:
    """Return True for a full disk and for an exhausted quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def remove_quietly(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


def remove_folder_quietly(path: str) -> None:
    """Remove a folder if it is empty."""
    with suppress(OSError):
        os.rmdir(path)


def make_folder(path: str) -> None:
    os.makedirs(path, exist_ok=True)


def tail(path: str, lines: int, limit: int, offset: int = 0, length: Optional[int] = None) -> str:
    """Return the last ``lines`` lines of a log, at most ``limit`` bytes; empty without a log.

    ``offset`` and ``length``: of a part of the file, None: to its end, and on into the files of a log above its limit.
    """
    data = b""
    for name in (path + ".tail", path + ".tail.old", path) if length is None else (path,):
        with suppress(OSError), open(name, "rb") as handle:
            first, last = offset if name == path else 0, handle.seek(0, os.SEEK_END)
            if length is not None:
                last = min(last, offset + length)
            first = max(first, last - (limit - len(data)))
            handle.seek(first)
            data = handle.read(max(0, last - first)) + data
    return "\n".join(data.decode("utf-8", "replace").splitlines()[-lines:])
