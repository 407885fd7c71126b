"""The Python sources of a repo: scripts, modules and notebooks, without ignored files and vendored trees."""

from __future__ import annotations

import ast
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hpc_agent.experiment.reading.pushed_tree import DEFAULT_IGNORES, IGNORE_FILE, IgnoreRules, ignore_rules, walk
from hpc_agent.experiment_kit.notebooks import code_cells

MAX_BYTES = 2 << 20
VENDORED = frozenset(
    "site-packages vendor _vendor vendored third_party third-party thirdparty node_modules build dist".split()
)
# The number of a notebook's cell (None for a file), and its syntax tree.
Cell = tuple[int | None, ast.Module]


@dataclass(frozen=True)
class Source:
    """One file: its path from the root, and its bytes."""

    root: Path
    path: str
    data: bytes

    @staticmethod
    def at(root: Path, path: str) -> Source | None:
        """Return the source at a path; None when there is no such file."""
        return Source(root, path, (root / path).read_bytes()) if (root / path).is_file() else None

    @property
    def is_notebook(self) -> bool:
        return self.path.endswith(".ipynb")

    def cells(self) -> list[Cell]:
        """Return the tree of the whole file, or of each cell of a notebook. Raises SyntaxError and ValueError."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as "invalid escape sequence"
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
    """Yield each .py and .ipynb below ``root`` (or its folder ``start``) that has one of ``words``, sorted by path.

    The rules of .gitignore (of every folder, as in git), .hpcignore and the built-in list apply. Virtual environments,
    vendored trees, caches and hidden folders are left out, and symbolic links to folders are not followed.
    """
    default = _readable_rules("", [*DEFAULT_IGNORES.split(), *_lines(root / IGNORE_FILE)])
    rules = _rules_inside(str(root / start), start, [default])
    for item, relative in walk(root, start, rules, _enter, (".py", ".ipynb")) if rules else ():
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


def _enter(folder: str, relative: str, rules: list[IgnoreRules]) -> list[IgnoreRules] | None:
    name = Path(folder).name
    return None if name.startswith(".") or name in VENDORED else _rules_inside(folder, relative, rules)


def _rules_inside(folder: str, relative: str, rules: list[IgnoreRules]) -> list[IgnoreRules] | None:
    """Return the rules with those of the folder's own .gitignore; None for an environment or an unreadable folder."""
    try:
        names = {path.name for path in Path(folder).iterdir()}
    except OSError:
        return None
    if relative and ("pyvenv.cfg" in names or "conda-meta" in names):
        return None
    own = _lines(Path(folder, ".gitignore")) if ".gitignore" in names else []
    return [*rules, _readable_rules(relative, own)] if own else rules


def _readable_rules(folder: str, lines: list[str]) -> IgnoreRules:
    """Return the rules of a folder. A line that is no pattern is left out, as in git."""
    good = []
    for line in lines:
        try:
            ignore_rules(folder, [line])
        except ValueError:
            continue
        good.append(line)
    return ignore_rules(folder, good)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
