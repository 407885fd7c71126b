"""The hash of a repo's files, which names a snapshot: made of the repo on the client, of a snapshot on the cluster."""

import hashlib
import json
import os
from typing import Any, Dict, List, Optional

from .files import sha256_of

# What a snapshot has in .hpc beside the files of the repo.
_ADDED = ("_hpc_runtime", "_hpc_kit", "_hpc_dispatch.py", "templates", "__pycache__")


def tree_sha(entries: List[List[Any]]) -> str:
    """Return the hash of a manifest, whose entries are sorted by path.

    An entry is ["f", path, sha256, executable] for a file, ["l", path, target] for a symbolic link.
    """
    return hashlib.sha256(json.dumps(entries, ensure_ascii=True).encode("utf-8")).hexdigest()


def is_as_frozen(root: str, run: Dict[str, Any]) -> Optional[bool]:
    """Return True where the files of a run's snapshot have the hash that its document names; each of them is read.

    None: not known, because the snapshot is gone, or a file of it cannot be read, or the hash was not recorded.
    """
    name, sha = run.get("snapshot"), run.get("tree_sha")
    snapshot = os.path.join(root, "snapshots", name or "")
    try:
        return tree_sha(entries_of(snapshot)) == sha if name and sha and os.path.isdir(snapshot) else None
    except OSError:
        return None


def entries_of(snapshot: str) -> List[List[Any]]:
    """Return the manifest of a snapshot; each file is read."""
    entries = []  # type: List[List[Any]]
    for folder, folders, files in os.walk(snapshot):
        if folder == os.path.join(snapshot, ".hpc"):
            folders[:], files = ([name for name in names if name not in _ADDED] for names in (folders, files))
        for name in folders + files:
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, snapshot)
            if os.path.islink(path):
                entries.append(["l", relative, os.readlink(path)])
            elif name in files:
                facts = os.stat(path)
                entries.append(["f", relative, sha256_of(path, facts.st_size), bool(facts.st_mode & 0o100)])
    return sorted(entries, key=lambda entry: str(entry[1]))
