"""The walk over a repo without its ignored files, and the manifest of the files that are pushed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hpc_agent.errors import SpecInvalid
from hpc_agent.state.repo_files import save

if TYPE_CHECKING:
    import pathspec

IGNORE_FILE = ".hpcignore"
DEFAULT_IGNORES = """
.git/ .hg/ .svn/ .claude/ .venv/ venv/ .tox/ .nox/ node_modules/ __pycache__/ *.pyc .mypy_cache/ .ruff_cache/
.pytest_cache/ .ipynb_checkpoints/ *.egg-info/ .DS_Store .env /results/ /_combiner/ /clusters.yaml /.hpc/runs/
/.hpc/.gitignore /.hpc/_hpc_dispatch.py /.hpc/_hpc_runtime/ /.hpc/_hpc_kit/ /.hpc/runtimes/ /.hpc/.build-cache.json
/.hpc/templates/ /interview.json *.swp
"""


class IgnoreRules(NamedTuple):
    """Patterns in the syntax of .gitignore for the paths below ``folder``, which is relative to the repo."""

    folder: str
    patterns: pathspec.GitIgnoreSpec

    def match(self, path: str, is_folder: bool) -> bool:
        below = path[len(self.folder) + 1 :] if self.folder else path
        return bool(self.patterns.match_file(below + ("/" if is_folder else "")))


# (folder, its path from the root, the rules around it) -> the rules inside; None for a folder that is left out.
EnterFolder = Callable[[str, str, list[IgnoreRules]], list[IgnoreRules] | None]


def ignore_rules(folder: str, lines: list[str]) -> IgnoreRules:
    """Return the rules that these lines are. Raises ValueError for a line that is no pattern."""
    import pathspec

    return IgnoreRules(folder, pathspec.GitIgnoreSpec.from_lines(lines))


def walk(
    root: Path,
    start: str,
    rules: list[IgnoreRules],
    enter: EnterFolder = lambda _folder, _relative, rules: rules,
    suffixes: tuple[str, ...] = ("",),
) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Yield each file and symbolic link below ``start``, with its path from ``root``, in the order of names."""
    for item in sorted(os.scandir(root / start), key=lambda item: item.name):
        relative = f"{start}/{item.name}" if start else item.name
        is_folder = item.is_dir(follow_symlinks=False)
        if not is_folder and not item.name.endswith(suffixes):
            continue
        if any(rule.match(relative, is_folder) for rule in rules):
            continue
        if not is_folder:
            yield item, relative
            continue
        inner = enter(item.path, relative, rules)
        if inner is not None:
            yield from walk(root, relative, inner, enter, suffixes)


# ["f", path, sha256, executable] for a file, ["l", path, target] for a symbolic link; a line of the run's manifest.
TreeEntry = list[Any]


@dataclass(frozen=True)
class Tree:
    """The manifest of a repo, sorted by path."""

    root: Path
    entries: list[TreeEntry]
    sizes: dict[str, int]
    sha: str

    def changed_since(self, base: list[TreeEntry] | None) -> list[str]:
        """Return the paths of the files whose content is not in ``base``."""
        known = {(e[1], e[2], e[3]) for e in base or [] if e[0] == "f"}
        return [e[1] for e in self.entries if e[0] == "f" and (e[1], e[2], e[3]) not in known]

    def files(self) -> dict[str, bool]:
        """Return the path of each regular file, and True for those that are executable."""
        return {e[1]: e[3] for e in self.entries if e[0] == "f"}


def scan_tree(root: Path, shared: list[str], cache_path: Path) -> Tree:
    """Hash the repo. The hashes of unchanged files (size, times, inode) come from the cache.

    Raises SpecInvalid for a link that leads outside, and for a file that cannot be read or pushed.
    """
    cache = _load_cache(cache_path)
    fresh: dict[str, list[Any]] = {}
    entries: list[TreeEntry] = []
    for item, relative in walk(root, "", [_push_rules(root, shared)]):
        _check_name(relative)
        path = Path(item.path)
        if item.is_symlink():
            entries.append(["l", relative, _target_inside(root, path, relative)])
        elif item.is_file(follow_symlinks=False):
            facts = path.stat()
            key = [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]
            known = cache.get(relative)
            sha = known[4] if known and known[:4] == key else _sha256(path)
            fresh[relative] = [*key, sha]
            entries.append(["f", relative, sha, bool(facts.st_mode & 0o100)])
    entries.sort(key=lambda entry: str(entry[1]))
    if fresh != cache:
        save(cache_path, fresh)
    digest = hashlib.sha256(json.dumps(entries, ensure_ascii=True).encode()).hexdigest()
    return Tree(root, entries, {name: facts[0] for name, facts in fresh.items()}, digest)


def shared_files(root: Path, names: list[str]) -> list[str]:
    """Return each regular file below the shared paths, relative to the repo."""
    found = [name for name in names if (root / name).is_file()]
    for name in names:
        for folder, _, files in os.walk(root / name):
            found += [str((Path(folder) / file).relative_to(root)) for file in files]
    return sorted(found)


def _push_rules(root: Path, shared: list[str]) -> IgnoreRules:
    own = root / IGNORE_FILE
    lines = DEFAULT_IGNORES.split()
    lines += own.read_text(encoding="utf-8").splitlines() if own.is_file() else []
    try:
        return ignore_rules("", [*lines, *(f"/{name}" for name in shared)])
    except ValueError as error:
        raise SpecInvalid(f"{own}: {error}", field=IGNORE_FILE) from error


def _check_name(relative: str) -> None:
    try:
        relative.encode()
    except UnicodeEncodeError:
        fits = False
    else:
        fits = "\n" not in relative
    if not fits:
        raise SpecInvalid(
            f"the file name {relative!r} cannot be pushed (newline or not UTF-8)",
            remediation=f"Rename it or list it in {IGNORE_FILE}, then run 'hpc-agent submit' again.",
        )


def _target_inside(root: Path, path: Path, relative: str) -> str:
    """Return the target of a symbolic link. Raises SpecInvalid for a target outside of the repo."""
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
    digest = hashlib.sha256()
    try:
        with path.open("rb") as handle:
            while chunk := handle.read(1 << 20):
                digest.update(chunk)
    except PermissionError as error:
        raise SpecInvalid(
            f"{path} cannot be read",
            field=IGNORE_FILE,
            remediation=f"Make it readable or list it in {IGNORE_FILE}, then run 'hpc-agent submit' again.",
        ) from error
    return digest.hexdigest()


def _load_cache(path: Path) -> dict[str, list[Any]]:
    try:
        cache = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return cache if isinstance(cache, dict) else {}
