"""What is pushed: the repo's files without what nobody wants on a cluster, hashed by content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc_agent.errors import SpecInvalid
from hpc_agent.state.repo_files import save

if TYPE_CHECKING:
    import pathspec

IGNORE_FILE = ".hpcignore"
DEFAULT_IGNORES = """
.git/
.hg/
.svn/
.claude/
.venv/
venv/
.tox/
.nox/
node_modules/
__pycache__/
*.pyc
.mypy_cache/
.ruff_cache/
.pytest_cache/
.ipynb_checkpoints/
*.egg-info/
.DS_Store
.env
/results/
/_combiner/
/clusters.yaml
/.hpc/runs/
/.hpc/.gitignore
/.hpc/_hpc_dispatch.py
/.hpc/_hpc_runtime/
/.hpc/_hpc_kit/
/.hpc/runtimes/
/.hpc/.build-cache.json
/.hpc/templates/
/interview.json
*.swp
"""

Entry = list[Any]


@dataclass(frozen=True)
class Tree:
    """The manifest of a repo: ["f", path, sha256, executable] or ["l", path, target], sorted by path."""

    root: Path
    entries: list[Entry]
    sizes: dict[str, int]
    sha: str

    def changed_since(self, base: list[Entry] | None) -> list[str]:
        """Paths of the files whose content is not in ``base``."""
        known = {(e[1], e[2], e[3]) for e in base or [] if e[0] == "f"}
        return [e[1] for e in self.entries if e[0] == "f" and (e[1], e[2], e[3]) not in known]

    def files(self) -> dict[str, bool]:
        """Path -> executable, for every regular file."""
        return {e[1]: e[3] for e in self.entries if e[0] == "f"}


def scan_tree(root: Path, shared: list[str], cache_path: Path) -> Tree:
    """Hash the repo. Unchanged files (size, times, inode) come from the cache. Raises SpecInvalid for a link that leads
    outside.
    """
    spec = _ignores(root, shared)
    cache = _load_cache(cache_path)
    fresh: dict[str, list[Any]] = {}
    entries: list[Entry] = []
    sizes: dict[str, int] = {}
    for path, relative in _walk(root, root, spec):
        if path.is_symlink():
            entries.append(["l", relative, _inside(root, path, relative)])
            continue
        facts = path.stat()
        key = [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]
        known = cache.get(relative)
        sha = known[4] if known and known[:4] == key else _sha256(path)
        fresh[relative] = [*key, sha]
        sizes[relative] = facts.st_size
        entries.append(["f", relative, sha, bool(facts.st_mode & 0o100)])
    entries.sort(key=lambda entry: str(entry[1]))
    if fresh != cache:
        save(cache_path, fresh)
    digest = hashlib.sha256(json.dumps(entries, ensure_ascii=True).encode()).hexdigest()
    return Tree(root, entries, sizes, digest)


def shared_files(root: Path, names: list[str]) -> list[str]:
    """Every regular file below the shared paths, relative to the repo."""
    found: list[str] = []
    for name in names:
        path = root / name
        if path.is_file():
            found.append(name)
        for folder, _, files in os.walk(path):
            found += [str((Path(folder) / file).relative_to(root)) for file in files]
    return sorted(found)


def _ignores(root: Path, shared: list[str]) -> pathspec.GitIgnoreSpec:
    import pathspec

    lines = DEFAULT_IGNORES.splitlines()
    own = root / IGNORE_FILE
    if own.is_file():
        lines += own.read_text(encoding="utf-8").splitlines()
    lines += [f"/{name}" for name in shared]
    try:
        return pathspec.GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise SpecInvalid(f"{own}: {error}", field=IGNORE_FILE) from error


def _walk(root: Path, folder: Path, spec: pathspec.GitIgnoreSpec) -> Iterator[tuple[Path, str]]:
    for item in sorted(os.scandir(folder), key=lambda e: e.name):
        path = Path(item.path)
        relative = path.relative_to(root).as_posix()
        is_folder = item.is_dir(follow_symlinks=False)
        if spec.match_file(relative + "/" if is_folder else relative):
            continue
        if "\n" in relative or _undecodable(relative):
            raise SpecInvalid(
                f"the file name {relative!r} cannot be pushed (newline or not UTF-8)",
                remediation=f"Rename it or list it in {IGNORE_FILE}, then run 'hpc-agent submit' again.",
            )
        if is_folder:
            yield from _walk(root, path, spec)
        elif item.is_symlink() or item.is_file(follow_symlinks=False):
            yield path, relative


def _undecodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _inside(root: Path, path: Path, relative: str) -> str:
    """The target of a symbolic link that stays inside the repo."""
    target = str(path.readlink())
    resolved = Path(os.path.normpath(path.parent / target))
    if Path(target).is_absolute() or not resolved.is_relative_to(root):
        raise SpecInvalid(
            f"{relative} is a link to {target}, outside the repo",
            field="shared_paths",
            remediation=f"List {relative} in {IGNORE_FILE}, or add --shared-paths {relative} to 'hpc-agent submit'.",
            details={"path": relative, "target": target},
        )
    return target


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as handle:
            return _digest(handle)
    except PermissionError as error:
        raise SpecInvalid(
            f"{path} cannot be read",
            field=IGNORE_FILE,
            remediation=f"Make it readable or list it in {IGNORE_FILE}, then run 'hpc-agent submit' again.",
        ) from error


def _digest(handle: Any) -> str:
    digest = hashlib.sha256()
    for chunk in iter(lambda: handle.read(1 << 20), b""):
        digest.update(chunk)
    return digest.hexdigest()


def _load_cache(path: Path) -> dict[str, list[Any]]:
    try:
        cache = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return cache if isinstance(cache, dict) else {}
