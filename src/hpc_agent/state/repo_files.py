"""The files of an experiment repo that hpc-agent keeps: their paths, atomic writes, locks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from hpc_agent.errors import PreconditionFailed, SpecInvalid
from hpc_agent.node.shared.files import write_json

HPC_DIR = ".hpc"
RUNS_SUBDIR = "runs"
TASKS_FILENAME = "tasks.py"
_OTHER_PATH = "Name another path, then run the same hpc-agent command again."
IDENTIFIER = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")


@dataclass(frozen=True)
class RepoLayout:
    """The files that hpc-agent knows in an experiment repo."""

    root: Path

    @property
    def hpc(self) -> Path:
        return self.root / HPC_DIR

    @property
    def tasks(self) -> Path:
        return self.hpc / TASKS_FILENAME

    @property
    def runs(self) -> Path:
        return self.hpc / RUNS_SUBDIR

    def sidecar(self, run_id: str) -> Path:
        return self.runs / f"{check_identifier(run_id, 'run_id')}.json"

    def aggregate(self, run_id: str) -> Path:
        return self.root / "results" / check_identifier(run_id, "run_id")

    @property
    def repo_hash(self) -> str:
        """Return the first 12 hex digits of the SHA-256 of the resolved path."""
        return hashlib.sha256(str(self.root.resolve()).encode()).hexdigest()[:12]

    @property
    def remote_name(self) -> str:
        """Return the repo's folder name on a cluster: ASCII, with 8 hex digits of the path's hash."""
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", self.root.resolve().name).strip("-.")[:40] or "repo"
        return f"{name}-{self.repo_hash[:8]}"


def check_identifier(value: str, field: str) -> str:
    """Return ``value`` when paths and job names may hold it. Raises SpecInvalid."""
    if not IDENTIFIER.fullmatch(value):
        rule = "letters, digits, '.', '_' and '-', at most 100, starting with a letter or digit"
        raise SpecInvalid(f"{value!r} is not an identifier: {rule}", field=field)
    return value


def local_path(base: Path, text: str, field: str, is_folder: bool = False) -> Path:
    """Return the path that ``text`` names below ``base``, with links resolved. Nothing needs to be there.

    Raises SpecInvalid, which names ``field``: a path that is too long, a loop of links, a file where a folder has to be
    (above the path, and with ``is_folder`` the path itself).
    """
    try:
        # ./~x is a plain name: Path would drop the dot before it looks for a user x
        expanded = os.path.expanduser(text)  # noqa: PTH111
        if expanded.startswith("~"):
            raise RuntimeError("there is no such user")
        path = (base / expanded).resolve()
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISDIR(path.stat().st_mode) and is_folder:
                raise NotADirectoryError(errno.ENOTDIR, "it is a file, not a folder")
    except (OSError, RuntimeError) as error:
        shown = text if len(text) < 200 else f"{text[:100]}... ({len(text)} characters)"
        reason = error.strerror if isinstance(error, OSError) else error
        raise SpecInvalid(
            f"{shown} cannot be used as a path: {reason}", field=field, remediation=_OTHER_PATH
        ) from error
    return path


def experiment_root(cwd: Path, experiment_dir: str, field: str = "experiment_dir") -> RepoLayout:
    """Return the repo at ``experiment_dir`` below ``cwd``. Raises SpecInvalid when the folder does not exist."""
    root = local_path(cwd, experiment_dir, field, is_folder=True)
    if not root.is_dir():
        raise SpecInvalid(f"there is no folder {root}", field=field, remediation=_OTHER_PATH)
    return RepoLayout(root)


def save(path: Path, value: Any) -> None:
    """Write ``value`` as JSON, durably: a reader gets the old document or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(str(path), msgspec.to_builtins(value))


@contextlib.contextmanager
def locked(path: Path, wait_sec: float, purpose: str) -> Iterator[None]:
    """Hold an exclusive lock on a file or folder. Raises PreconditionFailed, which names ``purpose``, after ``wait_sec``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        deadline = time.monotonic() + wait_sec
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    message = f"another process has been busy with {purpose} for {wait_sec:.0f} s"
                    remedy = "Wait until that process has ended, then run the same 'hpc-agent' command again."
                    raise PreconditionFailed(message, remediation=remedy) from None
                time.sleep(0.05)
        yield
    finally:
        os.close(handle)
