"""The interviews below a root, and the repos without one, with an index in the user's cache that makes the second look fast.

The index is never the truth: every folder and every interview.json is looked at again (one stat each), and what changed is
read again. A missing, torn or foreign index is built anew; without a place for one, everything is read each time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from hpc_agent.node.shared.files import write_bytes
from hpc_agent.ops.memory.interviews import Facts, read_facts
from hpc_agent.ops.memory.repos import read_repo, stamp_of_repo
from hpc_agent.state.repo_files import HPC_DIR

FILE = "interview.json"
FORMAT = 3  # of the index, and of what it holds of an interview; another one is another file
# Files and folders may change again within one tick of their file system's clock: what is younger is read again.
TICK_NS = 2_000_000_000
SKIPPED = {"__pycache__", "node_modules", "site-packages"}
OUTPUTS = {"results", "logs"}  # of a campaign's folder: tasks write there


class Folder(NamedTuple):
    """A folder as it was looked at: ``names`` are its folders; ``facts`` are those of its ``source``, as JSON.

    ``source``: interview.json, else .hpc, else None. ``stamp`` and ``seen`` are texts that change when the folder, or the
    source, changes; an empty one is not to be trusted.
    """

    stamp: str
    names: list[str]
    source: str | None
    seen: str = ""
    facts: bytes = b""


def find_interviews(root: Path, cache: Path | None) -> tuple[list[Facts], list[str]]:
    """Return every readable interview and repo below ``root``, and a sentence for each file or folder that cannot be read.

    ``cache``: the folder of the index. Links are not followed; hidden folders, and the output folders of a campaign, are
    left out, and so are the copies in hpc-agent's own folders of a cluster.
    """
    path = cache and cache / f"recall-{FORMAT}-{hashlib.sha256(str(root).encode()).hexdigest()[:12]}.msgpack"
    known: dict[str, Folder] = {}
    with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        known = msgspec.msgpack.decode(path.read_bytes(), type=dict[str, Folder]) if path else {}
    walk = _Walk(known)
    walk.look(str(root))
    if path and walk.folders != known:
        with contextlib.suppress(OSError):
            write_bytes(str(path), msgspec.msgpack.encode(walk.folders), sync=False)
    return walk.found, walk.problems


class _Walk:
    """One look at a tree: ``known`` is what the index has, ``folders`` what it has to have."""

    def __init__(self, known: dict[str, Folder]) -> None:
        self.known = known
        self.folders: dict[str, Folder] = {}
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
                folder = self._listed(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                self.problems.append(f"{path}: {error.strerror}")
                continue
            except UnicodeEncodeError:
                self.problems.append(f"{path!a}: the name is no UTF-8")
                self.folders.pop(path.rpartition("/")[0], None)  # no index can hold a folder of such names
                continue
            self.folders[path] = folder if folder.source is None else self._read(path, folder)
            stack += [f"{path}/{name}" for name in folder.names]

    def _listed(self, path: str) -> Folder:
        """Return the folder as it is now, with what the index knows of its source."""
        stamp, known = self._stamp(os.stat(path)), self.known.get(path)  # noqa: PTH116 - 10,000 times
        if known and stamp and known.stamp == stamp:
            return known
        names, source = _listing(path)
        if known and known.source == source:
            return known._replace(stamp=stamp, names=names)
        return Folder(stamp, names, source)

    def _read(self, path: str, folder: Folder) -> Folder:
        """Return the folder with the facts of its source, which is read where it is not the one of the index."""
        name, facts = f"{path}/{folder.source}", None
        is_interview = folder.source == FILE
        try:
            if is_interview:
                found = os.stat(name)  # noqa: PTH116
                if not stat.S_ISREG(found.st_mode):  # a named pipe would never end
                    raise ValueError("is no file")
                seen = self._stamp(found)
            else:
                seen = stamp_of_repo(path, self._stamp)
            if seen and seen == folder.seen:
                with contextlib.suppress(msgspec.MsgspecError, RecursionError):
                    facts = msgspec.json.decode(folder.facts, type=Facts)
            if facts is None:
                folder = folder._replace(seen="", facts=b"")
                facts = read_facts(path, Path(name).read_bytes()) if is_interview else read_repo(path)
                if facts is None:
                    return folder
                folder = folder._replace(seen=seen, facts=msgspec.json.encode(facts))
        except FileNotFoundError:  # removed since the folder was read
            return folder
        except (OSError, ValueError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error) or type(error).__name__
            self.problems.append(f"{name}: {reason}".encode(errors="backslashreplace").decode())
            return folder
        self.found.append(facts)
        return folder

    def _stamp(self, facts: os.stat_result) -> str:
        """Return a text that changes with the file; empty where it changed so lately that it could change unseen."""
        newest = max(facts.st_ctime_ns, facts.st_mtime_ns)
        return "" if self.now - newest < TICK_NS else f"{facts.st_ino} {newest} {facts.st_size}"


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


def cache_folder(env: Mapping[str, str], home: Path) -> Path | None:
    """Return this user's folder for the index; None where there is none, or where others may write into it."""
    folder = Path(env.get("XDG_CACHE_HOME") or home / ".cache") / "hpc-agent"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.stat()
    except OSError:
        return None
    return folder if facts.st_uid == os.getuid() and not facts.st_mode & 0o022 else None
