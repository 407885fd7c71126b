"""The Python sources of somebody's repo: scripts, modules and notebooks, without what is not theirs."""

from __future__ import annotations

import ast
import os
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpc_agent.experiment.reading.pushed_tree import DEFAULT_IGNORES, IGNORE_FILE
from hpc_agent.experiment_kit.notebooks import code_cells

if TYPE_CHECKING:
    import pathspec

MAX_BYTES = 2 << 20
NOT_THEIRS = frozenset(
    "site-packages vendor _vendor vendored third_party third-party thirdparty node_modules build dist".split()
)


@dataclass(frozen=True)
class Source:
    """One file: its path from the root, and its bytes."""

    root: Path
    path: str
    data: bytes

    @property
    def is_notebook(self) -> bool:
        return self.path.endswith(".ipynb")

    def modules(self) -> list[tuple[int | None, ast.Module]]:
        """(cell, tree): the whole file, or each cell of a notebook. Raises SyntaxError and ValueError for what is no Python."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "invalid escape sequence" is their business
            if not self.is_notebook:
                return [(None, ast.parse(self.data, self.path))]
            return [(cell, ast.parse(text)) for cell, text in code_cells(self.data.decode("utf-8"))]

    def text(self) -> str:
        try:
            encoding, _ = tokenize.detect_encoding(iter(self.data.splitlines(keepends=True)).__next__)
            return self.data.decode(encoding)
        except (SyntaxError, UnicodeDecodeError, LookupError, StopIteration):
            return self.data.decode("utf-8", "replace")


def python_sources(root: Path, notes: list[str], words: tuple[bytes, ...] = (), start: str = "") -> Iterator[Source]:
    """Every .py and .ipynb below ``root`` (or its folder ``start``) that has one of ``words``, sorted by path.

    .gitignore (of every folder, as git reads it), .hpcignore and the built-in list are honoured; virtual environments, vendored
    trees, caches and hidden folders are left out; symbolic links to folders are not followed.
    """
    for path in _walk(root, start, [_spec(root, [*DEFAULT_IGNORES.splitlines(), *_lines(root / IGNORE_FILE)])]):
        relative = path.relative_to(root).as_posix()
        try:
            if path.stat().st_size > MAX_BYTES:
                notes.append(f"{relative} is larger than {MAX_BYTES >> 20} MiB and was not read")
                continue
            data = path.read_bytes()
        except OSError as error:
            notes.append(f"{relative} cannot be read: {error.strerror}")
            continue
        if not words or any(word in data for word in words):
            yield Source(root, relative, data)


Ignores = tuple[str, "pathspec.GitIgnoreSpec"]


def _walk(root: Path, start: str, ignores: list[Ignores]) -> Iterator[Path]:
    folder = root / start if start else root
    own = _lines(folder / ".gitignore")
    if own:
        ignores = [*ignores, _spec(folder, own)]
    try:
        items = sorted(os.scandir(folder), key=lambda item: item.name)
    except OSError:
        return
    names = {item.name for item in items}
    if start and ("pyvenv.cfg" in names or "conda-meta" in names):
        return
    for item in items:
        is_folder = item.is_dir(follow_symlinks=False)
        if is_folder and (item.name.startswith(".") or item.name in NOT_THEIRS):
            continue
        if not is_folder and not item.name.endswith((".py", ".ipynb")):
            continue
        if any(_ignored(base, spec, item.path, is_folder) for base, spec in ignores):
            continue
        if is_folder:
            yield from _walk(root, f"{start}/{item.name}" if start else item.name, ignores)
        elif item.is_file():
            yield Path(item.path)


def _ignored(base: str, spec: pathspec.GitIgnoreSpec, path: str, is_folder: bool) -> bool:
    return bool(spec.match_file(path[len(base) :] + ("/" if is_folder else "")))


def _spec(folder: Path, lines: list[str]) -> Ignores:
    import pathspec

    good = []
    for line in lines:
        try:
            pathspec.GitIgnoreSpec.from_lines([line])
        except ValueError:
            continue  # git leaves a pattern that it cannot read out as well
        good.append(line)
    return f"{folder}/", pathspec.GitIgnoreSpec.from_lines(good)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
