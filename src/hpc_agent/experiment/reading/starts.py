"""The words that start a script: by its package, its suffix, its first line (#!) or its executable bit."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment_kit.notebooks import parameters_cell

PYTHON = "python"
# Suffixes of scripts that an interpreter starts; a first line (#!) says it better.
INTERPRETERS: dict[str, tuple[str, ...]] = {
    ".py": (PYTHON,), ".r": ("Rscript",), ".jl": ("julia",), ".sh": ("bash",), ".bash": ("bash",), ".zsh": ("zsh",),
    ".csh": ("tcsh",), ".tcsh": ("tcsh",), ".fish": ("fish",), ".pl": ("perl",), ".rb": ("ruby",), ".js": ("node",),
    ".lua": ("lua",), ".jar": ("java", "-jar"), ".slurm": ("bash",), ".sbatch": ("bash",), ".sge": ("bash",),
}  # fmt: skip
# Folders of a repo that are no packages and hold packages.
SOURCE_FOLDERS = ("src", "lib", "python")
_HEAD_BYTES = 256
_ELF = b"\x7fELF"


@dataclass(frozen=True)
class Start:
    """The words that start a script; the word ``python`` stands for the interpreter of the tasks.

    ``path`` is a folder of the repo, for Python to import from; empty for the repo itself, which always is one.
    """

    words: tuple[str, ...]
    path: str = ""

    @property
    def is_python(self) -> bool:
        return self.words[0] == PYTHON

    def row(self) -> dict[str, Any] | None:
        """Return the entry of STARTS, which .hpc/cli.py reads; None for a Python script that needs no entry."""
        if self.words[:1] == (PYTHON,) and len(self.words) == 2 and not self.path:
            return None
        return {"words": list(self.words), **({"path": self.path} if self.path else {})}


def start_of(root: Path, path: str) -> Start:
    """Return how the script at ``path`` is started. Raises SpecInvalid with the reason when that cannot be told."""
    with (root / path).open("rb") as handle:
        head = handle.read(_HEAD_BYTES)
    interpreter = _of_first_line(head) or INTERPRETERS.get(PurePosixPath(path).suffix.lower())
    if interpreter and interpreter[0] == PYTHON:
        return _python_start(root, path)
    if interpreter:
        return Start((*interpreter, path))
    if os.access(root / path, os.X_OK) and head.startswith(_ELF):
        return Start((path,))
    if path.endswith(".ipynb"):
        with contextlib.suppress(ValueError, OSError, RecursionError):
            if parameters_cell((root / path).read_text(encoding="utf-8")) is not None:
                return Start((PYTHON, path))
        reason = "is a notebook without a cell tagged 'parameters'"
        remedy = (
            "Tag the cell that sets the parameters 'parameters', or put the work into a function with @register_run."
        )
    elif head.startswith(_ELF):
        reason, remedy = "is a program that may not be executed", f"Run 'chmod +x {path}', then call again."
    else:
        reason = "has neither a known suffix nor a first line such as '#!/usr/bin/env Rscript'"
        remedy = (
            "Add the first line that names its interpreter, or name the whole command: hpc-agent interview with an "
        )
        remedy += "entry_point of kind shell_command (see 'hpc-agent describe interview')."
    raise SpecInvalid(f"{path} cannot be started: it {reason}", field="executors", remediation=remedy)


def other_scripts(root: Path, folders: Iterable[str]) -> list[str]:
    """Return the scripts of languages other than Python that lie at the root or right in one of the folders."""
    files = [path for folder in ("", *folders) for path in sorted((root / folder).glob("*")) if path.is_file()]
    kinds = INTERPRETERS.keys() - {".py"}
    return [path.relative_to(root).as_posix() for path in files if path.suffix.lower() in kinds]


def module_of(root: Path, path: str) -> str | None:
    """Return the name with which ``python -m`` starts the script; None for a script that is started by its path."""
    with contextlib.suppress(SpecInvalid, OSError):
        words = start_of(root, path).words
        return words[2] if words[1:2] == ("-m",) else None
    return None


def console_start(path: str, function: str) -> Start:
    """Return how a command that the repo would install is started: ``path`` is its module, ``function`` is called."""
    parts = PurePosixPath(path).with_suffix("").parts
    folder = parts[0] if parts[0] in SOURCE_FOLDERS else ""
    module = ".".join(part for part in parts[bool(folder) :] if part != "__init__")
    code = f"import sys\nfrom {module} import {function}\nif __name__ == '__main__':\n    sys.exit({function}())"
    return Start((PYTHON, "-c", code), folder)


def _of_first_line(head: bytes) -> tuple[str, ...] | None:
    """Return the interpreter that ``#!`` names, found on the PATH of the cluster; None without such a line."""
    if not head.startswith(b"#!"):
        return None
    words = head[2:].partition(b"\n")[0].decode(errors="replace").split()
    if words and PurePosixPath(words[0]).name == "env":
        words = [word for word in words[1:] if word not in ("-S", "--split-string")]
        if words and "=" in words[0]:
            return ("env", *words)
    if not words:
        return None
    name = PurePosixPath(words[0]).name
    return (PYTHON,) if re.fullmatch(r"i?python[\d.]*w?", name) else (name, *words[1:])


def _python_start(root: Path, path: str) -> Start:
    """Return ``python -m`` for a module that imports from its own package, else ``python`` with the script's path."""
    parts = PurePosixPath(path).with_suffix("").parts
    try:
        tree = ast.parse((root / path).read_bytes())
    except (SyntaxError, ValueError):
        return Start((PYTHON, path))
    level, absolute = _imported(tree)
    top = _top(root, parts, level)
    if top is None:
        message = f"{path} cannot be started: it imports with a leading dot, and lies in no package"
        remedy = f"Write its imports without the dot, or move it into a folder of the repo; see line {_line(tree)} of {path}."
        raise SpecInvalid(message, field="executors", remediation=remedy)
    names = parts[top:]
    is_package = len(names) > 1
    beside = {name for name in absolute if _has(root.joinpath(*parts[:-1]), name)} - sys.stdlib_module_names
    alone = {name for name in beside if not _has(root.joinpath(*parts[:top]), name)}
    own = is_package and names[0] in absolute and not alone
    folder = "/".join(parts[:top])
    if is_package and (level or own or names[-1] == "__main__"):
        return Start((PYTHON, "-m", ".".join(names[:-1] if names[-1] == "__main__" else names)), folder)
    wanted = [name for name in absolute if name not in beside and not _has(root, name)]
    places = [*([folder] if is_package else []), *SOURCE_FOLDERS]
    found = next((place for place in places if any(_has(root / place, name) for name in wanted)), "")
    return Start((PYTHON, path), found)


def _imported(tree: ast.Module) -> tuple[int, set[str]]:
    """Return the most dots of a relative import, and the first names of the other imports."""
    nodes = list(ast.walk(tree))
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names = plain + [node.module or "" for node in froms if not node.level]
    return max((node.level for node in froms), default=0), {name.partition(".")[0] for name in names}


def _line(tree: ast.Module) -> int:
    return next(node.lineno for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level)


def _top(root: Path, parts: tuple[str, ...], level: int) -> int | None:
    """Return the number of leading ``parts`` above the script's outermost package; None if there are too few for ``level``.

    Without any __init__.py every folder down from the repo, or from its src, is a package where relative imports need it.
    """
    folders = len(parts) - 1
    top = folders
    while top and (root.joinpath(*parts[:top]) / "__init__.py").is_file():
        top -= 1
    if folders - top < level:
        top = 1 if parts[0] in SOURCE_FOLDERS and folders > level else 0
    return top if folders - top >= level else None


def _has(folder: Path, name: str) -> bool:
    """Return True when Python finds a module or a package called ``name`` in the folder."""
    return (folder / f"{name}.py").is_file() or any(_python_below(folder / name))


def _python_below(folder: Path) -> Iterator[Path]:
    return folder.glob("*.py") if folder.is_dir() else iter(())
