"""The files of a repo without its ignored ones: the manifest of those that are pushed, and the Python sources."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment_kit.notebooks import code_cells
from hpc_agent.node.shared.files import sha256_of
from hpc_agent.node.shared.snapshot_tree import tree_sha
from hpc_agent.state.repo_files import save

if TYPE_CHECKING:
    import pathspec

IGNORE_FILE = ".hpcignore"
DEFAULT_IGNORES = """
.git/ .hg/ .svn/ .claude/ .venv/ venv/ .tox/ .nox/ node_modules/ __pycache__/ *.pyc .mypy_cache/ .ruff_cache/
.pytest_cache/ .ipynb_checkpoints/ *.egg-info/ .DS_Store .env /results/ /_combiner/ /clusters.yaml /.hpc/runs/
/.hpc/.gitignore /.hpc/_hpc_dispatch.py /.hpc/_hpc_runtime/ /.hpc/_hpc_kit/ /.hpc/runtimes/ /.hpc/.build-cache.json
/.hpc/templates/ /nohup.out /.hpc/axes.yaml /.hpc/campaigns/*/* !/.hpc/campaigns/*/prior.json /interview.json *.swp
"""
MAX_BYTES = 2 << 20
VENDORED = frozenset(
    "site-packages vendor _vendor vendored third_party third-party thirdparty node_modules build dist".split()
)
ENVIRONMENT = {"pyvenv.cfg", "conda-meta"}
OUTPUT: list[Any] = []  # in the place of a file's facts
# Patterns in the syntax of .gitignore, and the number of characters before the part of a path that they are about.
Rules = tuple["pathspec.GitIgnoreSpec", int]


def _patterns(lines: list[str]) -> pathspec.GitIgnoreSpec:
    """Return the patterns of the lines. Raises ValueError for a line that is no pattern."""
    import pathspec

    return pathspec.GitIgnoreSpec.from_lines(lines)


def _patterns_of(path: Path, lines: list[str]) -> pathspec.GitIgnoreSpec:
    """Return ``lines`` and those of a file as patterns. A line that is no pattern is left out, as in git."""
    with contextlib.suppress(OSError):
        lines = lines + path.read_text(encoding="utf-8", errors="replace").splitlines()
    good = []
    for line in lines:
        with contextlib.suppress(ValueError):
            _patterns([line])
            good.append(line)
    return _patterns(good)


def _walk(
    root: Path, folder: str, rules: list[Rules], only_python: bool = False
) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Yield each file and link below ``folder``, with its path from ``root``, in the order of names.

    With ``only_python`` every .gitignore counts, and hidden and vendored folders and environments are left out.
    """
    try:
        items = sorted(os.scandir(root / folder), key=lambda item: item.name)
    except OSError:
        if only_python:
            return
        raise
    names = {item.name for item in items} if only_python else set()
    if folder and names & ENVIRONMENT:
        return
    if ".gitignore" in names:
        rules = [*rules, (_patterns_of(root / folder / ".gitignore", []), len(folder) + 1 if folder else 0)]
    for item in items:
        relative = f"{folder}/{item.name}" if folder else item.name
        is_folder = item.is_dir(follow_symlinks=False)
        if only_python and is_folder and (item.name.startswith(".") or item.name in VENDORED):
            continue
        if only_python and not is_folder and not item.name.endswith((".py", ".ipynb")):
            continue
        shown = relative + "/" if is_folder else relative
        if any(patterns.match_file(shown[start:]) for patterns, start in rules):
            continue
        if is_folder:
            yield from _walk(root, relative, rules, only_python)
        else:
            yield item, relative


@dataclass(frozen=True)
class Source:
    """One file: its path from the root, and its bytes."""

    root: Path
    path: str
    data: bytes

    @property
    def is_notebook(self) -> bool:
        return self.path.endswith(".ipynb")

    def cells(self, notes: list[str]) -> list[tuple[int | None, ast.Module]]:
        """Return the tree of the file, or number and tree of each cell; none, and a note, when it cannot be read."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # such as "invalid escape sequence"
                if not self.is_notebook:
                    return [(None, ast.parse(self.data, self.path))]
                return [(cell, ast.parse(text)) for cell, text in code_cells(self.data.decode("utf-8"))]
        except SyntaxError as error:
            notes.append(f"{self.path}:{error.lineno or 0}: {error.msg}")
        except (ValueError, RecursionError, MemoryError) as error:
            notes.append(f"{self.path}: {error}")
        return []


def python_sources(root: Path, notes: list[str], words: tuple[bytes, ...] = (), start: str = "") -> Iterator[Source]:
    """Yield each .py and .ipynb below ``root`` (or its folder ``start``) that has one of ``words``, sorted by path.

    The rules of .gitignore (of every folder, as in git), .hpcignore and the built-in list apply. Virtual environments,
    vendored trees, caches and hidden folders are left out, and symbolic links to folders are not followed.
    """
    rules: list[Rules] = [(_patterns_of(root / IGNORE_FILE, DEFAULT_IGNORES.split()), 0)]
    above = reversed(PurePosixPath(start).parents) if start else ()
    rules += [(_patterns_of(root / one / ".gitignore", []), len(f"{one}/") if one.parts else 0) for one in above]
    for item, relative in _walk(root, start, rules, only_python=True):
        try:
            if not item.is_file():
                continue
            if item.stat().st_size > MAX_BYTES:
                notes.append(f"{relative} is larger than {MAX_BYTES >> 20} MiB and was not read")
                continue
            data = Path(item.path).read_bytes()
        except OSError as error:
            notes.append(f"{relative} cannot be read: {error.strerror}")
            continue
        if not words or any(word in data for word in words):
            yield Source(root, relative, data)


# ["f", path, sha256, executable] for a file, ["l", path, target] for a symbolic link; a line of the run's manifest.
TreeEntry = list[Any]


@dataclass(frozen=True)
class Tree:
    """The manifest of a repo, sorted by path; ``left_out``: files that hold the output of commands."""

    root: Path
    entries: list[TreeEntry]
    sizes: dict[str, int]
    sha: str
    left_out: list[str]

    def with_sizes(self) -> list[TreeEntry]:
        """Return the entries, those of files with the size that was hashed: a log may have grown when it is pushed."""
        return [[*entry, self.sizes[entry[1]]] if entry[0] == "f" else entry for entry in self.entries]

    def changed_since(self, base: list[TreeEntry] | None) -> list[str]:
        """Return the paths of the files whose content is not in ``base``."""
        known = {(e[1], e[2], e[3]) for e in base or [] if e[0] == "f"}
        return [e[1] for e in self.entries if e[0] == "f" and (e[1], e[2], e[3]) not in known]

    def files(self) -> dict[str, bool]:
        """Return the path of each regular file, and True for those that are executable."""
        return {e[1]: e[3] for e in self.entries if e[0] == "f"}


def scan_tree(root: Path, apart: list[str], cache_path: Path, outputs: Collection[tuple[int, int]] = ()) -> Tree:
    """Hash the repo without the paths in ``apart`` (shared ones, output folders) and the files ``outputs`` (device, inode).

    The hashes of unchanged files (size, times, inode) come from the cache. It also has the files that were outputs before:
    with them the same request would be another run.

    Raises SpecInvalid for a link that leads outside, and for a file that cannot be read or pushed.
    """
    cache: Any = {}
    with contextlib.suppress(OSError, ValueError, RecursionError):
        cache = json.loads(cache_path.read_bytes())
    cache = cache if isinstance(cache, dict) else {}
    own = root / IGNORE_FILE
    lines = own.read_text(encoding="utf-8").splitlines() if own.is_file() else []
    try:
        patterns = _patterns([*DEFAULT_IGNORES.split(), *lines, *(f"/{name}" for name in apart)])
    except ValueError as error:
        raise SpecInvalid(f"{own}: {error}", field=IGNORE_FILE) from error
    fresh: dict[str, list[Any]] = {}
    entries: list[TreeEntry] = []
    for item, relative in _walk(root, "", [(patterns, 0)]):
        if "\n" in relative or relative.encode("utf-8", "replace").decode() != relative:
            remedy = f"Rename it or list it in {IGNORE_FILE}, then run 'hpc-agent submit' again."
            raise SpecInvalid(f"the file name {relative!r} cannot be pushed (newline or not UTF-8)", remediation=remedy)
        path = Path(item.path)
        if item.is_symlink():
            entries.append(["l", relative, _target_inside(root, path, relative)])
        elif item.is_file(follow_symlinks=False):
            try:
                facts = path.stat()
            except FileNotFoundError:  # a temporary file of another program
                continue
            known = cache.get(relative)
            if known == OUTPUT or (facts.st_dev, facts.st_ino) in outputs:
                fresh[relative] = OUTPUT
                continue
            key = [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]
            sha = known[4] if known and known[:4] == key else _sha256(path, facts.st_size)
            fresh[relative] = [*key, sha]
            entries.append(["f", relative, sha, bool(facts.st_mode & 0o100)])
    entries.sort(key=lambda entry: str(entry[1]))
    if fresh != cache:
        save(cache_path, fresh)
    sizes = {name: facts[0] for name, facts in fresh.items() if facts}
    return Tree(root, entries, sizes, tree_sha(entries), [name for name, facts in fresh.items() if facts == OUTPUT])


def shared_files(root: Path, names: list[str]) -> dict[str, int]:
    """Return each regular file below the shared paths, relative to the repo, with its size in bytes."""
    found = [name for name in names if (root / name).is_file()]
    for name in names:
        for folder, _, files in os.walk(root / name):
            found += [str((Path(folder) / file).relative_to(root)) for file in files]
    return {name: (root / name).lstat().st_size for name in sorted(found)}


def _target_inside(root: Path, path: Path, relative: str) -> str:
    """Return the target of a symbolic link. Raises SpecInvalid for a target outside of the repo."""
    target = str(path.readlink())
    if Path(target).is_absolute() or not Path(os.path.normpath(path.parent / target)).is_relative_to(root):
        message, details = f"{relative} is a link to {target}, outside the repo", {"path": relative, "target": target}
        remedy = f"List {relative} in {IGNORE_FILE}, or add --shared-paths {relative} to 'hpc-agent submit'."
        raise SpecInvalid(message, field="shared_paths", remediation=remedy, details=details)
    return target


def _sha256(path: Path, size: int) -> str:
    try:
        return sha256_of(str(path), size)
    except PermissionError as error:
        remedy = f"Make it readable or list it in {IGNORE_FILE}, then run 'hpc-agent submit' again."
        raise SpecInvalid(f"{path} cannot be read", field=IGNORE_FILE, remediation=remedy) from error
