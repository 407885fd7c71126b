"""``.hpc/tasks.py`` as hpc-agent writes it: readable, the same bytes every time, and told apart from what a person edited."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpc_agent.experiment.grid.literals import literal
from hpc_agent.experiment.grid.task_source import MANIFEST, TaskSource
from hpc_agent.experiment.writing.generated_file import compare_generated, edited, write_generated
from hpc_agent.infra.backends import TEMPLATES
from hpc_agent.state.repo_files import RepoLayout

CLI = "cli.py"
CLI_SOURCE = TEMPLATES / "scaffolds" / "cli.py"
DEFAULT_PYTHON = "python3"
_SIGNATURE = re.compile(r"^# Written by hpc-agent \(([0-9a-f]{12})\)[^\n]*\n", re.MULTILINE)
_ENDING = """

def total():
    return len(TASKS)


def resolve(task_id):
    return TASKS[task_id]
"""

Flags = dict[str, list[dict[str, Any]]]


def render(source: TaskSource, flags: Flags, python: str) -> str:
    """The text of tasks.py, signed: as long as the signature fits, nobody has edited the file."""
    tasks = f"{source.count:,} task" + ("" if source.count == 1 else "s")
    about = source.about if source.about.startswith(str(source.count)) else f"{source.about} = {tasks}"
    text = f'"""What to run: {_plain(about)}."""\n\n'
    text += "".join(f"import {name}\n" for name in sorted(source.imports))
    text += ("\n" if source.imports else "") + source.python
    if flags:
        text += f"\n# How .hpc/cli.py gives each parameter to an executor.\nFLAGS = {_flags_text(flags)}\n"
        if python != DEFAULT_PYTHON:
            text += f"PYTHON = {literal(python)}\n"
    return sign(text + _ENDING)


def command_of(python: str) -> str:
    """The executor of a run whose tasks.py has FLAGS."""
    return f"{python} .hpc/{CLI}"


def sign(text: str) -> str:
    """``text`` with a line under its docstring that names its hash."""
    head, _, rest = text.partition("\n")
    line = f"# Written by hpc-agent ({_digest(text)}), which writes it anew as long as nobody has edited it."
    return f"{head}\n{line}\n{rest}"


def untouched(text: str) -> bool:
    """Whether a file is still as ``sign`` left it."""
    found = _SIGNATURE.search(text)
    return found is not None and _digest(_SIGNATURE.sub("", text, count=1)) == found[1]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(about: str) -> str:
    """Text that may stand in a docstring."""
    return about.replace("\\", "/").replace('"', "'").replace("\n", " ")


def _flags_text(flags: Flags) -> str:
    rows = []
    for key, entries in flags.items():
        inner = "".join(f"        {literal(entry, 8)},\n" for entry in entries)
        rows.append(f"    {literal(key)}: [\n{inner}    ],\n" if entries else f"    {literal(key)}: [],\n")
    return "{\n" + "".join(rows) + "}"


def plan_files(repo: RepoLayout, source: TaskSource, flags: Flags, python: str, force: bool) -> dict[Path, str]:
    """Path -> text of everything that is to be written; nothing is written yet.

    Raises SpecInvalid for a file that somebody edited, unless ``force``.
    """
    files = {repo.tasks: render(source, flags, python)}
    if flags:
        files[repo.hpc / CLI] = sign(CLI_SOURCE.read_text(encoding="utf-8"))
    if source.manifest is not None:
        files[repo.hpc / MANIFEST] = source.manifest
    for path, text in files.items():
        refuse_edited(repo, path, text, force)
    return files


def refuse_edited(repo: RepoLayout, path: Path, text: str, force: bool) -> None:
    """Raises SpecInvalid when ``text`` would overwrite what somebody edited, unless ``force``."""
    if compare_generated(path, text, repo.root) == "differs" and not force and not _ours(path):
        raise edited(path)


def _ours(path: Path) -> bool:
    try:
        return path.name == MANIFEST or untouched(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        return False


def write_files(repo: RepoLayout, files: dict[Path, str]) -> dict[str, str]:
    """Write them, tasks.py last: it is what makes the others count. Relative path -> written or kept."""
    order: Sequence[Path] = sorted(files, key=lambda path: path == repo.tasks)
    return {
        path.relative_to(repo.root).as_posix(): write_generated(path, files[path], True, repo.root) for path in order
    }
