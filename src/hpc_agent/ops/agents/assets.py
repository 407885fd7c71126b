"""The files for Claude Code (commands, skills, an agent, a hook): installed below ``~/.claude``, and removed again.

A manifest holds the hash of every installed file. Only a file with such a hash is replaced or removed: one that a person
changed stays. The manifest names the new hashes before the files are written, so that a kill between two files is healed by
the next call.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from hpc_agent._version import __version__
from hpc_agent.contract.vocabulary import doc
from hpc_agent.errors import PreconditionFailed
from hpc_agent.node.shared.files import read_bytes, write_bytes, write_json
from hpc_agent.state.repo_files import local_path, locked

SOURCE = Path(__file__).resolve().parents[2] / "slash_commands"
FOLDERS = ("commands", "skills", "agents", "hooks")
MANIFEST = "hpc-agent-assets.json"
LOCK_SEC = 20.0
NOT_INSTALLED = ("hooks/hooks.json",)  # for the plugin: setup leaves the user's own settings alone
# Of a path that a person has to correct; any other error, such as a full disk, is told as it is everywhere.
_UNUSABLE = (
    errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG,
)  # fmt: skip
State = Literal["written", "updated", "unchanged", "kept", "removed"]


class Kept(msgspec.Struct, frozen=True):
    """A file that was left as it is."""

    path: str
    reason: str


class Assets(msgspec.Struct, kw_only=True):
    """What became of the files for Claude Code."""

    claude_dir: str
    commands_installed: Annotated[list[str], doc("slash commands that are there now")] = []
    skills_installed: list[str] = []
    agents_installed: list[str] = []
    hooks_installed: list[str] = []
    wrote: Annotated[list[str], doc("files that were written or updated, below claude_dir")] = []
    removed: Annotated[list[str], doc("files of an earlier version, or by --uninstall")] = []
    kept: Annotated[list[Kept], doc("files with changes of yours, which stay; --force takes the new ones")] = []


class _Manifest(msgspec.Struct):
    """The hashes that each installed file may have (two while it is replaced), and the folders that were made."""

    files: dict[str, list[str]] = {}
    folders: list[str] = []
    version: str = __version__


def package_files() -> dict[str, bytes]:
    """Return the files to install, by their path below ``~/.claude``."""
    found = {}
    for folder in FOLDERS:
        for path in sorted((SOURCE / folder).rglob("*")):
            name = path.relative_to(SOURCE).as_posix()
            if path.is_file() and name not in NOT_INSTALLED and "__pycache__" not in path.parts:
                found[name] = path.read_bytes()
    return found


def claude_dir_of(given: str | None, env_dir: str | None, home: Path, cwd: Path) -> Path:
    """Return the folder of Claude Code: the given one, ``CLAUDE_CONFIG_DIR``, else ``~/.claude``."""
    if given or env_dir:
        return local_path(cwd, given or env_dir or "", "claude_dir", is_folder=True)
    return home / ".claude"


@dataclass
class Installation:
    """The files below one folder of Claude Code; with ``dry_run`` nothing is written."""

    root: Path
    dry_run: bool = False
    force: bool = False
    manifest: _Manifest = field(default_factory=_Manifest)
    states: dict[str, State] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def install(self) -> Assets:
        """Write what is missing, update what is unchanged, leave what a person changed."""
        files = package_files()
        with self._reading_paths(), self._locked():
            self._read_manifest()
            for name, data in files.items():
                self.states[name] = self._state(name, data)
            old = [name for name in self.manifest.files if name not in files]
            changed = [name for name, state in self.states.items() if state in ("written", "updated")]
            if not self.dry_run:
                self._write(files, changed)
            for name in old:
                self._remove(name)
            if not self.dry_run:
                self._settle(files)
        return self._result(files)

    def uninstall(self) -> Assets:
        """Remove the installed files that nobody changed, the folders that were made for them, and the manifest."""
        if not self.root.is_dir():
            return self._result({})
        with self._reading_paths(), self._locked():
            self._read_manifest()
            for name in list(self.manifest.files):
                self._remove(name)
            if not self.dry_run:
                for folder in sorted(self.manifest.folders, reverse=True):
                    with contextlib.suppress(OSError):
                        (self.root / folder).rmdir()
                (self.root / MANIFEST).unlink(missing_ok=True)
        return self._result({})

    def _state(self, name: str, data: bytes) -> State:
        path = self.root / name
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(path.stat().st_mode):  # a loop of links raises here
                raise FileExistsError(errno.EEXIST, "it is no file", str(path))
        present = read_bytes(str(path))
        if present is None:
            if path.exists():
                raise PermissionError(errno.EACCES, "it cannot be read", str(path))
            return "written"
        if present == data:
            return "unchanged"
        if _sha(present) in self.manifest.files.get(name, []) or self.force:
            return "updated"
        known = name in self.manifest.files
        self.reasons[name] = "you changed it" if known else "it was there before, with other content"
        return "kept"

    def _write(self, files: dict[str, bytes], changed: list[str]) -> None:
        """Write the changed files: first the hashes that they may have, then each of them by a rename."""
        for name in changed:
            self.manifest.files[name] = [*self.manifest.files.get(name, []), _sha(files[name])]
            parents = [parent.as_posix() for parent in Path(name).parents][:-1]
            missing = [folder for folder in parents if not (self.root / folder).exists()]
            self.manifest.folders += [folder for folder in missing if folder not in self.manifest.folders]
        if changed:
            self._save_manifest()
        for name in changed:
            target = (self.root / name).resolve()  # a link into a person's own repo stays a link
            target.parent.mkdir(parents=True, exist_ok=True)
            if self.states[name] == "updated" and self.force:
                self._save_aside(name, target)
            mode = 0o755 if name.startswith("hooks/") else 0o644
            write_bytes(str(target), files[name], mode=mode)

    def _save_aside(self, name: str, target: Path) -> None:
        """Keep a copy of a file with changes, which ``force`` replaces."""
        present = target.read_bytes()
        if _sha(present) in self.manifest.files[name][:-1]:
            return
        number = 0
        while (copy := target.with_name(f"{target.name}.mine{number or ''}")).exists():
            number += 1
        write_bytes(str(copy), present)

    def _remove(self, name: str) -> None:
        """Remove a file with a hash of the manifest; another one is kept."""
        path = self.root / name
        present = read_bytes(str(path))
        if present is None:
            return
        if _sha(present) in self.manifest.files[name]:
            self.states[name] = "removed"
            if not self.dry_run:
                path.unlink()
        else:
            self.states[name], self.reasons[name] = "kept", "you changed it"

    def _settle(self, files: dict[str, bytes]) -> None:
        """Write the manifest as it holds from now on. A kept file keeps its old hashes: changed back, it is ours again."""
        ours = {name: [_sha(data)] for name, data in files.items() if self.states[name] != "kept"}
        kept = {name: hashes for name, hashes in self.manifest.files.items() if self.states.get(name) == "kept"}
        settled = _Manifest(files={**kept, **ours}, folders=self.manifest.folders)
        if settled != self._on_disk():
            self.manifest = settled
            self._save_manifest()

    def _on_disk(self) -> _Manifest | None:
        try:
            return msgspec.json.decode((self.root / MANIFEST).read_bytes(), type=_Manifest)
        except (OSError, msgspec.DecodeError, RecursionError):
            return None

    def _read_manifest(self) -> None:
        """Read the manifest. Without a readable one no file counts as installed: other content stays."""
        self.manifest = self._on_disk() or _Manifest()

    def _save_manifest(self) -> None:
        write_json(str(self.root / MANIFEST), msgspec.to_builtins(self.manifest))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold a lock on the folder itself: two calls at once do one after the other."""
        if not self.root.is_dir() and os.path.lexists(self.root):
            what = "it is a link to a folder that is not there" if self.root.is_symlink() else "it is no folder"
            raise NotADirectoryError(errno.ENOTDIR, what, str(self.root))
        if self.dry_run and not self.root.is_dir():
            yield
            return
        self.root.mkdir(parents=True, exist_ok=True)
        with locked(self.root, LOCK_SEC, f"the files in {self.root}"):
            yield

    @contextlib.contextmanager
    def _reading_paths(self) -> Iterator[None]:
        """Turn a path that cannot be used into an error that names it."""
        try:
            yield
        except OSError as error:
            if error.errno not in _UNUSABLE:
                raise
            # a rename names its temporary file first
            message = f"{error.filename2 or error.filename or self.root} cannot be used: {error.strerror}"
            remedy = "Correct that path, or name another folder with --claude-dir; then run the same 'hpc-agent' command again."
            raise PreconditionFailed(message, field="claude_dir", remediation=remedy) from error

    def _result(self, files: dict[str, bytes]) -> Assets:
        def there(folder: str) -> list[str]:
            """Return the names below a folder: of a command its word, of a skill its folder."""
            names = {Path(name).parts[1] for name in files if name.startswith(f"{folder}/")}
            return sorted(name.removesuffix(".md") for name in names)

        def in_state(*wanted: State) -> list[str]:
            return sorted(name for name, state in self.states.items() if state in wanted)

        return Assets(
            claude_dir=str(self.root),
            commands_installed=[f"/{name}" for name in there("commands")],
            skills_installed=there("skills"),
            agents_installed=there("agents"),
            hooks_installed=there("hooks"),
            wrote=in_state("written", "updated"),
            removed=in_state("removed"),
            kept=[Kept(str(self.root / name), self.reasons[name]) for name in in_state("kept")],
        )


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
