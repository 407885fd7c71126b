"""Files that a verb writes and a person may edit: an equal file is kept, an edited one is replaced only with force."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from hpc_agent.errors import SpecInvalid
from hpc_agent.node.shared.files import write_bytes

Compared = Literal["missing", "same", "differs"]


def write_generated(path: Path, text: str, force: bool, root: Path | None = None) -> Literal["written", "kept"]:
    """Write ``text`` as UTF-8 unless the file is equal; missing folders are made, and an existing mode is kept.

    A link inside the repo is followed, and the file replaced by a rename. ``root`` is the repo; by default the nearest
    folder above ``path`` that holds ``.hpc`` or ``.git``, else the nearest that exists. Raises SpecInvalid without
    ``force`` when the file differs, for a folder, for a path below a file, and for a link that leads out of the repo.
    """
    state = compare_generated(path, text, root)
    if state == "same":
        return "kept"
    if state == "differs" and not force:
        raise edited(path)
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(str(target), text.encode(), mode=0o666, keep_mode=True)
    return "written"


def compare_generated(path: Path, text: str, root: Path | None = None) -> Compared:
    """Compare the file with ``text``. Raises SpecInvalid for the paths that ``write_generated`` refuses."""
    folders = [folder for folder in path.absolute().parents if folder.is_dir()]
    root = root or next((f for f in folders if (f / ".hpc").is_dir() or (f / ".git").exists()), folders[0])
    try:
        target = path.resolve()
    except (RuntimeError, OSError) as error:  # a loop of links; a RuntimeError before Python 3.13
        raise _bad_path(f"{path} cannot be followed: {error}", path) from error
    if target.is_symlink() or not target.is_relative_to(root.resolve()):
        details = {"path": str(path), "target": str(target)}
        raise _bad_path(f"{path} leads to {target}, outside {root}", path, details)
    above = next(folder for folder in target.parents if folder.exists())
    if not above.is_dir():
        raise _bad_path(f"{path} cannot be made: {above} is a file", above)
    if not target.exists():
        return "missing"
    if not target.is_file():
        raise _bad_path(f"{path} is not a regular file", path)
    return "same" if target.read_bytes() == text.encode() else "differs"


def edited(path: Path) -> SpecInvalid:
    """Return the error for a file that a person may have edited."""
    message = f"{path} exists with other content; it is replaced only with --force"
    remedy = f"Look at {path}; then run the same 'hpc-agent' command with --force to replace it, or move it away."
    return SpecInvalid(message, field="force", remediation=remedy, details={"path": str(path)})


def _bad_path(message: str, path: Path, details: dict[str, str] | None = None) -> SpecInvalid:
    remediation = f"Move {path} away, then run the same 'hpc-agent' command again."
    return SpecInvalid(message, field="path", remediation=remediation, details=details)
