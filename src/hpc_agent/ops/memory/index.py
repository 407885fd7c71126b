"""The interviews below a root, and the repos without one, with an index in the user's cache that makes the second look fast.

The index is never the truth: every folder and every interview.json is looked at again (one stat each), and what changed is
read again. A missing, torn or foreign index is built anew; without a place for one, everything is read each time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import stat
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from hpc_agent.ops.memory.interviews import Facts, read_facts
from hpc_agent.ops.memory.repos import read_repo, stamp_of_repo
from hpc_agent.state.repo_files import HPC_DIR

FILE = "interview.json"
FORMAT = 2  # of the rows, and of what they hold of an interview; another one is another file
# Files and folders may change again within one tick of their file system's clock: what is younger is read again.
TICK_NS = 2_000_000_000
SKIPPED = {"__pycache__", "node_modules", "site-packages"}
OUTPUTS = {"results", "logs"}  # of a campaign's folder: tasks write there
NETWORK = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "afs", "fuse.", "9p", "panfs", "glusterfs",
           "pvfs2")  # fmt: skip
_TABLES = (
    "CREATE TABLE folders (path TEXT PRIMARY KEY, stamp, names, source, seen, facts, problem) WITHOUT ROWID",
    "CREATE TABLE words (path TEXT PRIMARY KEY, words TEXT) WITHOUT ROWID",
)


class Folder(NamedTuple):
    """A folder as it was looked at: ``names`` are its folders; ``facts`` are those of its ``source``.

    ``source``: interview.json, else .hpc, else None. ``stamp`` and ``seen`` are texts that change when the folder, or the
    source, changes; an empty one is not to be trusted.
    """

    stamp: str
    names: list[str]
    source: str | None = None
    seen: str = ""
    facts: bytes | None = None
    problem: str | None = None


class Found(NamedTuple):
    """An interview, or a repo without one, with its words where they were asked for."""

    facts: Facts
    words: str


def find_interviews(root: Path, cache: Path | None, with_words: bool) -> tuple[list[Found], list[str]]:
    """Return every readable interview and repo below ``root``, and a sentence for each file or folder that cannot be read.

    ``cache``: the folder of the index. Links are not followed; hidden folders, and the output folders of a campaign, are
    left out, and so are the copies in hpc-agent's own folders of a cluster.
    """
    path = cache / f"recall-{FORMAT}-{hashlib.sha256(str(root).encode()).hexdigest()[:12]}.sqlite" if cache else None
    known, words = _load(path, with_words) if path else ({}, {})
    walk = _Walk(known)
    walk.look(str(root))
    gone = [name for name in known if name not in walk.seen]
    if path and (walk.changed or gone):
        _save(path, walk.changed, walk.words, gone)
    words.update(walk.words)
    return [Found(facts, words.get(facts.interview.campaign_dir, "")) for facts in walk.found], walk.problems


class _Walk:
    """One look at a tree: ``known`` is what the index has, ``changed`` and ``words`` what it has to learn."""

    def __init__(self, known: dict[str, Folder]) -> None:
        self.known = known
        self.seen: set[str] = set()
        self.changed: dict[str, Folder] = {}
        self.words: dict[str, str] = {}
        self.found: list[Facts] = []
        self.problems: list[str] = []
        self.now = time.time_ns()

    def look(self, root: str) -> None:
        """Look at every folder below ``root``."""
        stack = [root]
        while stack:
            path = stack.pop()
            try:
                path.encode()
                folder = before = self.known.get(path)
                stamp = self._stamp(os.stat(path))  # noqa: PTH116 - 10,000 times
                if folder is None or not stamp or folder.stamp != stamp:
                    folder = _listed(path, stamp, folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                self.problems.append(f"{path}: {error.strerror}")
                continue
            except UnicodeEncodeError:
                self.problems.append(f"{path!a}: the name is no UTF-8")
                continue
            self.seen.add(path)
            if folder.source is not None:
                folder = self._read(path, folder)
            if folder != before:
                self.changed[path] = folder
            stack += [f"{path}/{name}" for name in folder.names]

    def _read(self, path: str, folder: Folder) -> Folder:
        """Return the folder with the facts of its source, which is read where it is not the one of the index."""
        name = f"{path}/{folder.source}"
        facts = None
        if folder.facts:
            with contextlib.suppress(msgspec.MsgspecError):
                facts = msgspec.json.decode(folder.facts, type=Facts)
        try:
            seen = self._stamp(os.stat(name)) if folder.source == FILE else stamp_of_repo(path, self._stamp)  # noqa: PTH116
            if not seen or seen != folder.seen or (facts is None and not folder.problem):
                folder = folder._replace(seen="", facts=None, problem=None)
                found = self._facts(path) if folder.source == FILE else read_repo(path)
                if found is None:
                    return folder._replace(seen=seen)
                facts, words = found
                words.encode()  # raises UnicodeEncodeError for what no index can hold
                folder = folder._replace(seen=seen, facts=msgspec.json.encode(facts))
                self.words[path] = words
        except FileNotFoundError:  # removed since the folder was read
            return folder
        except (OSError, ValueError, msgspec.MsgspecError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error) or type(error).__name__
            reason = str(reason).encode(errors="backslashreplace").decode()
            folder, facts = folder._replace(problem=reason), None
        if facts is None:
            self.problems.append(f"{name}: {folder.problem}")
        else:
            self.found.append(facts)
        return folder

    def _facts(self, path: str) -> tuple[Facts, str]:
        with open(f"{path}/{FILE}", "rb") as handle:  # noqa: PTH123
            facts, words = read_facts(handle.read())
        facts.interview.campaign_dir = path
        return facts, words

    def _stamp(self, facts: os.stat_result) -> str:
        """Return a text that changes with the file; empty where it changed so lately that it could change unseen."""
        newest = max(facts.st_ctime_ns, facts.st_mtime_ns)
        return "" if self.now - newest < TICK_NS else f"{facts.st_ino} {newest} {facts.st_size}"


def _listed(path: str, stamp: str, known: Folder | None) -> Folder:
    """Return the folder as it is now, with what the index knows of its source."""
    names, source = _listing(path)
    if known and source and known.source == source:
        return known._replace(stamp=stamp, names=names)
    return Folder(stamp, names, source)


def _listing(path: str) -> tuple[list[str], str | None]:
    """Return the folders in a folder that are looked at, and what tells about it: interview.json, .hpc, or None."""
    names, there = [], set()
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name == FILE:
                there.add(FILE)
            elif entry.name not in SKIPPED and entry.is_dir(follow_symlinks=False):
                if entry.name[0] != ".":
                    names.append(entry.name)
                elif entry.name == HPC_DIR:
                    there.add(HPC_DIR)
    if there:
        names = [name for name in names if name not in OUTPUTS]
    is_copy = Path(path).parent.name == "hpc-agent" and {"snapshots", "runs"} <= set(names)
    return ([], None) if is_copy else (sorted(names), FILE if FILE in there else min(there, default=None))


def _load(path: Path, with_words: bool) -> tuple[dict[str, Folder], dict[str, str]]:
    """Return what the index has of folders, and their words; nothing where there is none.

    A file that is torn, or is no index of ours, is removed.
    """
    try:
        if path.exists():
            with contextlib.closing(_open(path)) as connection:
                rows = connection.execute("SELECT path, stamp, names, source, seen, facts, problem FROM folders")
                known = {row[0]: Folder(row[1], json.loads(row[2]), *row[3:]) for row in rows}
                return known, dict(connection.execute("SELECT path, words FROM words")) if with_words else {}
    except (sqlite3.DatabaseError, ValueError, TypeError) as error:
        is_busy = isinstance(error, sqlite3.OperationalError) and "no such" not in str(error)
        for name in () if is_busy else (path, Path(f"{path}-journal")):
            with contextlib.suppress(OSError):
                name.unlink()
    return {}, {}


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=5.0, isolation_level=None)


def _save(path: Path, changed: Mapping[str, Folder], words: Mapping[str, str], gone: list[str]) -> None:
    """Write what changed in one transaction. An index that cannot be written is left: the next look reads more."""
    rows = [(name, folder.stamp, json.dumps(folder.names), *folder[2:]) for name, folder in changed.items()]
    with contextlib.suppress(sqlite3.Error, OSError), contextlib.closing(_open(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        if not connection.execute("SELECT name FROM sqlite_master WHERE name = 'folders'").fetchone():
            for table in _TABLES:
                connection.execute(table)
        connection.executemany("REPLACE INTO folders VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        connection.executemany("REPLACE INTO words VALUES (?, ?)", words.items())
        for table in ("folders", "words"):
            connection.executemany(f"DELETE FROM {table} WHERE path = ?", [(name,) for name in gone])  # noqa: S608
        connection.execute("COMMIT")


def cache_folder(env: Mapping[str, str], home: Path) -> Path | None:
    """Return a folder of this user on a local disk: of the cache, else of the temporary files; None where there is none."""
    temporary = Path(env.get("TMPDIR") or tempfile.gettempdir(), f"hpc-agent-{os.getuid()}")
    for folder in (Path(env.get("XDG_CACHE_HOME") or home / ".cache") / "hpc-agent", temporary):
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            facts = folder.lstat()
            mine = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and not facts.st_mode & 0o022
            if mine and os.access(folder, os.W_OK) and not is_on_network(folder.resolve(), _mounts()):
                return folder
    return None


def _mounts() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    return ""  # not a Linux: taken for a local disk


def is_on_network(path: Path, mountinfo: str) -> bool:
    """Return True where the file system of ``path`` is another machine's: locks of SQLite are not safe there."""
    best, kind = "", ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields: list[Any] = before.split()
        if len(fields) < 5 or not after:
            continue
        point = fields[4].replace("\\040", " ")
        if path.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, after.split()[0]
    return kind.startswith(NETWORK)
