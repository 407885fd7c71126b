"""Files that a verb writes and a person may edit: written once, kept while equal, never overwritten unasked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from hpc_agent.errors import SpecInvalid
from hpc_agent.node.shared.files import remove_quietly, sync_folder

Compared = Literal["missing", "same", "differs"]


def write_generated(path: Path, text: str, force: bool, root: Path | None = None) -> Literal["written", "kept"]:
    """Write ``text`` as UTF-8 unless the file holds it already; missing folders are made, an existing mode is kept.

    A symbolic link inside the repo is followed. ``root`` is the repo; by default the nearest folder above ``path`` that
    holds ``.hpc`` or ``.git``, else the nearest that exists.
    Raises SpecInvalid when the file differs and ``force`` is false, when the path is a folder or lies below a file, and
    when a link leads out of the repo. Readers see the old file or the new one.
    """
    state = compare_generated(path, text, root)
    if state == "same":
        return "kept"
    if state == "differs" and not force:
        raise edited(path)
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    _replace(target, text.encode())
    return "written"


def compare_generated(path: Path, text: str, root: Path | None = None) -> Compared:
    """How the file stands to ``text``; nothing is written. Raises SpecInvalid as ``write_generated`` does for bad paths."""
    target = _inside(path, root or _repo_of(path))
    if not target.exists():
        _check_parents(path, target)
        return "missing"
    if not target.is_file():
        raise SpecInvalid(f"{path} is not a regular file", field="path", remediation=_elsewhere(path))
    return "same" if target.read_bytes() == text.encode() else "differs"


def edited(path: Path) -> SpecInvalid:
    """The refusal to overwrite what somebody may have edited."""
    return SpecInvalid(
        f"{path} exists with other content; it is replaced only with --force",
        field="force",
        remediation=f"Look at {path}; then run the same 'hpc-agent' command with --force to replace it, or move it away.",
        details={"path": str(path)},
    )


def _repo_of(path: Path) -> Path:
    folders = [folder for folder in path.absolute().parents if folder.is_dir()]
    return next((f for f in folders if (f / ".hpc").is_dir() or (f / ".git").exists()), folders[0])


def _inside(path: Path, root: Path) -> Path:
    """Where ``path`` leads, links followed. Raises SpecInvalid when that is not below ``root``."""
    try:
        target = path.resolve()
    except (RuntimeError, OSError) as error:  # a loop of links; a RuntimeError before Python 3.13
        raise SpecInvalid(f"{path} cannot be followed: {error}", field="path", remediation=_elsewhere(path)) from error
    if target.is_symlink() or not target.is_relative_to(root.resolve()):
        raise SpecInvalid(
            f"{path} leads to {target}, outside {root}",
            field="path",
            remediation=_elsewhere(path),
            details={"path": str(path), "target": str(target)},
        )
    return target


def _check_parents(path: Path, target: Path) -> None:
    above = next(folder for folder in target.parents if folder.exists())
    if not above.is_dir():
        raise SpecInvalid(f"{path} cannot be made: {above} is a file", field="path", remediation=_elsewhere(above))


def _elsewhere(path: Path) -> str:
    return f"Move {path} away, then run the same 'hpc-agent' command again."


def _replace(target: Path, data: bytes) -> None:
    temporary = f"{target}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            if target.exists():
                os.fchmod(descriptor, target.stat().st_mode & 0o7777)
            handle.flush()
            os.fsync(descriptor)
        Path(temporary).replace(target)
    except OSError:
        remove_quietly(temporary)
        raise
    sync_folder(str(target.parent))
