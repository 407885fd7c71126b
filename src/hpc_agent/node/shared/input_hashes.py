"""Hash declared inputs where they lie: a file, a folder, or a pattern. Client and cluster hash in the same way."""

import glob
import hashlib
import os
from contextlib import suppress
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Set

from .files import make_folder, read_json, sha256_of, write_json

# A larger file is hashed by its size and by samples, so that a submission does not read terabytes.
WHOLE_BYTES = 64 << 20
SAMPLES, SAMPLE_BYTES = 64, 1 << 20
MOST_FILES = 10000
MOST_BYTES = 8 << 30  # of one call, beside the files whose hash is known
FILES_LISTED = 50
MOST_KNOWN = 50000  # files of the cache: some 10 MB


class Place(NamedTuple):
    """The place of a declared input: a pattern of paths, and the prefix of these paths that is shown as ``shown``."""

    path: str  # as declared
    pattern: str
    real: str = ""
    shown: str = ""


def place(declared: str, shared: Dict[str, str]) -> Optional[Place]:
    """Return the place of an input outside of the snapshot: an absolute path, or one below a shared path. Else None."""
    if declared.startswith("/"):
        return Place(declared, declared)
    for name, target in shared.items():
        if declared == name or declared.startswith(name + "/"):
            return Place(declared, glob.escape(target) + declared[len(name) :], target, name)
    return None


def hash_inputs(places: List[Place], cache: str) -> List[Dict[str, Any]]:
    """Return the hashes of the inputs, as ``hash_input`` does. The file ``cache`` keeps those of each file for the next call.

    A cache that cannot be read or written is none. When it has grown large it forgets the files of earlier calls.
    """
    known: Dict[str, List[Any]] = {}
    used: Dict[str, List[Any]] = {}
    with suppress(OSError, ValueError, TypeError):
        known = dict(read_json(cache, {}))
    try:
        return [hash_input(where, known, used) for where in places]
    finally:
        if any(known.get(path) != facts for path, facts in used.items()):
            with suppress(OSError):
                make_folder(os.path.dirname(cache))
                write_json(cache, used if len(known) > MOST_KNOWN else dict(known, **used), sync=False)


def hash_input(where: Place, known: Dict[str, List[Any]], used: Dict[str, List[Any]]) -> Dict[str, Any]:
    """Return ``path``, ``files``, ``bytes``, ``sha256``, ``sampled`` and, of few files, each with [bytes, sha256].

    ``sampled`` counts the files over 64 MiB: a change between two samples of such a file is not seen. ``known`` has
    hashes by path, with size, times and inode; ``used`` gets those of this input. Raises ValueError: no file, too many,
    too much to read, unreadable.
    """
    paths = _files(where)
    if not paths:
        raise ValueError("%s names no file that can be read" % where.path)
    total, sampled, to_read = 0, 0, 0
    listed: Dict[str, List[Any]] = {}
    digest = hashlib.sha256()
    for path in paths:
        shown = where.shown + path[len(where.real) :] if where.real else path
        try:
            facts = os.stat(path)
            key = [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]
            used[path] = known.get(path) or []
            if used[path][:4] != key:
                to_read += min(facts.st_size, WHOLE_BYTES)
                if to_read > MOST_BYTES:
                    text = "%s has more than %d GiB to read: declare fewer files, or one that changes with the data"
                    raise ValueError(text % (where.path, MOST_BYTES >> 30))
                used[path] = key + [hash_file(path, facts.st_size)]
        except OSError as error:
            raise ValueError("%s cannot be read: %s" % (path, error.strerror)) from error
        sha, size = used[path][4], facts.st_size
        total += size
        sampled += size > WHOLE_BYTES
        digest.update(("%s\t%d\t%s\n" % (shown, size, sha)).encode("utf-8", "surrogateescape"))
        if len(paths) <= FILES_LISTED:
            listed[shown] = [size, sha]
    found = {"path": where.path, "files": len(paths), "bytes": total, "sha256": digest.hexdigest(), "sampled": sampled}
    return dict(found, listed=listed)


def hash_file(path: str, size: int) -> str:
    """Return the SHA-256 of a file; of a large one that of its size and of 64 samples of 1 MiB, from start to end."""
    if size <= WHOLE_BYTES:
        return sha256_of(path, size)
    digest = hashlib.sha256(b"%d samples of %d bytes\n" % (SAMPLES, size))
    with open(path, "rb") as handle:
        for number in range(SAMPLES):
            handle.seek((size - SAMPLE_BYTES) * number // (SAMPLES - 1))
            digest.update(handle.read(SAMPLE_BYTES))
    return digest.hexdigest()


def _files(where: Place) -> List[str]:
    """Return every regular file that the pattern names, or that lies below a folder it names, sorted. Raises ValueError."""
    found: Set[str] = set()
    for path in glob.iglob(where.pattern, recursive=True):
        for one in [path] if os.path.isfile(path) else _below(path):
            found.add(one)
            if len(found) > MOST_FILES:
                text = "%s names more than %d files: declare fewer, or one that changes with the data"
                raise ValueError(text % (where.path, MOST_FILES))
    return sorted(found)


def _below(folder: str) -> Iterator[str]:
    """Yield the regular files below a folder, through links to folders too. Raises ValueError for an unreadable folder."""
    for inside, folders, names in os.walk(folder, followlinks=True, onerror=_unreadable):
        above = os.path.realpath(inside) + os.sep
        # A link to a folder around it leads nowhere new.
        folders[:] = [n for n in folders if not above.startswith(os.path.realpath(os.path.join(inside, n)) + os.sep)]
        for name in names:
            path = os.path.join(inside, name)
            if os.path.isfile(path):
                yield path


def _unreadable(error: OSError) -> None:
    raise ValueError("%s cannot be read: %s" % (error.filename, error.strerror)) from error
